"""What a fault is: begun on a place, and ended by what its beginning returned."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import NamedTuple, Protocol

from chaos.place import Nobody, Place

__all__ = ["SERVERS", "STORES", "Ending", "Fault", "Nobody", "Usual"]

STORES = frozenset({"sqlite", "postgres", "mariadb", "redis"})
SERVERS = STORES - {"sqlite"}


class Ending(NamedTuple):
    """A fault in force: who is hurt, in words, and what heals them. ``end`` is called once."""

    target: str
    end: Callable[[], None]


class Fault(Protocol):
    """One kind of trouble.

    It makes no use of any other randomness than `rng`, takes the nodes that it hurts by `place.take(rng)`
    (which raises Nobody rather than hand out the last healthy one) and gives them back at its end by
    `place.give(node)`. `begin` returns at once: it does not wait for as long as the fault lasts. One that is
    over at once (a kill) heals in `end` what it broke. Both are called from one thread.
    """

    @property
    def kind(self) -> str:
        """A few words, as they stand in the legend: "node killed"."""

    @property
    def stores(self) -> frozenset[str]:
        """The kinds of store on which it means something."""

    @property
    def lasts_s(self) -> tuple[float, float]:
        """The shortest and the longest that it is in force, in seconds."""

    @property
    def wide(self) -> bool:
        """Whether it hurts everybody at once (a server, all links): one such at a time."""

    @property
    def alone(self) -> bool:
        """Whether nothing else may be in force with it."""

    @property
    def times(self) -> int | None:
        """How often it is done in one play, None for as often as the others."""

    def begin(self, place: Place, rng: Random) -> Ending:
        """Do it. Raises Nobody, and has done nothing, where there is nobody to do it to."""


class Usual:
    """What most faults say of themselves, and how they begin: each step leaves behind what undoes it."""

    stores = SERVERS
    wide = False
    alone = False
    times: int | None = None

    def begin(self, place: Place, rng: Random) -> Ending:
        """Do it. Raises Nobody, and has undone what it had done, where there is nobody to do it to."""
        with ExitStack() as left:
            words = self.hurt(place, rng, left)
            return Ending(words, left.pop_all().close)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        """Do it, and put what undoes it into ``left``; return who is hurt, in words. Raises Nobody."""
        raise NotImplementedError
