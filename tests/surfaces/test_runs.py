"""Runs: asked for once under a key, tried again as runs of their own, cancelled alone or in bulk."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.surfaces.stage import HOUR, MINUTE, Town, at, close, fail, report

from onebeat import InvalidInput, NotFound, Refused, Run, RunState, interval, seconds
from onebeat.testing.virtual import VirtualOnebeat

HOURLY = interval(hours=1)


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.fixture
def beat(onebeat: VirtualOnebeat) -> VirtualOnebeat:
    """An app on virtual time whose nodes run the bodies of the stage."""
    onebeat.allow(close.__module__)
    return onebeat


def states(beat: VirtualOnebeat, name: str) -> list[str]:
    return [run.state.value for run in beat.runs.list(schedule=name)]


# --- asking ---------------------------------------------------------------------------------------------


def test_a_request_makes_one_run_and_settles_nothing(town: Town) -> None:
    app = town.app()
    before = app.schedules.put("a", HOURLY, close).schedule

    run = app.runs.request("a", reason="the boss asks")

    after = app.schedules.show("a").schedule
    assert (run.state, run.occurrence_at, run.mark_after) == (RunState.READY, None, None)
    assert (after.settled_until, after.next_at) == (before.settled_until, before.next_at)
    (event,) = app.runs.show(run.id).events
    assert (event.kind, event.actor, event.reason) == ("run.requested", "ada", "the boss asks")


def test_the_same_key_is_the_same_run(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)

    first = app.runs.request("a", key="invoice-17")
    assert app.runs.request("a", key="invoice-17") == first
    assert [run.id for run in app.runs.list()] == ["a!invoice-17"]


def test_a_key_fits_into_an_id(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    with pytest.raises(InvalidInput, match="request key"):
        app.runs.request("a", key="in voice")


def test_a_request_may_stand_for_an_occurrence(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)

    assert app.runs.request("a", at=at(9)).occurrence_at == at(9)
    with pytest.raises(InvalidInput, match="no zone"):
        app.runs.request("a", at=datetime(2026, 11, 21, 9))


def test_overlap_refuses_a_second_run_unless_forced_to_queue(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    app.runs.request("a")

    with pytest.raises(Refused, match="forced"):
        app.runs.request("a")
    assert app.runs.request("a", forced=True).state is RunState.WAITING


def test_a_request_that_meets_somebody_else_is_decided_again(town: Town) -> None:
    bob = town.app("bob")
    bob.schedules.put("a", HOURLY, close)
    ada = town.meddled("request", lambda: bob.schedules.edit("a", max_running=2) and None)

    assert ada.runs.request("a").number == 2


def test_a_request_whose_reply_was_lost_is_found_and_not_repeated(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    app.runs.request("a", key="k")
    again = town.app("bob")

    assert again.runs.request("a", key="k").id == "a!k"
    assert len(again.runs.list()) == 1


def test_a_paused_schedule_can_still_be_run_by_hand(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close, paused=True)

    assert app.runs.request("a").state is RunState.READY


# --- trying again ---------------------------------------------------------------------------------------


def failed(beat: VirtualOnebeat, **options: Any) -> Run:
    beat.schedules.put("a", HOURLY, fail, **options)
    (run,) = beat.run_for(HOUR + MINUTE)
    assert run.state is RunState.FAILED
    return run


def test_a_retry_is_a_run_of_its_own_for_the_same_occurrence(beat: VirtualOnebeat) -> None:
    run = failed(beat)

    again = beat.runs.retry(run.id)

    assert again.id == "a!retry-20261121T130000Z.1"
    assert again.occurrence_at == run.occurrence_at
    assert beat.runs.show(run.id).run.state is RunState.FAILED
    assert beat.runs.retry(run.id) == again  # it has not ended yet: one is enough


def test_a_retry_that_failed_too_is_tried_again_under_the_next_number(beat: VirtualOnebeat) -> None:
    run = failed(beat)
    for number in (1, 2, 3):
        again = beat.runs.retry(run.id)
        assert again.id == f"a!retry-20261121T130000Z.{number}"
        beat.run_for(seconds(5))

    assert beat.runs.retry(again.id).id == "a!retry-20261121T130000Z.4"


def test_a_request_is_tried_again_under_its_own_name(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, fail)
    run = beat.runs.request("a", key="k.1")
    beat.run_for(seconds(5))

    first = beat.runs.retry(run.id)
    assert first.id == "a!retry-k.1.1"
    beat.run_for(seconds(5))
    assert beat.runs.retry(first.id).id == "a!retry-k.1.2"


def test_a_run_that_has_not_ended_is_not_tried_again(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    with pytest.raises(Refused, match="ready"):
        app.runs.retry(app.runs.request("a").id)


# --- cancelling -----------------------------------------------------------------------------------------


def test_a_run_that_has_not_begun_ends_at_once(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", HOURLY, close)
    run = app.runs.request("a")

    assert app.runs.cancel(run.id, reason="not needed").state is RunState.CANCELLED
    event = app.runs.show(run.id).events[-1]
    assert (event.kind, event.actor, event.reason) == ("run.cancel_requested", "ada", "not needed")
    assert app.runs.cancel(run.id).state is RunState.CANCELLED  # repeating it does no harm


def test_a_run_that_has_ended_otherwise_is_not_cancelled(beat: VirtualOnebeat) -> None:
    run = failed(beat)

    with pytest.raises(Refused, match="it is failed"):
        beat.runs.cancel(run.id)


def test_many_are_cancelled_in_few_transactions(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", interval(seconds=1, anchor=at(0)), close, overlap="allow", tags=["x"])
    assert app.runs.backfill("a", at(11, 50), at(12)) == 600
    assert app.runs.backfill("a", at(11, 40), at(11, 45)) == 300
    done: list[int] = []

    found = list(app.runs.find(tag="x", states=["ready"]))
    assert len(found) == 900
    assert app.runs.cancel_all(found, progress=done.append) == 900
    assert done == [500, 400]
    assert list(app.runs.find(states=["ready", "waiting"])) == []


# --- looking --------------------------------------------------------------------------------------------


def test_runs_are_found_by_schedule_state_and_when_they_were_due(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", interval(hours=1), close)
    beat.schedules.put("b", interval(hours=1), fail, tags=["billing"])
    beat.run_for(3 * HOUR)

    assert [run.due_at for run in beat.runs.list(schedule="a")] == [at(15), at(14), at(13)]
    assert {run.schedule for run in beat.runs.list(states=["failed"])} == {"b"}
    assert [run.id for run in beat.runs.list(tag="billing", since=at(14), until=at(15))] == [
        "b@20261121T140000Z"
    ]
    assert [run.id for run in beat.runs.list(schedule="a", before="a@20261121T140000Z")] == [
        "a@20261121T130000Z"
    ]
    with pytest.raises(InvalidInput, match="did you mean 'failed'"):
        beat.runs.list(states=["faild"])


def test_a_run_keeps_what_its_body_logged(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, report)
    (run,) = beat.run_for(HOUR + seconds(2))

    (line,) = beat.runs.logs(run.id)
    assert (line.level, line.text) == ("info", "reported 2026-11-21T13:00:00+00:00")


def test_a_run_that_is_not_there_is_told_with_the_nearest(beat: VirtualOnebeat) -> None:
    beat.schedules.put("a", HOURLY, close)
    beat.run_for(HOUR)

    for look in (beat.runs.show, beat.runs.logs, beat.runs.cancel, beat.runs.retry):
        with pytest.raises(NotFound, match="did you mean 'a@20261121T130000Z'"):
            look("a@20261121T130001Z")
