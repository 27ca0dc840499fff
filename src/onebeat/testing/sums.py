"""What should come when, by sums that a child can check.

The outside evidence of the lab: it shares no code with onebeat.core.triggers, and knows only the kinds that
the simulator draws. Whole microseconds since 1970 throughout. For cron expressions that are beyond a sum,
oracle.py asks somebody else.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from onebeat.core.model import Json, TriggerSpec

SECOND = 1_000_000
MINUTE = 60 * SECOND
ZERO = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)

Fields: TypeAlias = dict[str, Json]
Cron: TypeAlias = Callable[[Fields, int, int], Iterator[int]]


def expected(spec: TriggerSpec, after: datetime, until: datetime) -> list[datetime]:
    """Return the occurrences of a trigger in (after, until]. Raises ValueError for an unknown kind."""
    return [moment(at) for at in instants(spec.kind, spec.fields, micros(after), micros(until))]


def micros(at: datetime) -> int:
    """Return the whole microseconds since 1970."""
    return (at - ZERO) // TICK


def moment(at: int) -> datetime:
    """Return the instant of so many microseconds since 1970."""
    return ZERO + timedelta(0, 0, at)


def instants(kind: str, fields: Fields, low: int, high: int, cron: Cron | None = None) -> Iterator[int]:
    """Go through the occurrences in (low, high]. ``cron`` says what a cron expression means.

    Without it, only those are known that name seconds of each minute. Raises ValueError for the others.
    """
    match kind:
        case "once":
            instant = _whole(fields["at"])
            if low < instant <= high:
                yield instant
        case "interval":
            anchor, period = _whole(fields["anchor_at"]), round(fields["period_s"] * SECOND)
            yield from range(anchor + max(0, (low - anchor) // period + 1) * period, high + 1, period)
        case "cron":
            yield from (cron or _each_minute)(fields, low, high)
        case "union":
            yield from sorted({instant for part in fields["of"] for instant in _part(part, low, high, cron)})
        case "intersection":
            parts = [set(_part(part, low, high, cron)) for part in fields["of"]]
            yield from sorted(set.intersection(*parts))
        case "except":
            without = set(_part(fields["without"], low, high, cron))
            yield from (instant for instant in _part(fields["of"], low, high, cron) if instant not in without)
        case "between":
            low = max(low, _whole(fields["start_at"]) - 1) if "start_at" in fields else low
            high = min(high, _whole(fields["end_at"])) if "end_at" in fields else high
            yield from _part(fields["of"], low, high, cron)
        case _:
            raise ValueError(f"nobody has written the sum for a trigger of kind {kind!r}")


def _part(part: Json, low: int, high: int, cron: Cron | None) -> Iterator[int]:
    return instants(part["kind"], part["fields"], low, high, cron)


def _each_minute(fields: Fields, low: int, high: int) -> Iterator[int]:
    seconds = _seconds(fields["expression"])
    for minute in range(low // MINUTE * MINUTE, high + 1, MINUTE):
        yield from (at for second in seconds if low < (at := minute + second * SECOND) <= high)


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
