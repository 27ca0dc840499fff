"""A trigger in the words of people, in English (``en``) and Simplified Chinese (``zh``).

Each kind says itself: ``Kind.words`` gets its fields and the language. This file asks the kind, and holds
what the kinds of the house share. It imports the registry and nothing above it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from onebeat.core.errors import InvalidInput, near_miss, shown
from onebeat.core.model import Json, TriggerSpec
from onebeat.core.triggers.registry import kind_of, nested_spec

LANGUAGES: Final = ("en", "zh")
"""The languages in which triggers are said."""

_UNITS = (
    (timedelta(days=1), "day", "天"),
    (timedelta(hours=1), "hour", "小时"),
    (timedelta(minutes=1), "minute", "分钟"),
)


def words(spec: TriggerSpec, lang: str = "en") -> str:
    """Return a trigger as people would say it. One that nobody here understands is shown as its JSON.

    Raises InvalidInput for a language that is not one of LANGUAGES.
    """
    return _said(spec, checked_language(lang))


def checked_language(lang: str) -> str:
    """Return a language unchanged; raise InvalidInput, naming the nearest, if triggers are not said in it."""
    if lang in LANGUAGES:
        return lang
    near = near_miss(lang[:2].casefold(), LANGUAGES)  # zh-CN, zh_CN.UTF-8, EN
    raise InvalidInput(
        f"{shown(lang, 20)} is no language that triggers are said in; write en for English or zh for "
        f"Simplified Chinese{near}"
    )


def part_words(value: Json, lang: str) -> str:
    """Return the words of a spec that is nested in another, in brackets where it is a combination itself."""
    spec = nested_spec(value)
    said = _said(spec, lang)
    return f"({said})" if spec.kind in _COMBINED else said


_COMBINED = frozenset({"union", "intersection", "except", "between"})


def _said(spec: TriggerSpec, lang: str) -> str:
    said = _own_words(spec, lang)
    if said is None:
        said = f"{spec.kind} {msgspec.json.encode(spec.fields, order='deterministic').decode()}"
    return said


def _own_words(spec: TriggerSpec, lang: str) -> str | None:
    """Return what the kind says of its fields, None where it says nothing or cannot be asked."""
    try:
        of = kind_of(spec.kind)
        return None if of.words is None else of.words(spec.fields, lang)
    except Exception:  # noqa: BLE001 - a listing has to show what nobody here understands, as it is
        return None


# --- what the kinds of the house share ------------------------------------------------------------------


def listed(items: Sequence[str], lang: str) -> str:
    """Return a list as people say it: ``a, b and c``."""
    if lang == "zh":
        return "、".join(items)
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def every(period: timedelta, lang: str) -> str:
    """Return a period as people say it: ``every 15 minutes``."""
    if period == timedelta(days=1):
        return "每24小时" if lang == "zh" else "every 24 hours"
    said = length(period, lang)
    if lang == "zh":
        return "每" + (said[1:] if said in ("1小时", "1分钟", "1秒") else said)
    return "every " + (said[2:] if said in ("1 hour", "1 minute", "1 second") else said)


def each(count: int, unit: str, sign: str, lang: str) -> str:
    """Return what comes every so many units of a calendar: ``every month``, ``every 2 weeks``."""
    if lang == "zh":
        return f"每{sign.removeprefix('个')}" if count == 1 else f"每{count}{sign}"
    return f"every {unit}" if count == 1 else f"every {count} {unit}s"


def length(duration: timedelta, lang: str) -> str:
    """Return a duration as people say it: ``1 hour 30 minutes``."""
    parts, rest = [], duration
    for unit, name, sign in _UNITS:
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{sign}" if lang == "zh" else f"{count} {name}{'s' * (count != 1)}")
    if rest or not parts:
        seconds = f"{rest / timedelta(seconds=1):.6f}".rstrip("0").rstrip(".")
        parts.append(f"{seconds}秒" if lang == "zh" else f"{seconds} second{'s' * (seconds != '1')}")
    return ("" if lang == "zh" else " ").join(parts)


def in_zone(zone: Json, lang: str) -> str:
    """Return what is said after a wall time: in which zone it is meant."""
    return f"({zone or 'UTC'})" if lang == "zh" else f", {zone or 'UTC'}"
