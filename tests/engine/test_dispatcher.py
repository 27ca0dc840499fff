"""What the dispatcher promises: due work first, bad rows alone, nothing lost that time has overtaken."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import datetime

import pytest
from tests.engine.lab import START, Lab, Node, seconds

from onebeat.core import edits
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Answer, Hold, Sent, Settled, Share, Start
from onebeat.core.model import Decision, OnLost, Owing, RunState
from onebeat.core.triggers.cron import cron
from onebeat.core.triggers.interval import interval, once
from onebeat.engine import dispatcher as module
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.presence import Presence


@pytest.fixture
def lab() -> Iterator[Lab]:
    return Lab()


def quarantined(lab: Lab) -> set[str]:
    return {event.schedule or "" for event in lab.events("schedule.quarantined")}


def test_what_is_due_fires_and_nothing_before(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")

    lab.clock.set(START + seconds(59.999999))
    node.dispatcher.step()
    assert lab.runs("a") == []

    lab.clock.set(START + seconds(60))
    node.dispatcher.step()
    assert [run.lateness for run in lab.runs("a")] == [seconds(0)]


def test_a_step_names_the_instant_at_which_the_next_occurrence_is_due(lab: Lab) -> None:
    lab.put("a", interval(seconds=0.25))

    assert lab.node().dispatcher.step() == START + seconds(0.25)


def test_with_every_hint_dropped_the_poll_bounds_lateness(lab: Lab) -> None:
    node = lab.node()
    wake_at = node.step()
    lab.clock.advance(seconds(0.001))
    lab.put("new", once(lab.now() + seconds(0.01)))  # nobody is told

    while not lab.runs("new"):
        lab.clock.set(wake_at)
        wake_at = node.step()

    assert lab.runs("new")[0].lateness <= module.POLL


def test_two_dispatchers_fire_an_occurrence_once_and_the_loser_says_nothing(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = lab.node("n1"), lab.node("n2")
    lab.put("a")
    lab.clock.advance(seconds(60))
    read_before = iter([lab.store.due(lab.now(), 10)])
    second.store.due = lambda *args: next(read_before, None) or lab.store.due(*args)

    first.dispatcher.step()
    second.dispatcher.step()

    assert len(lab.runs("a")) == 1
    assert second.metrics.value("onebeat_decisions_stale_total") == 1
    assert second.metrics.value("onebeat_occurrences_settled_total", "fired", "") == 0
    assert not caplog.records


def test_who_loses_every_row_breathes_before_it_reads_again_and_longer_each_time(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    lab.clock.advance(seconds(60))
    # Somebody holds them.
    node.store.settle = lambda now, decisions: Settled(at=now, won=(False,) * len(decisions))

    waits = [node.dispatcher.step() - lab.now() for _ in range(8)]

    assert waits[0] == module.HELD_AGAIN
    assert waits == sorted(waits)
    assert waits[-1] == module.HELD_AGAIN_MAX


def test_seed_69_a_schedule_that_cannot_be_decided_is_set_aside_alone_with_the_reason(lab: Lab) -> None:
    node = lab.node()
    for name in ("a", "bad", "c"):
        lab.put(name)
    lab.break_trigger("bad")
    lab.clock.advance(seconds(60))

    node.dispatcher.step()

    assert [len(lab.runs(name)) for name in ("a", "bad", "c")] == [1, 0, 1]
    schedule, _ = lab.store.owing(["bad"])[0]
    assert "from-the-future" in (schedule.quarantined or "")
    assert schedule.settled_until == START  # what it owes waits for a definition that can be decided
    assert [event.reason for event in lab.events("schedule.quarantined")] == [schedule.quarantined]


def test_more_bad_rows_than_a_batch_holds_do_not_stop_their_neighbours(lab: Lab) -> None:
    node = lab.node()
    bad = [f"bad-{n}" for n in range(25)]
    for name in [*bad, "good"]:
        lab.put(name, interval(minutes=1, anchor=START) if name == "good" else None)
    for name in bad:
        lab.break_trigger(name)
    lab.clock.advance(seconds(60))

    Dispatcher(node.store, lab.clock, holder="n1", batch_max=10).step()

    assert quarantined(lab) == set(bad)
    assert len(lab.runs("good")) == 1


def test_bad_rows_that_cannot_even_be_set_aside_fill_no_batch(lab: Lab) -> None:
    node = lab.node()
    bad = [f"bad-{n}" for n in range(25)]
    for name in [*bad, "good"]:
        lab.put(name)
    for name in bad:
        lab.break_trigger(name)
    node.store.fail("put", times=1000, error=RuntimeError("no"))
    lab.clock.advance(seconds(60))

    dispatcher = Dispatcher(node.store, lab.clock, holder="n1", batch_max=10)
    dispatcher.step()

    assert quarantined(lab) == set()
    assert len(lab.runs("good")) == 1

    node.store.failing.clear()  # and when they can be, they are
    lab.clock.advance(module.BROKEN_EVERY)
    dispatcher.step()
    dispatcher.step()
    assert quarantined(lab) == set(bad)


def poisoned(node: Node, *ids: int) -> None:
    """Have the store raise wherever one of these schedules is settled."""
    real = node.store.store.settle

    def settle(now: datetime, decisions: list[Decision]) -> Settled:
        if any(decision.schedule_id in ids for decision in decisions):
            raise RuntimeError("this row cannot be written")
        return real(now, decisions)

    node.store.settle = settle


def test_a_row_that_the_store_cannot_write_is_found_and_set_aside_alone(lab: Lab) -> None:
    node = lab.node()
    for name in ("a", "b", "c", "d"):
        lab.put(name)
    lab.clock.advance(seconds(60))
    poisoned(node, 2)

    node.dispatcher.step()

    assert quarantined(lab) == {"b"}
    assert [len(lab.runs(name)) for name in ("a", "c", "d")] == [1, 1, 1]


def test_an_error_that_has_passed_by_the_next_try_is_blamed_on_no_row(lab: Lab) -> None:
    node = lab.node()
    for name in ("a", "b", "c"):
        lab.put(name)
    lab.clock.advance(seconds(60))
    real, failures = node.store.store.settle, iter(["the batch", "its first row"])

    def settle(now: datetime, decisions: list[Decision]) -> Settled:
        if what := next(failures, None):
            raise RuntimeError(f"{what} meets a line that breaks")
        return real(now, decisions)

    node.store.settle = settle

    node.dispatcher.step()

    assert quarantined(lab) == set()
    assert [len(lab.runs(name)) for name in ("a", "b", "c")] == [1, 1, 1]


def test_an_error_that_meets_every_row_sets_none_aside(lab: Lab) -> None:
    node = lab.node()
    for name in ("a", "b"):
        lab.put(name)
    lab.clock.advance(seconds(60))
    poisoned(node, 1, 2)

    with pytest.raises(RuntimeError, match="cannot be written"):
        node.dispatcher.step()

    assert quarantined(lab) == set()


def test_a_trouble_of_this_node_is_not_blamed_on_a_row(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(row: Owing, now: datetime) -> Decision:
        raise MemoryError

    node = lab.node()
    lab.put("a")
    lab.clock.advance(seconds(60))
    monkeypatch.setattr(module, "settle", exhausted)

    with pytest.raises(MemoryError):
        node.dispatcher.step()

    assert quarantined(lab) == set()


def test_rows_whose_documents_do_not_decode_are_set_aside_through_an_ordinary_edit(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.store.broken = lambda limit: [] if quarantined(lab) else [("a", "no JSON at 7")]

    node.dispatcher.step()

    schedule, _ = lab.store.owing(["a"])[0]
    assert schedule.quarantined == "its stored documents do not decode: no JSON at 7"
    assert schedule.number == 1


def test_a_node_whose_clock_is_ahead_is_told_early_and_comes_back_when_it_is_time(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    lab.clock.advance(seconds(58))
    node.store.now = lambda: lab.now() + seconds(3)

    wake_at = node.dispatcher.step()

    assert lab.runs("a") == []
    assert wake_at <= node.store.now() + seconds(3)


def test_under_a_hold_nothing_fires_and_after_it_catch_up_decides(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(seconds=10), catch_up="latest")
    lab.store.hold(Hold(since_at=lab.now(), actor="test"), "hold-1")
    lab.pass_time(35, node)
    assert lab.runs("a") == []

    lab.store.hold(None, "hold-2")
    lab.pass_time(1, node)

    fold = lab.runs("a")[0].fold
    assert fold is not None
    assert fold.count == 3


def test_own_shards_at_once_and_those_of_others_a_moment_later(lab: Lab) -> None:
    names = [f"s{n}" for n in range(20)]
    for name in names:
        lab.put(name)
    mine = Dispatcher(lab.store, lab.clock, holder="n1", share=Share(index=0, of=2))

    lab.clock.advance(seconds(60))
    wake_at = mine.step()
    own = {name for name in names if lab.runs(name)}
    assert 0 < len(own) < len(names)
    assert wake_at <= lab.now() + module.STRANGERS_AFTER

    lab.clock.advance(module.STRANGERS_AFTER)
    mine.step()
    assert all(len(lab.runs(name)) == 1 for name in names)


def test_lateness_and_fates_are_counted(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(seconds=10), overlap="skip", catch_up="all")
    lab.clock.advance(seconds(30.5))

    node.dispatcher.step()

    value = node.metrics.value
    assert value("onebeat_occurrences_settled_total", "fired", "") == 1
    assert value("onebeat_occurrences_settled_total", "skipped", "overlap") == 2
    assert value("onebeat_lateness_seconds", "a") == 1


# --- what time has overtaken ---


def lapse(lab: Lab, name: str = "dead", **policy: object) -> tuple[str, Node]:
    """Fire schedule a, let a node start it and die; come back when the lease has lapsed."""
    node = lab.node(name)
    lab.put("a", **policy)
    lab.pass_time(60, node)
    run = lab.runs("a")[0]
    assert run.state is RunState.RUNNING
    lab.clock.advance(seconds(30))
    return run.id, node


def test_seed_59_a_takeover_records_the_previous_holder_and_attempt(lab: Lab) -> None:
    run_id, dead = lapse(lab)
    survivor = lab.node("survivor")

    survivor.step()

    assert lab.run(run_id).holder == "survivor"
    assert lab.run(run_id).attempt == 2
    (event,) = lab.events("attempt.lost")
    assert event.actor == "survivor"
    assert event.data["holder"] == dead.name
    assert event.data["attempt"] == 1
    assert event.data["started_at"] == "2026-11-21T12:01:00Z"
    assert survivor.metrics.value("onebeat_takeovers_total") == 1


def test_seed_56_a_dead_holders_run_is_taken_over_within_the_lease_and_a_check(lab: Lab) -> None:
    node, survivor = lab.node("dead"), lab.node("survivor")
    lab.put("a")
    lab.pass_time(60, node, survivor)  # the first to step claims

    lab.pass_time(31, survivor)

    run = lab.runs("a")[0]
    assert run.holder == "survivor"
    assert run.started_at is not None
    assert run.started_at - START <= seconds(60 + 30) + module.OVERTAKEN_EVERY


def test_a_dispatcher_that_sleeps_through_takes_over_within_the_lease_and_a_second(lab: Lab) -> None:
    node, survivor = lab.node("dead"), lab.node("survivor")
    lab.put("a")
    lab.pass_time(60, node)
    claimed_at, run_id = lab.runs("a")[0].claimed_at, lab.runs("a")[0].id
    assert claimed_at is not None

    wake_at = survivor.dispatcher.step()
    while lab.run(run_id).state is RunState.RUNNING:
        lab.clock.set(wake_at)  # nobody wakes it before
        wake_at = survivor.dispatcher.step()

    assert lab.now() - claimed_at <= seconds(30) + module.OVERTAKEN_EVERY


def test_an_idle_node_asks_less_than_once_a_second(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", once(START + seconds(3600)))
    lab.pass_time(10, node)
    node.store.calls.clear()

    dispatch_at = work_at = lab.now()
    while lab.now() < START + seconds(10 + 60):
        if dispatch_at <= lab.now():
            dispatch_at = node.dispatcher.step()
        if work_at <= lab.now():
            work_at = node.worker.step()
        lab.clock.set(min(dispatch_at, work_at))

    assert 0 < len(node.store.calls) < 60, node.store.calls


def test_a_renewed_lease_is_not_taken(lab: Lab) -> None:
    node, other = lab.node("n1"), lab.node("n2")
    lab.put("a")

    lab.pass_time(60 + 300, node, other)

    assert lab.runs("a")[0].attempt == 1
    assert lab.events("attempt.lost") == []


@pytest.mark.parametrize(("on_lost", "state"), [("retry", RunState.READY), ("fail", RunState.FAILED)])
def test_what_becomes_of_a_run_lost_after_its_start_is_the_schedules_choice(
    lab: Lab, on_lost: str, state: RunState
) -> None:
    run_id, _ = lapse(lab, on_lost=OnLost(on_lost))

    lab.node("survivor").dispatcher.step()

    assert lab.run(run_id).state is state


def claimed_and_not_started(lab: Lab) -> Node:
    """Return a node that claimed a run of on_lost fail, and could not say that it started."""
    node = lab.node("dead")
    lab.put("a", on_lost=OnLost.FAIL)
    node.worker.step()
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    node.store.fail("advance")
    with pytest.raises(StoreUnavailable):
        node.worker.step()
    return node


def test_with_on_lost_fail_a_run_lost_before_its_start_is_tried_again(lab: Lab) -> None:
    dead, survivor = claimed_and_not_started(lab), lab.node("survivor")
    assert dead.puppet.started == []

    lab.clock.advance(seconds(30))
    survivor.dispatcher.step()

    assert lab.runs("a")[0].state is RunState.READY


def test_with_on_lost_fail_a_run_that_starts_while_it_is_judged_is_not_tried_again(lab: Lab) -> None:
    # Its holder's clock is behind, or it was stopped: to the holder the lease has not lapsed yet.
    claimed_and_not_started(lab)
    survivor = lab.node("survivor")
    lab.clock.advance(seconds(30))
    (run,) = lab.runs("a")
    judged = lab.store.lost(lab.now(), 10)
    started = lab.store.advance([Start(run_id=run.id, token=run.token)])
    read_before = iter([judged])
    survivor.store.lost = lambda *args: next(read_before, None) or lab.store.lost(*args)

    survivor.dispatcher.step()

    assert started[0].answer is Answer.ACCEPTED
    assert lab.runs("a")[0].state is RunState.RUNNING
    lab.clock.advance(seconds(30))
    survivor.dispatcher.step()
    assert lab.runs("a")[0].state is RunState.FAILED


def test_a_run_that_did_not_start_in_time_expires(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", start_within=seconds(5))
    lab.clock.advance(seconds(60))
    node.dispatcher.step()

    lab.clock.advance(seconds(6))
    node.dispatcher.step()

    assert lab.states("a") == [RunState.EXPIRED]
    assert [event.run_id for event in lab.events("run.expired")] == [lab.runs("a")[0].id]


def test_a_hand_over_without_an_answer_is_handed_over_again_as_the_same_attempt(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    run_id = lab.runs("a")[0].id
    lab.store.advance([Sent(run_id=run_id, attempt=1, resend_at=lab.now() + seconds(5))])

    lab.clock.advance(seconds(5))
    node.dispatcher.step()

    assert lab.run(run_id).state is RunState.READY
    assert lab.run(run_id).attempt == 0
    assert [event.kind for event in lab.events("run.resend")] == ["run.resend"]


# --- strays, purging, and the order of the house ---


def test_seed_37_a_run_that_no_live_node_can_run_is_parked_and_comes_back(lab: Lab) -> None:
    stranger = lab.node("n1", refuses=("body",))
    lab.put("a")
    lab.pass_time(60 + 15, stranger)

    assert lab.states("a") == [RunState.PARKED]
    assert "puppet:body" in lab.runs("a")[0].reason
    assert [event.kind for event in lab.events("run.parked")] == ["run.parked"]

    able = lab.node("n2")
    lab.pass_time(5, able)
    assert lab.runs("a")[0].holder == "n2"
    assert lab.events("run.unparked")


def test_nothing_is_parked_while_the_workers_are_still_coming_up(lab: Lab) -> None:
    lab.put("a", interval(hours=1, anchor=START + seconds(60)))
    lab.clock.advance(seconds(1800))  # ready for long, in a cluster that was down
    node = lab.node()
    node.dispatcher.step()

    lab.clock.advance(seconds(5))
    node.dispatcher.step()

    assert lab.states("a") == [RunState.READY]


def test_history_is_purged_in_small_steps(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(seconds=1), keep_runs=1, overlap="allow")
    dispatcher = Dispatcher(node.store, lab.clock, holder="n1", batch_max=5)
    for _ in range(20):
        lab.clock.advance(seconds(1))
        dispatcher.step()
        node.worker.step()
        for run_id, _token in list(node.puppet.bodies):
            node.puppet.end(run_id)
    node.worker.step()
    schedule, load = lab.store.owing(["a"])[0]
    lab.store.put([edits.pause(schedule, load, lab.author())])

    sizes = []
    for _ in range(700):
        lab.clock.advance(seconds(1))
        dispatcher.step()
        sizes.append(len(lab.runs("a")))

    assert sizes[-1] == 1
    assert max(before - after for before, after in itertools.pairwise(sizes)) <= 5


def test_a_chore_that_fails_keeps_no_other_from_its_turn(lab: Lab) -> None:
    node = lab.node()
    node.store.fail("lost", times=1000, error=RuntimeError("the first of the chores"))
    for _ in range(2):
        with contextlib.suppress(RuntimeError):
            node.dispatcher.step()

    assert {"strays", "broken"} <= set(node.store.calls)


def test_due_work_comes_before_housekeeping(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    lab.clock.advance(seconds(60))

    node.dispatcher.step()

    verbs = node.store.calls
    assert verbs.index("settle") < min(verbs.index(verb) for verb in ("lost", "strays", "broken"))


def test_a_store_that_does_not_answer_is_no_reason_to_set_anything_aside() -> None:
    lab = Lab()
    node = lab.node()
    for name in ("a", "b"):
        lab.put(name)
    lab.clock.advance(seconds(60))
    node.store.fail("settle", after=True)

    with pytest.raises(StoreUnavailable):
        node.dispatcher.step()
    node.dispatcher.step()

    assert quarantined(lab) == set()
    assert [len(lab.runs(name)) for name in ("a", "b")] == [1, 1]


def test_an_idle_step_asks_little_of_the_store(lab: Lab) -> None:
    node = lab.node()
    lab.put("a")
    node.dispatcher.step()
    node.store.calls.clear()

    node.dispatcher.step()

    assert set(node.store.calls) <= {"now", "due"}


def test_a_store_clock_set_back_by_an_hour_stops_no_chore_for_an_hour(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", start_within=seconds(5))
    lab.clock.advance(seconds(60))
    node.dispatcher.step()
    lab.clock.advance(seconds(4000))
    node.store.fail("lost", error=StoreUnavailable("not now"))
    with pytest.raises(StoreUnavailable):
        node.dispatcher.step()

    lab.clock.advance(seconds(-3600))
    node.dispatcher.step()

    assert lab.states("a") == [RunState.EXPIRED]


def test_a_settled_batch_is_followed_by_no_second_question(lab: Lab) -> None:
    node = lab.node()
    lab.put("a", interval(seconds=0.25))
    node.dispatcher.step()
    lab.clock.advance(seconds(0.25))
    node.store.calls.clear()

    wake_at = node.dispatcher.step()

    assert node.store.calls.count("due") == 1
    assert wake_at == START + seconds(0.5)


def test_c12_a_dispatcher_with_older_zone_data_leaves_zoned_schedules_to_a_newer_one(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.put("zoned", cron("* * * * *", zone="Europe/London"))
    lab.put("plain")
    newer = Presence(lab.store, lab.clock, holder="new", roles=("dispatcher",), tz_version="2026b")
    newer.step()
    old = Dispatcher(lab.store, lab.clock, holder="old", tz_version="2025b")

    lab.clock.advance(seconds(60))
    newer.step()
    old.step()
    assert (len(lab.runs("zoned")), len(lab.runs("plain"))) == (0, 1)
    assert "upgrade the package tzdata" in caplog.text

    lab.clock.advance(seconds(40))  # the newer one is gone: somebody has to do it
    old.step()
    old.step()
    assert len(lab.runs("zoned")) == 1


def test_a_thousand_runs_of_a_dead_holder_are_one_line_in_the_log(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    dead = lab.node("dead", slots=50)
    for n in range(50):
        lab.put(f"s{n}")
    lab.pass_time(60, dead)
    lab.clock.advance(seconds(30))

    lab.node("survivor").dispatcher.step()

    assert len(lab.events("attempt.lost")) == 50
    (record,) = caplog.records
    assert record.getMessage().endswith("(and 49 others) was lost by dead")
