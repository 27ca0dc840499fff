"""Row 52: what runs need not be anybody's Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from tests.engine.service import Service
from tests.seed.cluster import MINUTE, T0, Cluster, every

from onebeat import RunState, Target, http, shell
from onebeat.core.model import FINISHED
from onebeat.core.ports import Executor
from onebeat.engine.executors.http import HttpExecutor
from onebeat.engine.executors.shell import ShellExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker

WAIT_S = 60
COMMAND = ["/bin/sh", "-c", "echo $ONEBEAT_OCCURRENCE $ONEBEAT_ATTEMPT; cat; test $ONEBEAT_ATTEMPT = 2"]


class Hands:
    """A worker that runs commands and requests alone: it has no way to run, or import, a function."""

    def __init__(self, cluster: Cluster, *, commands: bool) -> None:
        self._woken = threading.Event()
        self._executors: tuple[Executor, ...] = (
            ShellExecutor(on=commands, clock=cluster.clock),
            HttpExecutor(allow=["127.0.0.1"], clock=cluster.clock),
        )
        for executor in self._executors:
            executor.connect(self._woken.set)
        presence = Presence(cluster.store, cluster.clock, holder="hands", roles=("worker",))
        self._worker = Worker(cluster.store, cluster.clock, self._executors, presence)

    def work(self, until: Callable[[], bool]) -> None:
        self._worker.step()
        while not until():
            assert self._woken.wait(WAIT_S), "nothing ended"
            self._woken.clear()
            self._worker.step()

    def close(self) -> None:
        for executor in self._executors:
            executor.close()


@pytest.fixture
def hands(cluster: Cluster) -> Iterator[Hands]:
    hands = Hands(cluster, commands=True)
    yield hands
    hands.close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def put(cluster: Cluster, name: str, target: Target) -> None:
    cluster.beat.schedules.put(name, every(MINUTE, T0), target, attempts=2, backoff=timedelta(0))
    cluster.changed()


def test_seed_52_a_command_runs_without_anybodys_python_and_is_tried_again(
    cluster: Cluster, hands: Hands
) -> None:
    cluster.node(roles=("dispatcher",))
    put(cluster, "a", shell(COMMAND, input="and what it reads\n"))
    cluster.run(MINUTE)

    hands.work(until=lambda: cluster.the_run().state in FINISHED)

    run = cluster.the_run()
    occurrence = "2026-11-21T12:01:00Z"
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 2)
    assert run.result == {"exit_status": 0, "tail": f"{occurrence} 2\nand what it reads"}
    assert [line.text for line in cluster.store.log(run.id)] == [
        f"{occurrence} 1",
        "and what it reads",
        f"{occurrence} 2",
        "and what it reads",
    ]


def test_seed_52_a_request_runs_without_anybodys_python_and_has_one_key_in_every_attempt(
    cluster: Cluster, hands: Hands, service: Service
) -> None:
    cluster.node(roles=("dispatcher",))
    put(cluster, "a", http(f"{service.url}/status/503", json={"order": 17}))
    cluster.run(MINUTE)

    hands.work(until=lambda: cluster.the_run().state in FINISHED)

    run = cluster.the_run()
    assert (run.state, run.result) == (RunState.FAILED, {"status": 503, "body": "so it is"})
    sent = [each["headers"] for each in service.asked]
    assert [each["body"] for each in service.asked] == ['{"order": 17}'] * 2
    assert [headers["Idempotency-Key"] for headers in sent] == [run.id, run.id]
    assert [headers["Onebeat-Attempt"] for headers in sent] == ["1", "2"]
    assert int(sent[0]["Onebeat-Token"]) < int(sent[1]["Onebeat-Token"])


def test_seed_52_where_commands_are_off_a_command_is_parked_and_not_dropped(cluster: Cluster) -> None:
    cluster.node(roles=("dispatcher",))
    put(cluster, "a", shell(["true"]))
    without = Hands(cluster, commands=False)
    cluster.run(MINUTE)
    without.work(until=lambda: True)
    cluster.run(timedelta(seconds=30))
    without.close()

    assert cluster.the_run().state is RunState.PARKED
    assert len(cluster.events("run.parked")) == 1
