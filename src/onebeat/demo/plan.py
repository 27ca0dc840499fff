"""The schedules of the demo, each told twice: to the product as a trigger, to the judge as arithmetic.

The two columns were written side by side by a person; nothing computes one from the other. The third says how
the schedule behaves when several occurrences are owed or when runs overlap, because that decides which
occurrences may be settled without a run of their own.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from onebeat import TriggerSpec, cron, interval, once
from onebeat.demo.expect import SECOND, At, Either, Every, Expectation, micros, seconds


@dataclass(frozen=True)
class Beat:
    """One schedule of the demo."""

    name: str
    trigger: TriggerSpec
    expectation: Expectation
    policy: dict[str, Any] = field(default_factory=dict)
    body: str = "strike"
    arguments: dict[str, Any] = field(default_factory=dict)
    title: str = ""


EACH = {"catch_up": "all", "overlap": "allow"}
"""Every occurrence gets a run of its own, whatever happens."""


def plan(start: datetime) -> list[Beat]:
    """Return the schedules of a demo that begins at ``start``, a whole second."""
    return [*_steady(start), *_crons(), *_combined(start), *_one_offs(start), *_manners(start), *_long(start)]


def _every(name: str, start: datetime, period: float, offset: float = 0.0, **rest: Any) -> Beat:
    anchor = start + timedelta(seconds=offset)
    expectation = Every(period=round(period * SECOND), anchor=micros(anchor))
    return Beat(name, interval(seconds=period, anchor=anchor), expectation, **rest)


def _steady(start: datetime) -> list[Beat]:
    """Intervals of 1 to 5 seconds, some of them off the whole second."""
    return [
        *(_every(f"tick-{n}", start, 1, n / 8, policy=EACH) for n in range(8)),
        *(_every(f"pair-{n}", start, 2, n / 4) for n in range(5)),
        *(_every(f"trio-{n}", start, 3, 0.3 * n, policy=EACH) for n in range(4)),
        _every("swift", start, 0.5, policy=EACH),
        _every("odd", start, 1.618, 0.000_001, policy=EACH),
        *(_every(f"five-{n}", start, 5, n) for n in range(3)),
    ]


def _crons() -> list[Beat]:
    """Cron with a field of seconds first."""

    def at(name: str, text: str, places: Any, zone: str = "UTC") -> Beat:
        return Beat(name, cron(text, zone=zone), seconds(places), policy=EACH)

    return [
        at("cron-even", "*/2 * * * * *", range(0, 60, 2)),
        at("cron-thirds", "1/3 * * * * *", range(1, 60, 3)),
        at("cron-fives", "*/5 * * * * *", range(0, 60, 5)),
        at("cron-list", "1,7,13,17,23,31,37,43,47,53 * * * * *", (1, 7, 13, 17, 23, 31, 37, 43, 47, 53)),
        at("cron-range", "10-20,40-45 * * * * *", [*range(10, 21), *range(40, 46)]),
        at("cron-wraps", "50-9 * * * * *", [*range(50, 60), *range(10)]),
        at("cron-shanghai", "*/4 * * * * *", range(0, 60, 4), zone="Asia/Shanghai"),
        at("cron-kolkata", "*/6 * * * * *", range(0, 60, 6), zone="Asia/Kolkata"),
    ]


def _combined(start: datetime) -> list[Beat]:
    """Triggers made of triggers."""
    four, six = _every("", start, 4), _every("", start, 6, 1)
    every_second = cron("* * * * * *", zone="UTC")
    return [
        Beat("either", four.trigger | six.trigger, Either((four.expectation, six.expectation)), EACH),
        Beat(
            "both",
            cron("*/2 * * * * *", zone="UTC") & cron("*/3 * * * * *", zone="UTC"),
            seconds(range(0, 60, 6)),
            EACH,
        ),
        Beat(
            "but-for",
            every_second - cron("*/2 * * * * *", zone="UTC") - cron("15,45 * * * * *", zone="UTC"),
            seconds(place for place in range(60) if place % 2 and place not in {15, 45}),
            EACH,
        ),
    ]


def _one_offs(start: datetime) -> list[Beat]:
    """Single instants; the last of them has passed before anybody declares it, and fires all the same."""
    at = [start + timedelta(seconds=after) for after in (4, 7.5, 7.5, 11, 16.25, -2)]
    return [Beat(f"once-{n}", once(instant), At(micros(instant)), EACH) for n, instant in enumerate(at)]


def _manners(start: datetime) -> list[Beat]:
    """One schedule for each way to overlap, with bodies longer than the period, and to catch up."""
    busy = {"seconds": 1.4}
    return [
        _every("overlap-skip", start, 1, arguments=busy),
        _every("overlap-queue-one", start, 1, policy={"overlap": "queue_one"}, arguments=busy),
        _every("overlap-queue-all", start, 2, policy={"overlap": "queue_all"}, arguments=busy),
        _every(
            "overlap-cancel",
            start,
            4,
            policy={"overlap": "cancel_running"},
            arguments={"seconds": 4.6, "looks": True},
        ),
        _every("overlap-two", start, 1, policy={"overlap": "queue_all", "max_running": 2}, arguments=busy),
        _every("catch-up-all", start, 1, policy=EACH),
        _every("catch-up-latest", start, 1, policy={**EACH, "catch_up": "latest"}),
        _every("catch-up-earliest", start, 1, policy={**EACH, "catch_up": "earliest"}),
        _every("catch-up-skip", start, 1, policy={**EACH, "catch_up": "skip", "grace": 1.0}),
        _every(
            "stumbles",
            start,
            3,
            policy={"overlap": "queue_all", "attempts": 2, "backoff": 0.2},
            body="stumble",
        ),
    ]


def _long(start: datetime) -> list[Beat]:
    """Bodies of seconds, begun close together: what a node has in its hands when something happens to it."""
    patient = {"overlap": "queue_all", "catch_up": "all"}
    return [
        *(_every(f"long-{n}", start, 4, n / 4, policy=patient, arguments={"seconds": 2}) for n in range(4)),
        _every("at-most-once", start, 4, 0.5, policy={**EACH, "on_lost": "fail"}, arguments={"seconds": 2}),
    ]
