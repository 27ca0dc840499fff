"""A ledger to measure: filled through the product's own `put`, served by real nodes, watched from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from bench.stores import Newest
from onebeat.core import edits
from onebeat.core.model import Definition, Overlap, Policy, Target, TriggerSpec
from onebeat.core.triggers.interval import interval
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

TARGET = Target(kind="python", address="bench.node:noop")
BATCH = 500
TICKS = os.sysconf("SC_CLK_TCK")
NAP_S = 0.0005  # between two looks of an observer


def every(seconds: float, first_at: datetime) -> Definition:
    """Return a schedule of a no-op that is due at ``first_at`` and then every ``seconds``."""
    return defined(interval(timedelta(seconds=seconds), anchor=first_at))


def defined(trigger: TriggerSpec, target: Target = TARGET) -> Definition:
    """Return a schedule of a no-op that never overlaps itself by policy, so that none is skipped."""
    return Definition(trigger=trigger, target=target, policy=Policy(overlap=Overlap.ALLOW))


def fill(url: str, definitions: Iterable[Definition], prefix: str = "s") -> float:
    """Create one schedule for each definition, through the ledger's own verb; return how many a second."""
    store = open_store(url, SystemClock())
    begun, made, each = time.perf_counter(), 0, iter(definitions)
    while batch := list(islice(each, BATCH)):
        cut = store.now()
        names = [f"{prefix}{made + number}" for number in range(len(batch))]
        answers = store.put(
            [
                edits.create(name, definition, edits.Author(edit_id=name, cut_at=cut))
                for name, definition in zip(names, batch, strict=True)
            ]
        )
        assert all(answer.answer.value == "accepted" for answer in answers)
        made += len(batch)
    store.close()
    return made / (time.perf_counter() - begun)


@contextmanager
def node(url: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the ledger in a process of its own, and end it in order, unless somebody has killed it."""
    child = subprocess.Popen([sys.executable, "-m", "bench.node", url, *words])
    try:
        yield child
    finally:
        killed = child.poll() is not None
        child.terminate()
        if child.wait(60) != 0 and not killed:
            raise RuntimeError(f"the node ended with {child.returncode}")


def cpu_seconds(child: subprocess.Popen[bytes]) -> float:
    """Return the processor time that a child has used so far."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(child: subprocess.Popen[bytes]) -> float:
    """Return the largest resident memory that a child has had."""
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Observer:
    """Sees commits from outside: another connection, another process, plain reading.

    One dispatcher at a time: the numbers of its runs are seen in their order.
    """

    def __init__(self, newest: Newest) -> None:
        self._newest = newest
        self._last = max((seq for seq, _, _ in newest(0)), default=0)

    def new(self) -> list[tuple[int, int, float]]:
        """Return (due, created, seen) in µs of the runs committed since the last call."""
        rows = self._newest(self._last)
        seen = time.time() * 1e6
        if rows:
            self._last = int(rows[-1][0])
        return [(int(due), int(created), seen) for _, due, created in rows]

    def watch(self, seconds: float, enough: int | None = None) -> list[tuple[int, int, float]]:
        """Collect for some seconds, or until there is enough."""
        until = time.perf_counter() + seconds
        found: list[tuple[int, int, float]] = []
        while time.perf_counter() < until and (enough is None or len(found) < enough):
            found += self.new()
            time.sleep(NAP_S)
        return found


def soon(seconds: float) -> datetime:
    """Return the whole second that is at least ``seconds`` away."""
    return datetime.fromtimestamp(int(time.time() + seconds) + 1, UTC)
