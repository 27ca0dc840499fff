"""What a death costs: `kill -9` of one of two dispatchers, and of one of two workers."""

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from bench.figure import Figure, Settings
from bench.ledger import defined, every, fill, node, soon
from onebeat.core.messages import RunQuery
from onebeat.core.model import Run, Target
from onebeat.core.ports import Store
from onebeat.core.triggers.interval import once
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

SCHEDULES = 500
SECONDS = 12
KILLED_AFTER_S = 4
LEASE_S = 12
RUNS = 20
STAY = Target(kind="python", address="bench.node:stay")


def run(settings: Settings) -> Sequence[Figure]:
    """Measure the worst lateness beside a death, and how long the runs of the dead one wait."""
    return [_dispatcher(settings), _worker(settings)]


def _dispatcher(settings: Settings) -> Figure:
    url = settings.store.ledger("kill-dispatcher")
    first = soon(8)
    step = timedelta(seconds=1) / SCHEDULES
    fill(url, (every(1, first + step * number) for number in range(SCHEDULES)))
    with node(url, "dispatcher") as doomed, node(url, "dispatcher"), node(url, "worker"):
        time.sleep(first.timestamp() + KILLED_AFTER_S - time.time())
        doomed.kill()
        time.sleep(first.timestamp() + SECONDS + 2 - time.time())
    store = open_store(url, SystemClock())
    runs = store.runs(RunQuery(limit=10 * SCHEDULES * SECONDS, until=first + timedelta(seconds=SECONDS)))
    store.close()
    settings.store.drop(url)
    settled = sum(1 if run.fold is None else run.fold.count for run in runs)
    assert settled == SCHEDULES * SECONDS, f"{settled} of {SCHEDULES * SECONDS}"
    worst = max((run.created_at - _first_due(run)).total_seconds() for run in runs)
    beside = f"one of two killed after {KILLED_AFTER_S} s; all of {settled} occurrences were settled"
    return Figure("kill -9 of a dispatcher: latest occurrence", worst, "s", beside, 1.0, at_least=False)


def _first_due(run: Run) -> datetime:
    return run.due_at if run.fold is None else run.fold.first_at


def _worker(settings: Settings) -> Figure:
    url = settings.store.ledger("kill-worker")
    fill(url, [defined(once(soon(4)), STAY)] * RUNS)
    store = open_store(url, SystemClock())
    words = ("worker", f"lease={LEASE_S}", f"threads={RUNS // 2}")
    with node(url, "dispatcher"), node(url, *words) as doomed, node(url, *words) as other:
        _until(store, lambda run: run.started_at is not None)
        mine = {run.id for run in store.runs(RunQuery(limit=RUNS)) if f"-{doomed.pid}-" in str(run.holder)}
        assert mine
        time.sleep(LEASE_S / 2)
        killed_at = time.time()
        doomed.kill()
        with node(url, *words) as third:  # there has to be room
            _until(store, lambda run: run.id not in mine or (run.attempt == 2 and run.started_at is not None))
            runs = [run for run in store.runs(RunQuery(limit=RUNS)) if run.id in mine]
            _killed(third)
        _killed(other)
    store.close()
    settings.store.drop(url)
    worst = max(run.started_at.timestamp() for run in runs if run.started_at is not None) - killed_at
    beside = f"of {len(mine)} runs, under a lease of {LEASE_S} s; the last began {worst:.2f} s after the kill"
    name = "kill -9 of a worker: its runs start again, beyond the lease"
    return Figure(name, max(0.0, worst - LEASE_S), "s", beside, 1.0, at_least=False)


def _killed(child: "subprocess.Popen[bytes]") -> None:
    """Kill a node, and see it dead: else it could not be told from one that ends by itself."""
    child.kill()
    child.wait()


def _until(store: Store, true: Callable[[Run], bool]) -> None:
    """Wait until it is true of every run, and all are there."""
    until = time.time() + 60
    while time.time() < until:
        runs = store.runs(RunQuery(limit=RUNS))
        if len(runs) == RUNS and all(map(true, runs)):
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass within a minute")
