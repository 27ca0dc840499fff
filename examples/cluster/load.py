"""What the nodes of the cluster serve: an ordinary app with some hundred schedules of 1 to 5 seconds.

Each run appends one line to a file outside of the ledger. The line is one write() on a descriptor opened with
O_APPEND: lines of several processes never mix, and a killed process leaves whole lines only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from onebeat import CurrentRun, Onebeat, call, interval

OUTSIDE, START, SCHEDULES = "CLUSTER_OUTSIDE", "CLUSTER_START", "CLUSTER_SCHEDULES"
"""Environment variables: the file, the first instant at which anything may be due, and how many schedules."""

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Beat:
    """One schedule, in µs since 1970: it is due at ``first`` + k × ``period`` for k = 0, 1, 2 …"""

    name: str
    first: int
    period: int


def plan(start: int, count: int) -> list[Beat]:
    """Return the schedules of a load: periods of 1 to 5 seconds, spread evenly over their seconds."""
    periods = [(1 + number % 5) * SECOND for number in range(count)]
    return [
        Beat(f"load-{number:04}", start + number * period // count, period)
        for number, period in enumerate(periods)
    ]


def app(start: int, count: int) -> Onebeat:
    """Return the app that declares them. Each occurrence gets a run of its own, whatever happens."""
    found = Onebeat(zone="UTC", owner="cluster")
    for each in plan(start, count):
        anchor = EPOCH + timedelta(microseconds=each.first)
        found.declare(
            each.name,
            interval(seconds=each.period // SECOND, anchor=anchor),
            call(leave_a_trace),
            catch_up="all",
            catch_up_max=10_000,
            overlap="allow",
        )
    return found


def leave_a_trace(run: CurrentRun) -> None:
    """Say outside of the ledger that this body began."""
    line = {
        "at": micros(datetime.now(UTC)),
        "schedule": run.schedule,
        "occurrence": micros(run.occurrence),
        "run": run.id,
        "attempt": run.attempt,
        "token": run.token,
        "pid": os.getpid(),
    }
    os.write(_opened(os.environ[OUTSIDE]), (json.dumps(line) + "\n").encode())


def micros(instant: datetime) -> int:
    """Return an instant in µs since 1970."""
    return (instant - EPOCH) // timedelta(microseconds=1)


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


beat = app(int(os.environ.get(START, "0")), int(os.environ.get(SCHEDULES, "0")))
