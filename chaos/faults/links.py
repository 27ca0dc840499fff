"""What happens on the way to the server: silence, in both ways or one; delay; and lines that break."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random

from chaos.faults.protocol import Nobody, Usual
from chaos.faults.shapes import taken
from chaos.place import Node, Place
from chaos.wire import BOTH, Burden, Link, Way, Wire


class _OneLink(Usual):
    """Lays a burden on the link of one node, or of the editor."""

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left)
        words, burden = self.burden(rng)
        left.callback(self.wire(node).lay(burden))
        return f"{node.name}{words}"

    def wire(self, node: Node) -> Wire:
        """Return the link of a node that it is done to. Raises Nobody."""
        return wire_of(node)

    def burden(self, rng: Random) -> tuple[str, Burden]:
        """Return what to lay on, and what to say of it after the name."""
        raise NotImplementedError


class CutOff(_OneLink):
    """What it says is heard by nobody, and it hears nothing; its connections stay open."""

    kind = "node cut off"
    lasts_s = (1.0, 8.0)

    def burden(self, rng: Random) -> tuple[str, Burden]:
        return "", Burden(held=BOTH)


class OneWay(_OneLink):
    """It is heard, and hears nothing; or the other way round."""

    kind = "one way of a link silent"
    lasts_s = (1.0, 8.0)

    def burden(self, rng: Random) -> tuple[str, Burden]:
        way: Way = rng.choice(("up", "down"))
        return f", {'to' if way == 'up' else 'from'} the server", Burden(held=frozenset({way}))


class Slow(_OneLink):
    """Every way takes its time, now more and now less, and not much goes through."""

    kind = "slow link"
    lasts_s = (3.0, 10.0)

    def burden(self, rng: Random) -> tuple[str, Burden]:
        up, down = (
            Link(rng.uniform(0.005, 0.1), rng.uniform(0, 0.05), rng.choice((100_000.0, 1_000_000.0)))
            for _ in ("up", "down")
        )
        return f", {up.latency_s * 1000:.0f} and {down.latency_s * 1000:.0f} ms", Burden(up, down)


class _Spoiled(_OneLink):
    """Some replies, drawn one by one, do not arrive whole."""

    lasts_s = (1.0, 5.0)

    def burden(self, rng: Random) -> tuple[str, Burden]:
        chance = rng.uniform(0.02, 0.3)
        return f", {chance:.0%} of them", self.spoiling(chance)

    def spoiling(self, chance: float) -> Burden:
        """Return what does it to that part of them."""
        raise NotImplementedError


class Torn(_Spoiled):
    """Some replies arrive in half, and then the line is reset."""

    kind = "connections reset within replies"

    def spoiling(self, chance: float) -> Burden:
        return Burden(torn=chance)


class Lost(_Spoiled):
    """Some requests are done, and nobody is told: the reply is swallowed and the line reset."""

    kind = "replies lost"

    def spoiling(self, chance: float) -> Burden:
        return Burden(lost=chance)


class HungUp(Usual):
    """Its connections are closed, and nobody answers for a while."""

    kind = "node hung up on"
    lasts_s = (0.2, 6.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        node = taken(place, rng, left)
        wire = wire_of(node)
        left.callback(wire.mend)
        wire.cut()
        return node.name


class AllCutOff(Usual):
    """The server is on the other side of a silent network, for everybody."""

    kind = "everybody cut off"
    lasts_s = (0.5, 4.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        for wire in [node.wire for node in place.seats if node.wire is not None]:
            left.callback(wire.lay(Burden(held=BOTH)))
        return "every link"


def wire_of(node: Node) -> Wire:
    """Return the link of a node to the ledger. Raises Nobody where it has none."""
    if node.wire is None:
        raise Nobody
    return node.wire
