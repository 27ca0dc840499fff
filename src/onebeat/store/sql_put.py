"""The verb ``put`` in the SQL store: a whole batch of edits in a few statements, however many they are.

Everything that is judged is read first, one statement a kind; each edit is judged by itself; then all that
fit are written together, one statement a table. New rows are added before what names them: the tables that
follow learn their numbers by reading them back.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from onebeat.core.codec import to_text
from onebeat.core.folds import folds_beside
from onebeat.core.messages import Answer, Edit, PutAnswer
from onebeat.core.model import (
    Definition,
    Event,
    NewRun,
    RunState,
    Schedule,
    Settlement,
    micros,
    shard_of,
)
from onebeat.core.ports import CUT_AGE_MAX
from onebeat.store.dialects.protocol import ORDER, AddMissing, BatchUpdate, Cell, Row, Session
from onebeat.store.lanes import lane_cells, lane_of
from onebeat.store.putting import DELETED, REPLACED, put_event, refuse_twice
from onebeat.store.rows import (
    CHANGED_SCHEDULE_COLUMNS,
    DEFINITION_COLUMNS,
    definition_cells,
    definition_of,
    dormant_of,
    micros_of,
    micros_or_none,
    schedule_of,
    skips_text,
)
from onebeat.store.sql_groups import add_group
from onebeat.store.sql_inbox import SqlInbox
from onebeat.store.sql_runs import UNFINISHED_OF, WAITING_OF

SCHEDULES_BY_NAME = "SELECT id FROM onebeat_schedules WHERE name IN {keys} ORDER BY id"
EDITS_SEEN = f"""WITH wanted (id) AS (VALUES {{rows}})
    SELECT c.edit_id, {CHANGED_SCHEDULE_COLUMNS} FROM wanted AS w
    JOIN onebeat_changes AS c ON c.edit_id = w.id
    LEFT JOIN onebeat_definitions AS d ON d.id = c.definition_id"""
SCHEDULE_BACK = AddMissing(
    """INSERT INTO onebeat_schedules (id, name, shard, incarnation, version, settled_until, dormant, number,
    definition_id, target_id, priority, change_id) VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)""",
    "id",
)
_STANDS = """incarnation, version, settled_until, next_at, dormant, skips, number, definition_id, target_id,
    priority, max_running, change_id"""
SCHEDULES_ADDED = f"INSERT INTO onebeat_schedules (name, shard, {_STANDS}) VALUES {{rows}}"
SCHEDULE_IDS = """WITH wanted (name) AS (VALUES {rows})
    SELECT s.name, s.id FROM wanted AS w JOIN onebeat_schedules AS s ON s.name = w.name"""
SCHEDULES_PUT = BatchUpdate(
    "onebeat_schedules",
    f"d (id, {_STANDS})",
    {name: f"d.{name}" for name in (column.strip() for column in _STANDS.split(","))},
    "onebeat_schedules.id = d.id",
)
TARGET_ADDED = AddMissing('INSERT INTO onebeat_targets (queue, "key") VALUES (?, ?)', 'queue, "key"')
TARGET_NAMED = 'SELECT id FROM onebeat_targets WHERE queue = ? AND "key" = ?'
DEFINITIONS_ADDED = """INSERT INTO onebeat_definitions (schedule_id, number, target_id, priority, max_running,
    "trigger", policy, title, tags, target) VALUES {rows}"""
DEFINITIONS_KEPT = f"""WITH wanted (schedule_id, number) AS (VALUES {{rows}})
    SELECT d.schedule_id, d.number, d.id, d.target_id, d.priority, d.max_running, {DEFINITION_COLUMNS}
    FROM wanted AS w JOIN onebeat_definitions AS d
    ON d.schedule_id = w.schedule_id AND d.number = w.number"""
DEFINITION_IDS = """WITH wanted (schedule_id, number) AS (VALUES {rows})
    SELECT d.schedule_id, d.number, d.id FROM wanted AS w JOIN onebeat_definitions AS d
    ON d.schedule_id = w.schedule_id AND d.number = w.number"""
CHANGES_ADDED = """INSERT INTO onebeat_changes (edit_id, schedule_id, schedule, incarnation, version,
    definition_id, action, actor, reason, cut_at, boundary_at, committed_at, settled_until, next_at, paused,
    quarantined, deleted, skips, owner, revision, applied, tz_version, created_at) VALUES {rows}"""
CHANGE_IDS = """WITH wanted (id) AS (VALUES {rows})
    SELECT c.edit_id, c.id FROM wanted AS w JOIN onebeat_changes AS c ON c.edit_id = w.id"""
STILL_WAITING = """WITH wanted (id) AS (VALUES {rows})
    SELECT r.id FROM wanted AS w JOIN onebeat_runs AS r ON r.id = w.id WHERE (r.slot || '') = 'waiting'"""
_STANDS_FROM = "COALESCE(fold_first_at, occurrence_at)"
_STANDS_TO = "COALESCE(fold_last_at, occurrence_at)"
FOLD_GREW = BatchUpdate(
    "onebeat_runs",
    "f (id, first_at, last_at, count)",
    {
        "fold_first_at": f"CASE WHEN {_STANDS_FROM} < f.first_at THEN {_STANDS_FROM} ELSE f.first_at END",
        "fold_last_at": f"CASE WHEN {_STANDS_TO} > f.last_at THEN {_STANDS_TO} ELSE f.last_at END",
        "fold_count": "f.count + COALESCE(fold_count, CASE WHEN occurrence_at IS NULL THEN 0 ELSE 1 END)",
    },
    "onebeat_runs.id = f.id",
)


class Kept(NamedTuple):
    """A definition as it is kept: its row, its lane, and what it means."""

    id: int
    target_id: int
    priority: int
    max_running: int | None
    definition: Definition


Numbered: TypeAlias = tuple[int, int]
"""A schedule's id and the number of one of its definitions."""


class SqlPut(SqlInbox):
    """The verb ``put``, and the writing of tiles, which ``settle`` does as well."""

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        refuse_twice([edit.after.name for edit in edits])
        return self._write(lambda session: self._put(session, edits)) if edits else []

    def _put(self, session: Session, edits: Sequence[Edit]) -> list[PutAnswer]:
        names = [edit.after.name for edit in edits]
        session.lock(SCHEDULES_BY_NAME, names)
        self._lock_entries(session, (edit.entry_id for edit in edits))
        now = session.now()
        seen = {
            row[0]: schedule_of(row[1:])[0] for row in session.batch(EDITS_SEEN, [(e.id,) for e in edits])
        }
        rows = self._rows_named(session, names)
        held = any(edit.fires for edit in edits) and self._held(session) is not None
        standing = self._standing(session, [edit.settlements for edit in edits])
        taken: dict[str, Edit] = {}
        verdicts: list[Answer] = []
        for edit, stands in zip(edits, standing, strict=True):
            row = rows.get(edit.after.name)
            # The clock may have gone back since the last cut; cuts do not.
            latest = now if row is None else max(now, row.cut_at)
            fits = edit.expected_version == (0 if row is None else row.version)
            fresh = edit.cut_at <= latest and now - edit.cut_at <= CUT_AGE_MAX
            stopped = edit.fires and held
            asked = self._waits(session, edit)
            if edit.id in seen or edit.id in taken:  # twice in a batch: the second repeats the first
                verdicts.append(Answer.REPEATED)
            elif not fits or not fresh or stopped or not stands or not asked:
                verdicts.append(Answer.STALE)
            else:
                taken[edit.id] = edit
                verdicts.append(Answer.ACCEPTED)
        seen |= self._put_rows(session, list(taken.values()), rows, now) if taken else {}
        answers: list[PutAnswer] = []
        for edit, verdict in zip(edits, verdicts, strict=True):
            stands_now = rows.get(edit.after.name) if verdict is Answer.STALE else seen[edit.id]
            cut = None if verdict is Answer.STALE or stands_now is None else stands_now.cut_at
            if verdict is Answer.ACCEPTED:
                cut = edit.cut_at
            if verdict is not Answer.STALE and stands_now is not None:
                self._accept(session, edit, now, version=stands_now.version, cut_at=cut)
            answers.append(PutAnswer(answer=verdict, schedule=stands_now, cut_at=cut))
        return answers

    def _put_rows(
        self, session: Session, edits: Sequence[Edit], rows: Mapping[str, Schedule], now: datetime
    ) -> dict[str, Schedule]:
        """Write edits that fit, and all that follows from them; return the rows as they are now, by edit."""
        changed = [(edit, rows[edit.after.name]) for edit in edits if edit.after.name in rows]
        # Whose runs ends do not count until now: those ends under way are waited for. See _opened.
        self._hold_unfinished(session, [row.id for edit, row in changed if _limits(edit, row)])
        kept = self._kept_definitions(session, changed)
        self._settle_old(session, changed, kept, now)
        lanes = self._lanes(session, (edit.after.definition for edit in edits))
        ids = self._row_ids(session, edits, rows, lanes)
        self._keep_definitions(session, edits, ids, lanes, kept)
        written: dict[str, Schedule] = {}  # by edit id
        unders: list[Row] = []
        changes: list[tuple[Cell, ...]] = []
        for edit in edits:
            name = edit.after.name
            found = kept[ids[name], edit.after.number]
            written[edit.id] = after = replace(edit.after, id=ids[name], definition=found.definition)
            unders.append((after.id, name, after.number, found.id, found.target_id, found.priority))
            changes.append(_change_cells(edit, after, found.id, micros(now)))
        session.batch(CHANGES_ADDED, changes)
        change_ids: dict[str, int] = dict(session.batch(CHANGE_IDS, [(edit.id,) for edit in edits]))
        stands = [
            (after.id, *_stands_cells(after, kept[after.id, after.number], change_ids[edit.id]))
            for edit, after in zip(edits, written.values(), strict=True)
        ]
        session.batch(SCHEDULES_PUT, stands)
        events = [put_event(edit, rows.get(edit.after.name), written[edit.id], now) for edit in edits]
        self._tell(session, events)
        asked = zip(edits, unders, strict=True)
        self._fire(session, ((new, under, None) for edit, under in asked for new in edit.requests), now)
        free = {row.id for _, row in changed} | {written[edit.id].id for edit in edits if edit.requests}
        for schedule_id in sorted(self._queued(session, free)):
            self._promote(session, schedule_id)
        return written

    def _settle_old(
        self,
        session: Session,
        changed: Sequence[tuple[Edit, Schedule]],
        kept: Mapping[Numbered, Kept],
        now: datetime,
    ) -> None:
        """Write what the old definitions owed, and cancel what the edits leave no place for."""
        queued = self._queued(session, (row.id for edit, row in changed if edit.cancel_waiting))
        for edit, row in changed:
            if edit.cancel_older:
                self._cancel(session, UNFINISHED_OF, row.id, REPLACED, now)
            if edit.cancel_waiting and row.id in queued:
                self._cancel(session, WAITING_OF, row.id, DELETED, now)
        tiled = []
        for edit, row in changed:
            if edit.settlements:
                old = kept[row.id, row.number]
                under = (row.id, row.name, row.number, old.id, old.target_id, old.priority)
                tiled.append((under, edit.settlements))
        self._write_tiles(session, tiled, now)

    def _row_ids(
        self,
        session: Session,
        edits: Sequence[Edit],
        rows: Mapping[str, Schedule],
        lanes: Mapping[tuple[str, str], int],
    ) -> dict[str, int]:
        """Return the ids of the rows, by name; add those that are missing, in the batch's order."""
        new = [edit.after for edit in edits if edit.after.name not in rows]
        old = [rows[edit.after.name] for edit in edits if edit.after.name in rows]
        there: dict[str, int] = dict(session.batch(SCHEDULE_IDS, [(row.name,) for row in old]))
        for row in old:
            if row.name not in there:  # it was purged; the trail has told of it
                session.run(SCHEDULE_BACK, (row.id, row.name, shard_of(row.name)))
        cells = []
        for after in new:
            wanted = _kept_of(0, after.definition, lanes)
            cells.append((after.name, shard_of(after.name), *_stands_cells(after, wanted, 0)))
        session.batch(SCHEDULES_ADDED, cells)
        added: dict[str, int] = dict(session.batch(SCHEDULE_IDS, [(after.name,) for after in new]))
        return {row.name: row.id for row in old} | added

    def _kept_definitions(
        self, session: Session, changed: Iterable[tuple[Edit, Schedule]]
    ) -> dict[Numbered, Kept]:
        """Return the definitions that edits leave, and those that they come to where these are kept."""
        wanted = {(row.id, number) for edit, row in changed for number in (row.number, edit.after.number)}
        return {
            (row[0], row[1]): Kept(row[2], row[3], row[4], row[5], definition_of(row[6:])[0])
            for row in session.batch(DEFINITIONS_KEPT, sorted(wanted))
        }

    def _keep_definitions(
        self,
        session: Session,
        edits: Sequence[Edit],
        ids: Mapping[str, int],
        lanes: Mapping[tuple[str, str], int],
        kept: dict[Numbered, Kept],
    ) -> None:
        """Add the definitions that are new; what a number meant once it means for ever."""
        new: dict[Numbered, Definition] = {}
        for edit in edits:
            key = ids[edit.after.name], edit.after.number
            if key not in kept:
                new[key] = edit.after.definition
        cells = []
        for key, definition in new.items():
            each = _kept_of(0, definition, lanes)
            cells.append((*key, *each[1:4], *definition_cells(definition)))
        session.batch(DEFINITIONS_ADDED, cells)
        for schedule_id, number, row_id in session.batch(DEFINITION_IDS, list(new)):
            kept[schedule_id, number] = _kept_of(row_id, new[schedule_id, number], lanes)

    def _lanes(self, session: Session, definitions: Iterable[Definition]) -> dict[tuple[str, str], int]:
        """Return the row of each lane, by its cells; add those that are missing."""
        found: dict[tuple[str, str], int] = {}
        for lane in dict.fromkeys(map(lane_cells, definitions)):
            known = session.row(TARGET_NAMED, lane)
            if known is None:
                add_lane(session, lane)
                known = session.rows(TARGET_NAMED, lane)[0]
            found[lane] = int(known[0])
        return found

    # --- tiles ---

    def _standing(self, session: Session, settled: Sequence[Sequence[Settlement]]) -> list[bool]:
        """Return for the tiles of each schedule whether all that they fold into beside them is waiting."""
        beside = [folds_beside(settlements) for settlements in settled]
        named = [(run_id,) for folds in beside for run_id in folds]
        waiting = {row[0] for row in session.batch(STILL_WAITING, named)} if named else set()
        return [folds.keys() <= waiting for folds in beside]

    def _write_tiles(
        self, session: Session, tiled: Iterable[tuple[Row, Sequence[Settlement]]], now: datetime
    ) -> list[int]:
        """Add the runs and events of tiles; return the schedules that got a waiting run."""
        fired: list[tuple[NewRun, Row, Settlement | None]] = []
        events: list[Event] = []
        queued: list[int] = []
        grown: list[tuple[Cell, ...]] = []
        for under, settlements in tiled:
            for run_id, more in folds_beside(settlements).items():
                grown.append((run_id, micros_of(more.first_at), micros_of(more.last_at), more.count))
            for tile in settlements:
                if tile.run is None:
                    events.append(_tile_event(tile, under, now))
                    continue
                fired.append((tile.run, under, tile))
                if tile.run.state is RunState.WAITING:
                    queued.append(under[0])
        self._fire(session, fired, now)
        self._tell(session, events)
        if grown:
            session.batch(FOLD_GREW, grown)
        return queued


def add_lane(session: Session, lane: tuple[str, str]) -> None:
    """Add a lane where it is missing, and its group."""
    session.gate(ORDER)  # who learns of targets asks for those after the last one it knows
    session.run(TARGET_ADDED, lane)
    group = lane_of(*lane).exclusive
    if group is not None:
        add_group(session, group)


def _limits(edit: Edit, row: Schedule) -> bool:
    """Return whether an edit puts a limit on a schedule that had none."""
    return edit.after.definition.policy.limited and not row.definition.policy.limited


def _tile_event(tile: Settlement, under: Row, now: datetime) -> Event:
    return Event(
        at=now,
        kind="occurrence.folded" if tile.into is not None else "occurrence.skipped",
        schedule_id=under[0],
        schedule=under[1],
        run_id=tile.into,
        reason="" if tile.reason is None else tile.reason.value,
        mark_before=tile.mark_before,
        mark_after=tile.mark_after,
        first_at=tile.first_at,
        last_at=tile.last_at,
        count=tile.count,
    )


def _change_cells(edit: Edit, after: Schedule, definition_id: int, committed_at: int) -> tuple[Cell, ...]:
    """Return the cells of CHANGE_ADDED."""
    return (
        edit.id,
        after.id,
        after.name,
        after.incarnation,
        after.version,
        definition_id,
        edit.action,
        edit.actor,
        edit.reason,
        micros_of(after.cut_at),
        micros_of(edit.boundary_at),
        committed_at,
        micros_of(after.settled_until),
        micros_or_none(after.next_at),
        after.paused,
        after.quarantined,
        int(after.deleted),
        skips_text(after.skips),
        after.owner,
        after.revision,
        None if after.applied is None else to_text(after.applied),
        after.tz_version,
        micros_of(after.created_at),
    )


def _kept_of(row_id: int, definition: Definition, lanes: Mapping[tuple[str, str], int]) -> Kept:
    policy = definition.policy
    max_running = policy.max_running if policy.limited else None
    return Kept(row_id, lanes[lane_cells(definition)], policy.priority, max_running, definition)


def _stands_cells(after: Schedule, kept: Kept, change_id: int) -> tuple[Cell, ...]:
    """Return what a row says beside its id, its name and its shard."""
    return (
        after.incarnation,
        after.version,
        micros_of(after.settled_until),
        micros_or_none(after.next_at),
        dormant_of(after),
        skips_text(after.skips),
        after.number,
        kept.id,
        kept.target_id,
        kept.priority,
        kept.max_running,
        change_id,
    )
