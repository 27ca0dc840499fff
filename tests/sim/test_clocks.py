"""How the clocks of simulated nodes are wrong."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from onebeat.testing.clock import NOON
from onebeat.testing.sim_clocks import NodeClock
from onebeat.testing.sim_draw import CLOCKS, Draw

MINUTES = 10


class World:
    """What a clock needs of a world."""

    def __init__(self) -> None:
        self.time = NOON


def clocks(shape: str | None, world: World) -> list[NodeClock]:
    """Return the clocks of a shape among a hundred."""
    drawn = [NodeClock(lambda: world.time, Draw(seed)) for seed in range(100)]
    found = [clock for clock in drawn if clock.shape == shape]
    assert len(found) > 3
    return found


def errors(shape: str | None) -> list[list[float]]:
    """Return the errors of clocks of a shape, in seconds, one for each second of their lives."""
    world = World()
    found = clocks(shape, world)
    seen: list[list[float]] = [[] for _ in found]
    for second in range(60 * MINUTES):
        world.time = NOON + timedelta(seconds=second)
        for clock, error in zip(found, seen, strict=True):
            error.append((clock.now() - world.time).total_seconds())
    return seen


def moves(error: list[float]) -> list[float]:
    return [b - a for a, b in pairwise(error)]


def test_some_clocks_are_right() -> None:
    assert not [error for error in errors(None) if set(error) != {0}]


def test_a_constant_error_stays_as_it_is() -> None:
    assert all(len(set(error)) == 1 and 0 < abs(error[0]) <= 5 for error in errors("constant"))


def test_a_linear_error_grows_by_the_same_amount_each_second() -> None:
    for error in errors("linear"):
        assert abs(error[-1]) > 1
        assert moves(error) == pytest.approx([error[1]] * len(moves(error)))


def test_a_periodic_error_comes_and_goes_on_both_sides() -> None:
    for error in errors("periodic"):
        assert -5 <= min(error) < 0 < max(error) <= 5
        assert sum(a < 0 <= b for a, b in pairwise(error)) >= MINUTES - 1


def test_a_clock_steps_once() -> None:
    for error in errors("step"):
        assert error[0] == 0 != error[-1]
        assert sum(move != 0 for move in moves(error)) == 1


def test_a_drifting_clock_never_comes_to_rest() -> None:
    for error in errors("drift"):
        assert min(moves(error)) < 0 < max(moves(error))
        assert any(moves(error)[-20:])


@pytest.mark.parametrize("shape", CLOCKS)
def test_a_clock_says_the_same_of_an_instant_when_asked_again(shape: str) -> None:
    world = World()
    for clock in clocks(shape, world):
        said = []
        for second in (40, 90, 40):
            world.time = NOON + timedelta(seconds=second)
            said.append(clock.now())

        assert said[0] == said[2]
