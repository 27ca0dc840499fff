"""What several faults are made of: a node taken for a while, a hand from outside, one act done again."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

from chaos.faults.again import Again
from chaos.faults.protocol import Usual
from chaos.hand import Shell
from chaos.place import Node, Place


def taken(place: Place, rng: Random, left: ExitStack, *, editor: bool = True) -> Node:
    """Return a node to hurt, or the editor, that is given back at the end. Raises Nobody."""
    node = place.take(rng, editor=editor)
    left.callback(place.give, node)
    return node


def shell_of(place: Place, left: ExitStack) -> Shell:
    """Return a shell on the ledger that is let go of at the end. Raises Nobody."""
    shell = Shell(place)
    left.callback(shell.close)
    return shell


class AgainByHand(Usual):
    """Does one thing to the server by hand, again and again.

    ``pauses_s`` are the shortest and the longest pause after each time, and ``words`` says whom it hurts,
    with the pause in it. ``at_once``: it has been done once when the fault has begun.
    """

    pauses_s: tuple[float, float]
    words: str
    at_once = False

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        shell = shell_of(place, left)
        pause_s = rng.uniform(*self.pauses_s) + self.more_s(shell)
        if self.at_once:
            self.act(shell)
        left.callback(Again(lambda: self.act(shell), pause_s).stop)
        return self.words.format(s=pause_s, ms=pause_s * 1000)

    def act(self, shell: Shell) -> object:
        """Do it once."""
        raise NotImplementedError

    def more_s(self, shell: Shell) -> float:
        """Return how much longer each pause is on this kind of store."""
        return 0.0
