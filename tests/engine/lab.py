"""A small laboratory: the real dispatcher and worker on virtual time, bodies that end when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from onebeat.core import edits
from onebeat.core.errors import StoreUnavailable, TargetNotFound
from onebeat.core.messages import Cancel, Claimed, EventQuery, Note, Report, Request, RunQuery
from onebeat.core.model import Definition, Event, Outcome, Policy, Run, RunState, Target, TriggerSpec
from onebeat.core.triggers.interval import interval
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.metrics import Metrics
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.memory import MemoryStore
from onebeat.testing.clock import VirtualClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class Puppet:
    """An executor whose bodies run until a test ends them. It records what it was told."""

    kind = "puppet"

    def __init__(self, slots: int = 10, refuses: tuple[str, ...] = ()) -> None:
        self.slots = slots
        self.refuses = refuses
        self.bodies: dict[tuple[str, int], Claimed] = {}  # holds a slot
        self.reported: set[tuple[str, int]] = set()
        self.started: list[str] = []
        self.told: list[tuple[str, str]] = []
        self.until: dict[str, datetime] = {}
        self.closed = False
        self._reports: list[Report] = []
        self._notes: list[Note] = []
        self._wake: Callable[[], None] = lambda: None

    def resolve(self, target: Target) -> None:
        if target.address in self.refuses:
            raise TargetNotFound(f"{target.address} is not here")

    def free(self) -> int:
        return self.slots - len(self.bodies)

    def start(self, claimed: Claimed, until: datetime) -> None:
        self.started.append(claimed.run.id)
        self.until[claimed.run.id] = until
        self.bodies[claimed.run.id, claimed.run.token] = claimed

    def reports(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports

    def notes(self) -> list[Note]:
        notes, self._notes = self._notes, []
        return notes

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        self.until[run_id] = until

    def tell(self, run_id: str, token: int, why: str) -> None:
        self.told.append((run_id, why))

    def overrun(self, now: datetime) -> list[Report]:
        reports = []
        for key, claimed in self.bodies.items():
            timeout, began = claimed.definition.policy.timeout, claimed.run.started_at
            if timeout is None or key in self.reported:
                continue
            assert began is not None
            if began + timeout <= now:
                self.reported.add(key)
                self.told.append((key[0], "timeout"))
                reports.append(Report(run_id=key[0], token=key[1], outcome=Outcome.TIMED_OUT, error="slow"))
        return reports

    def connect(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def close(self) -> None:
        self.closed = True

    # --- for the test ---

    def note(self, run_id: str, **said: Any) -> None:
        key = next(key for key in self.bodies if key[0] == run_id)
        self._notes.append(Note(run_id=run_id, token=key[1], **said))

    def end(self, run_id: str, outcome: Outcome = Outcome.SUCCEEDED, **report: Any) -> None:
        """End the oldest body of a run."""
        key = next(key for key in self.bodies if key[0] == run_id)
        del self.bodies[key]
        if key not in self.reported:
            self._reports.append(Report(run_id=run_id, token=key[1], outcome=outcome, **report))
            self._wake()


class Flaky:
    """A store some of whose calls fail: before they commit, or after it, so that the reply is lost."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.failing: dict[str, list[tuple[bool, Exception]]] = {}
        self.calls: list[str] = []

    def fail(self, verb: str, *, after: bool = False, times: int = 1, error: Exception | None = None) -> None:
        cause = StoreUnavailable(f"{verb} was cut off") if error is None else error
        self.failing.setdefault(verb, []).extend([(after, cause)] * times)

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.store, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(verb)
            if not self.failing.get(verb):
                return real(*args, **kwargs)
            after, cause = self.failing[verb].pop(0)
            if after:
                real(*args, **kwargs)
            raise cause

        return call


class Node:
    """A dispatcher and a worker of one holder, on a flaky view of the store."""

    def __init__(self, lab: Lab, name: str, slots: int, refuses: tuple[str, ...], **worker: Any) -> None:
        self.name = name
        self.store = Flaky(lab.store)
        self.puppet = Puppet(slots, refuses)
        self.metrics = Metrics()
        self.presence = Presence(self.store, lab.clock, holder=name, roles=("dispatcher", "worker"))
        self.dispatcher = Dispatcher(self.store, lab.clock, holder=name, metrics=self.metrics)
        self.worker = Worker(
            self.store, lab.clock, [self.puppet], self.presence, metrics=self.metrics, **worker
        )

    def step(self) -> datetime:
        self.worker.step()  # says first what it can run
        first = self.dispatcher.step()
        return min(first, self.worker.step())


class Lab:
    """One memory store, one virtual clock, any number of nodes."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.store = MemoryStore(self.clock)
        self._edits = 0

    def node(
        self, name: str = "n1", *, slots: int = 10, refuses: tuple[str, ...] = (), **worker: Any
    ) -> Node:
        return Node(self, name, slots, refuses, **worker)

    def now(self) -> datetime:
        return self.clock.now()

    def pass_time(self, span: float, *nodes: Node, step: float = 1.0) -> None:
        """Let time pass, and the nodes step at each instant on the way."""
        until = self.clock.now() + seconds(span)
        while self.clock.now() < until:
            self.clock.set(min(self.clock.now() + seconds(step), until))
            for node in nodes:
                node.step()

    def author(self) -> edits.Author:
        self._edits += 1
        return edits.Author(edit_id=f"edit-{self._edits}", cut_at=self.clock.now(), actor="test")

    def put(
        self, name: str, trigger: TriggerSpec | None = None, address: str = "body", **policy: Any
    ) -> None:
        """Create a schedule; by default every minute from now on."""
        definition = Definition(
            trigger=interval(minutes=1) if trigger is None else trigger,
            target=Target(kind="puppet", address=address),
            policy=Policy(**policy),
        )
        self.store.put([edits.create(name, definition, self.author())])

    def break_trigger(self, name: str) -> None:
        """Leave a trigger in the row that no code understands, as an older node would find a newer kind."""
        schedule, _ = self.store.owing([name])[0]
        definition = replace(schedule.definition, trigger=TriggerSpec(kind="from-the-future"))
        self.store._rows[schedule.id] = replace(schedule, definition=definition)

    def request(self, name: str, key: str) -> str:
        schedule, load = self.store.owing([name])[0]
        run = edits.admit(schedule, load, key=key, now=self.clock.now(), forced=True)
        self.store.request([Request(schedule_id=schedule.id, expected_version=schedule.version, run=run)])
        return run.id

    def cancel(self, run_id: str) -> None:
        self.store.advance([Cancel(run_id=run_id)])

    def runs(self, name: str) -> list[Run]:
        """Runs of a schedule, oldest first."""
        return self.store.runs(RunQuery(schedule=name))[::-1]

    def run(self, run_id: str) -> Run:
        run = self.store.run(run_id)
        assert run is not None
        return run

    def states(self, name: str) -> list[RunState]:
        return [run.state for run in self.runs(name)]

    def events(self, *kinds: str) -> list[Event]:
        return self.store.events(EventQuery(kinds=kinds or None))
