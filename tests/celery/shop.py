"""A Celery app as people have it; workers of it are started by the tests, with what the environment says."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from typing import Any

import redis
from celery import Celery, Task, signals

from onebeat import current
from onebeat.celery import install

app = Celery("shop", broker=os.environ["SHOP_BROKER"])
app.conf.update(json.loads(os.environ.get("SHOP_CONF", "{}")), worker_hijack_root_logger=False)
outside = redis.Redis.from_url(
    os.environ.get("SHOP_OUTSIDE") or os.environ["SHOP_BROKER"], socket_timeout=120
)
if os.environ.get("SHOP_GUARD", "closed") != "none":
    install(
        app,
        store_down=os.environ.get("SHOP_GUARD", "closed"),
        lease=timedelta(seconds=float(os.environ.get("SHOP_LEASE", "30"))),
    )


def say(word: str) -> None:
    """Leave evidence outside: that a body was here."""
    outside.rpush("said", f"{word} {os.getpid()}")


def wait() -> None:
    """Hold the body until the test lets go of it."""
    outside.blpop(["release"], timeout=60)


@signals.worker_ready.connect
def ready(**_: Any) -> None:
    outside.rpush("ready", os.getpid())


@signals.task_prerun.connect
def delivered(task_id: str = "", **_: Any) -> None:
    outside.rpush("delivered", task_id)


@app.task(name="shop.note")
def note(word: str, answer: Any = None) -> Any:
    say(word)
    return answer


@app.task(name="shop.hold")
def hold(word: str) -> None:
    say(word)
    wait()


@app.task(name="shop.late", acks_late=True)
def late(word: str) -> None:
    say(word)
    wait()


@app.task(name="shop.look")
def look() -> str | None:
    """Go on for as long as the run is this body's, as a careful one does."""
    run = current()
    assert run is not None
    say(run.id)
    while run.still_mine():
        outside.blpop(["release"], timeout=1)
    return run.stop_reason


@app.task(name="shop.again", bind=True, max_retries=2)
def again(self: Task, successes_from: int) -> int:
    say(f"try{self.request.retries}")
    if self.request.retries < successes_from:
        raise self.retry(countdown=0, exc=ValueError("not yet"))
    return int(self.request.retries)


@app.task(name="shop.auto", autoretry_for=(ValueError,), retry_backoff=False, default_retry_delay=0)
def auto() -> None:
    run = current()
    assert run is not None
    say("auto")
    if run.attempt < 2:
        raise ValueError("not yet")


class Own(Task):
    """A base of somebody's own, which says nothing of ours."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        say("own")


@app.task(name="shop.own", base=Own)
def own() -> None:
    say("body")


@app.task(name="shop.fail")
def fail() -> None:
    raise LookupError("no such order")


@app.task(name="shop.greedy")
def greedy(seconds: float) -> float:
    """Hold the GIL for so long without a moment for anybody else."""
    say("greedy")
    count, took = 10_000_000, 0.0
    while took < seconds:
        began = time.monotonic()
        sum(range(count))
        took = time.monotonic() - began
        count = int(count * max(1.5, min(4.0, 1.2 * seconds / took)))
    return took


@app.task(name="shop.log")
def log() -> None:
    run = current()
    assert run is not None
    run.progress(1, 2)
    run.log.info("half-way at %s", run.occurrence.year)
