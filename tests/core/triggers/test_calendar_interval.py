"""Calendar intervals: month ends, changes of the clock, and no drift."""

from __future__ import annotations

import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dateutil.relativedelta import relativedelta
from tests.core.triggers.reading import MICROSECOND, at, backward, forward, instants
from tests.core.triggers.test_matcher import agree

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.reconcile import resolves
from onebeat.core.triggers import anchored, build, calendar_interval, cron, with_zone
from onebeat.core.triggers.instants import EARLIEST, LATEST


def dates(spec: TriggerSpec, number: int) -> str:
    trigger, found, instant = build(spec), list[str](), EARLIEST
    while len(found) < number and (following := trigger.after(instant)) is not None:
        found.append(following.date().isoformat())
        instant = following
    return " ".join(found)


# --- month ends --------------------------------------------------------------------------------------

MONTH_ENDS: list[tuple[dict[str, Any], str]] = [
    ({"months": 1, "start": "2026-01-31"}, "2026-01-31 2026-02-28 2026-03-31 2026-04-30 2026-05-31"),
    ({"months": 1, "start": "2028-01-30"}, "2028-01-30 2028-02-29 2028-03-30 2028-04-30"),
    ({"months": 1, "start": "2027-01-29"}, "2027-01-29 2027-02-28 2027-03-29"),
    ({"months": 3, "start": "2026-11-30"}, "2026-11-30 2027-02-28 2027-05-30 2027-08-30"),
    ({"months": 6, "start": "2026-08-31"}, "2026-08-31 2027-02-28 2027-08-31 2028-02-29"),
    ({"years": 1, "start": "2024-02-29"}, "2024-02-29 2025-02-28 2026-02-28 2027-02-28 2028-02-29"),
    ({"years": 1, "months": 1, "start": "2026-12-31"}, "2026-12-31 2028-01-31 2029-02-28 2030-03-31"),
    ({"months": 1, "start": "2026-01-31", "month_end": "skip"}, "2026-01-31 2026-03-31 2026-05-31"),
    ({"months": 1, "start": "2026-01-30", "month_end": "skip"}, "2026-01-30 2026-03-30 2026-04-30"),
    ({"years": 1, "start": "2096-02-29", "month_end": "skip"}, "2096-02-29 2104-02-29 2108-02-29"),
    ({"years": 25, "start": "2000-02-29", "month_end": "skip"}, "2000-02-29 2400-02-29 2800-02-29"),
    ({"months": 1, "days": 1, "start": "2026-01-31"}, "2026-01-31 2026-03-01 2026-04-02 2026-05-03"),
    ({"months": 1, "weeks": 1, "start": "2026-01-31", "month_end": "skip"}, "2026-01-31 2026-04-14"),
    ({"weeks": 2, "start": "2026-11-22"}, "2026-11-22 2026-12-06 2026-12-20 2027-01-03"),
    ({"days": 100, "start": "2026-11-22"}, "2026-11-22 2027-03-02 2027-06-10"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "wanted"), MONTH_ENDS)
def test_every_step_is_counted_from_the_start(fields: dict[str, Any], wanted: str) -> None:
    spec = calendar_interval(**fields)

    found = instants(wanted)
    first, last = found[0], found[-1]
    assert dates(spec, len(found)) == wanted
    assert backward(spec, EARLIEST, last + MICROSECOND) == found
    assert build(spec).count(EARLIEST, last) == len(found)
    assert build(spec).before(first) is None
    agree(spec, first - timedelta(1), min(last, first + timedelta(150)))


def by_walking(fields: dict[str, Any], number: int) -> list[datetime]:
    """The first occurrences as dateutil adds them up."""
    first = date.fromisoformat(fields["start"])
    found = list[datetime]()
    for k in range(400):
        day = first + relativedelta(months=k * fields["months"])
        if day.day == first.day or fields["month_end"] == "last":
            day += timedelta(k * fields["days"])
            found.append(datetime(day.year, day.month, day.day, tzinfo=UTC))
        if len(found) == number or day.year > 9000:
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_intervals_are_what_adding_up_comes_to(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        fields = {
            "months": rng.choice([0, 0, 1, 2, 3, 5, 6, 12, 13, 48, rng.randint(1, 1200)]),
            "days": rng.choice([0, 0, 1, 2, 7, 30, rng.randint(1, 400)]),
            "start": str(date(rng.randint(1600, 2100), 1, 1) + timedelta(rng.randint(25, 60))),
            "month_end": rng.choice(["last", "skip"]),
        }  # fmt: skip
        if fields["months"] or fields["days"]:
            wanted = by_walking(fields, 20)
            spec, end = calendar_interval(**fields), wanted[-1] + MICROSECOND
            print(seed, spec)

            assert forward(spec, EARLIEST + MICROSECOND, end) == wanted
            assert backward(spec, EARLIEST, end) == wanted
            assert [build(spec).count(EARLIEST, each) for each in wanted] == list(range(1, len(wanted) + 1))


# --- changes of the clock ----------------------------------------------------------------------------

# What each place's clock did is in the zone data; the instants are worked out by hand from it.
CLOCKS: list[tuple[str, dict[str, Any], str]] = [
    # 29 March 2026: 02:00 CET is 03:00 CEST. 02:30 does not exist, and 03:00 CEST is 01:00 UTC.
    ("Europe/Paris", {"days": 1, "at": "02:30", "start": "2026-03-28"},
     "2026-03-28T01:30 2026-03-29T01:00 2026-03-30T00:30"),
    ("Europe/Paris", {"days": 1, "at": "02:30", "start": "2026-03-28", "gap": "skip"},
     "2026-03-28T01:30 2026-03-30T00:30"),
    # 25 October 2026: 03:00 CEST is 02:00 CET. 02:30 comes twice.
    ("Europe/Paris", {"days": 1, "at": "02:30", "start": "2026-10-24"},
     "2026-10-24T00:30 2026-10-25T00:30 2026-10-26T01:30"),
    ("Europe/Paris", {"days": 1, "at": "02:30", "start": "2026-10-24", "fold": "second"},
     "2026-10-24T00:30 2026-10-25T01:30 2026-10-26T01:30"),
    ("Europe/Paris", {"days": 1, "at": "02:30", "start": "2026-10-24", "fold": "both"},
     "2026-10-24T00:30 2026-10-25T00:30 2026-10-25T01:30 2026-10-26T01:30"),
    # 8 March 2026 at 02:00 EST; a month later the clock is an hour ahead.
    ("America/New_York", {"months": 1, "at": "02:15", "start": "2026-02-08"},
     "2026-02-08T07:15 2026-03-08T07:00 2026-04-08T06:15"),
    # South of the equator: forward on 4 October 2026, back on 5 April 2026, both at night.
    ("Australia/Sydney", {"weeks": 1, "at": "02:30", "start": "2026-09-27"},
     "2026-09-26T16:30 2026-10-03T16:00 2026-10-10T15:30"),
    ("America/Santiago", {"months": 1, "at": "00:00", "start": "2026-08-06"},
     "2026-08-06T04:00 2026-09-06T04:00 2026-10-06T03:00"),
    # Lord Howe moves its clock by half an hour: 4 October 2026, 02:00 is 02:30.
    ("Australia/Lord_Howe", {"days": 1, "at": "02:15", "start": "2026-10-03"},
     "2026-10-02T15:45 2026-10-03T15:30 2026-10-04T15:15"),
    ("Australia/Lord_Howe", {"days": 1, "at": "01:45", "start": "2026-04-04"},
     "2026-04-03T14:45 2026-04-04T14:45 2026-04-05T15:15"),
    # Samoa left out 30 December 2011: 29 December, 24:00 at UTC-10 is 31 December, 00:00 at UTC+14.
    ("Pacific/Apia", {"days": 1, "at": "09:00", "start": "2011-12-28"},
     "2011-12-28T19:00 2011-12-29T19:00 2011-12-30T10:00 2011-12-30T19:00"),
    ("Pacific/Apia", {"days": 1, "at": "09:00", "start": "2011-12-28", "gap": "skip"},
     "2011-12-28T19:00 2011-12-29T19:00 2011-12-30T19:00 2011-12-31T19:00"),
    # The first day itself may be the one that was lost.
    ("Pacific/Apia", {"months": 1, "at": "09:00", "start": "2011-12-30"},
     "2011-12-30T10:00 2012-01-29T19:00"),
    ("Asia/Shanghai", {"months": 1, "at": "09:00:30", "start": "2026-11-30"},
     "2026-11-30T01:00:30 2026-12-30T01:00:30"),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "fields", "wanted"), CLOCKS)
def test_it_keeps_to_the_clock_on_the_wall(zone: str, fields: dict[str, Any], wanted: str) -> None:
    spec, found = calendar_interval(zone=zone, **fields), instants(wanted)

    assert forward(spec, EARLIEST + MICROSECOND, found[-1] + MICROSECOND) == found
    assert backward(spec, EARLIEST, found[-1] + MICROSECOND) == found
    assert build(spec).count(EARLIEST, found[-1]) == len(found)
    agree(spec, found[0] - timedelta(1), found[-1] + timedelta(1))


def test_every_day_is_what_cron_says_it_is() -> None:
    start, end = at("2011-06-01"), at("2012-06-01")
    for zone in ("Pacific/Apia", "America/Sao_Paulo", "Africa/Casablanca", "Australia/Lord_Howe"):
        daily = calendar_interval(days=1, at="00:30", start="1990-01-01", zone=zone)
        assert forward(daily, start, end) == forward(cron("30 0 * * *", zone=zone), start, end)


def test_a_day_shows_what_comes_in_it() -> None:
    spec = calendar_interval(months=1, at="02:30", start="2026-01-31", zone="Europe/Paris")
    office = cron("* * * * MON-FRI", zone="Europe/Paris")

    assert forward(spec & office, at("2026-01-01"), at("2026-05-01")) == instants(
        "2026-03-31T00:30 2026-04-30T00:30"
    )


# --- far from today ----------------------------------------------------------------------------------


def test_the_years_beyond_every_table_are_counted_from_the_start_too() -> None:
    spec = calendar_interval(years=7, at="09:00", start="2026-03-30", zone="Europe/Paris")
    far = forward(spec, at("9900-01-01"), at("9999-12-31"))

    assert [each.year for each in far] == [year for year in range(9900, 10_000) if (year - 2026) % 7 == 0]
    assert build(spec).count(EARLIEST, LATEST) == len(range(2026, 10_000, 7))
    assert backward(spec, at("9900-01-01"), at("9999-12-31")) == far


def test_the_ends_of_time_are_answered() -> None:
    trigger = build(calendar_interval(months=1, at="23:59:59", start="0001-01-31", zone="Pacific/Kiritimati"))

    assert trigger.after(LATEST) is None
    assert trigger.before(EARLIEST) is None
    assert trigger.after(EARLIEST) == at("0001-02-01T10:29:19")
    assert trigger.before(LATEST) == at("9999-12-31T09:59:59")


def test_no_answer_takes_longer_because_the_start_is_long_ago() -> None:
    spec = calendar_interval(days=1, at="09:00", start="0001-01-01", zone="Asia/Shanghai")
    trigger, begin = build(spec), time.process_time()
    for k in range(1_000):
        trigger.after(at("9000-01-01") + timedelta(k))

    assert time.process_time() - begin < 2  # walking to the first of them would take as long


# --- declaring ---------------------------------------------------------------------------------------

CUT = at("2026-11-22T20:00")


def test_without_a_start_it_starts_on_the_local_date_of_its_declaration() -> None:
    declared = calendar_interval(months=1, at="09:00")
    fixed = anchored(with_zone(declared, "Asia/Shanghai"), CUT)

    assert fixed.fields["start"] == "2026-11-23"
    assert build(fixed).after(CUT) == at("2026-11-23T01:00")
    assert resolves(with_zone(declared, "Asia/Shanghai"), fixed)
    with pytest.raises(InvalidTrigger, match="relative to its declaration"):
        build(declared).after(CUT)


def test_only_what_says_something_is_written() -> None:
    assert calendar_interval(months=1).fields == {"months": 1}
    everything: dict[str, Any] = {
        "years": 1,
        "weeks": 2,
        "at": "09:00",
        "start": "2026-01-31",
        "month_end": "skip",
        "zone": "UTC",
        "gap": "skip",
        "fold": "both",
    }
    assert calendar_interval(**everything | {"start": date(2026, 1, 31)}).fields == everything


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "stand still"),
    ({"months": 0}, "stand still"),
    ({"months": -1}, "months=-1 would go back"),
    ({"months": 1, "days": -3}, "days=-3 would go back"),
    ({"years": 100, "months": 1}, "1,201 months"),
    ({"days": 36_526}, "36,526 days"),
    ({"months": 1.5}, "Expected `int`"),
    ({"months": 1, "at": "9:00"}, "two digits"),
    ({"months": 1, "at": "24:00"}, "'00:00' to '23:59'"),
    ({"months": 1, "at": "09:00\n"}, "is no time of day"),
    ({"months": 1, "start": "2026-02-30"}, "is no date"),
    ({"months": 1, "start": "20260131"}, "is no date"),
    ({"months": 1, "start": at("2026-01-31")}, "is an instant, and a calendar interval starts on a date"),
    ({"months": 1, "month_end": "first"}, "month_end"),
    ({"months": 1, "zone": "Europe/Pariss"}, "did you mean 'Europe/Paris'"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        calendar_interval(**fields)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
