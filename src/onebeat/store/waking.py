"""Waiting for a change: by other threads of this process, at once; by other processes, by looking.

    thread A ── wait ──┐                     changed() ─► all return True
    thread B ── wait ──┤ one of them looks, every PERIOD; the others sleep through to their instant
    thread C ── wait ──┘                     look() is True ─► all return True

A wake-up is a hint: who is woken for nothing looks, finds nothing, and waits again.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from onebeat.core.ports import Clock

PERIOD = timedelta(milliseconds=100)
"""How long a change by another process may go unnoticed."""

UNBOUNDED_S = 1.0
"""How long a wait without an instant lasts."""


class ServerClock:
    """A server's clock, as this machine's and what they differ by: to wait by, not to judge by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = timedelta(0)

    def now(self) -> datetime:
        """Return about what the server's clock says."""
        return self._clock.now() + self._ahead

    def measured(self, ask: Callable[[], datetime]) -> datetime:
        """Return what the server says, and remember by how much it is ahead."""
        before = self._clock.now()
        there = ask()
        self._ahead = there - before - (self._clock.now() - before) / 2
        return there


class Waiting:
    """The threads of one process that wait for one store. ``look`` says whether others changed it."""

    def __init__(self, clock: Clock, look: Callable[[], bool], period: timedelta = PERIOD) -> None:
        self._clock = clock
        self._look = look
        self._period_s = period.total_seconds()
        self._woken = threading.Condition()
        self._changes = 0
        self._looking = False  # one of the waiting threads looks for all of them
        self._seen = threading.local()

    def changed(self) -> None:
        """End the waits of this process now."""
        with self._woken:
            self._tell()

    def wait(self, until: datetime | None) -> bool:
        """Wait as ``Ledger.wait`` says."""
        left = UNBOUNDED_S if until is None else self._left(until)
        with self._woken:
            seen = getattr(self._seen, "changes", 0)
            if self._changes == seen and self._look():
                self._tell()
            looks = False
            try:
                while self._changes == seen and left > 0:
                    if not self._looking:
                        looks = self._looking = True
                    left = self._nap(left, looks=looks)
                    if until is not None:
                        left = min(left, self._left(until))
            finally:
                if looks:
                    self._looking = False
                    self._woken.notify()  # another one must look now
            self._seen.changes = self._changes
            return self._changes != seen

    def _nap(self, left: float, *, looks: bool) -> float:
        """Sleep until a change, or until it is time to look; return how much is left, as far as is known."""
        nap = min(left, self._period_s) if looks else left
        if self._woken.wait(nap):
            return left
        if looks and self._look():
            self._tell()
        return left - nap

    def _left(self, until: datetime) -> float:
        # A clock that stands still says the same for ever: then the naps alone are counted.
        return min((until - self._clock.now()).total_seconds(), threading.TIMEOUT_MAX)

    def _tell(self) -> None:
        self._changes += 1
        self._woken.notify_all()
