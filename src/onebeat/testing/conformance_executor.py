"""The one suite that every executor passes: ``core.ports.Executor`` as tests.

An executor passes it by a subclass in a test file, which says how to make one and what to run:

    class TestMine(ExecutorSuite):
        def executor(self):
            return MyExecutor(slots=4)

        def good(self):
            return Target(kind="mine", address="ends-well")

and so on, a target for each way in which a body can end. Time is handed in: deadlines pass when a test says
so, and a body's end is waited for by its wake-up, never by a sleep.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import ClassVar

import msgspec
import pytest

from onebeat.core.codec import RESULT_BYTES_MAX
from onebeat.core.definition import policy_of
from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.messages import Claimed, Note, Report
from onebeat.core.model import Definition, Json, Outcome, Run, RunState, Target
from onebeat.core.ports import Executor
from onebeat.core.triggers.interval import interval
from onebeat.engine.clock import SystemClock
from onebeat.engine.executors.bodies import ERROR_CHARS_MAX

PATIENCE_S = 30.0
"""How long a test waits for a body that should have ended, before it says that it did not."""

SECOND = timedelta(seconds=1)
MANY = 60


def claimed(
    target: Target, *, token: int = 1, run_id: str = "a@20261121T120000Z", **policy: object
) -> Claimed:
    """Return a run of ``target`` as the worker hands it over: started just now, on the machine's clock."""
    now = SystemClock().now()
    run = Run(
        id=run_id,
        schedule_id=1,
        schedule="a",
        number=1,
        queue=target.queue,
        target=target.key,
        state=RunState.RUNNING,
        due_at=now,
        ready_at=now,
        created_at=now,
        occurrence_at=now,
        attempt=1,
        token=token,
        started_at=now,
    )
    trigger = interval(minutes=1, anchor=now - timedelta(days=1))
    return Claimed(run=run, definition=Definition(trigger=trigger, target=target, policy=policy_of(policy)))


class Watched:
    """An executor, and a way to wait for what it reports without sleeping."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.clock = SystemClock()
        self.woken = threading.Event()
        executor.connect(self.woken.set)

    def start(self, target: Target, *, lease: timedelta = 60 * SECOND, **what: object) -> Claimed:
        """Start a body under a lease that lapses that long from now."""
        run = claimed(target, **what)  # type: ignore[arg-type]  # the fields of a policy, as a test writes them
        self.executor.start(run, self.clock.now() + lease)
        return run

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait for wake-ups until something is so."""
        while not until():
            assert self.woken.wait(PATIENCE_S), "no wake-up came"
            self.woken.clear()

    def next(self, count: int = 1) -> list[Report]:
        """Wait for so many reports, and return them; there must be no more."""
        reports: list[Report] = []

        def enough() -> bool:
            reports.extend(self.executor.reports())
            return len(reports) >= count

        self.wait(enough)
        assert len(reports) == count
        return reports

    def only(self) -> Report:
        """Wait for the one report."""
        (report,) = self.next()
        return report


class ExecutorSuite:
    """Everything that ``core.ports.Executor`` promises, on real threads and under the machine's clock."""

    stops: ClassVar[bool] = True
    """It can stop a body that does not look. If not, one that hangs must keep its slot until it returns."""

    good_result: ClassVar[Json] = None
    """What ``good`` leaves."""

    line: ClassVar[str | None] = None
    """A line that ``good`` writes, if its bodies can be heard. If not, it must have nothing to say."""

    @pytest.fixture(autouse=True)
    def _watched(self) -> Iterator[None]:
        self.watched = Watched(self.executor())
        self.ready()
        yield
        self.let_go()
        self.watched.executor.close()

    # --- what a plug says of itself ---

    def executor(self) -> Executor:
        """Return a new executor with four slots."""
        raise NotImplementedError("return an executor with four slots")

    def ready(self) -> None:
        """Make ready what the targets need. By default nothing."""

    def good(self) -> Target:
        """Return a target whose body ends well, soon, with ``good_result``."""
        raise NotImplementedError("return a target that ends well")

    def bad(self) -> Target:
        """Return a target whose body fails, and has a good deal more than ERROR_CHARS_MAX to say about it."""
        raise NotImplementedError("return a target that fails at length")

    def large(self) -> Target:
        """Return a target whose result is larger than RESULT_BYTES_MAX."""
        raise NotImplementedError("return a target with a large result")

    def hangs(self) -> Target:
        """Return a target whose body goes on until ``let_go``."""
        raise NotImplementedError("return a target that hangs")

    def let_go(self) -> None:
        """Let every body that hangs come to its end."""
        raise NotImplementedError("let those that hang go")

    def looks(self) -> Target:
        """Return a target whose body ends soon after it was told to stop. By default one that hangs."""
        return self.hangs()

    def refused(self) -> Target:
        """Return a target that this executor may not run."""
        raise NotImplementedError("return a target that may not run")

    def misfit(self) -> Target | None:
        """Return a target that may run, with arguments that do not fit; None where all arguments do."""
        return None

    # --- what may run ---

    def test_it_is_an_executor_of_its_kind(self) -> None:
        assert isinstance(self.watched.executor, Executor)
        assert {self.good().kind, self.bad().kind, self.hangs().kind} == {self.watched.executor.kind}

    def test_what_it_may_run_is_resolved_and_what_it_may_not_is_refused(self) -> None:
        self.watched.executor.resolve(self.good())

        with pytest.raises(TargetNotFound):
            self.watched.executor.resolve(self.refused())

    def test_arguments_that_do_not_fit_are_refused_before_anything_runs(self) -> None:
        misfit = self.misfit()
        if misfit is None:
            self.watched.executor.resolve(self.good())
            return
        with pytest.raises(InvalidInput):
            self.watched.executor.resolve(misfit)

    def test_what_is_refused_fails_its_run_if_it_is_started_all_the_same(self) -> None:
        self.watched.start(self.refused())

        report = self.watched.only()
        assert report.outcome is Outcome.FAILED
        assert report.error

    # --- how a body ends ---

    def test_a_body_that_ends_well_is_reported_once_with_its_result(self) -> None:
        run = self.watched.start(self.good())

        report = self.watched.only()
        assert (report.run_id, report.token) == (run.run.id, run.run.token)
        assert (report.outcome, report.result, report.error) == (
            Outcome.SUCCEEDED,
            self.good_result,
            None,
        )
        assert self.watched.executor.reports() == []

    def test_a_body_that_fails_is_reported_with_an_error_that_is_bounded_and_has_a_type(self) -> None:
        self.watched.start(self.bad())

        report = self.watched.only()
        assert report.outcome is Outcome.FAILED
        assert report.error_type
        assert 0 < len(report.error or "") < ERROR_CHARS_MAX + 200

    def test_no_result_is_larger_than_what_is_kept(self) -> None:
        self.watched.start(self.large())

        report = self.watched.only()
        assert len(msgspec.json.encode(report.result)) <= RESULT_BYTES_MAX
        assert report.outcome is Outcome.SUCCEEDED or str(RESULT_BYTES_MAX) in (report.error or "")

    def test_what_a_body_says_is_there_when_its_end_is_reported(self) -> None:
        run = self.watched.start(self.good())
        self.watched.only()

        notes: list[Note] = self.watched.executor.notes()
        assert self.watched.executor.notes() == []
        if self.line is None:
            assert notes == []
        else:
            assert {(note.run_id, note.token) for note in notes} == {(run.run.id, run.run.token)}
            assert self.line in [line.text for note in notes for line in note.lines]

    # --- slots ---

    def test_a_slot_is_taken_from_the_start_of_a_body_until_its_end(self) -> None:
        executor = self.watched.executor
        assert executor.free() == 4
        for token in range(1, 5):
            self.watched.start(self.hangs(), token=token)
            assert executor.free() == 4 - token

        self.let_go()
        assert sorted(report.token for report in self.watched.next(4)) == [1, 2, 3, 4]
        assert executor.free() == 4

    def test_each_of_many_bodies_is_reported_once_whoever_collects(self) -> None:
        executor = self.watched.executor
        got: list[int] = []
        done = threading.Event()

        def collect() -> None:
            while not done.is_set():
                got.extend(report.token for report in executor.reports())

        def free(slots: int) -> bool:
            got.extend(
                report.token for report in executor.reports()
            )  # who does not collect is not woken again
            return executor.free() >= slots

        collectors = [threading.Thread(target=collect) for _ in range(2)]
        for collector in collectors:
            collector.start()
        try:
            for token in range(MANY):
                self.watched.wait(lambda: free(1))
                self.watched.start(self.good(), token=token)
            self.watched.wait(lambda: free(4))
        finally:
            done.set()
            for collector in collectors:
                collector.join()

        got.extend(report.token for report in executor.reports())
        assert sorted(got) == list(range(MANY))

    # --- timeouts, and being told ---

    def test_a_body_past_its_timeout_is_reported_once_and_what_comes_later_is_dropped(self) -> None:
        executor = self.watched.executor
        run = self.watched.start(self.hangs(), timeout=5)
        assert run.run.started_at is not None
        deadline = run.run.started_at + 5 * SECOND

        assert executor.overrun(deadline - timedelta(microseconds=1)) == []
        (report,) = executor.overrun(deadline)
        assert (report.run_id, report.token, report.outcome) == (
            run.run.id,
            run.run.token,
            Outcome.TIMED_OUT,
        )
        assert "timeout" in (report.error or "")
        assert executor.overrun(deadline + 60 * SECOND) == []

        if not self.stops:
            assert executor.free() == 3
            self.let_go()
        self.watched.wait(lambda: executor.free() == 4)
        assert executor.reports() == []

    def test_a_body_that_ended_in_time_is_not_overrun(self) -> None:
        run = self.watched.start(self.good(), timeout=5)
        self.watched.only()
        assert run.run.started_at is not None

        assert self.watched.executor.overrun(run.run.started_at + 60 * SECOND) == []

    def test_the_next_attempt_may_begin_while_the_last_one_hangs(self) -> None:
        executor = self.watched.executor
        run = self.watched.start(self.hangs(), token=1, timeout=5)
        assert run.run.started_at is not None
        assert len(executor.overrun(run.run.started_at + 5 * SECOND)) == 1

        self.watched.start(self.good(), token=2)

        assert self.watched.only().token == 2

    def test_a_body_that_is_told_to_stop_ends_as_cancelled(self) -> None:
        run = self.watched.start(self.looks())

        self.watched.executor.tell(run.run.id, run.run.token, "cancelled on request")
        self.watched.executor.tell(run.run.id, run.run.token, "and once more")

        report = self.watched.only()
        assert report.outcome is Outcome.CANCELLED
        assert self.watched.executor.free() == 4

    def test_only_the_attempt_that_is_meant_is_told(self) -> None:
        run = self.watched.start(self.hangs(), token=2)

        self.watched.executor.tell(run.run.id, 1, "another attempt")
        self.watched.executor.tell("nobody@20261121T120000Z", 2, "another run")
        self.watched.executor.renewed(run.run.id, 1, self.watched.clock.now())
        self.let_go()

        assert self.watched.only().outcome is Outcome.SUCCEEDED

    def test_a_body_does_not_begin_once_its_lease_has_lapsed(self) -> None:
        self.watched.start(self.good(), lease=timedelta(0))

        report = self.watched.only()
        assert report.outcome is Outcome.LOST
        assert self.watched.executor.notes() == []
        assert self.watched.executor.free() == 4

    # --- the end ---

    def test_closed_it_has_no_slot_and_a_body_that_runs_is_still_reported(self) -> None:
        self.watched.start(self.hangs())

        self.watched.executor.close()
        assert self.watched.executor.free() == 0
        self.let_go()

        assert self.watched.only().outcome is Outcome.SUCCEEDED
