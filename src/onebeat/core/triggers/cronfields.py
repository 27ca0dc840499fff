"""Read the text of a cron expression. A refusal says what was read, why it cannot be meant, what to write.

The dialect is crontab(5) as Debian ships it, with seconds as an optional first field and the extensions that
other schedulers agree on. Where they disagree (``L5``, a seventh field, ``L`` for a weekday) nothing is
guessed. docs/reference/triggers.md is the same grammar in prose.

``H`` is a slot: a value that hangs on a name alone, so that many schedules spread over the hour and each
keeps its minute. It is put in place before anything else is read, so the rest never hears of it.
"""

import re
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, NoReturn

from onebeat.core.errors import InvalidTrigger, LimitExceeded, near_miss, shown
from onebeat.core.triggers.days import DayRule, DaySet, day_set
from onebeat.core.triggers.times import Times, times_of_day

LENGTH_MAX = 1_000
"""The longest expression, in characters."""

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class Cron(NamedTuple):
    """An expression, understood. ``wild``: its minute or hour begins with ``*``, so it follows real time."""

    days: DaySet
    times: Times
    wild: bool
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """The value after which a range wraps round: 7 is but another name of Sunday."""
        return 6 if self.names is _WEEKDAYS else self.high


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_ADVICE = {
    ("hour", 24): "midnight is hour 0",
    ("second", 60): "the full minute is second 0",
    ("minute", 60): "the full hour is minute 0",
    ("month", 0): "January is 1",
    ("day of month", 0): "the last day of a month is 'L'",
}


_SLOT = re.compile(r"H(?:\(([^()-]*)-([^()-]*)\))?(?:/(.*))?")
_DAY_SLOT_MAX = 28  # a bare H comes in every month


def has_slot(expression: str) -> bool:
    """Return whether the meaning of an expression hangs on a name, because there is an H in it."""
    return any(term[:1] == "H" for text in _split(expression) for term in text.split(","))


def read_cron(expression: str, *, all_days: bool = False, slot: str | None = None) -> Cron:
    """Return the meaning of an expression. ``all_days``: a day must satisfy both day fields, in any case.

    ``slot`` is the name that H hangs on. Without one, H stands for all values that it could have.

    Raises InvalidTrigger for what cannot be understood or never comes, LimitExceeded for an over-long text.
    """
    fields = [_placed(place, text, slot) for place, text in enumerate(_split(expression))]
    second, minute, hour = (
        tuple(sorted(_values(field, text))) for field, text in zip(_FIELDS, fields[:3], strict=False)
    )
    rule = _day_rule(*fields[3:], all_days=all_days)
    days = day_set(rule)
    if days.empty:
        why = f"never comes: month {fields[4]!r} has no day {fields[3]!r}"
        why += f" that is also a {fields[5]!r}" if rule.both and fields[5] != "*" else ""
        _refuse(expression, why, "for the end of every month write 'L' as day of month")
    wild = fields[1][0] == "*" or fields[2][0] == "*"
    return Cron(days, times_of_day(hour, minute, second), wild, hour, minute, second)


def read_weekdays(text: str) -> frozenset[int]:
    """Return days of the week, Sunday = 0, written as in the last field of an expression: ``MON-FRI``.

    Raises InvalidTrigger for what is none, or is one day of a month.
    """
    return frozenset(_values(_FIELDS[5], text.strip().upper()))


def _split(expression: str) -> list[str]:
    """Return the six fields in capitals, or say why the text does not have them."""
    if len(expression) > LENGTH_MAX:
        raise LimitExceeded(
            f"cron expression {shown(expression, 40)} has {len(expression):,} characters; "
            f"at most {LENGTH_MAX:,} are read; join several triggers with '|' instead"
        )
    odd = next((sign for sign in expression if sign != "\t" and not " " <= sign <= "~"), None)
    if odd is not None:
        _refuse(expression, f"holds {odd!a}", "write it in plain ASCII on one line")
    text = expression.strip().upper()
    if text.startswith("@"):
        text = _macro(expression, text)
    if text.startswith(("CRON_TZ=", "TZ=")):
        _refuse(expression, "begins with a zone", "name the zone beside it: zone='Europe/London'")
    fields = text.split()
    if len(fields) == 7:
        _refuse(
            expression,
            "has seven fields, and there is none for the year",
            "write second, minute, hour, day of month, month, day of week, and bound the years with "
            ".between(start_at, end_at)",
        )
    if len(fields) not in (5, 6):
        _refuse(
            expression,
            f"has {len(fields)} field{'s' * (len(fields) != 1)}",
            "write five: minute, hour, day of month, month, day of week; or six, with seconds before them",
        )
    return ["0", *fields] if len(fields) == 5 else fields


def _macro(expression: str, text: str) -> str:
    name = text.lower()
    if name in MACROS:
        return MACROS[name]
    if name == "@reboot":
        why = "names no instant: nodes come and go, and no schedule belongs to one of them"
        _refuse(expression, why, "run what a start needs from whatever starts the program")
    if name.startswith("@every"):
        _refuse(expression, "is a period, not a cron expression", "write interval(minutes=5)")
    near = near_miss(name[:40], MACROS)
    _refuse(expression, "is no macro", f"the macros are {', '.join(MACROS)}{near}")


def _day_rule(date: str, month: str, weekday: str, *, all_days: bool) -> DayRule:
    """Read the day fields. One that begins with ``*`` narrows the other; two that do not, add up."""
    date, weekday = ("*" if text == "?" else text for text in (date, weekday))
    days, from_last, workdays = set[int](), set[int](), set[int]()
    field = _FIELDS[3]
    for term in _terms(field, date):
        if term == "LW":
            workdays.add(0)
        elif term == "L":
            from_last.add(0)
        elif term.startswith("L-"):
            from_last.add(_offset_from_last(field, term))
        elif term.endswith("W") and term[:-1].isdigit():
            workdays.add(_number(field, term[:-1], term))
        else:
            days.update(_span(field, term))
    weekdays, nth = set[int](), set[tuple[int, int]]()
    field = _FIELDS[5]
    for term in _terms(field, weekday):
        if "#" in term:
            nth.add(_nth(field, term))
        elif len(term) > 1 and term.endswith("L"):
            nth.add((_number(field, term[:-1], term) % 7, 0))
        else:
            weekdays.update(_span(field, term))
    return DayRule(
        months=frozenset(_values(_FIELDS[4], month)),
        days=frozenset(days),
        from_last=frozenset(from_last),
        workdays=frozenset(workdays),
        weekdays=frozenset(weekdays),
        nth=frozenset(nth),
        both=all_days or date[0] == "*" or weekday[0] == "*",
    )


@lru_cache(maxsize=1024)
def _hash(place: int, slot: str) -> int:
    """Return the number of a name in a field. It must never change: schedules would move."""
    return int.from_bytes(sha256(f"{place}:{slot}".encode()).digest()[:8], "big")


def _placed(place: int, text: str, slot: str | None) -> str:
    """Return the text of a field with values where it has an H."""
    if "H" not in text:
        return text
    field = _FIELDS[place]
    return ",".join(
        _slot_values(place, field, term, slot) if term[:1] == "H" else term for term in text.split(",")
    )


def _slot_values(place: int, field: _Field, term: str, slot: str | None) -> str:
    match = _SLOT.fullmatch(term)
    if match is None:
        _bad(field, term, "is no slot", "write 'H', 'H/15', 'H(0-29)' or 'H(0-29)/10'")
    first, last, step_text = match.groups()
    if first is None:
        low, high = field.low, min(field.end, _DAY_SLOT_MAX) if field is _FIELDS[3] else field.end
    else:
        low, high = _number(field, first, term), _number(field, last, term)
        if low > high:
            _bad(
                field,
                term,
                f"has a range from {first} to {last}, which is none",
                f"write 'H({last}-{first})'",
            )
    reach = high - low + 1
    step = reach if step_text is None else _step(field, term, step_text, reach)
    if slot is not None:
        low += _hash(place, slot) % step
    return ",".join(str(value) for value in range(low, high + 1, 1 if slot is None else step))


def _values(field: _Field, text: str) -> set[int]:
    return {value for term in _terms(field, text) for value in _span(field, term)}


def _terms(field: _Field, text: str) -> list[str]:
    terms = text.split(",")
    if "" in terms:
        _bad(field, text, "has nothing beside a comma", "take the comma away")
    return terms


def _span(field: _Field, term: str) -> list[int]:
    """Return what ``*``, ``a``, ``a-b`` (which may wrap round) stand for, thinned by ``/step``."""
    body, slash, step = term.partition("/")
    start_text, dash, stop_text = body.partition("-")
    if body == "*":
        start, stop = field.low, field.end
    else:
        start = _number(field, start_text, term)
        stop = _number(field, stop_text, term) if dash else start
        if start > field.end:  # Sunday as 7: SUN-TUE may be written 7-2
            start, stop = field.low, stop % start
        if slash and not dash:
            stop = field.end
    if start <= stop:
        span = list(range(start, stop + 1))
    else:
        span = [*range(start, field.end + 1), *range(field.low, stop + 1)]
    if field.names is _WEEKDAYS:
        span = [day % 7 for day in span]
    return span[:: _step(field, term, step, len(span))] if slash else span


def _step(field: _Field, term: str, text: str, reach: int) -> int:
    if not _is_number(text):
        _bad(field, term, f"has {shown(text)} for a step", "write a whole number after '/'")
    step = int(text)
    if step == 0:
        _bad(field, term, "has a step of 0, which would stand still", "a step is at least 1")
    if step > reach:
        what = "value" if reach == 1 else "values"
        why = f"steps by {step} over {reach} {what}, so only the first would ever come"
        _bad(field, term, why, "write that value alone, or use interval() for a longer period")
    return step


def _number(field: _Field, text: str, term: str) -> int:
    """Return one number or name of a field."""
    if text in field.names:
        return field.names.index(text) + field.low
    if not _is_number(text):
        _not_a_number(field, text, term)
    value = int(text)
    if not field.low <= value <= field.high:
        advice = _ADVICE.get((field.name, value))
        if advice is None:
            advice = (
                "bound the years with .between(start_at, end_at)"
                if value >= 1900
                else f"write {_range(field)}"
            )
        _bad(field, term, f"has {text}, which no {field.name} is", advice)
    return value


def _range(field: _Field) -> str:
    names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
    sunday = " (0 and 7 are Sunday)" if field.names is _WEEKDAYS else ""
    return f"{field.low} to {field.high}{sunday}{names}"


def _not_a_number(field: _Field, text: str, term: str) -> NoReturn:
    """Say what is wrong with a value that is neither a number nor a name of its field."""
    if text in ("*", "?"):
        _bad(field, term, f"has {text!r} where a value belongs", f"write {_range(field)}")
    if field.names is _WEEKDAYS and text.startswith("L"):
        day = text[1:] if text[1:] in (*_WEEKDAYS, *"01234567") and text[1:] else "5"
        why = "has an L that every system which knows it reads differently"
        _bad(field, term, why, f"write '{day}L' for the last one of the month, or 6 for Saturday")
    if "L" in text and field is _FIELDS[3]:
        advice = "L stands alone, as 'L', 'L-3' (the third day before the last) or 'LW'"
        _bad(field, term, "joins L with something else", advice)
    if "W" in text and field is _FIELDS[3]:
        _bad(field, term, "joins W with something else", "W follows one day, as in '15W', or is 'LW'")
    for other in _FIELDS:
        if text in other.names:
            _bad(field, term, f"names a {other.name}", "check the order of the fields")
    near = near_miss(text[:20], field.names)
    what = shown(text, 20) if text else "nothing"
    _bad(field, term, f"has {what} where a value belongs", f"write {_range(field)}{near}")


def _offset_from_last(field: _Field, term: str) -> int:
    text = term[2:]
    if not _is_number(text) or not 1 <= int(text) <= 30:
        _bad(field, term, f"goes back by {shown(text, 20)}", "write L-1 to L-30")
    return int(text)


def _nth(field: _Field, term: str) -> tuple[int, int]:
    day, _, which = term.partition("#")
    if not _is_number(which) or not 1 <= int(which) <= 5:
        why = f"asks for number {shown(which, 20)} of a month"
        _bad(field, term, why, "write MON#1 to MON#5, or MONL for the last one")
    return _number(field, day, term) % 7, int(which)


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 4 and text.isdigit()  # the text is ASCII, so these are 0 to 9


def _bad(field: _Field, term: str, why: str, advice: str) -> NoReturn:
    raise InvalidTrigger(f"{field.name} field: {shown(term, 40)} {why}; {advice}")


def _refuse(expression: str, why: str, advice: str) -> NoReturn:
    raise InvalidTrigger(f"cron expression {shown(expression)} {why}; {advice}")
