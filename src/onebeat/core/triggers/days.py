"""Which days of the calendar a cron expression means, as something that can be searched quickly.

A year is one of 14 shapes: the weekday of its 1 January, and whether it is a leap year. Every rule about
days of the month, months and weekdays gives the same days of the year in all years of one shape, so 14
sorted lists answer for ever. Days are numbered from 1970-01-01, weekdays from Sunday = 0.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

from onebeat.core.triggers.zonefile import first_day_of, is_leap, year_at_least

_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CYCLE_YEARS = 400
_YEARS_KEPT = 500  # by each set: a few words a year


@dataclass(frozen=True, slots=True)
class DayRule:
    """The day fields of a cron expression, understood. ``both``: a day must satisfy both of them, not one."""

    months: frozenset[int]
    days: frozenset[int]  # of the month
    from_last: frozenset[int]  # 0 is the last day of the month, 1 the one before
    workdays: frozenset[int]  # the weekday nearest to this day; 0 is the last weekday of the month
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]  # (weekday, which one of the month); 0 is the last
    both: bool

    def days_of_month(self, first_weekday: int, length: int) -> list[int]:
        """Return the days that are meant in a month of ``length`` days that begins on ``first_weekday``."""
        by_date = {day for day in self.days if day <= length}
        by_date |= {length - back for back in self.from_last if back < length}
        by_date |= {_nearest_workday(day, first_weekday, length) for day in self.workdays if day <= length}
        by_weekday = set()
        for day in range(1, length + 1):
            weekday = (first_weekday + day - 1) % 7
            which = {(weekday, (day + 6) // 7), (weekday, 0 if day + 7 > length else -1)}
            if weekday in self.weekdays or which & self.nth:
                by_weekday.add(day)
        return sorted(by_date & by_weekday if self.both else by_date | by_weekday)


def _nearest_workday(day: int, first_weekday: int, length: int) -> int:
    """Return the Monday to Friday nearest to a day without leaving its month; day 0 asks for the last one."""
    last = day == 0
    day = day or length
    weekday = (first_weekday + day - 1) % 7
    if weekday == 6:
        return day + 2 if day == 1 else day - 1
    if weekday == 0:
        return day - 2 if last or day == length else day + 1
    return day


class DaySet:
    """The days that a rule means, for all years. Immutable but for lists that are made when first needed."""

    __slots__ = ("_before", "_shapes", "_years", "every", "rule")

    def __init__(self, rule: DayRule) -> None:
        self.rule = rule
        self._shapes: list[list[int] | None] = [None] * 14
        self._years: dict[int, tuple[int, list[int]]] = {}
        self._before: list[int] = []
        self.every = all(len(self._shape(shape)) >= 365 for shape in range(14))

    @property
    def empty(self) -> bool:
        """Whether no day of any year is meant."""
        return not any(self._shape(shape) for shape in range(14))

    def following(self, day: int) -> int:
        """Return the first day at or after ``day``. Never asked of an empty set."""
        year = year_at_least(day)
        while True:
            start, days = self._years.get(year) or self._year(year)
            if start <= day:
                place = bisect_left(days, day - start)
                if place < len(days):
                    return start + days[place]
                year += 1
                day = start + 365 + is_leap(year - 1)
            else:
                year -= 1

    def preceding(self, day: int) -> int:
        """Return the last day at or before ``day``. Never asked of an empty set."""
        year = year_at_least(day)
        while True:
            start, days = self._years.get(year) or self._year(year)
            place = bisect_right(days, day - start)
            if place:
                return start + days[place - 1]
            year -= 1

    def __contains__(self, day: int) -> bool:
        return self.every or self.following(day) == day

    def number_before(self, day: int) -> int:
        """Return how many days are meant before ``day``, counted from some fixed day."""
        if self.every:
            return day
        if not self._before:
            before = [0]
            for year in range(1, _CYCLE_YEARS + 1):
                before.append(before[-1] + len(self._year(year)[1]))
            self._before = before
        year = year_at_least(day)
        start, days = self._year(year)
        if start > day:
            year -= 1
            start, days = self._year(year)
        cycles, past = divmod(year - 1, _CYCLE_YEARS)
        return cycles * self._before[_CYCLE_YEARS] + self._before[past] + bisect_left(days, day - start)

    def _year(self, year: int) -> tuple[int, list[int]]:
        """Return the first day of a year, and the days of it that are meant, counted from 0."""
        start = first_day_of(year)
        if len(self._years) >= _YEARS_KEPT:
            self._years.clear()
        found = self._years[year] = start, self._shape((start + 4) % 7 * 2 + is_leap(year))
        return found

    def _shape(self, shape: int) -> list[int]:
        days = self._shapes[shape]
        if days is None:
            days = self._shapes[shape] = self._draw(weekday=shape // 2, leap=shape % 2 == 1)
        return days

    def _draw(self, *, weekday: int, leap: bool) -> list[int]:
        days, start = list[int](), 0
        for month, usual in enumerate(_LENGTHS, 1):
            length = usual + (leap and month == 2)
            if month in self.rule.months:
                found = self.rule.days_of_month((weekday + start) % 7, length)
                days += [start + day - 1 for day in found]
            start += length
        return days


@lru_cache(maxsize=512)
def day_set(rule: DayRule) -> DaySet:
    """Return the one DaySet of a rule: most schedules share a few."""
    return DaySet(rule)
