"""A ledger to measure: filled through the product's own `put`, watched from outside with plain SQL."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from onebeat.core import edits
from onebeat.core.model import Definition, Overlap, Policy, Target, TriggerSpec
from onebeat.core.triggers.interval import interval
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

TARGET = Target(kind="python", address="bench.node:noop")
BATCH = 200
TICKS = os.sysconf("SC_CLK_TCK")


def url_of(path: Path) -> str:
    """Return the URL of a SQLite ledger."""
    return f"sqlite:///{path.resolve()}"


def every(seconds: float, first_at: datetime) -> Definition:
    """Return a schedule of a no-op that is due at ``first_at`` and then every ``seconds``."""
    return defined(interval(timedelta(seconds=seconds), anchor=first_at))


def defined(trigger: TriggerSpec) -> Definition:
    """Return a schedule of a no-op that never overlaps itself by policy, so that none is skipped."""
    return Definition(trigger=trigger, target=TARGET, policy=Policy(overlap=Overlap.ALLOW))


def fill(path: Path, definitions: Iterable[Definition], prefix: str = "s") -> None:
    """Create one schedule for each definition, through the ledger's own verb, in batches."""
    store = open_store(url_of(path), SystemClock())
    batch: list[Definition] = []
    made = 0

    def put() -> None:
        nonlocal made
        cut = store.now()
        wanted = [
            edits.create(f"{prefix}{made + n}", each, edits.Author(edit_id=f"{prefix}{made + n}", cut_at=cut))
            for n, each in enumerate(batch)
        ]
        answers = store.put(wanted)
        assert all(answer.answer.value == "accepted" for answer in answers)
        made += len(batch)
        batch.clear()

    for definition in definitions:
        batch.append(definition)
        if len(batch) == BATCH:
            put()
    if batch:
        put()
    store.close()


@contextmanager
def node(path: Path, *roles: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the ledger in a process of its own, and end it in order."""
    child = subprocess.Popen([sys.executable, "-m", "bench.node", url_of(path), *roles])
    try:
        yield child
    finally:
        child.terminate()
        if child.wait(60) != 0:
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
    """Sees commits from outside: another connection, another process, plain SQL."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(10_000)
        self._seen = self._one("SELECT coalesce(max(seq), 0) FROM onebeat_runs")
        self._version = -1

    def _one(self, sql: str) -> int:
        row = self._db.execute(sql).fetchone()
        assert row is not None
        return int(row[0])

    def new(self) -> list[tuple[int, int, float]]:
        """Return (due, created, seen) in µs of the runs committed since the last call."""
        version = self._one("PRAGMA data_version")
        if version == self._version:
            return []
        self._version = version
        rows = self._db.execute(
            "SELECT seq, due_at, created_at FROM onebeat_runs WHERE seq > ? ORDER BY seq", (self._seen,)
        ).fetchall()
        seen = time.time() * 1e6
        if rows:
            self._seen = int(rows[-1][0])
        return [(int(due), int(created), seen) for _, due, created in rows]

    def watch(self, seconds: float, enough: int | None = None) -> list[tuple[int, int, float]]:
        """Collect for some seconds, or until there is enough."""
        until = time.perf_counter() + seconds
        found: list[tuple[int, int, float]] = []
        while time.perf_counter() < until and (enough is None or len(found) < enough):
            found += self.new()
            time.sleep(0.0003)
        return found


def soon(seconds: float) -> datetime:
    """Return the whole second that is at least ``seconds`` away."""
    return datetime.fromtimestamp(int(time.time() + seconds) + 1, UTC)
