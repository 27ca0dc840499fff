"""What the SQL store forgets, and what it keeps of it: day summaries, and a tombstone in the trail.

Looking for what is beyond its history takes the time, so it happens while others write; then one transaction
deletes what was found, as far as it is still there, and counts into the summaries only what it deleted. Two
nodes that purge at once therefore count nothing twice.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from typing import NamedTuple

from onebeat.core.messages import Purged
from onebeat.core.model import micros
from onebeat.core.ports import ANSWERS_KEPT
from onebeat.store.dialects.protocol import PURGE, BatchDelete, Row, Session
from onebeat.store.rows import DELETED, FIRST, instant_of, is_once, policy_of
from onebeat.store.sql_runs import SqlRuns

VISITED = """SELECT s.id, s.version, s.next_at, s.dormant, c.cut_at, c.owner, d.policy, d.trigger
    FROM onebeat_schedules AS s
    LEFT JOIN onebeat_changes AS c ON c.id = s.change_id
    LEFT JOIN onebeat_definitions AS d ON d.id = s.definition_id
    WHERE s.id >= ? ORDER BY s.id LIMIT ?"""
CROWDED_BEFORE = """SELECT created_at FROM onebeat_runs WHERE schedule_id = ? AND slot IS NULL
    ORDER BY seq DESC LIMIT 1 OFFSET ?"""
FINISHED_RUNS = """SELECT created_at, 'run', seq, finished_at, mark_before, mark_after, count, id
    FROM onebeat_runs WHERE schedule_id = ? AND slot IS NULL ORDER BY seq"""
OLD_TILES = """SELECT at, 'event', id, at, mark_before, mark_after, count, run_id
    FROM onebeat_events WHERE schedule_id = ? AND mark_after IS NOT NULL AND count > 0 ORDER BY mark_after"""
HISTORY = """SELECT 1 FROM onebeat_runs WHERE schedule_id = ? UNION ALL
    SELECT 1 FROM onebeat_events WHERE schedule_id = ? AND mark_after IS NOT NULL AND count > 0
    LIMIT 1 OFFSET ?"""
RUN, EVENT = "run", "event"

SCHEDULES_LOCKED = "SELECT id FROM onebeat_schedules WHERE id IN {keys} ORDER BY id"
# Worded so that no index serves the slot: runs are found by their ids, not among all that ever finished.
RUNS_GONE = BatchDelete("onebeat_runs", "id", "(slot || '') IS NULL", "id, seq")
LINES_GONE = BatchDelete("onebeat_log_lines", "run_seq")
OWN_EVENTS_GONE = BatchDelete("onebeat_events", "run_id", "mark_before IS NULL")
EVENTS_GONE = BatchDelete("onebeat_events", "id", returning="id")
SUMMARY = """SELECT fired, folded, skipped, mark_before, mark_after FROM onebeat_day_summaries
    WHERE schedule_id = ? AND day = ?"""
SUMMARY_GONE = "DELETE FROM onebeat_day_summaries WHERE schedule_id = ? AND day = ?"
SUMMARY_ADDED = """INSERT INTO onebeat_day_summaries
    (schedule_id, day, fired, folded, skipped, mark_before, mark_after) VALUES (?, ?, ?, ?, ?, ?, ?)"""
BURIED = """INSERT INTO onebeat_changes (edit_id, schedule_id, schedule, incarnation, version, definition_id,
        action, actor, reason, cut_at, boundary_at, committed_at, settled_until, deleted, owner, revision,
        tz_version, created_at)
    SELECT ?, s.id, s.name, s.incarnation, s.version + 1, s.definition_id, 'schedule.purged', '', '',
        c.cut_at, s.settled_until, ?, s.settled_until, 1, c.owner, c.revision, c.tz_version, c.created_at
    FROM onebeat_schedules AS s JOIN onebeat_changes AS c ON c.id = s.change_id
    WHERE s.id = ? AND s.version = ?"""
UNCHANGED = "SELECT 1 FROM onebeat_schedules WHERE id = ? AND version = ?"
SCHEDULE_GONE = "DELETE FROM onebeat_schedules WHERE id = ? AND version = ?"
ENTRIES_OLD = "SELECT id FROM onebeat_inbox WHERE answered_at < ? ORDER BY answered_at LIMIT ?"
ENTRIES_GONE = BatchDelete("onebeat_inbox", "id")


class Beyond(NamedTuple):
    """What is beyond one schedule's history: runs and settlement events to forget, oldest first."""

    schedule_id: int
    version: int
    items: list[Row]
    over: bool  # nothing is left, and nothing will come: the row goes, too


class SqlPurge(SqlRuns):
    """The verb ``purge``."""

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        if from_id == 0:
            self._forget_entries(now - ANSWERS_KEPT, limit)
        found, next_id = self._read(lambda session: _search(session, now, limit, from_id))
        if not found:
            return Purged(next_id=next_id)

        def work(session: Session) -> Purged:
            session.gate(PURGE)  # the summaries are read, and written back
            session.lock(SCHEDULES_LOCKED, [beyond.schedule_id for beyond in found if beyond.over])
            runs, events, schedules = 0, 0, 0
            for beyond in found:
                gone = [item[1] for item in _forget(session, beyond)]
                runs += gone.count(RUN)
                events += gone.count(EVENT)
                schedules += _bury(session, beyond, now)
            return Purged(runs=runs, events=events, schedules=schedules, next_id=next_id)

        return self._dialect.write(work)

    def _forget_entries(self, before: datetime, limit: int) -> None:
        old = self._read(lambda session: session.rows(ENTRIES_OLD, (micros(before), limit)))
        if old:
            self._dialect.write(lambda session: session.batch(ENTRIES_GONE, old))


def _search(session: Session, now: datetime, limit: int, from_id: int) -> tuple[list[Beyond], int | None]:
    """Return what is beyond its history, looking at ``limit`` schedules at most, and the id to go on from."""
    found: list[Beyond] = []
    room = limit
    rows = session.rows(VISITED, (from_id, limit + 1))
    for schedule_id, version, next_at, dormant, cut_at, owner, policy_text, trigger_text in rows[:limit]:
        if room <= 0:
            return found, schedule_id
        policy = policy_of(policy_text)
        since = micros(now - timedelta(days=policy.keep_days))
        items = list(islice(_beyond(session, schedule_id, since, policy.keep_runs), room))
        room -= len(items)
        deleted_long_ago = dormant & DELETED and cut_at is not None and cut_at < since
        ended = next_at is None and not dormant and not owner and is_once(trigger_text)
        over = (
            room > 0 and bool(deleted_long_ago or ended) and not _has_more(session, schedule_id, len(items))
        )
        room -= over
        if items or over:
            found.append(Beyond(schedule_id, version, items, over))
        if room <= 0 and not over:
            return found, schedule_id  # it may have more
    return found, rows[limit][0] if len(rows) > limit else None


def _beyond(session: Session, schedule_id: int, since: int, keep_runs: int) -> Iterator[Row]:
    """Yield the finished runs and the settlement events beyond a schedule's history, oldest first."""
    crowd = session.row(CROWDED_BEFORE, (schedule_id, keep_runs - 1)) if keep_runs else None
    crowded_before = FIRST if crowd is None else crowd[0]
    young_from = max(since, crowded_before)
    items = merge(
        session.each(FINISHED_RUNS, (schedule_id,)),
        session.each(OLD_TILES, (schedule_id,)),
        key=lambda row: row[0],
    )
    for item in items:
        created_at, ended_at = item[0], item[3]
        if keep_runs == 0 or ended_at < since or created_at < crowded_before:
            yield item
        elif created_at >= young_from:
            return  # whatever was created later ended later still


def _has_more(session: Session, schedule_id: int, items: int) -> bool:
    return session.row(HISTORY, (schedule_id, schedule_id, items)) is not None


def _forget(session: Session, beyond: Beyond) -> list[Row]:
    """Delete items and count them into the summaries; return those that were still there."""
    runs = [(item[7],) for item in beyond.items if item[1] == RUN]
    events = [(item[2],) for item in beyond.items if item[1] == EVENT]
    runs_gone = session.batch(RUNS_GONE, runs)
    if runs_gone:
        session.batch(LINES_GONE, [(seq,) for _, seq in runs_gone])
        session.batch(OWN_EVENTS_GONE, [(run_id,) for run_id, _ in runs_gone])
    gone = {(RUN, run_id) for run_id, _ in runs_gone}
    gone.update((EVENT, event_id) for (event_id,) in session.batch(EVENTS_GONE, events))
    items = [item for item in beyond.items if (item[1], item[7] if item[1] == RUN else item[2]) in gone]
    _summarise(session, beyond.schedule_id, items)
    return items


def _summarise(session: Session, schedule_id: int, items: Sequence[Row]) -> None:
    """Add tiles to the summaries of their days: fired, folded, skipped, and the interval that they cover."""
    days: dict[str, list[int]] = {}
    for _, kind, _, _, before, after, count, run_id in items:
        if after is None:
            continue  # a request covers nothing
        day = instant_of(after).date().isoformat()
        if day not in days:
            known = session.row(SUMMARY, (schedule_id, day))
            days[day] = [0, 0, 0, before, after] if known is None else list(known)
        sums = days[day]
        fired = int(kind == RUN)
        sums[0] += fired
        sums[1 if run_id is not None else 2] += count - fired
        sums[3], sums[4] = min(sums[3], before), max(sums[4], after)
    for day, sums in days.items():
        session.run(SUMMARY_GONE, (schedule_id, day))
        session.run(SUMMARY_ADDED, (schedule_id, day, *sums))


def _bury(session: Session, beyond: Beyond, now: datetime) -> bool:
    """Take a row out of the table, if nothing happened to it. The trail goes on knowing it."""
    if not beyond.over or _has_more(session, beyond.schedule_id, 0):
        return False
    identity = (beyond.schedule_id, beyond.version)
    if session.row(UNCHANGED, identity) is None:
        return False
    edit_id = f"purge:{beyond.schedule_id}:{beyond.version}"
    session.run(BURIED, (edit_id, micros(now), *identity))
    session.run(SCHEDULE_GONE, identity)
    return True
