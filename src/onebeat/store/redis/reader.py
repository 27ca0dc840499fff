"""The questions of the Reader, asked of ask.lua: a script is alone on the server, so it sees one picture.

A long answer comes in pages, so that no question keeps the server from everybody else.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from onebeat.core.errors import NotFound
from onebeat.core.messages import (
    Change,
    Due,
    EventQuery,
    Hold,
    LogLine,
    Overdue,
    Overtaken,
    RunQuery,
    ScheduleQuery,
    Share,
    Stray,
    Summary,
    Tile,
)
from onebeat.core.model import Definition, Event, Load, Node, Owing, Run, RunState, Schedule
from onebeat.core.ports import Clock
from onebeat.store.redis.cells import (
    change_from,
    definition_from,
    event_from,
    event_tile,
    hash_of,
    instant,
    node_from,
    owing_from,
    run_from,
    run_tile,
    schedule_from,
    text_of,
    text_or_none,
)
from onebeat.store.redis.promise import Kept
from onebeat.store.redis.server import Server, script
from onebeat.store.rows import hold_of, policy_of, tags_of

PAGE = 100
"""How many schedules one script reads: each may carry a definition of some hundred kilobytes."""

LOOKED_AT = 100
"""How many rows beyond its limit ``broken`` looks at, soonest first."""

_OVERTAKEN = {RunState.RUNNING: Overtaken.LEASE, RunState.SENT: Overtaken.RESEND}


class RedisReader:
    """The Reader."""

    def __init__(self, server: Server, kept: Kept, clock: Clock | None) -> None:
        self._server = server
        self._kept = kept
        self._clock = clock  # in place of the server's own, for tests

    def _now(self) -> str:
        """Return the instant that scripts shall take for the server's; '' for its own."""
        return "" if self._clock is None else text_of(self._clock.now())

    def _ask(self, question: str, *args: Any) -> Any:
        return self._server.run(script("ask"), [question, *args], self._now())

    # --- schedules ---

    def schedules(self, query: ScheduleQuery) -> list[Schedule]:
        found: list[Schedule] = []
        if query.limit <= 0:
            return found
        for row in self._rows(query):
            if (
                row.name > query.after
                and (query.deleted or not row.deleted)
                and (query.owner is None or row.owner == query.owner)
                and (query.tag is None or query.tag in row.definition.tags)
            ):
                found.append(row)
                if len(found) == query.limit:
                    break
        return found

    def _rows(self, query: ScheduleQuery) -> Iterator[Schedule]:
        if query.names is not None:
            names = sorted(set(query.names))
            for begin in range(0, len(names), PAGE):
                for each in self._ask("schedules", names[begin : begin + PAGE])[0]:
                    yield schedule_from(each)[0]
            return
        after: str | None = query.after
        while after is not None:
            pictures, after = self._ask("schedules", None, after, PAGE)
            for each in pictures:
                yield schedule_from(each)[0]

    def owing(self, names: Sequence[str]) -> list[tuple[Schedule, Load]]:
        wanted = sorted(set(names))
        found: list[tuple[Schedule, Load]] = []
        for begin in range(0, len(wanted), PAGE):
            for picture, (live, waiting, last) in self._ask("owing", wanted[begin : begin + PAGE]):
                load = Load(live=live, waiting=waiting, last_waiting=last)
                found.append((schedule_from(picture)[0], load))
        return found

    def definition(self, schedule_id: int, number: int) -> Definition:
        found = self._ask("definition", str(schedule_id), str(number))
        if not found:
            raise NotFound(f"schedule {schedule_id} has no definition {number}")
        return definition_from(found)[0]

    def trail(self, schedule_id: int) -> list[Change]:
        return [change_from(each) for each in self._ask("trail", str(schedule_id))]

    # --- what the dispatcher reads ---

    def due(self, now: datetime, limit: int, share: Share | None = None) -> Due:
        index, of = (None, None) if share is None else (share.index, share.of)
        rows: list[Owing] = []
        skipped = 0
        while True:
            room = limit - len(rows)
            args = [text_of(now), room, index, of, skipped]
            found, following, skipped, waits = self._server.run(script("due"), args, self._now(), packed=True)
            rows += [owing for row in found if (owing := owing_from(row)) is not None]
            if len(rows) >= limit or len(found) < room:
                break  # else some did not decode, and there may be more
        next_at = instant(following) if following else None
        return Due(rows=tuple(rows), next_at=next_at, entries=bool(waits))

    def broken(self, limit: int) -> list[tuple[str, str]]:
        looked_at = [schedule_from(each) for each in self._ask("soonest", limit + LOOKED_AT) if each]
        return [(row.name, wrong) for row, wrong in looked_at if wrong][:limit]

    # --- runs ---

    def run(self, run_id: str) -> Run | None:
        found = self._ask("run", run_id)
        return run_from(found) if found else None

    def runs(self, query: RunQuery) -> list[Run]:
        states = [state.value for state in (RunState if query.states is None else query.states)]
        found: list[Run] = []
        before, below = query.before, None
        times = (text_or_none(query.since), text_or_none(query.until))
        while states and len(found) < query.limit:
            room = query.limit - len(found)
            page, below = self._ask("runs", query.schedule, states, before, below, *times, room)
            for flat, tags in page:
                if query.tag is None or query.tag in tags_of(tags):
                    found.append(run_from(flat))
            if below is None:
                break
            before = None
        return found

    def log(self, run_id: str) -> list[LogLine]:
        cells = iter(self._ask("log", run_id))
        return [
            LogLine(at=instant(at), attempt=int(attempt), level=level, text=text)
            for at, attempt, level, text in zip(cells, cells, cells, cells, strict=True)
        ]

    def lost(self, now: datetime, limit: int) -> list[Overdue]:
        found = []
        for flat, policy in self._ask("lost", text_of(now), limit):
            run = run_from(flat)
            overtaken = _OVERTAKEN.get(run.state, Overtaken.DEADLINE)
            found.append(Overdue(run=run, policy=policy_of(policy), overtaken=overtaken))
        return found

    # --- events and the proof ---

    def events(self, query: EventQuery) -> list[Event]:
        kinds = None if query.kinds is None else list(query.kinds)
        found: list[Event] = []
        after: str | None = str(query.after)
        while after is not None and len(found) < query.limit:
            room = query.limit - len(found)
            page, after = self._ask("events", after, kinds, query.schedule, query.run_id, room)
            found += [event_from(entry) for entry in page]
        return found

    def tiles(self, schedule_id: int, since: datetime, until: datetime) -> list[Tile]:
        owner, bounds = str(schedule_id), (text_of(since), text_of(until))
        unfinished, last_run, last_event = self._ask("tiles", owner, *bounds)
        # What has ended since stands in both: by its id it is one.
        runs = {row[-1]: run_tile(row) for row in unfinished}
        after: str | None = "0"
        while after is not None:
            page, after = self._ask("ended", owner, *bounds, after, last_run)
            runs.update((row[-1], run_tile(row)) for row in page)
        tiles = list(runs.values())
        after = "0"
        while after is not None:
            page, after = self._ask("settled", owner, after, last_event)
            tiles += [tile for each in page if each and (tile := event_tile(each, since, until)) is not None]
        return sorted(tiles, key=lambda tile: (tile.mark_before, tile.mark_after))

    def summaries(self, schedule_id: int) -> list[Summary]:
        days = hash_of(self._ask("summaries", str(schedule_id))[0])
        return [_summary(day, text) for day, text in sorted(days.items())]

    def provable_from(self, schedule_id: int) -> datetime:
        days, first = self._ask("summaries", str(schedule_id))
        if days:
            return max(_summary(day, text).mark_after for day, text in hash_of(days).items())
        if first is None:
            raise NotFound(f"there never was a schedule {schedule_id}")
        return instant(first)

    # --- nodes and the whole ---

    def nodes(self) -> list[Node]:
        return [node_from(each) for each in self._ask("nodes")]

    def targets(self) -> list[str]:
        scheduled, unfinished = self._ask("targets")
        return sorted({*scheduled, *unfinished})

    def strays(self, now: datetime, limit: int) -> list[Stray]:
        found = self._ask("strays", text_of(now), limit)
        strays = [Stray(run=run_from(flat), resolvable=bool(resolvable)) for flat, resolvable in found]
        return sorted(strays, key=lambda stray: stray.run.id)

    def held(self) -> Hold | None:
        return hold_of(self._ask("held"))

    def counts(self) -> dict[str, int]:
        states = [state.value for state in RunState]
        runs, schedules, paused, quarantined, due = self._ask("counts", states)
        return {f"runs_{state}": count for state, count in zip(states, runs, strict=True)} | {
            "schedules": schedules,
            "paused": paused,
            "quarantined": quarantined,
            "due": due,
        }

    def facts(self) -> dict[str, str]:
        return {
            "kind": f"{self._kept.kind} {self._kept.version}",
            "place": self._server.address.place,
            "durability": self._kept.durability,
            "verdict": self._kept.verdict,
        }


def _summary(day: str, text: str) -> Summary:
    fired, folded, skipped, before, after = text.split()
    return Summary(
        day=day,
        fired=int(fired),
        folded=int(folded),
        skipped=int(skipped),
        mark_before=instant(before),
        mark_after=instant(after),
    )
