"""What a trigger means, by somebody else's reading: cronsim for cron, sums.py for the rest.

What fired is never held against our own triggers, for both could be wrong in the same way. The readings are
compared elsewhere (tests/core/triggers/oracles.py names where they differ, and why); what cronsim cannot say
as we do is refused here rather than guessed.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from onebeat.core.errors import InvalidInput, MissingExtra, shown
from onebeat.core.model import TriggerSpec
from onebeat.testing.sums import SECOND, Fields, instants, micros, moment

REMEMBERED_MAX = 256
"""Cron expressions whose occurrences are kept: many schedules share one."""


class Oracle:
    """Knows the occurrences of triggers in (after, until], in whole microseconds since 1970."""

    def __init__(self, after: datetime, until: datetime) -> None:
        self._low, self._high = micros(after), micros(until)
        self._crons: OrderedDict[tuple[str, str], list[int]] = OrderedDict()

    def between(self, spec: TriggerSpec, low: int, high: int) -> list[int]:
        """Return the occurrences in (low, high], as far as that lies in what the oracle looks at.

        Raises:
            InvalidInput: neither cronsim nor a sum can say what this trigger means.
            MissingExtra: cronsim is not installed.

        """
        low, high = max(low, self._low), min(high, self._high)
        try:
            return list(instants(spec.kind, spec.fields, low, high, self._cron)) if low < high else []
        except ValueError as error:
            raise InvalidInput(
                f"no oracle knows {shown(spec.fields)} of kind {spec.kind}: {error}"
            ) from error

    def _cron(self, fields: Fields, low: int, high: int) -> Iterator[int]:
        if odd := fields.keys() - {"expression", "zone"}:
            raise InvalidInput(f"no oracle knows {', '.join(sorted(odd))} of a cron expression; leave it out")
        key = fields["expression"], fields.get("zone") or "UTC"
        if (found := self._crons.get(key)) is None:
            found = self._crons[key] = _asked(*key, self._low, self._high)
            if len(self._crons) > REMEMBERED_MAX:
                self._crons.popitem(last=False)
        self._crons.move_to_end(key)
        return iter(found[bisect_right(found, low) : bisect_right(found, high)])


def _asked(expression: str, zone: str, low: int, high: int) -> list[int]:
    """Return the occurrences in (low, high] by cronsim."""
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415  # an extra: whoever brings no cron needs none
    except ImportError as error:
        raise MissingExtra(
            "judging cron schedules needs cronsim, which is not here: pip install 'onebeat[testing]'"
        ) from error
    found: list[int] = []
    try:
        # It answers with whole seconds later than the one that it is given.
        for at in CronSim(expression, moment(low // SECOND * SECOND).astimezone(ZoneInfo(zone))):
            if (instant := micros(at)) > high:
                break
            if instant > low:
                found.append(instant)
    except CronSimError as error:
        raise InvalidInput(f"cronsim cannot read {shown(expression)}: {error}") from error
    return found
