"""Durations as people type them, in a command, a variable or a manifest: ``90``, ``10m``, ``1h30m``."""

import re
from datetime import timedelta

from onebeat.core.errors import InvalidInput, shown

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")


def duration(text: str) -> timedelta:
    """Return the duration that a person wrote: 90, 90s, 1h30m, 250ms, 2d."""
    parts = DURATION.findall(text.replace(" ", ""))
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise InvalidInput(f"{shown(text)} is no duration; write 90s, 10m, 1h30m, 250ms or 2d")
    if len(parts) > 1 and not all(unit for _, unit in parts):
        raise InvalidInput(f"{shown(text)} has a number without a unit; write 1h30m")
    try:
        return sum(
            (timedelta(seconds=float(number) * UNITS[unit or "s"]) for number, unit in parts), timedelta(0)
        )
    except OverflowError:
        raise InvalidInput(f"{shown(text)} is longer than anything lasts") from None


def span(duration: timedelta | None) -> str:
    """Return a duration as it may be typed: 1h30m."""
    if duration is None:
        return "none"
    rest, parts = duration, []
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if rest >= length:
            parts.append(f"{rest // length}{unit}")
            rest %= length
    seconds = rest.total_seconds()
    return "".join(parts) + (f"{seconds:g}s" if seconds or not parts else "")
