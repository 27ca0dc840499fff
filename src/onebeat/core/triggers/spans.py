"""Stretches of local days: what calendars and windows have in common.

Such a trigger holds *every microsecond* of its stretches, by the clock on the wall: where the clock is put
forward, what it leaps over is not there; where it is put back, both passes count. ``DayPattern`` says which
days, ``Stretch`` which part of each, ``SpanTrigger`` turns them into instants.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from onebeat.core.triggers.instants import (
    DAY,
    EARLIEST,
    LATEST,
    MICROSECOND,
    SECOND,
    at_second,
    microsecond_of,
)
from onebeat.core.triggers.walltime import Fold, Gap, WallClock, wall_clock
from onebeat.core.triggers.zonefile import first_day_of, year_at_least

_FIRST_ORDINAL = date(1970, 1, 1).toordinal()

Odd = Callable[[int], Iterable[date]]


def day_number(day: date) -> int:
    """Return the days since 1970-01-01."""
    return day.toordinal() - _FIRST_ORDINAL


class DayPattern:
    """A weekly pattern, and the days that are the other way round: free weekdays, worked weekends.

    ``odd`` gives those of a year, for the years from ``first_year`` to ``last_year``; it is asked when a year
    is first needed, for it may be slow. Weekdays count from Sunday = 0.
    """

    __slots__ = ("_first", "_last", "_odd", "_week", "_years", "week")

    def __init__(self, week: frozenset[int], odd: Odd, first_year: int, last_year: int) -> None:
        self.week = week
        self._odd = odd
        self._first = first_year
        self._last = last_year
        self._years: dict[int, list[int]] = {}
        self._week = [sum(day in week for day in range(length)) for length in range(8)]

    def __contains__(self, day: int) -> bool:
        return ((day + 4) % 7 in self.week) != (day in self._odd_days(_year_of(day)))

    def following(self, day: int) -> int | None:
        """Return the first day at or after ``day``, or None."""
        if self.week:
            while day not in self:
                day += 1
            return day
        for year in range(max(_year_of(day), self._first), self._last + 1):
            days = self._odd_days(year)
            place = bisect_left(days, day)
            if place < len(days):
                return days[place]
        return None

    def preceding(self, day: int) -> int | None:
        """Return the last day at or before ``day``, or None."""
        if self.week:
            while day not in self:
                day -= 1
            return day
        for year in range(min(_year_of(day), self._last), self._first - 1, -1):
            days = self._odd_days(year)
            place = bisect_right(days, day)
            if place:
                return days[place - 1]
        return None

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        if stop <= start:
            return 0
        found = self._weekly(stop) - self._weekly(start)
        for year in range(max(_year_of(start), self._first), min(_year_of(stop), self._last) + 1):
            days = self._odd_days(year)
            for day in days[bisect_left(days, start) : bisect_left(days, stop)]:
                found += -1 if (day + 4) % 7 in self.week else 1
        return found

    def _weekly(self, day: int) -> int:
        weeks, past = divmod(day + 4, 7)  # 1970-01-01 was a Thursday
        return weeks * len(self.week) + self._week[past]

    def _odd_days(self, year: int) -> list[int]:
        found = self._years.get(year)
        if found is None:
            known = self._odd(year) if self._first <= year <= self._last else ()
            found = self._years[year] = sorted(day_number(day) for day in known)
        return found


def _year_of(day: int) -> int:
    year = year_at_least(day)
    return year - 1 if first_day_of(year) > day else year


@dataclass(frozen=True, slots=True)
class Stretch:
    """The local seconds [begin, begin + length) of each of some days. A WallRule.

    It may reach into the next day, and is at most a day long, so that no two of them overlap.
    """

    days: DayPattern
    begin: int = 0
    length: int = DAY

    def following(self, local: int) -> int | None:
        """Return the first one at or after ``local``."""
        day, past = divmod(local - self.begin, DAY)
        if past < self.length and day in self.days:
            return local
        found = self.days.following(day + (past > 0))
        return None if found is None else found * DAY + self.begin

    def preceding(self, local: int) -> int | None:
        """Return the last one at or before ``local``."""
        day, past = divmod(local - self.begin, DAY)
        if past < self.length and day in self.days:
            return local
        found = self.days.preceding(day if past >= self.length else day - 1)
        return None if found is None else found * DAY + self.begin + self.length - 1

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        first, skipped = divmod(start - self.begin, DAY)
        last, reached = divmod(stop - self.begin, DAY)
        found = self.days.number(first, last) * self.length
        if first in self.days:
            found -= min(skipped, self.length)
        if last in self.days:
            found += min(reached, self.length)
        return found

    def bits(self, start: int, stop: int) -> int:
        """Return those in [start, stop) as a bit set."""
        found, stretch = 0, (1 << self.length) - 1
        for day in range((start - self.begin) // DAY, (stop - 1 - self.begin) // DAY + 1):
            if day in self.days:
                skip = day * DAY + self.begin - start
                found |= stretch << skip if skip >= 0 else stretch >> -skip
        return found & ((1 << (stop - start)) - 1)


@dataclass(frozen=True, slots=True)
class SpanTrigger:
    """Every microsecond at which the clock of a zone shows a time within the stretches."""

    rule: Stretch
    clock: WallClock
    zoned: bool = True
    late_start: bool = False
    gridded: bool = True
    whole: bool = False
    dense: bool = True

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first instant strictly later than ``t``: a microsecond later within a stretch."""
        if t >= LATEST:
            return None
        second = (microsecond_of(t) + 1) // SECOND
        found = self.clock.after(self.rule, second)
        return t + MICROSECOND if found == second else at_second(found)

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last instant strictly earlier than ``t``."""
        if t <= EARLIEST:
            return None
        second = (microsecond_of(t) - 1) // SECOND
        found = self.clock.before(self.rule, second)
        if found == second:
            return t - MICROSECOND
        last = at_second(found)
        return None if last is None else last + (SECOND - 1) * MICROSECOND

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of microseconds in (after, until]; costs microseconds a change of the clock."""
        first, skipped = divmod(microsecond_of(after) + 1, SECOND)
        last, reached = divmod(microsecond_of(until) + 1, SECOND)
        if (last, reached) <= (first, skipped):
            return 0
        found = self.clock.number(self.rule, first, last) * SECOND
        found -= skipped * (self.clock.after(self.rule, first) == first)
        return found + reached * (self.clock.after(self.rule, last) == last)

    def bits(self, day: int) -> int:
        """Return the whole seconds of a UTC day as a bit set."""
        return self.clock.bits(self.rule, day)

    def run(self, instant: datetime, later: bool) -> datetime:
        """Return the last instant that is held without a break from one on, within its UTC day."""
        day, second = divmod(microsecond_of(instant) // SECOND, DAY)
        bits = self.bits(day)
        if later:
            free = ~bits >> second
            end = at_second(day * DAY + second + (free & -free).bit_length() - 1)
            return LATEST if end is None else end - MICROSECOND
        upto = (2 << second) - 1
        begin = at_second(day * DAY + (bits & upto ^ upto).bit_length())
        return EARLIEST if begin is None else begin


def span_trigger(rule: Stretch, zone: str | None) -> SpanTrigger:
    """Return the evaluator of stretches in a zone; an absent one is UTC."""
    return SpanTrigger(rule, wall_clock(zone or "UTC", Gap.SKIP, Fold.BOTH))


@lru_cache(maxsize=256)
def every_week(week: frozenset[int]) -> DayPattern:
    """Return the one pattern of these days of the week, with no exception."""
    return DayPattern(week, lambda year: (), 1, 0)
