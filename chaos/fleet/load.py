"""What fires in a run of a fleet: tasks of the app in proj.py, due every second or two, for the most part.

All of it owes every occurrence, as in chaos.load. At full size some 20 bodies begin in a second: six children
of three workers have that to do, and less than half of their time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from chaos.load import NOTHING, OWED, Group
from onebeat import Definition, celery_task, interval
from onebeat.core.definition import define
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import cron

TASK = "proj.effect"
EDITED = 6
SHORT, LONG, OUTLIVING = 0.2, 2.5, 7.0
"""Seconds that bodies last. The longest outlives lease and visibility timeout; the long one, its period."""

GROUPS = (
    Group("each-1", 8, 1),
    Group("even-2", 8, 2, spread=True),
    Group("cron-2", 6, 2, cron="*/2 * * * * *"),
    Group("work", 4, 2, {"lasts_s": SHORT}),
    Group("fails-once", 3, 2, {"failing": 1}, {"attempts": 5, "backoff": 0.5}),
    Group("retries-once", 3, 2, {"retrying": 1}, {"attempts": 5}),
    Group("one-at-a-time", 2, 2, {"lasts_s": SHORT}, {"overlap": "queue_all", "queue_max": 10_000}),
    Group("once-only", 2, 2, {"lasts_s": SHORT}, {"on_lost": "fail"}),
    Group("longer-than-its-period", 1, 2, {"lasts_s": LONG}),
    Group("outlives-its-lease", 2, 10, {"lasts_s": OUTLIVING}),
)


def wanted(size: float, second: datetime, *, guarded: bool = True) -> Iterator[tuple[str, Definition]]:
    """Yield every schedule that nobody edits, with its name. ``second`` is a whole one, to count from."""
    for group in GROUPS:
        count = ceil(group.count * size)
        for number in range(count):
            off = timedelta(seconds=group.period_s * number / count) if group.spread else timedelta(0)
            trigger = (
                interval(seconds=group.period_s, anchor=second + off)
                if group.cron is None
                else cron(group.cron, zone="UTC")
            )
            body, options = group.body, group.options
            if not guarded:  # what ends with its hand-over is neither retried, nor waits for another
                body, options = {name: body[name] for name in body if name == "lasts_s"}, NOTHING
            yield f"{group.prefix}-{number:02}", defined(trigger, body, options, guarded=guarded)


def defined(
    trigger: TriggerSpec,
    body: Mapping[str, Any] = NOTHING,
    options: Mapping[str, Any] = NOTHING,
    *,
    guarded: bool = True,
) -> Definition:
    """Return a schedule of the app's task that owes every occurrence unless ``options`` say otherwise."""
    target = celery_task(TASK, kwargs=dict(body), guarded=guarded)
    return define(trigger, target, {**OWED, **options}, zone="UTC")


def edited(size: float) -> list[str]:
    """Return the names of the schedules that the editor has to itself."""
    return [f"edited-{number:03}" for number in range(ceil(EDITED * size))]
