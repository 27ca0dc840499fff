"""SIGKILL, real, at each verb of the ledger: before, inside and after its transaction. A survivor goes on.

The verbs come from the port, so a new one is killed from its first day. Whatever the moment, the ledger is
whole, what was acknowledged is there, and every occurrence is settled once.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from tests.engine.doomed import BEGIN, LEASE, SECOND, Death, Outside, engine, live, prepare

from onebeat.core.messages import EventQuery, RunQuery, ScheduleQuery
from onebeat.core.model import UNFINISHED, OnLost, Outcome
from onebeat.core.ports import Store
from onebeat.store.open import open_store
from onebeat.testing.checkers import Watch
from onebeat.testing.clock import VirtualClock
from onebeat.testing.evidence import Effect
from onebeat.testing.faults import LEDGER_VERBS
from onebeat.testing.sums import expected

WITHOUT_A_TRANSACTION = {"now", "wait", "wake", "close"}
STEPS = {"advance": ("Start", "Finish", "Lost", "Cancel")}
DEATHS = [
    Death(verb, step, moment)
    for verb in LEDGER_VERBS
    if verb not in WITHOUT_A_TRANSACTION
    for step in STEPS.get(verb, ("",))
    for moment in ("before", "inside", "after")
]

STATEMENTS = [
    Death(verb, step, "inside", number)
    for verb, step in (("settle", ""), ("claim", ""), ("advance", "Start"), ("advance", "Finish"))
    for number in (3, 8, 13, 18)
]
"""Between statements of the four transactions that make up a run's life, early and late in them."""

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.engine.doomed"])


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory, where there is one: a process dies here and not the machine."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "onebeat.db"
    clock = VirtualClock()
    store = open_store(f"sqlite:///{path}", clock)
    prepare(store, clock)
    store.close()
    return path


def test_every_verb_of_the_port_is_there() -> None:
    assert {death.verb for death in DEATHS} == set(LEDGER_VERBS) - WITHOUT_A_TRANSACTION
    assert len(DEATHS) == len(set(DEATHS)) >= 50


@pytest.mark.slow
def test_a_process_that_nobody_kills_lives_through_all_of_it(prepared: Path, place: Path) -> None:
    path, outside = place / "onebeat.db", place / "outside"
    shutil.copy(prepared, path)

    process = context.Process(target=live, args=(str(path), str(outside), None))
    process.start()
    process.join(60)

    assert process.exitcode == 0
    assert {line.split()[0] for line in outside.read_text().splitlines()} == {
        "effect",
        "edit",
        "request",
        "cancel",
    }


@pytest.mark.slow
@pytest.mark.parametrize("death", [*DEATHS, *STATEMENTS], ids=lambda d: "-".join(str(p) for p in d if p))
def test_a_killed_process_loses_nothing_and_repeats_nothing(
    death: Death, prepared: Path, place: Path
) -> None:
    path, outside = place / "onebeat.db", place / "outside"
    shutil.copy(prepared, path)

    victim = context.Process(target=live, args=(str(path), str(outside), death))
    victim.start()
    victim.join(60)

    assert victim.exitcode == -signal.SIGKILL or (death.statement > 3 and victim.exitcode == 0)
    clock = VirtualClock(BEGIN + 2 * LEASE)
    store = open_store(f"sqlite:///{path}", clock)
    survive(store, clock, outside)
    assert_whole(store, clock.now(), outside.read_text().splitlines())
    store.close()


def survive(store: Store, clock: VirtualClock, outside: Path) -> None:
    """Be the node that is left, until nothing is under way."""
    dispatcher, worker = engine(store, clock, "survivor", Outside(outside))
    if store.held() is not None:
        store.hold(None, "released by the survivor")
    for _ in range(6):
        dispatcher.step()
        worker.step()
        clock.advance(3 * SECOND)
    dispatcher.step()
    for _ in range(10):  # a queue goes on as its slot is freed
        worker.step()


def assert_whole(store: Store, now: datetime, lines: list[str]) -> None:
    """Hold the ledger against the outside file, and against sums that share no code with it."""
    said = [line.split() for line in lines]
    watch = Watch(complete=False)
    bodies = Counter(words[1] for words in said if words[0] == "effect")
    for _, run_id, token, attempt, schedule, occurrence in (words for words in said if words[0] == "effect"):
        at = datetime.fromisoformat(occurrence)
        watch.began(Effect(run_id, int(token), int(attempt), schedule, at, "", now))
    watch.look(store)
    watch.rest(store)

    rows = {row.name: row for row in store.schedules(ScheduleQuery(deleted=True))}
    trail = {change.edit_id for row in rows.values() for change in store.trail(row.id)}
    runs = {run.id: run for run in store.runs(RunQuery(limit=10_000))}
    lost = Counter(event.run_id for event in store.events(EventQuery(kinds=("attempt.lost",), limit=10_000)))
    failed = {run.id for run in runs.values() if run.outcome is Outcome.LOST}
    assert not [run.id for run in runs.values() if run.state in UNFINISHED]
    assert [entry.answer is None for entry in store.entries(10, waiting=False)] == [False]
    for row in rows.values():
        if not row.deleted:
            assert expected(row.definition.trigger, row.settled_until, now) == []
    for words in said:  # what was acknowledged is there
        if words[0] == "edit":
            assert words[2] in trail
        elif words[0] == "request":
            assert words[1] in runs
        elif words[0] == "cancel":
            assert runs[words[1]].state == "cancelled"
    for run_id, count in bodies.items():  # a body begins again only where an attempt was lost
        assert count <= 1 + lost[run_id]
        if run_id in runs and rows[runs[run_id].schedule].definition.policy.on_lost is OnLost.FAIL:
            assert count == 1
        if run_id in failed:
            assert count == 1
