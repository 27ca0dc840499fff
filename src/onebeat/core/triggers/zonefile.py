"""Read one compiled zone (TZif, RFC 9636) into two lists: when the offset changes, and to what.

Pure bytes to integers: which zones there are, and what gaps and folds mean, is walltime.py's business. A
zone file ends with a rule for the years after its last explicit change; it is written out here up to
``TABLE_END``, far enough for walltime.py to map every later year onto an earlier one.
"""

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from onebeat.core.triggers.instants import DAY

TABLE_END = 2650
"""The first year for which the closing rule is not written out."""

EXPLICIT_END = 2150
"""Changes that a file lists one by one must lie before this year; walltime.py's arithmetic rests on it."""

FOREVER = 1 << 60
"""Seconds: earlier than everything when negative, later than everything when positive."""

_HEADER = struct.Struct(">4sc15x6l")
_NAME = r"(?:<[^>]+>|[A-Za-z]{3,})"
_HOURS = r"[+-]?\d{1,3}(?::\d\d){0,2}"
_FOOTER = re.compile(
    rf"{_NAME}({_HOURS})(?:{_NAME}({_HOURS})?,([^,/]+)(?:/({_HOURS}))?,([^,/]+)(?:/({_HOURS}))?)?"
)


class Offsets(NamedTuple):
    """A zone as arithmetic: from the UTC second ``since[i]`` on, local time is UTC + ``offset[i]``."""

    since: list[int]
    offset: list[int]


def first_day_of(year: int) -> int:
    """Return the day number (days since 1970-01-01) of 1 January, for any year, also outside 1 to 9999."""
    past = year - 1
    return 365 * past + past // 4 - past // 100 + past // 400 - 719_162


def year_at_least(day: int) -> int:
    """Return the year of a day, or the one after it: near New Year the average year is not exact."""
    return ((day + 719_162) * 400 + 600) // 146_097 + 1


def is_leap(year: int) -> bool:
    """Return whether the year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def read_zone(data: bytes) -> Offsets:
    """Return the offsets of a compiled zone, the closing rule written out.

    Raises ValueError for bytes that are no TZif file of version 2 or later.
    """
    if not data.startswith(b"TZif") or len(data) < 2 * _HEADER.size or data[4:5] < b"2":
        raise ValueError("it is no TZif file of version 2 or later")
    skip = _size(data, 0, width=4)
    _, _, _, _, leaps, changes, kinds, _ = _HEADER.unpack_from(data, skip)
    if leaps:
        raise ValueError("it counts leap seconds, and instants here do not")
    place = skip + _HEADER.size
    at = struct.unpack_from(f">{changes}q", data, place)
    index = data[place + 8 * changes : place + 9 * changes]
    place += 9 * changes
    offset_of = [struct.unpack_from(">lBB", data, place + 6 * kind) for kind in range(kinds)]
    footer = data[skip + _size(data, skip, width=8) :].decode("ascii").strip()

    # Before the first change the first standard time holds; zoneinfo of the standard library reads it so too.
    first = next((offset for offset, summer, _ in offset_of if not summer), offset_of[0][0])
    since, offset = [-FOREVER], [first]
    explicit = zip(at, (offset_of[kind][0] for kind in index), strict=True)
    for instant, new in (*explicit, *_tail(footer, at[-1] if at else 0)):
        if new != offset[-1]:  # a change of name or of the summer flag alone moves no clock
            since.append(instant)
            offset.append(new)
    if at and at[-1] >= first_day_of(EXPLICIT_END) * DAY:
        raise ValueError(f"lists a change after the year {EXPLICIT_END}")
    return Offsets(since, offset)


def _size(data: bytes, place: int, *, width: int) -> int:
    """Return how many bytes a header and its block take, when instants are ``width`` bytes wide."""
    _, _, utc_flags, standard_flags, leaps, changes, kinds, letters = _HEADER.unpack_from(data, place)
    block = changes * (width + 1) + kinds * 6 + letters + leaps * (width + 4) + standard_flags + utc_flags
    return _HEADER.size + int(block)


def _tail(footer: str, last: int) -> Iterator[tuple[int, int]]:
    """Yield the changes that the closing rule makes after the instant ``last``: (instant, new offset)."""
    match = _FOOTER.fullmatch(footer)
    if match is None:
        raise ValueError(f"its closing rule {footer!r} cannot be read")
    standard = -_seconds(match[1])
    if match[3] is None:
        return  # the offset stays what the last explicit change made it
    summer = -_seconds(match[2]) if match[2] else standard + 3600
    starts, ends = _seconds(match[4] or "2"), _seconds(match[6] or "2")
    first = year_at_least(last // DAY) - 1
    for starts_day, ends_day in zip(_rule_days(match[3], first), _rule_days(match[5], first), strict=True):
        changes = (starts_day * DAY + starts - standard, summer), (ends_day * DAY + ends - summer, standard)
        yield from (change for change in sorted(changes) if change[0] > last)


def _seconds(text: str) -> int:
    parts = [int(part) for part in text.lstrip("+-").split(":")]
    whole = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    return -whole if text.startswith("-") else whole


@lru_cache(maxsize=64)
def _rule_days(rule: str, first: int) -> tuple[int, ...]:
    """Return the day of a rule in each year from ``first`` on; a few rules serve all zones."""
    return tuple(_rule_day(rule, year) for year in range(first, TABLE_END))


def _rule_day(rule: str, year: int) -> int:
    """Return the day of a rule: ``Mm.w.d``, ``Jn`` (1 to 365, never 29 February) or ``n`` (from 0)."""
    start = first_day_of(year)
    if rule.startswith("J"):
        number = int(rule[1:])
        return start + number - 1 + (is_leap(year) and number >= 60)
    if not rule.startswith("M"):
        return start + int(rule)
    month, week, weekday = (int(part) for part in rule[1:].split("."))
    leap = is_leap(year)
    first = start + _DAYS_BEFORE[month] + (leap and month > 2)
    length = _DAYS_BEFORE[month + 1] - _DAYS_BEFORE[month] + (leap and month == 2)
    day = (weekday - first - 4) % 7 + 7 * (week - 1)  # day 0 of the epoch was a Thursday
    return first + (day if day < length else day - 7)


_DAYS_BEFORE = (0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)
