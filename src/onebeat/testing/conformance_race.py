"""The suite on concurrency: sixteen real processes from one barrier, over more than ten thousand rows.

Every actor says what it was told that it won; those tales are added up here and compared with the rows. A
store that cannot be shared by processes is played by threads, and a test asserts that it refuses to travel.
"""

import multiprocessing
import pickle
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from onebeat.core.messages import Answer, AnyTransition, Done, Finish, Lost, Renew, Retry, RunQuery, Start
from onebeat.core.model import EPOCH, NewRun, Outcome, Overlap, Owing, Run, RunState, Schedule, Target
from onebeat.core.ports import Clock, Store
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import EVERYTHING, HOUR, MINUTE, SECOND, TARGET, Book, Stage

ACTORS = 16
SETTLED, ROUNDS = 1000, 10  # schedules, and the occurrences that each of them owes
FEW = 100
NAMES = [f"born-{number:02}" for number in range(20)]
CONTESTED = 400
QUEUED, TURNS = 4, 15
EDITS = 12
BATCH = 100
IDLE_MAX = 20_000  # turns in which nobody gets anywhere: somebody is stranded
PATIENCE_S = 100.0

Token = tuple[str, int]
Opener = Callable[[Clock], Store]


class Barrier(Protocol):
    """What threading and multiprocessing both offer."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for all the others."""


@dataclass
class Play:
    """What every actor knows before it begins."""

    at: datetime
    finishing: list[Token] = field(default_factory=list)
    losing: list[Token] = field(default_factory=list)


@dataclass
class Tale:
    """What one actor was told."""

    actor: int
    created: Counter[tuple[str, str]] = field(default_factory=Counter)  # (name, answer)
    edited: Counter[str] = field(default_factory=Counter)
    settled: list[str] = field(default_factory=list)  # ids of the runs that it was told it fired
    claimed: list[Token] = field(default_factory=list)
    sending: list[str] = field(default_factory=list)  # runs that it was told to send, or had leased to it
    finished: int = 0  # of its own claims
    started_twice: Counter[str] = field(default_factory=Counter)
    ended: dict[str, tuple[str, str]] = field(default_factory=dict)  # contested run -> (answer, outcome)
    taken: list[str] = field(default_factory=list)  # runs whose loss was accepted
    renewed: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)
    crowded: int = 0  # times that it saw more live runs than the limit
    error: str = ""


# --- the actors -------------------------------------------------------------------------------------


def act(tale: Tale, store: Store, play: Play, barrier: Barrier) -> None:
    """Play all scenes, each from the barrier."""
    book = Book(store, VirtualClock(play.at))
    for scene in (_create, _edit, _settle, _claim, _send, _finish, _lose, _queue):
        barrier.wait(PATIENCE_S)
        scene(tale, book, play)


def _turned(items: list[Any], actor: int) -> list[Any]:
    """Return the items in an order of the actor's own, so that no two lock them in the same one."""
    turn = len(items) * actor // ACTORS
    turned = items[turn:] + items[:turn]
    return turned if actor % 2 else turned[::-1]


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for begin in range(0, len(items), BATCH):
        yield items[begin : begin + BATCH]


def _create(tale: Tale, book: Book, play: Play) -> None:
    for name in _turned(NAMES, tale.actor):
        edit = replace(book.creation(name), id=f"create-{name}-{tale.actor}")
        tale.created[name, book.put(edit).answer.value] += 1


def _edit(tale: Tale, book: Book, play: Play) -> None:
    for number in range(EDITS):
        edit = replace(book.change(book.row("counter")), id=f"edit-{tale.actor}-{number}")
        tale.edited[book.put(edit).answer.value] += 1


def _fired(book: Book, owing: Owing, at: datetime, state: RunState, last: datetime) -> Any:
    """Return the decision that fires one occurrence; after ``last`` no more will come."""
    row = Schedule(
        id=owing.id,
        name=owing.name,
        version=owing.version,
        definition=book.definition(),
        settled_until=owing.settled_until,
        cut_at=EPOCH,
        created_at=EPOCH,
    )
    following = None if at >= last else at + MINUTE
    return book.decision(row, book.fired(row, at, state), next_at=following)


def _settle(tale: Tale, book: Book, play: Play) -> None:
    while rows := [row for row in book.store.due(play.at, BATCH).rows if row.name.startswith("settle-")]:
        decisions = [
            _fired(book, owing, owing.settled_until + MINUTE, RunState.READY, NOON + ROUNDS * MINUTE)
            for owing in _turned(rows, tale.actor)
        ]
        for decision, won in zip(decisions, book.settle(*decisions), strict=True):
            if won:
                tale.settled += [tile.run.id for tile in decision.settlements]


def _claim(tale: Tale, book: Book, play: Play) -> None:
    while claimed := book.claim(holder=f"actor-{tale.actor}", limit=BATCH):
        tale.claimed += [(each.run.id, each.run.token) for each in claimed]
        book.store.advance([Start(run_id=each.run.id, token=each.run.token) for each in claimed])
        ends = [_end(each.run.id, each.run.token, Outcome.SUCCEEDED) for each in claimed]
        tale.finished += [told.answer for told in book.store.advance(ends)].count(Answer.ACCEPTED)


def _send(tale: Tale, book: Book, play: Play) -> None:
    """Every other actor claims to send, and the rest to run: a run is for one of them all."""
    holder, sends = f"actor-{tale.actor}", tale.actor % 2 == 0
    while claimed := book.claim(queues=("sending",), holder=holder, limit=BATCH // 10, sends=sends):
        tale.sending += [each.run.id for each in claimed]


def _end(run_id: str, token: int, outcome: Outcome) -> Finish:
    verdict = Done(state=RunState(outcome.value))
    return Finish(run_id=run_id, token=token, outcome=outcome, verdict=verdict)


def _finish(tale: Tale, book: Book, play: Play) -> None:
    outcome = Outcome.SUCCEEDED if tale.actor % 2 else Outcome.FAILED
    for batch in _batches(_turned(play.finishing, tale.actor)):
        starts = book.store.advance([Start(run_id=run_id, token=token) for run_id, token in batch])
        tale.started_twice.update(told.answer.value for told in starts)
        told = book.store.advance([_end(run_id, token, outcome) for run_id, token in batch])
        for (run_id, _), each in zip(batch, told, strict=True):
            tale.ended[run_id] = (each.answer.value, outcome.value)


def _lose(tale: Tale, book: Book, play: Play) -> None:
    for batch in _batches(_turned(play.losing, tale.actor)):
        steps: list[AnyTransition] = [
            Renew(run_id=run_id, token=token, until=play.at + HOUR)
            if tale.actor % 2
            else Lost(run_id=run_id, token=token, verdict=Retry(at=play.at + HOUR))
            for run_id, token in batch
        ]
        won = tale.renewed if tale.actor % 2 else tale.taken
        for step, told in zip(steps, book.store.advance(steps), strict=True):
            if told.answer is Answer.ACCEPTED:
                won.append(step.run_id)


def _queue(tale: Tale, book: Book, play: Play) -> None:
    """Dispatch and work in one loop, on schedules with one slot, until nothing is owed and nothing waits."""
    names = [f"queue-{number}" for number in range(QUEUED)]
    for _ in range(IDLE_MAX):
        rows = book.store.owing(names)
        tale.crowded += sum(load.live > 1 for _, load in rows)
        if all(row.next_at is None and load.live + load.waiting == 0 for row, load in rows):
            return
        decisions = []
        for owing in _turned(list(book.store.due(play.at, BATCH).rows), tale.actor):
            state = RunState.WAITING if owing.load.live + owing.load.waiting else RunState.READY
            decisions.append(_fired(book, owing, owing.settled_until + MINUTE, state, play.at))
        for decision, won in zip(decisions, book.settle(*decisions), strict=True):
            tale.queued += [tile.run.id for tile in decision.settlements if won]
        for each in book.claim(queues=("queue",), holder=f"actor-{tale.actor}", limit=1):
            book.finish(each.run)


def _in_a_process(actor: int, opener: Opener, play: Play, barrier: Barrier, to: Connection) -> None:
    tale = Tale(actor)
    store: Store | None = None
    try:
        store = opener(VirtualClock(play.at))
        act(tale, store, play, barrier)
    except BaseException:  # noqa: BLE001 - the tale must be told, whatever ended it
        tale.error = traceback.format_exc()
    finally:
        to.send(tale)
        if store is not None:
            store.close()


def _in_a_thread(tale: Tale, store: Store, play: Play, barrier: Barrier) -> None:
    try:
        act(tale, store, play, barrier)
    except BaseException:  # noqa: BLE001 - the tale must be told, whatever ended it
        tale.error = traceback.format_exc()


# --- the race and its witnesses ---------------------------------------------------------------------


@dataclass
class Race:
    """A race that is over: the store, and what each actor was told."""

    store: Store
    play: Play
    tales: list[Tale]

    def runs(self, prefix: str) -> list[Run]:
        """Return all runs of a group of schedules."""
        runs = self.store.runs(RunQuery(limit=EVERYTHING))
        return [run for run in runs if run.schedule.startswith(prefix)]


def _prepared(book: Book, settled: int = SETTLED) -> Play:
    """Write what the scenes need, and let the time come at which all of it is owed."""
    many = [
        book.creation(f"settle-{number:04}", book.definition(overlap=Overlap.ALLOW))
        for number in range(settled)
    ]
    assert {answer.answer for answer in book.store.put(many)} == {Answer.ACCEPTED}
    # The counter is edited and never due.
    book.accept(book.change(book.create("counter"), paused="", next_at=None))
    for queue in ("finishing", "losing", "sending"):
        target = Target(kind=TARGET.kind, address=TARGET.address, queue=queue)
        edit = book.creation(queue, book.definition(target=target, overlap=Overlap.ALLOW))
        asked: list[NewRun] = [book.asked(edit.after, f"k{number:04}") for number in range(CONTESTED)]
        book.accept(replace(edit, after=replace(edit.after, next_at=None), requests=tuple(asked)))
    target = Target(kind=TARGET.kind, address=TARGET.address, queue="queue")
    one_slot = book.definition(target=target, overlap=Overlap.QUEUE_ALL, max_running=1)
    start = book.now
    book.clock.set(start + max(ROUNDS, TURNS) * MINUTE)
    for number in range(QUEUED):
        edit = book.creation(f"queue-{number}", one_slot)
        begun = replace(edit.after, settled_until=book.now - TURNS * MINUTE, next_at=book.now)
        book.accept(replace(edit, after=begun, boundary_at=begun.settled_until))
    finishing = book.claim(queues=("finishing",), limit=EVERYTHING)
    losing = book.claim(queues=("losing",), limit=EVERYTHING, until=book.now - SECOND)
    return Play(
        at=book.now,
        finishing=[(each.run.id, each.run.token) for each in finishing],
        losing=[(each.run.id, each.run.token) for each in losing],
    )


def _with_processes(opener: Opener, play: Play) -> list[Tale]:
    # Forked from a process that has only imported: sixteen fresh ones would spend the race on importing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, getattr(opener, "func", opener).__module__])
    barrier = context.Barrier(ACTORS)
    actors, ends = [], []
    for number in range(ACTORS):
        here, there = context.Pipe(duplex=False)
        actor = context.Process(
            target=_in_a_process, args=(number, opener, play, barrier, there), daemon=True
        )
        actor.start()
        there.close()
        actors.append(actor)
        ends.append(here)
    tales = []
    try:
        for end in ends:
            assert end.poll(PATIENCE_S), "an actor told nothing for too long"
            tales.append(end.recv())
    finally:
        for actor in actors:
            actor.join(PATIENCE_S if len(tales) == ACTORS else 0)
            if actor.is_alive():
                actor.kill()
    return tales


def _with_threads(store: Store, play: Play) -> list[Tale]:
    barrier = threading.Barrier(ACTORS)
    tales = [Tale(number) for number in range(ACTORS)]
    actors = [
        threading.Thread(target=_in_a_thread, args=(tale, store, play, barrier), daemon=True)
        for tale in tales
    ]
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join(PATIENCE_S)
        assert not actor.is_alive(), "an actor did not come to an end"
    return tales


class RaceSuite(Stage):
    """Sixteen actors, one store."""

    @pytest.fixture(scope="class")
    @classmethod
    def race(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Race]:
        """Give a race that is over. It is run once, and looked at from many sides."""
        stage = cls()
        place: Path = tmp_path_factory.mktemp("race")
        clock = VirtualClock(NOON)
        store = stage.make_store(clock, place)
        play = _prepared(Book(store, clock))
        by_processes = stage.processes
        tales = _with_processes(stage.opener(place), play) if by_processes else _with_threads(store, play)
        # What an actor was told is short where it met an error: the witnesses below would not say why.
        assert [tale.error for tale in tales if tale.error] == []
        yield Race(store, play, tales)
        store.close()

    def test_a_store_travels_to_other_processes_or_refuses_to(self, store: Store, tmp_path: Path) -> None:
        if self.processes:
            assert pickle.dumps(self.opener(tmp_path))
        else:
            with pytest.raises(TypeError, match="process"):
                pickle.dumps(store)

    def test_race_nobody_meets_an_error(self, race: Race) -> None:
        assert [tale.error for tale in race.tales if tale.error] == []
        assert len(race.tales) == ACTORS

    def test_race_of_sixteen_creators_one_makes_the_row_and_fifteen_are_told_so(self, race: Race) -> None:
        told = sum((tale.created for tale in race.tales), Counter())

        assert told == Counter(
            {(name, "accepted"): 1 for name in NAMES} | {(name, "stale"): ACTORS - 1 for name in NAMES}
        )
        assert len({row.id for row, _ in race.store.owing(NAMES)}) == len(NAMES)

    def test_race_no_edit_that_was_accepted_is_lost(self, race: Race) -> None:
        ((row, _),) = race.store.owing(["counter"])
        told = sum((tale.edited for tale in race.tales), Counter())

        assert told["accepted"] + told["stale"] == ACTORS * EDITS
        assert row.version == 2 + told["accepted"]
        assert len(race.store.trail(row.id)) == row.version

    def test_race_every_occurrence_is_settled_once_and_its_winner_knows(self, race: Race) -> None:
        runs = race.runs("settle-")
        told = [run for tale in race.tales for run in tale.settled]

        assert len(runs) == SETTLED * ROUNDS
        assert sorted(told) == sorted(run.id for run in runs)
        rows = race.store.owing([f"settle-{number:04}" for number in range(SETTLED)])
        assert {row.version for row, _ in rows} == {1 + ROUNDS}
        assert {row.settled_until for row, _ in rows} == {NOON + ROUNDS * MINUTE}
        assert max(Counter(run.occurrence_at for run in runs).values()) == SETTLED

    def test_race_more_than_one_actor_wins(self, race: Race) -> None:
        # Otherwise the race was a walk, and the tests beside this one have shown nothing.
        assert sum(bool(tale.settled) for tale in race.tales) > 1
        assert sum(bool(tale.claimed) for tale in race.tales) > 1

    def test_race_every_run_is_leased_to_one_holder_under_a_token_of_its_own(self, race: Race) -> None:
        told = [token for tale in race.tales for token in tale.claimed]
        holders = {run: f"actor-{tale.actor}" for tale in race.tales for run, _ in tale.claimed}

        runs = race.runs("settle-")
        assert sorted(run for run, _ in told) == sorted(run.id for run in runs)
        assert len({token for _, token in told}) == len(runs)
        assert sum(tale.finished for tale in race.tales) == len(runs)
        assert all(run.holder == holders[run.id] for run in runs)
        assert {(run.state, run.attempt) for run in runs} == {(RunState.SUCCEEDED, 1)}

    def test_race_a_run_is_sent_by_one_or_leased_to_one(self, race: Race) -> None:
        told = {run: tale.actor for tale in race.tales for run in tale.sending}

        runs = race.runs("sending")
        assert sorted(run for tale in race.tales for run in tale.sending) == sorted(run.id for run in runs)
        for run in runs:
            sends = told[run.id] % 2 == 0
            state, holder = (RunState.SENT, None) if sends else (RunState.RUNNING, f"actor-{told[run.id]}")
            assert (run.state, run.holder) == (state, holder)

    def test_race_of_sixteen_finishes_one_is_accepted_and_the_row_tells_which(self, race: Race) -> None:
        runs = {run.id: run for run in race.runs("finishing")}
        assert len(runs) == CONTESTED
        for run_id, run in runs.items():
            told = [tale.ended[run_id] for tale in race.tales]
            outcome = run.outcome.value if run.outcome is not None else ""
            assert told.count(("accepted", outcome)) == 1
            assert told.count(("repeated", outcome)) == ACTORS // 2 - 1
            assert sum(answer == "refused" for answer, _ in told) == ACTORS // 2

        starts = sum((tale.started_twice for tale in race.tales), Counter())
        assert starts["accepted"] == CONTESTED

    def test_race_a_lease_is_either_taken_once_or_renewed_and_never_both(self, race: Race) -> None:
        taken = Counter(run for tale in race.tales for run in tale.taken)
        renewed = {run for tale in race.tales for run in tale.renewed}
        states = {run.id: run.state for run in race.runs("losing")}

        assert len(states) == CONTESTED
        assert set(taken.values()) <= {1}
        assert not taken.keys() & renewed
        assert taken.keys() | renewed == states.keys()
        assert {run for run, state in states.items() if state is RunState.READY} == set(taken)

    def test_race_threads_may_share_one_store(self, store: Store, clock: VirtualClock) -> None:
        # A node is one process: its dispatcher and its worker call one store from threads of their own.
        play = _prepared(Book(store, clock), FEW)

        race = Race(store, play, _with_threads(store, play))

        assert [tale.error for tale in race.tales if tale.error] == []
        runs = sorted(run.id for run in race.runs("settle-"))
        assert len(runs) == FEW * ROUNDS
        assert sorted(run for tale in race.tales for run in tale.settled) == runs
        assert sorted(run for tale in race.tales for run, _ in tale.claimed) == runs
        queued = race.runs("queue-")
        assert {run.state for run in (*queued, *race.runs("settle-"))} == {RunState.SUCCEEDED}
        assert len(queued) == QUEUED * TURNS
        assert sum(tale.crowded for tale in race.tales) == 0

    def test_race_the_limit_holds_and_nobody_is_stranded_in_a_queue(self, race: Race) -> None:
        runs = race.runs("queue-")
        told = [run for tale in race.tales for run in tale.queued]

        assert sum(tale.crowded for tale in race.tales) == 0
        assert sorted(told) == sorted(run.id for run in runs)
        assert len(runs) == QUEUED * TURNS
        assert {run.state for run in runs} == {RunState.SUCCEEDED}
