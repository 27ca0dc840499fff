"""The Celery app of the rig, of beats (``celery -A chaos.fleet.proj beat -S onebeat``) and of workers.

Its one task leaves a line when it begins and one before it returns. It asks whether its run is still its own
between two looks at the clock, so that the line tells at which instant it was.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from celery import Celery, Task

import onebeat.celery.ledger
from chaos.fleet.sabotage import sabotaged
from chaos.node import Witness
from chaos.world import NODE, TOLD, Orders, World, schedule_of
from onebeat import current
from onebeat.celery import install
from onebeat.celery.message import ATTEMPT, DUE, RUN

REDELIVERS = {"visibility_timeout": 2.0, "unacked_restore_interval": 2, "unacked_restore_throttle": 1}
"""On Redis: for how many seconds a message may be unacknowledged, and how often that is looked after. Left
alone, kombu looks every hundred seconds, whatever the timeout."""
RESEND_S = 12.0

orders = msgspec.json.decode(os.environ[TOLD], type=Orders)
world = World(Path(orders.folder), orders.origin_s, os.environ[NODE])

app = Celery("proj", broker=orders.broker)
app.conf.update(
    onebeat_url=orders.url,
    onebeat_resend_s=RESEND_S,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    broker_transport_options=REDELIVERS if orders.broker.startswith("redis") else {},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    result_expires=None,
)
open_store = onebeat.celery.ledger.open_store
onebeat.celery.ledger.open_store = lambda *args, **words: Witness(open_store(*args, **words), world)  # type: ignore[assignment]  # it is one, by __getattr__
if sabotaged(orders.sabotage):
    install(app, lease=timedelta(seconds=orders.lease_s))


class Flawed(Exception):
    """This attempt was to fail."""


class Unguarded(NamedTuple):
    """What a body knows of its run where nobody guards it: what is in its message."""

    id: str
    schedule: str
    occurrence: datetime
    attempt: int
    key: str | None
    fold: None = None
    token: int = 0

    @classmethod
    def of(cls, request: Any) -> Unguarded:
        run_id = request.get(RUN)
        due = datetime.fromisoformat(request.get(DUE)).astimezone(UTC)
        key = run_id.partition("!")[2] or None
        return cls(run_id, schedule_of(run_id), due, int(request.get(ATTEMPT) or 1), key)

    def still_mine(self) -> bool:
        return True

    stop_reason = None


@app.task(name="proj.effect", bind=True, max_retries=None)
def effect(self: Task, lasts_s: float = 0.0, failing: int = 0, retrying: int = 0) -> None:
    """Begin, last a while, end. The first attempts fail, or ask Celery for a retry."""
    run: Any = current() or Unguarded.of(self.request)
    world.began(run)
    threading.Event().wait(lasts_s)
    flawed = run.attempt <= failing or run.attempt <= retrying
    at, mine = world.now(), run.still_mine()
    outcome = "failed" if flawed else "cancelled" if run.stop_reason is not None else "succeeded"
    world.ended(run, outcome, at=at, mine=mine)
    if run.attempt <= retrying:
        raise self.retry(countdown=0.5)
    if run.attempt <= failing:
        raise Flawed(f"attempt {run.attempt} was to fail")
