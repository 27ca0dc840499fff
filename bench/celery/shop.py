"""The app of the benchmarks, as people have theirs: what its processes are to do, the environment says."""

import os
import time

import redis
from celery import Celery, signals

from onebeat.celery import install

BROKER, QUEUE, GUARD = "BENCH_BROKER", "BENCH_QUEUE", "BENCH_GUARD"
ENDED = "ended"
"""Where the moment is left at which Celery was through with a task, if ``BENCH_TELLS`` is set."""

app = Celery("bench", broker=os.environ.get(BROKER, "memory://"))
app.conf.update(
    timezone="UTC",
    task_default_queue=os.environ.get(QUEUE, "celery"),
    result_backend=os.environ.get("BENCH_RESULTS") or None,
    result_expires=None,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
if os.environ.get(GUARD):
    install(app)


@app.task(name="noop")
def noop(*_: object) -> None:
    """Do nothing."""


if os.environ.get("BENCH_TELLS"):
    outside = redis.Redis.from_url(os.environ[BROKER])

    # Celery asks in the order in which they were connected: the guard has done its part before this.
    @signals.task_postrun.connect
    def ended(**_: object) -> None:
        """Tell when a task is over, and its worker takes the next one."""
        outside.rpush(ENDED, repr(time.time()))


@signals.worker_ready.connect
def ready(**_: object) -> None:
    """Tell that this worker takes tasks."""
    redis.Redis.from_url(os.environ[BROKER]).rpush("ready", os.getpid())
