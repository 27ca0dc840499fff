"""Messages handed over a second, marked as sent in the ledger, beside a loop of Celery's own `send_task`.

Ours is the outbox as a beat has it, in this process: it claims what is ready for sending, in batches that
grow, and returns when the broker has all of it. The ceiling beside them writes messages that kombu has built
before the clock starts, in one pipeline.
"""

import time
from collections.abc import Sequence
from statistics import median

from bench.celery.fleet import Broker, broker, opened, task
from bench.figure import Figure, Settings, ratios
from bench.fires import EACH_SECOND, Rounds, fire
from bench.ledger import fill
from onebeat.celery import CeleryOutlet
from onebeat.celery.library import Celery
from onebeat.celery.message import fingerprint
from onebeat.core.ports import Store
from onebeat.engine.clock import SystemClock
from onebeat.engine.outbox import Outbox
from onebeat.engine.presence import Presence

RUNS = 20_000
LOOP = 3_000
BAR_REDIS = 5.0


def run(settings: Settings) -> Sequence[Figure]:
    """Measure the three by turns."""
    with broker(settings.place) as redis:
        return [_on_redis(settings, redis)]


def _on_redis(settings: Settings, redis: Broker) -> Figure:
    count, loop = max(100, int(RUNS * settings.scale)), max(100, int(LOOP * settings.scale))
    url = settings.store.ledger("handover")
    fill(url, [task(EACH_SECOND)] * count)
    app = Celery("bench", broker=redis.url, set_as_current=False)
    ours, theirs, most = list[float](), list[float](), list[float]()
    with opened(url) as store:
        outbox, rounds = _outbox(store, app, url), Rounds()
        fire(store, rounds.at)
        _handed(outbox, store)  # everything is warm
        for _ in range(settings.repeats):
            redis.clear()
            assert fire(store, rounds.next(1)[0]) == count
            ours.append(count / _handed(outbox, store))
            assert redis.length() == count
            most.append(count / _piped(redis, count))
            theirs.append(loop / _looped(app, loop))
            assert redis.length() == count + loop
    settings.store.drop(url)
    beside = (
        f"{median(ours):,.0f}/s against {median(theirs):,.0f}/s of send_task; "
        f"built beforehand and in one pipeline: {median(most):,.0f}/s"
    )
    detail = {"ours_per_s": ours, "send_task_per_s": theirs, "pipeline_per_s": most, "runs": count}
    name = "handed over and marked, on Redis"
    return Figure(name, ratios(ours, theirs), "x send_task", beside, BAR_REDIS, detail=detail)


def _outbox(store: Store, app: Celery, url: str) -> Outbox:
    clock = SystemClock()
    presence = Presence(store, clock, holder="bench", roles=("outbox",), queues=("default",))
    return Outbox(store, clock, CeleryOutlet(app, ledger=fingerprint(url)), presence)


def _handed(outbox: Outbox, store: Store) -> float:
    """Return how many seconds it takes until nothing is ready any more, and the broker has it."""
    begun = time.perf_counter()
    outbox.step()
    took = time.perf_counter() - begun
    assert store.counts()["runs_ready"] == 0
    return took


def _looped(app: Celery, count: int) -> float:
    app.send_task("noop")
    begun = time.perf_counter()
    for _ in range(count - 1):
        app.send_task("noop")
    return time.perf_counter() - begun


def _piped(redis: Broker, count: int) -> float:
    """Take the messages that are there, and write them again as fast as that can be."""
    messages = redis.db.lrange("celery", 0, -1)
    redis.db.delete("celery")
    begun = time.perf_counter()
    pipe = redis.db.pipeline(transaction=False)
    for message in messages:
        pipe.lpush("celery", message)
    pipe.execute()
    assert len(messages) == count
    return time.perf_counter() - begun
