"""Claims in the SQL store: which runs are ready, in the order of claiming, and under which token they go.

Candidates are found without a lock, along the index of ready runs, lane by lane. Where others write at the
same time they are then locked, as far as nobody else has them, and read again.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice

from onebeat.core.messages import Claim, Claimed
from onebeat.core.model import Definition, micros
from onebeat.store import sql_groups
from onebeat.store.dialects.protocol import FENCE, BatchUpdate, ManyRows, Row, Session
from onebeat.store.moves import leased, marked, resent
from onebeat.store.rows import DEFINITION_COLUMNS, definition_of
from onebeat.store.run_rows import (
    RUN_COLUMNS,
    RUN_DEFINITION,
    RUN_PRIORITY,
    RUN_READY_AT,
    RUN_SEQ,
    RUN_TARGET,
)
from onebeat.store.sql_strays import READY_TARGET, SqlStrays, ready_targets

DEFINITIONS_KEPT = 8192

LANES_MAX = 100
"""Targets that are asked about one by one; of more, first those that have ready runs are found."""

ANYTHING = f"SELECT ({READY_TARGET}), (SELECT max(id) FROM onebeat_targets)"
LANES = """WITH wanted (target_id, below) AS (VALUES {rows})
    SELECT w.target_id, (SELECT r.priority FROM onebeat_runs AS r WHERE r.state = 'ready'
        AND r.target_id = w.target_id AND r.priority < w.below ORDER BY r.priority DESC LIMIT 1)
    FROM wanted AS w"""
_CLAIMABLE = """onebeat_runs AS r WHERE r.state = 'ready' AND r.target_id = ? AND r.priority = ?
    AND r.ready_at <= ? AND (r.deadline_at IS NULL OR r.deadline_at >= ?) ORDER BY r.ready_at, r.id"""
CLAIMABLE = ManyRows(RUN_COLUMNS, _CLAIMABLE)
CANDIDATES = ManyRows("r.id, r.seq, r.ready_at", _CLAIMABLE)
# The first runs of many lanes in two statements: most groups have a lane of their own, and are many.
FIRST_OF_LANES = """WITH wanted (target_id, priority, at) AS (VALUES {rows})
    SELECT (SELECT r.seq FROM onebeat_runs AS r WHERE r.state = 'ready' AND r.target_id = w.target_id
        AND r.priority = w.priority AND r.ready_at <= w.at
        AND (r.deadline_at IS NULL OR r.deadline_at >= w.at) ORDER BY r.ready_at, r.id LIMIT 1)
    FROM wanted AS w"""
RUNS_NUMBERED = f"""WITH wanted (seq) AS (VALUES {{rows}})
    SELECT {RUN_COLUMNS} FROM wanted AS w JOIN onebeat_runs AS r ON r.seq = w.seq"""
DEFINITIONS = f"""WITH wanted (id) AS (VALUES {{rows}})
    SELECT d.id, {DEFINITION_COLUMNS} FROM wanted AS w JOIN onebeat_definitions AS d ON d.id = w.id"""
# Worded so that the index of ready runs does not serve it: they are found by their numbers.
STILL_READY = ManyRows(
    RUN_COLUMNS,
    "onebeat_runs AS r WHERE r.seq IN {keys} AND (r.state || '') = 'ready' ORDER BY r.id",
)
_NULL = dict.fromkeys(
    ("resend_at", "started_at", "outcome", "error", "progress_done", "progress_total"), "NULL"
)
CLAIMED = BatchUpdate(
    "onebeat_runs",
    "c (seq, token)",
    {
        "state": "'running'",
        "watch_at": "?",
        "reason": "''",
        "attempt": "attempt + 1",
        "token": "c.token",
        "holder": "?",
        "lease_until": "?",
        "claimed_at": "?",
    }
    | _NULL,
    "onebeat_runs.seq = c.seq",
)
MARKED = BatchUpdate(
    "onebeat_runs",
    "m (seq, until)",
    {"state": "'sent'", "watch_at": "m.until", "resend_at": "m.until"},
    "onebeat_runs.seq = m.seq",
)
NEWEST_FENCE = "SELECT value FROM onebeat_meta WHERE name = 'last_token'"
FENCE_MOVED = "UPDATE onebeat_meta SET value = ? WHERE name = 'last_token'"
HIGHEST = MANY = 1 << 62


class SqlClaims(SqlStrays):
    """The verb ``claim``."""

    _definitions: dict[int, Definition]

    def claim(self, claim: Claim) -> list[Claimed]:
        # Looked first, in one statement: an idle worker shall cost next to nothing.
        ((first, newest),) = self._dialect.look(ANYTHING, (0,))
        if first is None:
            return []

        def anything(session: Session) -> bool:
            return next(self._candidates(session, claim, newest, micros(session.now()), 1), None) is not None

        # Where one writes at a time, idle workers must not stand in each other's and everybody's way.
        if self._dialect.alone and not self._read(anything):
            return []
        return self._dialect.write(lambda session: self._claim(session, claim, newest))

    def _claim(self, session: Session, claim: Claim, newest: int) -> list[Claimed]:
        now = session.now()
        found = self._claimable(session, claim, newest, now)
        if not found:
            return []
        groups = ((self._targets[row[RUN_TARGET]].exclusive, row[0]) for row, _ in found)
        sql_groups.let_out(session, [(group, run_id) for group, run_id in groups if group is not None])
        return (self._mark if claim.sends else self._lease)(session, claim, found, now)

    def _mark(
        self, session: Session, claim: Claim, found: Sequence[tuple[Row, Definition]], now: datetime
    ) -> list[Claimed]:
        claimed: list[Claimed] = []
        cells: list[tuple[int, int]] = []
        for row, definition in found:
            run = self._run(session, row)
            until = resent(claim, run.ready_at, now)
            cells.append((row[RUN_SEQ], micros(until)))
            claimed.append(Claimed(run=marked(run, until), definition=definition))
        session.batch(MARKED, cells)
        return claimed

    def _lease(
        self, session: Session, claim: Claim, found: Sequence[tuple[Row, Definition]], now: datetime
    ) -> list[Claimed]:
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

    def _claimable(
        self, session: Session, claim: Claim, newest: int, now: datetime
    ) -> list[tuple[Row, Definition]]:
        """Return what a claim may have, in the order of claiming.

        A run whose definition does not decode is left where it is: nobody could run it.
        """
        found: list[tuple[Row, Definition]] = []
        candidates = self._candidates(session, claim, newest, micros(now), claim.limit)
        while len(found) < claim.limit:
            rows = list(islice(candidates, claim.limit - len(found)))
            if not rows:
                break
            if not session.alone:
                known = {row[RUN_SEQ] for row, _ in found}
                rows = _still_ready(session, [row[1] for row in rows if row[1] not in known])
                rows = self._still_open(session, rows)
            definitions = self._definitions_of(session, {row[RUN_DEFINITION] for row in rows})
            found += [
                (row, definitions[row[RUN_DEFINITION]]) for row in rows if row[RUN_DEFINITION] in definitions
            ]
        return found

    def _candidates(self, session: Session, claim: Claim, newest: int, now: int, about: int) -> Iterator[Row]:
        """Yield ready runs in the order of claiming; nothing is read that is not taken.

        Whole rows where nobody else writes, else what finds them: they must be locked and read again.
        """
        sql, ready_at = (CLAIMABLE, RUN_READY_AT) if session.alone else (CANDIDATES, 2)
        wanted = self._targets_of(session, claim, newest)
        if len(wanted) > LANES_MAX:
            wanted = list(ready_targets(session, wanted))
        lanes = _lanes(session, dict.fromkeys(wanted, HIGHEST))
        firsts = self._firsts(session, lanes, now)
        while lanes or firsts:
            level = max((*lanes.values(), *firsts))
            here = [target_id for target_id, priority in lanes.items() if priority == level]
            streams = [session.each(sql, (target_id, level, now, now), about) for target_id in here]
            if level in firsts:
                streams.append(iter(sorted(firsts.pop(level), key=lambda row: (row[ready_at], row[0]))))
            yield from merge(*streams, key=lambda row: (row[ready_at], row[0]))
            for target_id in here:
                del lanes[target_id]
            lanes |= _lanes(session, dict.fromkeys(here, level))

    def _firsts(self, session: Session, lanes: dict[int, int], now: int) -> dict[int, list[Row]]:
        """Take the lanes of groups away; return, by priority, the runs in them that may go out.

        Of a group that has none out that is the first, in the order of claiming, of all its lanes.
        """
        grouped = {each: group for each in lanes if (group := self._targets[each].exclusive) is not None}
        if not grouped:
            return {}
        for target_id in grouped:
            del lanes[target_id]
        names = set(grouped.values())
        names -= sql_groups.runs_out(session, names).keys()
        everywhere = [each for each, lane in list(self._targets.items()) if lane.exclusive in names]
        best: dict[str | None, Row] = {}
        for row in self._first_of(session, everywhere, now):
            group = self._targets[row[RUN_TARGET]].exclusive
            best[group] = min(best.get(group, row), row, key=_in_order)
        firsts: dict[int, list[Row]] = {}
        for row in best.values():
            if row[RUN_TARGET] in grouped:
                cells = row if session.alone else (row[0], row[RUN_SEQ], row[RUN_READY_AT])
                firsts.setdefault(row[RUN_PRIORITY], []).append(cells)
        return firsts

    def _first_of(self, session: Session, targets: Sequence[int], now: int) -> Iterator[Row]:
        """Yield of each of the lanes the first run that may be claimed, in the order of claiming."""
        lanes = _lanes(session, dict.fromkeys(targets, HIGHEST))
        while lanes:
            found = session.batch(FIRST_OF_LANES, [(*lane, now) for lane in lanes.items()])
            rows = session.batch(RUNS_NUMBERED, [row for row in found if row[0] is not None])
            readable = self._definitions_of(session, {row[RUN_DEFINITION] for row in rows})
            for row in rows:
                if row[RUN_DEFINITION] not in readable:  # nobody could run it: who comes after it
                    for other in session.each(CLAIMABLE, (row[RUN_TARGET], row[RUN_PRIORITY], now, now)):
                        if self._definitions_of(session, {other[RUN_DEFINITION]}):
                            yield other
                            del lanes[row[RUN_TARGET]]
                            break
                else:
                    yield row
                    del lanes[row[RUN_TARGET]]
            lanes = _lanes(session, lanes)

    def _still_open(self, session: Session, rows: list[Row]) -> list[Row]:
        """Return the rows without those of a group that somebody else holds, or that has a run out by now."""
        groups = [self._targets[row[RUN_TARGET]].exclusive for row in rows]
        names = {group for group in groups if group is not None}
        if not names:
            return rows
        free = sql_groups.held_open(session, names)
        return [row for row, group in zip(rows, groups, strict=True) if group is None or group in free]

    def _targets_of(self, session: Session, claim: Claim, newest: int) -> list[int]:
        if self._learned < newest:
            self._learn_targets(session)
        queues, keys = set(claim.queues), set(claim.targets)
        return sorted(
            target_id
            for target_id, (queue, key, _) in list(self._targets.items())
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
        session.gate(FENCE)
        ((last,),) = session.rows(NEWEST_FENCE)
        return max(int(last) + 1, micros(now))


def _in_order(row: Row) -> tuple[int, int, str]:
    return -row[RUN_PRIORITY], row[RUN_READY_AT], row[0]


def _lanes(session: Session, below: dict[int, int]) -> dict[int, int]:
    """Return for each of the targets that has ready runs below its priority the highest of theirs."""
    rows = session.batch(LANES, list(below.items()))
    return {target_id: priority for target_id, priority in rows if priority is not None}


def _still_ready(session: Session, seqs: Sequence[int]) -> list[Row]:
    """Return, in their order, those of the runs that nobody took meanwhile; now nobody will."""
    taken = {row[RUN_SEQ]: row for row in session.free(STILL_READY, seqs)}
    return [taken[seq] for seq in seqs if seq in taken]
