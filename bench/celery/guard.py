"""What the guard adds to a task: the same message to a worker that has it, and to one that has not, by turns.

A message goes out a moment after the one before it is over, so that nothing waits in line. Its latency is
from just before it is sent until Celery is through with the task. Under the guard the run is claimed before
the body; its end is written behind the task's back, in that moment. Two workers that do one task at a time,
on one broker; who is not asked sleeps.
"""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from bench.celery import shop
from bench.celery.fleet import Broker, broker, opened, target, task, worker
from bench.figure import Figure, Settings
from bench.fires import EACH_SECOND, Rounds, fire
from bench.ledger import fill
from onebeat.celery import CeleryOutlet
from onebeat.celery.library import Celery
from onebeat.celery.message import fingerprint
from onebeat.core.messages import Claim, Claimed
from onebeat.core.ports import Store

TASKS = 200
REST_S = 0.01
PATIENCE_S = 60
POOLS = ("solo", "prefork")
QUEUES = ("guarded", "plain")
BAR_MS = 1.0
KEY = target().key
RESEND = timedelta(hours=1)


def run(settings: Settings) -> Sequence[Figure]:
    """Measure it in a pool without children and in one with them."""
    with broker(settings.place) as redis:
        return [_in(pool, settings, redis) for pool in POOLS]


def _in(pool: str, settings: Settings, redis: Broker) -> Figure:
    count = max(20, int(TASKS * settings.scale))
    url = settings.store.ledger(f"guard-{pool}")
    fill(url, [task(EACH_SECOND, queue=queue) for queue in QUEUES for _ in range(count)])
    app = Celery("bench", broker=redis.url, set_as_current=False)
    outlet = CeleryOutlet(app, ledger=fingerprint(url))
    found: dict[str, list[list[float]]] = {queue: [] for queue in QUEUES}
    redis.clear()
    with (
        opened(url) as store,
        worker(redis, url, pool, 1, BENCH_QUEUE="guarded", BENCH_GUARD="1", BENCH_TELLS="1"),
        worker(redis, url, pool, 1, BENCH_QUEUE="plain", BENCH_GUARD="", BENCH_TELLS="1"),
    ):
        rounds = Rounds()
        for turn in range(settings.repeats + 1):
            batches = _claimed(store, rounds)
            assert [len(batch) for batch in batches] == [count, count]
            for queue, taken in zip(QUEUES, _by_turns(outlet, redis, batches), strict=True):
                if turn:  # the first one warms
                    found[queue].append(taken)
        _recorded(store, count * (settings.repeats + 1))
    outlet.close()
    settings.store.drop(url)
    p50s = {queue: [median(turn) for turn in turns] for queue, turns in found.items()}
    added = [one - other for one, other in zip(*p50s.values(), strict=True)]
    p99s = {queue: [sorted(turn)[int(len(turn) * 0.99)] for turn in turns] for queue, turns in found.items()}
    beside = (
        f"p50 {median(p50s['guarded']):.2f} ms against {median(p50s['plain']):.2f} ms without; "
        f"p99 {median(p99s['guarded']):.2f} ms against {median(p99s['plain']):.2f} ms"
    )
    detail = {"added_ms": added, "p50_ms": p50s, "p99_ms": p99s, "tasks": count}
    name = f"the guard adds to a task's p50, {pool}"
    print(f"  {pool}: {beside}", file=sys.stderr, flush=True)
    bar = BAR_MS if url.startswith("postgres") else None
    return Figure(name, median(added), "ms", beside, bar, at_least=False, detail=detail)


def _claimed(store: Store, rounds: Rounds) -> list[list[Claimed]]:
    """Have a run of each schedule fire, and mark them as sent; return those of each queue."""
    count = fire(store, rounds.next(1)[0])
    until = store.now() + RESEND
    claim = Claim(
        holder="bench",
        queues=("default",),
        targets=(KEY,),
        limit=count,
        until=until,
        sends=True,
        until_max=until,
    )
    claimed = store.claim(claim)
    return [
        [each for each in claimed if each.definition.target.kwargs["options"]["queue"] == queue]
        for queue in QUEUES
    ]


def _recorded(store: Store, count: int) -> None:
    """Wait until so many ends are in the ledger."""
    until = time.monotonic() + PATIENCE_S
    while (there := store.counts()["runs_succeeded"]) < count:
        if time.monotonic() > until:
            raise SystemExit(f"{there} of {count} ends are in the ledger")
        time.sleep(REST_S)


def _by_turns(outlet: CeleryOutlet, redis: Broker, batches: list[list[Claimed]]) -> list[list[float]]:
    """Send one of each after the other; return for each how many ms every task took."""
    taken: list[list[float]] = [[] for _ in batches]
    for pair in zip(*batches, strict=True):
        for claimed, found in zip(pair, taken, strict=True):
            time.sleep(REST_S)
            begun = time.time()
            assert outlet.send([claimed]) == [None]
            found.append((float(redis.heard(shop.ENDED)) - begun) * 1000)
    return taken
