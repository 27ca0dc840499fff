"""Rows 47 and 49: what runs keep warm between them, and what they leave to be read."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest
from tests.seed import pooled
from tests.seed.cluster import HOUR, SECOND, Cluster, every, ledger_at

from onebeat import Target, call, process, shell
from onebeat.core.messages import RunQuery
from onebeat.core.model import Run, RunState
from onebeat.core.ports import Executor
from onebeat.engine.current import RunLogFilter, RunLogHandler
from onebeat.engine.executors.coroutines import CoroutineExecutor
from onebeat.engine.executors.process import ProcessExecutor
from onebeat.engine.executors.python import PythonExecutor
from onebeat.engine.executors.shell import ShellExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker

PATIENCE_S = 60.0
HERE = "tests.seed.pooled"
RUNS = 1000


class Node:
    """A dispatcher on virtual time, and a worker whose bodies run as they do in the field."""

    def __init__(self, cluster: Cluster, executor: Executor) -> None:
        self.cluster = cluster
        self.executor = executor
        self.dispatcher = cluster.node(roles=("dispatcher",))
        self._store = ledger_at(cluster.place, cluster.clock)
        presence = Presence(self._store, cluster.clock, holder="worker", roles=("worker",))
        self._worker = Worker(self._store, cluster.clock, [executor], presence)
        self._woken = threading.Event()
        executor.connect(self._woken.set)
        self._worker.step()  # it is known from now on, and so are its targets soon

    def runs(self) -> list[Run]:
        """Work until nothing is left to do; return the runs that ended, the oldest first."""
        self._worker.step()
        self.dispatcher.step()
        self._worker.step()
        while self._worker.holding:
            assert self._woken.wait(PATIENCE_S)
            self._woken.clear()
            self._worker.step()
        query = RunQuery(states=(RunState.SUCCEEDED,), limit=2 * RUNS)
        return sorted(self._store.runs(query), key=lambda run: run.due_at)

    def close(self) -> None:
        self.executor.close()
        self._store.close()


# --- 47: warm processes ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_seed_47_a_thousand_runs_use_one_process_and_the_connections_that_it_opened(cluster: Cluster) -> None:
    node = Node(cluster, ProcessExecutor(processes=1, allow=[HERE], clock=cluster.clock))
    try:
        cluster.beat.schedules.put(
            "a",
            every(SECOND),
            process(pooled.asks),
            catch_up="all",
            catch_up_max=RUNS,
            overlap="allow",
            keep_runs=2 * RUNS,
        )
        for count in (3, RUNS - 3):
            cluster.clock.advance(count * SECOND)
            runs = node.runs()

            ((pid, connections),) = {tuple(run.result) for run in runs}
            assert pid != os.getpid()
            assert connections == 1
        assert len(runs) == RUNS
    finally:
        node.close()


# --- 49: what a run leaves to be read -------------------------------------------------------------------


@pytest.fixture
def collected() -> Iterator[list[logging.LogRecord]]:
    """What a log collector gets, from a root logger as `onebeat serve` sets it up."""
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    collector, keeper, root = Collector(), RunLogHandler(), logging.getLogger()
    collector.addFilter(RunLogFilter())
    for handler in (collector, keeper):
        root.addHandler(handler)
    yield records
    for handler in (collector, keeper):
        root.removeHandler(handler)


def in_each_way(cluster: Cluster) -> list[tuple[Executor, Target, set[str]]]:
    """Every way to run, a body for it, and the lines that it writes."""
    clock = cluster.clock
    logged, printed = "logged by a library", "printed by a body"
    return [
        (PythonExecutor(threads=1, allow=[HERE], clock=clock), call(pooled.talks), {logged}),
        (CoroutineExecutor(allow=[HERE], clock=clock), call(pooled.talks_awaiting), {logged}),
        (ProcessExecutor(allow=[HERE], clock=clock), process(pooled.talks), {logged, printed}),
        (ShellExecutor(slots=1, on=True, clock=clock), shell(["echo", printed]), {printed}),
    ]


def test_seed_49_what_a_run_prints_and_logs_in_whichever_way_is_found_by_its_id(
    cluster: Cluster, collected: list[logging.LogRecord]
) -> None:
    for number, (executor, target, lines) in enumerate(in_each_way(cluster)):
        node = Node(cluster, executor)
        try:
            cluster.beat.schedules.put(f"way-{number}", every(HOUR), target, run_now=True)
            cluster.clock.advance(SECOND)  # a worker learns of new targets twice a second
            (run,) = (run for run in node.runs() if run.schedule == f"way-{number}")
        finally:
            node.close()

        kept = cluster.beat.runs.logs(run.id)
        assert {line.text for line in kept} == lines, target.kind
        assert {line.attempt for line in kept} == {1}
        here = [record for record in collected if record.getMessage() == "logged by a library"]
        if target.kind in ("python", "async"):  # a process of its own has a collector of its own
            assert {record.__dict__["onebeat_run_id"] for record in here} == {run.id}
        collected.clear()
