"""When a line of a crontab comes: crontab(5)'s own rules, stricter than our cron expressions.

Ours know ranges that wrap round, L, W, #, H and seconds. A crontab line with one of those did nothing under
cron, or something else, so it is refused here, with what to write. Pure.
"""

import re
from typing import NamedTuple, NoReturn

from onebeat.core.errors import InvalidTrigger, near_miss, shown
from onebeat.core.triggers import cron
from onebeat.core.triggers.cronfields import MACROS

FIELDS = 5
BLANKS = re.compile(r"[ \t]+")

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAME = "|".join((*_MONTHS, *_WEEKDAYS))
_TIMED = re.compile(
    rf"[\d*?][\d*?,/~LWH#-]*|(?:{_NAME})(?:[-,/](?:{_NAME}|\d+))+|(?P<bare>{_NAME}|[LH])", re.IGNORECASE
)
_TERM = re.compile(r"\*(?:/\d+)?|(?P<start>\w+)(?:-(?P<stop>\w+))?(?P<step>/\d+)?")
_YEARS = re.compile(r"[*?]|(19|20)\d\d")
_HINTS_AT_TIME = re.compile(r"[\d*~]|^H\b")
_HASHED = re.compile(r"(?<![A-Z])H(?![A-Z])", re.IGNORECASE)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def number(self, text: str) -> int:
        """Return the value of a number or a name that is known to be right."""
        return self.names.index(text.lower()) + self.low if text.lower() in self.names else int(text)


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _WEEKDAYS),
)
_ADVICE = (
    ("the last day of a month is 'L'", "write 1 to 31"),
    ("or use interval() for a longer period", "or onebeat schedule add --every for a longer period"),
)
"""What to write in a cron expression of ours, and what to write in a crontab."""


class Timed(NamedTuple):
    """The two parts of an entry: its time, as a cron expression, and everything behind that."""

    expression: str
    rest: str


def parted(text: str) -> Timed:
    """Return the parts of an entry; ``text`` begins with no blank.

    Raises InvalidTrigger for a time that crontab(5) does not have; the message says what to write.
    """
    if text.startswith("@"):
        return _macro(text)
    words = BLANKS.split(text, maxsplit=FIELDS)
    timed = _timed(words)
    _refuse_lookalikes(words[: timed + 1])
    if not timed and not _HINTS_AT_TIME.search(words[0]):
        raise InvalidTrigger(
            "is neither a schedule nor a NAME=value; a comment begins with #, and cron joins no lines"
        )
    if timed < FIELDS and (len(words) <= FIELDS or _begins_a_command(words[timed])):
        _refuse_too_few(words, timed)
    behind = BLANKS.split(words[FIELDS]) if len(words) > FIELDS else [""]
    if timed == FIELDS and _looks_timed(behind[0]):
        _refuse_more_fields([*words[:FIELDS], *behind[: _timed(behind)]])
    expression = " ".join(words[:FIELDS])
    rest = words[FIELDS].rstrip(" \t") if len(words) > FIELDS else ""
    _check(expression, words[FIELDS - 1])
    if not rest:
        raise InvalidTrigger(
            f"has a time, {expression!r}, and no command; write one behind it, or take it out"
        )
    return Timed(expression, words[FIELDS])


def _refuse_more_fields(fields: list[str]) -> NoReturn:
    what = " ".join(fields[FIELDS:])
    why = f"has {len(fields)} time fields; cron has five, and takes {what!r} for the command"
    means = list[str]()
    if len(fields) == FIELDS + 1:
        first, last = fields[0], fields[-1]
        without_seconds = " ".join(fields[1:]).replace("?", "*")
        if first.isdigit() and _is_cron(without_seconds):
            means.append(f"if the first one means seconds, write {without_seconds!r}")
        without_years = " ".join(fields[:-1]).replace("?", "*")
        if _YEARS.fullmatch(last) and _is_cron(without_years):
            means.append(f"if the last one means years, write {without_years!r}")
    means.append("onebeat schedule add --cron takes six fields, the first of them seconds")
    raise InvalidTrigger(f"{why}; {'; '.join(means)}")


def _looks_timed(word: str) -> bool:
    """Return whether a word is more likely a field of time than the name of a program or a user."""
    found = _TIMED.fullmatch(word)
    # One bare name in small letters may well be a program.
    return found is not None and (found["bare"] is None or word.isupper())


def _timed(words: list[str]) -> int:
    """Return how many of the first words are fields of time."""
    return next((place for place, word in enumerate(words) if not _TIMED.fullmatch(word)), len(words))


def hides_a_schedule(value: str) -> bool:
    """Return whether the value of a setting has a time and a command behind its first word."""
    return _timed(BLANKS.split(value)[1 : FIELDS + 2]) == FIELDS


def _begins_a_command(word: str) -> bool:
    return re.search(r"^(~/|[/\[{])|[.=$\"'\\(]", word) is not None


def _refuse_lookalikes(words: list[str]) -> None:
    odd = next((sign for sign in "".join(words) if sign > "~" and (sign.isspace() or sign.isdigit())), None)
    if odd is not None:
        what = "blank" if odd.isspace() else "digit"
        raise InvalidTrigger(f"holds {odd!a}, which looks like a {what} and is another sign; type it anew")


def _refuse_too_few(words: list[str], timed: int) -> NoReturn:
    if timed == len(words):
        what = "and no command" if timed == FIELDS else "where cron needs five and a command"
        raise InvalidTrigger(f"has {_fields(timed)} {what}; write e.g. '{' '.join([*words, '*'][:5])} …'")
    raise InvalidTrigger(
        f"has {_fields(timed)} before {shown(words[timed], 40)}, and cron needs five: minute, hour, day of "
        "month, month, day of week"
    )


def _fields(count: int) -> str:
    return f"{count} time field{'s' * (count != 1)}"


# --- what crontab(5) does not know ------------------------------------------------------------------------


def _check(expression: str, last: str) -> None:
    """Raise InvalidTrigger for what no cron would take, or each one takes for something else."""
    for field, text in zip(_FIELDS, expression.split(" "), strict=True):
        if "~" in text:
            advice = "write one value; onebeat schedule add --cron takes H for one that it chooses"
            _refuse_foreign(field, "'~', a random value, is for a few crons only", advice)
        if _HASHED.search(text):
            advice = "onebeat has: onebeat schedule add --cron takes it"
            _refuse_foreign(field, f"crontab(5) has no {shown(text, 40)}", advice)
    try:
        cron(expression)
    except InvalidTrigger as error:
        said, never, _ = str(error).partition(" never comes: ")
        if never:
            raise InvalidTrigger(f"{said} never comes, and never did under cron; take it out") from None
        for ours, crons in _ADVICE:
            said = said.replace(ours, crons)
        missing = last.isalpha() and "did you mean" not in str(error) and "day of week" in str(error)
        raise InvalidTrigger(f"{said}{'; or a time field is missing before it' * missing}") from None
    for field, text in zip(_FIELDS, expression.split(" "), strict=True):
        for term in text.split(","):
            _check_term(field, term)


def _check_term(field: _Field, term: str) -> None:
    found = _TERM.fullmatch(term)
    if found is None or (found["start"] and not _known(field, found["start"])):
        advice = "write '*'" if term == "?" else "onebeat has: onebeat schedule add --cron takes it"
        _refuse_foreign(field, f"crontab(5) has no {term!r}", advice)
    if found["start"] is None:
        return
    start, stop, step = found["start"], found["stop"], found["step"]
    if stop is None:
        if step is not None:
            why = f"{term!r} steps through no range: one cron refuses it, another takes {start} alone"
            _refuse_foreign(field, why, f"write {field.number(start)}-{_end(field)}{step}")
        return
    low, high = field.number(start), field.number(stop)
    if low > high:
        _refuse_backwards(field, term, low, high, step)


def _known(field: _Field, text: str) -> bool:
    return text.isdigit() or text.lower() in field.names


def _end(field: _Field) -> int:
    return 6 if field.names is _WEEKDAYS else field.high


def _refuse_backwards(field: _Field, term: str, low: int, high: int, step: str | None) -> NoReturn:
    weekday = field.names is _WEEKDAYS
    if step is not None:
        advice = "write the values one by one"
    elif weekday and low == 7:
        advice = f"write {_span(0, high)}"
    elif weekday:  # 7 is Sunday too, and spares a part
        advice = f"write {_span(low, 7)}" + (f",{_span(1, high)}" if high else "")
    else:
        advice = f"write {_span(low, field.high)},{_span(field.low, high)}"
    _refuse_foreign(field, f"{term!r} runs backwards, and cron wraps no range round", advice)


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _refuse_foreign(field: _Field, why: str, advice: str) -> NoReturn:
    raise InvalidTrigger(f"{field.name} field: {why}; {advice}")


# --- macros -----------------------------------------------------------------------------------------------


def _macro(text: str) -> Timed:
    word, *rest = BLANKS.split(text, maxsplit=1)
    name, command = word.lower(), rest[0] if rest else ""
    if name == "@reboot":
        raise InvalidTrigger(
            "@reboot is not portable: it names no instant, and no schedule belongs to one machine; have "
            "what starts the machine start it, e.g. a systemd unit with WantedBy=multi-user.target"
        )
    if name == "@every":
        raise InvalidTrigger(f"cron has no @every; {_instead_of_every(command)}")
    if name == "@every_minute":
        raise InvalidTrigger(f"{word} is for a few crons only; write '* * * * *'")
    if name not in MACROS:
        raise InvalidTrigger(
            f"{shown(word, 40)} is no macro; there are {', '.join(MACROS)}{near_miss(name[:40], MACROS)}"
        )
    if not command.strip(" \t"):
        raise InvalidTrigger(f"has a time, {word}, and no command; write one behind it, or take it out")
    return Timed(name, command)


def _instead_of_every(period: str) -> str:
    found = re.match(r"(\d{1,4})(m|h)[a-z]*\b", period)
    count = int(found[1]) if found else 0
    if found and found[2] == "m" and 0 < count < 60 and 60 % count == 0:
        return f"write '*/{count} * * * *'"
    if found and found[2] == "h" and 0 < count < 24 and 24 % count == 0:
        return f"write '0 */{count} * * *'"
    return "a period of any length is onebeat schedule add --every"


def _is_cron(expression: str) -> bool:
    try:
        cron(expression)
    except InvalidTrigger:
        return False
    return True
