"""What a node costs when nothing is due."""

import time
from collections.abc import Sequence
from datetime import timedelta

from bench.figure import Figure, Settings
from bench.ledger import cpu_seconds, every, fill, node, soon

SCHEDULES = 10_000
SECONDS = 30.0
WAKING_MAX, POLLED_MAX = 2.0, 10.0


def run(settings: Settings) -> Sequence[Figure]:
    """Measure the processor time and the statements of a node with both roles, over seconds of nothing."""
    store = settings.store
    url = store.ledger("idle")
    count = max(100, int(SCHEDULES * settings.scale))
    fill(url, (every(86_400, soon(3600) + timedelta(seconds=n)) for n in range(count)))
    with node(url, "dispatcher", "worker") as child:
        time.sleep(12)  # started, announced, settled down
        asked, before, begun = store.asked(), cpu_seconds(child), time.perf_counter()
        time.sleep(SECONDS)
        took = time.perf_counter() - begun
        share, after = (cpu_seconds(child) - before) / took, store.asked()
    store.drop(url)
    beside = f"one core, over {SECONDS:g} s, {count} schedules, nothing due for an hour"
    figures = [Figure("idle node", share * 100, "%", beside, 1.0, at_least=False)]
    if asked is not None and after is not None:
        bar = WAKING_MAX if store.wakes else POLLED_MAX
        # The second question counts the first one.
        rate = (after - asked - 1) / took
        figures.append(Figure("idle node asks", rate, "a second", store.counted, bar, at_least=False))
    return figures
