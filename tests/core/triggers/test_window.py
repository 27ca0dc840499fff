"""Windows: hours of the day as triggers that hold every microsecond of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.triggers.reading import MICROSECOND, at, backward, forward, instants
from tests.core.triggers.test_matcher import agree
from tests.core.triggers.test_properties import ZONES, near_a_change

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import anchored, build, cron, interval, window, with_zone, words
from onebeat.core.triggers.spans import SpanTrigger

NEW_YORK = "America/New_York"
OFFICE = window("09:00", "17:00", days="MON-FRI")
EVERY_TWO_HOURS = cron("0 */2 * * *")


def test_within_a_window_its_start_counts_and_its_end_does_not() -> None:
    spec = cron("0 */4,9,17 * * *").within(OFFICE)

    assert forward(spec, at("2026-11-20"), at("2026-11-24")) == instants(
        "2026-11-20T09:00 2026-11-20T12:00 2026-11-20T16:00 "
        "2026-11-23T09:00 2026-11-23T12:00 2026-11-23T16:00"
    )
    assert spec == cron("0 */4,9,17 * * *") & OFFICE


def test_outside_of_a_window_is_the_rest() -> None:
    spec = EVERY_TWO_HOURS.outside(window("01:00", "23:00"))

    assert forward(spec, at("2026-11-20"), at("2026-11-21")) == [at("2026-11-20")]
    assert backward(spec, at("2026-11-20"), at("2026-11-21")) == [at("2026-11-20")]
    assert spec == EVERY_TWO_HOURS - window("01:00", "23:00")


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    found = forward(
        EVERY_TWO_HOURS.within(window("22:00", "03:00", days="FRI")), at("2026-11-18"), at("2026-11-26")
    )

    assert found == instants("2026-11-20T22:00 2026-11-21T00:00 2026-11-21T02:00")


def test_a_window_holds_every_microsecond_from_its_start_to_right_before_its_end() -> None:
    trigger = build(window("09:00", "17:00"))
    opens, closes = at("2026-11-20T09:00"), at("2026-11-20T17:00")

    assert trigger.after(opens - timedelta(hours=1)) == opens
    assert trigger.after(opens) == opens + MICROSECOND
    assert trigger.after(closes - 2 * MICROSECOND) == closes - MICROSECOND
    assert trigger.after(closes - MICROSECOND) == opens + timedelta(days=1)
    assert trigger.before(opens) == closes - timedelta(days=1) - MICROSECOND
    assert trigger.count(opens - MICROSECOND, closes) == 8 * 3600 * 1_000_000
    assert trigger.count(opens + timedelta(seconds=0.5), opens + timedelta(seconds=0.75)) == 250_000


@pytest.mark.parametrize(
    ("spec", "day", "hours"),
    [
        (window("01:00", "05:00", zone=NEW_YORK), "2026-03-08", 3),  # 02:00 to 03:00 is not there
        (window("01:00", "05:00", zone=NEW_YORK), "2026-11-01", 5),  # 01:00 to 02:00 is there twice
        (window("01:30", "01:45", zone=NEW_YORK), "2026-11-01", 0.5),
        (window("02:15", "02:45", zone=NEW_YORK), "2026-03-08", 0),
        (window("22:00", "04:00", zone=NEW_YORK, days="SAT"), "2026-03-08", 3),
        (window("00:00", "24:00", zone="Pacific/Apia"), "2011-12-30", 0),  # a day that was left out
    ],
)
def test_a_window_goes_by_the_clock_on_the_wall(spec: TriggerSpec, day: str, hours: float) -> None:
    zone = spec.fields["zone"]
    midnight = cron("0 0 0 * * *", zone=zone, gap="shift", fold="first")
    noon = at(f"{day}T17:00") if zone == NEW_YORK else at(f"{day}T10:00")
    begin, end = build(midnight).before(noon), build(midnight).after(noon)
    assert begin is not None
    assert end is not None
    if zone == "Pacific/Apia":
        end = begin = noon

    assert build(spec).count(begin - MICROSECOND, end - MICROSECOND) == hours * 3600 * 1_000_000


TIMES = st.integers(0, 95).map(lambda n: f"{n // 4:02}:{n % 4 * 15:02}")
DAYS = st.sampled_from([None, "MON-FRI", "SAT,SUN", "5-1", "*/2", "7", "1/3", "0-7", "MON-7/2", "wed"])


@st.composite
def windows(draw: st.DrawFn) -> TriggerSpec:
    start, end = draw(st.lists(TIMES, min_size=2, max_size=2, unique=True))
    end = draw(st.sampled_from([end, end, end, "24:00"]))
    return window(start, end, days=draw(DAYS), zone=draw(ZONES))


MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(lambda t: at(t.isoformat()))


@pytest.mark.slow
@settings(max_examples=60)
@given(windows(), MOMENTS, st.integers(0, 10_000))
def test_the_matcher_agrees_on_windows_near_changes_of_the_clock(
    spec: TriggerSpec, t: datetime, index: int
) -> None:
    start = near_a_change(spec, t, index)
    sparse = cron("*/15 * * * *") | interval(minutes=7, seconds=0.5, anchor=start)

    agree(sparse.within(spec), start, start + timedelta(days=3))
    agree(sparse.outside(spec), start, start + timedelta(days=3))


@pytest.mark.slow
@given(windows(), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=20)))
def test_after_before_and_count_agree(spec: TriggerSpec, start: datetime, length: timedelta) -> None:
    trigger = build(spec)
    following, end = trigger.after(start), start + length

    assert following is not None
    assert trigger.count(start, following) == 1
    assert trigger.before(following + MICROSECOND) == following
    if following > start + MICROSECOND:
        previous = trigger.before(following)
        assert previous is not None
        assert previous <= start
    middle = start + length / 3
    assert trigger.count(start, end) == trigger.count(start, middle) + trigger.count(middle, end)


@pytest.mark.slow
@given(windows(), MOMENTS, st.booleans())
def test_a_run_is_held_without_a_break_and_ends_with_the_day_or_the_window(
    spec: TriggerSpec, start: datetime, later: bool
) -> None:
    trigger = build(spec)
    assert isinstance(trigger, SpanTrigger)
    held = trigger.after(start) if later else trigger.before(start)
    assert held is not None

    end = trigger.run(held, later)
    first, last = sorted((held, end))
    assert trigger.count(first - MICROSECOND, last) == (last - first) // MICROSECOND + 1
    beyond = end + MICROSECOND if later else end - MICROSECOND
    edge = beyond if later else end
    assert edge == edge.replace(hour=0, minute=0, second=0) or not trigger.count(beyond - MICROSECOND, beyond)


@pytest.mark.slow
@given(windows(), MOMENTS)
def test_the_days_that_a_window_shows_are_what_it_counts(spec: TriggerSpec, start: datetime) -> None:
    every_second = cron("* * * * * *", zone=spec.fields["zone"])
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = build(every_second & spec).count(day - MICROSECOND, day + timedelta(days=1) - MICROSECOND)

    assert build(spec).count(day - MICROSECOND, day + timedelta(days=1) - MICROSECOND) == seconds * 1_000_000


def test_a_window_alone_cannot_be_declared() -> None:
    with pytest.raises(InvalidTrigger, match="holds every microsecond"):
        anchored(OFFICE, at("2026-11-22"))
    assert anchored(cron("0 9 * * *").within(OFFICE | window("20:00", "22:00")), at("2026-11-22"))


def test_what_never_meets_a_window_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="never comes"):
        anchored(cron("0 18 * * *").within(OFFICE), at("2026-11-22"))


def test_a_window_lives_in_the_zone_of_its_app() -> None:
    spec = cron("0 9 * * *", zone=NEW_YORK).within(window("08:00", "10:00"))
    filled = with_zone(spec, NEW_YORK)

    assert build(filled).after(at("2026-11-20T12:00")) == at("2026-11-20T14:00")


@pytest.mark.parametrize(
    ("given_", "says"),
    [
        ({"start": "9:00", "end": "17:00"}, "start='9:00' is no time of day.*did you mean '09:00'"),
        ({"start": "24:00", "end": "01:00"}, "midnight is '00:00'"),
        ({"start": "09:00", "end": "24:01"}, "end='24:01' is no time of day.*or '24:00'"),
        ({"start": "09:00", "end": "09:00"}, "has no length; for a whole day write '00:00' to '24:00'"),
        ({"start": "09:00", "end": "17:00", "days": "MUN"}, "did you mean 'SUN'"),
        ({"start": "09:00", "end": "17:00", "days": "MON#2"}, "MON#2"),
        ({"start": "09:00", "end": "17:00", "days": ""}, "day of week"),
        ({"start": "09:00", "end": "17:00", "zone": "+01:00"}, "is no zone"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_says_what_to_write(given_: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidTrigger, match=says):
        window(**given_)


@pytest.mark.parametrize(
    ("spec", "english", "chinese"),
    [
        (OFFICE, "09:00 to 17:00, Monday to Friday, UTC", "周一至周五 09:00至17:00(UTC)"),
        (window("22:00:30", "24:00"), "22:00:30 to 24:00, every day, UTC", "每天 22:00:30至24:00(UTC)"),
        (
            cron("*/15 * * * *").within(window("22:00", "06:00", days="FRI,SAT", zone=NEW_YORK)),
            "every 15 minutes, UTC; only in: 22:00 to 06:00, Friday and Saturday, America/New_York",
            "每15分钟(UTC);仅限:周五、周六 22:00至06:00(America/New_York)",
        ),
    ],
)
def test_a_window_says_itself_in_both_languages(spec: TriggerSpec, english: str, chinese: str) -> None:
    assert words(spec) == english
    assert words(spec, "zh") == chinese
