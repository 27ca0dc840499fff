"""One moves at a time, whoever waits for a lock loses its turn, and one failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import pairwise

import pytest

from onebeat.testing.sim_draw import Draw
from onebeat.testing.stepper_turns import ByRank, Evenly, Turns

NOBODY: set[int] = set()


def nobody_waits(backends: Collection[int]) -> set[int]:
    return NOBODY


def unnoticed(name: str, sql: str) -> None:
    """Take no note of whoever waits."""


def acting(turns: Turns, told: list[str], name: str, statements: int) -> Callable[[], None]:
    def act() -> None:
        for number in range(statements):
            turns.step(1, "SELECT", partial(told.append, f"{name}{number}"))

    return act


class Scripted:
    """Names who moves, in an order written down."""

    def __init__(self, order: str) -> None:
        self._order = list(order)

    def __call__(self, stopped: Sequence[str]) -> str:
        return self._order.pop(0) if self._order else stopped[0]


def test_statements_are_made_in_the_order_of_the_turns() -> None:
    told: list[str] = []
    turns = Turns(nobody_waits, unnoticed)

    # The first turn of each is the way to its first statement.
    turns.play({name: acting(turns, told, name, 2) for name in "ab"}, Scripted("ababab"))

    assert told == ["a0", "b0", "a1", "b1"]
    assert turns.steps == 6


def test_a_seed_gives_the_turns_in_one_order() -> None:
    orders = []
    for _ in range(2):
        told: list[str] = []
        turns = Turns(nobody_waits, unnoticed)
        turns.play({name: acting(turns, told, name, 5) for name in "abc"}, Evenly(Draw(7)))
        orders.append(told)

    assert orders[0] == orders[1]
    assert len(orders[0]) == 15


def test_who_waits_for_a_lock_loses_its_turn_and_goes_on_when_it_is_free() -> None:
    told: list[str] = []
    waited: list[str] = []
    lock = threading.Lock()
    queue: set[int] = set()

    def take(backend: int) -> None:
        if not lock.acquire(blocking=False):
            queue.add(backend)
            lock.acquire()
            queue.discard(backend)

    def give(backend: int) -> None:
        queue.clear()  # as a server does: who gets it waits no more when the release is answered
        lock.release()

    def holding(name: str, backend: int) -> Callable[[], None]:
        def act() -> None:
            turns.step(backend, "LOCK", lambda: take(backend))
            told.append(f"{name} has it")
            turns.step(backend, "COMMIT", lambda: give(backend))
            told.append(f"{name} gave it")

        return act

    turns = Turns(lambda backends: queue & set(backends), lambda name, sql: waited.append(f"{name} {sql}"))

    turns.play({"a": holding("a", 1), "b": holding("b", 2)}, Scripted("aabba"))

    assert waited == ["b LOCK"]
    assert told == ["a has it", "a gave it", "b has it", "b gave it"]


def test_what_one_raises_ends_the_others_before_their_next_statement() -> None:
    told: list[str] = []
    turns = Turns(nobody_waits, unnoticed)

    def failing() -> None:
        raise LookupError("as planned")

    with pytest.raises(LookupError, match="as planned"):
        turns.play({"a": acting(turns, told, "a", 3), "b": failing}, Scripted("aab"))

    assert told == ["a0"]


def test_outside_of_a_play_a_statement_is_made_at_once() -> None:
    assert Turns(nobody_waits, unnoticed).step(1, "SELECT", lambda: 42) == 42


def test_the_first_in_rank_moves_until_it_falls() -> None:
    chooser = ByRank(Draw(3), ["a", "b", "c"], falls=1, about=10)

    chosen = [chooser(["a", "b", "c"]) for _ in range(20)]

    changes = sum(before != after for before, after in pairwise(chosen))
    assert changes == 1
    assert chooser(["c"]) == "c"
