"""Intervals do not drift, and one-offs come once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.triggers.reading import MICROSECOND, at, backward, forward

from onebeat.core.errors import InvalidInput, InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import anchored, build, interval, once

CUT = at("2026-11-21T04:20:00.123456")
CENTURY = timedelta(days=36_525)


@pytest.mark.parametrize(
    "period", [timedelta(seconds=7), timedelta(milliseconds=1), timedelta(microseconds=1_000_003)]
)
def test_the_kth_occurrence_is_the_anchor_and_k_periods(period: timedelta) -> None:
    trigger = build(interval(period, anchor=CUT))

    for k in [*range(100), *range(100, 1_000_000, 9_973), 1_000_000]:
        instant = CUT + k * period
        assert trigger.after(instant - MICROSECOND) == instant
        assert trigger.before(instant + MICROSECOND) == instant
        assert trigger.count(CUT - MICROSECOND, instant) == k + 1


@pytest.mark.long
def test_a_million_periods_do_not_drift() -> None:
    period, trigger = timedelta(seconds=0.7), build(interval(seconds=0.7, anchor=CUT))

    found = CUT
    for _ in range(1_000_000):
        found = trigger.after(found) or CUT

    assert found - (CUT + 1_000_000 * period) == timedelta(0)


def test_nothing_comes_before_the_anchor() -> None:
    trigger = build(interval(hours=1, anchor=CUT))

    assert trigger.after(datetime.min.replace(tzinfo=UTC)) == CUT
    assert trigger.before(CUT) is None
    assert trigger.before(CUT + MICROSECOND) == CUT
    assert trigger.count(CUT - CENTURY, CUT - MICROSECOND) == 0


def test_an_interval_without_an_anchor_begins_one_period_after_its_declaration() -> None:
    spec = anchored(interval(minutes=10), CUT)

    assert forward(spec, CUT + MICROSECOND, CUT + timedelta(minutes=25)) == [
        CUT + timedelta(minutes=10),
        CUT + timedelta(minutes=20),
    ]
    assert spec.fields == {"period_s": 600, "anchor_at": "2026-11-21T04:20:00.123456Z"}


def test_a_given_anchor_stays() -> None:
    spec = interval(minutes=10, anchor=at("2026-01-01"))

    assert anchored(spec, CUT) == spec
    assert anchored(anchored(interval(days=1), CUT), CUT + CENTURY) == anchored(interval(days=1), CUT)
    assert (
        anchored(TriggerSpec(kind="interval", fields={"period_s": 1, "anchor_at": None}), CUT)
        .fields["anchor_at"]
        .startswith("2026-11-21T04:20")
    )


def test_what_is_not_anchored_holds_nothing_yet() -> None:
    for spec in (interval(minutes=10), once(in_=timedelta(minutes=1))):
        for ask in (methodcaller("after", CUT), methodcaller("before", CUT), methodcaller("count", CUT, CUT)):
            with pytest.raises(InvalidTrigger, match=r"relative to its declaration.*anchored"):
                ask(build(spec))


def test_lengths_add_up() -> None:
    spec = interval(timedelta(seconds=1), weeks=1, days=1, hours=1, minutes=1, seconds=0.5)

    assert spec.fields == {"period_s": 694_861.5}


@given(st.timedeltas(timedelta(milliseconds=1), CENTURY))
def test_every_period_of_whole_microseconds_is_kept_exactly(period: timedelta) -> None:
    trigger = build(interval(period, anchor=CUT))

    assert trigger.after(CUT) == CUT + period


@pytest.mark.parametrize(
    "lengths",
    [
        {},
        {"seconds": 0},
        {"seconds": -5},
        {"minutes": 1, "seconds": -60},
        {"period": timedelta(microseconds=999)},
        {"days": 36_526},
        {"weeks": 1e9},
    ],
)
def test_a_period_out_of_range_is_refused(lengths: dict[str, Any]) -> None:
    with pytest.raises(InvalidTrigger, match=r"periods are 0\.001 s to 36,525 days"):
        interval(**lengths)


@pytest.mark.parametrize("period", ["60", None, True, [60], 1e400, 1e300, -1e300, 0.0010001])
def test_a_period_that_is_no_number_of_microseconds_is_refused(period: Any) -> None:
    with pytest.raises(InvalidInput):
        build(TriggerSpec(kind="interval", fields={"period_s": period}))


@pytest.mark.parametrize("make", [lambda t: interval(hours=1, anchor=t), once])
def test_an_instant_without_a_zone_is_refused(make: Any) -> None:
    with pytest.raises(InvalidInput, match="has no zone, so it names no instant"):
        make(datetime(2026, 11, 21, 9))


# --- one-offs ----------------------------------------------------------------------------------------


def test_a_one_off_comes_once() -> None:
    trigger = build(once(CUT))

    assert trigger.after(CUT - MICROSECOND) == CUT
    assert trigger.after(CUT) is None
    assert trigger.before(CUT + MICROSECOND) == CUT
    assert trigger.before(CUT) is None
    assert [trigger.count(CUT - MICROSECOND, CUT), trigger.count(CUT, CUT + CENTURY)] == [1, 0]


def test_only_a_one_off_still_fires_when_it_had_passed() -> None:
    assert build(once(CUT)).late_start
    assert build(anchored(once(in_=timedelta(0)), CUT)).late_start
    assert not build(interval(hours=1, anchor=CUT)).late_start
    assert not build(once(CUT) | interval(hours=1, anchor=CUT)).late_start


def test_a_delay_counts_from_the_declaration() -> None:
    spec = anchored(once(in_=timedelta(minutes=30)), CUT)

    assert spec.fields == {"at": "2026-11-21T04:50:00.123456Z"}
    assert build(spec).after(CUT) == CUT + timedelta(minutes=30)
    assert anchored(spec, CUT + CENTURY) == spec


@pytest.mark.parametrize(
    "given", [{}, {"at": CUT, "in_": timedelta(1)}, {"in_": -MICROSECOND}, {"in_": CENTURY + MICROSECOND}]
)
def test_a_one_off_needs_one_instant(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidTrigger, match=r"either at=, or in_=|in_ is 0 to 36,525 days"):
        once(**given)


def test_nothing_that_does_not_depend_on_wall_time_is_zoned() -> None:
    assert not build(once(CUT)).zoned
    assert not build(interval(days=1, anchor=CUT)).zoned


# --- two intervals -----------------------------------------------------------------------------------

PERIODS = st.integers(1_000, 40_000).map(lambda micros: timedelta(microseconds=micros * 250))
OFFSETS = st.integers(-40_000, 40_000).map(lambda micros: timedelta(microseconds=micros * 250))


@given(PERIODS, PERIODS, OFFSETS)
def test_two_intervals_meet_where_both_of_them_come(
    one: timedelta, other: timedelta, apart: timedelta
) -> None:
    first, second = interval(one, anchor=CUT), interval(other, anchor=CUT + apart)
    end = CUT + timedelta(seconds=60)
    wanted = sorted(
        set(forward(first, CUT - timedelta(60), end)) & set(forward(second, CUT - timedelta(60), end))
    )

    try:
        both = build(first & second)
    except InvalidTrigger:
        assert not wanted
    else:
        assert forward(first & second, CUT - timedelta(60), end) == wanted
        assert backward(first & second, CUT - timedelta(60), end) == wanted
        assert all(later - earlier == wanted[1] - wanted[0] for earlier, later in pairwise(wanted))
        assert both.count(CUT - timedelta(60), end - MICROSECOND) == len(wanted)
