"""What fires in a run of the rig: herds, spread ones, limited ones, slow ones, failing ones, edited ones.

All of it owes every occurrence (`catch_up="all"`), so that whoever forgets one is seen. Rates are those of
the full load; `size` makes a smaller one of the same kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil
from types import MappingProxyType
from typing import Any, NamedTuple

from onebeat import Definition, call, interval
from onebeat.core.definition import define
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import cron

BODY = "chaos.bodies:effect"
OWED: dict[str, Any] = {"catch_up": "all", "catch_up_max": 10_000, "overlap": "allow", "keep_runs": 1_000_000}
EDITED = 40
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Group(NamedTuple):
    """Schedules of one kind: how many, how often each is due, what a body does, and the policy."""

    prefix: str
    count: int
    period_s: float
    body: Mapping[str, Any] = NOTHING
    options: Mapping[str, Any] = NOTHING
    spread: bool = False
    cron: str | None = None


SHORT, LONG = 0.3, 5.0
GROUPS = (
    Group("herd", 90, 1),
    Group("even", 40, 1, spread=True),
    Group("cron", 20, 2, cron="*/2 * * * * *"),
    Group("minute", 1000, 60, cron="0 * * * * *"),
    Group("work", 10, 2, {"lasts_s": SHORT}),
    Group("fail", 8, 2, {"failing": 1}, {"attempts": 3, "backoff": 0.2}),
    Group("once-only", 8, 2, {"lasts_s": SHORT}, {"on_lost": "fail"}),
    Group("slow", 2, 15, {"lasts_s": LONG, "listens": True}),
    Group("skip", 3, 1, {"lasts_s": SHORT}, {"overlap": "skip"}),
    Group("queue-all", 3, 2, {"lasts_s": SHORT}, {"overlap": "queue_all", "queue_max": 10_000}),
    Group("queue-one", 3, 1, {"lasts_s": SHORT}, {"overlap": "queue_one"}),
    Group("cancel", 2, 4, {"lasts_s": LONG, "listens": True}, {"overlap": "cancel_running"}),
    Group("two", 3, 1, {"lasts_s": SHORT}, {"overlap": "queue_all", "max_running": 2, "queue_max": 10_000}),
)


def wanted(size: float, second: datetime) -> Iterator[tuple[str, Definition]]:
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
            yield f"{group.prefix}-{number:03}", defined(trigger, group.body, group.options)


def defined(
    trigger: TriggerSpec, body: Mapping[str, Any] = NOTHING, options: Mapping[str, Any] = NOTHING
) -> Definition:
    """Return a schedule of the rig's body that owes every occurrence unless ``options`` say otherwise."""
    return define(trigger, call(BODY, **body), {**OWED, **options}, zone="UTC")


def rate(size: float) -> float:
    """Return how many occurrences a second the schedules have that nobody edits."""
    return sum(ceil(group.count * size) / group.period_s for group in GROUPS)


def edited(size: float) -> list[str]:
    """Return the names of the schedules that the editor has to itself."""
    return [f"edited-{number:03}" for number in range(ceil(EDITED * size))]


Draw = Callable[[int], int]


def drawn(draw: Draw, second: datetime) -> TriggerSpec:
    """Return a trigger for an edited schedule: due every one to five seconds."""
    period = 1 + draw(5)
    if draw(3) == 0:
        return cron(f"*/{period} * * * * *", zone="UTC")
    return interval(seconds=period, anchor=second + timedelta(milliseconds=100 * draw(10)))
