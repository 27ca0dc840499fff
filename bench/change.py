"""How soon a schedule that is created on one node starts on another one."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench.figure import Figure, Settings
from bench.ledger import node
from onebeat import Onebeat, call, once
from onebeat.core.messages import RunQuery
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

CHANGES = 200
WARM = 20
APART_S = 0.1
WAKING_MS, POLLED_MS = 100, 1000


def run(settings: Settings) -> Sequence[Figure]:
    """Measure from the call of ``put`` to the start of the body, as the ledger has it."""
    url = settings.store.ledger("change")
    beat = Onebeat(url)
    count = WARM + max(20, int(CHANGES * settings.scale))
    called: dict[str, float] = {}
    with node(url, "dispatcher", "worker"):
        time.sleep(3)
        for number in range(count):
            name = f"change{number:04}"
            called[name] = time.time()
            beat.schedules.put(name, once(datetime.now(UTC)), call("bench.node:noop"))
            time.sleep(APART_S)
        time.sleep(2)
    beat.close()
    store = open_store(url, SystemClock())
    runs = store.runs(RunQuery(limit=count + 1))
    store.close()
    settings.store.drop(url)
    assert len(runs) == count
    took = sorted(
        (run.started_at.timestamp() - called[run.schedule]) * 1000
        for run in runs
        if run.started_at is not None and run.schedule >= f"change{WARM:04}"
    )
    p50, p99 = (took[int(len(took) * share)] for share in (0.5, 0.99))
    beside = f"p50 {p50:.3g}, max {took[-1]:.3g} ms, of {len(took)} one-offs, {APART_S:g} s apart"
    bar = WAKING_MS if settings.store.wakes else POLLED_MS
    detail = {"p50_ms": p50, "max_ms": took[-1]}
    name = "created here, started elsewhere, p99"
    return [Figure(name, p99, "ms", beside, bar, at_least=False, detail=detail)]
