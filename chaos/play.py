"""The play: which fault when. A seed draws it; what was done to whom, from when until when, is written down.

    bag of kinds, shuffled ──► next in the bag that fits ──► begin ──► in force, up to IN_FORCE_MAX ──► end
                                  │ nobody to do it to: it stays in the bag, and the next one is tried

Every kind comes once before any comes again. The pace is that of ROUNDS rounds in ROUNDS_IN, and is kept by
what is left to do and the time that is left: so what had to wait is made up for. Instants are those of a real
machine, so a seed repeats the order and what is drawn, and the rest nearly.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from random import Random

from chaos.faults.protocol import Ending, Fault
from chaos.place import Nobody, Place
from onebeat.testing import history

IN_FORCE_MAX = 3
ROUNDS, ROUNDS_IN_S = 21, 840.0
"""Each kind so often in so long: twenty times in a quarter of an hour, with some to spare."""
LOOK_S = 0.1
LATE_MAX_S = 300.0
TEND_EVERY_S = 1.0


class InForce:
    """A fault that was begun. The one that ends first is the least."""

    def __init__(self, fault: Fault, ending: Ending, said: history.Fault, until_s: float) -> None:
        self.fault = fault
        self.ending = ending
        self.said = said
        self.until_s = until_s

    def __lt__(self, other: InForce) -> bool:
        return self.until_s < other.until_s


class Play:
    """Begins and ends faults, on one thread. ``done`` counts what was begun, by kind."""

    def __init__(
        self,
        place: Place,
        faults: Sequence[Fault],
        rng: Random,
        *,
        write: Callable[[history.Fault], None],
        now: Callable[[], datetime],
    ) -> None:
        self.done: Counter[str] = Counter()
        self.in_force: list[InForce] = []
        self._place = place
        self._faults = list(faults)
        self._rng = rng
        self._write = write
        self._now = now
        self._bag: list[Fault] = []
        self._number = 0
        self._tended_s = 0.0
        self._nap = threading.Event()

    def go(self, seconds: float, tell: Callable[[], None], rounds: int | None = None) -> None:
        """Play for so long; ``tell`` is called often. What is in force at the end goes on until ``calm``.

        ``rounds`` is how often each kind comes, by default as often as the pace has it. Where it is given,
        all of them are done and last, however slow the machine, unless that takes LATE_MAX_S longer.
        """
        begin = time.monotonic()
        end = begin + seconds
        self._bag = self._drawn(rounds or max(1, round(ROUNDS * seconds / ROUNDS_IN_S)))
        next_s = begin + self._gap(begin, end)
        last = end if rounds is None else end + LATE_MAX_S
        while (now := time.monotonic()) < end or (now < last and (self._bag or self.in_force)):
            self._end(now)
            self.tend(now)
            if now >= next_s and self._bag:
                begun = self._begin()
                next_s = time.monotonic() + (self._gap(time.monotonic(), end) if begun else LOOK_S)
            tell()
            self._nap.wait(LOOK_S)

    def calm(self) -> None:
        """End all that is in force, and have every node alive."""
        while self.in_force:
            self._over(heapq.heappop(self.in_force))
        self._tended_s = 0.0
        self.tend(time.monotonic())

    def _drawn(self, rounds: int) -> list[Fault]:
        """Return what is to be done, the next last; what is done but a few times is done early."""
        rare = [fault for fault in self._faults for _ in range(fault.times or 0)]
        often = [fault for fault in self._faults if fault.times is None]
        bag: list[Fault] = []
        for _ in range(rounds):
            self._rng.shuffle(often)
            bag += often
        for fault in rare:
            bag.insert(self._rng.randrange(len(bag) // 3 + 1), fault)
        return bag[::-1]

    def _gap(self, now: float, end: float) -> float:
        """Return how long to wait before the next one."""
        return max(0.0, end - now) / (len(self._bag) + 1) * self._rng.uniform(0.4, 1.6)

    def _begin(self) -> bool:
        """Begin the next in the bag that can be; return whether there was one."""
        if len(self.in_force) >= IN_FORCE_MAX or any(each.fault.alone for each in self.in_force):
            return False
        for index in range(len(self._bag) - 1, max(-1, len(self._bag) - 1 - len(self._faults)), -1):
            fault = self._bag[index]
            if fault.alone and self.in_force:
                continue
            if fault.wide and any(each.fault.wide for each in self.in_force):
                continue
            began_at = self._now()
            try:
                ending = fault.begin(self._place, self._rng)
            except Nobody:
                continue
            del self._bag[index]
            self._begun(fault, ending, began_at)
            return True
        return False

    def _begun(self, fault: Fault, ending: Ending, began_at: datetime) -> None:
        self._number += 1
        said = history.Fault(number=self._number, kind=fault.kind, target=ending.target, began_at=began_at)
        self._write(said)
        self.done[fault.kind] += 1
        until = time.monotonic() + self._rng.uniform(*fault.lasts_s)
        heapq.heappush(self.in_force, InForce(fault, ending, said, until))

    def _end(self, now: float) -> None:
        while self.in_force and self.in_force[0].until_s <= now:
            self._over(heapq.heappop(self.in_force))

    def _over(self, each: InForce) -> None:
        each.ending.end()
        said = each.said
        self._write(
            history.Fault(
                number=said.number,
                kind=said.kind,
                target=said.target,
                began_at=said.began_at,
                ended_at=self._now(),
                detail=said.detail,
            )
        )

    def tend(self, now: float, *, editor: bool = True) -> None:
        """Begin anew what has ended and nobody hurts, as who supervises processes does."""
        if now < self._tended_s + TEND_EVERY_S:
            return
        self._tended_s = now
        for node in self._place.seats if editor else self._place.nodes:
            if not node.alive and not self._place.hurts(node):
                self._place.restart_node(node)
