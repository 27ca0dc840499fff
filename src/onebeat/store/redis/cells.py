"""Nouns and hashes: what a script is given of a noun, and the noun that a hash is.

Every field is a text: instants are whole microseconds, booleans 0 and 1, documents the JSON of the codec; a
field that is missing is None. As everywhere, a document that does not decode never raises here (see rows.py).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from onebeat.core.codec import to_text
from onebeat.core.folds import folds_beside
from onebeat.core.messages import Change, Edit, Tile
from onebeat.core.model import (
    Definition,
    Event,
    Fold,
    Load,
    NewRun,
    Node,
    Outcome,
    Owing,
    Run,
    Schedule,
    Settlement,
    micros,
    shard_of,
)
from onebeat.store.lanes import lane_cells, lane_of
from onebeat.store.rows import (
    DELETED,
    FIRST,
    LAST,
    change_of,
    definition_cells,
    definition_of,
    dormant_of,
    instant_of,
    json_of,
    json_text,
    node_cells,
    node_of,
    owing_documents,
    schedule_of,
    skips_text,
)
from onebeat.store.run_rows import STATES, event_of, event_tile_of, run_tile_of

Hash: TypeAlias = dict[str, str]
Flat: TypeAlias = list[str]

DEFINITION = ("trigger", "policy", "title", "tags", "target")
NODE = (
    "id", "host", "pid", "roles", "queues", "targets", "version", "tz_version", "started_at", "seen_at",
    "alive_until", "stopping", "settings",
)  # fmt: skip


def hash_of(flat: Sequence[str]) -> Hash:
    """Return a hash as it comes over the wire: names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def flat_of(**fields: object) -> Flat:
    """Return names and values in turn, without those that are None."""
    flat: Flat = []
    for name, value in fields.items():
        if value is not None:
            flat += (name, value if isinstance(value, str) else str(value))
    return flat


@lru_cache(maxsize=4096)
def text_of(instant: datetime) -> str:
    """Return an instant as a field."""
    return str(micros(instant))


def text_or_none(instant: datetime | None) -> str | None:
    """Return an instant that may be missing."""
    return None if instant is None else text_of(instant)


def number_of(text: str | Literal[False] | None) -> int | None:
    """Return the number of a field; None where it is missing, or a hand has put something else there."""
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def instant_or_none(text: str | None) -> datetime | None:
    """Return the instant of a field that may be missing."""
    count = number_of(text)
    return None if count is None else instant_of(count)


def instant(text: str | None) -> datetime:
    """Return the instant of a field that is always there."""
    return instant_or_none(text) or instant_of(0)


# --- what settling and putting write ----------------------------------------------------------------


def new_run(new: NewRun, tile: Settlement | None = None) -> list[Any]:
    """Return a run that is about to be created, as the library's ``fire`` takes it."""
    fold = new.fold
    fields: Flat = []
    if new.occurrence_at is not None:
        fields += ("occurrence_at", text_of(new.occurrence_at))
    if tile is not None:
        fields += ("mark_before", text_of(tile.mark_before), "mark_after", text_of(tile.mark_after))
        fields += ("count", str(tile.count))
    if fold is not None:
        fields += ("fold_first_at", text_of(fold.first_at), "fold_last_at", text_of(fold.last_at))
        fields += ("fold_count", str(fold.count))
    if new.key is not None:
        fields += ("key", new.key)
    deadline = new.deadline_at is not None and text_of(new.deadline_at)
    return [new.id, new.state, text_of(new.due_at), text_of(new.ready_at), deadline, *fields]


def tiles(settlements: Iterable[Settlement]) -> list[Any]:
    """Return settlements as ``write_tiles`` takes them."""
    return [new_run(tile.run, tile) if tile.run is not None else _tile(tile) for tile in settlements]


def folds(settlements: Sequence[Settlement]) -> list[list[Any]]:
    """Return what is folded into runs that wait already: each a run, first, last and count."""
    return [
        [run_id, text_of(fold.first_at), text_of(fold.last_at), fold.count]
        for run_id, fold in folds_beside(settlements).items()
    ]


def _tile(tile: Settlement) -> list[Any]:
    fields = flat_of(
        kind="occurrence.skipped" if tile.into is None else "occurrence.folded",
        run_id=tile.into,
        reason=None if tile.reason is None else tile.reason.value,
        mark_before=text_of(tile.mark_before),
        mark_after=text_of(tile.mark_after),
        first_at=text_or_none(tile.first_at),
        last_at=text_or_none(tile.last_at),
        count=tile.count,
    )
    return [None, tile.into, fields]


def event_cells(event: Event) -> list[Any]:
    """Return an event as the library's ``tell`` takes it."""
    fields = flat_of(
        at=text_of(event.at),
        kind=event.kind,
        schedule_id=event.schedule_id,
        schedule=event.schedule,
        run_id=event.run_id,
        actor=event.actor or None,
        reason=event.reason or None,
        mark_before=text_or_none(event.mark_before),
        mark_after=text_or_none(event.mark_after),
        first_at=text_or_none(event.first_at),
        last_at=text_or_none(event.last_at),
        count=event.count,
        data=json_text(event.data) if event.data else None,
    )
    tiled = event.mark_after is not None and event.schedule_id is not None
    schedule_id = None if event.schedule_id is None else str(event.schedule_id)
    return [fields, schedule_id, event.schedule, event.run_id, tiled]


def edit_cells(edit: Edit) -> dict[str, Any]:
    """Return an edit as put.lua takes it: what it expects, and all that it writes."""
    after = edit.after
    next_at, skips = text_or_none(after.next_at), skips_text(after.skips)
    dormant = dormant_of(after)
    return {
        "id": edit.id,
        "name": after.name,
        "expected": str(edit.expected_version),
        "version": str(after.version),
        "entry_id": edit.entry_id,
        "cut_at": text_of(edit.cut_at),
        "boundary_at": text_of(edit.boundary_at),
        "mark": text_of(edit.settlements[-1].mark_after) if edit.settlements else None,
        "shard": str(shard_of(after.name)),
        "number": str(after.number),
        "next_at": next_at,
        "awake": dormant == 0,
        "deleted": after.deleted,
        "paused": after.paused is not None,
        "quarantined": after.quarantined is not None,
        "fires": edit.fires,
        "cancel_older": edit.cancel_older,
        "cancel_waiting": edit.cancel_waiting,
        "tiles": tiles(edit.settlements),
        "folds": folds(edit.settlements),
        "requests": [new_run(new) for new in edit.requests],
        "row": flat_of(
            incarnation=after.incarnation,
            version=after.version,
            settled_until=text_of(after.settled_until),
            next_at=next_at,
            dormant=dormant,
            skips=skips,
            number=after.number,
            cut_at=text_of(after.cut_at),
        ),
        "definition": _definition(after.definition),
        "change": _change(edit, after, next_at, skips),
        "event": flat_of(kind=edit.action, actor=edit.actor or None, reason=edit.reason or None),
    }


def _definition(definition: Definition) -> Flat:
    policy = definition.policy
    queue, key = lane_cells(definition)
    flat = flat_of(
        queue=queue,
        key=key,
        priority=policy.priority,
        max_running=policy.max_running if policy.limited else None,
    )
    for name, cell in zip(DEFINITION, definition_cells(definition), strict=True):
        flat += (name, str(cell))
    return flat


def _change(edit: Edit, after: Schedule, next_at: str | None, skips: str | None) -> Flat:
    return flat_of(
        edit_id=edit.id,
        schedule=after.name,
        incarnation=after.incarnation,
        version=after.version,
        number=after.number,
        action=edit.action,
        actor=edit.actor,
        reason=edit.reason,
        cut_at=text_of(edit.cut_at),
        boundary_at=text_of(edit.boundary_at),
        settled_until=text_of(after.settled_until),
        next_at=next_at,
        paused=after.paused,
        quarantined=after.quarantined,
        deleted=int(after.deleted),
        skips=skips,
        owner=after.owner,
        revision=after.revision,
        applied=None if after.applied is None else to_text(after.applied),
        tz_version=after.tz_version,
        created_at=text_of(after.created_at),
    )


def node_fields(node: Node) -> Flat:
    """Return the fields of a node's row."""
    flat: Flat = []
    for name, cell in zip(NODE, node_cells(node), strict=True):
        flat += (name, str(cell))
    return flat


# --- what a hash is ---------------------------------------------------------------------------------


def definition_from(flat: Sequence[str]) -> tuple[Definition, str]:
    """Return the definition of a hash and "", or one with stand-ins and what is wrong."""
    fields = hash_of(flat)
    return definition_of(tuple(fields.get(name) for name in DEFINITION))


def schedule_from(picture: Sequence[Sequence[str]]) -> tuple[Schedule, str]:
    """Return the schedule of a picture (row, newest change, definition) and "", or what is wrong with it."""
    row, change, definition = map(hash_of, picture)
    light = row or change  # a purged row: what its last change says
    schedule_id = row.get("id") or change.get("schedule_id")
    cells = (
        number_of(schedule_id),
        row.get("name") or change.get("schedule"),
        number_of(light.get("incarnation")),
        number_of(light.get("version")),
        number_of(light.get("number")),
        number_of(light.get("settled_until")) or 0,
        number_of(light.get("next_at")),
        light.get("skips"),
        number_of(change.get("cut_at")),
        change.get("paused"),
        change.get("quarantined"),
        number_of(change.get("deleted")),
        change.get("owner"),
        number_of(change.get("revision")),
        change.get("tz_version"),
        number_of(change.get("created_at")),
        change.get("applied"),
        *(definition.get(name) for name in DEFINITION),
    )
    return schedule_of(cells)


def change_from(pair: Sequence[Sequence[str]]) -> Change:
    """Return the entry of the trail of a change and its definition."""
    change, definition = map(hash_of, pair)
    return change_of(
        (
            change.get("edit_id"),
            number_of(change.get("schedule_id")),
            change.get("schedule"),
            number_of(change.get("incarnation")),
            number_of(change.get("version")),
            number_of(change.get("number")),
            change.get("action"),
            change.get("actor") or "",
            change.get("reason") or "",
            number_of(change.get("cut_at")) or 0,
            number_of(change.get("boundary_at")) or 0,
            number_of(change.get("committed_at")) or 0,
            number_of(change.get("settled_until")) or 0,
            change.get("paused"),
            number_of(change.get("deleted")),
            change.get("tz_version") or "",
            *(definition.get(name) for name in DEFINITION),
        )
    )


def owing_from(row: Sequence[Any]) -> Owing | None:
    """Return a row to decide, as due.lua answers it, False where it has none; None if it does not decode."""
    name, version, until, next_at = row[1], number_of(row[3]), number_of(row[4]), number_of(row[5])
    trigger, policy = row[7], row[9]
    if not (trigger and policy and name) or None in (version, until, next_at):
        return None
    documents = owing_documents(trigger, policy, row[6] or None)
    assert version is not None  # looked at above
    assert until is not None
    assert next_at is not None
    if documents is None or not FIRST <= until <= LAST or not FIRST <= next_at <= LAST:
        return None
    return Owing(
        id=int(row[0]),
        name=name,
        incarnation=number_of(row[2]) or 1,
        version=version,
        trigger=documents[0],
        policy=documents[1],
        settled_until=instant_of(until),
        next_at=instant_of(next_at),
        skips=documents[2],
        load=Load(live=row[10], waiting=row[11], last_waiting=row[12] or None),
    )


def _number(text: str) -> int:
    return number_of(text) or 0


def _kept(text: str) -> str:
    return text


OF_RUN: dict[str, Callable[[str], Any]] = (
    dict.fromkeys(("id", "schedule", "queue", "target", "key", "reason", "holder", "error"), _kept)
    | dict.fromkeys(("schedule_id", "number", "priority", "attempt", "token"), _number)
    | dict.fromkeys(("due_at", "ready_at", "created_at"), instant)
    | dict.fromkeys(("occurrence_at", "mark_before", "mark_after", "deadline_at"), instant_or_none)
    | dict.fromkeys(("lease_until", "resend_at", "claimed_at", "started_at", "finished_at"), instant_or_none)
    | {"state": STATES.__getitem__, "outcome": Outcome}
)
"""What each field of a run's hash is, where it stands for itself."""

BLANK_RUN: dict[str, Any] = (
    dict.fromkeys(("id", "schedule", "queue", "target"), "")
    | dict.fromkeys(("schedule_id", "number"), 0)
    | dict.fromkeys(("due_at", "ready_at", "created_at"), instant_of(0))
)


def run_from(hash_or_flat: Hash | Sequence[str]) -> Run:
    """Return the run of a hash, its id among the fields."""
    row = hash_or_flat if isinstance(hash_or_flat, dict) else hash_of(hash_or_flat)
    # A claimed run has half of the fields that a run may have: what is not there takes no time.
    fields = BLANK_RUN | {name: of(row[name]) for name, of in OF_RUN.items() if name in row}
    fields["queue"], _, fields["exclusive"] = lane_of(fields["queue"], fields["target"])
    if "result" in row:
        try:
            fields["result"] = json_of(row["result"])
        except msgspec.MsgspecError as unreadable:
            fields["error"] = f"its stored result does not decode: {unreadable}"
    fold_count, done = number_of(row.get("fold_count")), number_of(row.get("progress_done"))
    if fold_count is not None:
        first, last = instant(row.get("fold_first_at")), instant(row.get("fold_last_at"))
        fields["fold"] = Fold(first_at=first, last_at=last, count=fold_count)
    if done is not None:
        fields["progress"] = (done, number_of(row.get("progress_total")) or 0)
    return Run(cancel_requested="cancel_requested" in row, **fields)


def event_from(entry: Sequence[Any]) -> Event:
    """Return the event of an entry of the stream."""
    stamp, flat = entry
    field = hash_of(flat).get
    return event_of(
        (
            int(stamp.partition("-")[0]),
            number_of(field("at")) or 0,
            field("kind"),
            number_of(field("schedule_id")),
            field("schedule"),
            field("run_id"),
            field("actor") or "",
            field("reason") or "",
            number_of(field("mark_before")),
            number_of(field("mark_after")),
            number_of(field("first_at")),
            number_of(field("last_at")),
            number_of(field("count")),
            field("data"),
        )
    )


def run_tile(row: Sequence[Any]) -> Tile:
    """Return the tile of a run, as ask.lua answers it."""
    before, after, count, occurrence_at, due_at, created_at, run_id = row
    marks = (number_of(before), number_of(after), number_of(count) or 0)
    return run_tile_of((run_id, *marks, number_of(occurrence_at), number_of(due_at), number_of(created_at)))


def event_tile(entry: Sequence[Any], since: datetime, until: datetime) -> Tile | None:
    """Return the tile of an event, if it touches (since, until]."""
    event = event_from(entry)
    if event.mark_before is None or event.mark_after is None:
        return None
    touches = event.mark_after > since and event.mark_before < until
    return event_tile_of(event) if touches else None


def node_from(flat: Sequence[str]) -> Node:
    """Return the node of a hash."""
    fields = hash_of(flat)
    numbers = {"pid", "started_at", "seen_at", "alive_until", "stopping"}
    return node_of(
        tuple(
            (number_of(fields.get(name)) or 0) if name in numbers else fields.get(name, "") for name in NODE
        )
    )


def is_deleted(dormant: str | None) -> bool:
    """Return whether the bits of a row say that it is a tombstone."""
    return bool((number_of(dormant) or 0) & DELETED)
