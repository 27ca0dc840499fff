"""What a trigger is: the one socket of this room, for the kinds of the house and for anybody's.

A trigger is an immutable value: it holds no cursor and asks no clock, so that a preview, a backfill and
"the latest one only" cost nothing, and every node gives the same answer for ever.
"""

from datetime import datetime
from typing import Protocol, runtime_checkable


@runtime_checkable
class Trigger(Protocol):
    """A set of instants, asked for one at a time.

    Every instant that goes in or comes out is an aware datetime in UTC, exact to the microsecond. Each method
    answers for the years 1 to 9999 without an exception, whatever the instant. A calendar or a window of time
    is a trigger too: it holds every microsecond of its days. That is what combinations need: they leap to the
    next window with ``after``, and out of one with ``count``.
    """

    @property
    def zoned(self) -> bool:
        """Whether the rules of a time zone matter: new zone data may move what this trigger answers."""
        ...

    @property
    def late_start(self) -> bool:
        """Whether an instant that had passed when the schedule was made still fires: one-offs only."""
        ...

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``, or None when none ever comes."""
        ...

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``, or None: the exact mirror of ``after``."""
        ...

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]; 0 when that interval is empty."""
        ...
