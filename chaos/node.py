"""One real node, until it is told to end: python -m chaos.node ORDERS NAME LIFE

A witness stands between it and its store, and writes down what it was answered when it reported the end of a
body. Beyond that it is a node as anybody serves it.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

import chaos.bodies
from chaos.sabotage import sabotaged
from chaos.world import Orders, World
from onebeat import Onebeat
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Advanced, AnyTransition, Finish, Share
from onebeat.core.ports import Store

THREADS = 16
GRACE_S = 6.0
"""For bodies that go on when the node is told to end; longer than the longest lasts."""
AGAIN_S = 0.3


class Witness:
    """A store that behaves as the one within, and what a node is answered by it is written down."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        answers = self._store.advance(transitions)
        for transition, answer in zip(transitions, answers, strict=True):
            if isinstance(transition, Finish):
                self._world.answered(transition, answer)
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def patiently(beat: Onebeat) -> Store:
    """Open the store, as often as it takes: a node may begin while it is cut off."""
    nap = threading.Event()
    while True:
        try:
            return beat.store
        except StoreUnavailable as error:
            logging.getLogger("chaos").warning("not yet: %s", error)
            nap.wait(AGAIN_S)


def main(told: str, name: str, life: str) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.WARNING)
    orders = msgspec.json.decode(told, type=Orders)
    world = World(Path(orders.folder), orders.origin_s, f"{name}.{life}")
    chaos.bodies.here.append(world)
    clock, within = sabotaged(orders.sabotage, chaos.bodies)
    opened = Onebeat(orders.url, clock=clock)
    store: Any = Witness(within(patiently(opened)), world)
    beat = Onebeat(orders.url, clock=clock, store=store, modules=("chaos",))
    beat.serve(
        threads=THREADS,
        lease=timedelta(seconds=orders.lease_s),
        grace=timedelta(seconds=GRACE_S),
        share=None if orders.share is None else Share(index=orders.share[0], of=orders.share[1]),
        ready=lambda service: print("ready", service.holder, flush=True),
    )
    opened.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
