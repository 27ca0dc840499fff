"""Rows 18, 19, 24, 56, 57, 58 and 59: who has a run, how one keeps it, and how one loses it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import pytest
from tests.seed.cluster import HOUR, MINUTE, SECOND, T0, Cluster, Play, every, ledger_at

from onebeat import CurrentRun, Onebeat
from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Claim,
    Done,
    Finish,
    LogLine,
    Note,
    Release,
    Renew,
    Start,
)
from onebeat.core.model import Outcome, Run, RunState
from onebeat.core.ports import LEASE
from onebeat.engine.dispatcher import OVERTAKEN_EVERY
from onebeat.engine.executors.python import PythonExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import POLL, Worker
from onebeat.testing.faults import Moment

pytestmark = pytest.mark.slow

PATIENCE = 60


def due_now(cluster: Cluster, name: str = "a", **policy: Any) -> None:
    """Have one occurrence due in a minute from now, and let that minute pass."""
    cluster.put(name, every(HOUR, cluster.now + MINUTE), **policy)
    cluster.clock.advance(MINUTE)


# --- 18: clocks that differ, nodes that stand still -------------------------------------------------

STANDSTILLS = [
    ("due", True, 1),  # it has read what is due, and decides later
    ("settle", True, 1),
    ("claim", True, 1),  # it has the run, and nobody knows whether the body began
    ("advance", False, 1),
    ("advance", True, 1),  # its Start was taken, and the body has not begun
    ("advance", False, 2),  # it is about to renew
]


@pytest.mark.parametrize(("verb", "after", "call"), STANDSTILLS)
@pytest.mark.parametrize("skew", [-5, 5])
def test_seed_18_a_node_that_stands_still_for_a_minute_changes_nothing_when_it_wakes(
    cluster: Cluster, verb: str, after: bool, call: int, skew: int
) -> None:
    slow = cluster.node(skew=skew * SECOND)
    cluster.plays["body"] = Play(lasts=40 * SECOND)  # so that the other's body is under way when it wakes
    due_now(cluster)

    def stand_still(moment: Moment) -> None:
        if moment == Moment(verb, after, call):
            slow.hooks.clear()
            slow.paused_until = cluster.now + MINUTE
            cluster.node(skew=-skew * SECOND)
            cluster.run(MINUTE - SECOND)  # the others go on meanwhile
            cluster.clock.advance(SECOND)

    slow.hooks.append(stand_still)
    cluster.run(3 * MINUTE, every=SECOND)

    (run,) = cluster.runs()
    assert (run.state, run.occurrence_at, run.holder) == (RunState.SUCCEEDED, T0 + MINUTE, "n2")
    begun_by = [(effect.node, effect.attempt) for effect in cluster.effects]
    refused = cluster.events("attempt.refused")
    if (verb, call) == ("advance", 2):
        # The body had begun before: the same run id, a larger token, and its own result is refused.
        assert sorted(begun_by) == [("n1", 1), ("n2", 2)]
        assert max(effect.token for effect in cluster.effects) == run.token
    else:
        assert [node for node, _ in begun_by] == ["n2"]
    # It says so where its Start had been taken, also if it woke too late to begin the body.
    started = (verb, call) == ("advance", 2) or (verb, after) == ("advance", True)
    assert [(event.actor, event.data["attempt"]) for event in refused] == [("n1", 1)] * started
    assert cluster.beat.audit().right


# --- 19, 58: a heartbeat, not a time limit ----------------------------------------------------------


def test_seed_19_a_ten_minute_run_at_a_two_minute_period_is_never_taken_for_lost(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.node()
    cluster.plays["body"] = Play(lasts=10 * MINUTE - 5 * SECOND)
    cluster.put("a", every(2 * MINUTE))
    cluster.run(13 * MINUTE, every=5 * SECOND)

    assert cluster.began() == [T0 + 2 * MINUTE, T0 + 12 * MINUTE]
    assert [effect.attempt for effect in cluster.effects] == [1, 1]
    assert cluster.events("attempt.lost") == []
    assert cluster.skipped() == {"overlap": 4}
    assert cluster.beat.audit().right


def test_seed_58_a_run_of_a_hundred_leases_keeps_its_claim_and_loses_it_only_by_silence(
    cluster: Cluster,
) -> None:
    holder = cluster.node(lease=30 * SECOND)
    cluster.plays["body"] = Play(lasts=2 * HOUR)
    due_now(cluster)
    cluster.run(SECOND)
    other = cluster.node()
    cluster.run(100 * LEASE, every=LEASE / 2)
    kept = cluster.the_run()
    silent_at = cluster.now
    holder.paused_until = cluster.now + 2 * HOUR
    cluster.run(MINUTE, every=SECOND)

    assert (kept.holder, kept.attempt) == (holder.name, 1)
    (lost,) = cluster.events("attempt.lost")
    assert timedelta(0) < lost.at - silent_at <= LEASE + OVERTAKEN_EVERY + POLL
    taken = cluster.the_run()
    assert (taken.holder, taken.attempt) == (other.name, 2)
    assert taken.token > kept.token


# --- 56, 59: taking over ----------------------------------------------------------------------------


@pytest.mark.parametrize("hints", [True, False])
@pytest.mark.parametrize("started", [True, False])
def test_seed_56_a_dead_holders_run_is_taken_over_within_its_lease_and_a_bound(
    cluster: Cluster, *, started: bool, hints: bool
) -> None:
    dying = cluster.node()
    cluster.plays["body"] = Play(lasts=3 * SECOND)
    dying.die_at("advance", after=started)  # the first one starts what it claimed
    due_now(cluster)
    dying.step()
    died_at = cluster.now
    other = cluster.node()
    cluster.run(LEASE - SECOND, hints=hints)
    before_it_lapsed = cluster.the_run()
    cluster.run(10 * SECOND, hints=hints)

    assert not dying.alive
    assert (before_it_lapsed.holder, before_it_lapsed.attempt) == (dying.name, 1)
    last = cluster.effects[-1]
    assert (last.node, last.attempt) == (other.name, 2)
    assert LEASE <= last.began_at - died_at <= LEASE + OVERTAKEN_EVERY + POLL
    assert cluster.the_run().state is RunState.SUCCEEDED


def test_seed_59_taking_over_records_the_previous_owner_and_the_attempt(cluster: Cluster) -> None:
    dying = cluster.node()
    cluster.plays["body"] = Play(lasts=3 * SECOND)
    due_now(cluster)
    dying.step()
    before = cluster.the_run()
    dying.crash()
    other = cluster.node()
    cluster.run(MINUTE)

    (lost,) = cluster.events("attempt.lost")
    told = (lost.run_id, lost.actor, lost.data["holder"], lost.data["attempt"], lost.data["token"])
    assert told == (before.id, other.name, dying.name, 1, before.token)
    assert lost.data["started_at"] == "2026-11-21T12:01:00Z"
    assert dying.name in lost.data["error"]
    after = cluster.the_run()
    assert (after.holder, after.attempt, after.state) == (other.name, 2, RunState.SUCCEEDED)
    assert other.metrics.value("onebeat_takeovers_total") == 1


# --- 57: fencing ------------------------------------------------------------------------------------


def claimed(cluster: Cluster, holder: str, target: str = "seed:body") -> Run:
    claim = Claim(
        holder=holder,
        queues=("default",),
        targets=(target,),
        limit=1,
        until=cluster.now + LEASE,
    )
    (got,) = cluster.store.claim(claim)
    return got.run


def finish(run: Run) -> Finish:
    verdict = Done(state=RunState.SUCCEEDED)
    return Finish(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=verdict, result="stale")


STALE = {
    "start": lambda run: Start(run_id=run.id, token=run.token),
    "extend": lambda run: Renew(run_id=run.id, token=run.token, until=T0 + HOUR),
    "finish": finish,
    "release": lambda run: Release(run_id=run.id, token=run.token),
}


@pytest.fixture
def overtaken(cluster: Cluster) -> Run:
    """A run as its first holder knows it, after a second one has claimed and started it."""
    dispatcher = cluster.node(roles=("dispatcher",))
    due_now(cluster)
    dispatcher.step()
    first = claimed(cluster, "first")
    cluster.clock.advance(LEASE)
    cluster.run(2 * SECOND)
    second = claimed(cluster, "second")
    cluster.store.advance([Start(run_id=second.id, token=second.token)])
    assert second.id == first.id
    assert second.token > first.token
    return first


@pytest.mark.parametrize("what", STALE)
def test_seed_57_whatever_a_stale_holder_says_is_refused_and_changes_nothing(
    cluster: Cluster, overtaken: Run, what: str
) -> None:
    before = cluster.the_run()
    step: AnyTransition = STALE[what](overtaken)

    (answer,) = cluster.store.advance([step])

    assert answer.answer is Answer.REFUSED
    assert cluster.the_run() == before


def test_seed_57_a_stale_holders_lines_and_progress_are_not_kept(cluster: Cluster, overtaken: Run) -> None:
    line = LogLine(at=cluster.now, attempt=1, level="info", text="I still believe it is mine")
    note = Note(run_id=overtaken.id, token=overtaken.token, progress=(9, 10), lines=(line,))

    assert cluster.store.note([note]) == [False]
    assert cluster.store.log(overtaken.id) == []
    assert cluster.the_run().progress is None


def test_seed_57_tokens_grow_over_runs_schedules_and_processes(cluster: Cluster) -> None:
    cluster.put("a", every(SECOND), overlap="allow")
    cluster.put("b", every(SECOND), overlap="allow")
    tokens = []
    for _ in range(10):
        cluster.node()
        cluster.run(SECOND)
        cluster.nodes[-1].crash()
    tokens = [effect.token for effect in cluster.effects]
    clock_back = cluster.now - MINUTE
    cluster.clock.set(clock_back)  # a clock set back must not make an old token valid again
    cluster.beat.runs.request("a", key="late")
    cluster.node()
    cluster.run(SECOND)
    tokens.append(cluster.effects[-1].token)

    assert len(tokens) == 21
    assert tokens == sorted(set(tokens))


# --- 24: what a body may ask ------------------------------------------------------------------------


class Asked:
    """A body on a thread of its own that answers questions until it is told to go."""

    def __init__(self) -> None:
        self._questions: SimpleQueue[str] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()

    def answer(self, run: CurrentRun) -> str:
        self._answers.put(run.id)
        for question in iter(self._questions.get, "go"):
            answer = getattr(run, question)
            self._answers.put(answer() if callable(answer) else answer)
        return "done"

    def __call__(self, question: str) -> Any:
        self._questions.put(question)
        return None if question == "go" else self.next()

    def next(self) -> Any:
        return self._answers.get(timeout=PATIENCE)


playing: list[Asked] = []


def asked_body(run: CurrentRun) -> str:
    return playing[-1].answer(run)


@pytest.fixture
def threaded(cluster: Cluster) -> Iterator[tuple[Worker, PythonExecutor, Asked]]:
    """A worker whose bodies run on real threads, with one run of a schedule of 5 s timeout under way."""
    asked = Asked()
    playing.append(asked)
    executor = PythonExecutor(threads=2, allow=(asked_body,), clock=cluster.clock)
    store = ledger_at(cluster.place, cluster.clock)
    presence = Presence(store, cluster.clock, holder="threads", roles=("worker",))
    worker = Worker(store, cluster.clock, [executor], presence)
    yield worker, executor, asked
    asked("go")
    executor.close()
    store.close()


def begun(cluster: Cluster, worker: Worker, asked: Asked, **policy: Any) -> str:
    beat = Onebeat(store=cluster.store, clock=cluster.clock)
    beat.schedules.put("a", every(HOUR), asked_body, run_now=True, **policy)
    worker.step()
    return str(asked.next())


def test_seed_24_a_body_may_ask_whether_it_is_still_the_owner(
    cluster: Cluster, threaded: tuple[Worker, PythonExecutor, Asked]
) -> None:
    worker, _, asked = threaded
    assert begun(cluster, worker, asked) == "a!created"

    cluster.clock.advance(20 * SECOND)
    worker.step()  # it renews
    cluster.clock.advance(LEASE - SECOND)
    while_it_lasts = asked("still_mine")
    cluster.clock.advance(SECOND)  # nobody renewed
    after_it_lapsed = asked("still_mine")

    assert (while_it_lasts, after_it_lapsed) == (True, False)


def test_seed_24_a_body_whose_run_has_passed_on_is_told_by_its_own_renewal(
    cluster: Cluster, threaded: tuple[Worker, PythonExecutor, Asked]
) -> None:
    worker, _, asked = threaded
    begun(cluster, worker, asked)
    cluster.clock.advance(LEASE)
    cluster.node(roles=("dispatcher",)).step()  # finds it lost
    claimed(cluster, "another", cluster.the_run().target)
    worker.step()

    assert asked("still_mine") is False
    assert asked("stop_reason") == "the lease was lost"


def test_seed_24_a_body_past_its_timeout_is_told_recorded_and_counted_until_it_returns(
    cluster: Cluster, threaded: tuple[Worker, PythonExecutor, Asked]
) -> None:
    worker, executor, asked = threaded
    begun(cluster, worker, asked, timeout=5)
    cluster.clock.advance(5 * SECOND)
    worker.step()

    run = cluster.the_run()
    assert (run.state, run.outcome) == (RunState.TIMED_OUT, Outcome.TIMED_OUT)
    assert asked("still_mine") is False
    assert asked("stop_reason") == "timeout"
    assert executor.free() == 1  # of two: the other one has not returned
