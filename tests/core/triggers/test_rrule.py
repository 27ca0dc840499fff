"""Recurrence rules: as dateutil has them, as the standard has them, and as decided where the two differ."""

from __future__ import annotations

import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dateutil import rrule as theirs
from tests.core.triggers.reading import MICROSECOND, at, backward, forward, instants
from tests.core.triggers.rules import BoundedInfo, cases
from tests.core.triggers.test_matcher import agree

from onebeat.core.errors import InvalidTrigger, LimitExceeded
from onebeat.core.model import EPOCH, TriggerSpec
from onebeat.core.reconcile import resolves
from onebeat.core.triggers import anchored, build, cron, rrule, with_zone, words, zone
from onebeat.core.triggers.instants import EARLIEST, LATEST

SEED = 20261122
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]


# --- against dateutil --------------------------------------------------------------------------------


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs, "_iterinfo", BoundedInfo)


def compare(seed: int, number: int) -> None:
    print(f"seed {seed}")
    found = 0
    for case in cases(seed, number):
        ours = case.ours()
        assert ours == case.theirs(), case
        found += bool(ours)
        if ours:
            spec, end = case.spec(), ours[-1] + MICROSECOND
            assert backward(spec, EARLIEST, end) == ours, case
            assert [build(spec).count(EARLIEST, each) for each in ours[::7]] == list(
                range(1, len(ours) + 1, 7)
            ), case
    assert found > number // 2


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("part", range(6))
def test_random_rules_are_as_dateutil_has_them(part: int) -> None:
    compare(SEED + part, 50)


@pytest.mark.long
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("part", range(40))
def test_10_000_random_rules_are_as_dateutil_has_them(part: int) -> None:
    compare(SEED + 1000 + part, 250)


def agree_on_random_rules(seed: int, number: int) -> None:
    """The audit's matcher, going forward, going back, counting and days as bits: all the same, anywhere."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    for case in cases(seed, number):
        try:
            spec = rrule(case.rule, start=case.start, zone=rng.choice(ZONES))
        except InvalidTrigger:
            continue
        trigger: Any = build(spec)
        begin = case.start.replace(tzinfo=UTC)
        near = trigger.after(begin + timedelta(days=rng.choice([-2, -2, rng.randint(0, 3_000)])))
        start = (near or begin) - timedelta(hours=rng.randint(1, 20))
        end = start + timedelta(hours=40)
        agree(spec, start, end)
        assert backward(spec, start + MICROSECOND, end + MICROSECOND) == forward(
            spec, start + MICROSECOND, end + MICROSECOND
        )
        day = (start - EPOCH).days + 1
        midnight = EPOCH + timedelta(day) - MICROSECOND
        assert trigger.bits(day).bit_count() == trigger.count(midnight, midnight + timedelta(1))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_all_ways_to_ask_agree_with_the_matcher_of_the_audit(part: int) -> None:
    agree_on_random_rules(SEED + part, 25)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_all_ways_to_ask_agree_with_the_matcher_of_the_audit_on_2_000_rules(part: int) -> None:
    agree_on_random_rules(SEED + 100 + part, 100)


# --- the examples of the standard --------------------------------------------------------------------

# RFC 5545, section 3.8.5.3. Where its start is another, what comes from this one on is worked out by hand.
EXAMPLES = [
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", "09-02 09-12 09-22 10-02 10-12"),
    ("FREQ=WEEKLY;COUNT=10", "09-02 09-09 09-16 09-23 09-30 10-07 10-14 10-21 10-28 11-04"),
    ("FREQ=WEEKLY;COUNT=8;WKST=SU;BYDAY=TU,TH", "09-02 09-04 09-09 09-11 09-16 09-18 09-23 09-25"),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "09-02 09-04 09-16 09-18 09-30 10-02 10-14 10-16"),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15", "09-02 09-15 10-02 10-15 11-02 11-15 12-02 12-15 01-02 01-15"),
    ("FREQ=MONTHLY;COUNT=6;BYMONTHDAY=1,-1", "09-30 10-01 10-31 11-01 11-30 12-01"),
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "09-04 10-07 11-06"),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "09-29 10-30 11-27 12-30 01-29 02-26 03-30"),
    ("FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", "09-13 10-11 11-08 12-13 01-10 02-07 03-07"),
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "02-13 03-13 11-13 08-13 10-13"),
    ("FREQ=YEARLY;BYDAY=TH;BYMONTH=3", "03-05 03-12 03-19 03-26 03-04 03-11"),
    ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "11-04 11-06 11-08"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "wanted"), EXAMPLES)
def test_the_examples_of_the_standard_come_as_it_says(rule: str, wanted: str) -> None:
    trigger = build(rrule(f"DTSTART;TZID=America/New_York:19970902T090000\nRRULE:{rule}"))
    found, instant = list[str](), EARLIEST
    for _ in wanted.split():
        following = trigger.after(instant)
        assert following is not None
        instant = following
        found.append(f"{instant:%m-%d}")
        assert instant.astimezone(zone("America/New_York")).hour == 9

    assert " ".join(found) == wanted
    assert (trigger.after(instant) is None) == ("COUNT" in rule)


# --- decisions ---------------------------------------------------------------------------------------

START = "2026-11-22T09:00:00"  # a Sunday


def days(rule: str, number: int, start: str = START, **more: Any) -> str:
    trigger, found, instant = build(rrule(rule, start=start, **more)), list[str](), EARLIEST
    while len(found) < number and (following := trigger.after(instant)) is not None:
        found.append(f"{following:%m-%d}")
        instant = following
    return " ".join(found)


def test_the_start_is_an_occurrence_only_if_the_rule_says_so() -> None:
    assert days("FREQ=WEEKLY;BYDAY=MO;COUNT=2", 9) == "11-23 11-30"
    assert days("FREQ=WEEKLY;COUNT=2", 9) == "11-22 11-29"


def test_what_a_rule_does_not_say_is_taken_from_the_start() -> None:
    assert days("FREQ=YEARLY", 2) == "11-22 11-22"
    assert days("FREQ=YEARLY;BYMONTH=2,3", 3) == "02-22 03-22 02-22"
    assert days("FREQ=YEARLY;BYWEEKNO=20", 2) == "05-23 05-21"
    assert days("FREQ=MONTHLY;INTERVAL=2", 2) == "11-22 01-22"
    assert build(rrule("FREQ=DAILY;BYHOUR=7", start="2026-11-22T09:30:15", zone="UTC")).after(EARLIEST) == at(
        "2026-11-23T07:30:15"
    )


def test_weekdays_with_and_without_a_number_add_up() -> None:
    assert days("FREQ=MONTHLY;BYDAY=MO,1FR", 4) == "11-23 11-30 12-04 12-07"


def test_positions_count_in_the_whole_first_period() -> None:
    assert days("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=1", 2) == "11-23 11-30"
    assert days("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=2", 2) == "11-22 11-29"
    assert days("FREQ=MONTHLY;BYMONTHDAY=1,25;BYSETPOS=1", 2) == "12-01 01-01"


def test_the_weeks_of_every_other_week_begin_on_the_day_that_the_rule_says() -> None:
    # Of RFC 5545, where the same two days of the week come in the same week, and in two.
    rule, start = "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST={}", "1997-08-05T09:00:00"
    assert days(rule.format("MO"), 9, start=start) == "08-05 08-10 08-19 08-24"
    assert days(rule.format("SU"), 9, start=start) == "08-05 08-17 08-19 08-31"


def test_positions_count_in_a_week_that_goes_on_in_the_next_year() -> None:
    assert days("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=-1", 2, start="2026-12-28") == "01-03 01-10"
    assert days("FREQ=WEEKLY;BYDAY=MO,SU;BYSETPOS=1", 2, start="2026-12-28") == "12-28 01-04"


def test_a_time_that_is_added_and_taken_away_does_not_come() -> None:
    lines = "DTSTART:20261122T090000\nRRULE:FREQ=DAILY;COUNT=2\n{}:20261122T120000\n{}:20261122T120000"
    for pair in (("RDATE", "EXDATE"), ("EXDATE", "RDATE")):
        spec = rrule(lines.format(*pair), zone="UTC")

        assert forward(spec, EARLIEST + MICROSECOND, at("2026-11-30")) == instants(
            "2026-11-22T09:00 2026-11-23T09:00"
        )
        assert build(spec).count(EARLIEST, LATEST) == 2
        agree(spec, at("2026-11-20"), at("2026-11-30"))


def test_the_last_week_of_a_year_counts_from_its_end_too() -> None:
    assert days("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=MO", 3) == "12-28 12-27 12-25"
    assert days("FREQ=YEARLY;BYWEEKNO=-53;BYDAY=SU", 1, start="2025-01-01") == "01-04"


def test_a_date_as_until_is_there_to_its_end() -> None:
    assert days("FREQ=DAILY;UNTIL=20261124", 9, start="2026-11-22") == "11-22 11-23 11-24"
    assert days("FREQ=DAILY;BYHOUR=9;UNTIL=20261124", 9, start="2026-11-22") == "11-22 11-23 11-24"


def test_until_is_an_instant_with_z_and_a_local_time_without() -> None:
    for until, last in (
        ("T000000Z", "11-23"),
        ("T010000Z", "11-24"),
        ("T085959", "11-23"),
        ("T090000", "11-24"),
    ):
        assert days(f"FREQ=DAILY;UNTIL=20261124{until}", 9, zone="Asia/Shanghai")[-5:] == last


PARIS = {"zone": "Europe/Paris"}
CLOCKS: list[tuple[str, dict[str, Any], str]] = [
    # 29 March 2026: 02:00 CET is 03:00 CEST; 25 October 2026: 03:00 CEST is 02:00 CET.
    ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", {"start": "2026-03-28", **PARIS},
     "2026-03-28T01:30 2026-03-29T01:00 2026-03-30T00:30"),
    ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", {"start": "2026-03-28", **PARIS, "gap": "skip"},
     "2026-03-28T01:30 2026-03-30T00:30"),
    ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", {"start": "2026-10-25", **PARIS},
     "2026-10-25T00:30 2026-10-26T01:30"),
    ("FREQ=DAILY;BYHOUR=2;BYMINUTE=30", {"start": "2026-10-25", **PARIS, "fold": "second"},
     "2026-10-25T01:30 2026-10-26T01:30"),
    ("FREQ=HOURLY", {"start": "2026-03-29T01:00:00", **PARIS}, "2026-03-29T00:00 2026-03-29T01:00"),
    ("FREQ=HOURLY", {"start": "2026-10-25T02:00:00", **PARIS},
     "2026-10-25T00:00 2026-10-25T01:00 2026-10-25T02:00"),
    ("FREQ=MINUTELY;INTERVAL=20", {"start": "2026-10-03T01:30:00", "zone": "Australia/Lord_Howe"},
     "2026-10-02T15:00 2026-10-02T15:20"),
    ("FREQ=DAILY;BYHOUR=9", {"start": "2011-12-29", "zone": "Pacific/Apia"},
     "2011-12-29T19:00 2011-12-30T10:00 2011-12-30T19:00"),
    ("FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=15", {"start": "2026-09-27", "zone": "Australia/Sydney"},
     "2026-09-26T16:15 2026-10-03T16:00 2026-10-10T15:15"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "how", "wanted"), CLOCKS)
def test_it_keeps_to_the_clock_on_the_wall(rule: str, how: dict[str, Any], wanted: str) -> None:
    spec, found = rrule(rule, **how), instants(wanted)

    assert forward(spec, EARLIEST + MICROSECOND, found[-1] + MICROSECOND) == found
    agree(spec, found[0] - timedelta(1), found[-1] + timedelta(1))


def test_real_time_of_hours_is_what_cron_has() -> None:
    for name in ZONES:
        ours = rrule("FREQ=HOURLY;BYMINUTE=0,20,40;BYSECOND=0", start="2011-01-01", zone=name)
        for month in (at("2011-03-20"), at("2011-10-01"), at("2011-12-20")):
            assert forward(ours, month, month + timedelta(40)) == forward(
                cron("*/20 * * * *", zone=name), month, month + timedelta(40)
            )


# --- no walk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=SECONDLY;INTERVAL=7",
        "FREQ=MINUTELY;INTERVAL=11;BYHOUR=9",
        "FREQ=DAILY;INTERVAL=3;BYMONTH=1",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO;BYSETPOS=1",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO",
        "FREQ=SECONDLY;COUNT=1000000000",
    ],
)
def test_no_answer_takes_longer_because_the_start_is_long_ago(rule: str) -> None:
    spec, begin = rrule(rule, start="1990-01-01T00:00:00", zone="Europe/Paris"), time.process_time()
    trigger = build(spec)
    for k in range(100):
        following = trigger.after(at("2020-01-01") + timedelta(k))
        assert following is not None
        assert trigger.before(following + MICROSECOND) == following

    assert time.process_time() - begin < 3  # a walk takes minutes


def test_an_odd_interval_is_still_counted_from_the_start_in_the_year_9000() -> None:
    spec = rrule("FREQ=HOURLY;INTERVAL=7", start="2026-11-22T00:00:00", zone="UTC")
    found = forward(spec, at("9000-01-01"), at("9000-01-03"))

    assert found
    assert all((each - at("2026-11-22")) % timedelta(hours=7) == timedelta(0) for each in found)
    counted = build(spec).count(at("9000-01-01"), at("9001-01-01"))
    assert counted == sum(
        (at("9000-01-01") - at("2026-11-22")) // timedelta(hours=1) % 7 == (7 - k) % 7
        for k in range(1, 365 * 24 + 1)
    )


def test_the_ends_of_time_are_answered() -> None:
    for text in (
        "FREQ=DAILY",
        "FREQ=MINUTELY;INTERVAL=7",
        "FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=-1",
        "FREQ=YEARLY",
    ):
        trigger = build(rrule(text, start="0001-01-01T00:00:00", zone="Pacific/Kiritimati"))
        assert trigger.after(LATEST) is None
        assert trigger.before(EARLIEST) is None
        first, last = trigger.after(EARLIEST), trigger.before(LATEST)
        assert first is not None
        assert last is not None
        assert last.year >= 9998
        assert trigger.count(LATEST - timedelta(1), LATEST) == len(
            forward(
                rrule(text, start="0001-01-01T00:00:00", zone="Pacific/Kiritimati"),
                LATEST - timedelta(1),
                LATEST,
            )
        )


# --- blocks ------------------------------------------------------------------------------------------

BLOCK = """
DTSTART;TZID=Europe/Paris:20261122T090000\r
rrule:freq=daily;count=1\r
 0;byhour=9\r
RDATE;TZID=Europe/Paris:20261122T120000,20261125T120000\r
EXDATE:20261123T080000Z\r
EXDATE;TZID="Europe/Paris":20261124T090000\r
"""


def test_the_lines_of_a_calendar_file_are_read() -> None:
    spec = rrule(BLOCK)

    assert spec.fields == {
        "rule": "FREQ=DAILY;COUNT=10;BYHOUR=9",
        "start": "2026-11-22T09:00:00",
        "zone": "Europe/Paris",
        "rdates": ["2026-11-22T12:00:00", "2026-11-25T12:00:00"],
        "exdates": ["2026-11-23T08:00:00Z", "2026-11-24T09:00:00"],
    }
    wanted = instants("2026-11-22T08:00 2026-11-22T11:00 2026-11-25T08:00 2026-11-25T11:00 2026-11-26T08:00")
    assert forward(spec, EARLIEST + MICROSECOND, at("2026-11-27")) == wanted
    assert backward(spec, EARLIEST, at("2026-11-27")) == wanted
    assert build(spec).count(EARLIEST, LATEST) == 10
    agree(spec, at("2026-11-20"), at("2026-12-10"))


def test_a_start_of_utc_is_a_rule_of_utc() -> None:
    assert rrule("DTSTART:20261122T090000Z\nRRULE:FREQ=DAILY").fields == {
        "rule": "FREQ=DAILY",
        "start": START,
        "zone": "UTC",
    }


def test_a_start_with_a_zone_is_an_instant_shown_on_the_clock_of_the_rule() -> None:
    spec = rrule("FREQ=DAILY", start=at("2026-11-22T09:00"), zone="Asia/Shanghai")

    assert spec.fields["start"] == "2026-11-22T09:00:00Z"
    assert build(spec).after(EARLIEST) == at("2026-11-22T09:00")
    assert rrule("FREQ=DAILY", start=datetime(2026, 11, 22, 9)).fields["start"] == START
    assert rrule("FREQ=DAILY", start=date(2026, 11, 22)).fields["start"] == "2026-11-22"


def test_without_a_start_it_starts_when_it_is_declared() -> None:
    declared, cut = rrule("FREQ=DAILY"), at("2026-11-22T20:00:00.5")
    fixed = anchored(with_zone(declared, "Asia/Shanghai"), cut)

    assert fixed.fields["start"] == "2026-11-23T04:00:00"
    assert build(fixed).after(cut) == at("2026-11-23T20:00")
    assert resolves(with_zone(declared, "Asia/Shanghai"), fixed)
    with pytest.raises(InvalidTrigger, match="relative to its declaration"):
        build(declared).before(cut)


# --- words -------------------------------------------------------------------------------------------

SAID: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9",
        {"start": "2026-11-22", "zone": "Europe/Paris"},
        "every month, on the last Friday, at 09:00, from 2026-11-22 on, Europe/Paris",
        "每月,最后一个周五,09:00,从2026-11-22起(Europe/Paris)",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=WE,MO;COUNT=5",
        {"start": START, "gap": "skip"},
        "every 2 weeks, on Monday and Wednesday, at 09:00, from 2026-11-22T09:00:00 on, 5 times, UTC, "
        "not in a gap of the clock",
        "每2周,周一、周三,09:00,从2026-11-22T09:00:00起,共5次(UTC),时钟跳过时不执行",
    ),
    (
        "FREQ=YEARLY;BYMONTH=1,3;BYMONTHDAY=1,-1;BYSETPOS=-2;UNTIL=20301231T000000Z",
        {},
        "every year, in January and March, on the 1st and the last day of the month, of these the 2nd last, "
        "until 2030-12-31T00:00:00Z, UTC",
        "每年,1月、3月,1日、最后一天,取其中倒数第2个,到2030-12-31T00:00:00Z为止(UTC)",
    ),
    (
        "FREQ=YEARLY;BYWEEKNO=20,-1;WKST=SU",
        {},
        "every year, in the 20th and the last week of the year, weeks beginning on Sunday, UTC",
        "每年,第20周、最后一周,每周从周日开始(UTC)",
    ),
    (
        "FREQ=MINUTELY;INTERVAL=7;BYHOUR=9,10;BYYEARDAY=100",
        {},
        "every 7 minutes, on the 100th day of the year, at hour 9 and 10, UTC",
        "每7分钟,一年的第100天,第9、10时(UTC)",
    ),
    (
        "DTSTART:20261122T090000Z\nRRULE:FREQ=DAILY\nEXDATE:20261123T090000Z",
        {},
        "every day, at 09:00, from 2026-11-22T09:00:00 on, 1 time left out, UTC",
        "每天,09:00,从2026-11-22T09:00:00起,除去1个时间(UTC)",
    ),
]


@pytest.mark.parametrize(("rule", "how", "english", "chinese"), SAID)
def test_a_rule_says_itself_in_both_languages(
    rule: str, how: dict[str, Any], english: str, chinese: str
) -> None:
    assert words(rrule(rule, **how)) == english
    assert words(rrule(rule, **how), "zh") == chinese


# --- refusals ----------------------------------------------------------------------------------------

REFUSED = [
    ("FREQ=DALY", "did you mean 'DAILY'"),
    ("INTERVAL=2", "has no FREQ"),
    ("FREQ=DAILY;BYDAYS=MO", "did you mean 'BYDAY'"),
    ("FREQ=DAILY;", None),
    ("FREQ=DAILY;;", "NAME=VALUE"),
    ("FREQ=DAILY;BYHOUR=", "NAME=VALUE"),
    ("FREQ=DAILY;BYHOUR=1;BYHOUR=2", "BYHOUR twice"),
    ("FREQ=DAILY;BYHOUR=24", "midnight is hour 0"),
    ("FREQ=DAILY;BYSECOND=60", "leap second"),
    ("FREQ=DAILY;BYMONTHDAY=0", "1 to 31, or -1 to -31"),
    ("FREQ=DAILY;BYMONTH=-1", "write 1 to 12"),
    ("FREQ=DAILY;BYDAY=MON", "has 'MON' in BYDAY"),
    ("FREQ=DAILY;BYDAY=1MO", "numbers a weekday in a DAILY rule"),
    ("FREQ=MONTHLY;BYDAY=0MO", "has '0MO' in BYDAY"),
    ("FREQ=DAILY;INTERVAL=0", "from 1 to 36,525"),
    ("FREQ=YEARLY;INTERVAL=101", "from 1 to 100"),
    ("FREQ=DAILY;COUNT=1000000001", "from 1 to 1,000,000,000"),
    ("FREQ=DAILY;COUNT=0", "from 1 to 1,000,000,000"),
    ("FREQ=DAILY;COUNT=2;UNTIL=20270101T000000Z", "both COUNT and UNTIL"),
    ("FREQ=DAILY;UNTIL=20270101", "write UNTIL=20270101T235959"),
    ("FREQ=DAILY;UNTIL=20270230T000000Z", "is no time: day is out of range"),
    ("FREQ=DAILY;UNTIL=tomorrow", "is no time; write 20261122T090000"),
    ("FREQ=DAILY;UNTIL=20260101T000000Z", "never comes"),
    ("FREQ=DAILY;WKST=XX", "has WKST='XX'"),
    ("FREQ=MONTHLY;BYWEEKNO=3", "FREQ=YEARLY"),
    ("FREQ=MONTHLY;BYYEARDAY=3", "FREQ=YEARLY"),
    ("FREQ=WEEKLY;BYMONTHDAY=3", "FREQ=MONTHLY"),
    ("FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO", "a week has each weekday once"),
    ("FREQ=DAILY;BYSETPOS=1", "nothing that it could choose from"),
    ("FREQ=MONTHLY;BYMONTHDAY=30;BYMONTH=2", "never comes"),
    ("FREQ=HOURLY;INTERVAL=2;BYHOUR=8", "never comes"),
    ("FREQ=HOURLY;INTERVAL=168;BYDAY=MO", "never comes"),
    ("FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=3", "never comes"),
    ("FREQ=DAILY;BYHOUR=1;BYSETPOS=2", "never comes"),
    ("RRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY", "join them with '|'"),
    ("RRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "subtract another trigger"),
    ("BEGIN:VEVENT\nRRULE:FREQ=DAILY", "keep the lines DTSTART"),
    ("DTSTART:20261122T090000", "has no RRULE line"),
    ("RRULE:FREQ=DAILY\nEXDATE:20261122T090000", "no DTSTART"),
    ("DTSTART:20261122T090000\nRRULE:FREQ=DAILY", "give one of them"),
    ("", "has no RRULE line"),
    ("RRULE:", "NAME=VALUE"),
    (5, "is no text"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_cannot_be_meant_is_refused(text: Any, said: str | None) -> None:
    if said is None:
        assert rrule(text, start=START).fields["rule"] == "FREQ=DAILY"
        return
    with pytest.raises(InvalidTrigger) as caught:
        rrule(text, start=START)

    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


BLOCKS_REFUSED = [
    ("DTSTART:20261122T090000\nDTSTART:20261122T090000\nRRULE:FREQ=DAILY", "two DTSTART lines"),
    ("DTSTART;TZID=Europe/Pari:20261122T090000\nRRULE:FREQ=DAILY", "did you mean 'Europe/Paris'"),
    ("DTSTART;TZID=UTC:20261122T090000Z\nRRULE:FREQ=DAILY", "take the Z or the TZID away"),
    ("DTSTART;VALUE=PERIOD:20261122T090000\nRRULE:FREQ=DAILY", "is no PERIOD"),
    ("DTSTART;TZD=UTC:20261122T090000\nRRULE:FREQ=DAILY", "has the parameter 'TZD'"),
    ("DTSTART:20261122T090000\nRRULE:FREQ=DAILY\nEXDATE;VALUE=DATE:20261123", "both as a date"),
    ("DTSTART:20261122T090000\nRRULE:FREQ=DAILY\nRDATE;TZID=Asia/Tokyo:20261123T090000", "zone of DTSTART"),
    ("DTSTART;TZID=Europe/Paris:20261022T090000\nRRULE:FREQ=DAILY\nRDATE:20261025T013000Z", "shows twice"),
]


@pytest.mark.parametrize(("text", "said"), BLOCKS_REFUSED)
def test_a_block_that_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        rrule(text)

    assert said in str(caught.value)


def test_a_zone_beside_another_zone_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="beside a DTSTART in UTC"):
        rrule("DTSTART:20261122T090000Z\nRRULE:FREQ=DAILY", zone="Asia/Tokyo")
    with pytest.raises(InvalidTrigger, match="fraction of a second"):
        rrule("FREQ=DAILY", start=at("2026-11-22T09:00:00.5"))


def test_an_endless_rule_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="2,000"):
        rrule("FREQ=DAILY;BYMONTH=" + ",".join(["1"] * 2_000), start=START)


def test_a_rule_that_is_ended_says_so_at_once() -> None:
    spec = rrule("FREQ=WEEKLY;BYDAY=MO,TU;BYSETPOS=2;UNTIL=20270101T000000Z", start=START)
    begin = time.process_time()
    for _ in range(1_000):
        assert build(spec).after(at("2027-01-01")) is None

    assert time.process_time() - begin < 1


def combined() -> TriggerSpec:
    return rrule("FREQ=WEEKLY;BYDAY=MO,WE;BYHOUR=9,17", start="2026-11-22", zone="Europe/Paris")


def test_it_can_be_combined() -> None:
    office = cron("* 8-12 * * MON-FRI", zone="Europe/Paris")

    assert forward(combined() & office, at("2026-11-22"), at("2026-12-01")) == instants(
        "2026-11-23T08:00 2026-11-25T08:00 2026-11-30T08:00"
    )
    assert build(combined() - office).count(at("2026-11-22"), at("2026-12-01")) == 3
