"""Read recurrence rules as RFC 5545 writes them. A refusal says what was read, why, and what to write.

A rule is what stands after ``RRULE:``. A block is a few lines of a calendar file: DTSTART, one RRULE, and any
RDATE and EXDATE. docs/reference/triggers.md is the same in prose, with the decisions where others differ.
"""

import re
from dataclasses import dataclass, replace
from datetime import date, time, timedelta
from typing import Final, NamedTuple, NoReturn

from onebeat.core.errors import InvalidTrigger, LimitExceeded, near_miss, shown
from onebeat.core.model import EPOCH
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.walltime import checked_zone

RULE_CHARS_MAX = 2_000
"""The longest rule, in characters."""

COUNT_MAX = 1_000_000_000
"""The largest COUNT: 30 years of seconds. Finding the last one takes up to a second, once."""

INTERVALS_MAX: Final = {
    "YEARLY": 100,
    "MONTHLY": 1_200,
    "WEEKLY": 5_217,
    "DAILY": 36_525,
    "HOURLY": 876_600,
    "MINUTELY": 52_596_000,
    "SECONDLY": 3_155_760_000,
}
"""The frequencies, and the largest INTERVAL of each: a century."""

WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
BELOW_DAYS: Final = frozenset({"HOURLY", "MINUTELY", "SECONDLY"})
_NEEDS_NO_DAY = BELOW_DAYS | {"DAILY"}

_RANGES = {
    "BYSECOND": (0, 59),
    "BYMINUTE": (0, 59),
    "BYHOUR": (0, 23),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYMONTH": (1, 12),
    "BYSETPOS": (-366, 366),
}
_PARTS = ("FREQ", "UNTIL", "COUNT", "INTERVAL", *_RANGES, "BYDAY", "WKST")
_ADVICE = {
    ("BYSECOND", 60): "no clock here shows a leap second; write 59",
    ("BYMINUTE", 60): "the full hour is minute 0",
    ("BYHOUR", 24): "midnight is hour 0",
}
_NUMBER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_TIME = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T(\d\d):?(\d\d):?(\d\d)(Z?))?", re.ASCII)


class Time(NamedTuple):
    """A time as text names it: a second since 1970, of UTC if ``utc``, else local. ``day``: a date alone."""

    second: int
    utc: bool
    day: bool

    def text(self) -> str:
        """Return it as JSON has it."""
        days, second = divmod(self.second, DAY)
        shown_day = (EPOCH.date() + timedelta(days)).isoformat()
        if self.day:
            return shown_day
        return f"{shown_day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{'Z' * self.utc}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, understood. Weekdays are Monday = 0 and which one of the month or year, 0 for every."""

    freq: str
    interval: int = 1
    count: int | None = None
    until: Time | None = None
    months: frozenset[int] = frozenset()
    weeks: frozenset[int] = frozenset()
    year_days: frozenset[int] = frozenset()
    month_days: frozenset[int] = frozenset()
    weekdays: frozenset[tuple[int, int]] = frozenset()
    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    seconds: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0

    def completed(self, weekday: int, month: int, day: int) -> "Rule":
        """Return the rule with what it does not say of days taken from those of its start."""
        if self.year_days or self.month_days or self.weekdays or self.freq in _NEEDS_NO_DAY:
            return self
        if self.weeks or self.freq == "WEEKLY":
            return replace(self, weekdays=frozenset({(weekday, 0)}))
        months = self.months or frozenset({month} if self.freq == "YEARLY" else ())
        return replace(self, months=months, month_days=frozenset({day}))


class Block(NamedTuple):
    """The lines of a calendar file, as the fields of a trigger have them."""

    rule: str
    start: str | None
    zone: str | None
    rdates: list[str]
    exdates: list[str]


def read_time(text: str, what: str) -> Time:
    """Return a time written as ``2026-11-22T09:00:00``, ``20261122T090000``, with Z if of UTC, or a date."""
    match = _TIME.fullmatch(text)
    if match is not None:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        try:
            days = (date(year, month, day) - EPOCH.date()).days
            at = time(hour, minute, second)
        except ValueError as error:
            raise InvalidTrigger(f"{what} {shown(text)} is no time: {error}; write another") from None
        passed = 3600 * at.hour + 60 * at.minute + at.second
        return Time(days * DAY + passed, match[7] == "Z", match[4] is None)
    raise InvalidTrigger(
        f"{what} {shown(text)} is no time; write 20261122T090000 for a local time, 20261122T090000Z for one "
        "of UTC, or 20261122 for a date"
    )


# --- a rule ------------------------------------------------------------------------------------------


def read_rule(text: str) -> Rule:
    """Return the meaning of a rule. Raises InvalidTrigger for what cannot be understood or is forbidden."""
    if len(text) > RULE_CHARS_MAX:
        raise LimitExceeded(
            f"rrule {shown(text, 40)} has {len(text):,} characters; at most {RULE_CHARS_MAX:,} are read; "
            "join several triggers with '|' instead"
        )
    parts = _parts(text)
    freq = parts.get("FREQ", "")
    if freq not in INTERVALS_MAX:
        near = near_miss(freq[:20], INTERVALS_MAX)
        why = f"has FREQ={shown(freq, 20)}" if freq else "has no FREQ"
        _refuse(text, why, f"write FREQ= and one of {', '.join(INTERVALS_MAX)}{near}")
    week_start = parts.get("WKST", "MO")
    if week_start not in WEEKDAYS:
        _refuse(text, f"has WKST={shown(week_start, 20)}", f"write one of {', '.join(WEEKDAYS)}")
    lists = {name: _numbers(text, name, parts[name]) for name in _RANGES if name in parts}
    rule = Rule(
        freq=freq,
        interval=_count(text, "INTERVAL", parts, INTERVALS_MAX[freq]) or 1,
        count=_count(text, "COUNT", parts, COUNT_MAX),
        until=read_time(parts["UNTIL"], "UNTIL") if "UNTIL" in parts else None,
        months=frozenset(lists.get("BYMONTH", ())),
        weeks=frozenset(lists.get("BYWEEKNO", ())),
        year_days=frozenset(lists.get("BYYEARDAY", ())),
        month_days=frozenset(lists.get("BYMONTHDAY", ())),
        weekdays=_weekdays(text, parts["BYDAY"]) if "BYDAY" in parts else frozenset(),
        hours=lists.get("BYHOUR", ()),
        minutes=lists.get("BYMINUTE", ()),
        seconds=lists.get("BYSECOND", ()),
        positions=lists.get("BYSETPOS", ()),
        week_start=WEEKDAYS.index(week_start),
    )
    _check(text, rule, parts)
    return rule


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            _refuse(text, f"has a part {shown(part, 20)}", "write parts as NAME=VALUE with ';' between them")
        if name not in _PARTS:
            near = near_miss(name[:20], _PARTS)
            _refuse(text, f"has a part {shown(name, 20)}", f"the parts are {', '.join(_PARTS)}{near}")
        if name in parts:
            _refuse(text, f"has {name} twice", "write one list with commas")
        parts[name] = value
    return parts


def _count(text: str, name: str, parts: dict[str, str], most: int) -> int | None:
    if name not in parts:
        return None
    value = parts[name]
    if not (_NUMBER.fullmatch(value) and 1 <= int(value) <= most):
        _refuse(text, f"has {name}={shown(value, 20)}", f"write a whole number from 1 to {most:,}")
    return int(value)


def _numbers(text: str, name: str, value: str) -> tuple[int, ...]:
    low, high = _RANGES[name]
    found = set[int]()
    for term in value.split(","):
        number = int(term) if _NUMBER.fullmatch(term) else None
        if number is None or not low <= number <= high or (low < 0 and number == 0):
            span = f"{low} to {high}" if low >= 0 else f"1 to {high}, or -1 to {low} counted from the end"
            advice = _ADVICE.get((name, number or 0), f"write {span}")
            _refuse(text, f"has {shown(term, 20)} in {name}", advice)
        found.add(number)
    return tuple(sorted(found))


def _weekdays(text: str, value: str) -> frozenset[tuple[int, int]]:
    found = set[tuple[int, int]]()
    for term in value.split(","):
        match = _DAY.fullmatch(term)
        if match is None or (match[1] is not None and not 1 <= abs(int(match[1])) <= 53):
            names = ", ".join(WEEKDAYS)
            _refuse(
                text,
                f"has {shown(term, 20)} in BYDAY",
                f"write one of {names}, or the last as -1FR, 53 at most",
            )
        found.add((WEEKDAYS.index(match[2]), int(match[1] or 0)))
    return frozenset(found)


def _check(text: str, rule: Rule, parts: dict[str, str]) -> None:
    """Refuse what RFC 5545 forbids: readers of such rules do not agree."""
    ordinal = any(which for _, which in rule.weekdays)
    if rule.count is not None and rule.until is not None:
        _refuse(text, "has both COUNT and UNTIL", "keep one of them")
    if rule.weeks and rule.freq != "YEARLY":
        _refuse(text, f"has BYWEEKNO in a {rule.freq} rule", "weeks are numbered by year: write FREQ=YEARLY")
    if rule.year_days and rule.freq in ("DAILY", "WEEKLY", "MONTHLY"):
        _refuse(text, f"has BYYEARDAY in a {rule.freq} rule", "write FREQ=YEARLY")
    if rule.month_days and rule.freq == "WEEKLY":
        _refuse(text, "has BYMONTHDAY in a WEEKLY rule", "write FREQ=MONTHLY, or FREQ=DAILY with BYDAY")
    if ordinal and rule.freq not in ("YEARLY", "MONTHLY"):
        advice = "write FREQ=MONTHLY or FREQ=YEARLY, or leave the number out"
        _refuse(text, f"numbers a weekday in a {rule.freq} rule", advice)
    if ordinal and rule.weeks:
        _refuse(
            text, "numbers a weekday beside BYWEEKNO", "a week has each weekday once: leave the number out"
        )
    if rule.positions and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        _refuse(text, "has BYSETPOS and nothing that it could choose from", "add another BY… part")


def _refuse(text: str, why: str, advice: str) -> NoReturn:
    raise InvalidTrigger(f"rrule {shown(text)} {why}; {advice}")


# --- a block -----------------------------------------------------------------------------------------


def read_block(text: str) -> Block:
    """Return what the lines of a calendar file say. A rule alone is a block of one line."""
    rule: str | None = None
    start: Time | None = None
    zone: str | None = None
    dates: dict[str, list[tuple[Time, str | None]]] = {"RDATE": [], "EXDATE": []}
    for line in _lines(text):
        name, parameters, value = _property(line)
        if name == "RRULE":
            if rule is not None:
                _refuse(text, "has two RRULE lines", "make two triggers and join them with '|'")
            rule = value.strip().upper().removesuffix(";")
        elif name == "DTSTART":
            if start is not None:
                _refuse(text, "has two DTSTART lines", "keep one")
            start, zone = _time(value, parameters, name)
            if start.utc:
                zone = "UTC"
        else:
            dates[name] += [_time(each, parameters, name) for each in value.split(",")]
    if rule is None:
        _refuse(text, "has no RRULE line", "for single instants join once() triggers with '|'")
    for name, found in dates.items():
        for each, its_zone in found:
            if start is None:
                _refuse(text, f"has {name} and no DTSTART", "add the DTSTART line")
            if each.day != start.day:
                advice = "write both as a date, or both with a time"
                _refuse(text, f"has {name} {each.text()} beside DTSTART {start.text()}", advice)
            if its_zone is not None and its_zone != zone:
                _refuse(text, f"has {name} in zone {its_zone}", f"write it in the zone of DTSTART, {zone}")
    texts = {name: [_local(each, zone) for each, _ in found] for name, found in dates.items()}
    return Block(rule, start and _local(start, zone), zone, texts["RDATE"], texts["EXDATE"])


def _local(time: Time, zone: str | None) -> str:
    """Return a time as text; in a rule of UTC, the local time is that of UTC."""
    return (time._replace(utc=False) if zone == "UTC" else time).text()


def _lines(text: str) -> list[str]:
    """Return the lines, with those that were folded put together again."""
    unfolded = re.sub(r"\r?\n[ \t]", "", text.strip())
    return [line.strip() for line in unfolded.splitlines() if line.strip()]


def _property(line: str) -> tuple[str, dict[str, str], str]:
    head, colon, value = line.partition(":")
    if not colon:
        head, value = "RRULE", line
    name, *rest = head.upper().split(";")
    if name not in ("DTSTART", "RRULE", "RDATE", "EXDATE"):
        near = near_miss(name[:20], ("DTSTART", "RRULE", "RDATE", "EXDATE"))
        advice = "keep the lines DTSTART, RRULE, RDATE and EXDATE" + near
        if name == "EXRULE":
            advice = "it is obsolete: subtract another trigger with '-'"
        _refuse(line, f"is a line of {shown(name, 20)}", advice)
    parameters = {}
    for each, original in zip(rest, head.split(";")[1:], strict=True):
        parameter = each.partition("=")[0]
        known = ("VALUE",) if name == "RRULE" else ("VALUE", "TZID")
        if parameter not in known:
            _refuse(line, f"has the parameter {shown(parameter, 20)}", f"{name} has {' and '.join(known)}")
        parameters[parameter] = original.partition("=")[2].strip('"')
    return name, parameters, value


def _time(value: str, parameters: dict[str, str], name: str) -> tuple[Time, str | None]:
    found = read_time(value.strip().upper(), name)
    if parameters.get("VALUE", "DATE-TIME" if not found.day else "DATE").upper() != (
        "DATE" if found.day else "DATE-TIME"
    ):
        _refuse(value, f"is no {parameters['VALUE']}", "write VALUE=DATE for 20261122, none for a time")
    zone = parameters.get("TZID")
    if zone is not None:
        checked_zone(zone)
        if found.utc:
            _refuse(value, f"is of UTC and has the zone {zone}", "take the Z or the TZID away")
    return found, zone
