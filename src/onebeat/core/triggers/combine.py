"""Combinations of triggers: union, intersection, except, and the bounds of ``between``.

A combination knows three cheap things, each of which costs no more than asking every leaf once or twice: a
``bound`` before which it holds nothing, whether it ``holds`` an instant, and, where all its leaves can, the
``bits`` of a day. The rest is one search, done at the outermost combination only, so that nesting never
multiplies: from bound to bound, at most ``ROUNDS`` times, then from day to day. Parts that never meet, and a
part that is wholly excluded, would be searched for ever; so the search ends after 60 years, and where days
cannot be shown (fractions of a second, triggers from outside) after ``ROUNDS_MAX`` steps, and answers None.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce

import msgspec

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import Json, utc
from onebeat.core.triggers.grid import count_days, is_dense, is_gridded, is_whole
from onebeat.core.triggers.instants import (
    DAY,
    EARLIEST,
    FULL_DAY,
    LATEST,
    MICROSECOND,
    at_second,
    second_after,
    second_before,
)
from onebeat.core.triggers.interval import IntervalTrigger
from onebeat.core.triggers.protocol import Trigger
from onebeat.core.triggers.registry import Fields, build, kind, nested_spec, read_fields
from onebeat.core.triggers.spans import SpanTrigger
from onebeat.core.triggers.words import part_words

ROUNDS = 64
"""Steps from bound to bound before days are compared."""

ROUNDS_MAX = 100_000
"""Steps, times leaves, after which a search that cannot compare days gives up: about half a second."""

DAYS_MAX = 21_915
"""How far days are compared: 60 years. Dates and weekdays that meet at all do so within 40."""

DAYS_MIN = 2_923
"""The same, at the least, for a combination of many leaves: all of them share ``4 * DAYS_MAX`` days."""


class PartsFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of kinds ``union`` and ``intersection``."""

    of: list[Json]


class ExceptFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of kind ``except``: the occurrences of ``of`` that ``without`` has not."""

    of: Json
    without: Json


class BetweenFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of kind ``between``: the occurrences of ``of`` in [start_at, end_at]."""

    of: Json
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Combination:
    """What all combinations share: the search. ``later`` is the direction: forward in time, or back."""

    parts: tuple[Trigger, ...]
    late_start: bool = False

    @property
    def zoned(self) -> bool:
        """Whether any part is zoned."""
        return any(part.zoned for part in self.parts)

    @property
    def gridded(self) -> bool:
        """Whether all parts can show their days."""
        return all(is_gridded(part) for part in self.parts)

    @property
    def whole(self) -> bool:
        """Whether only whole seconds are held, and all parts can show their days."""
        return self.gridded and is_whole(self.parts[0])

    @property
    def dense(self) -> bool:
        """Whether every microsecond of something is held."""
        return is_dense(self.parts[0])

    @property
    def leaves(self) -> int:
        """Return how many triggers it is made of that are no combinations."""
        return sum(part.leaves if isinstance(part, Combination) else 1 for part in self.parts)

    def bound(self, t: datetime, later: bool) -> datetime | None:
        """Return an instant beyond ``t`` that may be held, with none held between; None when none ever is."""
        raise NotImplementedError

    def holds(self, instant: datetime) -> bool:
        """Return whether an instant is an occurrence."""
        raise NotImplementedError

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set."""
        raise NotImplementedError

    def run(self, instant: datetime, later: bool) -> datetime:
        """Return the end of an unbroken run of occurrences that begins at one; the instant itself will do."""
        return instant

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``; None when the search gave up."""
        return self._search(t, later=True)

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``; None when the search gave up."""
        return self._search(t, later=False)

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]: by days where they show, else one by one."""
        if self.whole:
            return count_days(self, after, until)
        found, number = self.after(after), 0
        while found is not None and found <= until:
            number += 1
            found = self.after(found)
        return number

    def _search(self, t: datetime, later: bool) -> datetime | None:
        whole, found = self.whole, self.bound(t, later)
        for _ in range(ROUNDS if whole else max(1, ROUNDS_MAX // self.leaves)):
            if found is None or self.holds(found):
                return found
            found = self.bound(found, later)
        return self._search_days(t, later) if whole else None

    def _search_days(self, t: datetime, later: bool) -> datetime | None:
        day, second = divmod(second_after(t) if later else second_before(t), DAY)
        kept = FULL_DAY << second if later else (2 << second) - 1
        reach = max(DAYS_MIN, 4 * DAYS_MAX // max(4, self.leaves))
        last = day + reach if later else day - reach
        while day <= last if later else day >= last:
            if bits := self.bits(day) & kept:
                return at_second(day * DAY + ((bits & -bits) if later else bits).bit_length() - 1)
            kept = FULL_DAY
            edge = at_second((day + 1) * DAY if later else day * DAY)
            following = edge and self.bound(edge - MICROSECOND if later else edge, later)
            if not following:
                return None
            day = (second_after(following) - 1) // DAY
        return None


@dataclass(frozen=True, slots=True)
class UnionTrigger(Combination):
    """Every occurrence of any part, once."""

    @property
    def whole(self) -> bool:
        """Whether all parts hold whole seconds only."""
        return all(is_whole(part) for part in self.parts)

    @property
    def dense(self) -> bool:
        """Whether any part holds every microsecond of something."""
        return any(is_dense(part) for part in self.parts)

    def bound(self, t: datetime, later: bool) -> datetime | None:
        """Return the nearest of the parts' bounds."""
        found = [bound for part in self.parts if (bound := _bound(part, t, later))]
        return (min if later else max)(found, default=None)

    def holds(self, instant: datetime) -> bool:
        """Return whether any part holds it."""
        return any(_holds(part, instant) for part in self.parts)

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set."""
        return reduce(int.__or__, (part.bits(day) for part in self.parts if is_gridded(part)))

    def run(self, instant: datetime, later: bool) -> datetime:
        """Return the longest run of those parts that hold the instant."""
        runs = [_run(part, instant, later) for part in self.parts if _holds(part, instant)]
        return (max if later else min)(runs, default=instant)


@dataclass(frozen=True, slots=True)
class IntersectionTrigger(Combination):
    """The occurrences that all parts share."""

    @property
    def whole(self) -> bool:
        """Whether one part holds whole seconds only, and all can show their days."""
        return self.gridded and any(is_whole(part) for part in self.parts)

    @property
    def dense(self) -> bool:
        """Whether all parts hold every microsecond of something."""
        return all(is_dense(part) for part in self.parts)

    def bound(self, t: datetime, later: bool) -> datetime | None:
        """Return the farthest of the parts' bounds, each asked from the one before."""
        found = _bound(self.parts[0], t, later)
        for part in self.parts[1:]:
            if found is not None:
                found = _bound(part, found - MICROSECOND if later else found + MICROSECOND, later)
        return found

    def holds(self, instant: datetime) -> bool:
        """Return whether all parts hold it."""
        return all(_holds(part, instant) for part in self.parts)

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set."""
        shared = FULL_DAY
        for part in self.parts:
            if shared and is_gridded(part):
                shared &= part.bits(day)
        return shared

    def run(self, instant: datetime, later: bool) -> datetime:
        """Return the shortest run of the parts."""
        return (min if later else max)(_run(part, instant, later) for part in self.parts)


@dataclass(frozen=True, slots=True)
class ExceptTrigger(Combination):
    """The occurrences of the first part that the second does not hold."""

    def bound(self, t: datetime, later: bool) -> datetime | None:
        """Return the next bound of the first part; if it is excluded, one after the run that excludes it."""
        of, without = self.parts
        found = _bound(of, t, later)
        if found is not None and _holds(without, found):
            found = _bound(of, _run(without, found, later), later)
        return found

    def holds(self, instant: datetime) -> bool:
        """Return whether the first part holds it and the second does not."""
        of, without = self.parts
        return _holds(of, instant) and not _holds(without, instant)

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set."""
        of, without = self.parts
        assert is_gridded(of)
        assert is_gridded(without)
        own = of.bits(day)
        return own ^ (own & without.bits(day)) if own else 0


@dataclass(frozen=True, slots=True)
class BetweenTrigger(Combination):
    """The occurrences of its one part in [start, end]."""

    start: datetime = EARLIEST
    end: datetime = LATEST

    def bound(self, t: datetime, later: bool) -> datetime | None:
        """Return the next bound of the part, if it is within the bounds."""
        (of,) = self.parts
        if t < self.start if later else t > self.end:
            edge = self.start if later else self.end
            found: datetime | None = edge
            if not _holds(of, edge):
                found = _bound(of, edge, later)
        else:
            found = _bound(of, t, later)
        return found if found is not None and self.start <= found <= self.end else None

    def holds(self, instant: datetime) -> bool:
        """Return whether the part holds it and it is within the bounds."""
        return self.start <= instant <= self.end and _holds(self.parts[0], instant)

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]; costs what it costs for the part."""
        (of,) = self.parts
        if until < self.start or until <= after:
            return 0
        first = after < self.start and _holds(of, self.start)
        return first + of.count(max(after, self.start), min(until, self.end))

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set."""
        (of,) = self.parts
        assert is_gridded(of)
        opens, closes = second_before(self.start) + 1 - day * DAY, second_after(self.end) - day * DAY
        if opens >= DAY or closes <= 0:
            return 0
        bits = of.bits(day)
        if closes < DAY:
            bits &= (1 << closes) - 1
        return bits & FULL_DAY << opens if opens > 0 else bits

    def run(self, instant: datetime, later: bool) -> datetime:
        """Return the run of the part, cut off at the bounds."""
        end = _run(self.parts[0], instant, later)
        return min(end, self.end) if later else max(end, self.start)


def _bound(trigger: Trigger, t: datetime, later: bool) -> datetime | None:
    if isinstance(trigger, Combination):
        return trigger.bound(t, later)
    return trigger.after(t) if later else trigger.before(t)


def _holds(trigger: Trigger, instant: datetime) -> bool:
    if isinstance(trigger, Combination):
        return trigger.holds(instant)
    if instant > EARLIEST:
        return trigger.after(instant - MICROSECOND) == instant
    return trigger.before(instant + MICROSECOND) == instant


def _run(trigger: Trigger, instant: datetime, later: bool) -> datetime:
    """Return where the unbroken run of microseconds that a trigger holds from ``instant`` on ends."""
    if isinstance(trigger, Combination | SpanTrigger):
        return trigger.run(instant, later)
    room = LATEST - instant if later else instant - EARLIEST
    if room < 2 * MICROSECOND:
        return instant
    following = trigger.after(instant) if later else trigger.before(instant)
    if following is None or abs(following - instant) > MICROSECOND:
        return instant

    def unbroken(length: timedelta) -> bool:
        if later:
            return trigger.count(instant, instant + length) == length // MICROSECOND
        return trigger.count(instant - length - MICROSECOND, instant - MICROSECOND) == length // MICROSECOND

    length = _longest(unbroken, room - MICROSECOND)
    return instant + length if later else instant - length


def _longest(holds: Callable[[timedelta], bool], room: timedelta) -> timedelta:
    """Return the longest length up to ``room`` that holds, given that all shorter ones do too."""
    low, high, limit = 0, 1, room // MICROSECOND
    while high <= limit and holds(high * MICROSECOND):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle * MICROSECOND) else (low, middle)
    return low * MICROSECOND


def _parts(kind_name: str, fields: Fields) -> tuple[Trigger, ...]:
    of = read_fields(kind_name, fields, PartsFields).of
    if not of:
        raise InvalidTrigger(f"the {kind_name} of no triggers at all is not meant; name one at least")
    return tuple(build(nested_spec(part)) for part in of)


def _union_words(fields: Fields, lang: str) -> str:
    return (";或 " if lang == "zh" else "; or ").join(part_words(part, lang) for part in fields["of"])


@kind("union", shape=PartsFields, nested=("of",), words=_union_words)
def _build_union(fields: Fields) -> UnionTrigger:
    return UnionTrigger(_parts("union", fields))


def _intersection_words(fields: Fields, lang: str) -> str:
    return (";仅限:" if lang == "zh" else "; only in: ").join(part_words(part, lang) for part in fields["of"])


@kind("intersection", shape=PartsFields, nested=("of",), words=_intersection_words)
def _build_intersection(fields: Fields) -> IntersectionTrigger:
    parts = _parts("intersection", fields)
    intervals = [part for part in parts if isinstance(part, IntervalTrigger)]
    if len(intervals) > 1:
        met: IntervalTrigger | None = intervals[0]
        for each in intervals[1:]:
            met = met.meeting(each) if met else None
        if met is None:
            raise InvalidTrigger(
                "the intersection of these intervals never comes, for their periods and anchors never meet; "
                "give them anchors that differ by a multiple of what their periods have in common"
            )
        parts = (met, *(part for part in parts if not isinstance(part, IntervalTrigger)))
    return IntersectionTrigger(parts)


def _except_words(fields: Fields, lang: str) -> str:
    sign = ";除外:" if lang == "zh" else "; except: "
    return part_words(fields["of"], lang) + sign + part_words(fields["without"], lang)


@kind("except", shape=ExceptFields, nested=("of", "without"), words=_except_words)
def _build_except(fields: Fields) -> ExceptTrigger:
    given = read_fields("except", fields, ExceptFields)
    return ExceptTrigger((build(nested_spec(given.of)), build(nested_spec(given.without))))


def _between_words(fields: Fields, lang: str) -> str:
    said = part_words(fields["of"], lang)
    start, end = fields.get("start_at"), fields.get("end_at")
    if lang == "zh":
        return said + (f";从{start}起" if start else "") + (f";到{end}为止" if end else "")
    return said + (f"; from {start} on" if start else "") + (f"; until {end}" if end else "")


@kind("between", shape=BetweenFields, nested=("of",), words=_between_words)
def _build_between(fields: Fields) -> BetweenTrigger:
    given = read_fields("between", fields, BetweenFields)
    start = EARLIEST if given.start_at is None else utc(given.start_at, "start_at")
    end = LATEST if given.end_at is None else utc(given.end_at, "end_at")
    if start > end:
        raise InvalidTrigger(
            f"nothing lies between {start.isoformat()} and {end.isoformat()}: the start is later; swap them"
        )
    return BetweenTrigger((build(nested_spec(given.of)),), start=start, end=end)
