"""Triggers written as recurrence rules say the same when they are read again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.core.triggers.reading import MICROSECOND, at, forward

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import build, calendar_interval, cron, interval, on_request, once, rrule, to_rrule

EXACT: list[tuple[TriggerSpec, str]] = [
    (
        cron("0 9 * * MON-FRI", zone="Europe/Paris"),
        "DTSTART;TZID=Europe/Paris:19700101T090000\n"
        "RRULE:FREQ=DAILY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
    ),
    (cron("*/30 * * * *"), "DTSTART:19700101T000000\nRRULE:FREQ=HOURLY;BYMINUTE=0,30;BYSECOND=0"),
    (
        cron("0 9 L,15 1 *"),
        "DTSTART:19700115T090000\nRRULE:FREQ=DAILY;BYMONTH=1;BYMONTHDAY=15,-1;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
    ),
    (
        cron("0 9 * * FRI#2,MONL,WED", zone="America/New_York"),
        "DTSTART;TZID=America/New_York:19700107T090000\n"
        "RRULE:FREQ=MONTHLY;BYDAY=WE,-1MO,2FR;BYHOUR=9;BYMINUTE=0;BYSECOND=0",
    ),
    (
        cron("0 2 13 * FRI", days="all", zone="UTC"),
        "DTSTART:19700213T020000Z\n"
        "RRULE:FREQ=DAILY;BYMONTHDAY=13;BYDAY=FR;BYHOUR=2;BYMINUTE=0;BYSECOND=0",
    ),
    (
        calendar_interval(months=1, at="09:00", start="2026-01-31"),
        "DTSTART:20260131T090000\nRRULE:FREQ=MONTHLY;INTERVAL=1;BYMONTHDAY=28,29,30,31;BYSETPOS=-1",
    ),
    (
        calendar_interval(months=1, start="2026-01-31", month_end="skip"),
        "DTSTART:20260131T000000\nRRULE:FREQ=MONTHLY;INTERVAL=1",
    ),
    (
        calendar_interval(years=1, start="2024-02-29", zone="UTC"),
        "DTSTART:20240229T000000Z\nRRULE:FREQ=YEARLY;INTERVAL=1;BYMONTH=2;BYMONTHDAY=28,29;BYSETPOS=-1",
    ),
    (
        calendar_interval(weeks=2, at="02:30:15", start="2026-03-29", zone="Europe/Paris"),
        "DTSTART;TZID=Europe/Paris:20260329T023015\nRRULE:FREQ=WEEKLY;INTERVAL=2",
    ),
    (calendar_interval(days=10, start="2026-03-29"), "DTSTART:20260329T000000\nRRULE:FREQ=DAILY;INTERVAL=10"),
    (
        interval(minutes=90, anchor=at("2026-01-01")),
        "DTSTART:20260101T000000Z\nRRULE:FREQ=MINUTELY;INTERVAL=90",
    ),
    (interval(days=1, anchor=at("2026-01-01")), "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;INTERVAL=1"),
    (once(at("2026-01-01T09:00")), "DTSTART:20260101T090000Z\nRRULE:FREQ=DAILY;COUNT=1"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "text"), EXACT)
def test_what_maps_exactly_says_the_same_when_it_is_read_again(spec: TriggerSpec, text: str) -> None:
    assert to_rrule(spec) == text

    again = rrule(text)
    for start in (at("2025-12-30"), at("2026-03-20"), at("2026-10-20"), at("2028-02-10")):
        end = start + timedelta(60)
        assert forward(again, start, end) == forward(spec, start, end)
    assert build(again).count(at("2024-01-01"), at("2031-01-01")) == build(spec).count(
        at("2024-01-01"), at("2031-01-01")
    )


BLOCKS = [
    "DTSTART;TZID=Europe/Paris:20261122T090000\nRRULE:FREQ=DAILY;COUNT=10\n"
    "RDATE;TZID=Europe/Paris:20261125T100000\nEXDATE;TZID=Europe/Paris:20261123T090000\n"
    "EXDATE;TZID=Europe/Paris:20261124T090000",
    "DTSTART:20261122T090000Z\nRRULE:FREQ=MONTHLY;BYDAY=-1FR\nEXDATE:20261225T090000Z",
    "DTSTART;VALUE=DATE:20261122\nRRULE:FREQ=DAILY;UNTIL=20261124\nEXDATE;VALUE=DATE:20261123",
    "DTSTART:20261122T090000\nRRULE:FREQ=WEEKLY;BYDAY=MO,WE;WKST=SU;INTERVAL=2",
]


@pytest.mark.parametrize("text", BLOCKS)
def test_a_block_comes_back_as_it_was(text: str) -> None:
    assert to_rrule(rrule(text)) == text


def test_a_date_in_a_zone_becomes_its_midnight() -> None:
    spec = rrule("FREQ=DAILY;UNTIL=20261124", start="2026-11-22", zone="Asia/Tokyo")
    text = to_rrule(spec)

    assert text == "DTSTART;TZID=Asia/Tokyo:20261122T000000\nRRULE:FREQ=DAILY;UNTIL=20261124T235959"
    everything = at("2026-01-01"), at("2027-01-01")
    assert forward(rrule(text), *everything) == forward(spec, *everything)


def test_an_instant_as_start_becomes_its_local_time() -> None:
    spec = rrule("FREQ=DAILY", start=at("2026-11-22T09:00"), zone="Asia/Tokyo")

    assert to_rrule(spec).startswith("DTSTART;TZID=Asia/Tokyo:20261122T180000\n")


REFUSED: list[tuple[TriggerSpec, str]] = [
    (cron("0 9 15W * *"), "nearest workday"),
    (cron("H 9 * * *"), "waits for the name"),
    (cron("0 9 1 * MON"), "two day fields add up"),
    (cron("* 9 * * MON#1"), "numbers weekdays and follows real time"),
    (cron("0 9 * * *", gap="skip"), "with gap='skip'"),
    (rrule("FREQ=DAILY", start="2026-01-01", fold="both"), "with fold='both'"),
    (rrule("FREQ=DAILY"), "without a start"),
    (calendar_interval(months=1), "without a start"),
    (calendar_interval(months=1, days=1, start="2026-01-01"), "mixes months with days"),
    (interval(minutes=1), "without an anchor"),
    (interval(seconds=1.5, anchor=at("2026-01-01")), "fractions of a second"),
    (once(in_=timedelta(1)), "waits for its declaration"),
    (once(at("2026-01-01") + MICROSECOND), "fractions of a second"),
    (cron("0 9 * * *") | cron("0 10 * * *"), "of kind union"),
    (on_request(), "of kind"),
]


@pytest.mark.parametrize(("spec", "words"), REFUSED)
def test_what_no_rule_says_is_refused(spec: TriggerSpec, words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        to_rrule(spec)

    assert words in str(caught.value)
