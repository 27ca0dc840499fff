"""Cron: instants of the wall clock, in a zone. cronfields.py reads the text, walltime.py the clock."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import msgspec

from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers.cronfields import has_slot, read_cron
from onebeat.core.triggers.cronwords import cron_words
from onebeat.core.triggers.instants import DAY, FULL_DAY, at_second, second_after, second_before
from onebeat.core.triggers.interval import RelativeTrigger
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.times import Calendar
from onebeat.core.triggers.wall import UNIVERSAL
from onebeat.core.triggers.walltime import Fold, Gap, WallClock, wall_clock

Days = Literal["any", "all"]

REMEMBERED_MAX = 8
"""Answers that an expression keeps: thousands of schedules share one, and are due together."""


class CronFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``cron``. An absent zone is UTC, unless ``with_zone`` fills in another."""

    expression: str
    zone: str | None = None
    days: Days = "any"
    gap: Gap | None = None
    fold: Fold | None = None
    slot: str | None = None


def cron(
    expression: str,
    *,
    zone: str | None = None,
    days: Days = "any",
    gap: Literal["shift", "skip"] | None = None,
    fold: Literal["first", "second", "both"] | None = None,
    slot: str | None = None,
) -> TriggerSpec:
    """Return the trigger of a cron expression: five fields, six with seconds first, or a macro.

    ``zone`` is an IANA name, by default that of the app. ``days="all"`` asks a day to satisfy both day
    fields. ``gap`` and ``fold`` say what happens where the clock is put forward and back; by default as
    crontab(5) does. ``slot`` is the name that an ``H`` in the expression hangs on, by default that of the
    schedule.

    Raises:
        InvalidTrigger: the expression cannot be understood or never comes; the message says what to write.
        LimitExceeded: the text is longer than 1,000 characters.

    """
    if not isinstance(expression, str):
        raise InvalidTrigger(f"cron expression {shown(expression)} is no text; write '0 9 * * MON-FRI'")
    if slot is not None and not has_slot(expression):
        raise InvalidTrigger(
            f"slot={shown(slot, 40)} has no effect on {shown(expression)}, for there is no H in it; write "
            "one, as in 'H 9 * * *', or leave slot= out"
        )
    given = {"zone": zone, "days": None if days == "any" else days, "gap": gap, "fold": fold, "slot": slot}
    fields = {"expression": expression.strip(" \t")}
    spec = TriggerSpec(
        kind="cron", fields=fields | {name: value for name, value in given.items() if value is not None}
    )
    build(spec)
    return spec


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """The occurrences of a cron expression in a zone. Whole seconds, all of them."""

    calendar: Calendar
    clock: WallClock
    zoned: bool
    late_start: bool = False
    gridded: bool = True
    whole: bool = True
    _shown: dict[tuple[int, bool, bool], int] = field(default_factory=dict, compare=False, repr=False)
    _next: dict[int, datetime | None] = field(default_factory=dict, compare=False, repr=False)

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``."""
        second = second_after(t)
        try:
            return self._next[second]
        except KeyError:
            found = at_second(self.clock.after(self.calendar, second))
        if len(self._next) >= REMEMBERED_MAX:
            self._next.clear()
        self._next[second] = found
        return found

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``."""
        return at_second(self.clock.before(self.calendar, second_before(t)))

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]; costs microseconds a change of the clock."""
        return self.clock.number(self.calendar, second_after(after), second_after(until))

    def bits(self, day: int) -> int:
        """Return the occurrences of a UTC day as a bit set, one bit a second."""
        offset = self.clock.steady(day)
        if offset is None:
            return self.clock.bits(self.calendar, day)
        # Two local days make up the UTC day, and but a few different pairs of them ever occur in a zone.
        local, past = divmod(day * DAY + offset, DAY)
        days, times = self.calendar.days, self.calendar.times
        key = past, local in days, past > 0 and local + 1 in days
        found = self._shown.get(key)
        if found is None:
            found = times.bits >> past if key[1] else 0
            found |= times.bits << (DAY - past) & FULL_DAY if key[2] else 0
            self._shown[key] = found
        return found


def _with_slot(fields: Fields, name: str) -> Fields:
    if fields.get("slot") is not None or not has_slot(fields["expression"]):
        return fields
    return {**fields, "slot": name}


@kind("cron", shape=CronFields, zoned=True, naming=_with_slot, words=cron_words)
def _build(fields: Fields) -> CronTrigger | RelativeTrigger:
    given = read_fields("cron", fields, CronFields)
    read = read_cron(given.expression, all_days=given.days == "all", slot=given.slot)
    gap = given.gap or (Gap.SKIP if read.wild else Gap.SHIFT)
    fold = given.fold or (Fold.BOTH if read.wild else Fold.FIRST)
    zone = given.zone or "UTC"
    clock = wall_clock(zone, gap, fold)
    if given.slot is None and has_slot(given.expression):
        return RelativeTrigger(
            f"the H in {shown(given.expression)}",
            zoned=zone not in UNIVERSAL,
            why="stands for a slot that hangs on the name of its schedule, so it holds no instant yet; "
            "preview the schedule by its name, or say whose slot it is: cron(…, slot='report')",
        )
    return CronTrigger(Calendar(read.days, read.times), clock, zone not in UNIVERSAL)
