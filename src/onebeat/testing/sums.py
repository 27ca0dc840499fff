"""What should come when, by sums that a child can check.

The outside evidence of the lab: it shares no code with onebeat.core.triggers, and knows only the kinds that
the simulator draws. Whole microseconds since 1970 throughout.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from onebeat.core.model import Json, TriggerSpec

SECOND = 1_000_000
MINUTE = 60 * SECOND
ZERO = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def expected(spec: TriggerSpec, after: datetime, until: datetime) -> list[datetime]:
    """Return the occurrences of a trigger in (after, until]. Raises ValueError for an unknown kind."""
    low, high = (after - ZERO) // TICK, (until - ZERO) // TICK
    return [ZERO + timedelta(0, 0, instant) for instant in _instants(spec.kind, spec.fields, low, high)]


def _instants(kind: str, fields: dict[str, Json], low: int, high: int) -> Iterator[int]:
    match kind:
        case "once":
            instant = _whole(fields["at"])
            if low < instant <= high:
                yield instant
        case "interval":
            anchor, period = _whole(fields["anchor_at"]), round(fields["period_s"] * SECOND)
            yield from range(anchor + max(0, (low - anchor) // period + 1) * period, high + 1, period)
        case "cron":
            seconds = _seconds(fields["expression"])
            for minute in range(low // MINUTE * MINUTE, high + 1, MINUTE):
                yield from (at for second in seconds if low < (at := minute + second * SECOND) <= high)
        case "union":
            yield from sorted({instant for part in fields["of"] for instant in _part(part, low, high)})
        case "except":
            without = set(_part(fields["without"], low, high))
            yield from (instant for instant in _part(fields["of"], low, high) if instant not in without)
        case "between":
            low = max(low, _whole(fields["start_at"]) - 1) if "start_at" in fields else low
            high = min(high, _whole(fields["end_at"])) if "end_at" in fields else high
            yield from _part(fields["of"], low, high)
        case _:
            raise ValueError(f"nobody has written the sum for a trigger of kind {kind!r}")


def _part(part: Json, low: int, high: int) -> Iterator[int]:
    return _instants(part["kind"], part["fields"], low, high)


def _seconds(expression: str) -> list[int]:
    """Return the seconds within each minute of ``S * * * * *``, S being ``*/n`` or a list of numbers."""
    field, *others = expression.split()
    if others != ["*"] * 5:
        raise ValueError(f"nobody has written the sum for {expression!r}")
    if field.startswith("*/"):
        return list(range(0, 60, int(field[2:])))
    return sorted(int(second) for second in field.split(","))


def _whole(text: str) -> int:
    return (datetime.fromisoformat(text) - ZERO) // TICK
