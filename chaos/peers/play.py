"""The play: the same faults at the same times for everybody, drawn from a seed, in slots of one fault each.

A slot whose fault means nothing to a product (there is no lock to delete, no edit to be made) stays empty for
it. Every fault is over when its slot is, so that what one does is not blamed on the next, and the last
``REST_S`` are without any: what was owed may be made good.
"""

from __future__ import annotations

import heapq
import signal
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from chaos.peers.kinds import Kind
from chaos.peers.stage import SERVER_DOWN_S, Seat, Stage
from chaos.wire import BOTH, Burden, Link

FAULTS = (
    "process killed",
    "process stopped",
    "server restarted",
    "link cut",
    "link silent",
    "link slow",
    "edited near due",
    "lock deleted",
)
LASTS_S = {
    "process killed": 0.0,
    "process stopped": 6.0,
    "server restarted": SERVER_DOWN_S,
    "link cut": 5.0,
    "link silent": 5.0,
    "link slow": 6.0,
    "edited near due": 2.0,
    "lock deleted": 0.0,
}
SLOT_S = 8.0
REST_S = 35.0
LEAD_S = 5.0
START_S = 40.0
SCHEDULES = {**{f"s2-{n:02}": 2 for n in range(20)}, **{f"s5-{n:02}": 5 for n in range(5)}}
EDITS = 5
BEFORE_DUE_S = 0.2
AFTER_EVEN_S = 3.0
"""A play begins and ends three seconds after a whole ten: nothing falls due within a second of that."""

SLOW = Burden(up=Link(latency_s=0.15, jitter_s=0.1), down=Link(latency_s=0.15, jitter_s=0.1))
NAP_S = 0.02


class Slot(NamedTuple):
    """One fault of the plan: when, counted from the play's begin, what, and a draw for whom."""

    at_s: float
    kind: str
    draw: float


class Done(msgspec.Struct, frozen=True):
    """A fault as it was done, in seconds since 1970."""

    kind: str
    target: str
    began_at: float
    ended_at: float


class Played(NamedTuple):
    """What was done, and what the world saw: all that a verdict needs. Instants in seconds since 1970."""

    begin: float
    end: float
    faults: list[Done]
    exits: dict[str, int]
    kills: dict[str, int]
    lives: dict[str, list[tuple[float, float | None]]]
    lines: list[str]


def plan(seed: int, seconds: float) -> list[Slot]:
    """Return the slots of a play: every kind of fault as often as the others, or once less."""
    rng = Random(seed)
    slots: list[Slot] = []
    bag: list[str] = []
    at = LEAD_S
    while at + SLOT_S <= seconds - REST_S:
        if not bag:
            bag = list(FAULTS)
            rng.shuffle(bag)
        slots.append(Slot(at + rng.uniform(0, SLOT_S - 6.5), bag.pop(), rng.random()))
        at += SLOT_S
    return slots


def play(kind: Kind, folder: Path, seconds: float, slots: list[Slot], say: Callable[[str], None]) -> Played:
    """Put one product through it, in an empty folder."""
    stage = Stage(kind, folder, SCHEDULES)
    try:
        return _Play(stage, slots, say).run(seconds)
    finally:
        stage.close()


class _Play:
    """One loop does everything: it starts and watches processes, begins faults, and ends them."""

    def __init__(self, stage: Stage, slots: list[Slot], say: Callable[[str], None]) -> None:
        self._stage = stage
        self._slots = slots
        self._say = say
        self._to_do: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._done: list[Done] = []

    def run(self, seconds: float) -> Played:
        begin = self._begun()
        end = begin + seconds
        for slot in self._slots:
            self._at(begin + slot.at_s, lambda slot=slot: self._begin(slot))  # type: ignore[misc]  # mypy: lambda
        before = {seat.name: (seat.exits, seat.kills) for seat in self._stage.seats}
        self._until(end)
        seats = {seat.name: seat for seat in self._stage.seats}
        exits = {name: seat.exits - before[name][0] for name, seat in seats.items()}
        kills = {name: seat.kills - before[name][1] for name, seat in seats.items()}
        lives = {name: list(seat.lives) for name, seat in seats.items()}
        self._until(end + 4.0)  # what was sent within the play may still be on its way to a worker
        lines = self._stage.effects.read_text().splitlines()
        return Played(begin, end, self._done, exits, kills, lives, lines)

    def _begun(self) -> float:
        """Wait until everything has fired; return when the play begins."""
        late = time.time() + START_S
        while self._stage.fired() != set(SCHEDULES):
            if time.time() > late:
                raise SystemExit(f"{self._stage.kind.name} did not come up: see the logs in its folder")
            self._until(time.time() + 0.2)
        begin = ceil((time.time() + 5.0 - AFTER_EVEN_S) / 10) * 10 + AFTER_EVEN_S
        self._until(begin)
        return begin

    def _until(self, end: float) -> None:
        while (now := time.time()) < end:
            self._stage.step(now)
            while self._to_do and self._to_do[0][0] <= now:
                heapq.heappop(self._to_do)[2]()
            time.sleep(NAP_S)

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._to_do, (when, self._count, what))

    # --- faults ---

    def _begin(self, slot: Slot) -> None:
        now, lasts = time.time(), LASTS_S[slot.kind]
        begun = self._hurt(slot)
        if begun is None:
            return
        target, heal = begun
        self._say(f"{slot.kind}: {target}")

        def over() -> None:
            heal()
            self._done.append(Done(slot.kind, target, now, time.time()))

        self._at(now + lasts, over)

    def _hurt(self, slot: Slot) -> tuple[str, Callable[[], None]] | None:
        stage = self._stage
        seat = stage.seats[int(slot.draw * len(stage.seats))]
        match slot.kind:
            case "process killed":
                seat.kill(time.time())
                return seat.name, _nothing
            case "process stopped":
                seat.signalled(signal.SIGSTOP)
                return seat.name, lambda: seat.signalled(signal.SIGCONT)
            case "server restarted":
                name = stage.kind.servers[int(slot.draw * len(stage.kind.servers))]
                stage.servers[name].kill()
                return name, stage.servers[name].start
            case "link cut":
                return seat.name, _cut(seat)
            case "link silent":
                return seat.name, _laid(seat, Burden(held=BOTH))
            case "link slow":
                return seat.name, _laid(seat, SLOW)
            case "edited near due":
                return self._edited(slot) if stage.kind.edits else None
            case _:
                return self._lock_deleted() if stage.kind.lock_key else None

    def _lock_deleted(self) -> tuple[str, Callable[[], None]]:
        key = self._stage.kind.lock_key
        there = self._stage.servers["redis"].ask("DEL", key)  # type: ignore[call-arg]  # redis's own
        return f"{key} ({'there' if int(there) else 'not there'})", _nothing

    def _edited(self, slot: Slot) -> tuple[str, Callable[[], None]]:
        """Edit some schedules, each just before it is due."""
        rng = Random(slot.draw)
        names = rng.sample([name for name, period in SCHEDULES.items() if period == 2], EDITS)
        last: dict[str, float] = {}
        if not self._stage.kind.anchored:
            for line in self._stage.effects.read_text().splitlines()[-2000:]:
                name, at, _, _ = line.split()
                last[name] = float(at)
        now = time.time()
        for name in names:
            due = last.get(name, 0.0)
            due += max(0, ceil((now + BEFORE_DUE_S - due) / 2)) * 2
            self._at(due - BEFORE_DUE_S, lambda name=name: self._edit(name))  # type: ignore[misc]  # mypy: lambda
        return " ".join(sorted(names)), _nothing

    def _edit(self, name: str) -> None:
        editor = self._stage.editor
        for seat in [editor] if editor is not None else self._stage.schedulers:
            if seat.told(name):
                return
        self._say(f"nobody was there to edit {name}")


def _cut(seat: Seat) -> Callable[[], None]:
    for wire in seat.wires.values():
        wire.cut()

    def mend() -> None:
        for wire in seat.wires.values():
            wire.mend()

    return mend


def _laid(seat: Seat, burden: Burden) -> Callable[[], None]:
    taken_off = [wire.lay(burden) for wire in seat.wires.values()]

    def heal() -> None:
        for each in taken_off:
            each()

    return heal


def _nothing() -> None:
    """Heal what is over at once."""
