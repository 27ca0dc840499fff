"""What a node costs when nothing is due."""

import time
from collections.abc import Sequence
from datetime import timedelta

from bench.figure import Figure, Settings
from bench.ledger import cpu_seconds, every, fill, node, soon

SCHEDULES = 10_000


def run(settings: Settings) -> Sequence[Figure]:
    """Measure the processor time of a node with both roles, over some seconds of nothing."""
    path = settings.place / "idle.db"
    count = max(100, int(SCHEDULES * settings.scale))
    fill(path, (every(86_400, soon(3600) + timedelta(seconds=n)) for n in range(count)))
    seconds = 30.0
    with node(path, "dispatcher", "worker") as child:
        time.sleep(5)  # started, announced, settled down
        before, begun = cpu_seconds(child), time.perf_counter()
        time.sleep(seconds)
        share = (cpu_seconds(child) - before) / (time.perf_counter() - begun)
    beside = f"one core, over {seconds:g} s, {count} schedules, nothing due for an hour"
    return [Figure("idle node", share * 100, "%", beside, 1.0, at_least=False)]
