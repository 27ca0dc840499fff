"""How late messages are handed over that are due one by one: 1,000 schedules, spread over ten seconds.

From the instant that a schedule names to the moment at which somebody who waits at the broker has the
message, on the clock of one machine. Ours says in the message when it was due; of django-celery-beat, which
does not, it is known from the schedule, which is told as the task's argument: the first instant and every ten
seconds from there. It counts from when it last sent one, so that what is late once is late ever after.
"""

import json
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from statistics import median
from typing import Any

from bench.celery.fleet import Broker, beat, broker, each, opened
from bench.figure import Figure, Settings
from bench.ledger import fill
from bench.peers.beside import PROGRAMS, bare, longer
from bench.peers.environments import pinned, python

SCHEDULES = 1_000
PERIOD_S = 10
LEAD_S = 10.0
FILL_PER_S = 500
WAIT_S = 5
BAR_MS = 15.0

Due = Callable[[dict[str, Any]], float]
"""Say of a message when it was due."""


def run(settings: Settings) -> Sequence[Figure]:
    """Watch ours, then django-celery-beat, for as many periods as there are turns, after one to get warm."""
    count = max(50, int(SCHEDULES * settings.scale))
    with broker(settings.place) as redis:
        ours = _watched(redis, partial(_onebeat, settings, redis, count), settings.repeats)
        theirs = _watched(redis, partial(_django, redis, count), settings.repeats)
    p50s, p99s, mosts = zip(*map(_spread, ours), strict=True)
    beside, _, _ = zip(*map(_spread, theirs), strict=True)
    theirs_p99 = [_spread(turn)[1] for turn in theirs]
    one_by_one = ", ".join(f"{p99:.0f}" for p99 in theirs_p99)
    told = (
        f"p50 {median(p50s):.2g} ms, p99 from {min(p99s):.3g} to {max(p99s):.3g}, all within "
        f"{max(mosts):.3g}; django-celery-beat: p99 {one_by_one} ms, one turn after the other"
    )
    detail = {
        "p50_ms": p50s,
        "p99_ms": p99s,
        "max_ms": mosts,
        "messages": [len(turn) for turn in ours],
        "theirs_p50_ms": beside,
        "theirs_p99_ms": theirs_p99,
        "theirs_messages": [len(turn) for turn in theirs],
        "packages": pinned("django"),
    }
    early = sum(late < 0 for turn in ours for late in turn)
    return [
        Figure(
            f"lateness at the broker, p99, {count:,} over {PERIOD_S} s",
            median(p99s),
            "ms",
            told,
            BAR_MS,
            at_least=False,
            detail=detail,
        ),
        Figure("handed over early", early, "messages", f"of {sum(map(len, ours))}", 0, at_least=False),
    ]


def _spread(turn: list[float]) -> tuple[float, float, float]:
    late = sorted(turn)
    return late[len(late) // 2] * 1000, late[int(len(late) * 0.99)] * 1000, late[-1] * 1000


def _watched(
    redis: Broker, beat_of: Callable[[int], AbstractContextManager[Due]], turns: int
) -> list[list[float]]:
    """Return how many seconds late each message came, by periods; the first, which warms, is left out."""
    lead = LEAD_S + SCHEDULES / FILL_PER_S
    while (found := _watched_after(lead, redis, beat_of, turns)) is None:
        lead = longer("a beat", lead)
    return found


def _watched_after(
    lead: float, redis: Broker, beat_of: Callable[[int], AbstractContextManager[Due]], turns: int
) -> list[list[float]] | None:
    redis.clear()
    due = ceil(time.time() + lead)
    found: list[list[float]] = [[] for _ in range(turns + 1)]
    with beat_of(due) as due_of:
        if time.time() > due:
            return None
        end = due + PERIOD_S * (turns + 1)
        while time.time() < end:
            taken: Any = redis.db.blpop(["celery"], timeout=WAIT_S)
            at = time.time()
            if taken is None:
                continue
            was_due = due_of(json.loads(taken[1]))
            turn = int((was_due - due) // PERIOD_S)
            if turn <= turns:
                found[turn].append(at - was_due)
    print(f"  {[len(turn) for turn in found]} messages", file=sys.stderr, flush=True)
    return found[1:]


@contextmanager
def _onebeat(settings: Settings, redis: Broker, count: int, due: int) -> Iterator[Due]:
    url = settings.store.ledger("lateness")
    step, first = timedelta(seconds=PERIOD_S) / count, datetime.fromtimestamp(due, UTC)
    fill(url, each(PERIOD_S, [first + step * number for number in range(count)]))
    with opened(url) as store, beat(redis, url, store):
        yield lambda message: datetime.fromisoformat(message["headers"]["onebeat_due"]).timestamp()
    settings.store.drop(url)


@contextmanager
def _django(redis: Broker, count: int, due: int) -> Iterator[Due]:
    words = [str(python("django")), str(PROGRAMS / "django_beat.py"), redis.url, str(count), str(due)]
    turns: dict[int, int] = {}

    def due_of(message: dict[str, Any]) -> float:
        (number,), *_ = json.loads(b64decode(message["body"]))
        turns[number] = turns.get(number, -1) + 1
        return due + PERIOD_S * (number / count + turns[number])

    with subprocess.Popen([*words, str(PERIOD_S)], env=bare(), stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise SystemExit(f"django-celery-beat did not come up; it ended with {child.wait()}")
            yield due_of
        finally:
            child.kill()
