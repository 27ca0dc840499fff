"""The sun, against published tables, where it does not rise, and to the bit."""

from __future__ import annotations

import ast
import inspect
import math
import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.core.triggers.reading import MICROSECOND, at, backward, forward

from onebeat.core.errors import InvalidTrigger
from onebeat.core.matcher import matches
from onebeat.core.model import EPOCH
from onebeat.core.triggers import build, cron, solar, sun
from onebeat.core.triggers.instants import EARLIEST, LATEST
from onebeat.core.triggers.solar import _ALTITUDES

MINUTE = timedelta(minutes=1)
EVENTS: Any = tuple(_ALTITUDES)

# U. S. Naval Observatory, Astronomical Applications Department: "Rise and Set for the Sun", Universal Time.
# Sunrise and sunset on the 21st of each month.
TABLES = {
    "2019, 60 N, 0 E": (60.0, 0.0, 2019,
        "0838 1545 0722 1706 0600 1816 0427 1932 0310 2045 0236 2128 "
        "0315 2056 0428 1937 0541 1804 0653 1635 0812 1519 0902 1454"),
    "2019, 29 N, 81 W": (29.0, -81.0, 2019,
        "1217 2253 1157 2318 1127 2336 1052 2354 1029 0011 1026 0026 "
        "1039 0023 1056 2358 1112 2322 1129 2248 1152 2227 1213 2231"),
    "2019, 60 S, 150 W": (-60.0, -150.0, 2019,
        "1327 0656 1451 0537 1603 0413 1717 0242 1826 0128 1906 0058 "
        "1838 0134 1723 0242 1551 0354 1421 0507 1301 0630 1232 0724"),
    "2026, Honolulu": (21.32, -157.92, 2026,
        "1711 0414 1658 0432 1635 0443 1608 0453 1551 0505 1551 0516 "
        "1601 0515 1612 0458 1620 0430 1630 0403 1646 0349 1705 0355"),
    "2026, Sydney": (-33.95, 151.18, 2026,
        "1906 0907 1936 0842 2000 0806 2023 0726 2045 0659 2101 0654 "
        "2055 0708 2027 0730 1945 0751 1906 0813 1840 0842 1841 0906"),
    "2026, Keflavik": (63.99, -22.62, 2026,
        "1041 1644 0905 1824 0728 1949 0539 2122 0359 2257 0302 0002 "
        "0404 2307 0541 2124 0711 1935 0838 1751 1017 1615 1122 1535"),
}  # fmt: skip

# The same, "Complete Sun and Moon Data for One Day": sunrise, sunset, and what else it prints.
DAYS = [
    ("Quito", -0.1807, -78.4678, "2025-03-20",
     "sunrise 1118 sunset 2324 solar_noon 1721 dawn_civil 1057 dusk_civil 2345"),
    ("Oslo", 59.9139, 10.7522, "2025-06-21",
     "sunrise 0154 sunset 2044 solar_noon 1119 dawn_civil 0010 dusk_civil 2228"),
    ("Oslo", 59.9139, 10.7522, "2025-12-21",
     "sunrise 0818 sunset 1412 solar_noon 1115 dawn_civil 0721 dusk_civil 1510"),
    ("Reykjavik", 64.1466, -21.9426, "2025-12-21",
     "sunrise 1122 sunset 1530 solar_noon 1326 dawn_civil 1003 dusk_civil 1649"),
    ("Sydney", -33.8688, 151.2093, "2025-09-22", "sunrise 1944 sunset 0751"),
    ("Ushuaia", -54.8019, -68.3030, "2025-12-21", "sunrise 0752 sunset 0111 solar_noon 1631"),
    ("London", 51.5074, -0.1278, "2025-06-21", "sunrise 0343 sunset 2022 dawn_civil 0255 dusk_civil 2109"),
    ("70 N in the dark", 70.0, 0.0, "2025-12-21", "dawn_civil 0955 dusk_civil 1402"),
    ("70 N, the last night", 70.0, 0.0, "2025-05-15", "sunrise 0037 sunset 2337"),
    ("70 N, the first night", 70.0, 0.0, "2025-07-29", "sunrise 0057 sunset 2305"),
    ("70 N, the last day", 70.0, 0.0, "2025-11-24", "sunrise 1114 sunset 1219"),
    ("70 N, the first day", 70.0, 0.0, "2026-01-17", "sunrise 1141 sunset 1240"),
    ("Longyearbyen", 78.25, 15.47, "2026-03-21", "sunrise 0445 sunset 1730"),
    ("80 N", 80.0, 0.0, "2019-03-21", "sunrise 0545 sunset 1834"),
    ("80 N", 80.0, 0.0, "2019-09-21", "sunrise 0515 sunset 1826"),
]  # fmt: skip

# Orlando, as the tests of Astronomy Engine list it: the three dawns, the three dusks.
TWILIGHTS = [
    "2021-11-07T10:21 2021-11-07T10:49 2021-11-07T11:17 2021-11-07T23:00 2021-11-07T23:28 2021-11-07T23:56",
    "2022-03-01T10:32 2022-03-01T10:59 2022-03-01T11:26 2022-03-01T23:49 2022-03-02T00:16 2022-03-02T00:43",
    "2022-04-15T09:38 2022-04-15T10:07 2022-04-15T10:35 2022-04-16T00:15 2022-04-16T00:45 2022-04-16T01:13",
    "2022-09-01T09:42 2022-09-01T10:11 2022-09-01T10:39 2022-09-02T00:10 2022-09-02T00:38 2022-09-02T01:07",
]
SIX: Any = (
    "dawn_astronomical",
    "dawn_nautical",
    "dawn_civil",
    "dusk_civil",
    "dusk_nautical",
    "dusk_astronomical",
)


def in_the_day(event: Any, latitude: float, longitude: float, day: str) -> list[datetime]:
    return forward(solar(event, latitude, longitude), at(day), at(day) + timedelta(1))


@pytest.mark.parametrize("place", TABLES)
def test_sunrise_and_sunset_are_within_a_minute_of_the_naval_observatory(place: str) -> None:
    latitude, longitude, year, text = TABLES[place]
    for k, wanted in enumerate(text.split()):
        day = f"{year}-{k // 2 + 1:02}-21"
        event: Any = ("sunrise", "sunset")[k % 2]
        published = at(f"{day}T{wanted[:2]}:{wanted[2:]}")

        (found,) = in_the_day(event, latitude, longitude, day)
        assert abs(found - published) <= MINUTE, (place, day, event)


@pytest.mark.parametrize(("place", "latitude", "longitude", "day", "text"), DAYS)
def test_a_day_is_within_a_minute_of_the_naval_observatory(
    place: str, latitude: float, longitude: float, day: str, text: str
) -> None:
    words = text.split()
    for event, wanted in zip(words[::2], words[1::2], strict=True):
        (found,) = in_the_day(event, latitude, longitude, day)
        assert abs(found - at(f"{day}T{wanted[:2]}:{wanted[2:]}")) <= MINUTE, (place, event)


@pytest.mark.parametrize("text", TWILIGHTS)
def test_the_twilights_are_within_a_minute_of_those_of_another_program(text: str) -> None:
    for event, wanted in zip(SIX, (at(each) for each in text.split()), strict=True):
        found = build(solar(event, 28.538, -81.379)).after(wanted - timedelta(hours=6))
        assert found is not None
        assert abs(found - wanted) <= MINUTE


# --- where it does not rise --------------------------------------------------------------------------


def test_there_is_no_sunrise_in_the_polar_day_and_in_the_polar_night() -> None:
    # The Naval Observatory has at 70 N, 0 E: a rise and no set on 16 May 2025, both again on 29 July; both on
    # 24 November, below the horizon from 25 November to 16 January, both on 17 January.
    span = at("2025-05-01"), at("2026-02-01")
    rises, sets = ({str(each.date()) for each in forward(solar(e, 70.0, 0.0), *span)} for e in EVENTS[3:6:2])

    assert "2025-05-16" in rises - sets
    for found in (rises, sets):
        assert not [day for day in found if "2025-05-17" <= day <= "2025-07-26"]
        assert not [day for day in found if "2025-11-25" <= day <= "2026-01-16"]
        assert {"2025-05-15", "2025-07-29", "2025-11-24", "2026-01-17"} <= found


def test_it_never_gets_dark_in_the_summer_of_london() -> None:
    dark = forward(solar("dusk_astronomical", 51.5, -0.1), at("2026-01-01"), at("2027-01-01"))
    gap = max(later - earlier for earlier, later in pairwise(dark))

    assert timedelta(days=55) < gap < timedelta(days=70)
    assert len(forward(solar("dusk_nautical", 51.5, -0.1), at("2026-01-01"), at("2027-01-01"))) == 365


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("latitude", [-89.5, -80.0, -66.0, 0.0, 60.0, 67.0, 75.0, 89.5])
def test_every_event_comes_at_every_latitude_within_400_days(event: Any, latitude: float) -> None:
    trigger = build(solar(event, latitude, 20.0))
    for year in (1, 1000, 2026, 9998):
        start = datetime(year, 1, 2, tzinfo=UTC)
        following = trigger.after(start)
        assert following is not None
        assert following - start < timedelta(400)


# --- what holds for every trigger --------------------------------------------------------------------

PLACES = [
    (0.0, 0.0),
    (21.3, -157.9),
    (-33.9, 151.2),
    (64.1, -21.9),
    (69.6, 19.0),
    (-77.8, 166.7),
    (10.0, 180.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("latitude", "longitude"), PLACES)
@pytest.mark.parametrize("event", EVENTS)
def test_all_ways_to_ask_agree(event: Any, latitude: float, longitude: float) -> None:
    spec = solar(event, latitude, longitude)
    trigger: Any = build(spec)
    start, end = at("2026-01-17"), at("2026-12-01")
    found = forward(spec, start, end)

    assert backward(spec, start, end) == found
    assert trigger.count(start - MICROSECOND, end - MICROSECOND) == len(found)
    for k in (0, len(found) // 2, len(found) - 1):
        assert trigger.count(start - MICROSECOND, found[k]) == k + 1
        assert trigger.count(found[k], end) == trigger.count(start - MICROSECOND, end) - k - 1
    for day in range((start - EPOCH).days, (start - EPOCH).days + 9):
        midnight = EPOCH + timedelta(day)
        seconds = [(each - midnight).seconds for each in forward(spec, midnight, midnight + timedelta(1))]
        assert trigger.bits(day) == sum(1 << second for second in seconds)


def test_the_two_names_of_the_date_line_are_one_place() -> None:
    span = at("2026-01-01"), at("2026-03-01")
    for event in EVENTS:
        assert forward(solar(event, 10.0, 180.0), *span) == forward(solar(event, 10.0, -180.0), *span)


def test_events_of_a_day_come_in_their_order() -> None:
    found = [in_the_day(event, 48.0, 0.0, "2026-03-21")[0] for event in EVENTS]

    assert found == sorted(found)
    assert len(set(found)) == 9


@pytest.mark.parametrize("event", EVENTS)
def test_the_ends_of_time_are_answered(event: Any) -> None:
    for latitude, longitude in ((0.0, 180.0), (85.0, -180.0)):
        trigger = build(solar(event, latitude, longitude))
        assert trigger.after(LATEST) is None
        assert trigger.before(EARLIEST) is None
        first, last = trigger.after(EARLIEST), trigger.before(LATEST)
        assert first is not None
        assert last is not None
        assert first < at("0002-06-01")
        assert last > at("9998-06-01")


def test_all_years_of_a_place_with_days_are_counted_at_once() -> None:
    cases: Any = (("sunrise", 65.0), ("dawn_astronomical", 48.0), ("solar_noon", 89.0))
    for event, latitude in cases:
        trigger = build(solar(event, latitude, 0.0))
        assert trigger.count(EARLIEST, LATEST) in range(3_652_057, 3_652_061)


def test_it_can_be_combined() -> None:
    spec = solar("sunset", 59.9, 10.75) & cron("* * * * FRI", zone="Europe/Oslo")

    assert [each.weekday() for each in forward(spec, at("2026-11-01"), at("2026-12-01"))] == [4] * 4


def test_the_audit_does_not_check_it() -> None:
    with pytest.raises(InvalidTrigger, match="cannot be checked"):
        list(matches(solar("sunset", 59.9, 10.75), at("2026-11-01"), at("2026-11-02")))


# --- to the bit --------------------------------------------------------------------------------------


def test_sine_and_cosine_are_those_of_mathematics() -> None:
    for k in range(-7_200, 7_200):
        angle = k / 10 + 0.0123
        sine, cosine = sun.sine_cosine(angle)
        assert math.isclose(sine, math.sin(math.radians(angle)), abs_tol=2e-14)
        assert math.isclose(cosine, math.cos(math.radians(angle)), abs_tol=2e-14)


def test_every_machine_has_the_same_bits() -> None:
    found = 0
    for latitude, longitude in ((60.0, 10.0), (-33.9, 151.2), (89.5, -180.0)):
        place = sun.Place(latitude, longitude)
        for k in range(2_000):
            found = zlib.crc32(struct.pack("<dd", *place.look(-62_135_596_800 + k * 157_680_010)), found)

    assert found == 307_934_039


def test_nothing_is_used_that_machines_round_differently() -> None:
    tree = ast.parse(inspect.getsource(sun))
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Pow)]
    assert called <= {"sine_cosine", "int", "reversed", "range"}


FROZEN = {
    "dawn_astronomical": 1_901_198_178,
    "dawn_nautical": 1_945_112_937,
    "dawn_civil": 804_774_006,
    "sunrise": 1_079_811_299,
    "solar_noon": 154_659_988,
    "sunset": 3_487_280_334,
    "dusk_civil": 2_220_642_283,
    "dusk_nautical": 1_845_965_087,
    "dusk_astronomical": 1_593_757_779,
}


@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
def test_no_minute_of_ten_years_has_ever_moved(event: Any) -> None:
    # Marks are instants: an occurrence that moves is another one, and fires again, or never. If this fails,
    # the change needs a kind of its own.
    minutes = []
    for latitude, longitude in PLACES[:6]:
        found = forward(solar(event, latitude, longitude), at("2026-01-01"), at("2036-01-01"))
        minutes += [str((each - EPOCH) // MINUTE) for each in found]

    assert zlib.crc32(" ".join(minutes).encode()) == FROZEN[event]


# --- refusals ----------------------------------------------------------------------------------------

REFUSED: list[tuple[tuple[Any, ...], str]] = [
    (("sunrice", 0.0, 0.0), "did you mean 'sunrise'"),
    (("dawn", 0.0, 0.0), "there are dawn_astronomical"),
    (("sunrise", 90.0, 0.0), "latitude 90.0 is no place with days"),
    (("sunrise", -91, 0.0), "latitude -91.0"),
    (("sunrise", 0.0, 180.5), "longitude 180.5 is no place"),
    (("sunrise", "59", 0.0), "Expected `float`"),
    (("sunrise", float("nan"), 0.0), "Expected `float`"),
    (("sunrise", 0.0, float("inf")), "Expected `float`"),
    ((5, 0.0, 0.0), "Expected `str`"),
]


@pytest.mark.parametrize(("said", "words"), REFUSED)
def test_what_is_no_place_or_no_event_is_refused(said: tuple[Any, ...], words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        solar(*said)

    assert words in str(caught.value)
