"""What happens to processes: they die, stand still, starve, are told to end, have wrong clocks."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from random import Random

from chaos.clocks import set_clock
from chaos.faults.again import Again
from chaos.faults.protocol import STORES, Nobody, Usual
from chaos.faults.shapes import taken
from chaos.place import Node, Place

PATIENCE_S = 30.0
"""How long a node may take to end that was told to."""
LOOK_S = 0.2

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
        deploy = _Deploy(place, nodes)
        left.callback(deploy.give_up)
        left.callback(Again(deploy.step, LOOK_S).stop)
        return ", ".join(node.name for node in nodes)


class _Deploy:
    """Restarts nodes one after another. No step waits for one: what else is in force has to end in time."""

    def __init__(self, place: Place, nodes: list[Node]) -> None:
        self._place = place
        self._waiting = list(nodes)
        self._ending: Node | None = None
        self._patience_s = 0.0

    def step(self) -> None:
        """Restart the node that has ended, or will not; tell the next one to end."""
        if self._ending is not None:
            if self._ending.alive and time.monotonic() < self._patience_s:
                return
            self.give_up()
        if self._waiting:
            self._ending = self._waiting.pop(0)
            self._patience_s = time.monotonic() + PATIENCE_S
            if self._ending.alive:
                self._ending.signalled(signal.SIGTERM)

    def give_up(self) -> None:
        """Begin the next life of the node that was told to end, whether it has or not."""
        if self._ending is not None:
            self._place.restart_node(self._ending)
            self._ending = None


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
