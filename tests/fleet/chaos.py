"""A fleet in trouble: ``python -m tests.fleet.chaos KIND MINUTES [SEED]`` plays it for as long as one likes.

Nodes are killed, stopped and let go on, cut off, and started with clocks that are wrong; the server is killed
and started again; and once it dies for good, and a replica that was in step with it takes over.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

from chaos.wire import Wire
from tests.fleet.fleet import Fleet, Node
from tests.servers.pairs import PAIRS, Pair
from tests.servers.running import SERVERS

from onebeat.engine.clock import SystemClock

NODES, SCHEDULES = 3, 4
LEASE_S, BODY_S = 2.0, 0.3
SKEWS = (-5.0, 0.0, 5.0)


class Chaos:
    """One play. ``done`` counts what was done to whom."""

    def __init__(self, kind: str, place: Path, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._draw = Random(seed)
        self.pair: Pair = PAIRS[kind](in_step=kind != "redis")
        self._kind = kind
        self._failed_over = kind == "redis"  # its replica is never in step: see test_fail_over.py
        self._wires: dict[Node, Wire] = {}
        self.fleet = Fleet(self.pair.url(self.pair.nodes.port), place)

    def begin(self) -> None:
        """Have schedules, and nodes that serve."""
        self.fleet.put(SCHEDULES)
        for _ in range(NODES):
            self._one_more()
        self.fleet.until_fired(1)

    def round(self) -> None:
        """Do one thing to somebody, and let each schedule fire meanwhile."""
        doing: list[Callable[[], None]] = [self._kill, self._stand_still, self._cut_off, self._restart]
        if not self._failed_over:
            doing.append(self._fail_over)
        act = self._draw.choice(doing)
        self.done[act.__name__.strip("_")] += 1
        act()

    def end(self) -> None:
        """Let everything rest, and prove that nothing was missed and nothing doubled."""
        self.fleet.until_fired(1)
        self.fleet.rest()
        self.fleet.prove()

    def close(self) -> None:
        """Leave nothing behind."""
        self.fleet.close()
        for wire in self._wires.values():
            wire.close()
        self.pair.close()

    # --- what is done ---

    def _one_more(self) -> None:
        wire = Wire(self.pair.primary_port)
        skew = self._draw.choice(SKEWS)
        (node,) = self.fleet.start(url=self.pair.url(wire.port), lease=LEASE_S, skew=skew, lasts=BODY_S)
        self._wires[node] = wire

    def _kill(self) -> None:
        node = self._draw.choice(self.fleet.nodes)
        self.fleet.kill(node)
        self.fleet.until_fired(1)
        self._wires.pop(node).close()
        self._one_more()

    def _stand_still(self) -> None:
        node = self._draw.choice(self.fleet.nodes)
        node.signalled(signal.SIGSTOP)
        self.fleet.until_fired(self._draw.choice((1, 3)))  # shorter, and longer, than its leases
        node.signalled(signal.SIGCONT)

    def _cut_off(self) -> None:
        wire = self._wires[self._draw.choice(self.fleet.nodes)]
        wire.cut()
        self.fleet.until_fired(self._draw.choice((1, 3)))
        wire.mend()

    def _restart(self) -> None:
        self.pair.restart()
        self.fleet.until_fired(1)

    def _fail_over(self) -> None:
        self._failed_over = True
        self.pair.fail_over()
        self.pair.primary, self.pair.primary_port = self.pair.replica, self.pair.replica_port
        for wire in self._wires.values():
            wire.cut()
            wire.mend(self.pair.primary_port)
        self.fleet.until_fired(1)


def main(kind: str, minutes: str, seed: str = "0") -> None:
    SERVERS.own()
    clock = SystemClock()
    try:
        with tempfile.TemporaryDirectory() as place:
            chaos = Chaos(kind, Path(place), int(seed))
            try:
                chaos.begin()
                end = clock.now() + timedelta(minutes=float(minutes))
                while clock.now() < end:
                    chaos.round()
                chaos.end()
                runs = len(chaos.fleet.runs())
                print(f"{kind}, seed {seed}: {dict(chaos.done)}; {runs} runs, 0 missed, 0 doubled")
            finally:
                chaos.close()
    finally:
        SERVERS.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
