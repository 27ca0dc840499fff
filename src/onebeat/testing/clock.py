"""Time that moves only when it is told to."""

from datetime import UTC, datetime, timedelta

from onebeat.core.model import utc

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


class VirtualClock:
    """A Clock that stands still between two calls. It may be set back: real clocks are, too.

    It can be pickled; each process then has its own, at the same instant.
    """

    def __init__(self, now: datetime = NOON) -> None:
        self._now = utc(now, "now")

    def now(self) -> datetime:
        """Return the instant it was set to."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move on by a duration, which may be negative, and return the new instant."""
        self._now += by
        return self._now

    def set(self, now: datetime) -> None:
        """Move to an instant, earlier or later."""
        self._now = utc(now, "now")

    def __repr__(self) -> str:
        return f"VirtualClock({self._now.isoformat()})"
