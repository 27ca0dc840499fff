"""The stage on which the suite plays: what a store under test must offer, and a book to write its plays in.

The book writes decisions and edits by hand, without decide.py and without one trigger: a store must keep
what it is given, whatever was decided and why.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Done,
    Edit,
    Entry,
    EventQuery,
    Finish,
    PutAnswer,
    Request,
    RunQuery,
    ScheduleQuery,
)
from onebeat.core.model import (
    Decision,
    Definition,
    Event,
    Fold,
    Json,
    NewRun,
    Node,
    Outcome,
    Overlap,
    Policy,
    Reason,
    Run,
    RunState,
    Schedule,
    Settlement,
    Target,
    TriggerSpec,
    run_id,
)
from onebeat.core.ports import Clock, Store
from onebeat.testing.clock import NOON, VirtualClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
TARGET = Target(kind="python", address="shop.orders:close")
EVERYTHING = 100_000
T = TypeVar("T")


class Stage:
    """What a store hands to the suite. Subclass StoreSuite, answer these, and run pytest."""

    processes: ClassVar[bool] = True
    """Several processes may open one store. If not, the store must refuse to travel into another one."""

    documents: ClassVar[bool] = True
    """Rows hold documents that a hand may break; then ``break_row`` does it. If not, nothing is encoded."""

    shares: ClassVar[bool] = False
    """Others can share its transactions (``ports.Sharing``). If not, it must not look as if they could."""

    def opener(self, place: Path) -> Callable[[Clock], Store]:
        """Return what opens one and the same store, in ``place``, with a clock; it must travel by pickle."""
        raise NotImplementedError("return a picklable callable, e.g. functools.partial(open_mine, place)")

    def make_store(self, clock: Clock, tmp_path: Path) -> Store:
        """Return a new, empty store that takes its time from ``clock``, ready for use."""
        return self.opener(tmp_path)(clock)

    def break_row(self, store: Store, name: str) -> None:
        """Make the stored documents of a schedule undecodable, behind the store's back."""
        raise NotImplementedError("declare documents = False, or break the row")

    def append(self, store: Store, entry: Entry) -> str:
        """Append an entry to the inbox, as a program outside would; return its id. Its own id is not used."""
        raise NotImplementedError("do what your page tells other programs to do")

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """Give the time of the play: noon, until it is moved."""
        return VirtualClock(NOON)

    @pytest.fixture
    def store(self, clock: VirtualClock, tmp_path: Path) -> Iterator[Store]:
        """Give the store under test, new for each test."""
        store = self.make_store(clock, tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def book(self, store: Store, clock: VirtualClock) -> "Book":
        """Give the book of the play."""
        return Book(store, clock, partial(self.append, store))


class Book:
    """Short words for what the tests do again and again. Each is one call of the store, or none."""

    def __init__(
        self, store: Store, clock: VirtualClock, append: Callable[[Entry], str] | None = None
    ) -> None:
        self.store = store
        self.clock = clock
        self.append = append
        self._edits = 0

    @property
    def now(self) -> datetime:
        """The store's clock."""
        return self.store.now()

    def edit_id(self) -> str:
        """Return an edit id that was not used before."""
        self._edits += 1
        return f"edit-{self._edits}"

    # --- schedules ---

    def definition(
        self, *, kind: str = "interval", target: Target = TARGET, tags: tuple[str, ...] = (), **policy: Json
    ) -> Definition:
        """Return a definition; other keywords are fields of its policy."""
        spec = TriggerSpec(kind=kind, fields={"every_s": 60})
        return Definition(trigger=spec, target=target, tags=tags, policy=Policy(**policy))

    def creation(
        self, name: str = "a", definition: Definition | None = None, *, requests: Sequence[NewRun] = ()
    ) -> Edit:
        """Return the edit that creates a schedule whose first occurrence is a minute ahead."""
        now = self.now
        row = Schedule(
            id=0,
            name=name,
            definition=definition or self.definition(),
            settled_until=now,
            next_at=now + MINUTE,
            cut_at=now,
            created_at=now,
        )
        return Edit(
            id=self.edit_id(),
            expected_version=0,
            after=row,
            cut_at=now,
            boundary_at=now,
            requests=tuple(requests),
            action="schedule.created",
            actor="ada",
        )

    def create(self, name: str = "a", definition: Definition | None = None, **policy: Json) -> Schedule:
        """Create a schedule and return its row."""
        return self.accept(self.creation(name, definition or self.definition(**policy)))

    def change(
        self,
        row: Schedule,
        *tiles: Settlement,
        definition: Definition | None = None,
        cut_at: datetime | None = None,
        action: str = "schedule.edited",
        cancel_older: bool = False,
        cancel_waiting: bool = False,
        requests: Sequence[NewRun] = (),
        **fields: Json,
    ) -> Edit:
        """Return an edit of a row, cut now unless told; other keywords are fields of the row."""
        cut = cut_at or self.now
        boundary = max(row.settled_until, cut)
        wanted = row.definition if definition is None else definition
        after = replace(
            row,
            **{
                "version": row.version + 1,
                "number": row.number + (wanted != row.definition),
                "definition": wanted,
                "settled_until": boundary,
                "next_at": boundary + MINUTE,
                "cut_at": cut,
                **fields,
            },
        )
        return Edit(
            id=self.edit_id(),
            expected_version=row.version,
            after=after,
            cut_at=cut,
            boundary_at=after.settled_until,
            settlements=tiles,
            cancel_older=cancel_older,
            cancel_waiting=cancel_waiting,
            requests=tuple(requests),
            action=action,
            actor="ada",
            reason="because",
        )

    def deletion(self, row: Schedule) -> Edit:
        """Return the edit that leaves a tombstone."""
        return self.change(row, action="schedule.deleted", deleted=True, next_at=None, cancel_waiting=True)

    def rebirth(self, tombstone: Schedule) -> Edit:
        """Return the edit that uses a deleted name again."""
        fields: dict[str, Json] = {
            "deleted": False,
            "incarnation": tombstone.incarnation + 1,
            "number": tombstone.number + 1,
        }
        return self.change(tombstone, action="schedule.created", **fields)

    def put(self, edit: Edit) -> PutAnswer:
        """Put one edit."""
        (answer,) = self.store.put([edit])
        return answer

    def accept(self, edit: Edit) -> Schedule:
        """Put one edit that must be accepted, and return the row."""
        answer = self.put(edit)
        assert answer.answer is Answer.ACCEPTED, answer
        assert answer.schedule is not None
        return answer.schedule

    def row(self, name: str = "a") -> Schedule:
        """Return a schedule as it stands, or its tombstone."""
        ((row, _),) = self.store.owing([name])
        return row

    # --- settling ---

    def new_run(
        self, row: Schedule, at: datetime, state: RunState = RunState.READY, **fields: Json
    ) -> NewRun:
        """Return a run for the occurrence at an instant."""
        identity = run_id(row.name, row.incarnation, occurrence_at=at)
        given: dict[str, Json] = {
            "id": identity,
            "state": state,
            "due_at": at,
            "ready_at": at,
            "occurrence_at": at,
        }
        return NewRun(**(given | fields))

    def fired(
        self,
        row: Schedule,
        at: datetime,
        state: RunState = RunState.READY,
        *,
        after: datetime | None = None,
        count: int = 1,
        **fields: Json,
    ) -> Settlement:
        """Return the tile from the mark (or ``after``) to a fired occurrence; keywords are the run's."""
        run = self.new_run(row, at, state, **fields)
        mark = row.settled_until if after is None else after
        return Settlement(mark_before=mark, mark_after=at, count=count, first_at=at, last_at=at, run=run)

    def skipped(
        self, row: Schedule, at: datetime, *, after: datetime | None = None, count: int = 1
    ) -> Settlement:
        """Return the tile from the mark (or ``after``) to ``at``, skipped as a misfire."""
        mark = row.settled_until if after is None else after
        return Settlement(
            mark_before=mark, mark_after=at, count=count, first_at=at, last_at=at, reason=Reason.MISFIRE
        )

    def folded(self, into: str, at: datetime, *, after: datetime, count: int = 1) -> Settlement:
        """Return the tile from ``after`` to ``at``, folded into a run."""
        return Settlement(
            mark_before=after,
            mark_after=at,
            count=count,
            first_at=at,
            last_at=at,
            into=into,
            reason=Reason.FOLDED,
        )

    def fold(self, first: datetime, last: datetime, count: int) -> Fold:
        """Return what a run stands for."""
        return Fold(first_at=first, last_at=last, count=count)

    def decision(self, row: Schedule, *tiles: Settlement, **fields: Json) -> Decision:
        """Return the decision made of tiles; the next occurrence is a minute after the last one."""
        mark = tiles[-1].mark_after if tiles else row.settled_until
        given: dict[str, Json] = {
            "schedule_id": row.id,
            "version": row.version,
            "settled_until": mark,
            "next_at": mark + MINUTE,
            "settlements": tiles,
        }
        return Decision(**(given | fields))

    def settle(self, *decisions: Decision) -> tuple[bool, ...]:
        """Settle now and return who won; neither early nor held."""
        settled = self.store.settle(self.now, decisions)
        assert settled.early_by is None
        assert not settled.held
        return settled.won

    def fire(self, name: str = "a", state: RunState = RunState.READY, **fields: Json) -> Run:
        """Let a minute pass and fire one occurrence; keywords are the new run's."""
        self.clock.advance(MINUTE)
        row = self.row(name)
        tile = self.fired(row, self.now, state, **fields)
        assert self.settle(self.decision(row, tile)) == (True,)
        assert tile.run is not None
        return self.run(tile.run.id)

    # --- runs ---

    def asked(self, row: Schedule, key: str, state: RunState = RunState.READY, **fields: Json) -> NewRun:
        """Return a run that somebody asked for, due now."""
        identity = run_id(row.name, row.incarnation, key=key)
        given: dict[str, Json] = {
            "id": identity,
            "state": state,
            "due_at": self.now,
            "ready_at": self.now,
            "key": key,
        }
        return NewRun(**(given | fields))

    def request(self, name: str, key: str, state: RunState = RunState.READY, **fields: Json) -> Run:
        """Ask for one run of a schedule, and return it."""
        row = self.row(name)
        wanted = Request(
            schedule_id=row.id, expected_version=row.version, run=self.asked(row, key, state, **fields)
        )
        assert self.store.request([wanted]) == [Answer.ACCEPTED]
        return self.run(wanted.run.id)

    def wish(self, **fields: Json) -> Claim:
        """Return a claim for anything of the default queue and target, an hour long."""
        given: dict[str, Json] = {
            "holder": "node-1",
            "queues": ("default",),
            "targets": (TARGET.key,),
            "limit": 100,
            "until": self.now + HOUR,
        }
        return Claim(**(given | fields))

    def claim(self, **fields: Json) -> list[Claimed]:
        """Claim as ``wish`` says."""
        return self.store.claim(self.wish(**fields))

    def running(self, name: str = "a", **fields: Json) -> Run:
        """Fire one occurrence of a schedule, claim everything, and return that run."""
        run = self.fire(name)
        assert run.id in [claimed.run.id for claimed in self.claim(**fields)]
        return self.run(run.id)

    def advance(self, step: AnyTransition) -> Advanced:
        """Make one transition."""
        (answer,) = self.store.advance([step])
        return answer

    def finish(self, run: Run, state: RunState = RunState.SUCCEEDED) -> Advanced:
        """End a running run, under its token."""
        outcome = Outcome(state.value)
        return self.advance(
            Finish(run_id=run.id, token=run.token, outcome=outcome, verdict=Done(state=state))
        )

    def run(self, run: str | Run) -> Run:
        """Return a run as it stands."""
        found = self.store.run(run if isinstance(run, str) else run.id)
        assert found is not None
        return found

    def states(self, name: str | None = None) -> dict[str, RunState]:
        """Return the state of each run."""
        runs = self.store.runs(RunQuery(schedule=name, limit=EVERYTHING))
        return {run.id: run.state for run in runs}

    # --- the rest ---

    def events(self, *kinds: str, after: int = 0) -> list[Event]:
        """Return events of these kinds (none: of all), oldest first."""
        return self.store.events(EventQuery(after=after, kinds=kinds or None, limit=EVERYTHING))

    def node(self, identity: str = "node-1", **fields: Json) -> Node:
        """Return a node that is alive for a minute."""
        given: dict[str, Json] = {
            "id": identity,
            "host": "host",
            "pid": 1,
            "roles": ("worker",),
            "queues": ("default",),
            "targets": (TARGET.key,),
            "version": "1.0",
            "tz_version": "2026.1",
            "started_at": self.now,
            "seen_at": self.now,
            "alive_until": self.now + MINUTE,
        }
        return Node(**(given | fields))

    def picture(self) -> tuple[object, ...]:
        """Return all that the ledger says: two equal pictures mean that nothing changed in between."""
        rows = self.store.schedules(ScheduleQuery(deleted=True, limit=EVERYTHING))
        rows = [row for row, _ in self.store.owing([row.name for row in rows])]
        runs = self.store.runs(RunQuery(limit=EVERYTHING))
        trails = [self.store.trail(row.id) for row in rows]
        logs = [self.store.log(run.id) for run in runs]
        entries = [self.store.entries(EVERYTHING, waiting=waiting) for waiting in (True, False)]
        return rows, runs, self.events(), trails, logs, self.store.held(), self.store.nodes(), entries


def one(items: Sequence[T]) -> T:
    """Return the only item."""
    (item,) = items
    return item


__all__ = [
    "DAY",
    "EVERYTHING",
    "HOUR",
    "MICROSECOND",
    "MINUTE",
    "SECOND",
    "TARGET",
    "Book",
    "Overlap",
    "Stage",
    "one",
]
