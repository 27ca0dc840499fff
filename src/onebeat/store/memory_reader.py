"""The reference store's tables, and the questions that they answer. Reads only."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from onebeat.core.errors import NotFound
from onebeat.core.messages import (
    Change,
    Due,
    Entry,
    EventQuery,
    Hold,
    LogLine,
    Overdue,
    Overtaken,
    PutAnswer,
    RunQuery,
    ScheduleQuery,
    Share,
    Stray,
    Summary,
    Tile,
)
from onebeat.core.model import (
    LIVE,
    Definition,
    Event,
    Load,
    Node,
    Owing,
    Run,
    RunState,
    Schedule,
    shard_of,
)
from onebeat.core.ports import Clock
from onebeat.store.moves import IDLE, too_late


class MemoryReader:
    """The Reader of the reference store, and its tables: each a dictionary in order of insertion."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._rows: dict[int, Schedule] = {}
        self._buried: dict[int, Schedule] = {}  # tombstones of rows that have left the table
        self._ids: dict[str, int] = {}  # every name ever used, for ever
        self._definitions: dict[tuple[int, int], Definition] = {}
        self._trail: dict[int, list[Change]] = {}
        self._edits: dict[str, PutAnswer] = {}
        self._runs: dict[str, Run] = {}
        self._unfinished: dict[int, set[str]] = {}
        self._covers: dict[str, int] = {}  # run id -> occurrences in its own tile; requests have no tile
        self._lines: dict[str, list[LogLine]] = {}
        self._log_bytes: dict[str, int] = {}
        self._events: dict[int, Event] = {}
        self._summaries: dict[int, dict[str, Summary]] = {}
        self._provable: dict[int, datetime] = {}
        self._nodes: dict[str, Node] = {}
        self._entries: dict[str, Entry] = {}
        self._hold: Hold | None = None
        self._hold_edits: dict[str, Hold | None] = {}
        self._last_id = 0
        self._last_event = 0
        self._last_token = 0

    # --- schedules ---

    def schedules(self, query: ScheduleQuery) -> list[Schedule]:
        with self._lock:
            found = (
                row
                for _, row in sorted((row.name, row) for row in self._rows.values())
                if row.name > query.after
                and (query.names is None or row.name in query.names)
                and (query.tag is None or query.tag in row.definition.tags)
                and (query.owner is None or row.owner == query.owner)
                and (query.deleted or not row.deleted)
            )
            return list(islice(found, query.limit))

    def owing(self, names: Sequence[str]) -> list[tuple[Schedule, Load]]:
        with self._lock:
            rows = [self._row(name) for name in sorted(set(names))]
            return [(row, self._load(row.id)) for row in rows if row is not None]

    def _row(self, name: str) -> Schedule | None:
        """Return the row of a name; where it was purged, the tombstone that is left of it."""
        schedule_id = self._ids.get(name)
        if schedule_id is None:
            return None
        return self._rows.get(schedule_id) or self._buried[schedule_id]

    def _load(self, schedule_id: int) -> Load:
        waiting = self._waiting(schedule_id)
        return Load(
            live=self._live(schedule_id),
            waiting=len(waiting),
            last_waiting=waiting[-1].id if waiting else None,
        )

    def _of(self, schedule_id: int) -> list[Run]:
        return [self._runs[run_id] for run_id in self._unfinished.get(schedule_id, ())]

    def _live(self, schedule_id: int) -> int:
        return sum(run.state in LIVE for run in self._of(schedule_id))

    def _waiting(self, schedule_id: int) -> list[Run]:
        """Return the waiting runs in the order in which they are promoted."""
        waiting = (run for run in self._of(schedule_id) if run.state is RunState.WAITING)
        return sorted(waiting, key=lambda run: (run.due_at, run.id))

    def definition(self, schedule_id: int, number: int) -> Definition:
        with self._lock:
            try:
                return self._definitions[schedule_id, number]
            except KeyError:
                raise NotFound(f"schedule {schedule_id} has no definition {number}") from None

    def trail(self, schedule_id: int) -> list[Change]:
        with self._lock:
            return list(self._trail.get(schedule_id, ()))

    # --- runs ---

    def run(self, run_id: str) -> Run | None:
        with self._lock:
            return self._runs.get(run_id)

    def runs(self, query: RunQuery) -> list[Run]:
        with self._lock:
            newest_first = iter(reversed(self._runs.values()))
            if query.before is not None:
                for run in newest_first:
                    if run.id == query.before:
                        break
            found = (run for run in newest_first if self._wanted(run, query))
            return list(islice(found, query.limit))

    def _wanted(self, run: Run, query: RunQuery) -> bool:
        return (
            (query.schedule is None or run.schedule == query.schedule)
            and (query.tag is None or query.tag in self._definitions[run.schedule_id, run.number].tags)
            and (query.states is None or run.state in query.states)
            and (query.since is None or run.due_at >= query.since)
            and (query.until is None or run.due_at < query.until)
        )

    def log(self, run_id: str) -> list[LogLine]:
        with self._lock:
            return list(self._lines.get(run_id, ()))

    # --- events and the proof ---

    def events(self, query: EventQuery) -> list[Event]:
        with self._lock:
            found = (
                event
                for event in self._events.values()
                if event.id > query.after
                and (query.kinds is None or event.kind in query.kinds)
                and (query.schedule is None or event.schedule == query.schedule)
                and (query.run_id is None or event.run_id == query.run_id)
            )
            return list(islice(found, query.limit))

    def tiles(self, schedule_id: int, since: datetime, until: datetime) -> list[Tile]:
        with self._lock:
            found = [tile for _, tile in self._tiled(schedule_id)]
        touching = (tile for tile in found if tile.mark_after > since and tile.mark_before < until)
        return sorted(touching, key=lambda tile: (tile.mark_before, tile.mark_after))

    def _tiled(self, of: int | None = None) -> Iterator[tuple[Run | Event, Tile]]:
        """Yield each run and event (of one schedule, or of all) that carries a tile, and the tile."""
        for run in self._runs.values():
            if run.mark_before and run.mark_after and of in (None, run.schedule_id):
                yield (
                    run,
                    Tile(
                        mark_before=run.mark_before,
                        mark_after=run.mark_after,
                        count=self._covers[run.id],
                        run_id=run.id,
                        fired=True,
                        occurrence_at=run.occurrence_at,
                        due_at=run.due_at,
                        created_at=run.created_at,
                    ),
                )
        for event in self._events.values():
            if event.mark_before and event.mark_after and of in (None, event.schedule_id):
                yield (
                    event,
                    Tile(
                        mark_before=event.mark_before,
                        mark_after=event.mark_after,
                        count=event.count or 0,
                        run_id=event.run_id,
                        reason=event.reason if event.count else event.kind,
                        created_at=event.at,
                    ),
                )

    def summaries(self, schedule_id: int) -> list[Summary]:
        with self._lock:
            return [day for _, day in sorted(self._summaries.get(schedule_id, {}).items())]

    def provable_from(self, schedule_id: int) -> datetime:
        with self._lock:
            first = self._trail[schedule_id][0].boundary_at
            return self._provable.get(schedule_id, first)

    # --- what the dispatcher reads ---

    def due(self, now: datetime, limit: int, share: Share | None = None) -> Due:
        with self._lock:
            entries = any(entry.answer is None for entry in self._entries.values())
            if self._hold is not None:
                return Due(entries=entries)
            coming = [
                (row.next_at, row.id, row)
                for row in self._rows.values()
                if row.next_at is not None
                and not row.dormant
                and (share is None or shard_of(row.name) % share.of == share.index)
            ]
            rows = [row for at, _, row in sorted(coming, key=lambda c: c[:2]) if at <= now]
            later = [at for at, _, _ in coming if at > now]
            return Due(
                rows=tuple(self._owing(row) for row in rows[:limit]),
                next_at=min(later, default=None),
                entries=entries,
            )

    def _owing(self, row: Schedule) -> Owing:
        limited = row.definition.policy.limited
        return Owing(
            id=row.id,
            name=row.name,
            incarnation=row.incarnation,
            version=row.version,
            trigger=row.definition.trigger,
            policy=row.definition.policy,
            settled_until=row.settled_until,
            next_at=row.next_at,
            skips=row.skips,
            load=self._load(row.id) if limited else Load(),
        )

    def broken(self, limit: int) -> list[tuple[str, str]]:
        return []  # nothing is encoded here, so nothing can fail to decode

    def lost(self, now: datetime, limit: int) -> list[Overdue]:
        with self._lock:
            found = []
            for run in self._all_unfinished():
                if run.state is RunState.RUNNING and run.lease_until and run.lease_until <= now:
                    found.append((run.lease_until, run.id, Overtaken.LEASE))
                elif run.state is RunState.SENT and run.resend_at and run.resend_at <= now:
                    found.append((run.resend_at, run.id, Overtaken.RESEND))
                elif run.state in IDLE and run.deadline_at and too_late(run, now):
                    found.append((run.deadline_at, run.id, Overtaken.DEADLINE))
            return [self._overdue(run_id, overtaken) for _, run_id, overtaken in sorted(found)[:limit]]

    def _overdue(self, run_id: str, overtaken: Overtaken) -> Overdue:
        run = self._runs[run_id]
        policy = self._definitions[run.schedule_id, run.number].policy
        return Overdue(run=run, policy=policy, overtaken=overtaken)

    # --- nodes and the whole ---

    def nodes(self) -> list[Node]:
        with self._lock:
            return sorted(self._nodes.values(), key=lambda node: node.seen_at, reverse=True)

    def targets(self) -> list[str]:
        with self._lock:
            wanted = {row.definition.target.key for row in self._rows.values() if not row.deleted}
            return sorted(wanted | {run.target for run in self._all_unfinished()})

    def _all_unfinished(self) -> Iterable[Run]:
        return (self._runs[run_id] for ids in self._unfinished.values() for run_id in ids)

    def strays(self, now: datetime, limit: int) -> list[Stray]:
        with self._lock:
            alive = [node for node in self._nodes.values() if node.alive_until > now]
            known = {target for node in alive for target in node.targets}
            strays = (
                Stray(run=run, resolvable=run.target in known)
                for run in sorted(self._all_unfinished(), key=lambda run: run.id)
                if (run.state is RunState.PARKED and run.target in known)
                or (run.state is RunState.READY and run.target not in known)
            )
            return list(islice(strays, limit))

    def held(self) -> Hold | None:
        with self._lock:
            return self._hold

    def counts(self) -> dict[str, int]:
        with self._lock:
            now = self._clock.now()
            rows = [row for row in self._rows.values() if not row.deleted]
            states = Counter(run.state for run in self._runs.values())
            return {f"runs_{state.value}": states[state] for state in RunState} | {
                "schedules": len(rows),
                "paused": sum(row.paused is not None for row in rows),
                "quarantined": sum(row.quarantined is not None for row in rows),
                "due": sum(row.next_at is not None and row.next_at <= now for row in rows),
            }

    def facts(self) -> dict[str, str]:
        return {
            "kind": "memory",
            "place": "this process",
            "durability": "none: the ledger ends with the process",
            "verdict": "for tests and for trying things out; nothing survives",
        }
