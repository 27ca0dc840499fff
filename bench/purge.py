"""What forgetting costs beside ten million runs. Only when it is named: filling and purging take long."""

import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from bench.figure import Figure, Settings, ratios
from bench.ledger import every, fill, soon
from onebeat.core.ports import Store
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

SMALL, LARGE = 10, 10_000
EACH = 1000
AT_A_TIME = 1000
CALLS = 30
FORGOTTEN = timedelta(days=31)
RUNS = """INSERT INTO onebeat_runs (id, schedule_id, schedule, number, definition_id, target_id, priority,
    state, due_at, ready_at, created_at, occurrence_at, mark_before, mark_after, count, attempt, token,
    holder, claimed_at, started_at, finished_at, outcome)
    SELECT s.name || '@' || g.n, s.id, s.name, s.number, s.definition_id, s.target_id, s.priority,
    'succeeded', {at} + g.n, {at} + g.n, {at} + g.n, {at} + g.n, {at} + g.n - 1, {at} + g.n, 1, 1, g.n,
    'bench', {at} + g.n, {at} + g.n, {at} + g.n, 'succeeded'
    FROM onebeat_schedules AS s CROSS JOIN {numbers} WHERE s.id BETWEEN {first} AND {last}"""
SCHEDULES_AT_A_TIME = 200


def run(settings: Settings) -> Sequence[Figure]:
    """Measure a purge of nothing on a large ledger beside a small one, then a purge of everything."""
    large = max(2 * SMALL, int(LARGE * settings.scale))
    urls = [_filled(settings, count) for count in (SMALL, large)]
    small, big = (open_store(url, SystemClock()) for url in urls)
    nothing = [[_nothing(store) for store in (small, big)] for _ in range(CALLS)]
    beside = f"{large * EACH:,} runs against {SMALL * EACH:,}, {SMALL} schedules a call"
    ratio = ratios([each[1] for each in nothing], [each[0] for each in nothing])
    figures = [Figure("a purge of nothing", ratio, "x", beside, 1.5, at_least=False)]
    before = settings.store.state(urls[1])
    taken, gone = _all(big)
    after = settings.store.state(urls[1])
    small.close()
    big.close()
    for url in urls:
        settings.store.drop(url)
    beside = f"{gone:,} runs, {AT_A_TIME} a call; a call takes {median(taken) * 1000:.3g} ms"
    detail = {"before": before, "after": after, "calls": len(taken), "slowest_s": max(taken)}
    figures.append(Figure("purge", gone / sum(taken), "runs/s", beside, detail=detail))
    if "walks" in before:
        walks = float(str(after["walks"])) - float(str(before["walks"]))
        figures.append(Figure("walks through a whole table", walks, "", "while purging", 0, at_least=False))
    return figures


def _filled(settings: Settings, count: int) -> str:
    url = settings.store.ledger(f"purge{count}")
    fill(url, (every(86_400, soon(14_400)) for _ in range(count)))
    at = int(time.time() * 1e6) - 3_600_000_000  # an hour ago
    numbers = settings.store.numbers(EACH)
    for first in range(1, count + 1, SCHEDULES_AT_A_TIME):
        last = min(count, first + SCHEDULES_AT_A_TIME - 1)
        settings.store.run(url, RUNS.format(at=at, numbers=numbers, first=first, last=last))
    settings.store.run(url, settings.store.analyze)
    return url


def _nothing(store: Store) -> float:
    now = store.now()
    begun = time.perf_counter()
    assert not store.purge(now, SMALL).runs
    return time.perf_counter() - begun


def _all(store: Store) -> tuple[list[float], int]:
    """Purge as if a month had passed; return how long each call took, and how many runs went."""
    now, next_id, gone = store.now() + FORGOTTEN, 0, 0
    taken: list[float] = []
    while True:
        begun = time.perf_counter()
        purged = store.purge(now, AT_A_TIME, next_id)
        taken.append(time.perf_counter() - begun)
        gone += purged.runs
        if purged.next_id is None:
            return taken, gone
        next_id = purged.next_id
