"""What people do to runs, and what runs tell people, where a beat sends them and workers of Celery run them.

One fleet for all tests of this file: a beat, a worker of processes (queue ``p``) and one of threads (``t``).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from tests.celery.engine import MORE, Engine
from tests.servers import redis

from onebeat import celery_task, interval
from onebeat.core.model import Outcome, Run, RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("fleet")
    engine = Engine(redis.ledger_url(folder), redis.url().replace("/0", "/11"), folder)
    engine.start_beat()
    engine.worker("prefork", lease=12, conf=MORE, args=["-Q", "p"])
    engine.worker("threads", lease=12, conf=MORE, args=["-Q", "t"])
    yield engine
    engine.close()


@pytest.fixture
def fleet(shared: Engine) -> Engine:
    """The fleet, with nothing said and nobody let go of."""
    shared.outside.delete("said", "delivered", "release")
    return shared


def asked(fleet: Engine, name: str, task: str, queue: str, *args: object, **policy: object) -> Run:
    options = {"queue": queue, **policy.pop("options", {})}
    return fleet.asked(name, task, *args, options=options, **policy)


def command(fleet: Engine, *words: str) -> str:
    """What the command line says, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "onebeat", *words, "--url", fleet.ledger],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def read_by(fleet: Engine, queue: str) -> None:
    """Have the worker of threads take another queue, too."""
    fleet.app.control.add_consumer(queue, destination=["w2@here"], reply=True, timeout=60, limit=1)


# --- cancel -----------------------------------------------------------------------------------------------


def test_a_run_that_was_not_sent_yet_is_cancelled_at_once(fleet: Engine) -> None:
    fleet.schedule("nobodys", celery_task("shop.note", args=["never"], queue="t"), queue="nobodys")
    run = fleet.beat.runs.request("nobodys")

    assert fleet.run(run.id).state is RunState.READY
    assert fleet.beat.runs.cancel(run.id).state is RunState.CANCELLED


def test_a_run_whose_message_waits_is_cancelled_at_once_and_its_message_runs_nothing(fleet: Engine) -> None:
    queue = "unread"
    run = asked(fleet, "waits", "shop.note", queue, "never")
    fleet.state(run.id, RunState.SENT)

    cancelled = fleet.beat.runs.cancel(run.id)
    read_by(fleet, queue)
    fleet.app.send_task("shop.note", args=["after"], queue=queue)

    assert cancelled.state is RunState.CANCELLED
    assert fleet.hear(1) == ["after"]
    assert fleet.run(run.id).attempt == 0


def test_the_command_line_ends_a_body_in_another_process(fleet: Engine) -> None:
    run = asked(fleet, "child", "shop.hold", "p", "here")
    fleet.hear(1)

    command(fleet, "run", "cancel", run.id, "--reason", "not today")

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.outcome) == (RunState.CANCELLED, 1, Outcome.CANCELLED)
    assert "not today" in command(fleet, "run", "show", run.id)


def test_a_body_on_a_thread_is_told_of_a_cancel_and_decides(fleet: Engine) -> None:
    run = asked(fleet, "thread", "shop.look", "t")
    fleet.hear(1)

    command(fleet, "run", "cancel", run.id)

    assert fleet.state(run.id).state is RunState.CANCELLED


# --- limits and retries -----------------------------------------------------------------------------------


def test_a_body_that_takes_no_notice_of_its_timeout_is_killed(fleet: Engine) -> None:
    run = asked(fleet, "stubborn", "shop.stubborn", "p", timeout=3, options={"time_limit": 4})

    ended = fleet.state(run.id)

    assert (ended.state, ended.outcome) == (RunState.TIMED_OUT, Outcome.TIMED_OUT)
    assert "stubborn" in fleet.begun()


def test_a_body_on_a_thread_is_told_of_its_timeout(fleet: Engine) -> None:
    run = asked(fleet, "told", "shop.look", "t", timeout=1)

    ended = fleet.state(run.id)

    assert (ended.state, ended.outcome) == (RunState.TIMED_OUT, Outcome.TIMED_OUT)


def test_each_attempt_of_a_policys_retries_is_in_the_history_with_its_worker(fleet: Engine) -> None:
    run = asked(fleet, "retried", "shop.fail", "t", attempts=3, backoff=0.2)

    ended = fleet.state(run.id)
    shown = fleet.beat.runs.show(run.id)

    assert (ended.state, ended.attempt) == (RunState.FAILED, 3)
    told = [event for event in shown.events if event.kind in ("attempt.failed", "run.failed")]
    assert [(event.kind, event.data["attempt"], event.data["holder"]) for event in told] == [
        ("attempt.failed", 1, "w2@here"),
        ("attempt.failed", 2, "w2@here"),
        ("run.failed", 3, "w2@here"),
    ]
    pauses = [second.at - first.at for first, second in pairwise(told)]
    assert min(pauses) >= timedelta(milliseconds=200)
    assert "LookupError: no such order" in command(fleet, "run", "show", run.id)


def test_a_run_that_failed_is_tried_again_as_a_run_of_its_own(fleet: Engine) -> None:
    run = asked(fleet, "dead", "shop.fail", "t")
    fleet.state(run.id)

    fleet.beat.schedules.edit("dead", target=celery_task("shop.note", args=["mended"], queue="t"))
    again = fleet.beat.runs.retry(run.id)

    assert fleet.state(again.id).state is RunState.SUCCEEDED
    assert fleet.hear(1) == ["mended"]
    assert (again.id != run.id, fleet.run(run.id).state) == (True, RunState.FAILED)


# --- what runs tell -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["p", "t"])
def test_progress_and_lines_of_a_body_are_seen_while_it_runs_and_afterwards(
    fleet: Engine, queue: str
) -> None:
    run = asked(fleet, f"speaks-{queue}", "shop.speaks", queue)
    fleet.hear(1)
    fleet.wait_for(lambda: fleet.run(run.id).progress == (1, 2))
    while_it_runs = command(fleet, "run", "show", run.id)
    fleet.release()
    fleet.state(run.id)

    shown = fleet.beat.runs.show(run.id)
    assert "half-way" in while_it_runs
    assert (shown.run.state, shown.run.progress) == (RunState.SUCCEEDED, (2, 2))
    assert [line.text for line in shown.lines] == ["half-way", "there"]


def test_why_and_audit_speak_of_a_run_on_its_way(fleet: Engine) -> None:
    target = celery_task("shop.note", args=["never"], queue="nowhere")
    fleet.beat.schedules.put("on-its-way", interval(seconds=1), target, overlap="skip")
    fleet.wait_for(lambda: any(run.state is RunState.SENT for run in fleet.runs("on-its-way")))
    run = fleet.runs("on-its-way")[0]
    assert run.occurrence_at is not None

    why = fleet.beat.why("on-its-way", run.occurrence_at)
    fleet.beat.schedules.pause("on-its-way")

    assert why.fate == "fired"
    assert "The run is sent, and if no worker begins it, it is sent again at " in why.text
    report = fleet.beat.audit(["on-its-way"])
    assert report.right
    fleet.beat.runs.cancel(run.id)


# --- pause and hold -------------------------------------------------------------------------------------


def test_a_pause_and_a_hold_keep_no_message_back_and_fire_nothing_new(fleet: Engine) -> None:
    target = celery_task("shop.name", queue="kept")
    fleet.beat.schedules.put("paused", interval(seconds=1), target, overlap="allow")
    fleet.wait_for(lambda: sum(run.state is RunState.SENT for run in fleet.runs("paused")) >= 2)

    fleet.beat.schedules.pause("paused")
    fleet.beat.hold("for this test")
    there = {run.id for run in fleet.runs("paused")}
    read_by(fleet, "kept")

    heard = fleet.hear(len(there))
    fleet.beat.release()
    assert sorted(heard) == sorted(there)
    assert {run.id for run in fleet.settled("paused")} == there
