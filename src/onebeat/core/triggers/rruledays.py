"""Which days a recurrence rule means, as something that can be searched from anywhere, not from DTSTART.

Two things make a day one that is meant. One is the shape of its year: everything that a rule says of months,
weeks and days. The other, where INTERVAL counts days or what is shorter, is its number modulo some ``turn``.
Both together are one integer of 366 bits for each year.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from onebeat.core.triggers.rrulefields import Rule
from onebeat.core.triggers.zonefile import first_day_of, is_leap, year_at_least

YEAR_END = 10_001
"""The first year that is not looked at: no zone brings it into the year 9999."""

_ALL = (1 << 366) - 1
_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)
_YEARS_KEPT = 500  # by each rule: a few words a year


def year_of(day: int) -> int:
    """Return the year of a day."""
    year = year_at_least(day)
    return year - (first_day_of(year) > day)


class RuleDays:
    """The days of a rule. ``phases``: sorted numbers below ``turn``, one of which the day is, modulo it."""

    __slots__ = ("_month", "_phase_masks", "_phases", "_rule", "_shapes", "_turn", "_year", "_years")

    def __init__(self, rule: Rule, start: int, turn: int, phases: Sequence[int]) -> None:
        self._rule = rule
        self._turn, self._phases = turn, phases
        self._year = year_of(start)
        self._month = month_of(start)
        self._years: dict[int, tuple[int, int]] = {}
        self._shapes: dict[tuple[int, bool, bool, bool, int], int] = {}
        self._phase_masks: dict[int, int] = {}

    def __contains__(self, day: int) -> bool:
        first, mask = self.of_year(year_of(day))
        return bool(mask >> (day - first) & 1)

    def following(self, day: int, end: int) -> int | None:
        """Return the first day at or after ``day``, None when none comes up to the year of ``end``."""
        year, last = year_of(day), min(year_of(end), YEAR_END - 1)
        while year <= last:
            first, mask = self.of_year(year)
            if first < day:
                mask &= -1 << (day - first)
            if mask:
                return first + (mask & -mask).bit_length() - 1
            year += 1
        return None

    def preceding(self, day: int, start: int) -> int | None:
        """Return the last day at or before ``day``, None when none comes from the year of ``start`` on."""
        year, last = year_of(day), year_of(start)
        while year >= last:
            first, mask = self.of_year(year)
            mask &= (2 << max(-1, day - first)) - 1
            if mask:
                return first + mask.bit_length() - 1
            year -= 1
        return None

    def masks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield (day, bits of the days from it on) for each year of the days in [start, stop)."""
        for year in range(year_of(start), min(year_of(stop - 1) + 1, YEAR_END)) if start < stop else ():
            first, mask = self.of_year(year)
            if first < start:
                mask &= -1 << (start - first)
            if stop - first < 366:
                mask &= (1 << (stop - first)) - 1
            yield first, mask

    def between(self, start: int, stop: int) -> list[int]:
        """Return the days in [start, stop)."""
        found = []
        for first, mask in self.masks(start, stop):
            rest = mask
            while rest:
                found.append(first + (rest & -rest).bit_length() - 1)
                rest &= rest - 1
        return found

    def of_year(self, year: int) -> tuple[int, int]:
        """Return the first day of a year, and the days of it that are meant as bits."""
        known = self._years.get(year)
        if known is not None:
            return known
        first = first_day_of(year)
        mask = 0
        if self._rule.freq != "YEARLY" or (year - self._year) % self._rule.interval == 0:
            mask = self._shape_of(year, first)
            if len(self._phases) < self._turn:
                mask &= self._phase_mask(first % self._turn)
        if len(self._years) >= _YEARS_KEPT:
            self._years.clear()
        self._years[year] = first, mask
        return first, mask

    def _phase_mask(self, phase: int) -> int:
        """Return the days of a year that begins in a phase, as far as only their number is asked for."""
        known = self._phase_masks.get(phase)
        if known is not None:
            return known
        mask, turn, phases = 0, self._turn, self._phases
        if turn <= 366:
            stride = sum(1 << k for k in range(0, 366, turn))
            for each in phases:
                mask |= stride << (each - phase) % turn
        else:
            for past in (0, turn):  # the year may go on into the next turn
                low = bisect_left(phases, phase - past)
                for each in phases[low : bisect_left(phases, phase - past + 366)]:
                    mask |= 1 << (each + past - phase)
        if len(self._phase_masks) >= _YEARS_KEPT:
            self._phase_masks.clear()
        self._phase_masks[phase] = mask & _ALL
        return mask & _ALL

    def _shape_of(self, year: int, first: int) -> int:
        phase = 0
        if self._rule.freq == "MONTHLY":
            phase = (12 * year - self._month) % self._rule.interval
        leaps = is_leap(year), is_leap(year - 1), is_leap(year + 1)
        key = (first % 7, *(leaps if self._rule.weeks else (leaps[0], False, False)), phase)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = self._draw((first + 3) % 7, *leaps, phase)
        return found

    def _draw(self, weekday: int, leap: bool, leap_before: bool, leap_after: bool, phase: int) -> int:
        """Return a year that begins on ``weekday``, Monday = 0, as bits. ``phase``: of January, in months."""
        mask, rule, length = 0, self._rule, 365 + leap
        for month in range(12):
            if rule.freq == "MONTHLY" and (phase + month) % rule.interval:
                continue
            if rule.months and month + 1 not in rule.months:
                continue
            begin = _BEFORE[month] + (leap and month > 1)
            end = _BEFORE[month + 1] + (leap and month > 0)
            for day in range(begin, end):
                if rule.month_days and not rule.month_days & {day - begin + 1, day - end}:
                    continue
                if rule.year_days and not rule.year_days & {day + 1, day - length}:
                    continue
                if rule.weeks and not rule.weeks & _weeks_of(
                    day, (weekday + day - rule.week_start) % 7, length, 365 + leap_before, 365 + leap_after
                ):
                    continue
                span = (begin, end) if rule.freq == "MONTHLY" or rule.months else (0, length)
                if rule.weekdays and not rule.weekdays & _weekdays_of(day, (weekday + day) % 7, *span):
                    continue
                mask |= 1 << day
        return mask


def month_of(day: int) -> int:
    """Return the month of a day, counted from the year 0."""
    year = year_of(day)
    past, leap = day - first_day_of(year), is_leap(year)
    month = next(n for n in range(12) if past < _BEFORE[n + 1] + (leap and n > 0))
    return 12 * year + month


def month_begin(month: int) -> int:
    """Return the first day of a month, counted from the year 0."""
    year, number = divmod(month, 12)
    return first_day_of(year) + _BEFORE[number] + (number > 1 and is_leap(year))


def week_begin(day: int, week_start: int) -> int:
    """Return the first day of the week of a day."""
    return day - (day + 3 - week_start) % 7  # day 0 of the epoch was a Thursday


def _weekdays_of(day: int, weekday: int, begin: int, end: int) -> set[tuple[int, int]]:
    """Return the names of a day by its weekday, within the days in [begin, end)."""
    return {(weekday, 0), (weekday, (day - begin) // 7 + 1), (weekday, -((end - 1 - day) // 7) - 1)}


def _weeks_of(day: int, past: int, length: int, before: int, after: int) -> set[int]:
    """Return the two numbers of the week of a day, ``past`` days into it, from either end of its year.

    A week is of the year of most of its days; ``before`` and ``after`` are the lengths of the years beside.
    """
    begin = day - past
    if begin < -3:
        begin, length = begin + before, before
    elif begin > length - 4:
        begin, length = begin - length, after
    number = (begin + 3) // 7 + 1
    return {number, number - (length - 4 - begin) // 7 - number - 1}
