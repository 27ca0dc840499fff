"""What the Redis store forgets: looked for first, then deleted by one script, as far as it is still there."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import merge
from typing import Any, NamedTuple

from onebeat.core.messages import Purged
from onebeat.store.redis.cells import instant, is_deleted, number_of, text_of
from onebeat.store.redis.reader import RedisReader
from onebeat.store.redis.server import script
from onebeat.store.rows import is_once, policy_of

AT_ONCE = 500
"""How many items one script forgets, and how many schedules one looks at."""


class Visited(NamedTuple):
    """A schedule, and what is beyond its history: runs and settlement events, as purge.lua takes them."""

    id: str
    version: str
    runs: list[Any]
    events: list[Any]
    over: bool  # nothing is left, and nothing will come: the row goes, too


class RedisPurge(RedisReader):
    """The verb ``purge``."""

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        if limit <= 0:
            first = self._ask("visited", str(from_id), 1)
            return Purged(next_id=int(first[0][0]) if first else None)
        found, next_id = self._search(now, limit, from_id)
        sums = [0, 0, 0]
        if found:
            for gone in self._server.run(script("purge"), [text_of(now), found], self._now(), writes=True):
                sums = [total + each for total, each in zip(sums, gone, strict=True)]
        return Purged(runs=sums[0], events=sums[1], schedules=sums[2], next_id=next_id)

    def _search(self, now: datetime, limit: int, from_id: int) -> tuple[list[Visited], int | None]:
        """Return what is beyond its history, and the id to go on from."""
        room = min(limit, AT_ONCE)
        rows = self._ask("visited", str(from_id), room + 1)
        wanted = [_wanted(row, now, room) for row in rows[:room]]
        found: list[Visited] = []
        for row, (runs, events, history) in zip(rows, self._ask("beyond", wanted), strict=False):
            if room <= 0:
                return found, int(row[0])
            oldest = merge(
                ((int(run[0]), "run", run) for run in runs),
                ((int(event[0]), "event", event) for event in events),
                key=lambda item: item[0],
            )
            items = [(kind, each) for _, kind, each in oldest][:room]
            room -= len(items)
            over = room > 0 and len(items) == history
            room -= over
            if items or over:
                found.append(_visited(row, items, over=over))
            if room <= 0 and not over:
                return found, int(row[0])  # it may have more
        following = rows[min(limit, AT_ONCE) :]
        return found, int(following[0][0]) if following else None


def _wanted(row: Sequence[Any], now: datetime, room: int) -> list[Any]:
    """Return what to look for: id, since when, runs that are kept, items at most, whether the row ends."""
    schedule_id, _, next_at, dormant, cut_at, owner, policy_text, trigger = row
    policy = policy_of(policy_text)
    since = text_of(now - timedelta(days=policy.keep_days))
    if is_deleted(dormant):
        ending = (number_of(cut_at) or 0) < int(since)
    else:
        ending = next_at is None and not number_of(dormant) and not owner and is_once(trigger)
    return [schedule_id, since, policy.keep_runs, room, ending]


def _visited(row: Sequence[Any], items: list[tuple[str, Any]], *, over: bool) -> Visited:
    runs: list[Any] = []
    events: list[Any] = []
    for kind, item in items:
        identity, before, after, count = item[1:5]
        day = None if after is None else instant(after).date().isoformat()
        (runs if kind == "run" else events).append([identity, day, before, after, int(count or 0)])
    return Visited(row[0], row[1] or "", runs, events, over)
