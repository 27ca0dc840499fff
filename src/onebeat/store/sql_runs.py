"""Runs in the SQL store: fired, moved on and promoted; and what time has overtaken. Claims: sql_claims.py.

A transaction reads the runs that it concerns, moves them in memory by moves.py, which every store shares,
and writes back what changed. That is sound because nobody else moves them meanwhile: what is read to be
written is locked before, schedules by id and then runs by id, unless the transaction writes alone anyway.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Done,
    Finish,
    Guard,
    LogLine,
    Note,
    Overdue,
    Overtaken,
    Renew,
    Start,
)
from onebeat.core.model import (
    FINISHED,
    UNFINISHED,
    Event,
    NewRun,
    Outcome,
    Run,
    RunState,
    Settlement,
    micros,
)
from onebeat.store.dialects.protocol import FENCE, ORDER, BatchUpdate, Cell, ManyRows, Row, Session
from onebeat.store.moves import DROPPED, OF_HOLDERS, REST_DROPPED, cancelled, moved, refused
from onebeat.store.rows import micros_of, policy_of
from onebeat.store.run_rows import (
    EVENT_COLUMNS,
    HELD_COLUMNS,
    MOVED_COLUMNS,
    NEW_RUN_COLUMNS,
    RUN_COLUMNS,
    RUN_SEQ,
    end_cells,
    event_cells,
    held_cells,
    moved_cells,
    new_run_cells,
)
from onebeat.store.sql_claims import FENCE_MOVED, MANY, NEWEST_FENCE, SqlClaims
from onebeat.store.sql_groups import Turns

T = TypeVar("T")

# --- firing ---

RUNS_ADDED = f"INSERT INTO onebeat_runs ({NEW_RUN_COLUMNS}) VALUES {{rows}}"
EVENTS_ADDED = f"INSERT INTO onebeat_events ({EVENT_COLUMNS}) VALUES {{rows}}"
# Worded as one value: for an EXISTS, a planner may first collect all that wait, in every schedule.
_ONE_WAITS = """(SELECT r.seq FROM onebeat_runs AS r
    WHERE r.schedule_id = w.schedule_id AND r.slot = 'waiting' LIMIT 1) IS NOT NULL"""
QUEUED = f"""WITH wanted (schedule_id) AS (VALUES {{rows}})
    SELECT w.schedule_id FROM wanted AS w WHERE {_ONE_WAITS}"""
OPENED = f"""WITH wanted (schedule_id) AS (VALUES {{rows}})
    SELECT w.schedule_id FROM wanted AS w JOIN onebeat_schedules AS s ON s.id = w.schedule_id
    WHERE s.max_running IS NOT NULL OR {_ONE_WAITS}"""
FIRST_WAITING = """SELECT seq, id FROM onebeat_runs WHERE schedule_id = ? AND slot = 'waiting'
    ORDER BY due_at, id LIMIT ?"""
SLOTS = """SELECT max_running,
    (SELECT count(*) FROM onebeat_runs WHERE schedule_id = onebeat_schedules.id AND slot = 'live')
    FROM onebeat_schedules WHERE id = ?"""
PROMOTED = BatchUpdate(
    "onebeat_runs", "m (seq)", {"state": "'ready'", "slot": "'live'"}, "onebeat_runs.seq = m.seq"
)
SCHEDULES_BY_ID = "SELECT id FROM onebeat_schedules WHERE id IN {keys} ORDER BY id"
LIMITED_LOCKED = """SELECT id FROM onebeat_schedules WHERE max_running IS NOT NULL
    AND id IN (SELECT schedule_id FROM onebeat_runs WHERE id IN {keys}) ORDER BY id"""
RUNS_LOCKED = "SELECT seq FROM onebeat_runs WHERE id IN {keys} ORDER BY id"
UNFINISHED_IDS = """WITH wanted (schedule_id) AS (VALUES {rows})
    SELECT r.id FROM wanted AS w JOIN onebeat_runs AS r ON r.schedule_id = w.schedule_id
    WHERE r.slot IN ('live', 'waiting')"""
UNFINISHED_OF = f"""SELECT {RUN_COLUMNS} FROM onebeat_runs AS r
    WHERE r.schedule_id = ? AND r.slot IN ('live', 'waiting')"""
WAITING_OF = f"SELECT {RUN_COLUMNS} FROM onebeat_runs AS r WHERE r.schedule_id = ? AND r.slot = 'waiting'"

# --- moving ---

RUNS_NAMED = f"""WITH wanted (id) AS (VALUES {{rows}})
    SELECT {RUN_COLUMNS} FROM wanted AS w JOIN onebeat_runs AS r ON r.id = w.id"""


def _set_all(columns: str) -> BatchUpdate:
    """Return the statement that writes these columns, the first of which is the row's own number."""
    sets = {name: f"m.{name}" for name in (column.strip() for column in columns.split(",")) if name != "seq"}
    return BatchUpdate("onebeat_runs", f"m ({columns})", sets, "onebeat_runs.seq = m.seq")


MOVED = _set_all(MOVED_COLUMNS)
HELD_ON = _set_all(HELD_COLUMNS)

HOLDERS = ManyRows(
    "id, seq, token, state, started_at, cancel_requested, schedule_id",
    "onebeat_runs WHERE id IN {keys} ORDER BY id",
)
"""What tells whether a holder still has a run, and the plain things that he does with it can be done."""

WHOLE = ManyRows(RUN_COLUMNS, "onebeat_runs AS r WHERE r.id IN {keys} ORDER BY r.id")
"""Runs that whoever asks for them locks and reads at once: what is locked in a statement is read as it is."""

STARTED = BatchUpdate(
    "onebeat_runs", "m (seq)", {"started_at": "?", "deadline_at": "NULL"}, "onebeat_runs.seq = m.seq"
)
RENEWED = BatchUpdate(
    "onebeat_runs",
    "m (seq, until)",
    {"lease_until": "m.until", "watch_at": "m.until"},
    "onebeat_runs.seq = m.seq",
)
_ENDED = {"finished_at": "?"} | dict.fromkeys(("slot", "watch_at", "lease_until", "resend_at"), "NULL")
_SAID = ("state", "reason", "outcome", "error", "result")
ENDED_ALIKE = BatchUpdate(
    "onebeat_runs", "m (seq)", _ENDED | dict.fromkeys(_SAID, "?"), "onebeat_runs.seq = m.seq"
)
"""Of those that say the same: mostly, that they succeeded, and no more."""
ENDED_EACH = BatchUpdate(
    "onebeat_runs",
    f"m (seq, {', '.join(_SAID)})",
    _ENDED | {name: f"m.{name}" for name in _SAID},
    "onebeat_runs.seq = m.seq",
)

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


KEEPING = (Start, Renew, Guard)
"""Transitions that free no slot: they need no lock on a schedule."""

HELD = Advanced(answer=Answer.ACCEPTED, state=RunState.RUNNING)
ENDED = {state: Advanced(answer=Answer.ACCEPTED, state=state) for state in FINISHED}


class SqlRuns(SqlClaims):
    """Everything that makes or moves a run."""

    def _write(self, work: Callable[[Session], T]) -> T:
        """Commit what ``work`` does; then tell those who wait."""
        done = self._dialect.write(work)
        self._dialect.changed()
        return done

    # --- firing, cancelling, promoting: parts of other verbs' transactions ---

    def _tell(self, session: Session, events: Sequence[Event]) -> None:
        if events:
            session.gate(ORDER)
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
        self._hold_unfinished(session, [schedule_id])
        before = [(row[RUN_SEQ], self._run(session, row)) for row in session.rows(sql, (schedule_id,))]
        self._write_back(session, [(seq, run, cancelled(run, reason, now)) for seq, run in before])

    def _hold_unfinished(self, session: Session, schedule_ids: Sequence[int]) -> None:
        """Hold the unfinished runs of schedules that are held, so that nobody adds to them.

        Found first and held by their ids, as whoever moves a run does it. Held as an index of schedules has
        them, the index's entry would be held before the row, and InnoDB lets the two wait for each other.
        """
        if not session.alone:
            found = session.batch(UNFINISHED_IDS, [(each,) for each in schedule_ids])
            session.lock(RUNS_LOCKED, sorted(run_id for (run_id,) in found))

    def _promote(self, session: Session, schedule_id: int) -> list[str]:
        """Make waiting runs ready, oldest first, as far as the definition in force has slots; return them."""
        if session.row(FIRST_WAITING, (schedule_id, 1)) is None:
            return []
        ((limit, live),) = session.rows(SLOTS, (schedule_id,))
        free = MANY if limit is None else max(0, limit - live)
        waiting = session.rows(FIRST_WAITING, (schedule_id, free))
        session.batch(PROMOTED, [row[:1] for row in waiting])
        return [row[1] for row in waiting]

    def _queued(self, session: Session, schedule_ids: Iterable[int]) -> set[int]:
        """Return those of the schedules that have waiting runs."""
        wanted = [(schedule_id,) for schedule_id in sorted(set(schedule_ids))]
        return {row[0] for row in session.batch(QUEUED, wanted)}

    def _opened(self, session: Session, freed: set[int], locked: set[int]) -> set[int]:
        """Return those of the schedules that have waiting runs, for which there may be a slot now.

        ``locked`` are those that had a limit, and so a lock, before the runs were locked. An edit may have
        put a limit on another one since. It takes these runs too: either it waits for us and counts them
        ended, or we waited for it, and see its limit here.
        """
        if not session.alone:
            late = [row[0] for row in session.batch(OPENED, [(each,) for each in sorted(freed - locked)])]
            session.lock(SCHEDULES_BY_ID, sorted(late))
            freed = freed & locked.union(late)
        return self._queued(session, freed)

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

    # --- advance ---

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        if not transitions:
            return []
        # Nobody waits for a run to be taken, or kept: as with a claim, there is nothing to tell.
        quiet = all(isinstance(step, KEEPING) for step in transitions)
        write = self._dialect.write if quiet else self._write
        if all(isinstance(step, Guard) for step in transitions):
            return write(lambda session: self._guard(session, transitions))
        return write(lambda session: self._advance(session, transitions))

    def _advance(self, session: Session, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        frees = [step.run_id for step in transitions if not isinstance(step, KEEPING)]
        limited = () if session.alone else session.lock(LIMITED_LOCKED, frees)
        held = session.lock(HOLDERS, [step.run_id for step in transitions])
        now = session.now()
        locked = {row[0] for row in limited}
        answers = self._hold_on(session, transitions, held, now, locked)
        rest = [index for index in range(len(transitions)) if index not in answers]
        if rest:
            moved_on = self._move(session, [transitions[index] for index in rest], now, locked)
            answers.update(zip(rest, moved_on, strict=True))
        told = [answers[index] for index in range(len(transitions))]
        accepted = (
            step for step, each in zip(transitions, told, strict=True) if each.answer is Answer.ACCEPTED
        )
        self._tell(session, [step.event for step in accepted if step.event is not None])
        return told

    def _guard(self, session: Session, guards: Sequence[AnyTransition]) -> list[Advanced]:
        """Take runs whose messages have come, in two steps: all that is to be known, all that is written."""
        found = session.lock(WHOLE, [step.run_id for step in guards])
        session.gate(FENCE)
        now, last = session.clocked(NEWEST_FENCE)
        token = max(int(last) + 1, micros(now))
        rows = {row[0]: row for row in found}
        before = {run_id: self._run(session, row) for run_id, row in rows.items()}
        runs = dict(before)
        turns = Turns(session, before, guards)
        answers: list[Advanced] = []
        told: list[Event] = []
        for step in guards:
            run = runs.get(step.run_id)
            if run is None or turns.bars(run, step):
                answers.append(refused(run))
                continue
            answer, runs[run.id] = moved(run, step, now, token)
            answers.append(answer)
            if answer.answer is Answer.ACCEPTED:
                turns.follow(run, runs[run.id])
                token += 1
                told += [] if step.event is None else [step.event]
        taken = [run_id for run_id, run in runs.items() if run is not before[run_id]]
        if taken:
            session.run(FENCE_MOVED, (token - 1,))
            self._write_back(session, [(rows[each][RUN_SEQ], before[each], runs[each]) for each in taken])
            turns.write()
            self._tell(session, told)
        return answers

    def _hold_on(
        self,
        session: Session,
        transitions: Sequence[AnyTransition],
        held: Iterable[Row],
        now: datetime,
        locked: set[int],
    ) -> dict[int, Advanced]:
        """Make what holders do all day without reading whole runs: starts, renewals and ends that are plain.

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
        ends: dict[tuple[Cell, ...], list[int]] = {}
        freed: set[int] = set()
        answers: dict[int, Advanced] = {}
        for run_id, seq, token, state, started_at, flagged, schedule_id in held:
            step = transitions[places[run_id]]
            if state != RunState.RUNNING or not isinstance(step, OF_HOLDERS) or token != step.token:
                continue
            match step:
                case Start() if started_at is None:
                    starts.append((seq,))
                    answer = HELD
                case Renew():
                    renewals.append((seq, micros_of(step.until)))
                    answer = replace(HELD, token=step.token)
                case Finish(verdict=Done() as verdict) if _is_plain(step, verdict):
                    ends.setdefault(end_cells(step, verdict), []).append(seq)
                    freed.add(schedule_id)
                    answer = ENDED[verdict.state]
                case _:
                    continue
            answers[places[run_id]] = replace(answer, cancel_requested=True) if flagged else answer
        at = micros(now)
        session.batch(STARTED, starts, (at,))
        session.batch(RENEWED, renewals)
        self._end(session, ends, at)
        if freed:
            for schedule_id in self._opened(session, freed, locked):
                self._promote(session, schedule_id)
        return answers

    def _end(self, session: Session, ends: dict[tuple[Cell, ...], list[int]], at: int) -> None:
        each: list[tuple[Cell, ...]] = []
        for said, seqs in ends.items():
            if len(seqs) > 1:
                session.batch(ENDED_ALIKE, [(seq,) for seq in seqs], (at, *said))
            else:
                each.append((*seqs, *said))
        session.batch(ENDED_EACH, each, (at,))

    def _move(
        self,
        session: Session,
        transitions: Sequence[AnyTransition],
        now: datetime,
        locked: set[int],
    ) -> list[Advanced]:
        """Read runs, make their transitions one after the other by moves.py, and write them back."""
        wanted = [(run_id,) for run_id in sorted({step.run_id for step in transitions})]
        seqs: dict[str, int] = {}
        runs: dict[str, Run] = {}
        for row in session.batch(RUNS_NAMED, wanted):
            seqs[row[0]], runs[row[0]] = row[RUN_SEQ], self._run(session, row)
        written = dict(runs)  # as the rows have it
        freeing = [step.run_id for step in transitions if not isinstance(step, KEEPING)]
        freed = {runs[run_id].schedule_id for run_id in freeing if run_id in runs}
        queued = self._opened(session, freed, locked)
        turns = Turns(session, runs, transitions)
        guarded = any(isinstance(step, Guard) for step in transitions)
        token = self._next_token(session, now) if guarded else 0
        answers: list[Advanced] = []

        def write_back() -> None:
            changed = [run_id for run_id, run in runs.items() if run is not written[run_id]]
            self._write_back(session, [(seqs[each], written[each], runs[each]) for each in changed])
            written.update((each, runs[each]) for each in changed)

        for step in transitions:
            before = runs.get(step.run_id)
            if before is None or turns.bars(before, step):
                answers.append(refused(before))
                continue
            answer, after = moved(before, step, now, token)
            answers.append(answer)
            if answer.answer is not Answer.ACCEPTED:
                continue
            runs[after.id] = after
            turns.follow(before, after)
            if isinstance(step, Guard):
                session.run(FENCE_MOVED, (token,))
                token += 1
            if after.state not in UNFINISHED and after.schedule_id in queued:
                write_back()
                for run_id in self._promote(session, after.schedule_id):
                    if run_id in runs:
                        runs[run_id] = written[run_id] = replace(runs[run_id], state=RunState.READY)
        write_back()
        turns.write()
        return answers

    # --- note ---

    def note(self, notes: Sequence[Note]) -> list[bool]:
        def work(session: Session) -> list[bool]:
            session.lock(RUNS_LOCKED, [note.run_id for note in notes])
            return [self._note(session, note) for note in notes]

        return self._dialect.write(work) if notes else []

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
            fits = size <= LOG_BYTES_MAX
            lines.append(line if fits else replace(line, level=DROPPED, text=REST_DROPPED))
        if lines:
            cells = [(seq, micros_of(line.at), line.attempt, line.level, line.text) for line in lines]
            session.batch(LINES_ADDED, cells)
            session.run(LOG_GREW, (size, seq))
        return True

    # --- lost ---

    def lost(self, now: datetime, limit: int) -> list[Overdue]:
        at = micros(now)

        rows = self._dialect.look(OVERDUE, (at, at, limit))
        return self._read(lambda session: [self._overdue(session, row) for row in rows]) if rows else []

    def _overdue(self, session: Session, row: Row) -> Overdue:
        run = self._run(session, row)
        overtaken = _OVERTAKEN.get(run.state, Overtaken.DEADLINE)
        return Overdue(run=run, policy=policy_of(row[-1]), overtaken=overtaken)


def _is_plain(step: Finish, verdict: Done) -> bool:
    # A lost attempt whose cancel was requested ends otherwise than its verdict says: that has to be read.
    return verdict.state in FINISHED and step.outcome is not Outcome.LOST
