"""The SQL store: every statement named, one transaction for each verb, no dialect by name.

    due ──► settle         one UPDATE that compares versions, one INSERT of the winners' runs, one of events
    claim ─► advance       one UPDATE each way; a promotion where something waits
    put                    sql_put.py: one statement for each table, whatever the batch
    request, hold          row by row: people make these

Reading is sql_reader.py, what happens to runs is sql_runs.py, forgetting is sql_purge.py; rows.py and
run_rows.py say how a noun lies in its table, and dialects/ what differs between databases.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NoReturn

from onebeat.core.errors import OnebeatError
from onebeat.core.messages import Answer, Hold, Request, Settled
from onebeat.core.model import (
    Decision,
    Event,
    Node,
    micros,
)
from onebeat.store.dialects.protocol import HOLD, BatchUpdate, Dialect, ManyRows, Row, Session
from onebeat.store.handshake import strange
from onebeat.store.putting import REPLACED, Chains, refuse_twice
from onebeat.store.rows import (
    NODE_COLUMNS,
    hold_of,
    hold_text,
    micros_of,
    micros_or_none,
    node_cells,
    node_of,
    skips_text,
)
from onebeat.store.sql_reader import HELD, NODES_ALIVE
from onebeat.store.sql_runs import SCHEDULES_BY_ID, UNFINISHED_OF
from onebeat.store.sql_sharing import SqlSharing

# --- settle ---

FIRED_UNDER = "id, name, number, definition_id, target_id, priority"
SETTLED = BatchUpdate(
    "onebeat_schedules",
    "d (id, settled_until, next_at)",
    {
        "version": "onebeat_schedules.version + 1",
        "settled_until": "d.settled_until",
        "next_at": "d.next_at",
    },
    "onebeat_schedules.id = d.id",
)
GONE = (None,)
UNDER_FREE = ManyRows(f"{FIRED_UNDER}, version", "onebeat_schedules WHERE id IN {keys} ORDER BY id")
CURSOR_LOCKED = "SELECT name FROM onebeat_cursors WHERE name IN {keys} ORDER BY name"
SKIPS_LEFT = "UPDATE onebeat_schedules SET skips = ? WHERE id = ?"

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
NODES_BESIDE = 'SELECT COUNT(*) FROM "{}".onebeat_nodes WHERE alive_until > ?'
PLAIN_NAME = re.compile(r"[\w$-]+")
NODE_ADDED = (
    f"INSERT INTO onebeat_nodes ({NODE_COLUMNS}) VALUES ({', '.join('?' * len(NODE_COLUMNS.split(',')))})"
)


class SqlStore(SqlSharing):
    """A Store on any dialect. Thread-safe as far as the dialect is."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(dialect)
        self._definitions = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store holds connections: send its URL to the other process, and open it there")

    def now(self) -> datetime:
        return self._dialect.now()

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
        refuse_twice([decision.schedule_id for decision in decisions])
        return self._write(lambda session: self._settle(session, now, decisions))

    def _settle(self, session: Session, now: datetime, decisions: Sequence[Decision]) -> Settled:
        session.gate(HOLD, shared=True)
        clock, after = session.clocked(HELD)
        if clock < now:
            return Settled(at=clock, early_by=now - clock)
        if hold_of(after) is not None:
            return Settled(at=clock, held=True)
        winners = self._win(session, decisions)
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
        return Settled(at=clock, won=won)

    def _win(self, session: Session, decisions: Sequence[Decision]) -> dict[int, Row]:
        """Move the marks of rows that are as they were read; return what those fire under, by id.

        Rows that somebody else holds are passed over; the others are held from here, so that what is compared
        is what is written.
        """
        held = {row[0]: row for row in session.free(UNDER_FREE, [each.schedule_id for each in decisions])}
        standing = self._standing(session, [each.settlements for each in decisions])
        winners = [
            each
            for each, stands in zip(decisions, standing, strict=True)
            if stands and held.get(each.schedule_id, GONE)[-1] == each.version
        ]
        marks = [
            (each.schedule_id, micros_of(each.settled_until), micros_or_none(each.next_at))
            for each in winners
        ]
        session.batch(SETTLED, marks)
        return {each.schedule_id: held[each.schedule_id][:-1] for each in winners}

    # --- requests, and the rest ---

    def request(self, requests: Sequence[Request]) -> list[Answer]:
        if not requests:
            return []

        def work(session: Session) -> list[Answer]:
            session.lock(SCHEDULES_BY_ID, [request.schedule_id for request in requests])
            self._lock_entries(session, (request.entry_id for request in requests))
            now = session.now()
            chains = Chains()
            return [chains.told(each, self._request(session, each, chains, now)) for each in requests]

        return self._write(work)

    def _request(self, session: Session, request: Request, chains: Chains, now: datetime) -> Answer:
        holds = chains.holds(request)
        if session.row(RUN_EXISTS, (request.run.id,)) is not None:
            self._accept(session, request, now, run_id=request.run.id)
            return Answer.REPEATED
        under = session.row(UNDER_CURRENT, (request.schedule_id, request.expected_version))
        if under is None or not holds or not self._waits(session, request):
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
        self._accept(session, request, now, version=request.expected_version + 1, run_id=request.run.id)
        return Answer.ACCEPTED

    def announce(self, node: Node) -> list[str]:
        def work(session: Session) -> None:
            session.run(NODE_GONE, (node.id,))
            session.run(NODE_ADDED, node_cells(node))
            self._move_held(session)

        self._dialect.write(work)
        return strange(node, map(node_of, self._dialect.look(NODES_ALIVE, (micros(node.seen_at),))))

    def neighbours(self) -> dict[str, int]:
        now = micros(self.now())
        found: dict[str, int] = {}
        for name in filter(PLAIN_NAME.fullmatch, self._dialect.beside()):
            with suppress(OnebeatError):  # one that was dropped meanwhile, or may not be read after all
                found[name] = self._dialect.look(NODES_BESIDE.format(name), (now,))[0][0]
        return {name: count for name, count in found.items() if count}

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
