"""Calendar intervals: every so many years, months, weeks and days, at a time of the wall clock.

Occurrence k lies on the day ``start`` + k × (years and months), brought into its month, + k × (weeks and
days). It is always counted from ``start``: 31 January, then 28 February, then 31 March. Months only go
forward and so do days, so a later k is a later day, however the two are mixed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers.cronwords import change_words
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.interval import RelativeTrigger
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.wall import UNIVERSAL, WallTrigger
from onebeat.core.triggers.walltime import Fold, Gap, wall_clock, zone
from onebeat.core.triggers.words import each, in_zone
from onebeat.core.triggers.zonefile import first_day_of, is_leap

MONTHS_MAX = 1_200
"""The most months, with those of the years, that one step may take: a century."""

DAYS_MAX = 36_525
"""The most days, with those of the weeks, that one step may take beside its months: a century."""

_CYCLE_MONTHS, _CYCLE_DAYS = 4_800, 146_097  # 400 years
_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)


class CalendarIntervalFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``calendar_interval``. Without ``start`` it is relative, until ``anchored``."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    at: str = "00:00"
    start: str | None = None
    month_end: Literal["last", "skip"] = "last"
    zone: str | None = None
    gap: Gap | None = None
    fold: Fold | None = None


def calendar_interval(
    *,
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    at: str = "00:00",
    start: date | str | None = None,
    month_end: Literal["last", "skip"] = "last",
    zone: str | None = None,
    gap: Literal["shift", "skip"] | None = None,
    fold: Literal["first", "second", "both"] | None = None,
) -> TriggerSpec:
    """Return the trigger of every so many years, months, weeks and days from ``start``, at ``at`` o'clock.

    ``at`` is ``"09:00"`` or ``"09:00:30"`` in ``zone``, an IANA name, by default that of the app. ``start``
    is the local date of the first occurrence, by default that of the declaration. Every occurrence is counted
    from it, so nothing drifts. In a month that has no such day it falls on the last one, or is left out with
    ``month_end="skip"``. ``gap`` and ``fold`` are as for fixed times of a cron expression.

    Raises:
        InvalidTrigger: a length is negative, all are 0 or one is too long; ``at`` or ``start`` cannot be
            read; the zone is not known.

    """
    fields: Fields = {
        name: count
        for name, count in (("years", years), ("months", months), ("weeks", weeks), ("days", days))
        if count != 0
    }
    if at != "00:00":
        fields["at"] = at
    if start is not None:
        fields["start"] = _date_text(start)
    if month_end != "last":
        fields["month_end"] = month_end
    given = {"zone": zone, "gap": gap, "fold": fold}
    spec = TriggerSpec(
        kind="calendar_interval",
        fields=fields | {name: value for name, value in given.items() if value is not None},
    )
    build(spec)
    return spec


def _date_text(start: date | str) -> str:
    if isinstance(start, datetime):
        raise InvalidTrigger(
            f"start={start.isoformat()} is an instant, and a calendar interval starts on a date; "
            "write start=date(2026, 1, 31), and the time of day as at='09:00'"
        )
    return start.isoformat() if isinstance(start, date) else start


@dataclass(frozen=True, slots=True)
class Steps:
    """The days of a calendar interval, as a WallRule at one second of each. Numbers of days since 1970."""

    first: date
    months: int
    days: int
    second: int
    skip: bool

    def _day(self, k: int) -> int:
        """Return the day of step k, brought into its month."""
        return _day_of(self.first, k * self.months) + k * self.days

    def _kept(self, k: int) -> bool:
        """Whether step k is an occurrence: it is, unless its month is too short and ``skip`` says so."""
        return not self.skip or _fits(self.first, k * self.months)

    def _last_step(self, day: int) -> int:
        """Return the largest k ≥ -1 whose day is at or before ``day``."""
        passed = day - _day_of(self.first, 0)
        if passed < 0:
            return -1
        # The mean step is exact over 400 years; a month's end is off by days, and a step of months is longer.
        k = max(0, passed * _CYCLE_MONTHS // (self.months * _CYCLE_DAYS + self.days * _CYCLE_MONTHS))
        while self._day(k) > day:
            k -= 1
        while self._day(k + 1) <= day:
            k += 1
        return k

    def following(self, local: int) -> int:
        """Return the first one at or after ``local``."""
        k = max(0, self._last_step((local - self.second - 1) // DAY) + 1)
        while not self._kept(k):
            k += 1
        return self._day(k) * DAY + self.second

    def preceding(self, local: int) -> int | None:
        """Return the last one at or before ``local``; None before the first."""
        k = self._last_step((local - self.second) // DAY)
        while k >= 0 and not self._kept(k):
            k -= 1
        return self._day(k) * DAY + self.second if k >= 0 else None

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        return self._number_before(stop) - self._number_before(start)

    def bits(self, start: int, stop: int) -> int:
        """Return those in [start, stop) as a bit set."""
        found, local = 0, self.following(start)
        while local < stop:
            found |= 1 << (local - start)
            local = self.following(local + 1)
        return found

    def _number_before(self, local: int) -> int:
        steps = self._last_step((local - self.second - 1) // DAY) + 1
        if not self.skip or self.first.day <= 28:
            return steps
        sums = _sums(self.first, self.months)
        cycles, rest = divmod(steps, len(sums) - 1)
        return cycles * sums[-1] + sums[rest]


def _length(year: int, month: int) -> int:
    """Return the days of a month, the first of which is 0."""
    return _BEFORE[month + 1] - _BEFORE[month] + (month == 1 and is_leap(year))


def _day_of(first: date, months: int) -> int:
    """Return the day so many months after a date, or the last of that month, for any year."""
    past, month = divmod(first.month - 1 + months, 12)
    year = first.year + past
    day = min(first.day, _length(year, month))
    return first_day_of(year) + _BEFORE[month] + (month > 1 and is_leap(year)) + day - 1


def _fits(first: date, months: int) -> bool:
    """Whether the month so many months after a date has that day."""
    past, month = divmod(first.month - 1 + months, 12)
    return first.day <= _length(first.year + past, month)


@lru_cache(maxsize=128)
def _sums(first: date, months: int) -> Sequence[int]:
    """Return how many of the first n steps have their day, for each n of the cycle after which it repeats."""
    sums, k = [0], 0
    while k == 0 or k * months % _CYCLE_MONTHS:
        sums.append(sums[-1] + _fits(first, k * months))
        k += 1
    return sums


def _anchor(fields: Fields, cut: datetime) -> Fields:
    """Fill in the date that the clock on the wall shows at the cut."""
    if fields.get("start") is not None:
        return fields
    local = cut.astimezone(zone(fields.get("zone") or "UTC"))
    return {**fields, "start": local.date().isoformat()}


def _calendar_words(fields: Fields, lang: str) -> str:
    zh, given = lang == "zh", read_fields("calendar_interval", fields, CalendarIntervalFields)
    units = (("years", "年"), ("months", "个月"), ("weeks", "周"), ("days", "天"))
    counts = [(getattr(given, name), name, sign) for name, sign in units if getattr(given, name)]
    if len(counts) == 1:
        ((count, name, sign),) = counts
        said = each(count, name[:-1], sign, lang)
    elif zh:
        said = "每" + "".join(f"{count}{sign}" for count, _, sign in counts)
    else:
        said = "every " + " ".join(
            f"{count} {name[: -1 if count == 1 else None]}" for count, name, _ in counts
        )
    start = given.start or ("声明之日" if zh else "the day of its declaration")
    said = f"从{start}起{said} {given.at}" if zh else f"{said} from {start} on, at {given.at}"
    if given.month_end == "skip":
        said += ",跳过没有该日的月份" if zh else ", not in months without that day"
    return said + in_zone(given.zone, lang) + change_words(fields, lang)


@kind(
    "calendar_interval",
    shape=CalendarIntervalFields,
    zoned=True,
    anchor=_anchor,
    words=_calendar_words,
)
def _build(fields: Fields) -> WallTrigger | RelativeTrigger:
    given = read_fields("calendar_interval", fields, CalendarIntervalFields)
    months, days = _lengths(given)
    clock = wall_clock(given.zone or "UTC", given.gap or Gap.SHIFT, given.fold or Fold.FIRST)
    second = _second_of(given.at)
    if given.start is None:
        return RelativeTrigger("a calendar interval without a start", zoned=clock.name not in UNIVERSAL)
    skip = given.month_end == "skip"
    return WallTrigger(Steps(_date_of(given.start), months, days, second, skip), clock)


def _lengths(given: CalendarIntervalFields) -> tuple[int, int]:
    """Return the months and the days of one step."""
    for name in ("years", "months", "weeks", "days"):
        if getattr(given, name) < 0:
            raise InvalidTrigger(
                f"a calendar interval of {name}={getattr(given, name)} would go back; lengths are 0 or more"
            )
    months, days = 12 * given.years + given.months, 7 * given.weeks + given.days
    if not months and not days:
        raise InvalidTrigger(
            "a calendar interval that takes no time would stand still; write how long it is, such as months=1"
        )
    if months > MONTHS_MAX or days > DAYS_MAX:
        raise InvalidTrigger(
            f"a calendar interval of {months:,} months and {days:,} days is too long: at most {MONTHS_MAX:,} "
            f"months and {DAYS_MAX:,} days are allowed; for one instant use once()"
        )
    return months, days


def _second_of(at: str) -> int:
    """Return the second of the day that ``09:00`` or ``09:00:30`` names."""
    match = _TIME.fullmatch(at)
    if match is None:
        raise InvalidTrigger(
            f"at={shown(at)} is no time of day; write hours and minutes with two digits, '00:00' to '23:59', "
            "and seconds after them if need be, such as '09:00:30'"
        )
    hour, minute, second = (int(part or 0) for part in match.groups())
    return 3600 * hour + 60 * minute + second


def _date_of(start: str) -> date:
    try:
        if _DATE.fullmatch(start):
            return date.fromisoformat(start)
    except ValueError:
        pass
    raise InvalidTrigger(
        f"start={shown(start)} is no date; write year, month and day such as '2026-01-31', without a time: "
        "that stands in at="
    )
