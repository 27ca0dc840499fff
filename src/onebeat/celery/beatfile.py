"""``celerybeat-schedule``: when each entry ran last, read without running anything that is in it.

The file is a shelve: pickles, and a pickle is a program. The few classes that Celery puts there are replaced
by stand-ins that keep what they are given; any other name ends the reading.
"""

import dbm
import io
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from onebeat.core.errors import InvalidInput, shown

CELERY = "celery"
SUFFIXES = ("", ".db", ".dat")
"""What dbm puts behind a name: nothing, or what its flavour does."""


class Kept:
    """Stands for a class of Celery: keeps what it is made of, and does nothing."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: Any) -> None:
        """Take a state, and leave it."""


def _zone(key: str, from_cache: bool = True) -> ZoneInfo:
    """Return a zone by what is kept of it."""
    return ZoneInfo(key)


def _attribute(of: Any, name: str) -> Any:
    """Stand for getattr, by which a zone names what makes it again, and by which nothing else is reached."""
    if of is not _zone or name != "_unpickle":
        raise InvalidInput(f"it asks for {shown(name)} of {shown(of)}, which is not read")
    return _zone


_ADMITTED: dict[tuple[str, str], Any] = {
    **{("datetime", each.__name__): each for each in (date, datetime, time, timedelta, timezone)},
    **{(f"{CELERY}.schedules", name): Kept for name in ("schedule", "crontab", "solar")},
    (f"{CELERY}.beat", "ScheduleEntry"): Kept,
    ("zoneinfo", "ZoneInfo"): _zone,
    ("builtins", "getattr"): _attribute,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}


class Reader(pickle.Unpickler):
    """Reads a pickle in which nothing but what is admitted may be named."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; raise InvalidInput for one that has no place here."""
        found = _ADMITTED.get((module, name))
        if found is None:
            raise InvalidInput(f"it holds {module}.{name}, which is not read: who can name it could run it")
        return found


def last_runs(place: Path) -> dict[str, datetime] | None:
    """Return when each entry ran last, or was first seen; None where there is no such file.

    Raises InvalidInput for one that cannot be read; it is left as it is.
    """
    if not any(place.with_name(place.name + suffix).exists() for suffix in SUFFIXES):
        return None
    try:
        with dbm.open(str(place), "r") as file:
            entries = Reader(io.BytesIO(file[b"entries"])).load()
        found = {name: entry.given[2] for name, entry in entries.items()}
    except InvalidInput as error:
        raise InvalidInput(f"{place} cannot be read: {error}; --anew leaves it out") from error
    except Exception as error:
        # Whatever a broken file makes of dbm and pickle: the ways are many, and all mean the same.
        raise InvalidInput(
            f"{place} cannot be read: {type(error).__name__}: {error}; stop the beat that has it "
            "open, name another file with --schedule, or leave it out with --anew"
        ) from error
    for name, at in found.items():
        if not isinstance(at, datetime):
            raise InvalidInput(
                f"{place} has {shown(at)} as the last run of {shown(name)}, which is no instant"
            )
    # Without a zone it is UTC: Celery reads it so.
    return {
        name: at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        for name, at in found.items()
    }
