"""A Celery app, for `celery -A celery_app beat` and `… worker`: plain, with redbeat, with Django.

Every setting that makes it more reliable is on. A message carries when it was sent: Celery's carry no instant
that was due.
"""

import os
import time
from typing import Any

from body import SCHEDULES, said
from celery import Celery, Task, signals

BROKER = f"redis://127.0.0.1:{os.environ['PEER_REDIS']}/0"
PATIENCE = {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}

app = Celery("celery_app", broker=BROKER)
app.conf.update(
    timezone="UTC",
    enable_utc=True,
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"visibility_timeout": 10, **PATIENCE},
    task_publish_retry_policy={
        "max_retries": 40,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
    beat_max_loop_interval=1,
    beat_sync_every=1,
    redbeat_redis_url=BROKER,
    redbeat_lock_timeout=5,
    redbeat_redis_options={"retry_period": 30, **PATIENCE},
)
if "DJANGO_SETTINGS_MODULE" not in os.environ:
    app.conf.beat_schedule = {
        name: {"task": "effect", "schedule": float(period), "args": [name]}
        for name, period in SCHEDULES.items()
    }


@signals.before_task_publish.connect
def stamp(headers: dict[str, Any], **_: object) -> None:
    """Write on a message when it is sent."""
    headers["sent"] = f"{time.time():.6f}"


@app.task(name="effect", bind=True)
def effect(self: Task, schedule: str) -> None:
    """Leave a line."""
    said(schedule, self.request.get("sent") or "-")
