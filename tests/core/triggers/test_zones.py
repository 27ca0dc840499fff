"""The zone data: read as the standard library reads it, and from nowhere but the tzdata package."""

from __future__ import annotations

import io
import zoneinfo
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import tzdata

from onebeat.core.errors import InvalidTrigger
from onebeat.core.triggers import tz_version, zone, zone_names
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.walltime import offsets
from onebeat.core.triggers.zonefile import Offsets, read_zone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = -62_135_596_800 + DAY, 253_402_300_799 - DAY


def instant(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


def standard(info: zoneinfo.ZoneInfo, second: int) -> int:
    offset = instant(second).astimezone(info).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def ours(read: Offsets, second: int) -> int:
    return read.offset[bisect_right(read.since, second) - 1]


@pytest.mark.slow
def test_offsets_are_those_of_the_standard_library_before_and_after_every_change() -> None:
    for name in zone_names():
        read, info = offsets(name), zone(name)
        near = [at + step for at in read.since[1:150] + read.since[1:][-4:] for step in (-1, 0)]
        for second in [FIRST, *near]:
            assert ours(read, second) == standard(info, second), (name, second)


@pytest.mark.slow
def test_no_two_changes_of_a_zone_meet() -> None:
    # walltime.WallClock cuts gaps and folds off one change at a time, and looks two days around it.
    for name in zone_names():
        read = offsets(name)
        changes = list(zip(read.since[1:], read.offset, read.offset[1:], strict=False))
        for at, old, new in changes:
            assert 0 < abs(new - old) <= DAY, (name, at)
        for (at, old, new), (later, *_) in pairwise(changes):
            assert later - at > 2 * DAY + 2 * abs(new - old), (name, at)


def test_the_data_is_that_of_the_tzdata_package() -> None:
    assert tz_version() == tzdata.IANA_VERSION
    assert {"UTC", "Europe/London", "America/Argentina/Ushuaia"} <= zone_names()


def test_the_zones_of_the_process_are_left_alone() -> None:
    path = zoneinfo.TZPATH

    private = zone("Europe/Paris")

    assert private is zone("Europe/Paris")
    assert private.key == "Europe/Paris"
    assert private is not zoneinfo.ZoneInfo("Europe/Paris")
    assert path == zoneinfo.TZPATH


@pytest.mark.parametrize(
    "name", ["", "Europe/Atlantis", "../zones", "/etc/localtime", "zones", "+02:00", "x" * 9999]
)
def test_a_name_that_is_no_zone_is_refused_and_leads_nowhere(name: str) -> None:
    with pytest.raises(InvalidTrigger, match="no zone of the IANA data") as caught:
        zone(name)

    assert len(str(caught.value)) < 400


def tzif(footer: str) -> bytes:
    """A zone of one offset, UTC-5, that ends in a rule."""
    kinds, letters = (-18_000).to_bytes(4, "big", signed=True) + b"\0\0", b"XXX\0"
    counts = b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 1, 1, len(letters)))
    first = b"TZif2" + bytes(15) + counts + (0).to_bytes(4, "big") + b"\0" + kinds + letters
    second = b"TZif2" + bytes(15) + counts + (0).to_bytes(8, "big") + b"\0" + kinds + letters
    return first + second + b"\n" + footer.encode() + b"\n"


@pytest.mark.parametrize(
    "footer",
    [
        "XXX5",
        "XXX5YYY,M3.2.0,M11.1.0",
        "XXX5YYY4:30,M10.1.6/2:15:30,M4.5.6/-1",
        "XXX5YYY,J60/0,J300",
        "<-05>5<+03>-3,M3.5.4/50,J365/23",
    ],
)
def test_every_form_of_closing_rule_is_read_as_the_standard_library_reads_it(footer: str) -> None:
    data = tzif(footer)
    read, info = read_zone(data), zoneinfo.ZoneInfo.from_file(io.BytesIO(data))

    assert len(read.since) > 1000 or footer == "XXX5"
    for second in [at + step for at in read.since[1:400] for step in (-1, 0)] or [0]:
        assert ours(read, second) == standard(info, second)


def test_a_closing_rule_may_count_days_from_0() -> None:
    # The standard library of Python 3.11 is a day early here; no zone of the data has such a rule.
    read = read_zone(tzif("XXX5YYY,59/0,300/26"))

    days = [(EPOCH + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M") for at in read.since[1:6]]
    assert days == [
        "1970-03-01T05:00",
        "1970-10-29T06:00",
        "1971-03-01T05:00",
        "1971-10-29T06:00",
        "1972-02-29T05:00",
    ]


@pytest.mark.parametrize("data", [b"", b"TZif2", b"TZif\0" + bytes(60), tzif("what?"), b"GIF89a" + bytes(60)])
def test_what_is_no_zone_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"TZif|cannot be read"):
        read_zone(data)
