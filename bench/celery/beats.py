"""So many schedules, all due at one second: how many messages a second each beat hands over.

From the due second until the message is at the broker; ours settles its runs and marks them in the ledger on
the way. Whoever is not through after ``LIMIT_S`` is judged by what there is by then.
"""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from statistics import median

from bench.celery.fleet import Broker, beat, broker, each, opened
from bench.figure import Figure, Settings
from bench.ledger import fill
from bench.peers.beside import MARGIN_S, Rate, longer, theirs, watched
from bench.peers.environments import pinned
from bench.peers.kinds import PEERS

SCHEDULES = 10_000
NAMES = ("Celery Beat", "redbeat", "django-celery-beat")
BAR = 5.0
LIMIT_S = 10.0
PEER_TURNS = 1
"""With 10,000 schedules a peer takes up to half a minute until it is ready, and as long to be judged."""

LEAD_S = 5.0
FILL_PER_S = 1500
HOUR_S = 3600.0


def run(settings: Settings) -> Sequence[Figure]:
    """Measure ours in each turn and theirs in the first, on one broker."""
    count = max(100, int(SCHEDULES * settings.scale))
    peers = [peer for peer in PEERS if peer.name in NAMES]
    rates: dict[str, list[float]] = {}
    with broker(settings.place) as redis:
        for turn in range(settings.repeats):
            found = {"onebeat": _ours(settings, redis, f"beats-{turn}", count)}
            if turn < PEER_TURNS:
                found |= {peer.name: theirs(peer, redis.url, count, LIMIT_S) for peer in peers}
            for name, rate in found.items():
                rates.setdefault(name, []).append(rate.a_second)
                print(f"  {name}: {rate.a_second:,.0f}/s", file=sys.stderr, flush=True)
    ours = rates["onebeat"]
    return [
        Figure(
            f"{count:,} due at one second, handed over",
            median(ours) / median(rates[peer.name]),
            f"x {peer.name}",
            f"{median(ours):,.0f}/s against {median(rates[peer.name]):,.0f}/s",
            BAR,
            detail={"ours_per_s": ours, "theirs_per_s": rates[peer.name], "packages": pinned(peer.lock)},
        )
        for peer in peers
    ]


def _ours(settings: Settings, redis: Broker, name: str, count: int) -> Rate:
    lead = LEAD_S + count / FILL_PER_S
    while (rate := _after(lead, settings, redis, name, count)) is None:
        lead = longer("onebeat", lead)
    return rate


def _after(lead: float, settings: Settings, redis: Broker, name: str, count: int) -> Rate | None:
    url, due = settings.store.ledger(name), ceil(time.time() + lead)
    fill(url, each(HOUR_S, [datetime.fromtimestamp(due, UTC)] * count))
    redis.clear()
    try:
        with opened(url) as store, beat(redis, url, store):
            if time.time() > due - MARGIN_S:
                return None
            rate = watched(redis.length, due, count, LIMIT_S)
            assert redis.length() == count
            return rate
    finally:
        settings.store.drop(url)
