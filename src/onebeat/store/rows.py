"""Rows and nouns: how each noun lies in its table, column by column.

Written out by hand, because every fire passes here; only documents go through the codec. A document that no
longer decodes (somebody edited it) never raises here: its place is taken by a stand-in, and the reason is
told beside it, so that one bad row cannot hide its neighbours.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias, TypeVar

import msgspec

from onebeat.core.codec import definition_from, from_text, policy_from, to_text, trigger_from
from onebeat.core.errors import OnebeatError
from onebeat.core.messages import Change, Hold
from onebeat.core.model import (
    EPOCH,
    MICROSECOND,
    Definition,
    Json,
    Node,
    Policy,
    Schedule,
    Target,
    TriggerSpec,
    micros,
)
from onebeat.store.dialects.protocol import Cell, Row

BROKEN_TRIGGER = TriggerSpec(kind="broken")
BROKEN_TARGET = Target(kind="broken", address="")
NO_POLICY = Policy()

PAUSED, QUARANTINED, DELETED = 1, 2, 4
"""The bits of ``dormant``."""

Skips: TypeAlias = tuple[datetime, ...]
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_target_of = msgspec.json.Decoder(Target).decode
_texts_of = msgspec.json.Decoder(tuple[str, ...]).decode
_settings_of = msgspec.json.Decoder(dict[str, str]).decode
_instants_of = msgspec.json.Decoder(tuple[int, ...]).decode
_json_of = msgspec.json.Decoder().decode
_UNREADABLE = (OnebeatError, msgspec.MsgspecError, ValueError, TypeError, OverflowError)


# --- cells ------------------------------------------------------------------------------------------

# A batch holds the same instants again and again: a thousand schedules are due at the same full minute.
micros_of = lru_cache(maxsize=4096)(micros)


FIRST, LAST = micros(datetime.min.replace(tzinfo=UTC)), micros(datetime.max.replace(tzinfo=UTC))


@lru_cache(maxsize=4096)
def instant_of(count: int) -> datetime:
    """Return the instant of a cell; what a hand put beyond all years becomes the first or the last one."""
    return EPOCH + min(max(count, FIRST), LAST) * MICROSECOND


def micros_or_none(instant: datetime | None) -> int | None:
    """Return the cell of an instant that may be missing."""
    return None if instant is None else micros_of(instant)


def instant_or_none(count: int | None) -> datetime | None:
    """Return the instant of a cell that may be NULL."""
    return None if count is None else instant_of(count)


def json_text(value: Json) -> str | None:
    """Return plain JSON data as the text of a cell, None for None."""
    return None if value is None else _encode(value).decode()


def json_of(text: str | None) -> Json:
    """Return the data of a cell. Raises msgspec.MsgspecError for what is no JSON."""
    return None if text is None else _json_of(text)


def texts_text(texts: tuple[str, ...]) -> str:
    """Return a list of texts as the text of a cell."""
    return _encode(texts).decode()


def skips_text(skips: tuple[datetime, ...]) -> str | None:
    """Return a skip list as the text of a cell: most rows have none."""
    return _encode([micros_of(skip) for skip in skips]).decode() if skips else None


def skips_of(text: str) -> Skips:
    """Return the skip list of a cell."""
    return tuple(instant_of(count) for count in _instants_of(text))


def dormant_of(schedule: Schedule) -> int:
    """Return why occurrences are owed but not decided, as bits; 0 for a schedule that is awake."""
    return (
        (PAUSED if schedule.paused is not None else 0)
        | (QUARANTINED if schedule.quarantined is not None else 0)
        | (DELETED if schedule.deleted else 0)
    )


# --- definitions ------------------------------------------------------------------------------------

DEFINITION_COLUMNS = "d.trigger, d.policy, d.title, d.tags, d.target"


def definition_cells(definition: Definition) -> tuple[Cell, ...]:
    """Return the cells of DEFINITION_COLUMNS."""
    return (
        to_text(definition.trigger),
        to_text(definition.policy),
        definition.title,
        texts_text(definition.tags),
        to_text(definition.target),
    )


def definition_of(row: Row) -> tuple[Definition, str]:
    """Return the definition of DEFINITION_COLUMNS and "", or one with stand-ins and what is wrong."""
    trigger, policy, title, tags, target = row
    try:
        definition = Definition(
            trigger=trigger_from(trigger),
            policy=policy_from(policy),
            title=title,
            tags=() if tags == "[]" else _texts_of(tags),
            target=_target_of(target),
        )
    except _UNREADABLE:
        return _mended(row)
    return definition, ""


def _mended(row: Row) -> tuple[Definition, str]:
    wrong: list[str] = []
    definition = Definition(
        trigger=_decoded("trigger", row[0], trigger_from, BROKEN_TRIGGER, wrong),
        policy=_decoded("policy", row[1], policy_from, NO_POLICY, wrong),
        title=row[2] or "",
        tags=_decoded("list of tags", row[3], _texts_of, (), wrong),
        target=_decoded("target", row[4], _target_of, BROKEN_TARGET, wrong),
    )
    return definition, "; ".join(wrong)


def tags_of(text: str | None) -> tuple[str, ...]:
    """Return the tags of a definition, none where they do not decode."""
    return _decoded("list of tags", text, _texts_of, (), [])


def is_once(text: str | None) -> bool:
    """Return whether a trigger is a one-off."""
    return _decoded("trigger", text, trigger_from, BROKEN_TRIGGER, []).kind == "once"


def owing_documents(trigger: str, policy: str, skips: str | None) -> tuple[TriggerSpec, Policy, Skips] | None:
    """Return what deciding needs of a row's documents; None where one does not decode."""
    try:
        return trigger_from(trigger), policy_from(policy), skips_of(skips) if skips else ()
    except _UNREADABLE:
        return None


def policy_of(text: str | None) -> Policy:
    """Return a policy, or the one with every default where it does not decode."""
    return _decoded("policy", text, policy_from, NO_POLICY, [])


def _decoded(what: str, text: str | None, decode: Callable[[str], T], stand_in: T, wrong: list[str]) -> T:
    if text is None:
        wrong.append(f"its {what} is missing")
        return stand_in
    try:
        return decode(text)
    except _UNREADABLE as error:
        wrong.append(f"its {what} does not decode: {error}")
        return stand_in


# --- schedules --------------------------------------------------------------------------------------

SCHEDULE_COLUMNS = f"""s.id, s.name, s.incarnation, s.version, s.number, s.settled_until, s.next_at, s.skips,
    c.cut_at, c.paused, c.quarantined, c.deleted, c.owner, c.revision, c.tz_version, c.created_at, c.applied,
    {DEFINITION_COLUMNS}"""
CHANGED_SCHEDULE_COLUMNS = f"""c.schedule_id, c.schedule, c.incarnation, c.version, d.number, c.settled_until,
    c.next_at, c.skips, c.cut_at, c.paused, c.quarantined, c.deleted, c.owner, c.revision, c.tz_version,
    c.created_at, c.applied, {DEFINITION_COLUMNS}"""
"""The same of a row as it was committed once, from the trail alone."""


def schedule_of(row: Row) -> tuple[Schedule, str]:
    """Return the schedule of SCHEDULE_COLUMNS and "", or one set aside, and what is wrong with its row."""
    definition, what = definition_of(row[17:22])
    wrong = [what] if what else []
    quarantined = row[10]
    skips: Skips = _decoded("skip list", row[7] or "[]", skips_of, (), wrong)
    applied = None if row[16] is None else _decoded("applied definition", row[16], _applied_of, None, wrong)
    settled_until = _instant("settled_until", row[5], wrong)
    next_at = None if row[6] is None else _instant("next_at", row[6], wrong)
    if row[8] is None:
        wrong.append("its last change is missing")
    wrong_text = "; ".join(wrong)
    schedule = Schedule(
        id=row[0],
        name=row[1],
        incarnation=row[2],
        version=row[3],
        number=row[4] or 0,
        definition=definition,
        settled_until=settled_until,
        next_at=next_at,
        cut_at=_instant("cut_at", row[8] or 0, wrong),
        paused=row[9],
        quarantined=(wrong_text or None) if quarantined is None else quarantined,
        deleted=bool(row[11]),
        skips=skips,
        owner=row[12] or "",
        revision=row[13] or 0,
        applied=applied,
        tz_version=row[14] or "",
        created_at=_instant("created_at", row[15] or 0, wrong),
    )
    return schedule, wrong_text


def _applied_of(text: str) -> Definition | None:
    return definition_from(text)


def _instant(what: str, count: int, wrong: list[str]) -> datetime:
    if not FIRST <= count <= LAST:
        wrong.append(f"its {what} is no instant: {count}")
    return instant_of(count)


CHANGE_COLUMNS = f"""c.edit_id, c.schedule_id, c.schedule, c.incarnation, c.version, d.number, c.action,
    c.actor, c.reason, c.cut_at, c.boundary_at, c.committed_at, c.settled_until, c.paused, c.deleted,
    c.tz_version, {DEFINITION_COLUMNS}"""


def change_of(row: Row) -> Change:
    """Return the entry of the trail of CHANGE_COLUMNS."""
    return Change(
        edit_id=row[0],
        schedule_id=row[1],
        schedule=row[2],
        incarnation=row[3],
        version=row[4],
        number=row[5] or 0,
        action=row[6],
        actor=row[7],
        reason=row[8],
        cut_at=instant_of(row[9]),
        boundary_at=instant_of(row[10]),
        committed_at=instant_of(row[11]),
        settled_until=instant_of(row[12]),
        paused=row[13] is not None,
        deleted=bool(row[14]),
        tz_version=row[15],
        definition=definition_of(row[16:21])[0],
    )


# --- nodes and holds --------------------------------------------------------------------------------

NODE_COLUMNS = """id, host, pid, roles, queues, targets, version, tz_version, started_at, seen_at,
    alive_until, stopping, settings"""


def node_cells(node: Node) -> tuple[Cell, ...]:
    """Return the cells of NODE_COLUMNS."""
    return (
        node.id,
        node.host,
        node.pid,
        texts_text(node.roles),
        texts_text(node.queues),
        texts_text(node.targets),
        node.version,
        node.tz_version,
        micros_of(node.started_at),
        micros_of(node.seen_at),
        micros_of(node.alive_until),
        int(node.stopping),
        to_text(node.settings),
    )


def node_of(row: Row) -> Node:
    """Return the node of NODE_COLUMNS; a list that does not decode is empty."""
    wrong: list[str] = []
    return Node(
        id=row[0],
        host=row[1],
        pid=row[2],
        roles=_decoded("list of roles", row[3], _texts_of, (), wrong),
        queues=_decoded("list of queues", row[4], _texts_of, (), wrong),
        targets=_decoded("list of targets", row[5], _texts_of, (), wrong),
        version=row[6],
        tz_version=row[7],
        started_at=instant_of(row[8]),
        seen_at=instant_of(row[9]),
        alive_until=instant_of(row[10]),
        stopping=bool(row[11]),
        settings=_decoded("list of settings", row[12] or "{}", _settings_of, {}, wrong),
    )


def hold_text(hold: Hold | None) -> str | None:
    """Return a hold as the text of a cell."""
    return None if hold is None else to_text(hold)


def hold_of(text: str | None) -> Hold | None:
    """Return the hold of a cell. Raises BrokenDocument: a hold that cannot be read is not no hold."""
    return None if text is None else from_text(text, Hold)
