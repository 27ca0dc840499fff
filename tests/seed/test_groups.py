"""Row 77: a task's own lock goes on working, and a named group does the same without one."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tests.celery.fleet import Fleet
from tests.seed.cluster import MINUTE, SECOND, T0, Cluster, Play, every
from tests.servers import redis

from onebeat import call, celery_task, on_request
from onebeat.core.errors import InvalidInput
from onebeat.core.messages import Claim
from onebeat.core.model import Outcome, RunState
from onebeat.engine.executors.python import PythonExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker

WAIT_S = 60
GO_ON: dict[str, threading.Event] = {}
"""What holds bodies, by the file of their lock."""
TAKEN: dict[str, threading.Event] = {}
"""What tells that one has its lock."""


def send_invoices(place: str) -> str:
    """Do what a task does today: take its lock, or fail where it is taken."""
    with Path(place).open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        TAKEN[place].set()
        assert GO_ON[place].wait(WAIT_S)
        return "sent"


def renumber_invoices(place: str) -> str:
    """Do something else under the same lock."""
    return send_invoices(place)


class Hands:
    """Two workers, each with threads of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._ended = threading.Event()
        self._executors = []
        self.workers = []
        for holder in ("h1", "h2"):
            executor = PythonExecutor(threads=4, allow=[__name__], clock=cluster.clock)
            executor.connect(self._ended.set)
            presence = Presence(cluster.store, cluster.clock, holder=holder, roles=("worker",))
            self._executors.append(executor)
            self.workers.append(Worker(cluster.store, cluster.clock, [executor], presence))

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert self._ended.wait(WAIT_S), "nothing ended"
            self._ended.clear()
            for worker in self.workers:
                worker.step()

    def close(self) -> None:
        for executor in self._executors:
            executor.close()


@pytest.mark.parametrize("group", [None, "invoices"])
def test_seed_77_a_body_with_a_lock_of_its_own_goes_on_unchanged_and_in_a_group_finds_it_free(
    group: str | None, cluster: Cluster, tmp_path: Path
) -> None:
    place = str(tmp_path / "lock")
    GO_ON[place], TAKEN[place] = threading.Event(), threading.Event()
    hands = Hands(cluster)
    try:
        for name, body in (("send", send_invoices), ("renumber", renumber_invoices)):
            cluster.beat.schedules.put(
                name, on_request(), call(body, place), overlap="allow", exclusive=group
            )
        first = cluster.beat.runs.request("send").id
        hands.workers[0].step()
        assert TAKEN[place].wait(WAIT_S)
        second = cluster.beat.runs.request("renumber").id
        hands.workers[1].step()

        def state(run_id: str) -> RunState:
            return cluster.beat.runs.show(run_id).run.state

        if group is None:
            # The lock does what it did: the second one finds it taken, and says so.
            hands.until(lambda: state(second) is RunState.FAILED)
            assert "BlockingIOError" in str(cluster.beat.runs.show(second).run.error)
        else:
            assert (state(first), state(second)) == (RunState.RUNNING, RunState.READY)
            waits = cluster.beat.runs.show(second).waits
            assert waits == f"waits for the group invoices, which {first} has"
        GO_ON[place].set()
        hands.until(lambda: state(first) is RunState.SUCCEEDED)
        if group is not None:
            hands.until(lambda: state(second) is RunState.SUCCEEDED)
            assert [run.attempt for run in cluster.runs(None)] == [1, 1]
    finally:
        GO_ON[place].set()
        hands.close()
        del GO_ON[place], TAKEN[place]


def test_seed_77_schedules_of_one_group_work_one_at_a_time_and_each_in_its_turn(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.node()
    cluster.plays["body"] = Play(lasts=25 * SECOND)
    thrice = every(MINUTE).between(end_at=T0 + 3 * MINUTE)
    for name in ("send", "renumber", "export"):
        cluster.put(name, thrice, overlap="queue_all", exclusive="invoices")
    cluster.put("beside", thrice)
    cluster.run(8 * MINUTE)

    grouped = [effect for effect in cluster.effects if effect.schedule != "beside"]
    assert len(grouped) == 9
    assert all(one.ended_at is not None and one.ended_at <= two.began_at for one, two in pairwise(grouped))
    assert all(one.ended_at == two.began_at for one, two in pairwise(grouped[:6]))  # nobody waits for nothing
    turns = [(effect.occurrence, effect.schedule) for effect in grouped]
    assert turns == sorted(turns)
    assert {effect.node for effect in grouped} <= {"n1", "n2", "n3"}
    beside = [effect for effect in cluster.effects if effect.schedule == "beside"]
    assert all(effect.began_at == effect.occurrence for effect in beside)
    cluster.prove()


def test_seed_77_who_dies_with_a_run_of_a_group_keeps_the_others_for_a_lease_at_most(
    cluster: Cluster,
) -> None:
    dies = cluster.node(lease=30 * SECOND)
    cluster.plays["body"] = Play(lasts=5 * MINUTE)
    cluster.put("a", every(MINUTE), overlap="allow", exclusive="invoices")
    cluster.run(MINUTE + SECOND)
    cluster.beat.schedules.pause("a")
    cluster.put("b", on_request(), exclusive="invoices")
    dies.crash()
    cluster.node()
    cluster.plays["body"] = Play(lasts=SECOND)
    cluster.beat.runs.request("b")
    cluster.run(MINUTE)

    lost, other, again = cluster.effects
    assert [lost.schedule, other.schedule, again.schedule] == ["a", "b", "a"]  # what is tried again is last
    assert 29 * SECOND <= other.began_at - lost.began_at <= 40 * SECOND
    assert other.ended_at is not None
    assert other.ended_at <= again.began_at
    assert cluster.states("a") == cluster.states("b") == {RunState.SUCCEEDED: 1}


def test_seed_77_a_task_that_nobody_hears_of_can_be_in_no_group(cluster: Cluster) -> None:
    task = celery_task("shop.send", guarded=False)
    with pytest.raises(InvalidInput, match=r"nobody can tell when the next of the group invoices may run"):
        cluster.beat.schedules.put("a", on_request(), task, overlap="allow", exclusive="invoices")


@pytest.mark.of_servers
@pytest.mark.server("redis")
@pytest.mark.slow
def test_seed_77_a_group_holds_across_a_celery_fleet_and_a_local_worker(tmp_path: Path) -> None:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    try:
        fleet.worker("threads")
        first = fleet.asked("send", "shop.hold", "first", exclusive="invoices")
        second = fleet.asked("renumber", "shop.hold", "second", exclusive="invoices")
        fleet.beat.schedules.put("local", on_request(), call(send_invoices, ""), exclusive="invoices")
        third = fleet.beat.runs.request("local")

        def claim(key: str, *, sends: bool) -> list[str]:
            now = fleet.store.now()
            wish = Claim(
                holder="here",
                queues=("default",),
                targets=(key,),
                limit=10,
                until=now + MINUTE,
                sends=sends,
            )
            return [each.run.id for each in fleet.store.claim(wish)]

        fleet.send(first.id)
        assert fleet.heard("said").split()[0] == "first"
        assert claim(second.target, sends=True) == claim(third.target, sends=False) == []
        fleet.release()
        assert fleet.state(first.id).state is RunState.SUCCEEDED
        assert claim(third.target, sends=False) == []  # it is not its turn

        fleet.send(second.id)
        assert fleet.heard("said").split()[0] == "second"
        assert claim(third.target, sends=False) == []
        fleet.release()
        assert fleet.state(second.id).outcome is Outcome.SUCCEEDED
        assert claim(third.target, sends=False) == [third.id]
        assert fleet.unsaid("said") == []
    finally:
        fleet.close()
