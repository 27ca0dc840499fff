"""TOML for people: values written on one line each, and the line on which a key stands.

Reading is the standard library's ``tomllib``. Pure.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime

from onebeat.core.model import Json, instant_text

BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
BACK_MAX = 200
"""How many lines a value may span and still be found."""


class Unsayable(ValueError):
    """A value that TOML has no word for: null, or text that is not Unicode."""


def table(path: Sequence[str], entries: Mapping[str, Json]) -> str:
    """Return a table and its entries, a line each. Raises Unsayable."""
    head = f"[{'.'.join(map(_key, path))}]\n" if path else ""
    return head + "".join(f"{_key(name)} = {_value(value)}\n" for name, value in entries.items())


def _key(name: str) -> str:
    return name if name and BARE.issuperset(name) else _text(name)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unsayable(str(error)) from error
    # The strings of JSON are strings of TOML, but for one character that only JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Json) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case datetime():
            return instant_text(value)
        case dict():
            inner = ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            raise Unsayable(f"{type(value).__name__} has no form in TOML")


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Return the line, from 1 on, on which what ``path`` leads to begins; None where it is not found.

    The reader itself is asked, with shorter and shorter beginnings of a text that it has read as a whole.
    """
    keys = [key for key in path if isinstance(key, str)]
    lines = [f"{line}\n" for line in text.split("\n")]
    low, high = 0, len(lines)  # not in the first `low` lines, and in the first `high`
    if not keys or not _within(lines, high, keys)[0]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        there, read = _within(lines, middle, keys)
        if there:
            high = read
        else:
            low = middle
    _, before = _within(lines, high - 1, keys)
    return before + 1 if before >= 0 else None


def _within(lines: Sequence[str], count: int, keys: Sequence[str]) -> tuple[bool, int]:
    """Return whether the keys stand in the first ``count`` lines, and how many of those can be read."""
    for read in range(count, max(-1, count - BACK_MAX), -1):
        try:
            found: Json = tomllib.loads("".join(lines[:read]))
        except tomllib.TOMLDecodeError:
            continue
        for key in keys:
            if not isinstance(found, dict) or key not in found:
                return False, read
            found = found[key]
        return True, read
    return False, -1
