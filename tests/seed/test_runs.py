"""Rows 7, 27, 48, 51 and 60: what can become of a run, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

import apsw
import pytest
from tests.seed.cluster import HOUR, MINUTE, SECOND, T0, Cluster, Play, every

from onebeat import CurrentRun
from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Cancel,
    Claim,
    Done,
    Expire,
    Finish,
    Guard,
    HandOver,
    Lost,
    Park,
    Release,
    Renew,
    Resend,
    Retry,
    Sent,
    Start,
    Unpark,
)
from onebeat.core.model import FINISHED, Outcome, Run, RunState

pytestmark = pytest.mark.slow

# --- 7: a closed set of states ----------------------------------------------------------------------

FAR = T0 + 1000 * HOUR
DONE = Done(state=RunState.SUCCEEDED)
AGAIN = Retry(at=FAR)


def ended(run: Run, state: RunState) -> Finish:
    return Finish(run_id=run.id, token=run.token, outcome=Outcome(state.value), verdict=Done(state=state))


# Every way to move, as whoever may move a run would ask for it.
STEPS: dict[str, Callable[[Run], AnyTransition]] = {
    "start": lambda run: Start(run_id=run.id, token=run.token),
    "renew": lambda run: Renew(run_id=run.id, token=run.token, until=FAR),
    "finish": lambda run: ended(run, RunState.SUCCEEDED),
    "retry": lambda run: Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=AGAIN),
    "release": lambda run: Release(run_id=run.id, token=run.token),
    "lost": lambda run: Lost(run_id=run.id, token=run.token, verdict=AGAIN),
    "sent": lambda run: Sent(run_id=run.id, attempt=run.attempt + 1, resend_at=None),
    "resend": lambda run: Resend(run_id=run.id),
    "guard": lambda run: Guard(run_id=run.id, attempt=run.attempt + 1, holder="g", until=FAR),
    "hand over": lambda run: HandOver(run_id=run.id, attempt=run.attempt + 1),
    "cancel": lambda run: Cancel(run_id=run.id),
    "park": lambda run: Park(run_id=run.id, reason="nobody has it"),
    "unpark": lambda run: Unpark(run_id=run.id),
    "expire": lambda run: Expire(run_id=run.id),
}
S, AS_BEFORE = RunState, "repeated"
# The whole law of a run's life; what is not here is refused. "claimed" is running before its start.
LEGAL: dict[str, dict[str, RunState | str]] = {
    "waiting": {"cancel": S.CANCELLED, "expire": S.EXPIRED},
    "ready": {
        "sent": S.SENT,
        "guard": S.RUNNING,
        "hand over": S.HANDED_OVER,
        "cancel": S.CANCELLED,
        "park": S.PARKED,
        "expire": S.EXPIRED,
        "unpark": AS_BEFORE,
    },
    "sent": {
        "resend": S.READY,
        "guard": S.RUNNING,
        "hand over": S.HANDED_OVER,
        "cancel": S.CANCELLED,
    },
    "claimed": {
        "start": S.RUNNING,
        "renew": S.RUNNING,
        "finish": S.SUCCEEDED,
        "retry": S.READY,
        "release": S.READY,
        "lost": S.READY,
        "cancel": S.RUNNING,
    },
    "running": {
        "start": AS_BEFORE,
        "renew": S.RUNNING,
        "finish": S.SUCCEEDED,
        "retry": S.READY,
        "lost": S.READY,
        "cancel": S.RUNNING,
    },
    "parked": {"cancel": S.CANCELLED, "unpark": S.READY, "park": AS_BEFORE},
    "succeeded": {"finish": AS_BEFORE},
    "failed": {"retry": AS_BEFORE},  # it says what is known: this attempt failed
    "timed_out": {},
    "cancelled": {"cancel": AS_BEFORE},
    "expired": {},
    "handed_over": {},
}


def brought(cluster: Cluster, name: str, state: str, **policy: Any) -> Run:
    """Bring a run of a new schedule into a state, by moves that are legal; then let an hour pass."""
    cluster.put(name, every(MINUTE, cluster.now + MINUTE), overlap="queue_all", **policy)
    for _ in range(2 if state == "waiting" else 1):
        cluster.clock.advance(MINUTE)
        cluster.nodes[0].step()
    run = cluster.runs(name)[-1]

    def moved(step: AnyTransition) -> None:
        (answer,) = cluster.store.advance([step])
        assert answer.answer is Answer.ACCEPTED

    if state in ("claimed", "running", "succeeded", "failed", "timed_out"):
        until = cluster.now + MINUTE
        claim = Claim(holder="h", queues=(name,), targets=("seed:body",), limit=1, until=until)
        ((claimed),) = cluster.store.claim(claim)
        run = claimed.run
        if state != "claimed":
            moved(STEPS["start"](run))
        if state in ("succeeded", "failed", "timed_out"):
            moved(ended(run, RunState(state)))
    elif state == "sent":
        moved(Sent(run_id=run.id, attempt=1, resend_at=cluster.now + MINUTE))
    elif state in ("parked", "cancelled", "handed_over"):
        moved(STEPS[{"parked": "park", "cancelled": "cancel", "handed_over": "hand over"}[state]](run))
    cluster.clock.advance(HOUR)  # leases have lapsed, answers are overdue, deadlines have passed
    if state == "expired":
        moved(STEPS["expire"](run))
    found = cluster.store.run(run.id)
    assert found is not None
    return found


@pytest.mark.parametrize("state", LEGAL)
def test_seed_07_every_transition_from_every_state_is_made_repeated_or_refused_as_the_law_says(
    cluster: Cluster, state: str
) -> None:
    cluster.node(roles=("dispatcher",))
    for number, (name, step) in enumerate(STEPS.items()):
        deadline = 30 * MINUTE if "expire" in name + state else None
        before = brought(cluster, f"s{number}", state, start_within=deadline, queue=f"s{number}")
        assert before.state.value == ("running" if state == "claimed" else state)

        (answer,) = cluster.store.advance([step(before)])

        after = cluster.store.run(before.id)
        assert after is not None
        expected = LEGAL[state].get(name)
        if expected is None or expected == AS_BEFORE:
            wanted = Answer.REFUSED if expected is None else Answer.REPEATED
            assert (name, answer.answer) == (name, wanted)
            assert after == before
        else:
            assert (name, answer.answer, after.state) == (name, Answer.ACCEPTED, expected)


def test_seed_07_the_law_names_every_state_and_every_transition() -> None:
    assert {S.RUNNING.value if state == "claimed" else state for state in LEGAL} == set(RunState)
    made = {type(step(Run(**_ANY))) for step in STEPS.values()}
    assert made == set(get_args(AnyTransition))
    assert all(set(LEGAL[state]) <= {"finish", "retry", "cancel"} for state in FINISHED)


_ANY: dict[str, Any] = {
    "id": "a",
    "schedule_id": 1,
    "schedule": "a",
    "number": 1,
    "queue": "q",
    "target": "t",
    "state": RunState.READY,
    "due_at": T0,
    "ready_at": T0,
    "created_at": T0,
}


@pytest.mark.of_the_file
def test_seed_07_the_file_itself_takes_no_other_state(cluster: Cluster) -> None:
    cluster.put("a", every(HOUR), run_now=True)
    db = apsw.Connection(str(cluster.place / "ledger.db"))

    with pytest.raises(apsw.ConstraintError):
        db.execute("UPDATE onebeat_runs SET state = 'stuck'")
    db.close()
    assert cluster.the_run().state is RunState.READY


# --- 27: what each execution leaves -----------------------------------------------------------------


def failing(*errors: Exception | None) -> Play:
    """A body that fails with each error in turn, and succeeds where there is None."""
    left = list(errors)

    def does(run: CurrentRun) -> dict[str, int]:
        error = left.pop(0)
        if error is not None:
            raise error
        run.log.info("done")
        return {"attempt": run.attempt}

    return Play(lasts=2 * SECOND, does=does)


def test_seed_27_each_execution_can_be_asked_for_with_all_its_instants(cluster: Cluster) -> None:
    cluster.node()
    cluster.plays["body"] = failing(TimeoutError("no answer"), None)
    cluster.put("a", every(HOUR, T0 + MINUTE), attempts=2, backoff=10, tags=("billing",))
    cluster.run(2 * MINUTE)

    (run,) = cluster.beat.runs.list(tag="billing", states=["succeeded"], since=T0, until=T0 + HOUR)
    assert (run.occurrence_at, run.due_at, run.created_at) == (T0 + MINUTE,) * 3
    assert (run.holder, run.attempt, run.outcome) == ("n1", 2, Outcome.SUCCEEDED)
    assert run.claimed_at is not None
    assert run.started_at == run.claimed_at
    assert run.finished_at == run.started_at + 2 * SECOND
    assert run.result == {"attempt": 2}
    assert [line.text for line in cluster.beat.runs.logs(run.id)] == ["done"]

    shown = cluster.beat.runs.show(run.id)
    (first,) = [event for event in shown.events if event.kind == "attempt.failed"]
    assert first.data["attempt"] == 1
    assert first.data["holder"] == "n1"
    assert first.data["outcome"] == "failed"
    assert "no answer" in first.data["error"]
    assert first.data["claimed_at"] == first.data["started_at"] == "2026-11-21T12:01:00Z"
    assert first.data["finished_at"] == "2026-11-21T12:01:02Z"


@pytest.mark.of_the_file
def test_seed_27_executions_can_be_asked_for_in_plain_sql(cluster: Cluster) -> None:
    cluster.node()
    cluster.plays["body"] = failing(None)
    cluster.put("a", every(HOUR, T0 + MINUTE))
    cluster.run(2 * MINUTE)

    db = apsw.Connection(str(cluster.place / "ledger.db"))
    rows = db.execute(
        "SELECT schedule, state, outcome, holder, attempt, finished_at - started_at FROM onebeat_runs"
    ).fetchall()
    db.close()
    assert rows == [("a", "succeeded", "succeeded", "n1", 1, 2_000_000)]


# --- 60: a table of job name, last run, status and node ---------------------------------------------


@pytest.mark.of_the_file
def test_seed_60_last_run_state_and_node_of_each_schedule_are_columns_of_plain_sql(cluster: Cluster) -> None:
    cluster.node()
    cluster.plays["body"] = Play(lasts=2 * SECOND)
    cluster.put("a", every(HOUR, T0 + MINUTE))
    cluster.put("b", every(HOUR, T0 + 30 * MINUTE))
    cluster.run(2 * MINUTE)

    assert asked_by_hand(cluster) == [
        ("a", "2026-11-21 12:01:00.000000", "succeeded", "n1"),
        ("b", None, None, None),
    ]


@pytest.mark.of_the_file
def test_seed_60_no_row_says_running_much_longer_than_its_lease(cluster: Cluster) -> None:
    dying = cluster.node()
    cluster.plays["body"] = Play(lasts=HOUR)
    cluster.put("a", every(HOUR, T0 + SECOND))
    cluster.run(2 * SECOND)
    ((_, _, before, holder),) = asked_by_hand(cluster)
    dying.crash()
    cluster.node(roles=("dispatcher",))
    cluster.run(2 * MINUTE)

    assert (before, holder) == ("running", dying.name)
    ((_, _, after, _),) = asked_by_hand(cluster)
    assert after != "running"


def asked_by_hand(cluster: Cluster) -> list[tuple[Any, ...]]:
    """Ask as any program with a SQLite library may."""
    db = apsw.Connection(str(cluster.place / "ledger.db"))
    rows = db.execute(
        """SELECT name, last_run_started_at, last_run_state, last_run_holder FROM onebeat_view_schedules
        ORDER BY name"""
    ).fetchall()
    db.close()
    return rows


# --- 48: retries ------------------------------------------------------------------------------------


def pauses(cluster: Cluster, name: str) -> list[timedelta]:
    """The pauses between the attempts of a schedule's only run."""
    mine = [effect for effect in cluster.effects if effect.schedule == name]
    return [b.began_at - a.ended_at for a, b in pairwise(mine) if a.ended_at is not None]


def test_seed_48_a_failing_run_is_tried_as_often_as_it_says_with_growing_pauses(cluster: Cluster) -> None:
    cluster.node(knows=("a", "b"))
    for name in ("a", "b"):
        cluster.plays[name] = failing(*[OSError(f"try {i}") for i in range(1, 7)])
        cluster.put(name, every(24 * HOUR, T0 + MINUTE), address=name, attempts=6, backoff=10, backoff_max=60)
    cluster.run(10 * MINUTE)

    for name in ("a", "b"):
        run = cluster.the_run(name)
        assert (run.state, run.attempt) == (RunState.FAILED, 6)
        assert run.error is not None
        assert "try 6" in run.error
        for pause, most in zip(pauses(cluster, name), (10, 20, 40, 60, 60), strict=True):
            assert most * SECOND / 2 <= pause <= most * SECOND
    # Not all who failed together come back together; and the same run comes back at the same time anywhere.
    assert pauses(cluster, "a") != pauses(cluster, "b")


def test_seed_48_each_attempt_leaves_its_own_record(cluster: Cluster) -> None:
    cluster.node()
    cluster.plays["body"] = failing(OSError("one"), OSError("two"), None)
    cluster.put("a", every(HOUR, T0 + MINUTE), attempts=3, backoff=1, report_success=True)
    cluster.run(2 * MINUTE)

    records = [
        (event.kind, event.data["attempt"], event.data["outcome"], event.data.get("error", ""))
        for event in cluster.beat.runs.show(cluster.the_run().id).events
    ]
    assert [record[:3] for record in records] == [
        ("attempt.failed", 1, "failed"),
        ("attempt.failed", 2, "failed"),
        ("run.succeeded", 3, "succeeded"),
    ]
    assert ["one" in records[0][3], "two" in records[1][3]] == [True, True]
    tokens = [effect.token for effect in cluster.effects]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize(("error", "attempts"), [(TimeoutError("slow"), 3), (ValueError("wrong"), 1)])
def test_seed_48_only_the_errors_that_are_listed_are_tried_again(
    cluster: Cluster, error: Exception, attempts: int
) -> None:
    cluster.node()
    cluster.plays["body"] = failing(error, error, error)
    cluster.put("a", every(HOUR, T0 + MINUTE), attempts=3, backoff=1, retry_on=("TimeoutError",))
    cluster.run(2 * MINUTE)

    run = cluster.the_run()
    assert (run.state, run.attempt) == (RunState.FAILED, attempts)
    assert ("not in retry_on" in run.reason) == (attempts == 1)


# --- 51: results ------------------------------------------------------------------------------------


def test_seed_51_the_last_results_are_kept_as_many_as_asked_for(cluster: Cluster) -> None:
    cluster.node()
    cluster.plays["body"] = Play(does=lambda run: {"at": run.occurrence.isoformat(), "list": [1, None]})
    cluster.put("a", every(MINUTE), keep_runs=7)
    cluster.put("b", every(MINUTE), keep_runs=1000)
    cluster.run(45 * MINUTE, every=MINUTE)
    while cluster.store.purge(cluster.now, 1000).runs:
        pass

    results = [run.result for run in cluster.beat.runs.list(schedule="a", limit=3)]
    assert results == [
        {"at": (T0 + minute * MINUTE).isoformat(), "list": [1, None]} for minute in (45, 44, 43)
    ]
    assert len(cluster.runs("a")) == 7
    assert len(cluster.runs("b")) == 45
    # What was forgotten stays counted, and proven: by what purging left.
    report = cluster.beat.audit(["a"])
    assert (report.right, report.fired) == (True, 45)
