"""A worker takes no more than its slots, loses no report, tells none twice, and loses no lease silently."""

from __future__ import annotations

import itertools
import threading
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any

import pytest
from tests.engine.lab import START, Lab, Node, seconds

from onebeat.core.errors import StoreUnavailable, TargetNotFound
from onebeat.core.messages import LogLine, Start
from onebeat.core.model import OnLost, Outcome, Run, RunState, Target
from onebeat.core.ports import LEASE
from onebeat.core.triggers.interval import interval, once
from onebeat.engine.attempt import LAPSED
from onebeat.engine.repertoire import AGAIN_MAX, LEARN, THREAD
from onebeat.engine.worker import POLL, WRITES_MAX


@pytest.fixture
def lab() -> Lab:
    return Lab()


def begun(lab: Lab, node: Node, name: str = "a", **policy: Any) -> str:
    """Create a schedule, let its first run start on the node, return the run's id."""
    lab.put(name, **policy)
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    node.worker.step()
    run = lab.runs(name)[-1]
    assert run.id in node.puppet.started
    return run.id


def broken_step(node: Node, verb: str, *, after: bool) -> None:
    """Let one step of the worker end at a verb, before or after its commit."""
    node.store.fail(verb, after=after)
    with pytest.raises(StoreUnavailable):
        node.worker.step()


# --- claiming ---


def test_a_worker_claims_no_more_than_its_free_slots(lab: Lab) -> None:
    node = lab.node(slots=2)
    for name in ("a", "b", "c"):
        lab.put(name)
    lab.pass_time(60, node)
    assert len(node.puppet.started) == 2
    assert sum(run.state is RunState.READY for name in ("a", "b", "c") for run in lab.runs(name)) == 1

    node.puppet.end(node.puppet.started[0])
    node.worker.step()

    assert len(node.puppet.started) == 3


def test_a_worker_claims_only_what_it_can_run(lab: Lab) -> None:
    node = lab.node(refuses=("theirs",))
    lab.put("a", address="mine")
    lab.put("b", address="theirs")

    lab.pass_time(60, node)

    assert [run_id.partition("@")[0] for run_id in node.puppet.started] == ["a"]
    assert lab.store.nodes()[0].targets == ("puppet:mine",)


def test_a_worker_claims_only_from_its_queues(lab: Lab) -> None:
    node = lab.node(queues=("mail",))
    lab.put("a")

    lab.pass_time(60, node)

    assert node.puppet.started == []


def test_a_target_that_could_not_be_resolved_is_tried_again(lab: Lab) -> None:
    node = lab.node(refuses=("body",))
    lab.put("a")
    lab.pass_time(60, node)
    assert node.puppet.started == []

    node.puppet.refuses = ()
    lab.pass_time(120, node)

    assert node.puppet.started


def test_a_target_that_cannot_be_resolved_is_tried_ever_more_rarely(lab: Lab) -> None:
    node = lab.node()
    tries: list[datetime] = []

    def resolve(target: Target) -> None:
        tries.append(lab.now())
        raise TargetNotFound(target.address)

    node.puppet.resolve = resolve  # type: ignore[method-assign]  # to see when it is asked
    lab.put("a")
    lab.pass_time(3600, node)

    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[:3] == [seconds(5), seconds(10), seconds(20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == AGAIN_MAX


def tried(*but: threading.Thread) -> None:
    """Wait until all that is tried aside has answered, ``but`` what hangs."""
    for thread in threading.enumerate():
        if thread.name == THREAD and thread not in but:
            thread.join()


def test_a_target_whose_import_hangs_keeps_no_lease_from_being_renewed_and_no_other_target_from_its_turn(
    lab: Lab,
) -> None:
    node = lab.node(aside=True)
    lab.put("a", once(lab.now() + seconds(60)), timeout=None)
    node.worker.step()
    tried()
    lab.pass_time(60, node)
    (held,) = node.puppet.started
    hanging: SimpleQueue[threading.Thread] = SimpleQueue()
    leave = threading.Event()

    def resolve(target: Target) -> None:
        if target.address == "hangs":
            hanging.put(threading.current_thread())
            leave.wait(20)

    node.puppet.resolve = resolve  # type: ignore[method-assign]  # an import that waits for something
    lab.put("b", address="hangs")
    lab.pass_time(1, node)
    stuck = hanging.get(timeout=20)
    lab.put("c", address="fine")
    lab.pass_time(6, node)
    tried(stuck)
    lab.pass_time(60, node)

    try:
        assert [run_id.partition("@")[0] for run_id in node.puppet.started] == ["a", "c"]
        assert lab.run(held).lease_until > lab.now()  # type: ignore[operator]  # it is running
        assert lab.store.nodes()[0].targets == ("puppet:body", "puppet:fine")
    finally:
        leave.set()
    tried()
    lab.pass_time(1, node)
    assert "puppet:hangs" in lab.store.nodes()[0].targets


def test_a_target_announced_in_code_is_claimed_before_any_schedule_names_it(lab: Lab) -> None:
    node = lab.node(targets=("puppet:body",))
    node.worker.step()
    lab.put("a", once(lab.now() + seconds(0.1)))
    lab.clock.advance(seconds(0.1))

    node.dispatcher.step()
    node.worker.step()

    assert len(node.puppet.started) == 1


def test_with_every_hint_dropped_a_run_starts_within_the_poll(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    wake_at = node.worker.step()
    lab.clock.advance(seconds(60.0001))
    while wake_at <= lab.now():
        wake_at = node.worker.step()
    node.dispatcher.step()

    while not node.puppet.started:
        lab.clock.set(wake_at)
        wake_at = node.worker.step()

    assert lab.now() - lab.runs("a")[0].created_at <= POLL


# --- answers ---


def test_a_run_whose_start_is_refused_is_dropped_without_a_word(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    lab.put("a")
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    broken_step(node, "advance", after=False)
    lab.clock.advance(LEASE)
    other.dispatcher.step()
    other.worker.step()

    caplog.clear()
    node.worker.step()

    assert node.puppet.started == []
    assert node.worker.holding == 0
    assert lab.runs("a")[0].holder == "n2"
    assert not caplog.records


def test_a_refused_start_begins_no_body_though_by_the_nodes_own_clock_its_lease_goes_on(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    lab.put("a")
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    broken_step(node, "advance", after=False)
    claimed_at = lab.now()
    lab.clock.advance(LEASE)
    other.dispatcher.step()
    other.worker.step()

    lab.clock.set(claimed_at)
    node.worker.step()

    assert node.puppet.started == []
    assert len(other.puppet.started) == 1


def test_a_body_begins_once_though_the_reply_to_its_start_was_lost(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    broken_step(node, "advance", after=True)
    assert node.puppet.started == []

    node.worker.step()
    node.worker.step()

    assert len(node.puppet.started) == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_report_is_sent_until_it_is_answered_and_counts_once(lab: Lab, after: bool) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.end(run_id, result={"rows": 3})
    for _ in range(3):
        broken_step(node, "advance", after=after)

    node.worker.step()

    run = lab.run(run_id)
    assert (run.state, run.result) == (RunState.SUCCEEDED, {"rows": 3})
    assert node.worker.holding == 0
    assert lab.events("attempt.refused") == []


def test_a_report_is_judged_once_however_often_it_is_sent(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node, attempts=2, backoff=seconds(10))
    node.puppet.end(run_id, Outcome.FAILED, error="no", error_type="OSError")
    broken_step(node, "advance", after=True)
    retry_at = lab.run(run_id).ready_at

    lab.clock.advance(seconds(3))
    node.worker.step()

    assert lab.run(run_id).ready_at == retry_at
    assert len(lab.events("attempt.failed")) == 1


def test_a_lost_reply_is_not_taken_for_a_refusal_when_the_next_attempt_has_begun(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    run_id = begun(lab, node, attempts=2, backoff=seconds(1))
    node.puppet.end(run_id, Outcome.FAILED, error="no", error_type="OSError")
    broken_step(node, "advance", after=True)
    lab.pass_time(2, other)
    assert lab.run(run_id).holder == "n2"

    node.worker.step()

    assert lab.events("attempt.refused") == []
    assert node.worker.holding == 0


def test_seed_18_a_worker_paused_past_its_lease_finds_its_result_refused_and_says_so(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    paused, other = lab.node("paused"), lab.node("other")
    run_id = begun(lab, paused)
    lab.clock.advance(seconds(60))
    other.step()
    assert lab.run(run_id).holder == "other"

    paused.puppet.end(run_id, result="stale")
    paused.worker.step()
    other.puppet.end(run_id, result="true")
    other.worker.step()

    assert lab.run(run_id).result == "true"
    (event,) = lab.events("attempt.refused")
    assert event.reason == "result refused: the lease passed to other (attempt 2)"
    assert event.actor == "paused"
    assert event.data["attempt"] == 1
    assert "result refused" in caplog.text
    assert paused.metrics.value("onebeat_results_refused_total") == 1


@pytest.mark.parametrize("verb", ["run", "record"])
def test_a_refusal_is_said_though_the_store_goes_away_meanwhile(lab: Lab, verb: str) -> None:
    paused, other = lab.node("paused"), lab.node("other")
    run_id = begun(lab, paused)
    lab.clock.advance(seconds(60))
    other.step()
    paused.puppet.end(run_id)
    broken_step(paused, verb, after=False)

    paused.worker.step()

    assert len(lab.events("attempt.refused")) == 1


# --- leases ---


def test_seed_58_a_run_of_100_leases_keeps_its_claim_by_renewing(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    run_id = begun(lab, node)

    lab.pass_time(LEASE.total_seconds() * 100, node, other, step=5)
    node.puppet.end(run_id)
    node.worker.step()

    assert (lab.run(run_id).attempt, lab.run(run_id).state) == (1, RunState.SUCCEEDED)


def test_every_lease_is_renewed_at_a_third_also_those_that_began_later(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(hours=1, anchor=START))
    lab.put("b", interval(hours=1, anchor=START + seconds(4)))
    lab.put("c", interval(hours=1, anchor=START + seconds(7)))
    left: list[timedelta] = []
    for _ in range(200):
        lab.clock.advance(seconds(0.5))
        node.step()
        running = [run for name in ("a", "b", "c") for run in lab.runs(name)]
        left += [run.lease_until - lab.now() for run in running if run.lease_until is not None]

    assert len(node.puppet.started) == 2  # a is due at the hour
    assert min(left) >= LEASE * 2 / 3 - seconds(0.5)


def test_renewals_travel_together(lab: Lab) -> None:
    node = lab.node(slots=50)
    for n in range(50):
        lab.put(f"s{n}", interval(hours=1, anchor=START + seconds(10 + n / 100)))
    lab.pass_time(11, node, step=0.01)
    assert len(node.puppet.started) == 50
    node.store.calls.clear()

    lab.pass_time(30, node, step=0.1)

    assert node.store.calls.count("advance") <= 5


def test_a_body_is_told_when_its_lease_was_lost(lab: Lab) -> None:
    paused, other = lab.node("paused"), lab.node("other")
    run_id = begun(lab, paused)
    lab.clock.advance(seconds(60))
    other.step()

    paused.worker.step()

    assert paused.puppet.told == [(run_id, "the lease was lost")]
    paused.worker.step()
    assert len(paused.puppet.told) == 1  # and is left alone


def stalled(lab: Lab, node: Node, span: timedelta, meanwhile: Any = None) -> None:
    """Let a node stand still as soon as the ledger has taken a Start, before the body begins."""
    advance = node.store.store.advance

    def then_stand_still(transitions: Any) -> Any:
        answers = advance(transitions)
        if any(isinstance(each, Start) for each in transitions):
            del node.store.advance
            lab.clock.advance(span)
            if meanwhile is not None:
                meanwhile()
        return answers

    node.store.advance = then_stand_still  # type: ignore[attr-defined]  # in the place of the real verb, once


@pytest.mark.parametrize("on_lost", list(OnLost))
def test_a_worker_stalled_past_its_lease_after_the_start_does_not_begin_the_body(
    lab: Lab, on_lost: OnLost, caplog: pytest.LogCaptureFixture
) -> None:
    node = lab.node()
    run = claimed_only(lab, node, after=False, on_lost=on_lost)
    stalled(lab, node, LEASE)

    node.worker.step()

    (event,) = lab.events("attempt.lost")
    assert (event.data["attempt"], event.data["error"]) == (1, LAPSED)
    assert "attempt 1: lost; lost before it started" in caplog.text
    assert node.metrics.value("onebeat_attempts_total", "lost") == 1
    assert lab.events("attempt.refused") == []
    # Nobody else was there, so it claimed the run anew: the body begins once, under a lease that holds.
    assert node.puppet.started == [run.id]
    assert (lab.run(run.id).state, lab.run(run.id).attempt) == (RunState.RUNNING, 2)
    assert node.puppet.until[run.id] > lab.now()


def test_a_body_that_may_still_begin_in_time_begins(lab: Lab) -> None:
    node = lab.node()
    run = claimed_only(lab, node, after=False)
    stalled(lab, node, LEASE / 2)

    node.worker.step()

    assert node.puppet.started == [run.id]
    assert lab.run(run.id).attempt == 1


def test_what_was_taken_over_while_its_start_was_stalled_does_not_begin_a_second_time(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    node, other = lab.node("stalled"), lab.node("other")
    run = claimed_only(lab, node, after=False)
    stalled(lab, node, LEASE, other.step)

    node.worker.step()
    node.worker.step()

    assert (node.puppet.started, other.puppet.started) == ([], [run.id])
    (event,) = lab.events("attempt.refused")
    assert (event.actor, event.data["outcome"]) == ("stalled", "lost")
    assert event.reason == "result refused: the lease passed to other (attempt 2)"
    assert "result refused" in caplog.text
    assert node.metrics.value("onebeat_results_refused_total") == 1
    assert node.worker.holding == 0


def test_a_body_learns_until_when_the_run_is_its_own(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    assert node.puppet.until[run_id] == lab.now() + LEASE

    lab.pass_time(10, node)

    assert node.puppet.until[run_id] == lab.now() + LEASE


# --- cancelling and timeouts ---


def test_a_cancel_reaches_the_body_within_a_third_of_the_lease(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    lab.cancel(run_id)

    lab.pass_time(LEASE.total_seconds() / 3, node)
    assert node.puppet.told == [(run_id, "cancelled on request")]

    node.puppet.end(run_id, Outcome.CANCELLED, error="the body stopped")
    node.worker.step()
    assert lab.run(run_id).state is RunState.CANCELLED


def test_a_run_cancelled_between_claim_and_start_never_begins(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    broken_step(node, "advance", after=False)
    run_id = lab.runs("a")[0].id
    lab.cancel(run_id)

    node.worker.step()
    node.worker.step()

    assert node.puppet.started == []
    assert lab.run(run_id).state is RunState.CANCELLED


def test_a_body_that_overruns_is_told_recorded_and_keeps_its_slot_until_it_returns(lab: Lab) -> None:
    node = lab.node(slots=1)
    run_id = begun(lab, node, timeout=seconds(5))
    assert node.worker.step() <= lab.now() + seconds(5)

    lab.pass_time(5, node)
    assert lab.run(run_id).state is RunState.TIMED_OUT
    assert node.puppet.told == [(run_id, "timeout")]

    lab.pass_time(60, node)
    assert lab.states("a") == [RunState.TIMED_OUT, RunState.READY]  # no slot is free here

    node.puppet.end(run_id, result="too late")
    node.worker.step()
    assert lab.run(run_id).result is None
    assert len(node.puppet.started) == 2


def test_the_worker_wakes_for_a_timeout_that_comes_before_the_poll(lab: Lab) -> None:
    node = lab.node()
    begun(lab, node, timeout=seconds(0.25))

    assert node.worker.step() == lab.now() + seconds(0.25)


# --- retries ---


def test_seed_48_a_failed_attempt_is_tried_again_after_its_backoff_with_a_record_of_each(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node, attempts=3, backoff=seconds(10))
    waits = []
    for attempt in (1, 2, 3):
        assert lab.run(run_id).attempt == attempt
        node.puppet.end(run_id, Outcome.FAILED, error=f"no {attempt}", error_type="OSError")
        node.worker.step()
        waits.append(lab.run(run_id).ready_at - lab.now())
        lab.pass_time(30, node)

    assert lab.run(run_id).state is RunState.FAILED
    assert seconds(5) <= waits[0] <= seconds(10)
    assert seconds(10) <= waits[1] <= seconds(20)
    records = lab.events("attempt.failed", "run.failed")
    assert [event.kind for event in records] == ["attempt.failed", "attempt.failed", "run.failed"]
    assert [event.data["error"] for event in records] == ["no 1", "no 2", "no 3"]
    assert [event.data["attempt"] for event in records] == [1, 2, 3]
    assert all(event.data["holder"] == "n1" for event in records)
    assert all({"claimed_at", "started_at", "finished_at"} <= event.data.keys() for event in records)


def test_the_worker_wakes_for_the_retry_that_it_reported(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node, attempts=2, backoff=seconds(0.5))
    node.puppet.end(run_id, Outcome.FAILED, error="no", error_type="OSError")

    wake_at = node.worker.step()

    assert wake_at == lab.run(run_id).ready_at
    assert wake_at < lab.now() + POLL


def test_a_success_is_an_event_only_where_the_schedule_asks_for_it(lab: Lab) -> None:
    node = lab.node()
    for name, loud in (("quiet", False), ("loud", True)):
        run_id = begun(lab, node, name, report_success=loud)
        node.puppet.end(run_id)
        node.worker.step()

    assert [event.schedule for event in lab.events("run.succeeded")] == ["loud"]


# --- what bodies say ---


def line(at: datetime, text: str) -> LogLine:
    return LogLine(at=at, attempt=1, level="info", text=text)


def test_lines_and_progress_reach_the_ledger_within_the_poll_and_in_few_commits(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.store.calls.clear()
    for n in range(100):
        node.puppet.note(run_id, progress=(n, 100), lines=(line(lab.now(), f"line {n}"),))
        lab.pass_time(0.02, node, step=0.02)
    lab.pass_time(1, node)

    assert [kept.text for kept in lab.store.log(run_id)] == [f"line {n}" for n in range(100)]
    assert lab.run(run_id).progress == (99, 100)
    assert node.store.calls.count("note") <= 5


def test_the_last_lines_are_kept_before_the_run_ends(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.note(run_id, lines=(line(lab.now(), "goodbye"),))
    node.puppet.end(run_id)

    node.worker.step()

    assert [kept.text for kept in lab.store.log(run_id)] == ["goodbye"]
    assert lab.run(run_id).state is RunState.SUCCEEDED


def test_lines_that_cannot_be_kept_hold_up_no_result(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.note(run_id, lines=(line(lab.now(), "poison"),))
    node.puppet.end(run_id)
    node.store.fail("note", error=RuntimeError("no such line"))

    node.worker.step()

    assert lab.run(run_id).state is RunState.SUCCEEDED


def test_one_report_that_cannot_be_written_holds_up_no_other(lab: Lab) -> None:
    node = lab.node()
    lab.put("good")
    bad = begun(lab, node, "bad")
    good = lab.runs("good")[0].id
    for run_id in (bad, good):
        node.puppet.end(run_id)
    real = lab.store.advance

    def advance(transitions: Any) -> Any:
        if any(transition.run_id == bad for transition in transitions):
            raise RuntimeError("this cannot be written")
        return real(transitions)

    node.store.advance = advance
    for _ in range(2):
        with pytest.raises(RuntimeError):
            node.worker.step()
    assert lab.run(good).state is RunState.SUCCEEDED

    node.store.advance = real
    node.worker.step()
    assert lab.run(bad).state is RunState.SUCCEEDED


@pytest.mark.parametrize("verb", ["targets", "announce"])
def test_what_fails_about_announcing_holds_up_no_result(lab: Lab, verb: str) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.end(run_id)
    lab.clock.advance(seconds(20))
    node.store.fail(verb, error=RuntimeError("no"))

    with pytest.raises(RuntimeError):
        node.worker.step()

    assert lab.run(run_id).state is RunState.SUCCEEDED


def test_an_executor_that_raises_fails_the_run_and_not_the_worker(lab: Lab) -> None:
    node = lab.node()

    def start(claimed: object, until: datetime) -> None:
        raise RuntimeError("no legs")

    node.puppet.start = start  # type: ignore[method-assign]  # a stranger's executor that breaks its contract
    lab.put("a")
    lab.pass_time(61, node)

    assert lab.states("a") == [RunState.FAILED]
    assert lab.runs("a")[0].error == "RuntimeError: no legs"


# --- stopping ---


def test_seed_25_a_stopped_worker_claims_nothing_new_and_finishes_what_it_has(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.worker.stop(seconds(20))
    lab.put("b", once(lab.now() + seconds(1)))
    lab.pass_time(5, node)
    assert lab.states("b") == [RunState.READY]
    assert lab.store.nodes()[0].stopping
    assert not node.worker.done

    node.store.calls.clear()
    node.puppet.end(run_id, result="in time")
    node.worker.step()
    assert "claim" not in node.store.calls

    assert lab.run(run_id).result == "in time"
    assert node.worker.done


def test_a_stopped_worker_goes_on_renewing_within_its_grace(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    run_id = begun(lab, node)
    node.worker.stop(seconds(90))

    lab.pass_time(80, node, other)

    assert (lab.run(run_id).holder, lab.run(run_id).attempt) == ("n1", 1)


@pytest.mark.parametrize(("on_lost", "state"), [("retry", RunState.READY), ("fail", RunState.FAILED)])
def test_what_does_not_end_within_the_grace_is_reported_lost_by_its_own_holder(
    lab: Lab, on_lost: str, state: RunState
) -> None:
    node = lab.node()
    run_id = begun(lab, node, on_lost=OnLost(on_lost))
    node.worker.stop(seconds(5))

    node.worker.step()
    lab.clock.advance(seconds(5))
    node.worker.step()

    assert lab.run(run_id).state is state
    assert node.puppet.told == [(run_id, "the node is shutting down")]
    assert node.worker.done
    (event,) = lab.events("attempt.lost", "run.failed")
    assert (event.actor, event.data["outcome"]) == ("n1", "lost")


def claimed_only(lab: Lab, node: Node, *, after: bool, **policy: Any) -> Run:
    """Leave the worker with a run that it claimed and whose Start it does not know to be taken."""
    lab.put("a", **policy)
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    broken_step(node, "advance", after=after)
    return lab.runs("a")[0]


def test_what_was_claimed_and_not_started_is_released_and_the_attempt_does_not_count(lab: Lab) -> None:
    node = lab.node()
    run = claimed_only(lab, node, after=False)
    node.worker.stop(seconds(5))

    node.worker.step()

    assert (lab.run(run.id).state, lab.run(run.id).attempt) == (RunState.READY, 0)
    assert node.worker.done


def test_a_start_taken_without_our_knowing_is_not_held_against_a_run_that_must_not_run_twice(
    lab: Lab,
) -> None:
    node = lab.node()
    run = claimed_only(lab, node, after=True, on_lost=OnLost.FAIL)
    assert lab.run(run.id).started_at is not None
    node.worker.stop(seconds(5))

    node.worker.step()
    node.worker.step()

    assert lab.run(run.id).state is RunState.READY  # its body never began, and only we could know
    assert node.puppet.started == []
    assert node.worker.done
    assert lab.events("attempt.refused") == []


def test_a_shorter_grace_wins_when_stopped_twice(lab: Lab) -> None:
    node = lab.node()
    begun(lab, node)
    node.worker.stop(seconds(3600))
    node.worker.stop(seconds(0))

    node.worker.step()

    assert node.worker.done


def test_an_idle_step_asks_little_of_the_store(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.worker.step()
    node.store.calls.clear()

    node.worker.step()

    assert sorted(set(node.store.calls)) == ["claim", "now"]
    assert node.store.calls.count("claim") == 1


def test_targets_are_asked_for_rarely(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.store.calls.clear()

    lab.pass_time(60, node, step=0.1)

    assert node.store.calls.count("targets") <= 60 / LEARN.total_seconds() + 1


def test_a_store_clock_set_back_by_an_hour_keeps_nobody_waiting_for_an_hour(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.worker.stop(seconds(20))
    node.worker.step()

    lab.clock.advance(seconds(-3600))
    node.worker.step()
    seen_at = lab.store.nodes()[0].seen_at
    lab.pass_time(20, node)

    assert seen_at == lab.now() - seconds(20)
    assert lab.run(run_id).state is RunState.READY  # given up after its grace, as promised
    assert node.worker.done


def test_timeouts_that_nobody_reached_do_not_pile_up(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(seconds=1), timeout=seconds(86_400), keep_runs=1)
    for _ in range(1500):
        lab.pass_time(1, node)
        for run_id, _token in list(node.puppet.bodies):
            node.puppet.end(run_id)

    assert len(node.worker._alarms) <= 1100


def test_a_result_that_the_store_never_takes_ends_as_a_failure_with_the_reason(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.end(run_id, result={"poison": True})
    real = lab.store.advance

    def advance(transitions: Any) -> Any:
        if any(getattr(transition, "result", None) for transition in transitions):
            raise ValueError("no")
        return real(transitions)

    node.store.advance = advance
    tries = 0
    while node.worker.holding:
        tries += 1
        try:
            node.worker.step()
        except ValueError:
            continue

    assert lab.run(run_id).error == "its result could not be written: ValueError"
    assert tries == WRITES_MAX + 1


def test_an_end_that_cannot_be_judged_is_no_end_that_is_lost(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confused(*_: object) -> object:
        raise OverflowError

    node = lab.node()
    run_id = begun(lab, node)
    node.puppet.end(run_id)
    monkeypatch.setattr("onebeat.engine.attempt.judge", confused)

    node.worker.step()

    assert "cannot be judged" in lab.run(run_id).reason


def test_lines_wait_within_bounds_while_the_store_does_not_answer(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node)
    for n in range(50):
        node.puppet.note(run_id, lines=(line(lab.now(), f"line {n}"),))
        lab.clock.advance(seconds(1))
        node.store.fail("note")
        with pytest.raises(StoreUnavailable):
            node.worker.step()
    assert len(node.worker._notes) == 1  # the rest waits where it is bounded

    node.puppet.end(run_id)
    node.worker.step()

    assert [kept.text for kept in lab.store.log(run_id)] == [f"line {n}" for n in range(50)]


def test_an_executor_that_fails_to_resolve_keeps_no_other_target_from_being_learnt(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", address="worse")
    lab.put("b", address="fine")

    def resolve(target: Target) -> None:
        if target.address == "worse":
            raise KeyError(target.address)

    node.puppet.resolve = resolve  # type: ignore[method-assign]  # a stranger's, against its contract
    node.worker.step()

    assert lab.store.nodes()[0].targets == ("puppet:fine",)


def test_nothing_is_said_of_a_body_that_never_began(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    run = claimed_only(lab, node, after=True)
    lab.clock.advance(LEASE)
    other.step()
    assert lab.run(run.id).holder == "n2"

    node.worker.stop(seconds(5))
    node.worker.step()
    node.worker.step()

    assert node.worker.done
    assert lab.events("attempt.refused") == []


def test_a_run_that_waited_for_the_slot_begins_in_the_step_that_freed_it(lab: Lab) -> None:
    node = lab.node()
    run_id = begun(lab, node, overlap="queue_all", timeout=None)
    lab.pass_time(60, node)
    waiting = lab.runs("a")[-1]
    assert waiting.state is RunState.WAITING

    node.puppet.end(run_id)
    node.worker.step()

    assert node.puppet.started == [run_id, waiting.id]
