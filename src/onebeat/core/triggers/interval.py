"""What does not depend on wall time: intervals and one-offs. They count whole microseconds, without drift."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec, instant_text, utc
from onebeat.core.triggers.instants import DAY, FULL_DAY, MICROSECOND, SECOND, at_microsecond, microsecond_of
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.words import every, length

PERIOD_MIN = timedelta(milliseconds=1)
"""The shortest period. A ledger takes about as long to commit, so shorter ones could only ever fold."""

PERIOD_MAX = timedelta(days=36_525)
"""The longest period, and the longest delay of a one-off: a century."""


_ONE = timedelta(seconds=1)


class IntervalFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``interval``. Without an anchor it is relative, until ``anchored`` gives it one."""

    period_s: int | float
    anchor_at: datetime | None = None


class OnceFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``once``: exactly one. ``in_s`` is relative, until ``anchored`` resolves it."""

    at: datetime | None = None
    in_s: int | float | None = None


def interval(
    period: timedelta = timedelta(0),
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    anchor: datetime | None = None,
) -> TriggerSpec:
    """Return the trigger of a fixed period: its k-th occurrence is ``anchor`` + k × period, k from 0 on.

    The lengths add up. They are elapsed time: a day is 24 hours, also when clocks change; for "daily at
    nine" use cron. By default the anchor is the instant of declaration, so that the first run comes one
    period later.

    Raises:
        InvalidTrigger: the period is not between a millisecond and 36,525 days.
        InvalidInput: the anchor names no instant, because it has no zone.

    """
    try:
        whole = period + timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        whole = timedelta.max
    fields: Fields = {"period_s": _in_seconds(whole)}
    if anchor is not None:
        fields["anchor_at"] = instant_text(utc(anchor, "anchor"))
    return _declared("interval", fields)


def once(at: datetime | None = None, *, in_: timedelta | None = None) -> TriggerSpec:
    """Return the trigger of one instant: ``at``, or the duration ``in_`` after the declaration.

    An instant that has already passed when the schedule is declared still fires, at once.

    Raises:
        InvalidTrigger: both or neither were given, or ``in_`` is negative or longer than 36,525 days.
        InvalidInput: ``at`` names no instant, because it has no zone.

    """
    fields: Fields = {}
    if at is not None:
        fields["at"] = instant_text(utc(at, "at"))
    if in_ is not None:
        fields["in_s"] = _in_seconds(in_)
    return _declared("once", fields)


def _declared(kind_name: str, fields: Fields) -> TriggerSpec:
    spec = TriggerSpec(kind=kind_name, fields=fields)
    build(spec)
    return spec


@dataclass(frozen=True, slots=True)
class IntervalTrigger:
    """The instants ``anchor`` + k × ``period`` for k ≥ 0, in microseconds."""

    anchor: int
    period: int
    zoned: bool = False
    late_start: bool = False
    gridded: bool = True

    @property
    def whole(self) -> bool:
        """Whether all occurrences are whole seconds."""
        return self.anchor % SECOND == 0 and self.period % SECOND == 0

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``."""
        passed = microsecond_of(t) - self.anchor
        return at_microsecond(
            self.anchor if passed < 0 else self.anchor + (passed // self.period + 1) * self.period
        )

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``."""
        passed = microsecond_of(t) - self.anchor
        return at_microsecond(self.anchor + (passed - 1) // self.period * self.period) if passed > 0 else None

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]: one subtraction, whatever its length."""
        return max(0, self._number(until) - self._number(after))

    def _number(self, until: datetime) -> int:
        passed = microsecond_of(until) - self.anchor
        return 0 if passed < 0 else passed // self.period + 1

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day as a bit set, one bit a second."""
        shared = math.gcd(self.period, SECOND)
        if self.anchor % shared:
            return 0
        # anchor + k × period is a whole second for one k in every SECOND // shared.
        turn = SECOND // shared
        k = -(self.anchor // shared) * pow(self.period // shared, -1, turn) % turn
        first, step = (self.anchor + k * self.period) // SECOND, self.period // shared
        place = first - day * DAY
        if place < 0:
            place %= step
        if place >= DAY:
            return 0
        return _every(step) << place & FULL_DAY

    def meeting(self, other: "IntervalTrigger") -> "IntervalTrigger | None":
        """Return the interval of the instants that two intervals share, or None: they never meet."""
        shared = math.gcd(self.period, other.period)
        apart = other.anchor - self.anchor
        if apart % shared:
            return None
        turn = other.period // shared
        k = apart // shared * pow(self.period // shared, -1, turn) % turn
        period = self.period * turn
        anchor = self.anchor + k * self.period
        anchor += max(0, -((anchor - other.anchor) // period)) * period
        return IntervalTrigger(anchor, period)


@lru_cache(maxsize=256)
def _every(step: int) -> int:
    """Return a day's bit set with every ``step``-th second in it, from the first."""
    found = 1
    while step < DAY:
        found |= found << step
        step *= 2
    return found


@dataclass(frozen=True, slots=True)
class OnceTrigger:
    """One instant."""

    at: datetime
    zoned: bool = False
    late_start: bool = True
    gridded: bool = True

    @property
    def whole(self) -> bool:
        """Whether it is a whole second."""
        return self.at.microsecond == 0

    def after(self, t: datetime, /) -> datetime | None:
        """Return the instant if it is strictly later than ``t``."""
        return self.at if self.at > t else None

    def before(self, t: datetime, /) -> datetime | None:
        """Return the instant if it is strictly earlier than ``t``."""
        return self.at if self.at < t else None

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return 1 if the instant is in (after, until]."""
        return int(after < self.at <= until)

    def bits(self, day: int) -> int:
        """Return the instant as a bit set of a UTC day, if it is a whole second."""
        place = microsecond_of(self.at) // SECOND - day * DAY
        return 1 << place if self.whole and 0 <= place < DAY else 0


@dataclass(frozen=True, slots=True)
class RelativeTrigger:
    """A trigger that waits for its declaration: valid, but it holds nothing until it is ``anchored``."""

    what: str
    zoned: bool = False
    late_start: bool = False
    why: str = (
        "is relative to its declaration, so it holds no instant yet; "
        "resolve it with anchored(spec, cut), or give the instant itself"
    )

    def after(self, t: datetime, /) -> datetime | None:
        """Raise InvalidTrigger: there is no answer yet."""
        raise self._unresolved()

    def before(self, t: datetime, /) -> datetime | None:
        """Raise InvalidTrigger: there is no answer yet."""
        raise self._unresolved()

    def count(self, after: datetime, until: datetime, /) -> int:
        """Raise InvalidTrigger: there is no answer yet."""
        raise self._unresolved()

    def _unresolved(self) -> InvalidTrigger:
        return InvalidTrigger(f"{self.what} {self.why}")


def _anchor_interval(fields: Fields, cut: datetime) -> Fields:
    return fields if fields.get("anchor_at") is not None else {**fields, "anchor_at": instant_text(cut)}


def _interval_words(fields: Fields, lang: str) -> str:
    return every(timedelta(seconds=fields["period_s"]), lang)


@kind("interval", shape=IntervalFields, anchor=_anchor_interval, words=_interval_words)
def _build_interval(fields: Fields) -> IntervalTrigger | RelativeTrigger:
    given = read_fields("interval", fields, IntervalFields)
    period = _microseconds(given.period_s)
    if not PERIOD_MIN // MICROSECOND <= period <= PERIOD_MAX // MICROSECOND:
        raise InvalidTrigger(
            f"an interval of {given.period_s} s is none; periods are 0.001 s to {PERIOD_MAX.days:,} days"
        )
    if given.anchor_at is None:
        return RelativeTrigger("an interval without an anchor")
    return IntervalTrigger(microsecond_of(utc(given.anchor_at, "anchor_at")), period)


def _anchor_once(fields: Fields, cut: datetime) -> Fields:
    if isinstance(_build_once(fields), OnceTrigger):
        return fields
    return {"at": instant_text(cut + timedelta(microseconds=_microseconds(fields["in_s"])))}


def _once_words(fields: Fields, lang: str) -> str:
    if fields.get("at") is not None:
        at = instant_text(datetime.fromisoformat(fields["at"]))
        return f"仅一次:{at}" if lang == "zh" else f"once at {at}"
    delay = length(timedelta(seconds=fields["in_s"]), lang)
    return f"仅一次:声明后{delay}" if lang == "zh" else f"once, {delay} after the declaration"


@kind("once", shape=OnceFields, anchor=_anchor_once, words=_once_words)
def _build_once(fields: Fields) -> OnceTrigger | RelativeTrigger:
    given = read_fields("once", fields, OnceFields)
    if given.at is not None and given.in_s is None:
        return OnceTrigger(utc(given.at, "at"))
    if given.at is not None or given.in_s is None:
        raise InvalidTrigger("a one-off has one instant; give either at=, or in_= for one relative to now")
    if not 0 <= _microseconds(given.in_s) <= PERIOD_MAX // MICROSECOND:
        raise InvalidTrigger(
            f"a one-off in {given.in_s} s is none; in_ is 0 to {PERIOD_MAX.days:,} days; "
            "for an instant in the past write at="
        )
    return RelativeTrigger("a one-off with in_=")


def _in_seconds(duration: timedelta) -> int | float:
    """Return seconds as JSON writes them: an integer where that is exact."""
    return duration / _ONE if duration.microseconds else duration // _ONE


def _microseconds(seconds: int | float) -> int:
    """Return whole microseconds, exact for every duration that is kept. Refuses a fraction of one."""
    if abs(seconds) > 1e12:  # some 30,000 years: the range is checked later, and says so
        return round(math.copysign(1e12, seconds)) * SECOND
    micros = round(seconds * SECOND)
    if micros / SECOND != seconds:
        raise InvalidTrigger(f"{seconds!r} s is no whole number of microseconds; round it")
    return micros
