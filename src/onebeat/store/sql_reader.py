"""The reading half of the SQL store. Every statement has a name; each answer is one consistent picture."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar

from onebeat.core.errors import NotFound
from onebeat.core.messages import (
    Change,
    Due,
    EventQuery,
    Hold,
    LogLine,
    RunQuery,
    ScheduleQuery,
    Share,
    Summary,
    Tile,
)
from onebeat.core.model import (
    UNFINISHED,
    Definition,
    Event,
    Load,
    Node,
    Owing,
    Run,
    RunState,
    Schedule,
    micros,
)
from onebeat.store.dialects.paging import paged
from onebeat.store.dialects.protocol import HOLD, Cell, Dialect, ManyRows, Row, Session
from onebeat.store.lanes import Lane, lane_of
from onebeat.store.rows import (
    CHANGE_COLUMNS,
    CHANGED_SCHEDULE_COLUMNS,
    DEFINITION_COLUMNS,
    DELETED,
    FIRST,
    LAST,
    NODE_COLUMNS,
    PAUSED,
    QUARANTINED,
    SCHEDULE_COLUMNS,
    change_of,
    definition_of,
    hold_of,
    instant_of,
    json_text,
    micros_or_none,
    node_of,
    owing_documents,
    schedule_of,
    tags_of,
)
from onebeat.store.run_rows import (
    EVENT_COLUMNS,
    RUN_COLUMNS,
    RUN_SEQ,
    RUN_TARGET,
    event_of,
    event_tile_of,
    run_of,
    run_tile_of,
)

T = TypeVar("T")

# --- schedules ---

SCHEDULE_TABLES = """onebeat_schedules AS s
    LEFT JOIN onebeat_changes AS c ON c.id = s.change_id
    LEFT JOIN onebeat_definitions AS d ON d.id = s.definition_id"""
SCHEDULES_NAMED = f"""WITH wanted (name) AS (VALUES {{rows}})
    SELECT {SCHEDULE_COLUMNS} FROM wanted AS w JOIN onebeat_schedules AS s ON s.name = w.name
    LEFT JOIN onebeat_changes AS c ON c.id = s.change_id
    LEFT JOIN onebeat_definitions AS d ON d.id = s.definition_id"""
SCHEDULES_PAGE = f"SELECT {SCHEDULE_COLUMNS} FROM {SCHEDULE_TABLES} WHERE s.name > ?"
PURGED_NAMED = f"""WITH wanted (name) AS (VALUES {{rows}})
    SELECT c.id, {CHANGED_SCHEDULE_COLUMNS} FROM wanted AS w JOIN onebeat_changes AS c ON c.schedule = w.name
    LEFT JOIN onebeat_definitions AS d ON d.id = c.definition_id WHERE c.action = 'schedule.purged'"""
DEFINITION = (
    f"SELECT {DEFINITION_COLUMNS} FROM onebeat_definitions AS d WHERE d.schedule_id = ? AND d.number = ?"
)
TRAIL = f"""SELECT {CHANGE_COLUMNS} FROM onebeat_changes AS c
    LEFT JOIN onebeat_definitions AS d ON d.id = c.definition_id WHERE c.schedule_id = ? ORDER BY c.id"""
LOADS = """WITH wanted (id) AS (VALUES {rows}) SELECT w.id,
    (SELECT count(*) FROM onebeat_runs AS r WHERE r.schedule_id = w.id AND r.slot = 'live'),
    (SELECT count(*) FROM onebeat_runs AS r WHERE r.schedule_id = w.id AND r.slot = 'waiting'),
    (SELECT r.id FROM onebeat_runs AS r WHERE r.schedule_id = w.id AND r.slot = 'waiting'
     ORDER BY r.due_at DESC, r.id DESC LIMIT 1) FROM wanted AS w"""

# --- due ---

DUE_ROWS = ManyRows(
    """s.id, s.name, s.incarnation, s.version, s.settled_until, s.next_at, s.skips, d.trigger, d.policy,
    CASE WHEN s.max_running IS NULL THEN 0 ELSE
        (SELECT count(*) FROM onebeat_runs WHERE schedule_id = s.id AND slot = 'live') END,
    CASE WHEN s.max_running IS NULL THEN 0 ELSE
        (SELECT count(*) FROM onebeat_runs WHERE schedule_id = s.id AND slot = 'waiting') END,
    CASE WHEN s.max_running IS NOT NULL THEN (SELECT id FROM onebeat_runs
        WHERE schedule_id = s.id AND slot = 'waiting' ORDER BY due_at DESC, id DESC LIMIT 1) END""",
    """onebeat_schedules AS s JOIN onebeat_definitions AS d ON d.id = s.definition_id
    WHERE s.next_at IS NOT NULL AND s.dormant = 0 AND s.next_at <= ?""",
)
ENTRY_THERE = "CASE WHEN EXISTS (SELECT 1 FROM onebeat_inbox WHERE answer IS NULL) THEN 1 ELSE 0 END"
DUE_NEXT = """SELECT next_at FROM onebeat_schedules AS s
    WHERE s.next_at IS NOT NULL AND s.dormant = 0 AND s.next_at > ?"""
NEXT_ORDER = " ORDER BY s.next_at LIMIT 1"
HELD_OR_NEXT = f"""SELECT (SELECT after FROM onebeat_holds ORDER BY id DESC LIMIT 1), (SELECT s.next_at
    FROM onebeat_schedules AS s WHERE s.next_at IS NOT NULL AND s.dormant = 0{{0}}
    ORDER BY s.next_at LIMIT 1), ({DUE_NEXT}{{0}}{NEXT_ORDER}), {ENTRY_THERE}"""
SHARED = " AND s.shard % ? = ?"
DUE_ORDER = " ORDER BY s.next_at, s.id"
SOONEST = f"""SELECT {SCHEDULE_COLUMNS} FROM {SCHEDULE_TABLES}
    WHERE s.next_at IS NOT NULL AND s.dormant = 0 ORDER BY s.next_at LIMIT ?"""
IDLE = Load()
NAMES_MAX = 500
"""How many names one statement asks for: databases bound the arguments of a statement."""

LOOKED_AT = 100
"""How many rows beyond its limit ``broken`` looks at, soonest first: it is asked every few seconds, and a row
that is not due soon does no harm yet."""

# --- runs ---

RUN_TABLES = "onebeat_runs AS r LEFT JOIN onebeat_definitions AS d ON d.id = r.definition_id"
RUNS_WHERE = f"SELECT {RUN_COLUMNS}, d.tags FROM {RUN_TABLES} WHERE {{}} ORDER BY r.seq DESC"
FEW_RUNS_WHERE = RUNS_WHERE.replace("r.seq DESC", "r.seq + 0 DESC")
"""For those that are unfinished: they are found by their state and sorted, however long the history is that a
walk from its end would lead through."""
RUN_NAMED = f"SELECT {RUN_COLUMNS} FROM onebeat_runs AS r WHERE r.id = ?"
RUNS_OF_SCHEDULE = "r.schedule_id = (SELECT id FROM onebeat_schedules WHERE name = ?)"
RUNS_BEFORE = "r.seq < (SELECT seq FROM onebeat_runs WHERE id = ?)"
LOG_LINES = """SELECT l.at, l.attempt, l.level, l.text FROM onebeat_log_lines AS l
    JOIN onebeat_runs AS r ON r.seq = l.run_seq WHERE r.id = ? ORDER BY l.id"""
TARGET_BY_ID = 'SELECT queue, "key" FROM onebeat_targets WHERE id = ?'
TARGETS_AFTER = 'SELECT id, queue, "key" FROM onebeat_targets WHERE id > ? ORDER BY id'

# --- the proof ---

EVENTS_AFTER = f"SELECT id, {EVENT_COLUMNS} FROM onebeat_events WHERE id > ?"
RUN_TILES = """SELECT id, mark_before, mark_after, count, occurrence_at, due_at, created_at FROM onebeat_runs
    WHERE schedule_id = ? AND mark_after > ? AND mark_before < ?"""
EVENT_TILES = f"""SELECT id, {EVENT_COLUMNS} FROM onebeat_events
    WHERE schedule_id = ? AND mark_after > ? AND mark_before < ?"""
SUMMARIES = """SELECT day, fired, folded, skipped, mark_before, mark_after FROM onebeat_day_summaries
    WHERE schedule_id = ? ORDER BY day"""
PURGED_UNTIL = "SELECT max(mark_after) FROM onebeat_day_summaries WHERE schedule_id = ?"
FIRST_MARK = "SELECT boundary_at FROM onebeat_changes WHERE schedule_id = ? ORDER BY id LIMIT 1"

# --- the whole ---

NODES = f"SELECT {NODE_COLUMNS} FROM onebeat_nodes ORDER BY seen_at DESC"
NODES_ALIVE = f"SELECT {NODE_COLUMNS} FROM onebeat_nodes WHERE alive_until > ?"
TARGETS_UNFINISHED = """SELECT target_id FROM onebeat_runs
    WHERE state <> 'ready' AND state IN ('waiting', 'running', 'sent', 'parked')"""
TARGETS_WANTED = f"""SELECT t."key" FROM onebeat_targets AS t WHERE EXISTS
    (SELECT 1 FROM onebeat_schedules AS s WHERE s.target_id = t.id AND s.dormant < {DELETED})
    OR t.id IN ({TARGETS_UNFINISHED})
    OR EXISTS (SELECT 1 FROM onebeat_runs AS r WHERE r.state = 'ready' AND r.target_id = t.id)"""
HELD = "SELECT after FROM onebeat_holds ORDER BY id DESC LIMIT 1"
STATES_COUNT = """SELECT state, count(*) FROM onebeat_runs WHERE state <> 'ready' GROUP BY state
    UNION ALL SELECT 'ready', count(*) FROM onebeat_runs WHERE state = 'ready'"""
DORMANT_COUNT = "SELECT dormant, count(*) FROM onebeat_schedules GROUP BY dormant"
DUE_COUNT = """SELECT count(*) FROM onebeat_schedules
    WHERE next_at IS NOT NULL AND dormant = 0 AND next_at <= ?"""


GONE = ("", "")
"""The queue and key of a target whose row somebody removed."""


class SqlReader:
    """The Reader, on any dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # Targets never change and never go, so what was read once is known. None is made by a transaction
        # that also reads them here: what is rolled back is never remembered. Other threads may add to it at
        # any time, so whoever walks through it walks through a copy.
        self._targets: dict[int, Lane] = {}
        self._learned = 0  # all up to this id are there

    def _read(self, work: Callable[[Session], T]) -> T:
        return self._dialect.read(work)

    # --- schedules ---

    def schedules(self, query: ScheduleQuery) -> list[Schedule]:
        sql = SCHEDULES_PAGE
        args: list[Cell] = [query.after]
        if not query.deleted:
            sql += f" AND s.dormant < {DELETED}"
        if query.owner is not None:
            sql += " AND c.owner = ?"
            args.append(query.owner)
        if query.tag is not None:
            # A first look, for speed; what the document says is what counts.
            sql += " AND replace(d.tags, ?, '') <> d.tags"
            args.append(json_text(query.tag))

        def rows(session: Session) -> Iterator[Row]:
            if query.names is None:
                yield from session.each(sql + " ORDER BY s.name", args, query.limit)
                return
            names = sorted(set(query.names))
            for begin in range(0, len(names), NAMES_MAX):
                some = names[begin : begin + NAMES_MAX]
                among = f" AND s.name IN ({','.join('?' * len(some))}) ORDER BY s.name"
                yield from session.each(sql + among, [*args, *some], len(some))

        def work(session: Session) -> list[Schedule]:
            found = (schedule_of(row)[0] for row in rows(session))
            wanted = (row for row in found if query.tag is None or query.tag in row.definition.tags)
            return list(islice(wanted, query.limit))

        return self._read(work)

    def owing(self, names: Sequence[str]) -> list[tuple[Schedule, Load]]:
        def work(session: Session) -> list[tuple[Schedule, Load]]:
            rows = self._rows_named(session, sorted(set(names)))
            loads = {
                row[0]: Load(live=row[1], waiting=row[2], last_waiting=row[3])
                for row in session.batch(LOADS, [(row.id,) for row in rows.values()])
            }
            return [(rows[name], loads[rows[name].id]) for name in sorted(rows)]

        return self._read(work)

    def _rows_named(self, session: Session, names: Sequence[str]) -> dict[str, Schedule]:
        """Return the rows of names; where one was purged, the tombstone that the trail remembers."""
        found = {row[1]: row for row in session.batch(SCHEDULES_NAMED, [(name,) for name in names])}
        missing = [(name,) for name in names if name not in found]
        for row in sorted(session.batch(PURGED_NAMED, missing)):  # the newest last
            found[row[2]] = row[1:]
        return {name: schedule_of(row)[0] for name, row in found.items()}

    def definition(self, schedule_id: int, number: int) -> Definition:
        row = self._read(lambda session: session.row(DEFINITION, (schedule_id, number)))
        if row is None:
            raise NotFound(f"schedule {schedule_id} has no definition {number}")
        return definition_of(row)[0]

    def trail(self, schedule_id: int) -> list[Change]:
        return [change_of(row) for row in self._read(lambda session: session.rows(TRAIL, (schedule_id,)))]

    # --- what the dispatcher reads ---

    def due(self, now: datetime, limit: int, share: Share | None = None) -> Due:
        at = micros(now)
        shared, mine = ("", ()) if share is None else (SHARED, (share.of, share.index))
        args = (at, *mine)
        # Looked first, in one statement: mostly nothing is due, and an idle node shall cost next to nothing.
        ((after, first, later, waits),) = self._dialect.look(HELD_OR_NEXT.format(shared), (*mine, *args))
        held = hold_of(after) is not None
        if held or first is None or first > at:
            next_at = None if held or first is None else instant_of(first)
            return Due(next_at=next_at, entries=bool(waits))

        # Each row is one picture, and settle compares it: they need not be one with what was seen above.
        rows = map(self._owing, paged(self._dialect.look, DUE_ROWS + shared + DUE_ORDER, args, limit))
        found = tuple(islice((row for row in rows if row is not None), limit))
        return Due(rows=found, next_at=None if later is None else instant_of(later), entries=bool(waits))

    def _owing(self, row: Row) -> Owing | None:
        """Return a row to decide; None for one that does not decode: ``broken`` tells of it."""
        documents = owing_documents(row[7], row[8], row[6])
        if documents is None or not FIRST <= row[4] <= LAST or not FIRST <= row[5] <= LAST:
            return None
        live, waiting, last_waiting = row[9:12]
        load = Load(live=live, waiting=waiting, last_waiting=last_waiting) if live or waiting else IDLE
        return Owing(
            id=row[0],
            name=row[1],
            incarnation=row[2],
            version=row[3],
            trigger=documents[0],
            policy=documents[1],
            settled_until=instant_of(row[4]),
            next_at=instant_of(row[5]),
            skips=documents[2],
            load=load,
        )

    def broken(self, limit: int) -> list[tuple[str, str]]:
        looked_at = (schedule_of(row) for row in self._dialect.look(SOONEST, (limit + LOOKED_AT,)))
        return list(islice(((row.name, wrong) for row, wrong in looked_at if wrong), limit))

    # --- runs ---

    def run(self, run_id: str) -> Run | None:
        def work(session: Session) -> Run | None:
            row = session.row(RUN_NAMED, (run_id,))
            return None if row is None else self._run(session, row)

        return self._read(work)

    def _run(self, session: Session, row: Row) -> Run:
        lane = self._targets.get(row[RUN_TARGET])
        if lane is None:
            found = session.row(TARGET_BY_ID, (row[RUN_TARGET],)) or GONE
            lane = self._targets[row[RUN_TARGET]] = lane_of(*found)
        return run_of(row, lane)

    def _learn_targets(self, session: Session) -> None:
        """Read the targets that were added since they were read last."""
        for target_id, queue, key in session.rows(TARGETS_AFTER, (self._learned,)):
            self._targets[target_id] = lane_of(queue, key)
            self._learned = target_id

    def runs(self, query: RunQuery) -> list[Run]:
        conditions: list[str] = []
        args: list[Cell] = []
        for condition, value in (
            (RUNS_OF_SCHEDULE, query.schedule),
            ("r.due_at >= ?", micros_or_none(query.since)),
            ("r.due_at < ?", micros_or_none(query.until)),
            (RUNS_BEFORE, query.before),
        ):
            if value is not None:
                conditions.append(condition)
                args.append(value)
        if query.states == ():
            return []

        # State by state, each the newest first, so that a rare state is found without a scan.
        selects = [
            (FEW_RUNS_WHERE if state in UNFINISHED else RUNS_WHERE).format(
                " AND ".join([*conditions, "TRUE" if state is None else in_state(state, query)])
            )
            for state in query.states or (None,)
        ]
        if query.tag is None:
            each = [f"SELECT * FROM ({select} LIMIT ?) AS q" for select in selects]
            rows = self._dialect.look(" UNION ALL ".join(each), [*args, query.limit] * len(selects))
            rows.sort(key=lambda row: -row[RUN_SEQ])
            rows = rows[: query.limit]
            return self._read(lambda session: [self._run(session, row) for row in rows]) if rows else []

        def work(session: Session) -> list[Run]:
            found: list[tuple[int, Run]] = []
            for select in selects:
                rows = session.each(select, args, query.limit)
                wanted = (row for row in rows if query.tag is None or query.tag in tags_of(row[-1]))
                found += [(row[RUN_SEQ], self._run(session, row)) for row in islice(wanted, query.limit)]
            found.sort(key=lambda each: -each[0])
            return [run for _, run in found[: query.limit]]

        return self._read(work)

    def log(self, run_id: str) -> list[LogLine]:
        return [
            LogLine(at=instant_of(at), attempt=attempt, level=level, text=text)
            for at, attempt, level, text in self._read(lambda session: session.rows(LOG_LINES, (run_id,)))
        ]

    # --- events and the proof ---

    def events(self, query: EventQuery) -> list[Event]:
        sql = EVENTS_AFTER
        args: list[Cell] = [query.after]
        for column, value in (("schedule", query.schedule), ("run_id", query.run_id)):
            if value is not None:
                sql += f" AND {column} = ?"
                args.append(value)
        if query.kinds == ():
            return []
        if query.kinds is not None:
            sql += f" AND kind IN ({','.join('?' * len(query.kinds))})"
            args.extend(query.kinds)
        args.append(query.limit)
        rows = self._read(lambda session: session.rows(sql + " ORDER BY id LIMIT ?", args))
        return [event_of(row) for row in rows]

    def tiles(self, schedule_id: int, since: datetime, until: datetime) -> list[Tile]:
        args = (schedule_id, micros(since), micros(until))

        def work(session: Session) -> list[Tile]:
            fired = [run_tile_of(row) for row in session.rows(RUN_TILES, args)]
            return fired + [event_tile_of(event_of(row)) for row in session.rows(EVENT_TILES, args)]

        return sorted(self._read(work), key=lambda tile: (tile.mark_before, tile.mark_after))

    def summaries(self, schedule_id: int) -> list[Summary]:
        return [
            Summary(
                day=row[0],
                fired=row[1],
                folded=row[2],
                skipped=row[3],
                mark_before=instant_of(row[4]),
                mark_after=instant_of(row[5]),
            )
            for row in self._read(lambda session: session.rows(SUMMARIES, (schedule_id,)))
        ]

    def provable_from(self, schedule_id: int) -> datetime:
        def work(session: Session) -> Row | None:
            purged = session.row(PURGED_UNTIL, (schedule_id,))
            return purged if purged and purged[0] is not None else session.row(FIRST_MARK, (schedule_id,))

        row = self._read(work)
        if row is None:
            raise NotFound(f"there never was a schedule {schedule_id}")
        return instant_of(row[0])

    # --- nodes and the whole ---

    def nodes(self) -> list[Node]:
        return [node_of(row) for row in self._dialect.look(NODES)]

    def targets(self) -> list[str]:
        return sorted({row[0] for row in self._dialect.look(TARGETS_WANTED)})

    def held(self) -> Hold | None:
        return self._read(self._held)

    def _held(self, session: Session) -> Hold | None:
        session.gate(HOLD, shared=True)
        row = session.row(HELD)
        return None if row is None else hold_of(row[0])

    def counts(self) -> dict[str, int]:
        def work(session: Session) -> dict[str, int]:
            now = micros(session.now())
            states: dict[str, int] = dict(session.rows(STATES_COUNT))
            rows = [(bits, count) for bits, count in session.rows(DORMANT_COUNT) if bits < DELETED]
            return {f"runs_{state.value}": states.get(state.value, 0) for state in RunState} | {
                "schedules": sum(count for _, count in rows),
                "paused": sum(count for bits, count in rows if bits & PAUSED),
                "quarantined": sum(count for bits, count in rows if bits & QUARANTINED),
                "due": session.rows(DUE_COUNT, (now,))[0][0],
            }

        return self._read(work)

    def facts(self) -> dict[str, str]:
        return self._dialect.facts()


def in_state(state: RunState, query: RunQuery) -> str:
    """Return the condition for runs in a state, worded so that the right index serves it."""
    if query.schedule is not None:
        return f"(r.state || '') = '{state.value}'"  # the schedule's own runs are few: walk those
    if state is RunState.READY:
        return "r.seq IN (SELECT seq FROM onebeat_runs WHERE state = 'ready')"
    return f"r.state <> 'ready' AND r.state = '{state.value}'"
