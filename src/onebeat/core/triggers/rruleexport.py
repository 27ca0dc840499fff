"""Write triggers as recurrence rules of RFC 5545, where one says exactly the same."""

import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import NoReturn

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import EPOCH, TriggerSpec
from onebeat.core.triggers.calendar_interval import CalendarIntervalFields
from onebeat.core.triggers.cron import CronFields
from onebeat.core.triggers.cronfields import Cron, has_slot, read_cron
from onebeat.core.triggers.instants import MICROSECOND
from onebeat.core.triggers.interval import IntervalFields, OnceFields
from onebeat.core.triggers.registry import build, read_fields
from onebeat.core.triggers.rrule import RRuleFields
from onebeat.core.triggers.rrulefields import WEEKDAYS
from onebeat.core.triggers.walltime import zone

_WEEKDAY = (WEEKDAYS[-1], *WEEKDAYS[:-1])  # cron counts from Sunday
_UNTIL_DATE = re.compile(r"UNTIL=\d{8}(?=;|$)")
_UNITS = (("DAILY", 86_400), ("HOURLY", 3_600), ("MINUTELY", 60), ("SECONDLY", 1))


def to_rrule(spec: TriggerSpec) -> str:
    """Return the lines DTSTART and RRULE, with any RDATE and EXDATE, that say what a trigger says.

    ``rrule()`` reads them back. A trigger without a zone becomes a DTSTART without one. A cron expression has
    no start, so its DTSTART is its first occurrence after 1970-01-01. Changes of the clock are as here: where
    a clock leaps over a time of day, other readers of RFC 5545 may be later by the length of the leap.

    Raises:
        InvalidTrigger: no rule says exactly that, and why; or the trigger still waits for its declaration.

    """
    build(spec)
    match spec.kind:
        case "rrule":
            return _of_rrule(read_fields("rrule", spec.fields, RRuleFields))
        case "calendar_interval":
            return _of_calendar(read_fields("calendar_interval", spec.fields, CalendarIntervalFields))
        case "cron":
            return _of_cron(spec, read_fields("cron", spec.fields, CronFields))
        case "interval":
            return _of_interval(read_fields("interval", spec.fields, IntervalFields))
        case "once":
            return _of_once(read_fields("once", spec.fields, OnceFields))
        case kind:
            _refuse(f"of kind {kind}", "export its parts one by one")


def _refuse(what: str, advice: str) -> NoReturn:
    raise InvalidTrigger(f"a trigger {what} is no rule of RFC 5545; {advice}")


def _refuse_policies(gap: object, fold: object) -> None:
    for name, value in (("gap", gap), ("fold", fold)):
        if value is not None:
            _refuse(f"with {name}={str(value)!r}", f"leave {name}= out, and what RFC 5545 says will hold")


def _stamp(text: str, name: str, at: str | None) -> str:
    """Return one line of times, from texts such as ``2026-11-22T09:00:00``."""
    stamp = text.replace("-", "").replace(":", "")
    zoned = f";TZID={at}" if at not in (None, "UTC") and not stamp.endswith("Z") and "T" in stamp else ""
    day = "" if "T" in stamp else ";VALUE=DATE"
    utc = "Z" if at == "UTC" and "T" in stamp and not stamp.endswith("Z") else ""
    return f"{name}{zoned}{day}:{stamp}{utc}"


def _of_rrule(given: RRuleFields) -> str:
    _refuse_policies(given.gap, given.fold)
    if given.start is None:
        _refuse("without a start", "resolve it with anchored(spec, cut), or give start=")
    start = given.start
    if start.endswith("Z") and given.zone not in (None, "UTC"):
        local = datetime.fromisoformat(start).astimezone(zone(given.zone)).replace(tzinfo=None)
        start = local.isoformat()
    rule, midnight = given.rule.upper(), ""
    if "T" not in start and given.zone is not None:  # a date has no zone there
        rule, midnight = _UNTIL_DATE.sub(r"\g<0>T235959", rule), "T00:00:00"
    lines = [_stamp(f"{start}{midnight}", "DTSTART", given.zone), f"RRULE:{rule}"]
    for name, times in (("RDATE", given.rdates), ("EXDATE", given.exdates)):
        lines += [_stamp(f"{each}{midnight}", name, given.zone) for each in times]
    return "\n".join(lines)


def _of_calendar(given: CalendarIntervalFields) -> str:
    _refuse_policies(given.gap, given.fold)
    if given.start is None:
        _refuse("without a start", "resolve it with anchored(spec, cut), or give start=")
    months, days = 12 * given.years + given.months, 7 * given.weeks + given.days
    first = date.fromisoformat(given.start)
    if months and days:
        _refuse("that mixes months with days", "use one of them")
    if days:
        rule = f"FREQ=WEEKLY;INTERVAL={days // 7}" if days % 7 == 0 else f"FREQ=DAILY;INTERVAL={days}"
    elif months % 12 == 0:
        rule = f"FREQ=YEARLY;INTERVAL={months // 12}"
        if given.month_end == "last" and (first.month, first.day) == (2, 29):
            rule += ";BYMONTH=2;BYMONTHDAY=28,29;BYSETPOS=-1"
    else:
        rule = f"FREQ=MONTHLY;INTERVAL={months}"
        if given.month_end == "last" and first.day > 28:
            rule += f";BYMONTHDAY={_listed(range(28, first.day + 1))};BYSETPOS=-1"
    at = given.at if len(given.at) == 8 else f"{given.at}:00"
    return f"{_stamp(f'{given.start}T{at}', 'DTSTART', given.zone)}\nRRULE:{rule}"


def _of_interval(given: IntervalFields) -> str:
    if given.anchor_at is None:
        _refuse("without an anchor", "resolve it with anchored(spec, cut), or give anchor=")
    if given.anchor_at.microsecond or given.period_s % 1:
        _refuse("with fractions of a second", "round its period and its anchor")
    seconds = int(given.period_s)
    name, unit = next((name, unit) for name, unit in _UNITS if seconds % unit == 0)
    return f"DTSTART:{given.anchor_at:%Y%m%dT%H%M%SZ}\nRRULE:FREQ={name};INTERVAL={seconds // unit}"


def _of_once(given: OnceFields) -> str:
    if given.at is None:
        _refuse("that waits for its declaration", "resolve it with anchored(spec, cut), or give at=")
    if given.at.microsecond:
        _refuse("with fractions of a second", "round its instant")
    return f"DTSTART:{given.at:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=DAILY;COUNT=1"


def _of_cron(spec: TriggerSpec, given: CronFields) -> str:
    _refuse_policies(given.gap, given.fold)
    if given.slot is None and has_slot(given.expression):
        _refuse(f"of cron {given.expression!r}, whose H waits for the name of its schedule,", "export that")
    read = read_cron(given.expression, all_days=given.days == "all", slot=given.slot)
    parts = _day_parts(given.expression, read)
    numbered = any(part.startswith("BYDAY") and any(sign.isdigit() for sign in part) for part in parts)
    if read.wild and numbered:
        advice = "name the hours and minutes, none of them with '*'"
        _refuse(f"of cron {given.expression!r}, which numbers weekdays and follows real time,", advice)
    freq = "HOURLY" if read.wild else "MONTHLY" if numbered else "DAILY"
    hours = sorted({start // 3_600 for start in read.times.starts})
    minutes = sorted({start // 60 % 60 for start in read.times.starts})
    seconds = sorted(
        {start % 60 + second for start in read.times.starts[:1] for second in read.times.seconds}
    )
    if freq != "HOURLY" or len(hours) < 24:
        parts.append(f"BYHOUR={_listed(hours)}")
    parts += [f"BYMINUTE={_listed(minutes)}", f"BYSECOND={_listed(seconds)}"]
    first = build(spec).after(EPOCH - MICROSECOND)
    assert first is not None
    local = first.astimezone(zone(given.zone or "UTC")).replace(tzinfo=None)
    stamp = _stamp(local.isoformat(), "DTSTART", given.zone)
    return f"{stamp}\nRRULE:{';'.join([f'FREQ={freq}', *parts])}"


def _day_parts(expression: str, read: Cron) -> list[str]:
    """Return what the day fields say, as parts of a rule."""
    rule = read.days.rule
    if rule.workdays:
        _refuse(f"of cron {expression!r}, which asks for the nearest workday,", "name the days")
    dates = sorted(rule.days) + [-1 - back for back in sorted(rule.from_last)]
    every_date, every_weekday = len(rule.days) == 31, len(rule.weekdays) == 7
    if not (rule.both or every_date or every_weekday):
        advice = "export one trigger for each of them"
        _refuse(f"of cron {expression!r}, whose two day fields add up,", advice)
    parts = []
    if len(rule.months) < 12:
        parts.append(f"BYMONTH={_listed(sorted(rule.months))}")
    if not rule.both:  # one of them means every day, and the two add up
        return parts
    if not every_date:
        parts.append(f"BYMONTHDAY={_listed(dates)}")
    if not every_weekday:
        names = [_WEEKDAY[day] for day in sorted(rule.weekdays)]
        names += [f"{which or -1}{_WEEKDAY[day]}" for day, which in sorted(rule.nth)]
        parts.append(f"BYDAY={','.join(names)}")
    return parts


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(str(number) for number in numbers)
