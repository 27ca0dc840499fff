"""A real ledger in a SQLite file, served on virtual time by one node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from onebeat import Onebeat
from onebeat.demo.expect import micros
from onebeat.demo.outside import Line
from onebeat.demo.picture import Run
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.executors.python import InlineExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.open import open_store
from onebeat.testing.clock import VirtualClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
STEP = timedelta(milliseconds=125)


def nothing() -> None:
    """A body."""


class World:
    """One app, one node, one clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = VirtualClock(START)
        self.store = open_store(f"sqlite:///{path}", self.clock)
        self.beat = Onebeat(zone="UTC", clock=self.clock, store=self.store)
        executor = InlineExecutor(allow=[nothing], clock=self.clock)
        presence = Presence(self.store, self.clock, holder="node", roles=("dispatcher", "worker"))
        self._worker = Worker(self.store, self.clock, [executor], presence)
        self._dispatcher = Dispatcher(self.store, self.clock, holder="node")

    @property
    def now(self) -> int:
        """The present instant, in µs."""
        return micros(self.clock.now())

    def serve(self, seconds: float) -> None:
        """Let time pass, with the node at work."""
        until = self.clock.now() + timedelta(seconds=seconds)
        while self.clock.now() < until:
            self.clock.advance(STEP)
            self._worker.step()
            self._dispatcher.step()
            self._worker.step()


@contextmanager
def world(path: Path) -> Iterator[World]:
    """Open a world, and close it."""
    opened = World(path)
    try:
        yield opened
    finally:
        opened.beat.close()


def effect(run: Run) -> Line:
    """The line that a run's body would have left."""
    return Line(
        at=run.created + 1,
        what="begin",
        schedule=run.schedule,
        occurrence=run.due if run.occurrence is None else run.occurrence,
        run=run.id,
        attempt=run.attempt,
        token=run.token,
        pid=1,
    )
