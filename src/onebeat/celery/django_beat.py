"""What django-celery-beat keeps in its tables, read and never written: rows, their last runs, what is off.

A row of ``periodictask`` points to one of four tables that say when it comes. Needs no Django. Instants are
in UTC; with ``USE_TZ = False`` Django keeps them in its TIME_ZONE, except the last runs, which that beat
writes in UTC all the same. What it means otherwise than onebeat is said in a note; a row that cannot be meant
is a problem of itself alone.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from onebeat.celery.entries import Meant, read_entries
from onebeat.celery.importing import Found
from onebeat.celery.whens import NOTE_PERIOD, When, crontab, every, sun
from onebeat.core.errors import InvalidInput, OnebeatError, shown
from onebeat.core.model import MICROSECOND
from onebeat.core.triggers import anchored, build, interval, once, zone
from onebeat.store.elsewhere import picture_of

APP = "django_celery_beat_"
TASKS = f"{APP}periodictask"
KINDS = ("interval", "crontab", "solar", "clocked")
TABLES = (TASKS, *(f"{APP}{kind}schedule" for kind in KINDS))
OPTIONS = ("queue", "exchange", "routing_key", "priority")
PERIODS = ("days", "hours", "minutes", "seconds", "microseconds")
FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")

NOTE_RAN = "it is one_off, and has run or was switched off; it is not imported"
NOTE_OVER = "it has expired, and nothing of it is left; it is not imported"
NOTE_ONE_OFF = "one_off: it comes once, at what would have been its next run"
NOTE_EXPIRES = (
    "expires ends the schedule, here as there; but a message that is in a queue by then does not expire with "
    "it: give the schedule start_within"
)
NOTE_START = "its first run is at its start_time there, and here at the first event of the sun from then on"


class Row(NamedTuple):
    """A row as ``read_entries`` takes it, and up to when the beat has sent it; ``never``, in truth."""

    entry: Mapping[str, Any] | Meant
    sent_until: datetime | None = None
    disabled: bool = False
    never: bool = False


class Reader:
    """What the tables hold. Raises InvalidInput where they are not there, and what ``picture_of`` raises.

    ``local_zone`` is Django's TIME_ZONE where it has ``USE_TZ = False``.
    """

    def __init__(self, url: str, local_zone: str | None = None) -> None:
        self.place, self._tables = picture_of(url, TABLES)
        self._zone = None if local_zone is None else zone(local_zone)
        if TASKS not in self._tables:
            raise InvalidInput(
                f"{self.place} has no table {TASKS}, where django-celery-beat keeps what it sends; look at "
                "the database in the URL, and at its search_path"
            )

    def found(self, *, zone_name: str, guarded: bool) -> Found:
        """Return all rows; ``zone_name`` is the timezone of the Celery app. ``guarded``: its workers are."""
        rows: dict[str, Mapping[str, Any] | Meant | OnebeatError] = {}
        ran: dict[str, datetime] = {}
        disabled, never = set(), set()
        for given in sorted(self._tables[TASKS], key=lambda each: str(each["name"])):
            entry = str(given["name"])
            try:
                row = self._row(given, zone_name)
            except OnebeatError as error:
                rows[entry] = error
                continue
            rows[entry] = row.entry
            if row.disabled:
                disabled.add(entry)
            if row.never:
                never.add(entry)
            if row.sent_until is not None:
                ran[entry] = row.sent_until
        entries = read_entries(rows, zone=zone_name, guarded=guarded)
        return Found(entries, ran, frozenset(disabled), frozenset(never))

    def _row(self, row: Mapping[str, Any], zone_name: str) -> Row:
        ran, start, end = (self._instant(row, name) for name in ("last_run_at", "start_time", "expires"))
        # As that beat begins: a row that has never run counts from when it was changed.
        since = ran or self._instant(row, "date_changed")
        disabled, one_off = not row["enabled"], bool(row.get("one_off"))
        if since is None:
            raise InvalidInput("it has neither a last_run_at nor a date_changed")
        if one_off and (row.get("total_run_count") or disabled):
            return Row(Meant(None, (NOTE_RAN,)))
        kind, of = self._schedule_of(row)
        if kind == "clocked":
            at = self._instant(of, "clocked_time")
            if at is None or ran is not None:
                return Row(Meant(None, (NOTE_RAN,)))
            return Row(_entry(row, When(once(at if start is None else max(at, start)))), disabled=disabled)
        when = _when(kind, of, zone_name)
        if one_off:
            return Row(_entry(row, _next(kind, when, since, start, ran is None)))
        if start is not None and kind == "interval":
            if ran is None or since + _period(of) <= start:
                # As there: the first at the start, and the period counts from it.
                when, since = When(interval(_period(of), anchor=start)), min(since, start - MICROSECOND)
            start = None
        begin = since if start is None else max(since, start - MICROSECOND)
        following = build(anchored(when.trigger, since)).after(begin)
        if following is None or (end is not None and following >= end):
            return Row(Meant(None, (NOTE_OVER,)))
        if ran is None and begin > since and kind == "solar":
            when = when._replace(notes=(*when.notes, NOTE_START))
        if begin > since or end is not None:
            when = _bounded(when, start if begin > since else None, end)
        return Row(_entry(row, when), since, disabled, ran is None)

    def _schedule_of(self, row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return which kind of schedule a row has, and the row that says when."""
        named = [kind for kind in KINDS if row.get(f"{kind}_id") is not None]
        if len(named) != 1:
            raise InvalidInput(
                f"it has {' and '.join(named) or 'no schedule'}, and needs exactly one of {', '.join(KINDS)}"
            )
        (kind,) = named
        wanted = row[f"{kind}_id"]
        for each in self._tables.get(f"{APP}{kind}schedule", ()):
            if each["id"] == wanted:
                return kind, each
        raise InvalidInput(f"its {kind} schedule, number {shown(wanted)}, is not there")

    def _instant(self, row: Mapping[str, Any], column: str) -> datetime | None:
        """Return an instant of a row as it is: drivers give it with a zone, without one, or as a text."""
        value = row.get(column)
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            raise InvalidInput(f"its {column} is {shown(value)}, which is no instant") from None
        if at is None or not isinstance(at, datetime):
            return None
        in_utc = self._zone is None or column == "last_run_at"
        if at.tzinfo is None:
            return at.replace(tzinfo=UTC if in_utc else self._zone).astimezone(UTC)
        if self._zone is not None and in_utc:
            # Written without a zone, it was taken for local time by a database that keeps instants.
            return at.astimezone(self._zone).replace(tzinfo=UTC)
        return at.astimezone(UTC)


# --- one row ----------------------------------------------------------------------------------------------


def _entry(row: Mapping[str, Any], when: When) -> dict[str, Any]:
    options = {name: row[name] for name in OPTIONS if row.get(name) not in (None, "")}
    if row.get("expire_seconds") is not None:
        options["expires"] = row["expire_seconds"]
    options["headers"] = _json(row, "headers", dict) | {"periodic_task_name": str(row["name"])}
    return {
        "task": row["task"],
        "schedule": when,
        "args": _json(row, "args", list),
        "kwargs": _json(row, "kwargs", dict),
        "options": options,
    }


def _json(row: Mapping[str, Any], column: str, kind: type[Any]) -> Any:
    text = row.get(column)
    try:
        found = json.loads(text) if text else kind()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"its {column} are no JSON: {error}") from error
    if not isinstance(found, kind):
        raise InvalidInput(
            f"its {column} are {shown(found)}, and no JSON {'list' if kind is list else 'object'}"
        )
    return found


def _when(kind: str, of: Mapping[str, Any], zone_name: str) -> When:
    if kind == "interval":
        return every(_period(of), zone_name)._replace(notes=(NOTE_PERIOD,))
    if kind == "solar":
        return sun(str(of["event"]), float(of["latitude"]), float(of["longitude"]))
    fields = {name: of[name] for name in FIELDS}
    return crontab(**fields, zone_name=str(of.get("timezone") or zone_name))


def _period(of: Mapping[str, Any]) -> timedelta:
    every_, period = of["every"], of["period"]
    if period not in PERIODS:
        raise InvalidInput(f"its interval is of {shown(period)}, and there are {', '.join(PERIODS)}")
    try:
        return timedelta(**{period: every_})
    except (TypeError, OverflowError):
        raise InvalidInput(f"its interval of {shown(every_)} {period} is no period") from None


def _next(kind: str, when: When, since: datetime, start: datetime | None, never: bool) -> When:
    """Return the one run that is left of a schedule."""
    if start is not None and never and kind != "crontab":
        return When(once(start), (NOTE_ONE_OFF,))
    begin = since if start is None else max(since, start - MICROSECOND)
    at = build(anchored(when.trigger, since)).after(begin)
    if at is None:
        raise InvalidInput("its schedule never comes again")
    return When(once(at), (NOTE_ONE_OFF,))


def _bounded(when: When, start: datetime | None, end: datetime | None) -> When:
    last = None if end is None else end - MICROSECOND
    return When(when.trigger.between(start, last), (*when.notes, *((NOTE_EXPIRES,) if end else ())))
