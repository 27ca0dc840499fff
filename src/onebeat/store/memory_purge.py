"""What the reference store forgets, and what it keeps of it: day summaries and where proof begins."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import NamedTuple

from msgspec.structs import replace

from onebeat.core.messages import Change, Purged, Summary, Tile
from onebeat.core.model import FINISHED, Event, Run, Schedule
from onebeat.store.memory_reader import MemoryReader

ONE_OFF = "once"


class Item(NamedTuple):
    """A run or a settlement event, since when it is there, and its tile."""

    at: datetime
    what: Run | Event
    tile: Tile | None


class MemoryPurge(MemoryReader):
    """The verb ``purge`` on the tables."""

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        with self._lock:
            history = self._history()
            done = Purged()
            for row in sorted(self._rows.values(), key=lambda row: row.id):
                room = limit - done.runs - done.events - done.schedules
                if row.id < from_id:
                    continue
                kept = history[row.id]
                going = _beyond(row, kept, now)
                for item in going[:room]:
                    self._forget(row.id, item)
                runs = sum(isinstance(item.what, Run) for item in going[:room])
                events = len(going[:room]) - runs
                done = replace(done, runs=done.runs + runs, events=done.events + events)
                if len(going) >= room:
                    return replace(done, next_id=row.id)
                if len(going) == len(kept) and _over(row, now):
                    self._bury(row, now)
                    done = replace(done, schedules=done.schedules + 1)
            return done

    def _history(self) -> dict[int, list[Item]]:
        """Return what each schedule has to remember, oldest first: its runs and its settlement events."""
        tiles = {item.id: tile for item, tile in self._tiled()}
        history: dict[int, list[Item]] = defaultdict(list)
        for run in self._runs.values():
            history[run.schedule_id].append(Item(run.created_at, run, tiles.get(run.id)))
        for event in self._events.values():
            tile = tiles.get(event.id)
            if tile is not None and tile.count and event.schedule_id is not None:
                history[event.schedule_id].append(Item(event.at, event, tile))
        for items in history.values():
            items.sort(key=lambda item: item.at)
        return history

    def _forget(self, schedule_id: int, item: Item) -> None:
        if item.tile is not None:
            self._summarise(schedule_id, item.tile)
            before = self._provable.get(schedule_id, item.tile.mark_after)
            self._provable[schedule_id] = max(before, item.tile.mark_after)
        if isinstance(item.what, Event):
            del self._events[item.what.id]
            return
        run_id = item.what.id
        del self._runs[run_id]
        self._covers.pop(run_id, None)
        self._lines.pop(run_id, None)
        self._log_bytes.pop(run_id, None)
        own = [
            event.id for event in self._events.values() if event.run_id == run_id and not event.mark_before
        ]
        for event_id in own:
            del self._events[event_id]

    def _summarise(self, schedule_id: int, tile: Tile) -> None:
        days = self._summaries.setdefault(schedule_id, {})
        day = tile.mark_after.date().isoformat()
        marks = {"mark_before": tile.mark_before, "mark_after": tile.mark_after}
        old = days.get(day, Summary(day=day, fired=0, folded=0, skipped=0, **marks))
        into = tile.run_id is not None
        days[day] = Summary(
            day=day,
            fired=old.fired + tile.fired,
            folded=old.folded + (tile.count - tile.fired if into else 0),
            skipped=old.skipped + (0 if into else tile.count),
            mark_before=min(old.mark_before, tile.mark_before),
            mark_after=max(old.mark_after, tile.mark_after),
        )

    def _bury(self, row: Schedule, now: datetime) -> None:
        """Take a row out of the table. The trail goes on knowing its name, id, version and mark."""
        del self._rows[row.id]
        self._buried[row.id] = replace(
            row,
            version=row.version + 1,
            next_at=None,
            paused=None,
            quarantined=None,
            deleted=True,
            skips=(),
            applied=None,
        )
        self._trail[row.id].append(
            Change(
                edit_id=f"purge:{row.id}:{row.version}",
                schedule_id=row.id,
                schedule=row.name,
                incarnation=row.incarnation,
                version=row.version + 1,
                number=row.number,
                action="schedule.purged",
                actor="",
                reason="",
                cut_at=row.cut_at,
                boundary_at=row.settled_until,
                committed_at=now,
                settled_until=row.settled_until,
                definition=row.definition,
                paused=False,
                deleted=True,
                tz_version=row.tz_version,
            )
        )


def _beyond(row: Schedule, kept: list[Item], now: datetime) -> list[Item]:
    """Return what is beyond a schedule's history: too old, or followed by enough finished runs."""
    policy = row.definition.policy
    since = now - timedelta(days=policy.keep_days)
    finished = [item.at for item in kept if isinstance(item.what, Run) and item.what.state in FINISHED]
    full = len(finished) >= policy.keep_runs > 0
    crowded_before = finished[-policy.keep_runs] if full else None
    return [
        item
        for item in kept
        if (ended_at := _ended_at(item)) is not None
        and (
            ended_at < since
            or policy.keep_runs == 0
            or (crowded_before is not None and item.at < crowded_before)
        )
    ]


def _ended_at(item: Item) -> datetime | None:
    """Return since when an item is history; None for a run that is not finished."""
    return item.what.finished_at if isinstance(item.what, Run) else item.at


def _over(row: Schedule, now: datetime) -> bool:
    """Whether a row that has no history left has nothing more to say: it is gone, or nothing will come."""
    if row.deleted:
        return row.cut_at < now - timedelta(days=row.definition.policy.keep_days)
    ended = row.definition.trigger.kind == ONE_OFF and row.next_at is None and not row.dormant
    return ended and not row.owner
