"""How fast a world lives: dense ones find the most, calm ones are what clusters are really like.

A calm world is a dense one stretched: ten seconds to minutes between two occurrences, the lease and the polls
that a node has if nobody says otherwise, and more nodes. It lives for the better part of an hour, so that a
clock that runs fast has time to be far off, and what is done every minute is done.
"""

from datetime import timedelta
from typing import NamedTuple

from onebeat.core.ports import LEASE
from onebeat.engine.dispatcher import POLL
from onebeat.testing.sim_draw import Draw

CALM = 0.25
"""The share of calm worlds."""

DENSE_POLL = timedelta(seconds=1)
"""A dense world is short: its nodes look more often than real ones, where hints are lost."""

A_LITTLE = timedelta(seconds=2)


class Pace(NamedTuple):
    """How long everything takes in a world, and how many nodes there are.

    ``scale`` stretches what is drawn for schedules and people; ``brief`` what is drawn for bodies, and for
    what befalls the store. ``patience`` is how late an occurrence may be settled while all is well, and
    ``patience_to_end`` how long no run at all may end while some are unfinished.
    """

    calm: bool
    scale: float
    brief: float
    dispatchers: int
    workers: int
    lease: timedelta
    poll: timedelta
    safety: timedelta
    liveness: timedelta
    look_every: timedelta
    patience: timedelta
    patience_to_end: timedelta


def pace(draw: Draw) -> Pace:
    """Return the pace of a world."""
    calm, scale, lease = draw.chance() < CALM, draw.one((20, 40)), draw.within(4, 9)
    dispatchers, workers = draw.one((2, 2, 3, 4)), draw.one((2, 3, 4, 4))
    if not calm:
        scale, dispatchers, workers = 1, 2, 2
    poll = POLL if calm else DENSE_POLL
    second = timedelta(seconds=scale)
    return Pace(
        calm=calm,
        scale=scale,
        brief=min(scale, 5),
        dispatchers=dispatchers,
        workers=workers,
        lease=LEASE if calm else lease,
        poll=poll,
        safety=(60 if calm else 50) * second,
        liveness=15 * second,
        look_every=5 * second,
        patience=2 * poll + (A_LITTLE if calm else timedelta(0)),
        patience_to_end=45 * second,
    )
