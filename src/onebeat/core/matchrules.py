"""Which local times a recurrence rule of RFC 5545 means: what the audit's matcher asks.

It answers one question of one local time: does it fit? Parts are tested against the date as it is written,
INTERVAL against the time since the start, BYSETPOS by listing the period that the time lies in, COUNT by
going through all days from the start. The triggers never ask that question, and share no code with this file.
Rules are taken as valid. May import nothing of onebeat.
"""

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache

_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(seconds=length) for length in (1, 60, 3_600, 86_400))
_LENGTHS = {"DAILY": _DAY, "HOURLY": _HOUR, "MINUTELY": _MINUTE, "SECONDLY": _SECOND}
_FIRST = datetime.combine(date.min, time())


@dataclass(frozen=True)
class Rule:
    """The text of a rule, and the local time that it starts at."""

    text: str
    start: datetime

    def fits(self, local: datetime) -> bool:
        """Whether a local time is meant."""
        parts = _parts(self.text)
        until = parts.get("UNTIL", "Z")
        if local < self.start or (not until.endswith("Z") and local > _time(until)):
            return False
        if not _in_period(self, local):
            return False
        if "BYSETPOS" in parts and local not in _chosen(self, _period(self, local)):
            return False
        return "COUNT" not in parts or local in _counted(self, local.year)

    def in_hour(self, local: datetime) -> Iterator[datetime]:
        """Yield what is meant in the hour that begins with a whole minute."""
        for day in {local.date(), (local + 59 * _MINUTE).date()}:
            if _day_fits(self, day):
                yield from (at for at in _times(self, day, local, local + _HOUR - _SECOND) if self.fits(at))


@cache
def _parts(text: str) -> dict[str, str]:
    return dict(part.split("=") for part in text.split(";"))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text) if len(text) > 8 else datetime.fromisoformat(text) + _DAY - _SECOND


@cache
def _numbers(text: str, name: str) -> frozenset[int]:
    return frozenset(int(number) for number in _parts(text).get(name, "").split(",") if number)


def _week_begin(rule: Rule, day: date) -> date:
    first = _DAYS.index(_parts(rule.text).get("WKST", "MO"))
    while day.weekday() != first and day > date.min:
        day -= _DAY
    return day


def _in_period(rule: Rule, local: datetime) -> bool:
    """Whether a time is what a period means, before BYSETPOS, COUNT and the bounds are looked at."""
    freq = _parts(rule.text)["FREQ"]
    for name, given, of_the_start, limits in (
        ("BYHOUR", local.hour, rule.start.hour, ("HOURLY", "MINUTELY", "SECONDLY")),
        ("BYMINUTE", local.minute, rule.start.minute, ("MINUTELY", "SECONDLY")),
        ("BYSECOND", local.second, rule.start.second, ("SECONDLY",)),
    ):
        wanted = _numbers(rule.text, name)
        if not wanted and freq not in limits:
            wanted = frozenset({of_the_start})
        if wanted and given not in wanted:
            return False
    return _day_fits(rule, local.date()) and _turn_fits(rule, local)


def _turn_fits(rule: Rule, local: datetime) -> bool:
    """Whether the period of a time is one of every INTERVAL."""
    parts, start = _parts(rule.text), rule.start
    match parts["FREQ"]:
        case "YEARLY":
            passed = local.year - start.year
        case "MONTHLY":
            passed = 12 * (local.year - start.year) + local.month - start.month
        case "WEEKLY":
            passed = (_week_begin(rule, local.date()) - _week_begin(rule, start.date())).days // 7
        case freq:
            length = _LENGTHS[freq]
            passed = (local - _FIRST) // length - (start - _FIRST) // length
    return passed % int(parts.get("INTERVAL", "1")) == 0


@lru_cache(maxsize=4096)
def _day_fits(rule: Rule, day: date) -> bool:
    """Whether the parts about months, weeks and days mean a date; what they leave out, the start says."""
    parts, text, start = _parts(rule.text), rule.text, rule.start
    freq, length = parts["FREQ"], calendar.monthrange(day.year, day.month)[1]
    year_length = 365 + calendar.isleap(day.year)
    if "BYMONTH" in parts and day.month not in _numbers(text, "BYMONTH"):
        return False
    if "BYWEEKNO" in parts and not _week_fits(rule, day):
        return False
    if not parts.keys() & {"BYYEARDAY", "BYMONTHDAY", "BYDAY"}:
        if "BYWEEKNO" in parts or freq == "WEEKLY":
            return day.weekday() == start.weekday()
        if freq == "YEARLY" and "BYMONTH" not in parts and day.month != start.month:
            return False
        return freq not in ("YEARLY", "MONTHLY") or day.day == start.day
    number = day.timetuple().tm_yday
    for name, counted, size in (("BYYEARDAY", number, year_length), ("BYMONTHDAY", day.day, length)):
        if name in parts and not _numbers(text, name) & {counted, counted - size - 1}:
            return False
    if "BYDAY" not in parts:
        return True
    by_month = freq == "MONTHLY" or "BYMONTH" in parts
    at, size = (day.day, length) if by_month else (number, year_length)
    names = {"", str((at + 6) // 7), f"-{(size - at) // 7 + 1}"}
    wanted = {(term[:-2].lstrip("+"), term[-2:]) for term in parts["BYDAY"].split(",")}
    return any((name.lstrip("0"), _DAYS[day.weekday()]) in _plain(wanted) for name in names)


def _plain(wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return numbers of weekdays without the zeros before them."""
    return {(f"{int(number)}" if number else "", day) for number, day in wanted}


def _week_fits(rule: Rule, day: date) -> bool:
    """Whether a date is in one of the numbered weeks. A week is of the year of the fourth of its days."""
    try:
        fourth = _week_begin(rule, day) + 3 * _DAY
    except OverflowError:
        return False
    last = date(fourth.year, 12, 31)
    while last.weekday() != fourth.weekday():
        last -= _DAY
    number, most = ((each.timetuple().tm_yday + 6) // 7 for each in (fourth, last))
    return bool(_numbers(rule.text, "BYWEEKNO") & {number, number - most - 1})


def _times(rule: Rule, day: date, low: datetime, high: datetime) -> Iterator[datetime]:
    """Yield the times of a date in [low, high] that may be meant: what is not listed, the start says."""
    freq, start = _parts(rule.text)["FREQ"], rule.start
    hours = sorted(_numbers(rule.text, "BYHOUR")) or (
        range(24) if freq in ("HOURLY", "MINUTELY", "SECONDLY") else [start.hour]
    )
    minutes = sorted(_numbers(rule.text, "BYMINUTE")) or (
        range(60) if freq in ("MINUTELY", "SECONDLY") else [start.minute]
    )
    seconds = sorted(_numbers(rule.text, "BYSECOND")) or (range(60) if freq == "SECONDLY" else [start.second])
    for hour in hours:
        begin = datetime.combine(day, time(hour))
        if low - _HOUR < begin <= high:
            for minute in minutes:
                if low - _MINUTE < begin.replace(minute=minute) <= high:
                    times = (begin.replace(minute=minute, second=second) for second in seconds)
                    yield from (at for at in times if low <= at <= high)


def _period(rule: Rule, local: datetime) -> tuple[datetime, datetime]:
    """Return the first and the last second of the period that a time lies in."""
    freq, midnight = _parts(rule.text)["FREQ"], local.replace(hour=0, minute=0, second=0)
    match freq:
        case "YEARLY":
            return midnight.replace(month=1, day=1), midnight.replace(month=12, day=31) + _DAY - _SECOND
        case "MONTHLY":
            length = calendar.monthrange(local.year, local.month)[1]
            return midnight.replace(day=1), midnight.replace(day=length) + _DAY - _SECOND
        case "WEEKLY":
            begin = datetime.combine(_week_begin(rule, local.date()), time())
            return begin, begin + 7 * _DAY - _SECOND
        case _:
            length_of = _LENGTHS[freq]
            begin = local - (local - _FIRST) % length_of
            return begin, begin + length_of - _SECOND


@lru_cache(maxsize=512)
def _chosen(rule: Rule, period: tuple[datetime, datetime]) -> frozenset[datetime]:
    """Return what BYSETPOS chooses of a period."""
    found = list(_all(rule, *period)) if period[0] < period[1] else [period[0]]
    places = _numbers(rule.text, "BYSETPOS")
    return frozenset(at for k, at in enumerate(found) if places & {k + 1, k - len(found)})


def _all(rule: Rule, low: datetime, high: datetime) -> Iterator[datetime]:
    """Yield what the periods mean in [low, high], oldest first, before anything is chosen or counted."""
    day = low.date()
    while True:
        if _day_fits(rule, day):
            yield from (at for at in _times(rule, day, low, high) if _in_period(rule, at))
        if day >= high.date() or day == date.max:
            return
        day += _DAY


@lru_cache(maxsize=64)
def _counted(rule: Rule, year: int) -> frozenset[datetime]:
    """Return the first COUNT times, as far as they come before a year is over."""
    found, most = set[datetime](), int(_parts(rule.text)["COUNT"])
    chooses = "BYSETPOS" in _parts(rule.text)
    for at in _all(rule, rule.start, datetime.combine(date(year, 12, 31), time.max)):
        if not chooses or at in _chosen(rule, _period(rule, at)):
            found.add(at)
            if len(found) == most:
                break
    return frozenset(found)
