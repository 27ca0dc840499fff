"""The bodies of the rig's schedules: what they do in the world is to leave a line in a file."""

from __future__ import annotations

import threading
import time

from chaos.world import World
from onebeat import CurrentRun

LOOK_S = 0.1
here: list[World] = []
"""The world of this node: one, put here by the node before it serves."""


class Flawed(Exception):
    """This attempt was to fail."""


def effect(run: CurrentRun, lasts_s: float = 0.0, failing: int = 0, listens: bool = False) -> None:
    """Begin, last a while, end. The first ``failing`` attempts fail; who ``listens`` ends when told."""
    (world,) = here
    world.began(run)
    work(run, lasts_s, listens=listens)
    if run.attempt <= failing:
        world.ended(run, "failed")
        raise Flawed(f"attempt {run.attempt} was to fail")
    world.ended(run, "cancelled" if run.stop_reason is not None else "succeeded")


def work(run: CurrentRun, lasts_s: float, *, listens: bool) -> None:
    """Take so long, so that a death may come in the middle of it."""
    nap, end = threading.Event(), time.monotonic() + lasts_s
    while (left := end - time.monotonic()) > 0 and (not listens or run.still_mine()):
        nap.wait(min(left, LOOK_S) if listens else left)
