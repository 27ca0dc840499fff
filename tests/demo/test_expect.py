"""The judge's own arithmetic agrees with plain enumeration, and with the product's triggers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from onebeat.core.triggers import build
from onebeat.demo.expect import SECOND, At, Either, Every, Stretch, all_instants, instant, micros, seconds
from onebeat.demo.plan import plan

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
PLAN = {beat.name: beat for beat in plan(START)}


def test_an_interval_has_its_anchor_and_nothing_before_it() -> None:
    every = Every(period=2 * SECOND, anchor=10 * SECOND)

    assert every.between(0, 14 * SECOND) == [10 * SECOND, 12 * SECOND, 14 * SECOND]


def test_the_bounds_are_open_below_and_closed_above() -> None:
    assert Every(SECOND, 0).between(3 * SECOND, 5 * SECOND) == [4 * SECOND, 5 * SECOND]
    assert seconds([3, 4, 5]).between(3 * SECOND, 5 * SECOND) == [4 * SECOND, 5 * SECOND]
    assert At(5).between(4, 5) == [5]
    assert At(5).between(5, 6) == []


def test_either_counts_a_common_instant_once() -> None:
    assert Either((Every(2, 0), Every(3, 0))).between(0, 6) == [2, 3, 4, 6]


def test_stretches_meet_without_gap_or_overlap() -> None:
    stretches = [Stretch(0, 4, Every(2, 0)), Stretch(4, 9, Every(3, 0))]

    assert list(all_instants(stretches)) == [2, 4, 6, 9]


def test_instants_survive_the_round_trip_to_the_microsecond() -> None:
    at = START + timedelta(microseconds=123_457)

    assert instant(micros(at)) == at


@pytest.mark.parametrize("name", PLAN)
def test_both_tellings_of_a_schedule_agree(name: str) -> None:
    # Three minutes of the product's trigger against the judge's arithmetic: the plan has no typing error.
    beat = PLAN[name]
    since, until = START - timedelta(minutes=2), START + timedelta(minutes=1)
    trigger = build(beat.trigger)
    found, at = [], trigger.after(since)
    while at is not None and at <= until:
        found.append(micros(at))
        at = trigger.after(at)

    assert beat.expectation.between(micros(since), micros(until)) == found


def test_there_are_some_fifty_schedules_and_no_name_stands_twice() -> None:
    assert 45 <= len(PLAN) <= 60
    assert len(PLAN) == len(plan(START))
