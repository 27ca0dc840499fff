"""A node whose body writes in the transaction of its own run: ``python -m tests.seed.lent PLACE DEATH``.

It dies, for real, at the step that DEATH names; or an answer is lost there. The user's table stands beside
the ledger's, and the product knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from tests.seed.cluster import T0, ledger_at, url_of

from onebeat.core import edits
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Answer
from onebeat.core.model import Definition, Policy, Target
from onebeat.core.ports import Sharing, Store
from onebeat.core.triggers.interval import interval
from onebeat.engine.current import CurrentRun
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.executors.python import InlineExecutor
from onebeat.engine.metrics import Metrics
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock

KINDS = ("sqlite", "postgres", "mariadb")
BEFORE, WRITTEN, ENDED, COMMITTED = "before the body", "after its writes", "before commit", "after commit"
DEATHS = (BEFORE, WRITTEN, ENDED, COMMITTED)
SECOND = timedelta(seconds=1)
LEASE = 30 * SECOND
Step = Callable[[str], None]


def table(place: Path) -> str:
    """The user's table, as a connection of theirs reaches it."""
    schema = url_of(place).partition("?schema=")[2]
    return f'"{schema}".effects' if schema else "effects"


def write(place: Path, run: CurrentRun) -> None:
    """Leave an effect by the connection that the body was given."""
    mark = "?" if place.name == "sqlite" else "%s"
    run.connection.cursor().execute(
        f"INSERT INTO {table(place)} (run, token) VALUES ({mark}, {mark})", (run.id, run.token)
    )


def prepare(store: Store, **policy: Any) -> None:
    """Make the user's table, and a schedule that owes one occurrence."""
    assert isinstance(store, SqlStore)
    store._dialect.write(
        lambda session: session.run("CREATE TABLE effects (run VARCHAR(255) NOT NULL, token BIGINT NOT NULL)")
    )
    definition = Definition(
        trigger=interval(hours=1, anchor=T0 + SECOND),
        target=Target(kind="python", address="lent:body"),
        policy=Policy(**{"transactional": True, "timeout": 5 * SECOND, **policy}),
    )
    author = edits.Author(edit_id="make", cut_at=store.now())
    assert store.put([edits.create("a", definition, author)])[0].answer is Answer.ACCEPTED


def effects(store: Store) -> list[tuple[str, int]]:
    """What is in the user's table."""
    assert isinstance(store, SqlStore)
    return list(store._dialect.read(lambda session: session.rows("SELECT run, token FROM effects")))


class Watched:
    """What an executor is handed in place of the store: each step of a loan is told before it is made."""

    def __init__(self, store: Sharing, lab: Lab) -> None:
        self._store = store
        self._lab = lab

    def now(self) -> Any:
        return self._store.now()

    @contextmanager
    def lend(self) -> Iterator[Any]:
        with self._store.lend() as loan:
            joint = cast(Any, loan)._joint
            run = joint.run
            joint.run = lambda sql: self._lab.commit(run) if sql == "COMMIT" else run(sql)
            yield loan


class Lab:
    """One node on the ledger of a place, in virtual time."""

    def __init__(self, place: Path, clock: VirtualClock, body: Callable[[CurrentRun], object]) -> None:
        self.clock = clock
        self.store = ledger_at(place, clock)
        self.metrics = Metrics()
        self.commit: Callable[[Step], None] = lambda run: run("COMMIT")
        sharing = cast(Sharing, Watched(cast(Sharing, self.store), self))
        self.executor = InlineExecutor(clock=clock, sharing=sharing)
        self.executor.register("lent:body", body)
        presence = Presence(self.store, clock, holder="node", roles=("dispatcher", "worker"))
        self.dispatcher = Dispatcher(self.store, clock, holder="node")
        self.worker = Worker(self.store, clock, [self.executor], presence, lease=LEASE, metrics=self.metrics)

    def step(self) -> None:
        """Do what there is to do now."""
        self.dispatcher.step()
        for _ in range(3):
            self.worker.step()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(place: Path, death: str) -> None:
    """Be the node that dies."""

    def body(run: CurrentRun) -> None:
        if death == BEFORE:
            kill()
        write(place, run)
        if death == WRITTEN:
            kill()

    def commit(run: Step) -> None:
        if death == ENDED:
            kill()
        run("COMMIT")
        if death == COMMITTED:
            kill()

    lab = Lab(place, VirtualClock(T0 + 2 * SECOND), body)
    lab.commit = commit
    lab.step()


def unheard(run: Step) -> None:
    """Commit, and lose the answer."""
    run("COMMIT")
    raise StoreUnavailable("the answer was lost")


def undone(run: Step) -> None:
    """Lose the connection with the commit on its way."""
    run("ROLLBACK")
    raise StoreUnavailable("the connection was lost")


if __name__ == "__main__":
    live(Path(sys.argv[1]), sys.argv[2])
