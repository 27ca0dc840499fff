"""When each schedule of the demo ought to fire: arithmetic on whole microseconds, and nothing else.

Nothing of the product is imported here, nor its triggers' way of thinking: an interval is a division, a cron
expression is a set of seconds of the minute. So what this file expects is evidence, and not an echo.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND = 1_000_000


class Expectation(Protocol):
    """The instants of a "when"."""

    def between(self, after: int, until: int) -> list[int]:
        """Return the instants in (after, until], ascending, in µs since 1970."""


@dataclass(frozen=True)
class Every:
    """A fixed period: ``anchor`` + k × ``period``, k from 0 on."""

    period: int
    anchor: int

    def between(self, after: int, until: int) -> list[int]:
        """Return the instants in (after, until]."""
        first = max(0, (after - self.anchor) // self.period + 1)
        last = (until - self.anchor) // self.period
        return [self.anchor + k * self.period for k in range(first, last + 1)]


@dataclass(frozen=True)
class Seconds:
    """Each whole second whose place in its minute is one of ``places``.

    True of every zone whose offset is a whole number of minutes, and none of those in use today is not.
    """

    places: frozenset[int]

    def between(self, after: int, until: int) -> list[int]:
        """Return the instants in (after, until]."""
        whole = range(after // SECOND + 1, until // SECOND + 1)
        return [second * SECOND for second in whole if second % 60 in self.places]


@dataclass(frozen=True)
class At:
    """One instant."""

    instant: int

    def between(self, after: int, until: int) -> list[int]:
        """Return the instant if it lies in (after, until]."""
        return [self.instant] if after < self.instant <= until else []


@dataclass(frozen=True)
class Either:
    """What at least one of the parts expects."""

    parts: tuple[Expectation, ...]

    def between(self, after: int, until: int) -> list[int]:
        """Return the instants in (after, until]."""
        return sorted({instant for part in self.parts for instant in part.between(after, until)})


@dataclass(frozen=True)
class Stretch:
    """A time (after, until] in which a schedule had one definition. A paused one still has occurrences."""

    after: int
    until: int
    expectation: Expectation
    paused: bool = False

    def instants(self) -> list[int]:
        """Return what ought to be settled here."""
        return self.expectation.between(self.after, self.until)


def seconds(places: Iterable[int]) -> Seconds:
    """Return the expectation of a cron expression that names these seconds of every minute."""
    return Seconds(frozenset(places))


def micros(instant: datetime) -> int:
    """Return an aware instant in µs since 1970."""
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * SECOND + instant.microsecond


def instant(count: int) -> datetime:
    """Return µs since 1970 as an aware instant."""
    return datetime.fromtimestamp(count // SECOND, UTC) + timedelta(microseconds=count % SECOND)


def all_instants(stretches: Sequence[Stretch]) -> dict[int, Stretch]:
    """Return every expected instant of a schedule's life, with the stretch that it lies in."""
    return {instant: stretch for stretch in stretches for instant in stretch.instants()}
