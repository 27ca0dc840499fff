"""How far a node's clock is off, in the shapes in which real ones are.

    constant   by the same amount for the whole life
    linear     it runs fast or slow by some per cent, so the error grows for as long as the process lives
    periodic   it swings around the right time, now ahead, now behind, and now and then backwards
    step       it is right, and at one instant jumps by up to a minute
    drift      it wanders: a random walk that never ends

A node may be wrong, the ledger is not: its own clock is the store's, and that is another one.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from onebeat.testing.sim_draw import CLOCKS, Draw

RIGHT = 0.4
"""The share of lives whose clock is right."""

SECOND = timedelta(seconds=1)

Error = Callable[[float], timedelta]
"""How far a clock is off, so many seconds after it was first looked at."""


class NodeClock:
    """A node's own clock: the world's time, and its error. ``shape`` is None where it is right."""

    def __init__(self, time: Callable[[], datetime], draw: Draw) -> None:
        self._time = time
        self._since = time()
        chance = draw.chance()
        self.shape = None if chance < RIGHT else draw.one(CLOCKS)
        self._error = _right if self.shape is None else SHAPES[self.shape](draw)

    def now(self) -> datetime:
        """Return what the node believes."""
        time = self._time()
        return time + self._error((time - self._since).total_seconds())


def _right(_age: float) -> timedelta:
    return timedelta(0)


def _constant(draw: Draw) -> Error:
    off = draw.within(-5, 5)
    return lambda _age: off


def _linear(draw: Draw) -> Error:
    rate = draw.within(-0.05, 0.05)
    return lambda age: rate * age


def _periodic(draw: Draw) -> Error:
    swing, period = draw.within(0.1, 5), 5 + 55 * draw.chance()
    return lambda age: swing * math.sin(2 * math.pi * age / period)


def _step(draw: Draw) -> Error:
    jump, at = draw.within(-60, 60), 30 * draw.chance()
    return lambda age: jump if age >= at else timedelta(0)


def _drift(draw: Draw) -> Error:
    walked = [timedelta(0)]

    def error(age: float) -> timedelta:
        while len(walked) <= age:
            walked.append(walked[-1] + draw.within(-0.2, 0.2))
        return walked[int(age)]

    return error


SHAPES: dict[str, Callable[[Draw], Error]] = {
    "constant": _constant,
    "linear": _linear,
    "periodic": _periodic,
    "step": _step,
    "drift": _drift,
}
