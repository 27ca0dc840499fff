"""How many durable fires a second one dispatcher makes, beside the least that could write them.

The floor is a loop by hand: apsw, the same file, tables, indexes, pragmas and batch, prepared statements, and
rows that are ready as tuples before the clock starts. It decides nothing, reads nothing and checks nothing
but versions and tokens. Ours and the floor take turns on fresh ledgers; a ratio is the median of the turns.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import apsw

from bench.figure import Figure, Settings, ratios
from bench.ledger import TARGET, url_of
from onebeat.core import edits
from onebeat.core.decide import settle
from onebeat.core.messages import Claim, Done, Finish, Start
from onebeat.core.model import (
    Definition,
    Outcome,
    Overlap,
    Policy,
    RunState,
    TriggerSpec,
    micros,
    occurrence_stamp,
)
from onebeat.core.ports import Store
from onebeat.store.open import open_store

SCHEDULES = 10_000
ROUNDS = 4
BATCH = 1000
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)

FIRED = """INSERT INTO onebeat_runs (id, schedule_id, schedule, number, definition_id, target_id, priority,
    state, slot, watch_at, due_at, ready_at, created_at, occurrence_at, deadline_at, mark_before, mark_after,
    count, fold_first_at, fold_last_at, fold_count, key)
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"""
SETTLED = """UPDATE onebeat_schedules SET version = version + 1, settled_until = ?, next_at = ?
    WHERE id = ? AND version = ?"""
CLAIMED = """UPDATE onebeat_runs SET state = 'running', watch_at = ?, attempt = attempt + 1, token = ?,
    holder = ?, lease_until = ?, claimed_at = ? WHERE id = ? AND state = 'ready'"""
STARTED = "UPDATE onebeat_runs SET started_at = ? WHERE id = ? AND token = ?"
FINISHED = """UPDATE onebeat_runs SET state = 'succeeded', slot = NULL, watch_at = NULL, lease_until = NULL,
    finished_at = ?, outcome = 'succeeded' WHERE id = ? AND token = ?"""


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime:
        return self.at


def run(settings: Settings) -> Sequence[Figure]:
    """Measure firing alone, and firing with completion."""
    return [
        _figure(settings, "durable fires", _fire, lambda db, fires: _write(db, fires, complete=False)),
        _figure(
            settings, "fire, claim, start, finish", _live, lambda db, fires: _write(db, fires, complete=True)
        ),
    ]


def _figure(
    settings: Settings,
    name: str,
    ours: Callable[[Store, Hands], int],
    floor: Callable[[apsw.Connection, list[tuple[Any, ...]]], None],
) -> Figure:
    count = max(BATCH, int(SCHEDULES * settings.scale))
    folder = settings.place / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    rates: list[float] = []
    floors: list[float] = []
    for turn in range(settings.repeats):
        rates.append(_ours(folder / f"ours{turn}.db", count, ours, overlap=name.startswith("durable")))
        floors.append(_floor(folder / f"floor{turn}.db", count, floor))
        for path in folder.iterdir():
            path.unlink()
    ratio = ratios(rates, floors)
    return Figure(
        name,
        ratio,
        "of the floor",
        f"{median(rates):,.0f}/s against {median(floors):,.0f}/s by hand, batches of {BATCH}",
        0.3,
        detail={"ours_per_s": rates, "floor_per_s": floors, "schedules": count, "rounds": ROUNDS},
    )


def _filled(path: Path, count: int, *, overlap: bool) -> tuple[Store, Hands]:
    hands = Hands()
    store = open_store(url_of(path), hands)
    definition = Definition(
        trigger=TriggerSpec(kind="cron", fields={"expression": "* * * * *", "zone": "UTC"}),
        target=TARGET,
        policy=Policy(overlap=Overlap.ALLOW) if overlap else Policy(),
    )
    for begin in range(0, count, 500):
        names = [f"nightly-report-{number:06}" for number in range(begin, min(begin + 500, count))]
        store.put([edits.create(n, definition, edits.Author(edit_id=n, cut_at=hands.at)) for n in names])
    return store, hands


def _ours(path: Path, count: int, work: Callable[[Store, Hands], int], *, overlap: bool) -> float:
    store, hands = _filled(path, count, overlap=overlap)
    begun = time.perf_counter()
    done = 0
    for _ in range(ROUNDS):
        hands.at += MINUTE
        done += work(store, hands)
    took = time.perf_counter() - begun
    store.close()
    assert done == count * ROUNDS
    return done / took


def _fire(store: Store, hands: Hands) -> int:
    fired = 0
    while rows := store.due(hands.at, BATCH).rows:
        fired += sum(store.settle(hands.at, [settle(row, hands.at) for row in rows]).won)
    return fired


def _live(store: Store, hands: Hands) -> int:
    wish = Claim(
        holder="bench", queues=("default",), targets=(TARGET.key,), limit=BATCH, until=hands.at + LEASE
    )
    verdict = Done(state=RunState.SUCCEEDED)
    finished = 0
    while rows := store.due(hands.at, BATCH).rows:
        store.settle(hands.at, [settle(row, hands.at) for row in rows])
        claimed = [each.run for each in store.claim(wish)]
        store.advance([Start(run_id=run.id, token=run.token) for run in claimed])
        ends = [
            Finish(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=verdict)
            for run in claimed
        ]
        finished += sum(answer.answer == "accepted" for answer in store.advance(ends))
    return finished


def _floor(path: Path, count: int, work: Callable[[apsw.Connection, list[tuple[Any, ...]]], None]) -> float:
    store, _ = _filled(path, count, overlap=True)
    store.close()
    db = apsw.Connection(str(path))
    for pragma, value in (("synchronous", "full"), ("mmap_size", 0), ("cache_size", -4096)):
        db.pragma(pragma, value)
    db.wal_autocheckpoint(4000)
    fires = list(_ready(db))
    begun = time.perf_counter()
    work(db, fires)
    took = time.perf_counter() - begun
    db.close()
    return len(fires) / took


def _ready(db: apsw.Connection) -> Iterable[tuple[Any, ...]]:
    """Yield each round's rows, ready to be written: version, the run's cells, and its instants."""
    schedules = db.execute(
        "SELECT id, name, number, definition_id, target_id, priority FROM onebeat_schedules ORDER BY id"
    ).fetchall()
    for turn in range(ROUNDS):
        at = NOON + (turn + 1) * MINUTE
        due, before, stamp = micros(at), micros(at - MINUTE), occurrence_stamp(at)
        for row in schedules:
            run = (f"{row[1]}@{stamp}", *row, "ready", "live", None, due, due, due, due, None)
            yield turn + 1, (*run, before, due, 1, None, None, None, None), due


def _write(db: apsw.Connection, fires: list[tuple[Any, ...]], *, complete: bool) -> None:
    minute, lease = 60_000_000, 30_000_000
    for begin in range(0, len(fires), BATCH):
        batch = fires[begin : begin + BATCH]
        with_tokens = [(run[0], due + number) for number, (_, run, due) in enumerate(batch)]
        due = batch[0][2]
        db.execute("BEGIN IMMEDIATE")
        db.executemany(SETTLED, [(due, due + minute, run[1], version) for version, run, _ in batch])
        db.executemany(FIRED, [run for _, run, _ in batch])
        db.execute("COMMIT")
        if complete:
            for sql, rows in (
                (
                    CLAIMED,
                    [(due + lease, token, "bench", due + lease, due, name) for name, token in with_tokens],
                ),
                (STARTED, [(due, name, token) for name, token in with_tokens]),
                (FINISHED, [(due, name, token) for name, token in with_tokens]),
            ):
                db.execute("BEGIN IMMEDIATE")
                db.executemany(sql, rows)
                db.execute("COMMIT")
