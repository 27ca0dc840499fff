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

DENSE = frozenset({"holidays", "workdays", "dates", "window"})
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
        case "window":
            return _open(fields, local)
        case _:
            return local.date().isoformat() in fields["dates"]


def _open(fields: dict[str, Json], local: datetime) -> bool:
    """Whether a window is open: it began today, or it began yesterday and reaches over midnight."""
    shows = local.time().isoformat()
    start, end = fields["start"], fields["end"]
    weekdays = _weekdays(fields.get("days") or "*")
    today, yesterday = local.isoweekday() % 7 in weekdays, (local.isoweekday() - 1) % 7 in weekdays
    if start < end:  # texts of the same form compare as times do
        return today and start <= shows < end
    return (today and shows >= start) or (yesterday and shows < end)


@cache
def _weekdays(text: str) -> frozenset[int]:
    """Return days of the week, Sunday = 0, out of names, numbers, ranges that may wrap round, and steps."""
    names = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
    found = set[int]()
    for term in text.strip().upper().split(","):
        body, _, step = term.partition("/")
        first, dash, last = ("0-6" if body == "*" else body).partition("-")
        begin, end = (names.index(each) if each in names else int(each or 0) for each in (first, last))
        length = (end - begin) % 7 if dash else 6 - begin % 7 if step else 0
        if dash and (begin, end) == (0, 7):
            length = 7
        found.update((begin + n) % 7 for n in range(0, length + 1, int(step or 1)))
    return frozenset(found)


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
