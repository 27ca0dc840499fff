"""Coroutine functions: many at once on one loop, cancelled when they are told to stop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from onebeat import Onebeat, call, interval
from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.messages import Report
from onebeat.core.model import Outcome, RunState, Target
from onebeat.engine.current import CurrentRun, current
from onebeat.engine.executors.coroutines import CoroutineExecutor
from onebeat.engine.executors.python import PythonExecutor
from onebeat.testing.conformance_executor import PATIENCE_S, SECOND, Watched
from onebeat.testing.virtual import VirtualOnebeat

entered = threading.Event()
leave = threading.Event()
seen: list[Any] = []


async def until_let_go() -> None:
    entered.set()
    while not leave.is_set():
        await asyncio.sleep(0.001)


async def cleans_up() -> str:
    try:
        await until_let_go()
    except asyncio.CancelledError:
        seen.append("cancelled")
        await until_let_go()
        return "cleaned up"
    return "never told"


async def goes_on() -> str:
    task = asyncio.current_task()
    assert task is not None
    while not leave.is_set():
        try:
            await until_let_go()
        except asyncio.CancelledError:
            task.uncancel()
    return "finished all the same"


async def fails_cleaning_up() -> None:
    try:
        await until_let_go()
    finally:
        raise ConnectionResetError("gone")


async def is_cancelled_by_itself() -> None:
    raise asyncio.CancelledError


async def exits() -> None:
    sys.exit(3)


async def blocks() -> None:
    entered.set()
    assert leave.wait(PATIENCE_S)


async def marks() -> None:
    seen.append("began")


async def says(run: CurrentRun) -> list[str]:
    async def deep_down() -> str:
        mine = current()
        assert mine is not None
        mine.log.info("from a task")
        return mine.id

    run.progress(1, 2)
    return [run.id, await asyncio.create_task(deep_down())]


async def tells_its_loop() -> int:
    return id(asyncio.get_running_loop())


def plain() -> None:
    """Await nothing."""


BODIES = (
    until_let_go,
    cleans_up,
    goes_on,
    fails_cleaning_up,
    is_cancelled_by_itself,
    exits,
    blocks,
    marks,
    says,
)


@pytest.fixture
def watched() -> Iterator[Watched]:
    entered.clear()
    leave.clear()
    seen.clear()
    watched = Watched(CoroutineExecutor(coroutines=1000, allow=(*BODIES, plain)))
    yield watched
    leave.set()
    watched.executor.close()


def stopped(watched: Watched, body: Any) -> Report:
    """Return how a body ends that is told to stop, is told once more when it has heard, and then let go."""
    run = watched.start(call(body)).run
    for _ in range(2):
        assert entered.wait(PATIENCE_S)
        entered.clear()
        watched.executor.tell(run.id, run.token, "cancelled on request")
    watched.start(call(marks), token=2)  # by its end, the loop has heard the second one, too
    assert watched.only().token == 2
    leave.set()
    return watched.only()


def test_a_thousand_go_on_at_once_on_one_thread(watched: Watched) -> None:
    before = set(threading.enumerate())
    for token in range(1, 1001):
        watched.start(call(until_let_go), token=token)

    assert watched.executor.free() == 0
    assert len(set(threading.enumerate()) - before) == 1
    leave.set()
    assert len({report.token for report in watched.next(1000)}) == 1000
    assert watched.executor.free() == 1000


def test_a_body_that_is_told_cleans_up_undisturbed_and_ends_as_cancelled(watched: Watched) -> None:
    report = stopped(watched, cleans_up)

    assert (report.outcome, report.result) == (Outcome.CANCELLED, "cleaned up")
    assert seen == ["cancelled", "began"]


def test_a_body_that_takes_its_cancellation_back_has_succeeded(watched: Watched) -> None:
    report = stopped(watched, goes_on)

    assert (report.outcome, report.result) == (Outcome.SUCCEEDED, "finished all the same")


def test_what_a_cancelled_body_raises_is_kept(watched: Watched) -> None:
    run = watched.start(call(fails_cleaning_up)).run
    assert entered.wait(PATIENCE_S)
    watched.executor.tell(run.id, run.token, "cancelled on request")

    report = watched.only()
    assert (report.outcome, report.error_type) == (Outcome.CANCELLED, "ConnectionResetError")


def test_a_body_that_swallows_its_timeout_keeps_its_slot_until_it_returns(watched: Watched) -> None:
    run = watched.start(call(cleans_up), timeout=5).run
    assert entered.wait(PATIENCE_S)
    assert run.started_at is not None

    (report,) = watched.executor.overrun(run.started_at + 5 * SECOND)
    assert report.outcome is Outcome.TIMED_OUT
    assert "was cancelled" in (report.error or "")
    assert watched.executor.free() == 999
    leave.set()
    watched.wait(lambda: watched.executor.free() == 1000)
    assert watched.executor.reports() == []


def test_a_body_that_is_told_before_its_first_step_does_not_begin(watched: Watched) -> None:
    watched.start(call(blocks), token=1)
    assert entered.wait(PATIENCE_S)
    run = watched.start(call(marks), token=2).run
    watched.executor.tell(run.id, run.token, "cancelled on request")
    leave.set()

    outcomes = {report.token: report.outcome for report in watched.next(2)}
    assert outcomes == {1: Outcome.SUCCEEDED, 2: Outcome.CANCELLED}
    assert seen == []


@pytest.mark.parametrize(
    ("body", "error"), [(is_cancelled_by_itself, "CancelledError"), (exits, "SystemExit")]
)
def test_a_body_that_nobody_told_has_failed_whatever_it_raises(
    watched: Watched, body: Any, error: str
) -> None:
    watched.start(call(body))

    report = watched.only()
    assert (report.outcome, report.error_type) == (Outcome.FAILED, error)
    watched.start(call(marks), token=2)
    assert watched.only().outcome is Outcome.SUCCEEDED


def test_a_coroutine_and_its_tasks_know_their_run(watched: Watched) -> None:
    run = watched.start(call(says)).run

    assert watched.only().result == [run.id, run.id]
    (note,) = watched.executor.notes()
    assert note.progress == (1, 2)
    assert [line.text for line in note.lines] == ["from a task"]


def test_a_plain_function_is_no_target_for_a_loop(watched: Watched) -> None:
    target = Target(kind="async", address=f"{__name__}:plain")
    with pytest.raises(TargetNotFound, match="no coroutine function"):
        watched.executor.resolve(target)

    watched.start(target)
    assert watched.only().error_type == "TargetNotFound"


def test_coroutines_on_threads_share_one_loop_and_with_it_their_connections() -> None:
    watched = Watched(PythonExecutor(threads=2, allow=[tells_its_loop]))
    target = Target(kind="python", address=f"{__name__}:tells_its_loop")
    loops = set()
    for token in range(3):
        watched.start(target, token=token)
        loops.add(watched.only().result)
    watched.executor.close()

    assert len(loops) == 1


def test_the_thread_ends_with_the_last_coroutine_of_a_closed_executor(watched: Watched) -> None:
    before = set(threading.enumerate())
    watched.start(call(until_let_go))
    assert entered.wait(PATIENCE_S)
    (thread,) = set(threading.enumerate()) - before
    watched.executor.close()
    assert thread.is_alive()

    leave.set()
    watched.only()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_function_says_by_itself_whether_it_is_awaited() -> None:
    assert call(says).kind == "async"
    assert call(plain).kind == "python"
    assert call(f"{__name__}:says").kind == "python"


def test_a_coroutine_cannot_have_its_runs_transaction() -> None:
    beat = Onebeat("memory://")
    for target in (call(says), call(f"{__name__}:says")):
        with pytest.raises(InvalidInput, match="transactional=True"):
            beat.schedules.put("a", interval(60 * SECOND), target, transactional=True)


def test_on_virtual_time_a_declared_coroutine_runs_at_once() -> None:
    beat = VirtualOnebeat()
    seen.clear()
    beat.scheduled(interval(60 * SECOND), name="a")(marks)

    runs = beat.run_for(120 * SECOND)

    assert [run.state for run in runs] == [RunState.SUCCEEDED] * 2
    assert [run.target for run in runs] == [f"async:{__name__}:marks"] * 2
    assert seen == ["began"] * 2
