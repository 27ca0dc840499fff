"""From due to recorded: schedules fire, messages go out, a worker runs bodies, each end is written down.

Every-second schedules, as many as keep the one who is measured busy; the same worker for both, its pool and
how many children it has, and the same broker. Ours ends in the ledger; Celery Beat's in Celery's own result
backend, in another database of the broker's server. A rate is what was recorded within a window, once it is
under way. The ceiling is the same worker with messages that were all there before it began, and nothing of
ours: no scheduler passes what Celery itself does with a task.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from math import ceil
from statistics import median

import redis as client

from bench.celery.fleet import NAP_S, Broker, beat, broker, each, opened, worker
from bench.figure import Figure, Settings, ratios
from bench.ledger import fill
from bench.peers.beside import PROGRAMS, bare, longer
from bench.peers.environments import pinned, python
from onebeat.celery.library import Celery

OURS, THEIRS = 1_600, 1_000
"""Schedules, each due every second: Celery Beat does less with more of them."""

POOL, CHILDREN = "prefork", 8
"""More children than cores: whose run is being taken waits for a disk."""

WAITING = 5_000
"""Messages that are there when the ceiling is measured."""

LEAD_S = 6.0
FILL_PER_S = 1000
WARM_S = 2.0
WINDOW_S = 6.0
BAR = 3.0

Recorded = Callable[[], int]


def run(settings: Settings) -> Sequence[Figure]:
    """Measure both by turns."""
    ours, theirs, most = list[float](), list[float](), list[float]()
    with broker(settings.place) as redis:
        for turn in range(settings.repeats):
            ours.append(_rate(redis, partial(_onebeat, settings, redis, f"ends-{turn}")))
            theirs.append(_rate(redis, partial(_celery_beat, redis)))
            print(f"  {ours[-1]:,.0f}/s against {theirs[-1]:,.0f}/s", file=sys.stderr, flush=True)
        most.append(_ceiling(redis, max(100, int(WAITING * settings.scale))))
    name = "scheduled, run and recorded"
    beside = (
        f"{median(ours):,.0f}/s against {median(theirs):,.0f}/s, {POOL}, {CHILDREN} children; "
        f"that worker by itself: {median(most):,.0f}/s"
    )
    detail = {
        "ours_per_s": ours,
        "theirs_per_s": theirs,
        "worker_per_s": most,
        "schedules": [int(OURS * settings.scale), THEIRS],
        "packages": pinned("celery"),
    }
    return [Figure(name, ratios(ours, theirs), "x Celery Beat", beside, BAR, detail=detail)]


def _rate(redis: Broker, fleet: Callable[[int], AbstractContextManager[Recorded]]) -> float:
    """Return how many ends a second were recorded, once it is under way."""
    lead = LEAD_S + OURS / FILL_PER_S
    while (rate := _rate_after(lead, redis, fleet)) is None:
        lead = longer("a beat", lead)
    return rate


def _rate_after(
    lead: float, redis: Broker, fleet: Callable[[int], AbstractContextManager[Recorded]]
) -> float | None:
    redis.clear()
    due = ceil(time.time() + lead)
    with fleet(due) as recorded:
        if time.time() > due:
            return None
        time.sleep(due + WARM_S - time.time())
        before, begun = recorded(), time.perf_counter()
        time.sleep(WINDOW_S)
        after, took = recorded(), time.perf_counter() - begun
        print(f"    {redis.length()} messages wait at the end", file=sys.stderr, flush=True)
        return (after - before) / took


@contextmanager
def _onebeat(settings: Settings, redis: Broker, name: str, due: int) -> Iterator[Recorded]:
    url, count = settings.store.ledger(name), max(100, int(OURS * settings.scale))
    fill(url, each(1, [datetime.fromtimestamp(due, UTC)] * count))
    with (
        opened(url) as store,
        worker(redis, url, POOL, CHILDREN, BENCH_GUARD="1"),
        beat(redis, url, store),
    ):
        yield lambda: store.counts()["runs_succeeded"]
    settings.store.drop(url)


@contextmanager
def _celery_beat(redis: Broker, due: int) -> Iterator[Recorded]:
    words = [str(python("celery")), str(PROGRAMS / "celery_beat.py"), redis.url, str(THEIRS), str(due), "1"]
    with (
        worker(redis, "", POOL, CHILDREN, BENCH_RESULTS=redis.results_url),
        client.Redis.from_url(redis.results_url) as results,
        subprocess.Popen(words, env=bare(), stdout=subprocess.PIPE, text=True) as child,
    ):
        try:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise SystemExit(f"Celery Beat did not come up; it ended with {child.wait()}")
            yield lambda: int(results.dbsize())
        finally:
            child.kill()


def _ceiling(redis: Broker, count: int) -> float:
    """Return how many results a second the worker writes by itself, of messages that wait for it."""
    redis.clear()
    app = Celery("bench", broker=redis.url, set_as_current=False)
    for _ in range(count):
        app.send_task("noop")
    app.close()
    with (
        client.Redis.from_url(redis.results_url) as results,
        worker(redis, "", POOL, CHILDREN, BENCH_RESULTS=redis.results_url),
    ):
        before, begun = int(results.dbsize()), time.perf_counter()
        until = begun + WINDOW_S
        while (there := int(results.dbsize())) < count and time.perf_counter() < until:
            time.sleep(NAP_S)
        return (there - before) / (time.perf_counter() - begun)
