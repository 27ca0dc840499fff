"""Runs in the SQL store: fired, claimed, moved on and promoted; and what time has overtaken.

A transaction reads the runs that it concerns, moves them in memory by moves.py, which every store shares,
and writes back what changed. That is sound because nobody else writes meanwhile: the dialect's ``write``
holds what is read here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import TypeVar

from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Done,
    Finish,
    Guard,
    LogLine,
    Lost,
    Note,
    Overdue,
    Overtaken,
    Release,
    Renew,
    Start,
)
from onebeat.core.model import (
    FINISHED,
    UNFINISHED,
    Definition,
    Event,
    NewRun,
    Outcome,
    Run,
    RunState,
    Settlement,
    micros,
)
from onebeat.store.dialects.protocol import Cell, Row, Session
from onebeat.store.moves import cancelled, leased, moved
from onebeat.store.rows import DEFINITION_COLUMNS, definition_of, micros_of, policy_of
from onebeat.store.run_rows import (
    EVENT_COLUMNS,
    HELD_COLUMNS,
    MOVED_COLUMNS,
    NEW_RUN_COLUMNS,
    RUN_COLUMNS,
    RUN_DEFINITION,
    RUN_SEQ,
    end_cells,
    event_cells,
    held_cells,
    moved_cells,
    new_run_cells,
)
from onebeat.store.sql_reader import SqlReader, ready_targets

T = TypeVar("T")

DEFINITIONS_KEPT = 8192
DROPPED = "dropped"
"""The level of a log's last line, where the rest of it did not fit."""

# --- firing ---

RUNS_ADDED = f"INSERT INTO onebeat_runs ({NEW_RUN_COLUMNS}) VALUES {{rows}}"
EVENTS_ADDED = f"INSERT INTO onebeat_events ({EVENT_COLUMNS}) VALUES {{rows}}"
QUEUED = """WITH wanted (schedule_id) AS (VALUES {rows})
    SELECT w.schedule_id FROM wanted AS w WHERE EXISTS
    (SELECT 1 FROM onebeat_runs AS r WHERE r.schedule_id = w.schedule_id AND r.slot = 'waiting')"""
PROMOTED = """UPDATE onebeat_runs SET state = 'ready', slot = 'live' WHERE seq IN
    (SELECT seq FROM onebeat_runs WHERE schedule_id = ? AND slot = 'waiting' ORDER BY due_at, id LIMIT
        COALESCE((SELECT CASE WHEN s.max_running IS NULL THEN 1000000000 ELSE max(0, s.max_running -
            (SELECT count(*) FROM onebeat_runs WHERE schedule_id = s.id AND slot = 'live')) END
        FROM onebeat_schedules AS s WHERE s.id = ?), 0))
    RETURNING id"""
UNFINISHED_OF = f"""SELECT {RUN_COLUMNS} FROM onebeat_runs AS r
    WHERE r.schedule_id = ? AND r.slot IN ('live', 'waiting')"""
WAITING_OF = f"SELECT {RUN_COLUMNS} FROM onebeat_runs AS r WHERE r.schedule_id = ? AND r.slot = 'waiting'"

# --- claiming ---

NEXT_PRIORITY = """SELECT priority FROM onebeat_runs WHERE state = 'ready' AND target_id = ? AND priority < ?
    ORDER BY priority DESC LIMIT 1"""
CLAIMABLE = f"""SELECT {RUN_COLUMNS} FROM onebeat_runs AS r
    WHERE r.state = 'ready' AND r.target_id = ? AND r.priority = ? AND r.ready_at <= ?
    AND (r.deadline_at IS NULL OR r.deadline_at >= ?) ORDER BY r.ready_at, r.id"""
DEFINITIONS = f"""WITH wanted (id) AS (VALUES {{rows}})
    SELECT d.id, {DEFINITION_COLUMNS} FROM wanted AS w JOIN onebeat_definitions AS d ON d.id = w.id"""
CLAIMED = """WITH c (seq, token) AS (VALUES {rows})
    UPDATE onebeat_runs SET state = 'running', watch_at = ?, reason = '', attempt = attempt + 1,
        token = c.token, holder = ?, lease_until = ?, resend_at = NULL, claimed_at = ?, started_at = NULL,
        outcome = NULL, error = NULL, progress_done = NULL, progress_total = NULL
    FROM c WHERE onebeat_runs.seq = c.seq"""
NEWEST_FENCE = "SELECT value FROM onebeat_meta WHERE name = 'last_token'"
FENCE_MOVED = "UPDATE onebeat_meta SET value = ? WHERE name = 'last_token'"
HIGHEST = 1 << 62

# --- moving ---

RUNS_NAMED = f"""WITH wanted (id) AS (VALUES {{rows}})
    SELECT {RUN_COLUMNS} FROM wanted AS w JOIN onebeat_runs AS r ON r.id = w.id"""
_moved = [name.strip() for name in MOVED_COLUMNS.split(",")]
_held = [name.strip() for name in HELD_COLUMNS.split(",")]
MOVED = f"""WITH m ({MOVED_COLUMNS}) AS (VALUES {{rows}})
    UPDATE onebeat_runs SET {", ".join(f"{name} = m.{name}" for name in _moved[1:])}
    FROM m WHERE onebeat_runs.seq = m.seq"""
HELD_ON = f"""WITH m ({HELD_COLUMNS}) AS (VALUES {{rows}})
    UPDATE onebeat_runs SET {", ".join(f"{name} = m.{name}" for name in _held[1:])}
    FROM m WHERE onebeat_runs.seq = m.seq"""

STARTED = """WITH h (id, token) AS (VALUES {rows})
    UPDATE onebeat_runs SET started_at = ?, deadline_at = NULL FROM h
    WHERE onebeat_runs.id = h.id AND state = 'running' AND onebeat_runs.token = h.token AND started_at IS NULL
    RETURNING onebeat_runs.id, cancel_requested, schedule_id"""
RENEWED = """WITH h (id, token, until) AS (VALUES {rows})
    UPDATE onebeat_runs SET lease_until = h.until, watch_at = h.until FROM h
    WHERE onebeat_runs.id = h.id AND state = 'running' AND onebeat_runs.token = h.token
    RETURNING onebeat_runs.id, cancel_requested, schedule_id"""
ENDED_AT = """WITH h (id, token, state, reason, outcome, error, result) AS (VALUES {rows})
    UPDATE onebeat_runs SET state = h.state, slot = NULL, watch_at = NULL, reason = h.reason,
        outcome = h.outcome, error = h.error, result = h.result, lease_until = NULL, resend_at = NULL,
        finished_at = ?
    FROM h WHERE onebeat_runs.id = h.id AND onebeat_runs.state = 'running' AND onebeat_runs.token = h.token
    RETURNING onebeat_runs.id, cancel_requested, schedule_id"""

# --- notes and what is overdue ---

NOTED = """SELECT seq, log_bytes FROM onebeat_runs WHERE id = ? AND token = ? AND state = 'running'"""
PROGRESSED = "UPDATE onebeat_runs SET progress_done = ?, progress_total = ? WHERE seq = ?"
LINES_ADDED = "INSERT INTO onebeat_log_lines (run_seq, at, attempt, level, text) VALUES {rows}"
LOG_GREW = "UPDATE onebeat_runs SET log_bytes = ? WHERE seq = ?"
OVERDUE = f"""SELECT {RUN_COLUMNS}, d.policy FROM onebeat_runs AS r
    LEFT JOIN onebeat_definitions AS d ON d.id = r.definition_id
    WHERE r.watch_at <= ? AND (r.watch_at < ? OR r.state IN ('running', 'sent'))
    ORDER BY r.watch_at, r.id LIMIT ?"""
_OVERTAKEN = {RunState.RUNNING: Overtaken.LEASE, RunState.SENT: Overtaken.RESEND}


OF_HOLDERS = (Start, Renew, Finish, Release, Lost)
HELD = Advanced(answer=Answer.ACCEPTED, state=RunState.RUNNING)
ENDED = {state: Advanced(answer=Answer.ACCEPTED, state=state) for state in FINISHED}


class SqlRuns(SqlReader):
    """Everything that makes or moves a run."""

    _definitions: dict[int, Definition]

    def _write(self, work: Callable[[Session], T]) -> T:
        """Commit what ``work`` does; then tell those who wait."""
        done = self._dialect.write(work)
        self._dialect.changed()
        return done

    # --- firing, cancelling, promoting: parts of other verbs' transactions ---

    def _tell(self, session: Session, events: Sequence[Event]) -> None:
        if events:
            session.batch(EVENTS_ADDED, [event_cells(event) for event in events])

    def _fire(
        self,
        session: Session,
        fired: Iterable[tuple[NewRun, tuple[Cell, ...], Settlement | None]],
        now: datetime,
    ) -> None:
        """Add new runs, each with what its schedule says of it (FIRED_UNDER) and the tile that it covers."""
        created_at = micros(now)
        cells = [new_run_cells(new, under, created_at, tile) for new, under, tile in fired]
        if cells:
            session.batch(RUNS_ADDED, cells)

    def _cancel(self, session: Session, sql: str, schedule_id: int, reason: str, now: datetime) -> None:
        """Cancel runs that a statement of one schedule finds: at once, or by flag if a holder has them."""
        before = [(row[RUN_SEQ], self._run(session, row)) for row in session.rows(sql, (schedule_id,))]
        self._write_back(session, [(seq, run, cancelled(run, reason, now)) for seq, run in before])

    def _promote(self, session: Session, schedule_id: int) -> list[str]:
        """Make waiting runs ready, oldest first, as far as the definition in force has slots; return them."""
        return [row[0] for row in session.rows(PROMOTED, (schedule_id, schedule_id))]

    def _queued(self, session: Session, schedule_ids: Iterable[int]) -> set[int]:
        """Return those of the schedules that have waiting runs."""
        wanted = [(schedule_id,) for schedule_id in sorted(set(schedule_ids))]
        return {row[0] for row in session.batch(QUEUED, wanted)}

    def _write_back(self, session: Session, moves: Iterable[tuple[int, Run, Run]]) -> None:
        """Write runs that changed: row number, before, after. A run that its holder keeps touches less."""
        held, others = [], []
        for seq, before, after in moves:
            if before.state is after.state is RunState.RUNNING and before.token == after.token:
                held.append(held_cells(seq, after))
            elif after is not before:
                others.append(moved_cells(seq, after))
        if held:
            session.batch(HELD_ON, held)
        if others:
            session.batch(MOVED, others)

    # --- claim ---

    def claim(self, claim: Claim) -> list[Claimed]:
        # Looked first, without a lock: idle workers must not stand in each other's and everybody's way.
        now = micros(self._dialect.now())
        if self._read(lambda session: next(self._candidates(session, claim, now), None)) is None:
            return []
        return self._dialect.write(lambda session: self._claim(session, claim))

    def _claim(self, session: Session, claim: Claim) -> list[Claimed]:
        now = self._dialect.now()
        found = self._claimable(session, claim, now)
        if not found:
            return []
        token = self._next_token(session, now)
        session.run(FENCE_MOVED, (token + len(found) - 1,))
        until = micros(claim.until)
        session.batch(
            CLAIMED,
            [(row[RUN_SEQ], token + number) for number, (row, _) in enumerate(found)],
            (until, claim.holder, until, micros(now)),
        )
        return [
            Claimed(
                run=leased(self._run(session, row), claim.holder, claim.until, token + number, now),
                definition=definition,
            )
            for number, (row, definition) in enumerate(found)
        ]

    def _claimable(self, session: Session, claim: Claim, now: datetime) -> list[tuple[Row, Definition]]:
        """Return what a claim may have, in the order of claiming.

        A run whose definition does not decode is left where it is: nobody could run it.
        """
        found: list[tuple[Row, Definition]] = []
        candidates = self._candidates(session, claim, micros(now))
        while len(found) < claim.limit:
            rows = list(islice(candidates, claim.limit - len(found)))
            if not rows:
                break
            definitions = self._definitions_of(session, {row[RUN_DEFINITION] for row in rows})
            found += [
                (row, definitions[row[RUN_DEFINITION]]) for row in rows if row[RUN_DEFINITION] in definitions
            ]
        return found

    def _candidates(self, session: Session, claim: Claim, now: int) -> Iterator[Row]:
        """Yield ready runs in the order of claiming; nothing is read that is not taken."""
        lanes: dict[int, list[int]] = {}
        for target_id in ready_targets(session, self._targets_of(session, claim)):
            priority = session.row(NEXT_PRIORITY, (target_id, HIGHEST))
            while priority is not None:
                lanes.setdefault(priority[0], []).append(target_id)
                priority = session.row(NEXT_PRIORITY, (target_id, priority[0]))
        for level in sorted(lanes, reverse=True):
            streams = [session.each(CLAIMABLE, (target_id, level, now, now)) for target_id in lanes[level]]
            yield from streams[0] if len(streams) == 1 else merge(*streams, key=lambda row: (row[9], row[0]))

    def _targets_of(self, session: Session, claim: Claim) -> list[int]:
        self._learn_targets(session)
        queues, keys = set(claim.queues), set(claim.targets)
        return sorted(
            target_id
            for target_id, (queue, key) in list(self._targets.items())
            if queue in queues and key in keys
        )

    def _definitions_of(self, session: Session, wanted: set[int]) -> dict[int, Definition]:
        """Return definitions by row number, without those that do not decode. They never change: kept."""
        known = self._definitions
        missing = [(definition_id,) for definition_id in sorted(wanted) if definition_id not in known]
        found = {each: known[each] for each in wanted if each in known}
        for row in session.batch(DEFINITIONS, missing):
            definition, wrong = definition_of(row[1:])
            if not wrong:
                found[row[0]] = definition
                if len(known) >= DEFINITIONS_KEPT:
                    known.clear()
                known[row[0]] = definition
        return found

    def _next_token(self, session: Session, now: datetime) -> int:
        """Return a token larger than every one given before, and at least the clock in µs."""
        ((last,),) = session.rows(NEWEST_FENCE)
        return max(int(last) + 1, micros(now))

    # --- advance ---

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        if not transitions:
            return []
        return self._write(lambda session: self._advance(session, transitions))

    def _advance(self, session: Session, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        now = self._dialect.now()
        answers = self._hold_on(session, transitions, now)
        rest = [index for index in range(len(transitions)) if index not in answers]
        if rest:
            moved_on = self._move(session, [transitions[index] for index in rest], now)
            answers.update(zip(rest, moved_on, strict=True))
        told = [answers[index] for index in range(len(transitions))]
        accepted = (
            step for step, each in zip(transitions, told, strict=True) if each.answer is Answer.ACCEPTED
        )
        self._tell(session, [step.event for step in accepted if step.event is not None])
        return told

    def _hold_on(
        self, session: Session, transitions: Sequence[AnyTransition], now: datetime
    ) -> dict[int, Advanced]:
        """Make what holders do all day without reading first: starts, renewals and ends that are plain.

        Return the answers to those that were accepted, by place in the batch; all others still have to be
        looked at. A plain move says in one condition what moves.py says of it: running, under this token. It
        is made before the others of its batch only if none of them can tell: they concern other runs, and
        none of these can be one that an end lets in.
        """
        places = {step.run_id: index for index, step in enumerate(transitions)}
        if len(places) < len(transitions) or not all(isinstance(step, OF_HOLDERS) for step in transitions):
            return {}
        starts: list[tuple[Cell, ...]] = []
        renewals: list[tuple[Cell, ...]] = []
        ends: list[tuple[Cell, ...]] = []
        hoped: dict[str, Advanced] = {}
        for step in transitions:
            match step:
                case Start():
                    starts.append((step.run_id, step.token))
                    hoped[step.run_id] = HELD
                case Renew():
                    renewals.append((step.run_id, step.token, micros_of(step.until)))
                    hoped[step.run_id] = replace(HELD, token=step.token)
                case Finish(verdict=Done() as verdict) if _is_plain(step, verdict):
                    ends.append(end_cells(step, verdict))
                    hoped[step.run_id] = ENDED[verdict.state]
                case _:
                    pass
        at = micros(now)
        taken = session.batch(STARTED, starts, (at,)) if starts else []
        taken += session.batch(RENEWED, renewals) if renewals else []
        taken += session.batch(ENDED_AT, ends, (at,)) if ends else []
        if ends:
            freed = {schedule_id for _, _, schedule_id in taken}
            for schedule_id in self._queued(session, freed):
                self._promote(session, schedule_id)
        return {
            places[run_id]: replace(hoped[run_id], cancel_requested=True) if flagged else hoped[run_id]
            for run_id, flagged, _ in taken
        }

    def _move(self, session: Session, transitions: Sequence[AnyTransition], now: datetime) -> list[Advanced]:
        """Read runs, make their transitions one after the other by moves.py, and write them back."""
        wanted = [(run_id,) for run_id in sorted({step.run_id for step in transitions})]
        seqs: dict[str, int] = {}
        runs: dict[str, Run] = {}
        for row in session.batch(RUNS_NAMED, wanted):
            seqs[row[0]], runs[row[0]] = row[RUN_SEQ], self._run(session, row)
        written = dict(runs)  # as the rows have it
        queued = self._queued(session, (run.schedule_id for run in runs.values()))
        guarded = any(isinstance(step, Guard) for step in transitions)
        token = self._next_token(session, now) if guarded else 0
        answers: list[Advanced] = []

        def write_back() -> None:
            changed = [run_id for run_id, run in runs.items() if run is not written[run_id]]
            self._write_back(session, [(seqs[each], written[each], runs[each]) for each in changed])
            written.update((each, runs[each]) for each in changed)

        for step in transitions:
            before = runs.get(step.run_id)
            if before is None:
                answers.append(Advanced(answer=Answer.REFUSED))
                continue
            answer, after = moved(before, step, now, token)
            answers.append(answer)
            if answer.answer is not Answer.ACCEPTED:
                continue
            runs[after.id] = after
            if isinstance(step, Guard):
                session.run(FENCE_MOVED, (token,))
                token += 1
            if after.state not in UNFINISHED and after.schedule_id in queued:
                write_back()
                for run_id in self._promote(session, after.schedule_id):
                    if run_id in runs:
                        runs[run_id] = written[run_id] = replace(runs[run_id], state=RunState.READY)
        write_back()
        return answers

    # --- note ---

    def note(self, notes: Sequence[Note]) -> list[bool]:
        return self._dialect.write(lambda session: [self._note(session, note) for note in notes])

    def _note(self, session: Session, note: Note) -> bool:
        run = session.row(NOTED, (note.run_id, note.token))
        if run is None:
            return False
        seq, log_bytes = run
        if note.progress is not None:
            session.run(PROGRESSED, (*note.progress, seq))
        lines: list[LogLine] = []
        size = log_bytes
        for line in note.lines:
            if size > LOG_BYTES_MAX:
                break
            size += len(line.text.encode())
            said = f"the rest was dropped: a run keeps {LOG_BYTES_MAX} bytes"
            lines.append(line if size <= LOG_BYTES_MAX else replace(line, level=DROPPED, text=said))
        if lines:
            cells = [(seq, micros_of(line.at), line.attempt, line.level, line.text) for line in lines]
            session.batch(LINES_ADDED, cells)
            session.run(LOG_GREW, (size, seq))
        return True

    # --- lost ---

    def lost(self, now: datetime, limit: int) -> list[Overdue]:
        at = micros(now)

        def work(session: Session) -> list[Overdue]:
            return [self._overdue(session, row) for row in session.rows(OVERDUE, (at, at, limit))]

        return self._read(work)

    def _overdue(self, session: Session, row: Row) -> Overdue:
        run = self._run(session, row)
        overtaken = _OVERTAKEN.get(run.state, Overtaken.DEADLINE)
        return Overdue(run=run, policy=policy_of(row[-1]), overtaken=overtaken)


def _is_plain(step: Finish, verdict: Done) -> bool:
    # A lost attempt whose cancel was requested ends otherwise than its verdict says: that has to be read.
    return verdict.state in FINISHED and step.outcome is not Outcome.LOST
