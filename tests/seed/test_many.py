"""Rows 9, 13, 29, 31, 34, 54, 55, 71, 73 and 74: many nodes, none of them needed, none of them in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from random import Random
from typing import Any

import apsw
import pytest
from tests.seed.cluster import BODY, HOUR, MINUTE, SECOND, T0, Cluster, Node, Play, every, ledger_at
from tests.seed.processes import together

from onebeat import CurrentRun, Definition
from onebeat.core import codec
from onebeat.core.decide import settle
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Claim
from onebeat.core.model import Policy, RunState
from onebeat.core.triggers import registry
from onebeat.engine.dispatcher import POLL
from onebeat.store.dialects import sqlite
from onebeat.testing.faults import WRITING_VERBS, Hook, Moment

pytestmark = pytest.mark.slow


def put_many(cluster: Cluster, count: int, period: timedelta = MINUTE) -> list[str]:
    """Put schedules that are all due at the same instants."""
    names = [f"s{i}" for i in range(count)]
    policy = Policy(overlap="allow")  # type: ignore[arg-type]  # a word of the enum
    cluster.beat.schedules.put_all(
        {name: Definition(trigger=every(period), target=BODY, policy=policy) for name in names}
    )
    cluster.changed()
    return names


# --- 9: a sleeping node -----------------------------------------------------------------------------


@pytest.mark.parametrize("due_in", [SECOND, SECOND / 5])
@pytest.mark.parametrize("hints", [True, False])
def test_seed_09_what_is_due_in_a_second_is_seen_by_a_node_that_sleeps(
    cluster: Cluster, due_in: timedelta, *, hints: bool
) -> None:
    node = cluster.node()
    cluster.put("far", every(HOUR))
    cluster.run(MINUTE)
    assert node.wake_at > cluster.now  # it sleeps
    cluster.clock.advance(SECOND / 3)
    at = cluster.now + due_in
    cluster.put("new", every(HOUR, at))
    if not hints:
        cluster._awake.clear()
        node.wake_at = max(node.wake_at, cluster.now)
    cluster.run(3 * SECOND, hints=hints)

    (run,) = cluster.runs("new")
    assert run.lateness <= (timedelta(0) if hints else POLL)
    assert run.state is RunState.SUCCEEDED


def test_seed_09_a_commit_of_another_connection_ends_a_wait_that_would_last_an_hour(cluster: Cluster) -> None:
    sleeper = ledger_at(cluster.place, cluster.clock)
    sleeper.wait(cluster.now)  # whatever happened until now it has seen
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(sleeper.wait(cluster.now + HOUR)))
    thread.start()
    cluster.put("new", every(SECOND))
    thread.join(60)

    assert woken == [True]
    sleeper.close()


# --- 13, 74: many at one instant --------------------------------------------------------------------


@pytest.mark.of_processes
def test_seed_13_of_many_threads_of_many_processes_one_wins_each_occurrence(cluster: Cluster) -> None:
    names = put_many(cluster, 100)
    wins = together(3, cluster.place, "race", "4")
    cluster.clock.set(T0 + MINUTE)

    assert [len(each) for each in wins] == [4, 4, 4]
    assert sum(map(sum, wins)) == len(names)
    assert Counter(run.schedule for run in cluster.runs(None)) == Counter(names)
    assert {cluster.row(name).version for name in names} == {2}
    assert cluster.events("occurrence.skipped", "occurrence.folded") == []


def test_seed_13_the_losers_change_nothing_and_say_nothing(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    names = put_many(cluster, 20)
    cluster.clock.set(T0 + MINUTE)
    decisions = [settle(row, cluster.now) for row in cluster.store.due(cluster.now, 100).rows]
    assert cluster.store.settle(cluster.now, decisions).won == (True,) * 20
    before = ([cluster.row(name) for name in names], cluster.runs(None), cluster.events())
    caplog.set_level(logging.DEBUG, "onebeat")

    again = cluster.store.settle(cluster.now, decisions)
    late = cluster.node(roles=("dispatcher",))
    late.step()

    assert again.won == (False,) * 20
    assert ([cluster.row(name) for name in names], cluster.runs(None), cluster.events()) == before
    assert caplog.records == []


def test_seed_74_two_dispatchers_are_legal_and_the_second_of_an_instant_only_loses(cluster: Cluster) -> None:
    put_many(cluster, 10)
    first, second = cluster.node(roles=("dispatcher",)), cluster.node(roles=("dispatcher",))
    worker = cluster.node(roles=("worker",))
    overtaken = []

    def overtake(moment: Moment) -> None:
        if moment.verb == "settle" and not moment.after:
            overtaken.append(moment)
            second.step()  # between the first one's reading and its commit

    first.hooks.append(overtake)
    for _ in range(30):
        cluster.clock.advance(MINUTE)
        first.step()
        worker.step()
        worker.step()

    assert len(overtaken) >= 30
    assert Counter(run.occurrence_at for run in cluster.runs(None)) == {
        T0 + i * MINUTE: 10 for i in range(1, 31)
    }
    assert first.metrics.value("onebeat_decisions_stale_total") == 300
    assert second.metrics.value("onebeat_occurrences_settled_total", "fired", "") == 300
    cluster.prove()


# --- 29: coroutines ---------------------------------------------------------------------------------

ticks: list[tuple[datetime, bool]] = []


async def tick(run: CurrentRun) -> None:
    await asyncio.sleep(0)
    ticks.append((run.occurrence, asyncio.get_running_loop().is_running()))


@pytest.mark.parametrize("nodes", [1, 3])
def test_seed_29_a_coroutine_every_two_minutes_runs_once_a_tick_for_an_hour(
    cluster: Cluster, nodes: int
) -> None:
    ticks.clear()
    for _ in range(nodes):
        cluster.node(allow=(tick,))
    cluster.beat.schedules.put("a", every(2 * MINUTE), tick)
    cluster.run(HOUR, every=30 * SECOND)

    assert ticks == [(T0 + i * 2 * MINUTE, True) for i in range(1, 31)]
    assert cluster.states() == {RunState.SUCCEEDED: 30}
    assert cluster.beat.audit().right


# --- 31, 73: the file is all there is ---------------------------------------------------------------


@pytest.mark.of_the_file
def test_seed_31_the_right_to_execute_survives_the_loss_of_every_cache_and_announcement(
    cluster: Cluster,
) -> None:
    put_many(cluster, 3)
    beside = apsw.Connection(str(cluster.place / "ledger.db"))
    for _ in range(20):
        for _ in range(3):
            cluster.node()
        cluster.clock.advance(MINUTE)
        for node in list(cluster.nodes):
            node.step()
            # What is no definition, no run and no record may go at any time: it only ever helped.
            beside.execute("DELETE FROM onebeat_nodes")
            for cache in (codec.trigger_from, codec.policy_from, codec.definition_from, registry._built):
                cache.cache_clear()
        cluster.step()
        for node in list(cluster.nodes):
            node.crash()
    beside.close()
    cluster.node()
    cluster.run(SECOND)

    assert Counter(effect.occurrence for effect in cluster.effects) == {
        T0 + i * MINUTE: 3 for i in range(1, 21)
    }
    cluster.prove()


def test_seed_73_no_node_keeps_anything_beside_the_ledger(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_many(cluster, 3)
    homes = []
    for life in range(3):
        home = tmp_path_factory.mktemp(f"disk-{life}")
        homes.append(home)
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            monkeypatch.setenv(name, str(home))
        monkeypatch.chdir(home)
        node = cluster.node()  # on a fresh disk, after the last one's is gone
        cluster.run(2 * MINUTE, every=30 * SECOND)
        node.crash()
        cluster.clock.advance(MINUTE)
    monkeypatch.chdir(homes[0])
    cluster.node()
    cluster.run(SECOND)

    assert [list(home.rglob("*")) for home in homes] == [[], [], []]
    assert {path.name.removeprefix("ledger.db") for path in cluster.place.iterdir()} <= {"", "-wal", "-shm"}
    assert sum(tile.count for tile in cluster.tiles("s0")) == 9
    cluster.prove()


# --- 34: who triggers and who executes --------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("dispatchers", [1, 3])
def test_seed_34_any_number_of_triggers_and_of_workers_go_together(
    cluster: Cluster, dispatchers: int, workers: int
) -> None:
    triggering = [cluster.node(roles=("dispatcher",)) for _ in range(dispatchers)]
    executing = [cluster.node(roles=("worker",), slots=3) for _ in range(workers)]
    cluster.plays["body"] = Play(lasts=SECOND)
    names = put_many(cluster, 9)
    cluster.run(3 * MINUTE + 10 * SECOND, every=SECOND)

    assert Counter(effect.schedule for effect in cluster.effects) == Counter(names * 3)
    assert {effect.node for effect in cluster.effects} == {node.name for node in executing}
    assert all(node.calls["claim"] == 0 for node in triggering)
    assert all(node.calls["settle"] == 0 for node in executing)
    cluster.prove()


def test_seed_34_one_process_may_be_both(cluster: Cluster) -> None:
    cluster.node(roles=("dispatcher", "worker"))
    put_many(cluster, 9)
    cluster.run(3 * MINUTE, every=30 * SECOND)

    assert len(cluster.effects) == 27
    cluster.prove()


# --- 54: locks only optimise ------------------------------------------------------------------------


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build without the lock layer: no transaction takes the write lock before it writes."""
    transact: Callable[..., Any] = sqlite._transact
    monkeypatch.setattr(sqlite, "_transact", lambda db, begin, *work: transact(db, "BEGIN", *work))


@pytest.mark.usefixtures("unlocked")
@pytest.mark.of_the_file
def test_seed_54_without_the_lock_layer_each_occurrence_is_still_settled_once(cluster: Cluster) -> None:
    names = put_many(cluster, 50)
    cluster.clock.set(T0 + MINUTE)
    barrier = threading.Barrier(6)

    def race(_: int) -> int:
        store = ledger_at(cluster.place, cluster.clock)
        decisions = [settle(row, cluster.now) for row in store.due(cluster.now, 100).rows]
        barrier.wait()
        for _ in range(1000):
            with suppress(StoreUnavailable):  # it came in the way of others, and asks again
                won = sum(store.settle(cluster.now, decisions).won)
                store.close()
                return won
        raise AssertionError("it never got an answer")

    with ThreadPoolExecutor(6) as pool:
        wins = list(pool.map(race, range(6)))

    assert sum(wins) == len(names)
    cluster.node()
    cluster.run(SECOND)
    assert Counter(effect.schedule for effect in cluster.effects) == Counter(names)
    cluster.prove()


@pytest.mark.of_the_file
def test_seed_54_the_constraints_of_the_file_are_the_authority(cluster: Cluster) -> None:
    cluster.put("a", every(MINUTE))
    cluster.clock.advance(MINUTE)
    cluster.node(roles=("dispatcher",)).step()
    db = apsw.Connection(str(cluster.place / "ledger.db"))
    columns = ", ".join(row[1] for row in db.execute("PRAGMA table_info(onebeat_runs)") if row[1] != "seq")

    with pytest.raises(apsw.ConstraintError, match=r"onebeat_runs\.id"):
        db.execute(f"INSERT INTO onebeat_runs ({columns}) SELECT {columns} FROM onebeat_runs")
    with pytest.raises(apsw.ConstraintError, match=r"onebeat_schedules\.name"):
        db.execute(
            "INSERT INTO onebeat_schedules (name, shard, incarnation, version, settled_until, dormant,"
            " number, definition_id, target_id, priority, change_id)"
            " VALUES ('a', 0, 1, 1, 0, 0, 1, 1, 1, 0, 1)"
        )
    db.close()


# --- 55: a claim for each occurrence ----------------------------------------------------------------


def test_seed_55_a_run_that_lasts_does_not_keep_the_next_occurrence_from_running(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.node(slots=1)
    cluster.plays["body"] = Play(lasts=90 * SECOND)
    cluster.put("a", every(MINUTE), overlap="allow")
    cluster.run(2 * MINUTE, every=10 * SECOND)

    assert [effect.occurrence for effect in cluster.effects] == [T0 + MINUTE, T0 + 2 * MINUTE]
    assert len({effect.node for effect in cluster.effects}) == 2
    assert cluster.most_at_once() == 2


def test_seed_55_failing_to_claim_is_silent_and_writes_nothing(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    put_many(cluster, 3)
    cluster.clock.advance(MINUTE)
    cluster.node(roles=("dispatcher",)).step()

    def claim(holder: str) -> list[str]:
        until = cluster.now + MINUTE
        wish = Claim(holder=holder, queues=("default",), targets=("seed:body",), limit=9, until=until)
        return [claimed.run.id for claimed in cluster.store.claim(wish)]

    first = claim("first")
    before = (cluster.runs(None), cluster.events())
    caplog.set_level(logging.DEBUG, "onebeat")

    assert len(first) == 3
    assert claim("second") == []
    assert (cluster.runs(None), cluster.events()) == before
    assert caplog.records == []


# --- 71: all of it together -------------------------------------------------------------------------


def overtaking(cluster: Cluster, node: Node) -> Hook:
    """Have another dispatcher come between a node's next reading and its commit."""

    def overtake(moment: Moment) -> None:
        others = [other for other in cluster.nodes if other is not node]
        if moment.verb == "settle" and not moment.after and others:
            node.hooks.remove(overtake)
            others[0].step()

    return overtake


@pytest.mark.parametrize("seed", range(4))
def test_seed_71_under_deaths_pauses_and_edits_nothing_is_lost_and_nothing_doubled(
    cluster: Cluster, seed: int
) -> None:
    draw = Random(seed)
    names = put_many(cluster, 6, period=10 * SECOND)
    deaths = Counter[str]()
    while cluster.now < T0 + 8 * MINUTE:
        while len(cluster.nodes) < 3:
            cluster.node(slots=5, skew=draw.choice((-5, 0, 5)) * SECOND)
        node = draw.choice(cluster.nodes)
        match draw.randrange(5):
            case 0:
                verb = draw.choice(("settle", "claim", "advance", "due", *WRITING_VERBS))
                node.die_at(verb, after=draw.random() < 0.5)
            case 1:
                node.paused_until = cluster.now + draw.randrange(60) * SECOND
            case 2:
                cluster.edit(draw.choice(names), title=f"at {cluster.now}")
            case 3:
                node.hooks.append(overtaking(cluster, node))
            case _:
                cluster.plays["body"] = Play(lasts=draw.choice((0, 0, 1, 15)) * SECOND)
        before = set(cluster.nodes)
        cluster.run(draw.randrange(1, 12) * SECOND, every=SECOND)
        deaths["died"] += len(before - set(cluster.nodes))
    for node in list(cluster.nodes):
        node.crash()
    cluster.node()
    cluster.run(MINUTE, every=SECOND)

    report = cluster.beat.audit()
    assert report.right, (seed, report)
    assert report.fired + report.folded == report.expected == 6 * ((cluster.now - T0) // (10 * SECOND))
    runs = cluster.runs(None)
    assert {run.state for run in runs if run.created_at < cluster.now - MINUTE} == {RunState.SUCCEEDED}
    began = Counter(effect.run_id for effect in cluster.effects)
    for run in runs:
        # More than one body only where an attempt was lost; and of one run no two with the same token.
        assert 1 <= began[run.id] <= run.attempt, (seed, run)
    assert len({(effect.run_id, effect.token) for effect in cluster.effects}) == len(cluster.effects)
    assert deaths["died"] >= 3
