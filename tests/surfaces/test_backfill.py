"""Backfill: a plan first, each missing occurrence once, limits of its own, and no mark moved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.surfaces.stage import HOUR, MINUTE, Meddled, Town, at, close

from onebeat import Conflict, InvalidInput, NotFound, Onebeat, Refused, RunState, interval, seconds
from onebeat.core.messages import RunQuery
from onebeat.core.model import FINISHED
from onebeat.testing.faults import FailNth, hooked
from onebeat.testing.virtual import VirtualOnebeat

HOURLY = interval(hours=1, anchor=at(0))
EVERY_SECOND = interval(seconds=1, anchor=at(0))


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def beat(onebeat: VirtualOnebeat) -> VirtualOnebeat:
    onebeat.allow(close.__module__)
    return onebeat


def stood_for(app: Onebeat) -> list[datetime | None]:
    """The occurrences that runs of backfills stand for, in the order in which they were asked for."""
    found = app.runs.list(limit=10_000)
    return [run.occurrence_at for run in reversed(found) if run.key]


class Slow(Meddled):
    """A ledger whose waiting process sees time pass, and somebody else's work done."""

    def __init__(self, beat: VirtualOnebeat, passes: Callable[[datetime], None]) -> None:
        super().__init__(beat.store, "none", lambda: None)
        self._passes = passes
        self.waits = 0

    def wait(self, until: datetime | None) -> bool:
        assert until is not None
        self.waits += 1
        self._passes(until)
        return True


def beside(beat: VirtualOnebeat, passes: Callable[[datetime], None]) -> tuple[Onebeat, Slow]:
    """One more process at the ledger of ``beat``: while it waits, ``passes`` happens."""
    store: Any = Slow(beat, passes)
    return Onebeat("memory://", clock=beat.clock, store=store, actor="ada"), store


# --- the plan -------------------------------------------------------------------------------------------


def test_a_plan_counts_and_does_nothing(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close, overlap="allow")
    app.runs.request("a", key="by-hand", at=at(4))
    app.runs.backfill("a", at(5), at(6))

    plan = app.runs.backfill_plan("a", at(3), at(7, 30), rate="30/m")

    assert (plan.occurrences, plan.present, plan.missing) == (5, 2, 3)
    assert (plan.first_at, plan.last_at) == (at(3), at(7))
    assert plan.takes == seconds(4)
    assert len(app.runs.list()) == 2


def test_a_plan_of_a_century_of_seconds_is_counted_and_not_walked(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", "* * * * * *", close)

    plan = app.runs.backfill_plan("a", at(12) - timedelta(days=36_525), rate="100/s")

    assert plan.occurrences == plan.missing == 36_525 * 86_400
    assert plan.takes == timedelta(milliseconds=10) * (plan.missing - 1)


def test_a_plan_ends_before_now_and_says_when_there_is_nothing(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)

    assert app.runs.backfill_plan("a", at(9), at(20)).last_at == at(11)
    assert app.runs.backfill_plan("a", at(9)).occurrences == 3
    for since, until in ((at(13), at(14)), (at(9), at(9)), (at(9), at(8)), (at(9, 1), at(9, 59))):
        with pytest.raises(InvalidInput, match="no past occurrence"):
            app.runs.backfill_plan("a", since, until)
    with pytest.raises(InvalidInput, match="no zone"):
        app.runs.backfill_plan("a", datetime(2026, 11, 21))
    with pytest.raises(NotFound):
        app.runs.backfill_plan("nobody", at(9))
    assert app.runs.backfill_plan("a", datetime.min.replace(tzinfo=at(0).tzinfo)).last_at == at(11)


def test_a_plan_warns_of_what_one_may_not_have_thought_of(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", EVERY_SECOND, close, keep_runs=100)
    said = " ".join(app.runs.backfill_plan("a", at(11)).warnings)

    assert "keep_runs" in said
    assert "own occurrences are skipped" in said
    app.schedules.edit("a", overlap="cancel_running", keep_runs=3600)
    (said,) = app.runs.backfill_plan("a", at(11)).warnings
    assert "cancel those runs" in said
    app.schedules.edit("a", overlap="queue_all")
    assert app.runs.backfill_plan("a", at(11)).warnings == ()


# --- doing it -------------------------------------------------------------------------------------------


def test_a_backfill_asks_for_each_missing_occurrence_once(town: Town) -> None:
    app = town.app()
    before = app.schedules.put("a", HOURLY, close, overlap="allow").schedule

    assert app.runs.backfill("a", at(3), at(7), reason="the feed was down") == 4
    assert stood_for(app) == [at(3), at(4), at(5), at(6)]
    assert app.runs.backfill("a", at(3), at(7)) == 0
    assert app.runs.backfill("a", at(2), at(8)) == 2
    after = app.schedules.show("a").schedule
    assert (after.settled_until, after.next_at) == (before.settled_until, before.next_at)
    assert {event.reason for event in app.runs.show("a!backfill-20261121T030000Z").events} == {
        "the feed was down"
    }


def test_an_occurrence_that_fired_or_was_asked_for_is_left_out(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    beat.run_for(2 * HOUR)
    beat.runs.request("a", key="k", at=at(9))

    assert beat.runs.backfill("a", at(8)) == 4  # 8, 10, 11 and 12: it was made at 12, and owes nothing before
    assert stood_for(beat) == [at(9), at(8), at(10), at(11), at(12)]


def test_runs_of_the_name_before_it_was_used_again_do_not_count(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close, overlap="allow")
    app.runs.backfill("a", at(3), at(7))
    app.schedules.delete("a")
    app.schedules.put("a", HOURLY, close, overlap="allow")

    assert app.runs.backfill_plan("a", at(3), at(7)).present == 0
    assert app.runs.backfill("a", at(3), at(7)) == 4
    assert [run.id for run in app.runs.list(limit=1)] == ["a~2!backfill-20261121T060000Z"]


def test_beyond_a_batch_it_goes_on_in_batches(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", EVERY_SECOND, close, overlap="allow")
    done: list[int] = []

    assert app.runs.backfill("a", at(11, 40), progress=done.append) == 1200
    assert done == [500, 500, 200]
    assert len(stood_for(app)) == 1200


def test_it_queues_behind_the_limit_of_the_schedule(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close)

    assert beat.runs.backfill("a", at(9)) == 3
    assert [run.state.value for run in beat.runs.list()] == ["waiting", "waiting", "ready"]


@pytest.mark.parametrize("reverse", [False, True])
def test_runs_begin_in_the_order_that_was_asked_for(beat: VirtualOnebeat, reverse: bool) -> None:
    beat.schedules.put("a", HOURLY, close)
    beat.runs.backfill("a", at(3), at(9), reverse=reverse)

    ended = beat.run_for(MINUTE)

    order = [at(hour) for hour in range(3, 9)]
    assert [run.occurrence_at for run in sorted(ended, key=lambda run: run.token)] == (
        order[::-1] if reverse else order
    )


def test_a_backfill_is_no_extra_of_any_audit(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    beat.runs.backfill("a", at(3), at(12))
    beat.run_for(2 * HOUR)

    assert beat.audit().right
    assert [run.state for run in beat.runs.list()] == [RunState.SUCCEEDED] * (9 + 2)


def test_one_that_meets_somebody_else_is_decided_again(town: Town) -> None:
    bob = town.app("bob")
    bob.schedules.put("a", HOURLY, close, overlap="queue_all")
    ada = town.meddled("request", lambda: bob.schedules.edit("a", max_running=2) and None)

    assert ada.runs.backfill("a", at(3), at(7)) == 4
    assert {run.number for run in bob.runs.list()} == {2}


def test_one_that_never_stands_still_is_given_up(town: Town) -> None:
    bob = town.app("bob")
    bob.schedules.put("a", HOURLY, close)
    titles = iter(range(1000))
    ada = town.meddled("request", lambda: bob.schedules.edit("a", title=f"{next(titles)}") and None, 1000)

    with pytest.raises(Conflict, match="20 times in a row"):
        ada.runs.backfill("a", at(3))
    assert bob.runs.list() == []


def test_two_at_once_make_each_run_once(town: Town) -> None:
    bob = town.app("bob")
    bob.schedules.put("a", HOURLY, close, overlap="queue_all")
    made: list[int] = []
    ada = town.meddled("request", lambda: made.append(bob.runs.backfill("a", at(5), at(9))))

    made.append(ada.runs.backfill("a", at(3), at(7)))

    assert made == [4, 2]
    assert sorted(filter(None, stood_for(bob))) == [at(hour) for hour in range(3, 9)]


def test_interrupted_and_begun_again_it_goes_on_where_it_was(town: Town) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    app = town.app()
    app.schedules.put("a", EVERY_SECOND, close, overlap="allow")
    with pytest.raises(KeyboardInterrupt):
        app.runs.backfill("a", at(11, 50), progress=interrupt)

    assert app.runs.backfill_plan("a", at(11, 50)).present == 500
    assert app.runs.backfill("a", at(11, 50)) == 100
    assert len(set(stood_for(app))) == 600


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_wherever_it_dies_the_next_one_makes_the_rest_and_nothing_twice(
    town: Town, number: int, after: bool
) -> None:
    app = town.app()
    app.schedules.put("a", EVERY_SECOND, close)
    dies = FailNth("request", number, after=after, error=KeyboardInterrupt())
    doomed = town.app(store=hooked(town.store, dies))

    with pytest.raises(KeyboardInterrupt):
        doomed.runs.backfill("a", at(11, 40))
    made = len(stood_for(app))
    assert made == 500 * (number - 1) + (min(500, 1200 - 500 * (number - 1)) if after else 0)
    assert app.runs.backfill("a", at(11, 40)) == 1200 - made
    assert len(stood_for(app)) == len(set(stood_for(app))) == 1200


def test_a_schedule_that_went_or_was_put_anew_meanwhile_ends_it(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", EVERY_SECOND, close, overlap="allow")
    with pytest.raises(NotFound, match="deleted"):
        app.runs.backfill("a", at(11, 40), progress=lambda count: app.schedules.delete("a") and None)

    app.schedules.put("a", EVERY_SECOND, close, overlap="allow")

    def anew(count: int) -> None:
        app.schedules.delete("a")
        app.schedules.put("a", HOURLY, close)

    with pytest.raises(Conflict, match="put anew"):
        app.runs.backfill("a", at(11, 40), progress=anew)


def test_a_quarantined_schedule_is_refused(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    row = app.schedules.show("a").schedule
    from onebeat.core import edits

    app.store.put([edits.quarantine(row, town.store.owing(["a"])[0][1], app._desk.author("it is odd"))])

    with pytest.raises(Refused, match="it is odd"):
        app.runs.backfill("a", at(3))


# --- its own limits -------------------------------------------------------------------------------------


def test_no_more_than_max_running_of_its_runs_are_unfinished_at_once(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    most = 0

    def work(until: datetime) -> None:
        nonlocal most
        most = max(most, len(beat.store.runs(RunQuery(states=tuple(set(RunState) - FINISHED), limit=100))))
        beat.run_for(seconds(1))

    app, store = beside(beat, work)
    other = beat.runs.request("a")

    assert app.runs.backfill("a", at(2), at(12), max_running=3) == 10
    assert most == 3 + 1  # a request of somebody else does not count
    assert store.waits == 3
    assert beat.runs.show(other.id).run.state is RunState.SUCCEEDED


def test_runs_of_an_interrupted_backfill_count_when_it_goes_on(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    beat.runs.backfill("a", at(0), at(2))
    app, store = beside(beat, lambda until: beat.run_for(seconds(1)) and None)

    assert app.runs.backfill("a", at(0), at(4), max_running=2) == 2
    assert store.waits == 1


def test_waiting_looks_again_when_nothing_is_heard(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    untils: list[timedelta] = []

    def work(until: datetime) -> None:
        untils.append(until - beat.now)
        if len(untils) == 3:
            beat.run_for(seconds(1))
        else:
            beat.clock.set(until)

    app, _ = beside(beat, work)
    app.runs.backfill("a", at(10), at(12), max_running=1)

    assert untils == [seconds(10)] * 3


@pytest.mark.parametrize(("rate", "lasts"), [("5/s", 0.2), ("30/m", 2), ("1800/h", 2), ("86400/d", 1)])
def test_a_rate_lets_a_run_through_each_period(beat: VirtualOnebeat, rate: str, lasts: float) -> None:
    beat.schedules.put("a", HOURLY, close, overlap="allow")
    app, _ = beside(beat, beat.clock.set)
    began = beat.now

    app.runs.backfill("a", at(2), at(12), rate=rate)

    asked = [run.created_at - began for run in reversed(beat.runs.list())]
    assert asked == [seconds(lasts) * number for number in range(10)]


def test_a_rate_that_was_not_used_gives_no_burst(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", EVERY_SECOND, close, overlap="allow")
    app, store = beside(beat, lambda until: beat.clock.set(until + MINUTE))

    app.runs.backfill("a", at(11, 59), rate="100/s")

    assert store.waits == 6  # of each minute a tenth of a second is caught up with, and no more
    assert len(beat.runs.list(limit=1000)) == 60


@pytest.mark.parametrize("rate", ["", "5", "0/s", "5/w", "-1/s", "fast", "1001/s", "5/s/s", 7])
def test_a_rate_that_cannot_be_meant_says_what_to_write(town: Town, rate: Any) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    for act in (app.runs.backfill, app.runs.backfill_plan):
        with pytest.raises(InvalidInput, match="rate"):
            act("a", at(3), rate=rate)


def test_a_limit_that_lets_none_run_is_refused(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    with pytest.raises(InvalidInput, match="max_running=0"):
        app.runs.backfill("a", at(3), max_running=0)
