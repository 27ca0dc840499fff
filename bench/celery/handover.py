"""Messages handed over a second, marked as sent in the ledger, beside a loop of Celery's own `send_task`.

Ours is the outbox as a beat has it, in this process: it claims what is ready for sending, in batches that
grow, and returns when the broker has all of it; on RabbitMQ it waits for the confirms of a batch, where
Celery's waits for each. The ceiling on Redis writes messages that kombu has built before the clock starts, in
one pipeline.
"""

import time
from collections.abc import Sequence
from statistics import median

from bench.celery.fleet import Broker, Rabbit, broker, opened, rabbit, task
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
BAR_REDIS, BAR_RABBITMQ = 5.0, 2.0
CONFIRMED = {"confirm_publish": True}


def run(settings: Settings) -> Sequence[Figure]:
    """Measure on both brokers, by turns on each."""
    with broker(settings.place) as redis:
        found = [_on(settings, "Redis", redis, "send_task", {}, BAR_REDIS, redis)]
    with rabbit(settings.place) as there:
        name = "send_task with confirm_publish"
        return [*found, _on(settings, "RabbitMQ", there, name, CONFIRMED, BAR_RABBITMQ)]


def _on(
    settings: Settings,
    where: str,
    there: Broker | Rabbit,
    loop_name: str,
    loop_options: dict[str, bool],
    bar: float,
    redis: Broker | None = None,
) -> Figure:
    count, loop = max(100, int(RUNS * settings.scale)), max(100, int(LOOP * settings.scale))
    url = settings.store.ledger(f"handover-{where.lower()}")
    fill(url, [task(EACH_SECOND)] * count)
    app = Celery("bench", broker=there.url, set_as_current=False)
    looping = Celery("bench", broker=there.url, set_as_current=False)
    looping.conf.broker_transport_options = loop_options
    ours, theirs, most = list[float](), list[float](), list[float]()
    there.clear()
    with opened(url) as store:
        outbox, rounds = _outbox(store, app, url), Rounds()
        fire(store, rounds.at)
        _handed(outbox, store)  # everything is warm
        for _ in range(settings.repeats):
            there.clear()
            assert fire(store, rounds.next(1)[0]) == count
            ours.append(count / _handed(outbox, store))
            assert there.length() == count
            if redis is not None:
                most.append(count / _piped(redis, count))
            theirs.append(loop / _looped(looping, loop))
            assert there.length() == count + loop + 1
    settings.store.drop(url)
    beside = f"{median(ours):,.0f}/s against {median(theirs):,.0f}/s of {loop_name}"
    if most:
        beside += f"; built beforehand and in one pipeline: {median(most):,.0f}/s"
    detail = {"ours_per_s": ours, "send_task_per_s": theirs, "pipeline_per_s": most, "runs": count}
    name = f"handed over and marked, on {where}"
    return Figure(name, ratios(ours, theirs), "x send_task", beside, bar, detail=detail)


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
    app.send_task("noop")  # connects
    begun = time.perf_counter()
    for _ in range(count):
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
