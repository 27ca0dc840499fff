"""The SQL store: every statement named, one transaction for each verb, no dialect by name.

    due ──► settle         one UPDATE that compares versions, one INSERT of the winners' runs, one of events
    claim ─► advance       one UPDATE each way; a promotion where something waits
    put, request, hold     row by row: people make these

Reading is sql_reader.py, what happens to runs is sql_runs.py, forgetting is sql_purge.py; rows.py and
run_rows.py say how a noun lies in its table, and dialects/ what differs between databases.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NoReturn

from msgspec.structs import replace

from onebeat.core.codec import to_text
from onebeat.core.folds import folds_beside
from onebeat.core.messages import Answer, Edit, Hold, PutAnswer, Request, Settled
from onebeat.core.model import (
    Decision,
    Definition,
    Event,
    NewRun,
    Node,
    RunState,
    Schedule,
    Settlement,
    Target,
    micros,
    shard_of,
)
from onebeat.core.ports import CUT_AGE_MAX
from onebeat.store.dialects.protocol import HOLD, ORDER, AddMissing, BatchUpdate, Cell, Dialect, Row, Session
from onebeat.store.handshake import strange
from onebeat.store.rows import (
    CHANGED_SCHEDULE_COLUMNS,
    DEFINITION_COLUMNS,
    NODE_COLUMNS,
    definition_cells,
    definition_of,
    dormant_of,
    hold_of,
    hold_text,
    micros_of,
    micros_or_none,
    node_cells,
    node_of,
    schedule_of,
    skips_text,
)
from onebeat.store.sql_purge import SqlPurge
from onebeat.store.sql_reader import NODES_ALIVE
from onebeat.store.sql_runs import UNFINISHED_OF, WAITING_OF

# --- settle ---

FIRED_UNDER = "id, name, number, definition_id, target_id, priority"
SETTLED = BatchUpdate(
    "onebeat_schedules",
    "d (id, version, settled_until, next_at)",
    {
        "version": "onebeat_schedules.version + 1",
        "settled_until": "d.settled_until",
        "next_at": "d.next_at",
    },
    "onebeat_schedules.id = d.id AND onebeat_schedules.version = d.version",
    ", ".join(f"onebeat_schedules.{name.strip()}" for name in FIRED_UNDER.split(",")),
)
STILL_WAITING = """WITH wanted (id) AS (VALUES {rows})
    SELECT r.id FROM wanted AS w JOIN onebeat_runs AS r ON r.id = w.id WHERE r.slot = 'waiting'"""
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
SCHEDULES_BY_ID = "SELECT id FROM onebeat_schedules WHERE id IN {keys} ORDER BY id"
SCHEDULES_BY_NAME = "SELECT id FROM onebeat_schedules WHERE name IN {keys} ORDER BY id"
CURSOR_LOCKED = "SELECT name FROM onebeat_cursors WHERE name IN {keys} ORDER BY name"
REPLACED = "replaced by a newer occurrence"
SKIPS_LEFT = "UPDATE onebeat_schedules SET skips = ? WHERE id = ?"

# --- put ---

EDIT_SEEN = f"""SELECT {CHANGED_SCHEDULE_COLUMNS} FROM onebeat_changes AS c
    LEFT JOIN onebeat_definitions AS d ON d.id = c.definition_id WHERE c.edit_id = ?"""
_LATER = "incarnation, version, settled_until, dormant, number, definition_id, target_id, priority, change_id"
SCHEDULE_ADDED = f"""INSERT INTO onebeat_schedules (name, shard, {_LATER})
    VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)"""
SCHEDULE_BACK = AddMissing(
    f"INSERT INTO onebeat_schedules (id, name, shard, {_LATER}) VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
    "id",
)
SCHEDULE_PUT = """UPDATE onebeat_schedules SET incarnation = ?, version = ?, settled_until = ?, next_at = ?,
    dormant = ?, skips = ?, number = ?, definition_id = ?, target_id = ?, priority = ?, max_running = ?,
    change_id = ? WHERE id = ?"""
TARGET_ADDED = AddMissing('INSERT INTO onebeat_targets (queue, "key") VALUES (?, ?)', 'queue, "key"')
TARGET_NAMED = 'SELECT id FROM onebeat_targets WHERE queue = ? AND "key" = ?'
DEFINITION_ADDED = """INSERT INTO onebeat_definitions (schedule_id, number, target_id, priority, max_running,
    "trigger", policy, title, tags, target) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
DEFINITION_KEPT = f"""SELECT d.id, d.target_id, d.priority, d.max_running, {DEFINITION_COLUMNS}
    FROM onebeat_definitions AS d WHERE d.schedule_id = ? AND d.number = ?"""
CHANGE_ADDED = """INSERT INTO onebeat_changes (edit_id, schedule_id, schedule, incarnation, version,
    definition_id, action, actor, reason, cut_at, boundary_at, committed_at, settled_until, next_at, paused,
    quarantined, deleted, skips, owner, revision, applied, tz_version, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

# --- request, hold, announce ---

RUN_EXISTS = "SELECT 1 FROM onebeat_runs WHERE id = ?"
UNDER_CURRENT = f"SELECT {FIRED_UNDER} FROM onebeat_schedules WHERE id = ? AND version = ?"
BUMPED = "UPDATE onebeat_schedules SET version = version + 1 WHERE id = ?"
HOLD_SEEN = 'SELECT "before" FROM onebeat_holds WHERE edit_id = ?'
HOLD_ADDED = 'INSERT INTO onebeat_holds (edit_id, "before", after) VALUES (?, ?, ?)'
CURSOR = "SELECT event_id FROM onebeat_cursors WHERE name = ?"
CURSOR_ADDED = "INSERT INTO onebeat_cursors (name, event_id) VALUES (?, ?)"
CURSOR_MOVED = "UPDATE onebeat_cursors SET event_id = ? WHERE name = ?"
NEWEST_EVENT = "SELECT COALESCE(max(id), 0) FROM onebeat_events"
NODE_GONE = "DELETE FROM onebeat_nodes WHERE id = ?"
NODE_ADDED = (
    f"INSERT INTO onebeat_nodes ({NODE_COLUMNS}) VALUES ({', '.join('?' * len(NODE_COLUMNS.split(',')))})"
)


class SqlStore(SqlPurge):
    """A Store on any dialect. Thread-safe as far as the dialect is."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self._definitions = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store holds connections: send its URL to the other process, and open it there")

    def now(self) -> datetime:
        return self._dialect.now()

    # --- put ---

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        _refuse_twice([edit.after.name for edit in edits])
        if not edits:
            return []

        def work(session: Session) -> list[PutAnswer]:
            session.lock(SCHEDULES_BY_NAME, [edit.after.name for edit in edits])
            now = session.now()
            return [self._put(session, edit, now) for edit in edits]

        return self._write(work)

    def _put(self, session: Session, edit: Edit, now: datetime) -> PutAnswer:
        seen = session.row(EDIT_SEEN, (edit.id,))
        if seen is not None:
            then = schedule_of(seen)[0]
            return PutAnswer(answer=Answer.REPEATED, schedule=then, cut_at=then.cut_at)
        row = self._row(session, edit.after.name)
        # The clock may have gone back since the last cut; cuts do not.
        latest = now if row is None else max(now, row.cut_at)
        fits = edit.expected_version == (0 if row is None else row.version)
        fresh = edit.cut_at <= latest and now - edit.cut_at <= CUT_AGE_MAX
        stopped = edit.fires and self._held(session) is not None
        if not fits or not fresh or stopped or not self._standing(session, [edit.settlements])[0]:
            return PutAnswer(answer=Answer.STALE, schedule=row)
        if row is not None:
            self._settle_old(session, edit, row, now)
        after, under = self._put_row(session, edit, row, now)
        self._tell(session, [_put_event(edit, row, after, now)])
        self._fire(session, ((new, under, None) for new in edit.requests), now)
        self._promote(session, after.id)
        return PutAnswer(answer=Answer.ACCEPTED, schedule=after, cut_at=edit.cut_at)

    def _settle_old(self, session: Session, edit: Edit, row: Schedule, now: datetime) -> None:
        """Write what the old definition owed, and cancel what the edit leaves no place for."""
        if edit.cancel_older:
            self._cancel(session, UNFINISHED_OF, row.id, REPLACED, now)
        if edit.cancel_waiting:
            self._cancel(session, WAITING_OF, row.id, "its schedule was deleted", now)
        if edit.settlements:
            definition_id, target_id, priority = session.rows(DEFINITION_KEPT, (row.id, row.number))[0][:3]
            under = (row.id, row.name, row.number, definition_id, target_id, priority)
            self._write_tiles(session, [(under, edit.settlements)], now)

    def _put_row(
        self, session: Session, edit: Edit, row: Schedule | None, now: datetime
    ) -> tuple[Schedule, Row]:
        """Write the row, its definition and its entry in the trail; return it, and what it fires under."""
        after = edit.after
        if row is None:
            schedule_id = session.insert(SCHEDULE_ADDED, (after.name, shard_of(after.name)))
        else:
            schedule_id = row.id
            session.run(SCHEDULE_BACK, (schedule_id, after.name, shard_of(after.name)))  # if it was purged
        definition_id, target_id, priority, max_running, kept = self._keep_definition(
            session, schedule_id, after.number, after.definition
        )
        after = replace(after, id=schedule_id, definition=kept)
        change_id = session.insert(CHANGE_ADDED, _change_cells(edit, after, definition_id, micros(now)))
        session.run(
            SCHEDULE_PUT,
            (
                after.incarnation,
                after.version,
                micros_of(after.settled_until),
                micros_or_none(after.next_at),
                dormant_of(after),
                skips_text(after.skips),
                after.number,
                definition_id,
                target_id,
                priority,
                max_running,
                change_id,
                schedule_id,
            ),
        )
        return after, (schedule_id, after.name, after.number, definition_id, target_id, priority)

    def _keep_definition(
        self, session: Session, schedule_id: int, number: int, wanted: Definition
    ) -> tuple[int, int, int, int | None, Definition]:
        """Return row id, target, priority, limit of a number's definition, and what it always meant."""
        kept = session.row(DEFINITION_KEPT, (schedule_id, number))
        if kept is not None:
            return (*kept[:4], definition_of(kept[4:])[0])
        target_id = self._target_id(session, wanted.target)
        policy = wanted.policy
        max_running = policy.max_running if policy.limited else None
        cells = (schedule_id, number, target_id, policy.priority, max_running, *definition_cells(wanted))
        definition_id = session.insert(DEFINITION_ADDED, cells)
        return definition_id, target_id, policy.priority, max_running, wanted

    def _target_id(self, session: Session, target: Target) -> int:
        lane = (target.queue, target.key)
        known = session.row(TARGET_NAMED, lane)
        if known is None:
            session.gate(ORDER)  # who learns of targets asks for those after the last one it knows
            session.run(TARGET_ADDED, lane)
            known = session.rows(TARGET_NAMED, lane)[0]
        return int(known[0])

    # --- hold ---

    def hold(self, wanted: Hold | None, edit_id: str) -> Hold | None:
        def work(session: Session) -> Hold | None:
            session.gate(HOLD)
            seen = session.row(HOLD_SEEN, (edit_id,))
            if seen is not None:
                return hold_of(seen[0])
            before = self._held(session)
            changes = (wanted is None) != (before is None)
            after = wanted if changes else before
            session.run(HOLD_ADDED, (edit_id, hold_text(before), hold_text(after)))
            if changes:
                at = session.now()
                said = wanted or before or Hold(since_at=at)
                kind = "firing.released" if wanted is None else "firing.held"
                self._tell(session, [Event(at=at, kind=kind, actor=said.actor, reason=said.reason)])
            return before

        return self._write(work)

    # --- settle ---

    def settle(self, now: datetime, decisions: Sequence[Decision]) -> Settled:
        _refuse_twice([decision.schedule_id for decision in decisions])
        return self._write(lambda session: self._settle(session, now, decisions))

    def _settle(self, session: Session, now: datetime, decisions: Sequence[Decision]) -> Settled:
        clock = session.now()
        if clock < now:
            return Settled(early_by=now - clock)
        if self._held(session) is not None:
            return Settled(held=True)
        free = self._free(session, [each.schedule_id for each in decisions])
        standing = self._standing(session, [each.settlements for each in decisions])
        wanted = [
            (each.schedule_id, each.version, micros_of(each.settled_until), micros_or_none(each.next_at))
            for each, stands in zip(decisions, standing, strict=True)
            if stands and each.schedule_id in free
        ]
        winners = {row[0]: row for row in session.batch(SETTLED, wanted)}
        won = tuple(each.schedule_id in winners for each in decisions)
        for decision in decisions:
            if decision.schedule_id in winners:
                if decision.skips is not None:
                    session.run(SKIPS_LEFT, (skips_text(decision.skips), decision.schedule_id))
                if decision.cancel_older:
                    self._cancel(session, UNFINISHED_OF, decision.schedule_id, REPLACED, clock)
        tiles = [
            (winners[each.schedule_id], each.settlements) for each in decisions if each.schedule_id in winners
        ]
        for schedule_id in self._write_tiles(session, tiles, clock):
            self._promote(session, schedule_id)
        return Settled(won=won)

    def _free(self, session: Session, schedule_ids: Sequence[int]) -> set[int]:
        """Return which rows nobody else holds, and hold them."""
        if session.alone:
            return set(schedule_ids)
        return {row[0] for row in session.free(SCHEDULES_BY_ID, schedule_ids)}

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

    # --- requests, and the rest ---

    def request(self, requests: Sequence[Request]) -> list[Answer]:
        if not requests:
            return []

        def work(session: Session) -> list[Answer]:
            session.lock(SCHEDULES_BY_ID, [request.schedule_id for request in requests])
            now = session.now()
            return [self._request(session, request, now) for request in requests]

        return self._write(work)

    def _request(self, session: Session, request: Request, now: datetime) -> Answer:
        if session.row(RUN_EXISTS, (request.run.id,)) is not None:
            return Answer.REPEATED
        under = session.row(UNDER_CURRENT, (request.schedule_id, request.expected_version))
        if under is None:
            return Answer.STALE
        self._fire(session, [(request.run, under, None)], now)
        session.run(BUMPED, (request.schedule_id,))
        event = Event(
            at=now,
            kind="run.requested",
            schedule_id=under[0],
            schedule=under[1],
            run_id=request.run.id,
            actor=request.actor,
            reason=request.reason,
        )
        self._tell(session, [event])
        self._promote(session, request.schedule_id)
        return Answer.ACCEPTED

    def announce(self, node: Node) -> list[str]:
        def work(session: Session) -> list[str]:
            now = micros(session.now())
            session.run(NODE_GONE, (node.id,))
            session.run(NODE_ADDED, node_cells(node))
            return strange(node, map(node_of, session.rows(NODES_ALIVE, (now,))))

        return self._dialect.write(work)

    def record(self, events: Sequence[Event]) -> None:
        self._dialect.write(lambda session: self._tell(session, events))

    def cursor(self, name: str, to: int | None = None) -> int:
        def settled(session: Session) -> int | None:
            row = session.row(CURSOR, (name,))
            return int(row[0]) if row is not None and (to is None or to <= row[0]) else None

        def work(session: Session) -> int:
            session.lock(CURSOR_LOCKED, [name])
            row = session.row(CURSOR, (name,))
            stands = row[0] if row is not None else to if to is not None else session.rows(NEWEST_EVENT)[0][0]
            after = max(stands, stands if to is None else to)
            if row is None:
                session.run(CURSOR_ADDED, (name, after))
            elif after != stands:
                session.run(CURSOR_MOVED, (after, name))
            return int(after)

        stands = self._read(settled)
        return self._dialect.write(work) if stands is None else stands

    def wait(self, until: datetime | None) -> bool:
        return self._dialect.wait(until)

    def wake(self) -> None:
        self._dialect.wake()

    def close(self) -> None:
        self._dialect.close()


def _refuse_twice(keys: Sequence[int | str]) -> None:
    if len(set(keys)) < len(keys):
        raise ValueError("a batch holds one schedule twice: put them into two batches")


def _put_event(edit: Edit, row: Schedule | None, after: Schedule, now: datetime) -> Event:
    """Return the event of the action; it carries the stretch up to the boundary that held nothing."""
    event = Event(
        at=now,
        kind=edit.action,
        schedule_id=after.id,
        schedule=after.name,
        actor=edit.actor,
        reason=edit.reason,
    )
    if row is None:
        return event
    mark = edit.settlements[-1].mark_after if edit.settlements else row.settled_until
    if mark >= edit.boundary_at:
        return event
    return replace(event, mark_before=mark, mark_after=edit.boundary_at, count=0)


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
