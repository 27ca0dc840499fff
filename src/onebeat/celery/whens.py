"""When: each form of a Celery schedule as a trigger of ours. What Celery means otherwise is a note.

    crontab(…)              a cron trigger; a day must satisfy both day fields, as Celery has it
    30, timedelta, schedule an interval, counted from its declaration; relative=True: from a full hour
    solar(…)                a solar trigger
    "0 9 * * mon-fri"       a cron trigger, as onebeat reads the text; Celery takes no texts
    a trigger of onebeat    itself

A class of somebody else decides by itself when it is due, which cannot be read: it is refused. Imports no
Celery: a class is known by its name, so that an object may also be one that only looks like it.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from onebeat.core.definition import read_trigger
from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import calendar_interval, cron, interval, solar, zone

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
ALIGNED = datetime(2001, 1, 1)  # noqa: DTZ001 - a local time: the zone comes with the entry; and it is a Monday

NOTE_INTERVAL = (
    "a period is counted from the declaration, and keeps its rhythm; Celery counts it from the last run, "
    "drifts, and begins anew where celerybeat-schedule is lost"
)
NOTE_PERIOD = (
    "a period goes on from its last run, and keeps its rhythm; there each was counted from the run before, "
    "and drifted"
)
NOTE_RELATIVE = (
    "relative=True: the period is counted from a full day of the app's zone; Celery cuts each next run down "
    "to a full minute, hour or day, so that 90 minutes are 60 there"
)
NOTE_SOLAR = "it comes in whole minutes, as almanacs print them; Celery's comes within the minute"
NOTE_TEXT = (
    "a cron text that names days of the month and of the week means either, as crontab(5) does; a crontab() "
    "of Celery means both"
)
NOTE_NOWFUN = "nowfun names its zone, and no more"


class When(NamedTuple):
    """A trigger, what differs from Celery's, and whether it was a crontab there."""

    trigger: TriggerSpec
    notes: tuple[str, ...] = ()
    of_a_crontab: bool = False


def trigger_of(schedule: Any, zone_name: str, *, relative: bool = False) -> When:
    """Return what a schedule means in the zone of an app. Raises InvalidTrigger for what cannot be meant."""
    if isinstance(schedule, When):
        return schedule
    if isinstance(schedule, TriggerSpec):
        return When(read_trigger(schedule, zone_name))
    if isinstance(schedule, str):
        return _text(schedule, zone_name)
    if isinstance(schedule, timedelta):
        return every(schedule, zone_name, relative=relative)
    if isinstance(schedule, (int, float)) and not isinstance(schedule, bool):
        return every(_seconds(schedule), zone_name, relative=relative)
    match class_name(schedule):
        case "celery.schedules.schedule":
            return every(schedule.run_every, zone_name, relative=schedule.relative)
        case "celery.schedules.crontab" | "django_celery_beat.tzcrontab.TzAwareCrontab":
            return _crontab(schedule, zone_name)
        case "celery.schedules.solar":
            return sun(schedule.event, schedule.lat, schedule.lon)
        case name:
            raise InvalidTrigger(
                f"schedule is {'missing' if schedule is None else f'a {name}, which nobody can read'}; write "
                "crontab(…), solar(…), a number of seconds, a timedelta, a cron text such as "
                "'0 9 * * mon-fri', or a trigger of onebeat. A class of your own decides by itself when it "
                "is due, and onebeat has to know it beforehand"
            )


def class_name(thing: object) -> str:
    """Return the full name of an object's class."""
    of = type(thing)
    return f"{of.__module__}.{of.__qualname__}"


def zone_name_of(zone_info: tzinfo | None) -> str | None:
    """Return the IANA name of a zone object, None where it has none."""
    if zone_info is UTC:
        return "UTC"
    for attribute in ("key", "zone"):  # of zoneinfo, and of pytz
        name = getattr(zone_info, attribute, None)
        if isinstance(name, str):
            return name
    return None


# --- one form each ----------------------------------------------------------------------------------------


def every(period: timedelta, zone_name: str, *, relative: bool = False) -> When:
    """Return what a period means; ``relative`` has it come at full minutes, hours or days."""
    if not relative:
        return When(interval(period), (NOTE_INTERVAL,))
    if period >= DAY and not period % DAY:
        days = calendar_interval(days=period // DAY, start=ALIGNED.date(), zone=zone_name)
        return When(days, (NOTE_RELATIVE,))
    # In the zone, for there are zones whose full hour is not that of UTC.
    return When(interval(period, anchor=ALIGNED.replace(tzinfo=zone(zone_name))), (NOTE_RELATIVE,))


def sun(event: str, latitude: float, longitude: float) -> When:
    """Return what an event of the sun means."""
    known: Any = event  # which there are, solar() says
    return When(solar(known, float(latitude), float(longitude)), (NOTE_SOLAR,))


def crontab(
    minute: Any, hour: Any, day_of_week: Any, day_of_month: Any, month_of_year: Any, zone_name: str
) -> When:
    """Return what a crontab of Celery means, its fields in the order of Celery's own.

    A field is a number, a text in Celery's syntax, or a collection of numbers.
    """
    given = (minute, hour, day_of_month, month_of_year, day_of_week)
    fields = [_field(field, value) for field, value in zip(_FIELDS, given, strict=True)]
    both = fields[2] != "*" and fields[4] != "*"
    return When(cron(" ".join(fields), zone=zone_name, days="all" if both else "any"), (), True)


def _crontab(schedule: Any, zone_name: str) -> When:
    notes: tuple[str, ...] = ()
    own = getattr(schedule, "nowfun", None)
    if class_name(schedule) == "django_celery_beat.tzcrontab.TzAwareCrontab":
        zone_name = _named_zone(schedule.tz, "its zone")
    elif own is not None:
        zone_name, notes = _named_zone(own().tzinfo, "what nowfun() returns"), (NOTE_NOWFUN,)
    when = crontab(
        schedule._orig_minute,
        schedule._orig_hour,
        schedule._orig_day_of_week,
        schedule._orig_day_of_month,
        schedule._orig_month_of_year,
        zone_name,
    )
    return when._replace(notes=notes)


def _text(text: str, zone_name: str) -> When:
    spec = cron(text, zone=zone_name)
    fields = text.split()[-5:]
    both = len(fields) == 5 and not any(fields[place][:1] in "*?" for place in (2, 4))
    return When(spec, (NOTE_TEXT,) if both else (), True)


def _seconds(count: float) -> timedelta:
    try:
        return timedelta(seconds=count)
    except (OverflowError, ValueError):
        raise InvalidTrigger(f"schedule={count} is no number of seconds that a period can have") from None


def _named_zone(zone_info: tzinfo | None, what: str) -> str:
    name = zone_name_of(zone_info)
    if name is None:
        raise InvalidTrigger(
            f"{what} has the zone {shown(zone_info)}, which has no IANA name; use one such as "
            "ZoneInfo('Europe/Berlin'), or set the app's timezone"
        )
    return name


# --- the fields of a crontab ------------------------------------------------------------------------------


class _Field(NamedTuple):
    name: str
    low: int
    high: int


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day_of_month", 1, 31),
    _Field("month_of_year", 1, 12),
    _Field("day_of_week", 0, 6),
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_TERM = re.compile(r"(\*|\w+(?:-\w+)?)(?:/(\d+))?", re.ASCII)


def _field(field: _Field, given: Any) -> str:
    """Return a field as onebeat writes it: each term as it is where both read it alike, else its numbers."""
    texts: list[str] = []
    values: set[Any] = set()
    if isinstance(given, str):
        for text, numbers in (_term(field, term.strip()) for term in given.split(",")):
            texts.append(text)
            values |= set(numbers)
    elif isinstance(given, Iterable) and not isinstance(given, bytes):
        values = set(given)
    else:
        values = {given}
    for value in values or {given}:
        if not isinstance(value, int) or isinstance(value, bool) or not field.low <= value <= field.high:
            raise InvalidTrigger(f"{field.name} has {shown(value)}; write {field.low} to {field.high}")
    if len(values) == field.high - field.low + 1:
        return "*"
    return ",".join(texts or map(str, sorted(values)))


class _Term(NamedTuple):
    text: str
    numbers: list[int]


def _term(field: _Field, term: str) -> _Term:
    """Return what a term of Celery's syntax stands for; a range may wrap round."""
    match = _TERM.fullmatch(term)
    if match is None:
        raise _unread(field, term)
    body, step = match.groups()
    first, dash, last = body.partition("-")
    if step is not None and (int(step) == 0 or not (dash or body == "*")):
        raise _unread(field, term)
    low = field.low if body == "*" else _number(field, first)
    high = field.high if body == "*" else _number(field, last) if dash else low
    span = list(range(low, high + 1))
    if low > high:
        span = [*range(low, field.high + 1), *range(field.low, high + 1)]
    values = span[:: int(step or 1)]
    if low > high or len(values) == 1:
        return _Term(",".join(map(str, values)), values)
    return _Term(("*" if body == "*" else f"{low}-{high}") + (f"/{step}" if step else ""), values)


def _number(field: _Field, text: str) -> int:
    if text.isdigit():
        return int(text)
    for names, low in ((_MONTHS, 1), (_WEEKDAYS, 0)):
        if text[:3].lower() in names:
            return names.index(text[:3].lower()) + low
    raise _unread(field, text)


def _unread(field: _Field, given: Any) -> InvalidTrigger:
    return InvalidTrigger(
        f"{field.name}={shown(given)} is no field of a crontab; write e.g. 5, '1-5', '*/2' or [3, 4]"
    )
