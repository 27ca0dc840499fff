"""When a recurrence rule comes, in local seconds: its days, what lies in each of them, and its bounds.

What lies in a day is one sorted list: the same every day, or, where INTERVAL counts hours or what is shorter,
one for each phase of the day. BYSETPOS of years, months and weeks chooses among all the days of such a
period, so its choices are listed a year at a time; below, it is the same every time and thins the lists.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import product
from math import gcd
from typing import Protocol

from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.rruledays import YEAR_END, RuleDays, month_begin, month_of, week_begin, year_of
from onebeat.core.triggers.rrulefields import BELOW_DAYS, Rule
from onebeat.core.triggers.zonefile import first_day_of, is_leap

_UNITS = {"HOURLY": 3_600, "MINUTELY": 60, "SECONDLY": 1}
_PATTERNS_KEPT = 500  # by each rule; together they hold no more than the seconds of a day
_BITS_KEPT = 16  # by each rule: 11 kB a day
_YEARS_KEPT = 200


class _Seconds(Protocol):
    """A set of local seconds without bounds."""

    def following(self, local: int, end: int) -> int | None:
        """Return the first one at or after ``local``, None when there is none up to ``end``."""
        ...

    def preceding(self, local: int, start: int) -> int | None:
        """Return the last one at or before ``local``, None when there is none from ``start`` on."""
        ...

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        ...

    def bits(self, day: int) -> int:
        """Return those of a local day as a bit set."""
        ...


class Recurrence:
    """A rule from its start to its end, with single times added and taken away. An immutable WallRule."""

    __slots__ = ("_added", "_end", "_rule", "_start", "_taken")

    def __init__(self, rule: Rule, start: int, end: int | None, added: set[int], taken: set[int]) -> None:
        rule = _completed(rule, start // DAY)
        chooses = rule.positions and rule.freq in ("YEARLY", "MONTHLY", "WEEKLY")
        self._rule: _Seconds = _Chosen(rule, start) if chooses else _EachDay(rule, start)
        self._start = start
        self._end = first_day_of(YEAR_END) * DAY if end is None else end
        if rule.count is not None:
            self._end = self._nth(rule.count)
        self._added = sorted(each for each in added - taken if not self._said(each))
        self._taken = sorted(each for each in taken if self._said(each))

    def following(self, local: int) -> int | None:
        """Return the first one at or after ``local``; None after the last."""
        place = bisect_left(self._added, local)
        added = self._added[place] if place < len(self._added) else None
        found = self._rule.following(max(local, self._start), self._end)
        while found is not None and found <= self._end and self._is_taken(found):
            found = self._rule.following(found + 1, self._end)
        if found is None or found > self._end:
            return added
        return found if added is None else min(found, added)

    def preceding(self, local: int) -> int | None:
        """Return the last one at or before ``local``; None before the first."""
        place = bisect_right(self._added, local)
        added = self._added[place - 1] if place else None
        found = self._rule.preceding(min(local, self._end), self._start)
        while found is not None and found >= self._start and self._is_taken(found):
            found = self._rule.preceding(found - 1, self._start)
        if found is None or found < self._start:
            return added
        return found if added is None else max(found, added)

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop); costs microseconds a year."""
        found = self._number(start, stop)
        found += bisect_left(self._added, stop) - bisect_left(self._added, start)
        return found - (bisect_left(self._taken, stop) - bisect_left(self._taken, start))

    def bits(self, start: int, stop: int) -> int:
        """Return those in [start, stop) as a bit set."""
        found, low, high = 0, max(start, self._start), min(stop, self._end + 1)
        if low < high:
            for day in range(low // DAY, (high - 1) // DAY + 1):
                past = day * DAY - start
                bits = self._rule.bits(day)
                found |= bits << past if past >= 0 else bits >> -past
            found &= (1 << high - start) - (1 << low - start)
        for each in self._added[bisect_left(self._added, start) : bisect_left(self._added, stop)]:
            found |= 1 << (each - start)
        for each in self._taken[bisect_left(self._taken, start) : bisect_left(self._taken, stop)]:
            found &= ~(1 << (each - start))
        return found

    def _number(self, start: int, stop: int) -> int:
        start, stop = max(start, self._start), min(stop, self._end + 1)
        return self._rule.number(start, stop) if start < stop else 0

    def _said(self, local: int) -> bool:
        return self._number(local, local + 1) == 1

    def _is_taken(self, local: int) -> bool:
        place = bisect_left(self._taken, local)
        return place < len(self._taken) and self._taken[place] == local

    def _nth(self, count: int) -> int:
        """Return the last one of so many. The years from the start are counted, once, one after the other."""
        begin = self._start
        for year in range(year_of(begin // DAY), YEAR_END):
            end = first_day_of(year + 1) * DAY
            here = self._rule.number(begin, end)
            if here >= count:
                low, high = begin, end - 1
                while low < high:
                    middle = (low + high) // 2
                    enough = self._rule.number(begin, middle + 1) >= count
                    low, high = (low, middle) if enough else (middle + 1, high)
                return low
            count, begin = count - here, end
        return self._end


# --- the same in each day ----------------------------------------------------------------------------


class _EachDay:
    """A rule in which what lies in a day depends on the day alone."""

    __slots__ = ("_bits", "_days", "_pattern_of", "_turn", "_uniform")

    def __init__(self, rule: Rule, start: int) -> None:
        if rule.freq in BELOW_DAYS:
            units = _Units(rule, start)
            self._turn, phases = units.turn, units.phases
            self._pattern_of = units.pattern
        else:
            self._turn, phases = turn_of(rule, start)
            times = times_of(rule, start)
            if rule.positions:
                times = chosen(times, rule.positions)
            self._pattern_of = _Same(times).pattern
            phases = phases if times else []
        self._uniform = rule.freq not in BELOW_DAYS or self._turn == 1
        self._days = RuleDays(rule, start // DAY, self._turn, phases)
        self._bits: dict[int, int] = {}

    def following(self, local: int, end: int) -> int | None:
        day, second = divmod(local, DAY)
        if day in self._days:
            pattern = self._pattern(day)
            place = bisect_left(pattern, second)
            if place < len(pattern):
                return day * DAY + pattern[place]
        found = self._days.following(day + 1, end // DAY)
        return None if found is None else found * DAY + self._pattern(found)[0]

    def preceding(self, local: int, start: int) -> int | None:
        day, second = divmod(local, DAY)
        if day in self._days:
            pattern = self._pattern(day)
            place = bisect_right(pattern, second)
            if place:
                return day * DAY + pattern[place - 1]
        found = self._days.preceding(day - 1, start // DAY)
        return None if found is None else found * DAY + self._pattern(found)[-1]

    def number(self, start: int, stop: int) -> int:
        (first, after), (last, until) = divmod(start, DAY), divmod(stop, DAY)
        found = -self._number_before(first, after) + self._number_before(last, until)
        if self._uniform:
            days = sum(mask.bit_count() for _, mask in self._days.masks(first, last))
            return found + days * len(self._pattern_of(0))
        return found + sum(len(self._pattern(day)) for day in self._days.between(first, last))

    def bits(self, day: int) -> int:
        if day not in self._days:
            return 0
        phase = day % self._turn
        found = self._bits.get(phase)
        if found is None:
            shown = bytearray(DAY // 8)
            for second in self._pattern(day):
                shown[second >> 3] |= 1 << (second & 7)
            if len(self._bits) >= _BITS_KEPT:
                self._bits.clear()
            found = self._bits[phase] = int.from_bytes(shown, "little")
        return found

    def _pattern(self, day: int) -> Sequence[int]:
        return self._pattern_of(day % self._turn)

    def _number_before(self, day: int, second: int) -> int:
        """Return how many there are in a day before a second of it."""
        return bisect_left(self._pattern(day), second) if second and day in self._days else 0


class _Same:
    """One list of seconds for every day."""

    def __init__(self, times: Sequence[int]) -> None:
        self._times = times

    def pattern(self, phase: int) -> Sequence[int]:
        return self._times


class _Units:
    """Hours, minutes or seconds, counted from the start: which of them lie in a day of which phase.

    Unit k of a day is meant if (day × units of a day + k - unit of the start) is a multiple of INTERVAL. That
    depends on the day modulo ``turn``; ``phases`` are those modulo it in which any unit is meant.
    """

    def __init__(self, rule: Rule, start: int) -> None:
        self._rule = rule
        self._length = _UNITS[rule.freq]
        self._number = DAY // self._length  # units of a day
        self._start = start // self._length
        within = {
            "HOURLY": _seconds((0,), rule.minutes or _minute(start), rule.seconds or _second(start)),
            "MINUTELY": _seconds((0,), (0,), rule.seconds or _second(start)),
            "SECONDLY": [0],
        }[rule.freq]
        self._within = chosen(within, rule.positions) if rule.positions else within
        shared = gcd(self._number, rule.interval)
        self.turn = rule.interval // shared
        self.phases = self._find_phases(shared)
        self._patterns: dict[int, Sequence[int]] = {}

    def pattern(self, phase: int) -> Sequence[int]:
        """Return the seconds of a day of a phase."""
        found = self._patterns.get(phase)
        if found is None:
            if len(self._patterns) >= _PATTERNS_KEPT:
                self._patterns.clear()
            found = self._patterns[phase] = self._draw(phase)
        return found

    def _draw(self, phase: int) -> Sequence[int]:
        first = (self._start - phase * self._number) % self._rule.interval
        units = range(first, self._number, self._rule.interval)
        if self._length == 1 and not self._limited and self._within:
            return units  # a second each: a range needs no memory
        return [
            unit * self._length + second for unit in units if self._means(unit) for second in self._within
        ]

    @property
    def _limited(self) -> bool:
        rule = self._rule
        return bool(
            rule.hours
            or (rule.freq != "HOURLY" and rule.minutes)
            or (rule.freq == "SECONDLY" and rule.seconds)
        )

    def _means(self, unit: int) -> bool:
        rule, second = self._rule, unit * self._length
        return (
            (not rule.hours or second // 3_600 in rule.hours)
            and (rule.freq == "HOURLY" or not rule.minutes or second // 60 % 60 in rule.minutes)
            and (rule.freq != "SECONDLY" or not rule.seconds or second % 60 in rule.seconds)
        )

    def _find_phases(self, shared: int) -> Sequence[int]:
        if not self._within:
            return []
        if not self._limited and self._rule.interval <= self._number:
            return range(self.turn)
        back = pow(self._number // shared, -1, self.turn) if self.turn > 1 else 0
        return sorted(
            {
                (self._start - unit) // shared * back % self.turn
                for unit in range(self._start % shared, self._number, shared)
                if self._means(unit)
            }
        )


def _completed(rule: Rule, day: int) -> Rule:
    month = month_of(day)
    return rule.completed((day + 3) % 7, month % 12 + 1, day - month_begin(month) + 1)


def turn_of(rule: Rule, start: int) -> tuple[int, Sequence[int]]:
    """Return modulo what the days of a rule are counted, and what they may be modulo it."""
    day = start // DAY
    if rule.freq == "DAILY" and rule.interval > 1:
        return rule.interval, [day % rule.interval]
    if rule.freq == "WEEKLY" and rule.interval > 1:
        turn, begin = 7 * rule.interval, week_begin(day, rule.week_start)
        return turn, sorted((begin + k) % turn for k in range(7))
    return 1, range(1)


def times_of(rule: Rule, start: int) -> Sequence[int]:
    """Return the seconds of a day that a rule of days and longer means; the start says what it does not."""
    hours = rule.hours or (start % DAY // 3_600,)
    return _seconds(hours, rule.minutes or _minute(start), rule.seconds or _second(start))


def chosen(items: Sequence[int], positions: Sequence[int]) -> Sequence[int]:
    """Return the items at the positions, which count from 1, or from -1 at the end."""
    size = len(items)
    places = {place - 1 if place > 0 else size + place for place in positions}
    return [items[place] for place in sorted(places) if 0 <= place < size]


def _seconds(hours: Sequence[int], minutes: Sequence[int], seconds: Sequence[int]) -> list[int]:
    return [3_600 * hour + 60 * minute + second for hour, minute, second in product(hours, minutes, seconds)]


def _minute(start: int) -> tuple[int]:
    return (start // 60 % 60,)


def _second(start: int) -> tuple[int]:
    return (start % 60,)


# --- chosen from a period ----------------------------------------------------------------------------


class _Chosen:
    """A rule whose BYSETPOS chooses among all that comes in a year, a month or a week.

    Periods belong to the year in which they begin. What is chosen in a year, counted from its first second,
    depends on nothing but its days that are meant, so it is listed once for all years that have the same.
    """

    __slots__ = ("_days", "_drawn", "_rule", "_times")

    def __init__(self, rule: Rule, start: int) -> None:
        self._rule = rule
        self._days = RuleDays(rule, start // DAY, *turn_of(rule, start))
        self._times = times_of(rule, start)
        self._drawn: dict[tuple[int, int, int], list[int]] = {}

    def following(self, local: int, end: int) -> int | None:
        for year in range(year_of(local // DAY) - 1, min(year_of(end // DAY) + 1, YEAR_END)):
            begin, found = self._of_year(year)
            place = bisect_left(found, local - begin)
            if place < len(found):
                return begin + found[place]
        return None

    def preceding(self, local: int, start: int) -> int | None:
        for year in range(year_of(local // DAY), year_of(start // DAY) - 2, -1):
            begin, found = self._of_year(year)
            place = bisect_right(found, local - begin)
            if place:
                return begin + found[place - 1]
        return None

    def number(self, start: int, stop: int) -> int:
        number = 0
        for year in range(year_of(start // DAY) - 1, min(year_of(stop // DAY) + 1, YEAR_END)):
            begin, found = self._of_year(year)
            number += bisect_left(found, stop - begin) - bisect_left(found, start - begin)
        return number

    def bits(self, day: int) -> int:
        found, stop = 0, (day + 1) * DAY
        local = self.following(day * DAY, stop)
        while local is not None and local < stop:
            found |= 1 << (local - day * DAY)
            local = self.following(local + 1, stop)
        return found

    def _of_year(self, year: int) -> tuple[int, list[int]]:
        """Return the first second of a year, and what is chosen in its periods, counted from there."""
        begin, mask = self._days.of_year(year)
        length = 365 + is_leap(year)
        if self._rule.freq == "WEEKLY":  # its last week may go on in the next one
            mask |= (self._days.of_year(year + 1)[1] & 0x7F) << length
        key = mask, length, begin % 7
        known = self._drawn.get(key)
        if known is None:
            if len(self._drawn) >= _YEARS_KEPT:
                self._drawn.clear()
            known = self._drawn[key] = [
                each
                for first, last in self._periods(year)
                for each in self._draw(mask, first - begin, last - begin)
            ]
        return begin * DAY, known

    def _draw(self, mask: int, begin: int, end: int) -> Iterator[int]:
        days = [day for day in range(begin, end) if mask >> day & 1]
        for place in chosen(range(len(days) * len(self._times)), self._rule.positions):
            day, time = divmod(place, len(self._times))
            yield days[day] * DAY + self._times[time]

    def _periods(self, year: int) -> Iterator[tuple[int, int]]:
        """Yield the periods that begin in a year, each as its first day and the one after its last."""
        begin, end = first_day_of(year), first_day_of(year + 1)
        if self._rule.freq == "YEARLY":
            yield begin, end
        elif self._rule.freq == "MONTHLY":
            for month in range(12 * year, 12 * year + 12):
                yield month_begin(month), month_begin(month + 1)
        else:
            for week in range(week_begin(begin + 6, self._rule.week_start), end, 7):
                yield week, week + 7
