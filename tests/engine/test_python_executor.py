"""Python bodies: what may be named, what they are given, how they end."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.engine import bodies
from tests.engine.lab import START, seconds

from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.messages import Claimed, Report
from onebeat.core.model import Definition, Fold, Outcome, Policy, Run, RunState, Target, TriggerSpec
from onebeat.core.ports import Executor
from onebeat.core.targets import address_of
from onebeat.core.triggers.interval import interval
from onebeat.engine.current import LINES_WAITING_MAX, RunLogHandler, current
from onebeat.engine.executors.bodies import ERROR_CHARS_MAX
from onebeat.engine.executors.python import InlineExecutor, PythonExecutor
from onebeat.testing.clock import VirtualClock

HERE = "tests.engine.bodies"
PATIENCE = 20.0
LEASED = START + timedelta(seconds=30)


def target(name: str, *args: Any, **kwargs: Any) -> Target:
    return Target(kind="python", address=f"{HERE}:{name}", args=args, kwargs=kwargs)


def claimed(
    body: Target,
    *,
    token: int = 1,
    run_id: str = "a@20261121T120000Z",
    occurrence_at: datetime | None = START,
    fold: Fold | None = None,
    trigger: TriggerSpec | None = None,
    number: int = 1,
    **policy: Any,
) -> Claimed:
    definition = Definition(
        trigger=trigger or interval(minutes=1, anchor=START - timedelta(days=1)),
        target=body,
        policy=Policy(**policy),
    )
    run = Run(
        id=run_id,
        schedule_id=1,
        schedule="a",
        number=number,
        queue="default",
        target=body.key,
        state=RunState.RUNNING,
        due_at=START,
        ready_at=START,
        created_at=START,
        occurrence_at=occurrence_at,
        fold=fold,
        attempt=1,
        token=token,
        started_at=START,
    )
    return Claimed(run=run, definition=definition)


class Threads:
    """An executor on real threads, and a way to wait for what it reports without sleeping."""

    def __init__(self, threads: int = 4) -> None:
        self.clock = VirtualClock(START)
        self.executor = PythonExecutor(threads=threads, allow=[HERE], clock=self.clock)
        self.rung = threading.Event()
        self.executor.connect(self.rung.set)

    def next(self) -> Report:
        assert self.rung.wait(PATIENCE)
        self.rung.clear()
        (report,) = self.executor.reports()
        return report


@pytest.fixture
def threads() -> Iterator[Threads]:
    for event in (bodies.entered, bodies.leave, bodies.looked):
        event.clear()
    threads = Threads()
    yield threads
    bodies.leave.set()
    threads.executor.close()


def inline(body: Target, *, allow: tuple[Any, ...] = (HERE,), **rest: Any) -> Report:
    executor = InlineExecutor(allow=allow, clock=VirtualClock(START))
    executor.start(claimed(body, **rest), LEASED)
    (report,) = executor.reports()
    return report


def test_it_is_an_executor() -> None:
    assert isinstance(PythonExecutor(), Executor)


# --- what may be named ---


@pytest.mark.parametrize(
    "address",
    [
        "os:system",
        "subprocess:run",
        f"{HERE}:os.system",  # merely imported there
        f"{HERE}:os",
        f"{HERE}:asyncio.run",
        f"{HERE}:nothing.__globals__",
        f"{HERE}:nothing.__class__",
        f"{HERE}:Callable.__call__",
        f"{HERE}:answers.get",  # a method of something builtin
        f"{HERE}:answers",
        f"{HERE}:missing",
        f"{HERE}:",
        f"{HERE}:a b",
        HERE,
        "tests.engine.bodies2:nothing",  # a prefix ends at a dot
        "tests.engine.bodies.absent:nothing",
        "",
        ":",
    ],
)
def test_what_was_not_allowed_is_not_found(address: str) -> None:
    executor = PythonExecutor(allow=[HERE])

    with pytest.raises(TargetNotFound):
        executor.resolve(Target(kind="python", address=address))


def test_no_module_outside_the_list_is_imported_to_find_that_out() -> None:
    assert "this" not in sys.modules

    with pytest.raises(TargetNotFound, match="not allowed"):
        PythonExecutor(allow=[HERE]).resolve(Target(kind="python", address="this:d"))

    assert "this" not in sys.modules


def test_a_registered_function_needs_no_module_on_the_list() -> None:
    report = inline(target("nothing"), allow=(bodies.nothing,))

    assert report.outcome is Outcome.SUCCEEDED
    with pytest.raises(TargetNotFound, match="did you mean"):
        PythonExecutor(allow=[bodies.nothing]).resolve(target("nothin"))


def test_an_address_is_where_a_function_was_defined() -> None:
    assert address_of(bodies.nothing) == f"{HERE}:nothing"
    assert address_of(bodies.Callable.method) == f"{HERE}:Callable.method"
    with pytest.raises(InvalidInput, match="no name"):
        address_of(bodies.instance)


def test_objects_and_their_methods_can_be_targets() -> None:
    assert inline(target("instance", 1)).result == 2
    assert inline(target("instance.method", 1)).result == 3


def test_arguments_are_held_against_the_signature_at_once() -> None:
    executor = PythonExecutor(allow=[HERE])
    executor.resolve(target("adds", 1, b=2))
    executor.resolve(target("takes_run_first", 17))

    for wrong in (target("adds"), target("adds", 1, c=2), target("takes_run_first")):
        with pytest.raises(InvalidInput, match="does not take"):
            executor.resolve(wrong)


# --- what they are given ---


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (target("adds", 1, b=2), 3),
        (target("takes_run_first", 17), ["a@20261121T120000Z", 17]),
        (target("takes_run_first", order=17), ["a@20261121T120000Z", 17]),
        (target("takes_run_between", 17, "x"), [17, "a@20261121T120000Z", "x"]),
        (target("takes_run_between", 17, note="x"), [17, "a@20261121T120000Z", "x"]),
        (target("takes_run_by_name", order=17), [17, "a@20261121T120000Z"]),
        (target("annotated", 17), [17, "a@20261121T120000Z"]),
        (target("has_a_run_of_its_own", run="mine"), "mine"),
        (target("deep_down"), "a@20261121T120000Z"),
        (target("coroutine", 17), [17, "a@20261121T120000Z"]),
    ],
)
def test_a_body_gets_its_arguments_and_its_run_where_it_wants_it(body: Target, result: Any) -> None:
    report = inline(body)

    assert (report.outcome, report.result, report.error) == (Outcome.SUCCEEDED, result, None)


def test_a_body_may_change_its_arguments_without_changing_the_schedule() -> None:
    body = target("spoils", [1], {"x": [1]})

    assert [inline(body).result for _ in range(2)] == [4, 4]
    assert body.args == ([1], {"x": [1]})


def test_what_one_body_sets_in_its_context_the_next_does_not_find(threads: Threads) -> None:
    results = []
    for token in (1, 2):
        threads.executor.start(claimed(target("sets_a_context"), token=token), LEASED)
        results.append(threads.next().result)

    assert results == ["clean", "clean"]
    assert current() is None


def run_of(**what: Any) -> Any:
    """Return the CurrentRun that a body gets."""
    got: list[Any] = []

    def keep(run: Any) -> None:
        got.append(run)

    executor = InlineExecutor(allow=[keep], clock=VirtualClock(START))
    executor.start(claimed(Target(kind="python", address=address_of(keep)), **what), LEASED)
    assert [report.error for report in executor.reports()] == [None]
    return got[0]


def test_seed_23_a_body_knows_its_run_the_occurrence_and_the_attempt() -> None:
    run = run_of(token=7)

    assert (run.id, run.schedule, run.occurrence, run.attempt, run.token, run.key, run.fold) == (
        "a@20261121T120000Z",
        "a",
        START,
        1,
        7,
        None,
        None,
    )
    assert run.previous_at == START - timedelta(minutes=1)


def test_previous_at_comes_before_everything_that_is_folded_in() -> None:
    fold = Fold(first_at=START - timedelta(minutes=5), last_at=START, count=6)

    assert run_of(fold=fold).previous_at == START - timedelta(minutes=6)


def test_a_request_for_no_occurrence_stands_for_the_instant_of_asking() -> None:
    run = run_of(occurrence_at=None)

    assert run.occurrence == START
    assert run.previous_at == START - timedelta(minutes=1)


# --- how they end ---


def test_a_failure_comes_with_its_traceback_and_without_our_frames() -> None:
    report = inline(target("raises", "the line is dead"))

    assert report.outcome is Outcome.FAILED
    assert report.error is not None
    assert report.error.startswith("Traceback (most recent call last):\n")
    assert "in inner" in report.error
    assert "executors/python.py" not in report.error
    assert report.error.endswith("ConnectionResetError: the line is dead")
    assert report.error_type == "ConnectionResetError"


@pytest.mark.parametrize("listed", ["OSError", "ConnectionError", "builtins.ConnectionResetError"])
def test_retry_on_lists_classes_their_subclasses_included(listed: str) -> None:
    report = inline(target("raises", "x"), retry_on=("KeyError", listed))

    assert report.error_type == listed


def test_an_error_text_is_cut_in_the_middle_and_can_be_stored() -> None:
    report = inline(target("raises", "\ud800\0" + "x" * 20_000 + "the end"))

    assert report.error is not None
    assert len(report.error) < ERROR_CHARS_MAX + 100
    assert report.error.endswith("the end")
    assert "characters left out" in report.error
    report.error.encode()
    assert "\0" not in report.error


def test_a_body_that_exits_has_failed_and_its_thread_lives_on(threads: Threads) -> None:
    threads.executor.start(claimed(target("exits")), LEASED)
    assert (threads.next().error_type, threads.executor.free()) == ("SystemExit", 4)

    threads.executor.start(claimed(target("adds", 1), token=2), LEASED)
    assert threads.next().result == 1


@pytest.mark.parametrize(
    ("name", "why"), [("returns_an_object", "is not JSON"), ("returns_much", "limit of 65536")]
)
def test_a_result_that_cannot_be_kept_fails_the_run_and_says_why(name: str, why: str) -> None:
    report = inline(target(name))

    assert report.outcome is Outcome.FAILED
    assert why in (report.error or "")


def test_seed_51_a_result_is_kept_as_plain_data() -> None:
    assert inline(target("returns_a_tree")).result == {"at": "2026-11-21T12:00:00Z", "ids": [1]}


@pytest.mark.parametrize("name", ["absent", "os.system"])
def test_a_target_that_is_gone_at_run_time_fails_the_run(name: str) -> None:
    report = inline(target(name))

    assert (report.outcome, report.error_type) == (Outcome.FAILED, "TargetNotFound")


def test_arguments_that_do_not_fit_fail_the_run_and_say_so() -> None:
    report = inline(target("adds", 1, 2, 3))

    assert report.error_type == "InvalidInput"
    assert "does not take" in (report.error or "")


# --- slots, timeouts, and being told ---


def test_slots_are_counted_until_bodies_return(threads: Threads) -> None:
    threads.executor.start(claimed(target("hangs")), LEASED)
    assert bodies.entered.wait(PATIENCE)
    assert threads.executor.free() == 3

    bodies.leave.set()
    assert threads.next().result == "at last"
    assert threads.executor.free() == 4


def test_a_body_past_its_timeout_is_reported_once_and_keeps_its_slot_until_it_returns(
    threads: Threads,
) -> None:
    threads.executor.start(claimed(target("hangs"), timeout=seconds(5)), LEASED)
    assert bodies.entered.wait(PATIENCE)
    assert threads.executor.overrun(START + seconds(4.999)) == []

    (report,) = threads.executor.overrun(START + seconds(5))
    assert report.outcome is Outcome.TIMED_OUT
    assert threads.executor.overrun(START + seconds(60)) == []
    assert threads.executor.free() == 3

    threads.rung.clear()
    bodies.leave.set()
    assert threads.rung.wait(PATIENCE)  # the slot is free: worth a look
    assert threads.executor.reports() == []
    assert threads.executor.free() == 4


def test_seed_24_a_body_that_is_told_and_looks_ends_as_cancelled(threads: Threads) -> None:
    threads.executor.start(claimed(target("looks")), LEASED)
    assert bodies.entered.wait(PATIENCE)

    threads.executor.tell("a@20261121T120000Z", 1, "cancelled on request")
    report = threads.next()

    assert (report.outcome, report.result) == (Outcome.CANCELLED, "stopped: cancelled on request")


def test_a_body_that_is_told_and_never_looks_has_succeeded(threads: Threads) -> None:
    threads.executor.start(claimed(target("does_not_look")), LEASED)
    assert bodies.entered.wait(PATIENCE)
    threads.executor.tell("a@20261121T120000Z", 1, "cancelled on request")

    bodies.leave.set()

    assert threads.next().outcome is Outcome.SUCCEEDED


def test_a_run_is_no_longer_mine_when_its_lease_has_lapsed_here_whoever_was_silent() -> None:
    clock = VirtualClock(START)
    mine: list[bool] = []
    executor = InlineExecutor(clock=clock)

    def body(run: Any) -> None:
        executor.renewed(run.id, run.token, START + seconds(30))
        mine.append(run.still_mine())
        clock.advance(seconds(30))
        mine.append(run.still_mine())
        executor.renewed(run.id, run.token, START + seconds(60))
        mine.append(run.still_mine())

    executor.allow(body)
    executor.start(claimed(Target(kind="python", address=address_of(body))), LEASED)

    assert mine == [True, False, True]
    assert executor.reports()[0].outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("late", "outcome"), [(-timedelta(microseconds=1), Outcome.SUCCEEDED), (timedelta(0), Outcome.LOST)]
)
def test_a_body_does_not_begin_once_its_lease_has_lapsed(late: timedelta, outcome: Outcome) -> None:
    clock, began = VirtualClock(LEASED + late), []
    executor = InlineExecutor(clock=clock)

    def body() -> None:
        began.append(clock.now())

    executor.allow(body)
    executor.start(claimed(Target(kind="python", address=address_of(body))), LEASED)

    (report,) = executor.reports()
    assert (report.outcome, bool(began)) == (outcome, outcome is Outcome.SUCCEEDED)
    assert executor.free() == 1000


def test_the_next_attempt_of_a_run_may_begin_while_the_last_one_hangs(threads: Threads) -> None:
    threads.executor.start(claimed(target("hangs"), timeout=seconds(1)), LEASED)
    assert bodies.entered.wait(PATIENCE)
    threads.executor.overrun(START + seconds(1))

    threads.executor.start(claimed(target("adds", 1), token=2), LEASED)

    assert (threads.next().token, threads.executor.free()) == (2, 3)


def test_threads_are_made_when_they_are_needed() -> None:
    before = threading.active_count()
    many = Threads(threads=1000)
    assert threading.active_count() == before

    for token in range(5):
        many.executor.start(claimed(target("nothing"), token=token), LEASED)
        many.next()

    assert threading.active_count() <= before + 2
    many.executor.close()


def test_a_body_that_hangs_does_not_hold_the_process() -> None:
    code = (
        "import threading\n"
        "from tests.engine.test_python_executor import LEASED, Threads, bodies, claimed, target\n"
        "Threads().executor.start(claimed(target('hangs')), LEASED)\n"
        "assert bodies.entered.wait(20)\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=15)


# --- what they say ---


def said(body: Callable[..., None]) -> tuple[list[tuple[str, str]], tuple[int, int] | None]:
    executor = InlineExecutor(allow=[HERE], clock=VirtualClock(START))
    executor.start(claimed(Target(kind="python", address=address_of(body))), LEASED)
    (note,) = executor.notes()
    assert executor.notes() == []
    return [(line.level, line.text) for line in note.lines], note.progress


def test_seed_49_lines_of_the_runs_logger_are_kept_at_every_level() -> None:
    lines, progress = said(bodies.talks)

    assert lines[:2] == [("debug", "debug 1"), ("warning", "named place")]
    assert lines[2][0] == "error"
    assert lines[2][1].startswith("it failed\nTraceback")
    assert lines[3] == ("info", "bad %d ('format',)")
    assert progress == (2, 3)


def test_a_handler_keeps_what_libraries_log_and_nothing_twice() -> None:
    handler = RunLogHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        logging.getLogger("outside").warning("of no run")
        lines, _ = said(bodies.talks)
    finally:
        root.removeHandler(handler)

    texts = [text for _, text in lines]
    assert texts.count("named place") == 1
    assert ("warning", "from a library") in lines
    assert "of no run" not in texts


def test_lines_also_go_where_logging_is_set_up_to_take_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    said(bodies.talks)

    assert "named place" in caplog.messages
    assert "debug 1" not in caplog.messages


def test_a_body_that_says_too_much_loses_lines_and_is_told_how_many() -> None:
    lines, _ = said(bodies.chatters)

    assert len(lines) == LINES_WAITING_MAX + 1
    assert lines[-1] == ("warning", "501 lines were dropped: more than 1000 were waiting")


def test_what_is_said_after_a_delivery_is_delivered_too(threads: Threads) -> None:
    threads.executor.start(claimed(target("speaks_twice")), LEASED)
    assert bodies.entered.wait(PATIENCE)
    (first,) = threads.executor.notes()
    bodies.leave.set()
    threads.next()
    (second,) = threads.executor.notes()

    assert [line.text for note in (first, second) for line in note.lines] == ["before", "after"]


def test_a_long_line_is_cut() -> None:
    run = run_of()
    run.keep("info", "x" * 10_000)

    assert run.take().lines[0].text.endswith("… (1808 characters more)")
