"""Public holidays, workdays and dates of one's own, as triggers that hold every microsecond of a day."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from importlib import metadata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.triggers.reading import MICROSECOND, at, backward, forward
from tests.core.triggers.test_matcher import agree

from onebeat.core import publicdays
from onebeat.core.errors import InvalidTrigger, LimitExceeded, MissingExtra
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import (
    anchored,
    build,
    calendar_ends,
    calendars,
    cron,
    dates,
    holidays,
    interval,
    tz_version,
    with_zone,
    words,
    workdays,
)

SHANGHAI = "Asia/Shanghai"
NINE = cron("0 9 * * *", zone=SHANGHAI)

# The notices of the General Office of the State Council, of 25 October 2023, 12 November 2024 and 4 November
# 2025: first and last day of each stretch of free days, then the weekends that are worked.
NOTICES = {
    2024: (
        "01-01 01-01  02-10 02-17  04-04 04-06  05-01 05-05  06-10 06-10  09-15 09-17  10-01 10-07",
        "02-04 02-18 04-07 04-28 05-11 09-14 09-29 10-12",
    ),
    2025: (
        "01-01 01-01  01-28 02-04  04-04 04-06  05-01 05-05  05-31 06-02  10-01 10-08",
        "01-26 02-08 04-27 09-28 10-11",
    ),
    2026: (
        "01-01 01-03  02-15 02-23  04-04 04-06  05-01 05-05  06-19 06-21  09-25 09-27  10-01 10-07",
        "01-04 02-14 02-28 05-09 09-20 10-10",
    ),
}


def local_dates(spec: TriggerSpec, year: int) -> list[date]:
    """The dates of a year, in China, on which a trigger of one time a day comes."""
    found = forward(spec, at(f"{year - 1}-12-31"), at(f"{year + 1}-01-02"))
    eight = timedelta(hours=8)
    return [day for each in found if (day := (each + eight).date()).year == year]


@pytest.mark.parametrize("year", NOTICES)
def test_the_workdays_of_china_are_those_of_the_published_notice(year: int) -> None:
    free, worked = (text.split() for text in NOTICES[year])
    spans = [
        (date.fromisoformat(f"{year}-{a}"), date.fromisoformat(f"{year}-{b}"))
        for a, b in zip(free[::2], free[1::2], strict=True)
    ]
    made_up = {date.fromisoformat(f"{year}-{day}") for day in worked}
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(366)]

    expected = [
        day
        for day in days
        if day.year == year
        and (day in made_up or (day.weekday() < 5 and not any(a <= day <= b for a, b in spans)))
    ]
    assert local_dates(NINE & workdays("CN", zone=SHANGHAI), year) == expected
    assert local_dates(NINE - workdays("CN", zone=SHANGHAI), year) == [
        day for day in days if day.year == year and day not in expected
    ]


def test_beyond_the_announced_years_workdays_follow_the_law_alone() -> None:
    spec = NINE & workdays("CN", zone=SHANGHAI)
    last = publicdays.announced_until("CN")
    assert last is not None
    found = local_dates(spec, last.year + 3)

    assert 240 < len(found) < 262  # nothing stops
    assert all(day.weekday() < 5 for day in found)
    assert date(last.year + 3, 10, 1) not in found
    assert len(local_dates(spec, publicdays.LAST_YEAR + 1)) == 261  # Monday to Friday, for ever


def test_the_end_of_a_calendar_is_found_through_combinations() -> None:
    china = publicdays.announced_until("CN")
    assert china is not None
    assert china >= date(2026, 12, 31)

    assert calendar_ends(NINE & workdays("CN")) == china
    assert calendar_ends((NINE - holidays("CN")).between(at("2026-01-01")) | interval(hours=1)) == china
    assert calendar_ends((NINE & workdays("CN")) - holidays("DE")) == china
    assert calendar_ends(NINE - holidays("DE")) is None
    assert calendar_ends(NINE & workdays(less=["2026-12-24"])) is None


def test_holidays_of_a_subdivision_are_its_own() -> None:
    nine = cron("0 9 * * *", zone="Europe/Berlin")
    epiphany = at("2026-01-06T08:00")  # Bavaria has it, Berlin has not
    of_land = {
        land: build(nine - holidays("DE", subdivision=land, zone="Europe/Berlin")) for land in ("BY", "BE")
    }

    assert of_land["BY"].after(epiphany - MICROSECOND) == at("2026-01-07T08:00")
    assert of_land["BE"].after(epiphany - MICROSECOND) == epiphany


def test_a_working_week_is_that_of_its_country() -> None:
    found = forward(cron("0 9 * * *") & workdays("SA"), at("2026-11-01"), at("2026-11-08"))

    assert [each.strftime("%a") for each in found] == ["Sun", "Mon", "Tue", "Wed", "Thu"]


def test_a_company_has_days_of_its_own() -> None:
    spec = workdays("CN", zone=SHANGHAI, also=["2026-10-03"], less=[date(2026, 10, 9), "2026-10-10"])
    found = forward(NINE & spec, at("2026-09-30"), at("2026-10-13"))

    assert [each.day for each in found] == [30, 3, 8, 12]
    alone = forward(cron("0 9 * * *") & workdays(less=["2026-11-24"], also=["2026-11-28"]), at("2026-11-22"),
                    at("2026-11-30"))  # fmt: skip
    assert [each.day for each in alone] == [23, 25, 26, 27, 28]


@pytest.mark.parametrize("spec", [
    dates("2026-03-29", "2026-03-30", zone="Europe/Berlin"),
    dates("2026-10-25", zone="Europe/Berlin"),
    dates("2018-11-04", zone="America/Sao_Paulo"),
    dates("2011-12-29", "2011-12-30", "2011-12-31", zone="Pacific/Apia"),
])  # fmt: skip
def test_a_day_is_as_long_as_the_clock_on_the_wall_shows_it(spec: TriggerSpec) -> None:
    trigger = build(spec)
    days = [date.fromisoformat(day) for day in spec.fields["dates"]]
    begin = datetime.fromisoformat(f"{days[0] - timedelta(days=2)}T00:00+00:00")
    seconds = forward(cron("* * * * * *", zone=spec.fields["zone"]) & spec, begin, begin + timedelta(days=6))

    hours = {"Europe/Berlin": len(days) * 24 + (-1 if len(days) == 2 else 1), "America/Sao_Paulo": 23,
             "Pacific/Apia": 48}  # fmt: skip
    assert len(seconds) == hours[spec.fields["zone"]] * 3600
    assert trigger.count(begin, begin + timedelta(days=6)) == len(seconds) * 1_000_000
    assert trigger.after(begin) == seconds[0]
    assert trigger.before(begin + timedelta(days=6)) == seconds[-1] + timedelta(seconds=1) - MICROSECOND
    assert trigger.after(seconds[0]) == seconds[0] + MICROSECOND
    assert trigger.before(seconds[0]) is None
    assert trigger.after(seconds[-1] + timedelta(seconds=1) - MICROSECOND) is None


CALENDARS = st.sampled_from([
    holidays("DE", subdivision="BY", zone="Europe/Berlin"),
    holidays("US", zone="America/New_York"),
    workdays("CN", zone=SHANGHAI),
    workdays(zone="Pacific/Apia", also=["2011-12-31"], less=["2012-01-03"]),
    dates("2026-03-29", "2026-10-25", zone="Europe/London"),
])  # fmt: skip
MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1)).map(lambda t: at(t.isoformat()))


@given(CALENDARS, MOMENTS, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_after_before_and_count_agree(spec: TriggerSpec, start: datetime, length: timedelta) -> None:
    trigger = build(spec)
    following, end = trigger.after(start), start + length

    if following is not None:
        assert trigger.count(start, following) == 1
        assert trigger.before(following + MICROSECOND) == following
        previous = trigger.before(following)
        assert previous is None or previous <= start
    assert trigger.count(start, end) == trigger.count(start, start + length / 3) + trigger.count(
        start + length / 3, end
    )
    held = [trigger.after(at - MICROSECOND) == at for at in (start, end)]
    assert held == [bool(trigger.count(at - MICROSECOND, at)) for at in (start, end)]


@pytest.mark.slow
@settings(max_examples=40)
@given(CALENDARS, CALENDARS, MOMENTS)
def test_the_matcher_agrees_on_calendars(one: TriggerSpec, other: TriggerSpec, start: datetime) -> None:
    hourly = cron("0 */3 * * *", zone="Europe/Berlin")
    end = start + timedelta(days=5)

    agree(hourly & one, start, end)
    agree((hourly | interval(hours=7, anchor=start)) - (one | other), start, end)
    agree(hourly & (one - other.between(start + timedelta(days=1), start + timedelta(days=2))), start, end)
    agree(hourly - (one | cron("0 6 * * *")), start, end)


def test_the_matcher_agrees_over_a_year_of_made_up_workdays() -> None:
    agree(NINE & workdays("CN", zone=SHANGHAI), at("2025-12-31"), at("2026-12-31"))
    assert backward(NINE & workdays("CN", zone=SHANGHAI), at("2026-01-01"), at("2027-01-01")) == forward(
        NINE & workdays("CN", zone=SHANGHAI), at("2026-01-01"), at("2027-01-01")
    )


def test_a_calendar_alone_cannot_be_declared() -> None:
    for spec in (holidays("DE"), workdays() | cron("0 9 * * *"), dates("2026-12-24") - cron("0 9 * * *")):
        with pytest.raises(InvalidTrigger, match="holds every microsecond"):
            anchored(spec, at("2026-11-22"))
    assert anchored(NINE - holidays("DE"), at("2026-11-22"))


def test_a_calendar_lives_in_the_zone_of_its_app() -> None:
    assert with_zone(cron("0 9 * * *") & workdays(), SHANGHAI) == NINE & workdays(zone=SHANGHAI)
    assert tz_version()
    assert build(workdays(zone=SHANGHAI)).zoned


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: holidays("Germany"), r"'Germany' is no country.*ISO 3166"),
        (lambda: holidays("cn"), r"did you mean 'CN'"),
        (lambda: holidays("DE", subdivision="BV"), r"'BV' is no subdivision of DE.*BY"),
        (lambda: holidays("SG", subdivision="X"), r"SG has none that differ"),
        (lambda: workdays(subdivision="BY"), r"belongs to no country"),
        (lambda: workdays("CN", also=["2026-13-01"]), r"'2026-13-01' is no date; write"),
        (lambda: dates("20261224"), r"'20261224' is no date"),
        (lambda: dates("1926-12-24"), r"outside of the years 1970 to 2199"),
        (dates, r"no dates at all"),
        (lambda: workdays(also=["2026-12-24"], less=["2026-12-24"]), r"2026-12-24 is in also= and in less="),
        (lambda: holidays("DE", zone="Berlin"), r"'Europe/Berlin'|is no zone"),
        (lambda: build(TriggerSpec(kind="holidays", fields={"land": "DE"})), r"has no field 'land'"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_says_what_to_write(wrong: Any, says: str) -> None:
    with pytest.raises(InvalidTrigger, match=says):
        wrong()


def test_a_calendar_of_too_many_dates_is_refused() -> None:
    first = date(2026, 1, 1)
    with pytest.raises(LimitExceeded, match="at most 1,000"):
        dates(*(first + timedelta(days=n) for n in range(1_001)))


def test_a_year_is_asked_of_the_library_once_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def spied(country: str, subdivision: str | None, year: int) -> publicdays.PublicDays:
        asked.append(year)
        return publicdays.public_days(country, subdivision, year)

    monkeypatch.setattr(calendars, "public_days", spied)
    trigger = build(
        cron("0 9 * * *", zone="Asia/Tokyo") & workdays("JP", zone="Asia/Tokyo", less=["2031-01-06"])
    )

    assert asked == []
    trigger.after(at("2026-06-01"))
    assert asked == [2026]


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(MissingExtra, match=r"onebeat\[calendars\]"):
        build(TriggerSpec(kind="holidays", fields={"country": "FR", "zone": "Europe/Paris"}))
    assert dates("2026-12-24")  # needs none

    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert publicdays.calendar_version() is None


@pytest.mark.parametrize(
    ("spec", "english", "chinese"),
    [
        (holidays("DE", subdivision="BY"), "public holidays of DE-BY, UTC", "DE-BY的法定节假日(UTC)"),
        (
            NINE & workdays("CN", zone=SHANGHAI),
            "at 09:00, every day, Asia/Shanghai; only in: workdays of CN, Asia/Shanghai",
            "每天 09:00(Asia/Shanghai);仅限:CN的工作日(Asia/Shanghai)",
        ),
        (
            workdays(also=["2026-11-28"], less=["2026-11-24", "2026-11-25"]),
            "Monday to Friday and 2026-11-28 less 2026-11-24 and 2026-11-25, UTC",
            "周一至周五,另加2026-11-28,减去2026-11-24、2026-11-25(UTC)",
        ),
        (dates("2026-12-24", zone=SHANGHAI), "2026-12-24, Asia/Shanghai", "2026-12-24(Asia/Shanghai)"),
        (
            dates(*(f"2026-12-0{n}" for n in range(1, 6))),
            "5 dates from 2026-12-01 to 2026-12-05, UTC",
            "2026-12-01至2026-12-05之间的5个日期(UTC)",
        ),
    ],
)
def test_a_calendar_says_itself_in_both_languages(spec: TriggerSpec, english: str, chinese: str) -> None:
    assert words(spec) == english
    assert words(spec, "zh") == chinese
