"""Recurrence rules of RFC 5545, on the clock of a zone.

rrulefields.py reads the text, rruledays.py and rruletimes.py say when it comes, walltime.py knows the clock,
rruleexport.py writes rules. ``DTSTART`` is the field ``start``: what a rule counts from, and takes from it
what it does not say itself. It is an occurrence only if the rule means it.
"""

from bisect import bisect_right
from datetime import date, datetime
from typing import Literal

import msgspec

from onebeat.core.errors import InvalidTrigger, shown
from onebeat.core.model import TriggerSpec, instant_text
from onebeat.core.triggers.instants import DAY, SECOND_MAX, SECOND_MIN
from onebeat.core.triggers.interval import RelativeTrigger
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.rrulefields import BELOW_DAYS, Rule, Time, read_block, read_rule, read_time
from onebeat.core.triggers.rruletimes import Recurrence
from onebeat.core.triggers.rrulewords import rrule_words
from onebeat.core.triggers.wall import UNIVERSAL, WallTrigger
from onebeat.core.triggers.walltime import Fold, Gap, checked_zone, offsets, wall_clock, zone


class RRuleFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``rrule``. Without ``start`` it is relative, until ``anchored``.

    ``start``, ``rdates`` and ``exdates`` are local times such as ``2026-11-22T09:00:00``, or instants with Z.
    """

    rule: str
    start: str | None = None
    zone: str | None = None
    rdates: list[str] = []
    exdates: list[str] = []
    gap: Gap | None = None
    fold: Fold | None = None


def rrule(
    text: str,
    *,
    start: date | str | None = None,
    zone: str | None = None,
    gap: Literal["shift", "skip"] | None = None,
    fold: Literal["first", "second", "both"] | None = None,
) -> TriggerSpec:
    """Return the trigger of a recurrence rule of RFC 5545, such as ``FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9``.

    ``text`` may also be the lines DTSTART, RRULE, RDATE and EXDATE of a calendar file. ``start`` is DTSTART:
    a datetime without a zone is a local time, one with a zone is an instant. By default it is the instant of
    the declaration, in whole seconds. ``zone`` is an IANA name, by default that of the app. ``gap`` and
    ``fold`` say what happens where the clock is put forward and back; by default rules of hours, minutes and
    seconds follow real time, and others are as fixed times of a cron expression.

    Raises:
        InvalidTrigger: the rule cannot be understood, is forbidden by RFC 5545, or never comes.
        LimitExceeded: the rule is longer than 2,000 characters.

    """
    if not isinstance(text, str):
        raise InvalidTrigger(f"rrule {shown(text)} is no text; write 'FREQ=DAILY;BYHOUR=9'")
    block = read_block(text)
    if start is not None and block.start is not None:
        raise InvalidTrigger(f"start={start} is given beside DTSTART {block.start}; give one of them")
    if zone is not None and block.zone is not None and zone != block.zone:
        raise InvalidTrigger(
            f"zone={zone!r} is given beside a DTSTART in {block.zone}; leave it out, or mend the DTSTART"
        )
    given = {
        "start": block.start if start is None else _start_text(start),
        "zone": zone or block.zone,
        "rdates": block.rdates or None,
        "exdates": block.exdates or None,
        "gap": gap,
        "fold": fold,
    }
    fields: Fields = {"rule": block.rule}
    spec = TriggerSpec(
        kind="rrule", fields=fields | {name: value for name, value in given.items() if value is not None}
    )
    build(spec)
    return spec


def _start_text(start: date | str) -> str:
    if isinstance(start, datetime):
        if start.microsecond:
            raise InvalidTrigger(
                f"start={start.isoformat()} has a fraction of a second, and rules count whole seconds; "
                "write start.replace(microsecond=0)"
            )
        return start.isoformat() if start.tzinfo is None else instant_text(start)
    return read_time(start, "start").text() if isinstance(start, str) else start.isoformat()


def _anchor(fields: Fields, cut: datetime) -> Fields:
    """Fill in what the clock on the wall shows at the cut, as a local time."""
    if fields.get("start") is not None:
        return fields
    local = cut.astimezone(zone(fields.get("zone") or "UTC")).replace(microsecond=0, tzinfo=None)
    return {**fields, "start": local.isoformat()}


@kind("rrule", shape=RRuleFields, zoned=True, anchor=_anchor, words=rrule_words)
def _build(fields: Fields) -> WallTrigger | RelativeTrigger:
    given = read_fields("rrule", fields, RRuleFields)
    rule, name = read_rule(given.rule), checked_zone(given.zone or "UTC")
    below = rule.freq in BELOW_DAYS
    gap = given.gap or (Gap.SKIP if below else Gap.SHIFT)
    fold = given.fold or (Fold.BOTH if below else Fold.FIRST)
    if given.start is None:
        if rule.until is not None and rule.until.day:
            _refuse_date_until(rule)
        return RelativeTrigger("a recurrence rule without a start", zoned=name not in UNIVERSAL)
    start = read_time(given.start, "start")
    if rule.until is not None and rule.until.day and not start.day:
        _refuse_date_until(rule)
    recurrence = Recurrence(
        rule,
        _local(start, name, "start"),
        _last_local(rule),
        {_local(read_time(each, "rdates"), name, "rdates") for each in given.rdates},
        {_local(read_time(each, "exdates"), name, "exdates") for each in given.exdates},
    )
    until = rule.until
    last = min(until.second, SECOND_MAX) if until is not None and until.utc else SECOND_MAX
    trigger = WallTrigger(recurrence, wall_clock(name, gap, fold), last)
    first = trigger.clock.after(recurrence, SECOND_MIN - DAY)
    if first is None or first > last:
        raise InvalidTrigger(
            f"rrule {shown(given.rule)} never comes from {given.start} on: its parts leave nothing over; "
            "check them, the start and UNTIL"
        )
    return trigger


def _refuse_date_until(rule: Rule) -> None:
    assert rule.until is not None
    day = rule.until.text().replace("-", "")
    raise InvalidTrigger(
        f"UNTIL={day} is a date, and the rule starts at a time of day, so whether that day is in it is not "
        f"said; write UNTIL={day}T235959, or a start that is a date"
    )


def _last_local(rule: Rule) -> int | None:
    """Return the last local second of UNTIL, where it is local; a date is there to its end."""
    if rule.until is None or rule.until.utc:
        return None
    return rule.until.second + (DAY - 1 if rule.until.day else 0)


def _local(time: Time, name: str, what: str) -> int:
    """Return the local second of a time; of an instant, the one that the clock on the wall shows then."""
    if not time.utc:
        return time.second
    zone_offsets = offsets(name)
    local = time.second + zone_offsets.offset[bisect_right(zone_offsets.since, time.second) - 1]
    if what != "start" and _shown_twice(local, name):
        raise InvalidTrigger(
            f"{what} {time.text()} is in an hour that the clock of {name} shows twice, so a local time "
            "cannot tell which is meant; write the local time, or add or subtract once() instead"
        )
    return local


def _shown_twice(local: int, name: str) -> bool:
    zone_offsets = offsets(name)
    return (
        sum(
            since <= local - offset < until
            for since, until, offset in zip(
                zone_offsets.since,
                [*zone_offsets.since[1:], 1 << 60],
                zone_offsets.offset,
                strict=True,
            )
        )
        > 1
    )
