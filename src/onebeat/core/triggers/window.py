"""Windows: hours of the day, on some days of the week. They hold every microsecond of such hours.

What they are for is ``trigger & window(…)`` and ``trigger - window(…)``, which a spec also says as
``.within(window)`` and ``.outside(window)``.
"""

import re

import msgspec

from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers.cronfields import read_weekdays
from onebeat.core.triggers.cronwords import clock, weekday_words
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.spans import SpanTrigger, Stretch, every_week, span_trigger
from onebeat.core.triggers.words import in_zone

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?|24:00")


class WindowFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``window``. Without ``days``, every day."""

    start: str
    end: str
    days: str | None = None
    zone: str | None = None


def window(start: str, end: str, *, days: str | None = None, zone: str | None = None) -> TriggerSpec:
    """Return the window of these hours: every microsecond from ``start`` to right before ``end``.

    ``start`` and ``end`` are times of the clock on the wall, ``"09:00"`` or ``"09:00:30"``; ``"24:00"`` is
    the end of a day. An end that is not later lies on the next day. ``days`` are the days of the week on
    which it begins, as in cron: ``"MON-FRI"``.

    Raises InvalidTrigger for what is no time of day, no days of the week, or a window of no length.
    """
    given = {"start": start, "end": end, "days": days, "zone": zone}
    spec = TriggerSpec(
        kind="window", fields={name: value for name, value in given.items() if value is not None}
    )
    build(spec)
    return spec


def _second(name: str, text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None or (name == "start" and text == "24:00"):
        advice = "midnight is '00:00'" if match else "write hours and minutes, '09:00' to '23:59'"
        also = "" if name == "start" else ", or '24:00' for the end of a day"
        near = f"; did you mean '0{text}'?" if _TIME.fullmatch(f"0{text}") else ""
        raise InvalidTrigger(f"{name}={shown(text, 20)} is no time of day; {advice}{also}{near}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups(default="0"))
    return DAY if text == "24:00" else hours * 3600 + minutes * 60 + seconds


def _words(fields: Fields, lang: str) -> str:
    given = read_fields("window", fields, WindowFields)
    hours = ["24:00" if each == "24:00" else clock(_second("", each)) for each in (given.start, given.end)]
    days = "" if given.days is None else weekday_words(read_weekdays(given.days), lang)
    if lang == "zh":
        return f"{days or '每天'} {hours[0]}至{hours[1]}" + in_zone(given.zone, lang)
    return f"{hours[0]} to {hours[1]}, {days or 'every day'}" + in_zone(given.zone, lang)


@kind("window", shape=WindowFields, zoned=True, words=_words)
def _build(fields: Fields) -> SpanTrigger:
    given = read_fields("window", fields, WindowFields)
    begin, end = _second("start", given.start), _second("end", given.end)
    if begin == end:
        raise InvalidTrigger(
            f"a window from {given.start} to {given.end} has no length; for a whole day write '00:00' to "
            "'24:00'"
        )
    week = frozenset(range(7)) if given.days is None else read_weekdays(given.days)
    return span_trigger(Stretch(every_week(week), begin, (end - begin - 1) % DAY + 1), given.zone)
