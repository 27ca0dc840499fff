"""Real workers on a real broker: whatever happens to messages and processes, a run's body runs once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.celery.fleet import Fleet
from tests.servers import redis

from onebeat.celery import CeleryOutlet
from onebeat.celery.message import fingerprint
from onebeat.core.messages import EventQuery
from onebeat.core.model import Outcome, RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


def events(fleet: Fleet, run_id: str) -> list[str]:
    return [event.kind for event in fleet.store.events(EventQuery(run_id=run_id))]


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_a_doubled_message_runs_once(fleet: Fleet, pool: str) -> None:
    fleet.worker(pool)
    run = fleet.asked("digest", "shop.note", "here", {"sent": 3})

    claimed = fleet.send(run.id)
    fleet.outlet.send([claimed] * 3)
    for _ in range(4):
        assert fleet.heard("delivered") == run.id

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 1, {"sent": 3})
    assert ended.holder == "w0@here"
    assert len(fleet.unsaid("said")) == 1


# --- messages that come again, or never -----------------------------------------------------------------


def test_a_message_that_the_broker_lost_is_sent_again_and_runs_once(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.note", "here")

    fleet.marked(run.id, resend_in=0.2)  # and no message: its publisher died, or the broker lost it
    assert fleet.recover(run.id).state is RunState.READY
    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert len(fleet.unsaid("said")) == 1


def test_a_copy_of_an_older_attempt_runs_nothing(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.auto", attempts=2)

    first = fleet.send(run.id)
    fleet.state(run.id, RunState.READY)
    fleet.outlet.send([first])
    fleet.send(run.id)
    for _ in range(3):
        fleet.heard("delivered")

    assert fleet.state(run.id).attempt == 2
    assert len(fleet.unsaid("said")) == 2


def test_a_copy_from_the_same_ledger_by_another_url_fails_no_task(fleet: Fleet) -> None:
    fleet.worker("solo")
    fleet.outlet = CeleryOutlet(fleet.app, ledger=fingerprint("redis://the-same-by-another-name"))
    run, next_run = (fleet.asked(name, "shop.note", name, 17) for name in ("digest", "next"))

    claimed = fleet.send(run.id)
    fleet.state(run.id)
    fleet.outlet.send([claimed])
    fleet.send(next_run.id)
    fleet.state(next_run.id)  # one after another: the copy has been looked at

    assert "Task shop.note[digest" in fleet.logs()
    assert "raised unexpected" not in fleet.logs()
    assert len(fleet.unsaid("said")) == 2


def test_a_worker_killed_in_the_body_leaves_the_run_to_another(fleet: Fleet) -> None:
    first = fleet.worker("threads", lease=1)
    run = fleet.asked("digest", "shop.hold", "here")

    fleet.send(run.id)
    fleet.heard("said")
    os.killpg(first.pid, signal.SIGKILL)
    assert fleet.recover(run.id).state is RunState.READY
    fleet.worker("threads", lease=1)
    fleet.send(run.id)
    fleet.heard("said")
    fleet.release()

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.holder) == (RunState.SUCCEEDED, 2, "w1@here")


def test_a_child_killed_in_the_body_is_reported_by_its_parent_at_once(fleet: Fleet) -> None:
    """Its lease has minutes to go: nobody waits for that."""
    fleet.worker("prefork", lease=600)
    run = fleet.asked("digest", "shop.hold", "here")

    fleet.send(run.id)
    os.kill(int(fleet.heard("said").split()[1]), signal.SIGKILL)

    lost = fleet.state(run.id, RunState.READY)
    assert (lost.attempt, lost.outcome) == (1, Outcome.LOST)
    fleet.send(run.id)
    fleet.heard("said")
    fleet.release()
    assert fleet.state(run.id).attempt == 2


# --- what a body does -----------------------------------------------------------------------------------


def test_a_retry_is_the_next_attempt_of_the_run_and_publishes_nothing(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.again", 2)

    for attempt in (1, 2):
        fleet.send(run.id)
        waiting = fleet.state(run.id, RunState.READY)
        assert (waiting.attempt, waiting.outcome) == (attempt, Outcome.FAILED)
        assert "ValueError: not yet" in (waiting.error or "")
        assert fleet.outside.llen("celery") == 0
    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 3, 2)
    assert [said.split()[0] for said in fleet.unsaid("said")] == ["try0", "try1", "try2"]


def test_retries_beyond_celerys_own_limit_are_a_failure(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.again", 99)

    for _ in range(2):
        fleet.send(run.id)
        fleet.state(run.id, RunState.READY)
    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.FAILED, 3)
    assert "ValueError: not yet" in (ended.error or "")


def test_a_failure_is_judged_by_the_schedules_policy(fleet: Fleet) -> None:
    fleet.worker("threads")
    again = fleet.asked("again", "shop.fail", attempts=2, backoff=0)
    fatal = fleet.asked("fatal", "shop.fail", attempts=2, retry_on=["TimeoutError"])

    for run in (again, fatal):
        fleet.send(run.id)

    assert fleet.state(again.id, RunState.READY).attempt == 1
    ended = fleet.state(fatal.id)
    assert (ended.state, ended.attempt) == (RunState.FAILED, 1)
    assert "LookupError: no such order" in (ended.error or "")


def test_a_base_class_of_somebodys_own_is_guarded_and_still_asked(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.own")

    fleet.outlet.send([fleet.send(run.id)])
    for _ in range(2):
        fleet.heard("delivered")

    assert fleet.state(run.id).state is RunState.SUCCEEDED
    assert [said.split()[0] for said in fleet.unsaid("said")] == ["own", "body"]


def test_a_body_sees_its_run_and_what_it_says_is_kept(fleet: Fleet) -> None:
    fleet.worker("prefork")
    run = fleet.asked("digest", "shop.log")

    fleet.send(run.id)

    assert fleet.state(run.id).progress == (1, 2)
    assert [line.text for line in fleet.store.log(run.id)] == [f"half-way at {run.due_at.year}"]


def test_a_task_that_stands_for_no_run_is_none_of_our_business(fleet: Fleet) -> None:
    fleet.worker("threads")

    fleet.app.send_task("shop.note", args=["plain"])

    assert fleet.heard("said").startswith("plain")


# --- leases, limits, cancels ----------------------------------------------------------------------------


def test_a_body_that_holds_the_gil_for_three_leases_keeps_its_run(fleet: Fleet) -> None:
    fleet.worker("prefork", lease=1)
    run = fleet.asked("digest", "shop.greedy", 3.2)

    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert ended.result > 3


def test_a_hard_time_limit_is_a_timeout_of_the_run(fleet: Fleet) -> None:
    fleet.worker("prefork", lease=600)
    run = fleet.asked("digest", "shop.hold", "here", options={"time_limit": 3})

    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.outcome) == (RunState.TIMED_OUT, Outcome.TIMED_OUT)


def test_a_policys_timeout_is_the_soft_limit(fleet: Fleet) -> None:
    fleet.worker("prefork", lease=600)
    run = fleet.asked("digest", "shop.hold", "here", timeout=3)

    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert ended.state is RunState.TIMED_OUT
    assert "SoftTimeLimitExceeded" in (ended.error or "")


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_cancel_reaches_the_body(fleet: Fleet, pool: str) -> None:
    """A thread is told, and looks; a child is ended as a revocation would end it."""
    fleet.worker(pool, lease=1)
    run = fleet.asked("digest", "shop.look")

    fleet.send(run.id)
    fleet.heard("said")
    fleet.beat.runs.cancel(run.id)

    assert fleet.state(run.id).state is RunState.CANCELLED


def test_a_revoked_task_ends_its_run_before_the_body(fleet: Fleet) -> None:
    fleet.worker("solo")
    run = fleet.asked("digest", "shop.note", "here")
    fleet.app.control.revoke(run.id, reply=True, timeout=30, limit=1)

    fleet.send(run.id)

    assert fleet.state(run.id).state is RunState.CANCELLED
    assert fleet.unsaid("said") == []


def test_a_message_that_expired_ends_its_run(fleet: Fleet) -> None:
    fleet.worker("threads")
    run = fleet.asked("digest", "shop.note", "here", options={"expires": 0})

    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.reason) == (RunState.EXPIRED, "its message expired before its body began")
    assert "run.expired" in events(fleet, run.id)
    assert fleet.unsaid("said") == []


# --- the ledger is away ---------------------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[tuple[Fleet, Any]]:
    """A fleet whose ledger is a server of its own, which a test may kill."""
    own = redis.Own()
    fleet = Fleet(own.url, redis.url().replace("/0", "/9"), tmp_path)
    yield fleet, own
    fleet.close()
    own.stop()


def test_a_message_is_dropped_while_the_ledger_is_away_and_comes_again(apart: tuple[Fleet, Any]) -> None:
    fleet, own = apart
    fleet.worker("solo")  # one after the other: what comes after finds the first one dropped
    run = fleet.asked("digest", "shop.note", "here")
    claimed = fleet.marked(run.id, resend_in=0.5)

    own.kill()
    fleet.outlet.send([claimed])
    fleet.heard("delivered")
    fleet.app.send_task("shop.note", args=["after"])
    assert fleet.heard("said").startswith("after")
    own.start()
    assert fleet.recover(run.id).state is RunState.READY
    fleet.send(run.id)

    assert fleet.state(run.id).state is RunState.SUCCEEDED
    assert len(fleet.unsaid("said")) == 1


def test_where_asked_a_body_runs_while_the_ledger_is_away_and_it_is_said(apart: tuple[Fleet, Any]) -> None:
    fleet, own = apart
    fleet.worker("threads", guard="open")
    run = fleet.asked("digest", "shop.note", "here")
    claimed = fleet.marked(run.id)

    own.kill()
    fleet.outlet.send([claimed])
    assert fleet.heard("said").startswith("here")
    own.start()

    fleet.until(lambda: run if "run.unfenced" in events(fleet, run.id) else None)
    assert fleet.run(run.id).state is RunState.SENT


def test_an_end_waits_for_a_ledger_that_is_away(apart: tuple[Fleet, Any]) -> None:
    fleet, own = apart
    fleet.worker("threads", lease=600)
    run = fleet.asked("digest", "shop.hold", "here")

    fleet.send(run.id)
    fleet.heard("said")
    own.kill()
    fleet.release()
    own.start()

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
