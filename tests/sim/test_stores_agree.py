"""One seed on two stores: the same world, answer by answer. A store that differs anywhere differs here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import zip_longest
from typing import Any

import msgspec
import pytest
from tests.servers import redis

from onebeat.core.ports import Clock, Store
from onebeat.store.memory import MemoryStore
from onebeat.testing import simulator
from onebeat.testing.sim_world import World


def told(seed: int, open_store: Callable[[Clock], Store]) -> list[bytes]:
    """Live through a world; return every writing call and its answer."""
    lines: list[bytes] = []
    world = World(seed, open_store, connects=open_store is not MemoryStore)
    saw = world.watch.saw

    def written_down(verb: str, args: Any, answer: Any, at: datetime) -> None:
        if verb != "announce":  # its process id is another one each time
            lines.append(msgspec.json.encode((at, verb, args, answer), order="sorted"))
        saw(verb, args, answer, at)

    world.watch.saw = written_down  # type: ignore[method-assign]  # to listen in
    try:
        simulator.live(world)
    finally:
        world.close()
    return lines


def assert_alike(seed: int, kind: str = "sqlite") -> None:
    with simulator.stores(kind) as opener:
        in_store = told(seed, opener(seed))
    in_memory = told(seed, MemoryStore)

    assert len(in_memory) > 100
    for one, other in zip_longest(in_memory, in_store):
        assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sqlite_answers_as_the_reference_store_does(seed: int) -> None:
    assert_alike(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 203))
def test_sqlite_answers_as_the_reference_store_does_in_many_worlds(seed: int) -> None:
    assert_alike(seed)


@pytest.mark.slow
@pytest.mark.server("redis")
@pytest.mark.parametrize("seed", range(3))
def test_redis_answers_as_the_reference_store_does(seed: int) -> None:
    assert_alike(seed, redis.url())


@pytest.mark.long
@pytest.mark.server("redis")
@pytest.mark.parametrize("seed", range(3, 203))
def test_redis_answers_as_the_reference_store_does_in_many_worlds(seed: int) -> None:
    assert_alike(seed, redis.url())
