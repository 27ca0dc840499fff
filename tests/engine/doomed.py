"""A process that is killed, for real, where it is told to: at a verb of the ledger, before, inside or after.

Inside is between two statements of the transaction: apsw shows every statement of every connection to a hook
of this file, so the product knows nothing of it. Effects and acknowledgements go to a file of their own, one
write() a line: what is there has happened, whatever became of the process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from onebeat.core import edits
from onebeat.core.decide import admit
from onebeat.core.messages import Answer, Cancel, Claim, Edit, Hold, Request
from onebeat.core.model import (
    CatchUp,
    Definition,
    Event,
    OnLost,
    Overlap,
    Policy,
    Target,
    TriggerSpec,
)
from onebeat.core.ports import Store
from onebeat.core.triggers.interval import interval
from onebeat.engine.current import CurrentRun
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.executors.python import InlineExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.open import open_store
from onebeat.testing.clock import NOON, VirtualClock

SECOND = timedelta(seconds=1)
LEASE = 10 * SECOND
BEGIN = NOON + 10 * SECOND
"""When the doomed process lives: ten seconds after the schedules were made, so that all of them owe."""


class Death(NamedTuple):
    """Where to die: at the first call of a verb (of a transition, where ``step`` names one), and when.

    ``moment`` is before, after, or inside: after the first statement that writes (in a verb that only reads,
    after the first), or before the statement of a number.
    """

    verb: str
    step: str
    moment: str
    statement: int = 0

    def meets(self, verb: str, args: tuple[Any, ...]) -> bool:
        if verb != self.verb:
            return False
        return not self.step or any(type(step).__name__ == self.step for step in args[0])


class Doom:
    """A store that kills its process at a moment; a Death of None lets it live."""

    def __init__(self, death: Death | None) -> None:
        self.death = death
        self.armed = False
        self.statements = 0
        self.written = False
        self.store: Any = None
        apsw.connection_hooks.append(self._watch)

    def _watch(self, db: apsw.Connection) -> None:
        db.exec_trace = self._statement

    def _statement(self, cursor: object, sql: str, bindings: object) -> bool:
        if self.armed and self.death is not None:
            self.statements += 1
            if self.death.statement:
                if self.statements == self.death.statement:
                    kill()
            elif self.written or (self.statements > 1 and self.death.verb in READING):
                kill()
            self.written = not sql.lstrip().startswith(("BEGIN", "SELECT", "PRAGMA"))
        return True

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        function = getattr(self.store, verb)

        def called(*args: Any, **named: Any) -> Any:
            here = self.death is not None and self.death.meets(verb, args)
            moment = self.death.moment if here and self.death is not None else ""
            if moment == "before":
                kill()
            self.armed, self.statements, self.written = moment == "inside", 0, False
            answer = function(*args, **named)
            if self.armed and self.death is not None and self.death.statement:
                self.death = None  # it has fewer statements than that: life goes on
            self.armed = False
            if moment == "after":
                kill()
            return answer

        return called


READING = frozenset({"due", "broken", "lost"})


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Outside:
    """What happened, seen from outside of the ledger: lines in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, *words: object) -> None:
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def policy(**given: object) -> Policy:
    return Policy(**given)  # type: ignore[arg-type]  # by the tests


def schedules() -> dict[str, Definition]:
    """What is scheduled: cheap, often, and with every overlap."""
    body = Target(kind="python", address="doomed:effect")
    every: Callable[[float], TriggerSpec] = lambda seconds: interval(seconds=seconds, anchor=NOON)  # noqa: E731 - short
    policies = {
        "all": (2, policy(catch_up=CatchUp.ALL, overlap=Overlap.ALLOW)),
        "latest": (1, policy(catch_up=CatchUp.LATEST)),
        "queued": (3, policy(catch_up=CatchUp.ALL, overlap=Overlap.QUEUE_ALL)),
        "once": (4, policy(on_lost=OnLost.FAIL, catch_up=CatchUp.ALL, overlap=Overlap.ALLOW)),
        "replaced": (5, policy(overlap=Overlap.CANCEL_RUNNING)),
        "edited": (2, policy(overlap=Overlap.QUEUE_ONE)),
        "doomed": (7, policy(overlap=Overlap.ALLOW)),
        "short": (1, policy(catch_up=CatchUp.ALL, overlap=Overlap.ALLOW, keep_runs=1)),
    }
    return {
        name: Definition(trigger=every(seconds), target=body, policy=each)
        for name, (seconds, each) in policies.items()
    }


def prepare(store: Store, clock: VirtualClock) -> None:
    """Make the schedules, some history to purge, and a run whose holder is long gone."""
    for name, definition in schedules().items():
        author = edits.Author(edit_id=f"create-{name}", cut_at=clock.now())
        assert store.put([edits.create(name, definition, author)])[0].answer is Answer.ACCEPTED
    clock.set(NOON + 4 * SECOND)
    Dispatcher(store, clock, holder="first").step()
    gone = Claim(
        holder="gone",
        queues=("default",),
        targets=("python:doomed:effect",),
        limit=1,
        until=clock.now() + SECOND,
    )
    assert store.claim(gone)
    with apsw.Connection(store.facts()["place"]) as db:  # what a program outside asks for, in vain
        db.execute("INSERT INTO onebeat_inbox (kind, name) VALUES ('pause', 'nowhere')")


def engine(store: Store, clock: VirtualClock, holder: str, outside: Outside) -> tuple[Dispatcher, Worker]:
    """Return a node's two halves; its bodies tell the outside."""

    def effect(run: CurrentRun) -> None:
        outside.say("effect", run.id, run.token, run.attempt, run.schedule, run.occurrence.isoformat())
        run.log.info("done")

    executor = InlineExecutor(clock=clock)
    executor.register("doomed:effect", effect)
    presence = Presence(store, clock, holder=holder, roles=("dispatcher", "worker"), lasts=LEASE)
    return Dispatcher(store, clock, holder=holder), Worker(store, clock, [executor], presence, lease=LEASE)


def live(path: str, outside_path: str, death: Death | None) -> None:
    """Be a node, and a person beside it who edits; die where it is said."""
    clock = VirtualClock(BEGIN)
    doom = Doom(death)
    store = doom.store = open_store(f"sqlite:///{path}", clock)
    outside = Outside(Path(outside_path))
    dispatcher, worker = engine(cast(Store, doom), clock, "victim", outside)
    for second in range(4):
        clock.set(BEGIN + second * SECOND)
        dispatcher.step()
        worker.step()
        if second == 1:
            person(cast(Store, doom), clock, outside)
    store.close()


def person(store: Store, clock: VirtualClock, outside: Outside) -> None:
    """Act once through every verb that people and operators use, and note what was acknowledged."""

    def author(edit_id: str) -> edits.Author:
        return edits.Author(edit_id=edit_id, cut_at=clock.now(), actor="person")

    def put(edit: Edit) -> None:
        if store.put([edit])[0].answer is Answer.ACCEPTED:
            outside.say("edit", edit.after.name, edit.id)

    row, load = store.owing(["edited"])[0]
    slower = Definition(
        trigger=interval(seconds=3, anchor=NOON), target=row.definition.target, policy=row.definition.policy
    )
    put(edits.edit(row, load, slower, author("edit-edited")))
    put(edits.delete(*store.owing(["doomed"])[0], author("delete-doomed")))
    row, load = store.owing(["queued"])[0]
    for number in range(2):
        run = admit(row, load, key=f"asked-{number}", now=clock.now(), forced=True)
        request = Request(schedule_id=row.id, expected_version=row.version + number, run=run)
        if store.request([request]) == [Answer.ACCEPTED]:
            outside.say("request", run.id)
    if store.advance([Cancel(run_id="queued!asked-1")])[0].answer is Answer.ACCEPTED:
        outside.say("cancel", "queued!asked-1")
    store.hold(Hold(since_at=clock.now(), actor="person"), "hold")
    store.hold(None, "release")
    store.cursor("reader", 1)
    store.record([Event(at=clock.now(), kind="step.failed", reason="for the record")])
    store.purge(clock.now(), 100)
