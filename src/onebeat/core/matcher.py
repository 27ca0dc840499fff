"""Which occurrences a trigger should have had: what ``onebeat audit`` holds against the ledger.

It shares no code with core/triggers and no idea either. Those jump from occurrence to occurrence, by
arithmetic on tables; this walks forward through every hour of UTC, asks the standard library what the clock
on the wall shows, and tests that against the text. Far slower, and wrong elsewhere if it is wrong anywhere.
Specs are taken as valid. May import model, errors and matchdays, and must never import core/triggers.
"""

import calendar
import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.matchdays import DENSE, lies_in, zone_of
from onebeat.core.matchrules import Rule as Recurring
from onebeat.core.model import Json, TriggerSpec

_MICROSECOND = timedelta(microseconds=1)
_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(seconds=length) for length in (1, 60, 3_600, 86_400))
_HOURS_KEPT = 16
_MACROS = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}
_NUMBERS = {name.upper(): str(number) for number, name in enumerate(calendar.month_abbr) if name}
_NUMBERS |= {name.upper(): str((number + 1) % 7) for number, name in enumerate(calendar.day_abbr)}


def matches(spec: TriggerSpec, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield every occurrence of ``spec`` in (start, end], oldest first; costs up to a second for each year.

    Recurrence rules of minutes or seconds cost more: some seconds, or minutes, for each year.

    Raises InvalidTrigger for a kind that is not checked here, and for a spec that is not anchored.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    while start < end:
        until = min(start + _DAY, end)
        yield from sorted(_within(spec.kind, spec.fields, start, until))
        start = until


def _within(kind: str, fields: dict[str, Json], after: datetime, until: datetime) -> set[datetime]:
    def part(spec: Json) -> set[datetime]:
        return _within(spec["kind"], spec["fields"], after, until)

    match kind:
        case "cron":
            rule = _rule(fields["expression"], fields.get("days", "any"), fields.get("slot"))
            policy = ("skip", "both") if rule.real_time else ("shift", "first")
            return _on_the_wall(rule, fields, *policy, after, until)
        case "calendar_interval" if "start" in fields:
            steps = _steps(json.dumps(fields, sort_keys=True), until.year)
            return _on_the_wall(steps, fields, "shift", "first", after, until)
        case "rrule" if "start" in fields:
            return _recurring(fields, after, until)
        case "interval" if "anchor_at" in fields:
            return _interval(fields, after, until)
        case "once" if "at" in fields:
            at = datetime.fromisoformat(fields["at"])
            return {at} if after < at <= until else set()
        case "on_request":
            return set()
        case "union":
            return set().union(*(part(each) for each in fields["of"]))
        case "intersection" if listable := [each for each in fields["of"] if not _dense(each)]:
            found = set.intersection(*(part(each) for each in listable))
            rest = [each for each in fields["of"] if _dense(each)]
            return {at for at in found if all(_holds(each, at) for each in rest)}
        case "except" if _dense(fields["without"]):
            return {at for at in part(fields["of"]) if not _holds(fields["without"], at)}
        case "except":
            return part(fields["of"]) - part(fields["without"])
        case "between":
            bounds = [
                fields.get(name) and datetime.fromisoformat(fields[name]) for name in ("start_at", "end_at")
            ]
            low, high = bounds[0] or after, bounds[1] or until
            return {at for at in part(fields["of"]) if low <= at <= high}
        case _:
            what = f"trigger kind {shown(kind, 40)} with {', '.join(fields) or 'no fields'} cannot be checked"
            raise InvalidTrigger(
                f"{what}: it is from outside, relative to a declaration that has not happened, or a calendar "
                "with nothing that says the time"
            )


def _dense(spec: Json) -> bool:
    """Whether a spec holds every microsecond of something, so that its instants cannot be listed."""
    match spec["kind"]:
        case "union":
            return any(_dense(each) for each in spec["fields"]["of"])
        case "intersection":
            return all(_dense(each) for each in spec["fields"]["of"])
        case "except" | "between":
            return _dense(spec["fields"]["of"])
        case kind:
            return kind in DENSE


def _holds(spec: Json, at: datetime) -> bool:
    """Whether a spec holds an instant."""
    kind, fields = spec["kind"], spec["fields"]
    if not _dense(spec):
        return at in _within(kind, fields, at - _MICROSECOND, at)
    match kind:
        case "union":
            return any(_holds(each, at) for each in fields["of"])
        case "intersection":
            return all(_holds(each, at) for each in fields["of"])
        case "except":
            return _holds(fields["of"], at) and not _holds(fields["without"], at)
        case "between":
            bounds = [
                fields.get(name) and datetime.fromisoformat(fields[name]) for name in ("start_at", "end_at")
            ]
            return (bounds[0] or at) <= at <= (bounds[1] or at) and _holds(fields["of"], at)
        case _:
            return lies_in(kind, fields, at)


def _interval(fields: dict[str, Json], after: datetime, until: datetime) -> set[datetime]:
    anchor, period = datetime.fromisoformat(fields["anchor_at"]), timedelta(seconds=fields["period_s"])
    k = max(0, (after - anchor) // period)
    found = set()
    while (at := anchor + k * period) <= until:
        if at > after:
            found.add(at)
        k += 1
    return found


class _Wanted(Hashable, Protocol):
    """What a clock on the wall should show: local times without a zone."""

    def fits(self, local: datetime) -> bool:
        """Whether it is wanted."""
        ...

    def in_hour(self, local: datetime) -> Iterator[datetime]:
        """Yield what is wanted in the hour that begins with a whole minute."""
        ...


def _on_the_wall(
    wanted: _Wanted, fields: dict[str, Json], gap: str, fold: str, after: datetime, until: datetime
) -> set[datetime]:
    """Return the instants at which the clock of a zone shows what is wanted."""
    zone = zone_of(fields.get("zone") or "UTC")
    gap, fold = fields.get("gap") or gap, fields.get("fold") or fold
    found = set[datetime]()
    hour = after.replace(minute=0, second=0, microsecond=0)
    while hour <= until:
        shown = _hour(wanted, zone, hour)
        within = shown[bisect_right(shown, after) : bisect_right(shown, until)]
        found |= {at for at in within if _right_pass(at, zone, fold)}
        if gap == "shift":
            found |= _after_gaps(wanted, zone, hour)
        hour += _HOUR
    return {at for at in found if after < at <= until}


class _Listed:
    """Local times that somebody has listed."""

    def __init__(self, times: set[datetime]) -> None:
        self.times = times
        self.hours: dict[datetime, list[datetime]] = {}
        for at in times:
            self.hours.setdefault(at.replace(minute=0, second=0), []).append(at)

    def fits(self, local: datetime) -> bool:
        return local in self.times

    def in_hour(self, local: datetime) -> Iterator[datetime]:
        hour = local.replace(minute=0)
        for at in self.hours.get(hour, []) + self.hours.get(hour + _HOUR, []):
            if local <= at < local + _HOUR:
                yield at


@lru_cache(maxsize=64)
def _steps(text: str, year: int) -> _Listed:
    """List a calendar interval to the end of a year, and beyond, by going month by month from its start."""
    fields = json.loads(text)
    first, at = date.fromisoformat(fields["start"]), time.fromisoformat(fields.get("at", "00:00"))
    months = 12 * fields.get("years", 0) + fields.get("months", 0)
    step = timedelta(weeks=fields.get("weeks", 0), days=fields.get("days", 0))
    found, later = set[datetime](), timedelta(0)
    this, month = first.year, first.month
    while this <= min(year + 1, 9999):
        length = calendar.monthrange(this, month)[1]
        try:
            day = date(this, month, min(first.day, length)) + later
        except OverflowError:
            break
        if day.year > year + 1:
            break
        if first.day <= length or fields.get("month_end") != "skip":
            found.add(datetime.combine(day, at))
        for _ in range(months):
            this, month = (this, month + 1) if month < 12 else (this + 1, 1)
        later += step
    return _Listed(found)


def _recurring(fields: dict[str, Json], after: datetime, until: datetime) -> set[datetime]:
    """Return what a recurrence rule, the times added to it and those taken away come to."""
    zone = zone_of(fields.get("zone") or "UTC")

    def local(text: str) -> datetime:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is None else at.astimezone(zone).replace(tzinfo=None)

    text = fields["rule"].strip().upper().removesuffix(";")
    rule = Recurring(text, local(fields["start"]))
    real_time = text.partition("LY")[0].endswith(("HOUR", "MINUTE", "SECOND"))
    policy = ("skip", "both") if real_time else ("shift", "first")
    added, taken = (frozenset(map(local, fields.get(name, ()))) for name in ("rdates", "exdates"))
    found = _on_the_wall(_Corrected(rule, added, taken), fields, *policy, after, until)
    end = next((part[6:] for part in text.split(";") if part.startswith("UNTIL=")), "")
    return {at for at in found if at <= datetime.fromisoformat(end)} if end.endswith("Z") else found


@dataclass(frozen=True)
class _Corrected:
    """What is wanted, with single times added and taken away."""

    wanted: _Wanted
    added: frozenset[datetime]
    taken: frozenset[datetime]

    def fits(self, local: datetime) -> bool:
        return local not in self.taken and (local in self.added or self.wanted.fits(local))

    def in_hour(self, local: datetime) -> Iterator[datetime]:
        found = {at for at in self.added if local <= at < local + _HOUR} | set(self.wanted.in_hour(local))
        yield from found - self.taken


@dataclass(frozen=True)
class _Rule:
    """The fields of an expression: numbers for the time, texts for what can only be asked of a date."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    dates: str
    months: frozenset[int]
    weekdays: str
    both: bool
    real_time: bool

    def fits(self, local: datetime) -> bool:
        return (
            local.second in self.seconds
            and local.minute in self.minutes
            and local.hour in self.hours
            and _day_fits(self, local.date())
        )

    def in_hour(self, local: datetime) -> Iterator[datetime]:
        for edge in (local, local + 59 * _MINUTE):
            if edge.hour in self.hours and _day_fits(self, edge.date()):
                break
        else:
            return
        for k in range(60):
            shown_minute = local + k * _MINUTE
            if shown_minute.minute in self.minutes:
                for second in self.seconds:
                    if self.fits(at := shown_minute.replace(second=second)):
                        yield at


@lru_cache(maxsize=256)
def _rule(expression: str, days: str, slot: str | None) -> _Rule:
    text = expression.strip().upper()
    fields = _MACROS.get(text, text).split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    if slot is not None:
        fields = [_with_slots(place, each, slot) for place, each in enumerate(fields)]
    second, minute, hour, dates, month, weekdays = fields
    return _Rule(
        _numbers(second, 0, 59),
        _numbers(minute, 0, 59),
        _numbers(hour, 0, 23),
        dates.replace("?", "*"),
        _numbers(month, 1, 12),
        weekdays.replace("?", "*"),
        both=days == "all" or dates[0] in "*?" or weekdays[0] in "*?",
        real_time=minute[0] == "*" or hour[0] == "*",
    )


def _with_slots(place: int, text: str, slot: str) -> str:
    """Return a field with the values that the name gives to each H in it."""
    reach = (range(60), range(60), range(24), range(1, 29), range(1, 13), range(7))[place]
    number = int(hashlib.sha256(f"{place}:{slot}".encode()).hexdigest()[:16], 16)

    def values(term: re.Match[str]) -> str:
        span = reach
        if term[1]:
            low, high = (int(_NUMBERS.get(bound, bound)) for bound in term[1].split("-"))
            span = range(low, high + 1)
        step = int(term[2] or len(span))
        return ",".join(str(each) for n, each in enumerate(span) if n % step == number % step)

    return re.sub(r"\bH(?:\(([^)]+)\))?(?:/(\d+))?", values, text)


@cache
def _numbers(text: str, low: int, high: int) -> frozenset[int]:
    """Return what a list of numbers, names, ranges and steps stands for; ranges count on past the end."""
    found = set[int]()
    size = high - low + 1
    for term in re.sub("[A-Z]{3}", lambda name: _NUMBERS[name[0]], text).split(","):
        body, _, step = term.partition("/")
        first, _, last = f"{low}-{high}".partition("-") if body == "*" else body.partition("-")
        start = low if (low, first) == (0, str(size)) else int(first)  # Sunday as 7
        stop = int(last or (high if step else first))
        if start != int(first):
            stop %= size
        length = stop - start + 1 if stop >= start else stop - start + 1 + size
        found.update((start - low + k) % size + low for k in range(0, length, int(step or 1)))
    return frozenset(found)


@lru_cache(maxsize=4096)
def _day_fits(rule: _Rule, day: date) -> bool:
    if day.month not in rule.months:
        return False
    by_date = any(_date_fits(term, day) for term in rule.dates.split(","))
    by_weekday = any(_weekday_fits(term, day) for term in rule.weekdays.split(","))
    return by_date and by_weekday if rule.both else by_date or by_weekday


def _date_fits(term: str, day: date) -> bool:
    length = calendar.monthrange(day.year, day.month)[1]
    workdays = [number for number in range(1, length + 1) if day.replace(day=number).weekday() < 5]
    if term == "LW":
        return day.day == workdays[-1]
    if term.endswith("W"):
        wanted = int(term[:-1])
        return wanted <= length and day.day == min(workdays, key=lambda number: abs(number - wanted))
    if term.startswith("L"):
        return day.day == length - int(term[2:] or 0)
    return day.day in _numbers(term, 1, 31)


def _weekday_fits(term: str, day: date) -> bool:
    body, _, which = term.partition("#")
    if body.endswith("L"):
        body, which = body[:-1], "L"
    if day.isoweekday() % 7 not in _numbers(body, 0, 6):
        return False
    if which == "L":
        return (day + 7 * timedelta(days=1)).month != day.month
    return not which or (day.day - 1) // 7 + 1 == int(which)


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _even(zone: ZoneInfo, hour: datetime) -> bool:
    """Whether the clock on the wall runs evenly through this hour of UTC, and into it, on whole minutes."""
    offset = _offset(zone, hour)
    steady = offset == _offset(zone, hour - _SECOND) == _offset(zone, hour + _HOUR - _SECOND)
    return steady and not offset % _MINUTE


@lru_cache(maxsize=_HOURS_KEPT)
def _hour(wanted: _Wanted, zone: ZoneInfo, hour: datetime) -> tuple[datetime, ...]:
    """Return in order what _in_hour yields: a schedule that is edited a lot is asked for it often."""
    return tuple(sorted(_in_hour(wanted, zone, hour)))


def _in_hour(wanted: _Wanted, zone: ZoneInfo, hour: datetime) -> Iterator[datetime]:
    """Yield the instants of an hour at which the clock on the wall shows what is wanted."""
    if _even(zone, hour):
        offset = _offset(zone, hour)
        yield from (
            (at - offset).replace(tzinfo=UTC) for at in wanted.in_hour(hour.replace(tzinfo=None) + offset)
        )
    else:
        seconds = (hour + k * _SECOND for k in range(3_600))
        yield from (at for at in seconds if wanted.fits(at.astimezone(zone).replace(tzinfo=None)))


def _right_pass(at: datetime, zone: ZoneInfo, fold: str) -> bool:
    """Whether an instant counts, given that the clock may show its time twice."""
    if fold == "both":
        return True
    local = at.astimezone(zone)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return not twice or local.fold == (fold == "second")


def _after_gaps(wanted: _Wanted, zone: ZoneInfo, hour: datetime) -> set[datetime]:
    """Return the instants of an hour before which the clock leapt over something wanted."""
    found = set[datetime]()
    before = _offset(zone, hour - _SECOND)
    for k in range(0 if _even(zone, hour) else 3_600):
        at = hour + k * _SECOND
        offset = _offset(zone, at)
        missed = (at.replace(tzinfo=None) + before + n * _SECOND for n in range((offset - before) // _SECOND))
        if any(wanted.fits(local) for local in missed):
            found.add(at)
        before = offset
    return found
