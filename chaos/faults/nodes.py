"""What happens to processes: they die, stand still, starve, are told to end, have wrong clocks."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from random import Random

from chaos.clocks import set_clock
from chaos.faults.again import Again
from chaos.faults.protocol import STORES, Nobody, Usual
from chaos.faults.shapes import taken
from chaos.place import Node, Place

PATIENCE_S = 30.0
"""How long a node may take to end that was told to."""

JUMPS_S = (-3600, -5, 5, 3600)


class Killed(Usual):
    """SIGKILL; after a while somebody else sits in its place."""

    kind = "node killed"
    stores = STORES
    lasts_s = (0.2, 4.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left)
        left.callback(place.restart_node, node)
        node.killed()
        return node.name


class Stopped(Usual):
    """SIGSTOP for longer than a lease, and SIGCONT: it goes on as though nothing had been."""

    kind = "node stopped past its leases"
    stores = STORES
    lasts_s = (4.0, 8.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left)
        left.callback(node.signalled, signal.SIGCONT)
        node.signalled(signal.SIGSTOP)
        return node.name


class Starved(Usual):
    """It is let run for some milliseconds at a time, as on a machine that has too much to do."""

    kind = "node starved of its processor"
    stores = STORES
    lasts_s = (2.0, 6.0)
    still_s = 0.05

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left)
        runs_s = rng.uniform(0.005, 0.05)
        left.callback(node.signalled, signal.SIGCONT)
        left.callback(Again(lambda: self._still(node), runs_s).stop)
        return f"{node.name}, {runs_s * 1000:.0f} ms and {self.still_s * 1000:.0f} ms not"

    def _still(self, node: Node) -> None:
        node.signalled(signal.SIGSTOP)
        threading.Event().wait(self.still_s)
        node.signalled(signal.SIGCONT)


class RolledOver(Usual):
    """One node after another is told to end, and another life begins: a deploy."""

    kind = "rolling restart"
    stores = STORES
    lasts_s = (3.0, 8.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        nodes: list[Node] = []
        while len(nodes) < len(place.nodes) - 1:
            try:
                nodes.append(taken(place, rng, left, editor=False))
            except Nobody:
                break
        if not nodes:
            raise Nobody
        waiting = list(nodes)

        def next_one() -> None:
            if waiting:
                self._restart(place, waiting.pop(0))

        left.callback(Again(next_one, 0.5).stop)
        return ", ".join(node.name for node in nodes)

    def _restart(self, place: Place, node: Node) -> None:
        if node.alive:
            node.signalled(signal.SIGTERM)
            node.ended(PATIENCE_S)
        place.restart_node(node)


class ClockJumped(Usual):
    """The clock of its machine jumps, and after a while it jumps back; the server's stays right."""

    kind = "clock of a node jumped"
    lasts_s = (2.0, 8.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left, editor=False)
        left.callback(set_clock, node.clock_file, 0)
        by_s = rng.choice(JUMPS_S)
        set_clock(node.clock_file, by_s)
        return f"{node.name} by {by_s:+} s"
