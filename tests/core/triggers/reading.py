"""How the tests of this room write instants and ask a trigger about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import build

MICROSECOND = timedelta(microseconds=1)


def at(text: str) -> datetime:
    """``2026-03-08T07:00`` is that instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def instants(text: str) -> list[datetime]:
    return [at(each) for each in text.split()]


def forward(spec: TriggerSpec, start: datetime, stop: datetime) -> list[datetime]:
    """The occurrences in [start, stop), asked for with ``after``."""
    trigger, found = build(spec), list[datetime]()
    following = trigger.after(start - MICROSECOND)
    while following is not None and following < stop:
        assert not found or following > found[-1]
        found.append(following)
        following = trigger.after(following)
    return found


def backward(spec: TriggerSpec, start: datetime, stop: datetime) -> list[datetime]:
    """The occurrences in [start, stop), asked for with ``before``, oldest first."""
    trigger, found = build(spec), list[datetime]()
    previous = trigger.before(stop)
    while previous is not None and previous >= start:
        assert not found or previous < found[-1]
        found.append(previous)
        previous = trigger.before(previous)
    return found[::-1]
