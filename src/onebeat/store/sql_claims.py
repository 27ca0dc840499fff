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
from onebeat.store.dialects.protocol import FENCE, BatchUpdate, ManyRows, Row, Session
from onebeat.store.moves import leased, marked, resent
from onebeat.store.rows import DEFINITION_COLUMNS, definition_of
from onebeat.store.run_rows import RUN_COLUMNS, RUN_DEFINITION, RUN_READY_AT, RUN_SEQ
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
        lanes = _lanes(session, wanted, HIGHEST)
        while lanes:
            level = max(lanes.values())
            here = [target_id for target_id, priority in lanes.items() if priority == level]
            streams = [session.each(sql, (target_id, level, now, now), about) for target_id in here]
            yield from merge(*streams, key=lambda row: (row[ready_at], row[0]))
            for target_id in here:
                del lanes[target_id]
            lanes |= _lanes(session, here, level)

    def _targets_of(self, session: Session, claim: Claim, newest: int) -> list[int]:
        if self._learned < newest:
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
        session.gate(FENCE)
        ((last,),) = session.rows(NEWEST_FENCE)
        return max(int(last) + 1, micros(now))


def _lanes(session: Session, targets: Sequence[int], below: int) -> dict[int, int]:
    """Return for each of the targets that has ready runs below a priority the highest of theirs."""
    rows = session.batch(LANES, [(target_id, below) for target_id in targets])
    return {target_id: priority for target_id, priority in rows if priority is not None}


def _still_ready(session: Session, seqs: Sequence[int]) -> list[Row]:
    """Return, in their order, those of the runs that nobody took meanwhile; now nobody will."""
    taken = {row[RUN_SEQ]: row for row in session.free(STILL_READY, seqs)}
    return [taken[seq] for seq in seqs if seq in taken]
