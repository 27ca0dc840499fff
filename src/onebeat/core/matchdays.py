"""Whether an instant lies in a calendar: the audit's own opinion, for the matcher.

It asks the standard library what the clock on the wall shows, and tests that date against the fields. The
data of public holidays is shared with the triggers (core/publicdays.py), and nothing else is.
"""

from datetime import date, datetime
from functools import cache
from importlib import resources
from zoneinfo import ZoneInfo

from onebeat.core.model import Json
from onebeat.core.publicdays import public_days, weekend_of

DENSE = frozenset({"holidays", "workdays", "dates"})
"""The kinds that hold every microsecond of something: they can be asked about an instant, never listed."""


@cache
def zone_of(name: str) -> ZoneInfo:
    """Return a zone of the pinned data."""
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def lies_in(kind: str, fields: dict[str, Json], at: datetime) -> bool:
    """Return whether a trigger of one of the DENSE kinds holds an instant."""
    local = at.astimezone(zone_of(fields.get("zone") or "UTC"))
    match kind:
        case "holidays":
            return local.date() in public_days(_country(fields), fields.get("subdivision"), local.year).free
        case "workdays":
            return _worked(fields, local.date())
        case _:
            return local.date().isoformat() in fields["dates"]


def _country(fields: dict[str, Json]) -> str:
    return str(fields["country"])


def _worked(fields: dict[str, Json], day: date) -> bool:
    if day.isoformat() in fields.get("also", ()):
        return True
    if day.isoformat() in fields.get("less", ()):
        return False
    if fields.get("country") is None:
        return day.weekday() < 5
    known = public_days(_country(fields), fields.get("subdivision"), day.year)
    return day in known.made_up or (
        day.weekday() not in weekend_of(_country(fields)) and day not in known.free
    )
