"""What the tests of the surfaces share: a body or two, and a store where somebody is always faster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from onebeat import CurrentRun, Onebeat
from onebeat.core.ports import Store
from onebeat.store.memory import MemoryStore
from onebeat.testing.clock import NOON, VirtualClock

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def at(hour: int, minute: int = 0, day: int = 21) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


def close(order: int = 17, *, force: bool = False) -> dict[str, int]:
    return {"order": order}


def report(run: CurrentRun) -> None:
    run.log.info("reported %s", run.occurrence.isoformat())


def fail() -> None:
    raise ValueError("no such order")


class Meddled:
    """A store with somebody else at it: before or after a verb, ``meddle`` is called, so many times."""

    def __init__(self, store: Store, verb: str, meddle: Callable[[], None], times: int = 1) -> None:
        self.store = store
        self._verb = verb
        self._meddle = meddle
        self._left = times
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name == self._verb and self._left:
                self._left -= 1
                self._meddle()
            return real(*args, **kwargs)

        return call


class Town:
    """One ledger in memory, and any number of apps at it."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.store = MemoryStore(self.clock)

    def app(self, actor: str = "ada", **more: Any) -> Onebeat:
        return Onebeat("memory://", clock=self.clock, **{"store": self.store, "actor": actor} | more)

    def meddled(self, verb: str, meddle: Callable[[], None], times: int = 1, **more: Any) -> Onebeat:
        """An app that somebody meddles with before each of its first calls of a verb."""
        return self.app(store=cast(Store, Meddled(self.store, verb, meddle, times)), **more)
