"""Triggers that can show a whole day at once, and what that makes cheap.

A gridded trigger answers ``bits(day)``: its whole-second occurrences of a UTC day as one integer of 86,400
bits. Sets of occurrences then combine with ``&``, ``|`` and ``& ~`` a day at a time, and counting is
counting bits.
"""

from datetime import datetime
from typing import Protocol, TypeGuard

from onebeat.core.triggers.instants import DAY, FULL_DAY, second_after
from onebeat.core.triggers.protocol import Trigger


class Gridded(Trigger, Protocol):
    """A trigger that can show its days, which may be all that there is of it."""

    @property
    def gridded(self) -> bool:
        """Whether ``bits`` may be asked for; a combination can be so only if all its parts are."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every occurrence is a whole second, and ``bits`` shows it."""
        ...

    def bits(self, day: int) -> int:
        """Return the whole-second occurrences of a UTC day (days since 1970-01-01), one bit a second."""
        ...


def is_gridded(trigger: Trigger) -> TypeGuard[Gridded]:
    """Return whether a trigger can show its days."""
    return bool(getattr(trigger, "gridded", False))


def is_dense(trigger: Trigger) -> bool:
    """Return whether a trigger holds every microsecond of something, as calendars and windows do."""
    return bool(getattr(trigger, "dense", False))


def is_whole(trigger: Trigger) -> bool:
    """Return whether a trigger's days show all of it."""
    return is_gridded(trigger) and trigger.whole


def count_days(trigger: Gridded, after: datetime, until: datetime) -> int:
    """Return the number of whole seconds in (after, until] that the days show: a few microseconds a day."""
    start, stop = second_after(after), second_after(until)
    if stop <= start:
        return 0
    found = 0
    for day in range(start // DAY, (stop - 1) // DAY + 1):
        bits = trigger.bits(day)
        if day * DAY < start:
            bits &= FULL_DAY << (start - day * DAY)
        if stop < (day + 1) * DAY:
            bits &= (1 << (stop - day * DAY)) - 1
        found += bits.bit_count()
    return found
