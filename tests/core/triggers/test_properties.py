"""What holds for every trigger, at every instant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import cycle, pairwise
from operator import methodcaller
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.core.triggers.reading import MICROSECOND, at, backward, forward

from onebeat.core.errors import InvalidInput, InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import (
    build,
    calendar_interval,
    cron,
    dates,
    interval,
    once,
    rrule,
    window,
    workdays,
    zone_names,
)
from onebeat.core.triggers.combine import DAYS_MIN
from onebeat.core.triggers.instants import EARLIEST, LATEST
from onebeat.core.triggers.walltime import offsets

pytestmark = pytest.mark.slow
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400
FEWER = settings(max_examples=50)  # a combination may have to search for years
INSTANTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
ZONES = st.sampled_from([
    "UTC", "Africa/Casablanca", "Africa/Monrovia", "America/New_York", "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll", "Asia/Gaza", "Asia/Kathmandu", "Asia/Tehran", "Australia/Lord_Howe", "Europe/Dublin",
    "Europe/London", "Pacific/Apia", "Pacific/Kiritimati",
])  # fmt: skip
POLICIES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "gap": st.sampled_from(["shift", "skip"]),
        "fold": st.sampled_from(["first", "second", "both"]),
        "days": st.just("all"),
    },
)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.integers(1, 7 if high == 7 else high - low + 1).map(lambda step: f"*/{step}")
    return st.one_of(
        st.just("*"), steps, st.lists(number.map(str) | ranges, min_size=1, max_size=3).map(",".join)
    )


DATES = st.just("*") | field(1, 31) | st.sampled_from(["L", "LW", "L-2", "15W", "1W,L", "29", "?"])
WEEKDAYS = st.just("*") | field(0, 7) | st.sampled_from(["5L", "MON#1", "FRI-MON", "SUNL,2#3", "?"])
EXPRESSIONS = st.tuples(
    st.just("") | st.sampled_from(["0", "30", "*/20", "5,7", "58-3"]),
    field(0, 59),
    field(0, 23),
    DATES,
    st.just("*") | field(1, 12),
    WEEKDAYS,
).map(lambda fields: " ".join(fields).strip())


@st.composite
def crons(draw: st.DrawFn) -> TriggerSpec:
    try:
        return cron(draw(EXPRESSIONS), zone=draw(ZONES), **draw(POLICIES))
    except InvalidTrigger as refusal:
        assume("never comes" not in str(refusal))
        raise


INTERVALS = st.builds(
    lambda seconds, anchor: interval(seconds=seconds, anchor=anchor.replace(microsecond=0)),
    st.integers(600, 1_000_000),
    INSTANTS,
)
# What leaves room: that nothing at all is left is tested where it is meant, for it takes long to find out.
BROAD = st.sampled_from(
    [
        cron("* * * * MON-FRI"),
        cron("*/2 * * * *", zone="Asia/Kathmandu"),
        cron("* */2 * * *"),
        window("05:00", "04:00", zone="Europe/London"),
        workdays("CN", zone="Asia/Shanghai"),
    ]
)
NARROW = st.builds(once, INSTANTS) | st.sampled_from(
    [
        cron("* 3 * * *"),
        cron("*/2 * * * SUN", zone="Asia/Tokyo"),
        window("23:00", "01:00", days="SAT"),
        dates("2011-12-30", "2026-03-29", zone="Pacific/Apia"),
    ]
)
COUNTED = st.sampled_from(
    [
        calendar_interval(days=3, at="02:30", start="1991-12-28", zone="Pacific/Apia"),
        calendar_interval(months=1, at="00:00", start="1950-01-31", zone="America/Sao_Paulo"),
        rrule("FREQ=HOURLY;INTERVAL=7;BYMINUTE=0,30", start="1980-01-01T00:00:00", zone="America/New_York"),
        rrule("FREQ=WEEKLY;BYDAY=MO,WE,SU;BYHOUR=2", start="1950-01-01", zone="Europe/Dublin", fold="both"),
    ]
)
LEAVES = crons() | crons() | INTERVALS | COUNTED | st.builds(once, INSTANTS)
SPECS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda one, other: one | other, inner, inner),
        st.builds(lambda one, other: one & other, inner, BROAD),
        st.builds(lambda one, other: one - other, inner, NARROW),
        st.builds(lambda one, start: one.between(start), inner, INSTANTS),
    ),
    max_leaves=4,
)


def near_a_change(spec: TriggerSpec, instant: datetime, index: int) -> datetime:
    """An instant near one of the changes of the spec's zone, if it has any."""
    since = offsets(spec.fields.get("zone", "UTC")).since[1:]
    return EPOCH + timedelta(seconds=since[index % len(since)] - 90_000) if since else instant


@FEWER
@given(SPECS, INSTANTS)
def test_after_is_strictly_later_and_before_strictly_earlier(spec: TriggerSpec, t: datetime) -> None:
    trigger = build(spec)

    following, previous = trigger.after(t), trigger.before(t)

    assert following is None or (following > t and following.tzinfo is UTC)
    assert previous is None or (previous < t and previous.tzinfo is UTC)


@FEWER
@given(SPECS, INSTANTS)
def test_before_is_the_mirror_of_after(spec: TriggerSpec, t: datetime) -> None:
    trigger = build(spec)
    previous, following = trigger.before(t + MICROSECOND), trigger.after(t)

    # How far a combination looks is bounded, so of two that are far apart one may not see the other.
    assume(previous is None or following is None or following - previous < timedelta(days=DAYS_MIN))
    # Nothing lies between the last one at or before t and the first one after it.
    if following is not None:
        assert trigger.before(following) == previous
        assert trigger.before(following + MICROSECOND) == following
    if previous is not None:
        assert trigger.after(previous) == following
        assert trigger.after(previous - MICROSECOND) == previous


@given(crons(), INSTANTS, st.integers(0, 10_000), st.booleans())
def test_count_is_the_number_of_what_is_enumerated(
    spec: TriggerSpec, t: datetime, index: int, change: bool
) -> None:
    start = near_a_change(spec, t, index) if change else t
    found = forward(spec, start, start + timedelta(hours=40))

    trigger, end = build(spec), start + timedelta(hours=40)
    assert backward(spec, start, end) == found
    assert trigger.count(start - MICROSECOND, end - MICROSECOND) == len(found)
    for each in found[:: max(1, len(found) // 10)]:
        assert trigger.count(start - MICROSECOND, each) == found.index(each) + 1
        assert trigger.count(each, end - MICROSECOND) == len(found) - found.index(each) - 1


@FEWER
@given(SPECS, INSTANTS)
def test_count_of_a_combination_is_the_number_of_what_is_enumerated(spec: TriggerSpec, t: datetime) -> None:
    end = t + timedelta(hours=5)
    found = forward(spec, t, end)

    assert build(spec).count(t - MICROSECOND, end - MICROSECOND) == len(found)


@given(crons(), st.integers(0, 10_000), INSTANTS)
def test_a_day_shows_what_comes_in_it(spec: TriggerSpec, index: int, t: datetime) -> None:
    trigger: Any = build(spec)
    day = (near_a_change(spec, t, index) - EPOCH).days + 1
    start = EPOCH + timedelta(days=day)

    seconds = [
        (each - start) // timedelta(seconds=1) for each in forward(spec, start, start + timedelta(days=1))
    ]

    assert trigger.bits(day) == sum(1 << second for second in seconds)


@given(crons(), st.integers(2, 18), st.integers(0, 400 * 365 * DAY))
def test_the_calendar_repeats_every_400_years(spec: TriggerSpec, cycles: int, second: int) -> None:
    past = timedelta(days=146_097)
    t = at("2200-01-01") + timedelta(seconds=second)
    trigger = build(spec)

    following, previous = trigger.after(t), trigger.before(t)

    assert following is not None
    assert previous is not None
    assert trigger.after(t + cycles * past) == following + cycles * past
    assert trigger.before(t + cycles * past) == previous + cycles * past
    assert trigger.count(t, t + past) == trigger.count(t + past, t + 2 * past)
    assert trigger.count(t, t + cycles * past) == cycles * trigger.count(t, t + past)


@settings(max_examples=25)
@given(SPECS)
def test_the_ends_of_time_are_answered(spec: TriggerSpec) -> None:
    trigger = build(spec)

    assert trigger.after(LATEST) is None
    assert trigger.before(EARLIEST) is None
    for t in (
        EARLIEST,
        EARLIEST + MICROSECOND,
        EARLIEST + timedelta(1),
        LATEST - timedelta(1),
        LATEST - MICROSECOND,
    ):
        following, previous = trigger.after(t), trigger.before(t)
        assert following is None or following > t
        assert previous is None or previous < t


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue", "America/New_York"])
def test_every_second_of_all_years_is_counted(zone: str) -> None:
    trigger = build(cron("* * * * * *", zone=zone))

    assert trigger.count(EARLIEST, LATEST) == (LATEST - EARLIEST) // timedelta(seconds=1)
    assert trigger.after(EARLIEST) == EARLIEST + timedelta(seconds=1)
    assert trigger.before(LATEST) == LATEST.replace(microsecond=0)
    assert trigger.before(EARLIEST + timedelta(seconds=1)) == EARLIEST


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("30 * * * *", {}),
    ("30 2 * * *", {}),
    ("*/20 0-3 * * *", {"gap": "shift"}),
    ("15,45 0-3,23 * * *", {}),
    ("*/10 * * * *", {"fold": "second"}),
    ("0 * * * *", {"gap": "shift", "fold": "first"}),
    ("59 23 * * *", {"fold": "both"}),
    ("0 0 * * *", {"gap": "skip", "fold": "second"}),
]


@pytest.mark.parametrize("part", range(4))
def test_time_never_stands_still_or_goes_back_at_any_change_from_1970_to_2040(part: int) -> None:
    policies = cycle(STEPS)
    for name in sorted(zone_names())[part::4]:
        expression, policy = next(policies)
        spec = cron(expression, zone=name, **policy)
        trigger = build(spec)
        for second in offsets(name).since[1:]:
            if 0 <= second < 2_208_988_800:
                t = EPOCH + timedelta(seconds=second)
                found, cursor = [t - timedelta(hours=3)], t - timedelta(hours=3)
                while (following := trigger.after(cursor)) is not None and following < t + timedelta(hours=3):
                    found.append(cursor := following)
                assert all(later > earlier for earlier, later in pairwise(found)), (name, t)
                assert backward(spec, found[0] + MICROSECOND, t + timedelta(hours=3)) == found[1:], (name, t)


@pytest.mark.parametrize("spec", [cron("0 9 * * *"), interval(hours=1, anchor=at("2026-01-01"))])
def test_an_instant_without_a_zone_is_refused(spec: TriggerSpec) -> None:
    trigger, naive = build(spec), datetime(2026, 11, 21)

    for ask in (
        methodcaller("after", naive),
        methodcaller("before", naive),
        methodcaller("count", naive, naive),
    ):
        with pytest.raises(InvalidInput, match="has no zone"):
            ask(trigger)


def test_a_year_of_seconds_is_counted_by_days() -> None:
    year = at("2026-01-01"), at("2027-01-01")

    assert build(cron("* * * * * *", zone="Europe/Paris")).count(*year) == 31_536_000
    assert build(cron("* * * * * *") | cron("0 9 * * *", zone="Asia/Tokyo")).count(*year) == 31_536_000
    assert build(cron("* * * * * *") - cron("* * * * * *", zone="Europe/Paris")).count(*year) == 0
