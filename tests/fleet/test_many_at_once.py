"""Many at once: processes that start together, and sixteen who settle the same rows in random batches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from tests.fleet.fleet import EVERYTHING, Fleet
from tests.servers import ledgers, mariadb
from tests.servers.pairs import Own, own

from onebeat import Definition, Onebeat
from onebeat.core.decide import judge, settle
from onebeat.core.messages import Claim, Finish, RunQuery, Start
from onebeat.core.model import Outcome, Policy, Target, TriggerSpec
from onebeat.engine.clock import SystemClock
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import NOON, VirtualClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

FEW, MANY = 6, 50


def on(*now: str, servers: tuple[str, ...] = ("postgres", "mariadb", "redis")) -> list[object]:
    """Name servers; the ones that are not for ``now`` are left to `make test-long`."""
    return [
        pytest.param(kind, marks=[pytest.mark.server(kind), *([] if kind in now else [pytest.mark.long])])
        for kind in servers
    ]


# --- processes that start at once -------------------------------------------------------------------


def start_at_once(fleet: Fleet, count: int) -> None:
    fleet.put(5)
    fleet.start(count)
    fleet.until_fired(3)
    fleet.until(lambda: len({each.pid for each in fleet.effects()}) > 1)  # no node has it all to itself
    fleet.rest()

    fleet.prove()
    assert fleet.doubled() == set()


@pytest.mark.parametrize("kind", on("mariadb"))
def test_processes_that_start_at_once_on_an_empty_ledger_miss_and_double_nothing(fleet: Fleet) -> None:
    start_at_once(fleet, FEW)


@pytest.mark.long
@pytest.mark.parametrize("kind", on())
def test_fifty_processes_that_start_at_once_on_an_empty_ledger_miss_and_double_nothing(fleet: Fleet) -> None:
    start_at_once(fleet, MANY)


# --- settlers ---------------------------------------------------------------------------------------

SETTLERS, SCHEDULES = 16, 120
DEADLOCKS = {
    "postgres": "SELECT sum(deadlocks)::bigint FROM pg_stat_database",
    "mariadb": "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'",
}


@pytest.fixture
def server(kind: str) -> Iterator[Own]:
    """A server of its own, on which nobody else can come to a deadlock."""
    server = own(kind)
    try:
        server.start()
        if kind == "mariadb":
            server.ask("SET GLOBAL innodb_monitor_enable = 'lock_deadlocks'")
            mariadb.make(server.url, "beats")
        yield server
    finally:
        server.stop()


class Settler:
    """One of many, with connections of its own: settles, claims and ends, all in random order."""

    def __init__(self, store: SqlStore, clock: VirtualClock, seed: int, begin: threading.Barrier) -> None:
        self._store = store
        self._clock = clock
        self._draw = Random(seed)
        self._name = f"settler-{seed}"
        self._begin = begin
        self.won = self.lost = self.ended = 0

    def live(self, batches: int, seconds: float) -> None:
        """Do so many batches, and go on for so long."""
        clock = SystemClock()
        self._begin.wait()
        end = clock.now() + timedelta(seconds=seconds)
        while batches > 0 or clock.now() < end:
            batches -= 1
            self._settle()
            self._work()

    def _settle(self) -> None:
        self._clock.advance(timedelta(seconds=self._draw.random()))
        now = self._clock.now()
        rows = list(self._store.due(now, self._draw.randrange(1, SCHEDULES)).rows)
        self._draw.shuffle(rows)
        decisions = [settle(row, now) for row in rows[: self._draw.randrange(1, SCHEDULES)]]
        won = sum(self._store.settle(now, decisions).won)
        self.won += won
        self.lost += len(decisions) - won

    def _work(self) -> None:
        until = self._clock.now() + timedelta(hours=1)
        limit = self._draw.randrange(1, SCHEDULES)
        claim = Claim(
            holder=self._name, queues=("default",), targets=("seed:body",), limit=limit, until=until
        )
        claimed = self._store.claim(claim)
        self._draw.shuffle(claimed)
        self._store.advance([Start(run_id=each.run.id, token=each.run.token) for each in claimed])
        ends = [
            Finish(
                run_id=each.run.id,
                token=each.run.token,
                outcome=Outcome.SUCCEEDED,
                verdict=judge(each.definition.policy, each.run, Outcome.SUCCEEDED, "", self._clock.now()),
                result=None,
            )
            for each in claimed
        ]
        self._store.advance(ends)
        self.ended += len(ends)


@pytest.mark.parametrize("kind", on("postgres", "mariadb", servers=("postgres", "mariadb")))
@pytest.mark.parametrize(("batches", "seconds"), [(6, 0.0), pytest.param(6, 60.0, marks=pytest.mark.long)])
def test_sixteen_settlers_of_random_batches_come_to_no_deadlock_and_settle_each_occurrence_once(
    kind: str, server: Own, batches: int, seconds: float, tmp_path: Path
) -> None:
    url = f"{server.url}?schema=beats" if kind == "postgres" else server.url.replace("/mysql", "/beats")
    clock = VirtualClock(NOON)
    with ExitStack() as left:
        store, *stores = [
            left.enter_context(closing(ledgers.opened_at(url, clock))) for _ in range(SETTLERS + 2)
        ]
        beat = Onebeat(store=store, clock=clock)
        put(beat)
        ((before,),) = server.ask(DEADLOCKS[kind])
        begin = threading.Barrier(SETTLERS)
        *settlers, last = [
            Settler(own_store, clock, seed, begin if seed < SETTLERS else threading.Barrier(1))
            for seed, own_store in enumerate(stores)
        ]

        with ThreadPoolExecutor(SETTLERS) as pool:
            for told in [pool.submit(settler.live, batches, seconds) for settler in settlers]:
                told.result()  # raises what it raised: a deadlock that surfaced, too

        last.live(20, 0.0)  # nobody in its way: what others passed over
        ((after,),) = server.ask(DEADLOCKS[kind])
        report = beat.audit(until=clock.now())
        assert (report.right, report.gaps, report.extras, report.early) == (True, 0, 0, 0)
        assert after - before == 0
        assert sum(settler.lost for settler in settlers) > 0  # they did meet
        runs = store.runs(RunQuery(limit=EVERYTHING))
        assert len({run.id for run in runs}) == len(runs) == report.fired


def put(beat: Onebeat) -> None:
    """Put schedules of every kind of overlap that makes transactions meet."""
    wanted = {}
    for number in range(SCHEDULES):
        overlap = ("allow", "queue_all", "skip")[number % 3]
        period = {"period_s": 1.0, "anchor_at": "2026-11-21T12:00:00Z"}
        wanted[f"s{number:03}"] = Definition(
            trigger=TriggerSpec(kind="interval", fields=period),
            target=Target(kind="seed", address="body"),
            policy=Policy(overlap=overlap, queue_max=1000),  # type: ignore[arg-type]  # a word of the enum
        )
    beat.schedules.put_all(wanted)
