"""Wall time: the only zone arithmetic in the house.

Zones are IANA names. Their data comes from the ``tzdata`` package that is installed beside us, through
private objects: never from the machine's own database, and without touching what the host process has
configured, so that every node that runs the same version of ``tzdata`` gives the same answers
(``tz_version`` is kept with each schedule).

A ``WallRule`` says which *local* seconds are meant, as if no clock were ever put forward or back. A
``WallClock`` is a zone with a policy for the two moments where that is not true, and turns the one into
instants:

- where a clock is put forward, a *gap* of local seconds does not exist. ``shift``: if the rule means any of
  them, one occurrence falls on the first instant after the gap. ``skip``: nothing does.
- where it is put back, a *fold* of local seconds exists twice. ``first`` and ``second`` take one of the two
  passes; ``both`` takes real time as it comes.

docs/explanation/wall-time.md tells the whole story, with the tables that the tests check.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Protocol
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]  # it is data: one constant is all the code there is

from onebeat.core.errors import InvalidTrigger, near_miss, shown
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.zonefile import FOREVER, Offsets, first_day_of, read_zone

CYCLE_DAYS = 146_097
"""400 years of the Gregorian calendar: also a whole number of weeks, so clocks repeat after it."""

_CYCLE = CYCLE_DAYS * DAY
# Later than this, instants are answered from within the 400 years before it. It starts 50 years after the
# last change that is not periodic, for a rule may look that far back; see zonefile.EXPLICIT_END and
# TABLE_END.
_FAR_BEGIN = first_day_of(2200) * DAY
_FAR = _FAR_BEGIN + _CYCLE
# No gap and no fold reaches further from the change that makes it.
_NEAR = 2 * DAY


class Gap(StrEnum):
    """What becomes of local times that a clock put forward leaps over."""

    SHIFT = "shift"
    SKIP = "skip"


class Fold(StrEnum):
    """Which of two equal local times is meant, when a clock is put back."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


class WallRule(Protocol):
    """A set of local seconds (since 1970-01-01T00:00 local)."""

    def following(self, local: int) -> int | None:
        """Return the first one at or after ``local``; None when there is none."""
        ...

    def preceding(self, local: int) -> int | None:
        """Return the last one at or before ``local``; None when there is none."""
        ...

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        ...

    def bits(self, start: int, stop: int) -> int:
        """Return those in [start, stop) as a bit set: bit n stands for ``start + n``."""
        ...


def tz_version() -> str:
    """Return the release of the zone data in force, e.g. ``2026a``."""
    return str(tzdata.IANA_VERSION)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Return every zone name of the zone data in force."""
    return frozenset(_package().joinpath("zones").read_text("ascii").split())


def checked_zone(name: str) -> str:
    """Return the name of a zone unchanged; raise InvalidTrigger, naming the nearest, if there is no such."""
    if name in zone_names():
        return name
    spelled = {known.casefold(): known for known in zone_names()}
    short = name[:80].strip().casefold().replace(" ", "_")
    near = f"; did you mean {spelled[short]!r}?" if short in spelled else near_miss(name[:80], zone_names())
    raise InvalidTrigger(
        f"{shown(name)} is no zone of the IANA data {tz_version()}; zones are names such as 'Europe/London', "
        f"never an offset, for offsets change with the seasons{near}"
    )


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return a zone for showing instants to people. Private: it is no key of the process's own zone cache.

    Raises InvalidTrigger for a name that is not in the zone data.
    """
    with _file(name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@lru_cache(maxsize=1024)
def offsets(name: str) -> Offsets:
    """Return a zone as sorted integers. Raises InvalidTrigger for a name that is not in the zone data."""
    return read_zone(_file(name).read_bytes())


def _package() -> Traversable:
    return resources.files(tzdata)


def _file(name: str) -> Traversable:
    # The name is one of a known list, so it cannot lead out of the package.
    return _package().joinpath("zoneinfo", *checked_zone(name).split("/"))


class _Moved:
    """A rule as it looks from ``past`` seconds earlier: a clock of the far future is that of another year."""

    __slots__ = ("_past", "_rule")

    def __init__(self, rule: WallRule, past: int) -> None:
        self._rule, self._past = rule, past

    def following(self, local: int) -> int | None:
        found = self._rule.following(local + self._past)
        return None if found is None else found - self._past

    def preceding(self, local: int) -> int | None:
        found = self._rule.preceding(local + self._past)
        return None if found is None else found - self._past

    def number(self, start: int, stop: int) -> int:
        return self._rule.number(start + self._past, stop + self._past)

    def bits(self, start: int, stop: int) -> int:
        return self._rule.bits(start + self._past, stop + self._past)


class WallClock:
    """A zone and a policy for its gaps and folds. Immutable; arguments and answers are UTC seconds.

    From ``since[i]`` on the local seconds in [begin[i], end[i]) count, one by one; what a fold repeats is cut
    off from one of its two sides here, so that only gaps are left to think of: they are where
    ``begin[i + 1] > end[i]``. No two changes of any zone are so close that their gaps and folds touch
    (``test_no_two_changes_of_a_zone_meet``).
    """

    __slots__ = ("_begin", "_end", "_offset", "_shift", "_since", "name")

    def __init__(self, name: str, gap: Gap, fold: Fold) -> None:
        self.name = name
        self._since, self._offset = since, offset = offsets(name)
        self._shift = gap is Gap.SHIFT
        self._begin, self._end = [-FOREVER], list[int]()
        for at, old, new in zip(since[1:], offset, offset[1:], strict=False):
            self._end.append(at + (min(old, new) if fold is Fold.SECOND else old))
            self._begin.append(at + (max(old, new) if fold is Fold.FIRST else new))
        self._end.append(FOREVER)

    def after(self, rule: WallRule, start: int) -> int | None:
        """Return the first occurrence at or after ``start``, or None."""
        if start > _FAR:
            past = (start - _FAR_BEGIN) // _CYCLE * _CYCLE
            found = self.after(_Moved(rule, past), start - past)
            return None if found is None else found + past
        # At the very instant of a change the search begins before it: a shifted occurrence may fall there.
        i = bisect_left(self._since, start) - 1
        local = start + self._offset[i]
        if local < self._begin[i]:  # noqa: PLR1730 -- max() would cost as much as the rest
            local = self._begin[i]
        found = rule.following(local)
        while found is not None and found >= self._end[i]:
            i += 1
            begin = self._begin[i]
            if found < begin and self._shift:  # it lies in the gap before i
                return self._since[i]
            if not local <= begin <= found:
                found = rule.following(begin)
            local = begin
        return None if found is None else found - self._offset[i]

    def before(self, rule: WallRule, last: int) -> int | None:
        """Return the last occurrence at or before ``last``, or None."""
        if last > _FAR:
            past = (last - _FAR_BEGIN) // _CYCLE * _CYCLE
            found = self.before(_Moved(rule, past), last - past)
            return None if found is None else found + past
        i = bisect_right(self._since, last) - 1
        local = last + self._offset[i]
        if local >= self._end[i]:
            local = self._end[i] - 1
        found = rule.preceding(local)
        while found is not None and found < self._begin[i]:
            end = self._end[i - 1]
            if found >= end and self._shift:  # it lies in the gap before i
                return self._since[i]
            i -= 1
            if not found < end <= local + 1:
                found = rule.preceding(end - 1)
            local = end - 1
        return None if found is None else found - self._offset[i]

    def number(self, rule: WallRule, start: int, stop: int) -> int:
        """Return how many occurrences lie in [start, stop); costs microseconds for each change between."""
        if stop <= start:
            return 0
        if stop > _FAR:
            return self._far_number(rule, start, stop)
        found = sum(rule.number(a, b) for _, a, b in self._pieces(start, stop))
        for i in self._gaps(rule, start, stop):
            found += rule.following(self._begin[i]) != self._begin[i]
        return found

    def bits(self, rule: WallRule, day: int) -> int:
        """Return the occurrences of a UTC day (days since 1970-01-01) as a bit set, one bit a second."""
        start = day * DAY
        if start >= _FAR:
            past = (start - _FAR_BEGIN) // _CYCLE * _CYCLE
            rule, start = _Moved(rule, past), start - past
        found = 0
        for instant, a, b in self._pieces(start, start + DAY):
            found |= rule.bits(a, b) << (instant - start)
        for i in self._gaps(rule, start, start + DAY):
            found |= 1 << (self._since[i] - start)
        return found

    def steady(self, day: int) -> int | None:
        """Return the offset of a UTC day with no change of the clock near it, else None."""
        start = day * DAY
        if start >= _FAR:
            start -= (start - _FAR_BEGIN) // _CYCLE * _CYCLE
        i = bisect_right(self._since, start - _NEAR) - 1
        return self._offset[i] if self._end[i] - self._offset[i] > start + DAY + _NEAR else None

    def _far_number(self, rule: WallRule, start: int, stop: int) -> int:
        """Count cycle by cycle: each is looked at within the years that are written out."""
        found = self.number(rule, start, _FAR) if start < _FAR else 0
        start = max(start, _FAR)
        while start < stop:
            past = (start - _FAR_BEGIN) // _CYCLE * _CYCLE
            end = min(stop, past + _FAR)
            found += self.number(_Moved(rule, past), start - past, end - past)
            start = end
        return found

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the stretches of [start, stop) in which local time runs evenly: (instant, local from, to)."""
        for i in range(bisect_right(self._since, start) - 1, bisect_left(self._since, stop)):
            a = max(start + self._offset[i], self._begin[i])
            b = min(stop + self._offset[i], self._end[i])
            if a < b:
                yield a - self._offset[i], a, b

    def _gaps(self, rule: WallRule, start: int, stop: int) -> Iterator[int]:
        """Yield the changes in [start, stop) at which a shifted occurrence falls."""
        if self._shift:
            for i in range(bisect_left(self._since, start), bisect_left(self._since, stop)):
                end, begin = self._end[i - 1], self._begin[i]
                if end < begin and (meant := rule.following(end)) is not None and meant < begin:
                    yield i


@lru_cache(maxsize=1024)
def wall_clock(name: str, gap: Gap, fold: Fold) -> WallClock:
    """Return the one clock of a zone and policy. Raises InvalidTrigger for an unknown zone."""
    return WallClock(name, gap, fold)
