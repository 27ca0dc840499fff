"""Places whose nodes are probes: processes that write without end, each by its link and under its clock.

Tests share one of each kind of store, as long as each leaves it whole. Who fails in one takes it down, and
who comes next finds a new one. Nothing here measures time: a machine with too much to do is slow, not wrong.
What shows that somebody gets nothing done is that others get much done meanwhile.
"""

from __future__ import annotations

import fcntl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TypeVar

from chaos.faults.protocol import Ending, Fault, Nobody
from chaos.opening import opened
from chaos.place import Node, Place, python
from tests.chaos.probe import Said

from onebeat import Onebeat

T = TypeVar("T")
NODES = 3
ROUNDS = 3
"""How many writes of each other node are much."""
PATIENCE_S = 90.0
"""After how long something will never come: many times what it takes on a machine with too much to do."""


def until(there: Callable[[], object]) -> None:
    """Ask until the answer is yes: a process that somebody hurts tells nobody when it feels it."""
    end, nap = time.monotonic() + PATIENCE_S, threading.Event()
    while not there():
        assert time.monotonic() < end, "it never came to that"
        nap.wait(0.02)


class Scene:
    """A place whose nodes are probes, which tell what they do."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self._told = folder / "told"
        self._heard = 0  # how much of it was read
        self._said: dict[str, list[Said]] = defaultdict(list)
        with closing(Onebeat(place.url)) as beat:
            for name in self.names:
                beat.schedules.put(name, "0 0 1 1 *", "elsewhere:body", overlap="allow")
        for name in self.names:
            wire = place.wired()
            url = place.url if wire is None else place.at(wire.port)
            command = python("tests.chaos.probe", url, str(self._told))
            place.nodes.append(Node(name, command, folder / f"{name}.clock", wire))
            place.restart_node(place.nodes[-1])

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(NODES)]

    def said(self, name: str) -> list[Said]:
        """Return all that a node has said so far."""
        if self._told.exists():
            with self._told.open("rb") as told:
                told.seek(self._heard)
                whole = told.read().rpartition(b"\n")[0]
            self._heard += len(whole) + bool(whole)
            for line in whole.decode().splitlines():
                said = Said.parsed(line)
                self._said[said.name].append(said)
        return self._said[name]

    def done(self, name: str, since: float) -> list[Said]:
        """Return what a node began since then and was told that it is done."""
        return [each for each in self.said(name) if each.began > since and each.outcome == "ok"]

    def refused(self, name: str, since: float) -> list[Said]:
        """Return what a node began since then and was told that it is not done."""
        return [each for each in self.said(name) if each.began > since and each.outcome != "ok"]

    def until_done(self, names: Iterable[str]) -> None:
        """Wait until each of them has done something that it began from here on."""
        since = time.monotonic()
        until(lambda: all(self.done(name, since) for name in names))

    def until_well(self) -> None:
        """Wait until every node has done something that it began from here on."""
        self.until_done(self.names)

    def until_much_is_done(self, names: Iterable[str]) -> None:
        """Wait until each of them has done as much as shows that who does nothing cannot."""
        for _ in range(ROUNDS):
            self.until_done(names)

    def holder(self) -> int | None:
        """Return which process is within a transaction that writes to the SQLite file, None for nobody."""
        whole = struct.pack("hhqqi", fcntl.F_WRLCK, 0, WRITE_LOCK, 1, 0)
        with (self.place.folder / "ledger.db-shm").open("r+b") as index:
            kind, *_, pid = struct.unpack("hhqqi", fcntl.fcntl(index, fcntl.F_GETLK, whole))
        return None if kind == fcntl.F_UNLCK else pid


WRITE_LOCK = 120
"""Where in the index of a write-ahead log its writer's lock lies: https://sqlite.org/walformat.html."""


class Scenes:
    """One scene for each kind of store, while nobody fails in it."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Scene, ExitStack]] = {}

    @contextmanager
    def scene(self, kind: str) -> Iterator[Scene]:
        """Give the scene, which has to be left whole: every node alive, at work, and hurt by nobody."""
        if kind not in self._made:
            self._make(kind)
        scene, _ = self._made[kind]
        try:
            scene.until_well()
            yield scene
            for node in scene.place.nodes:
                assert not scene.place.hurts(node)
                assert node.alive
            scene.until_well()
        except BaseException:  # a timeout of the test, too
            self._take_down(kind)
            raise

    def close(self) -> None:
        """Leave nothing behind."""
        for kind in list(self._made):
            self._take_down(kind)

    def _make(self, kind: str) -> None:
        folder = self._folder(kind)
        with ExitStack() as left:
            scene = Scene(left.enter_context(opened(kind, folder)), folder)
            self._made[kind] = (scene, left.pop_all())

    def _take_down(self, kind: str) -> None:
        _, left = self._made.pop(kind)
        left.close()


def gained(act: Callable[[], T]) -> T:
    """Do something, again where there was nobody to do it to, or no server; return what came of it."""
    came: list[T] = []

    def there() -> bool:
        with suppress(Nobody):
            came.append(act())
        return bool(came)

    until(there)
    return came[0]


def begun(fault: Fault, place: Place, rng: Random) -> Ending:
    """Begin a fault as the play does."""
    return gained(lambda: fault.begin(place, rng))


@contextmanager
def in_force(fault: Fault, place: Place, seed: int) -> Iterator[Ending]:
    """Begin a fault, and end it whatever happens."""
    ending = begun(fault, place, Random(seed))
    try:
        yield ending
    finally:
        ending.end()
