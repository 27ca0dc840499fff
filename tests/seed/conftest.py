"""What every row of the seed table begins with."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.seed.cluster", "tests.seed.processes")

from tests.seed.cluster import Cluster  # noqa: E402 - after its assertions were taken care of
from tests.servers.running import KINDS  # noqa: E402 - as above

# A server takes many times as long as a file. So `make test` plays each row on one of the servers, always the
# same one, and `make test-long` on the others; plays of thousands of steps it leaves to that on all of them.
SERVED = (*KINDS, "redis")
MANY_STEPS = (
    "test_seed_01_an_edit_near_the_instant_neither_loses_nor_doubles_it",
    "test_seed_01_behind_beats_too_an_edit_near_the_instant_neither_loses_nor_doubles_it",
    "test_seed_03_restarting_every_second_never_moves_a_first_occurrence",
    "test_seed_04_a_hundred_edits_a_second_lose_double_and_delay_nothing",
    "test_seed_78_an_hour_in_which_leases_and_nodes_are_forgotten_at_random_loses_and_doubles_nothing",
    "test_seed_80_fifty_beats_that_start_at_one_time_add_once_and_then_change_nothing",
    "test_seed_71_under_deaths_pauses_and_edits_nothing_is_lost_and_nothing_doubled",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play each row on every store on which it means something."""
    if "place" not in metafunc.fixturenames:
        return
    marked = {mark.name for mark in metafunc.definition.iter_markers()}
    name = metafunc.definition.name
    stores: list[object] = ["sqlite"]
    if not marked & {"of_the_file", "of_processes"}:
        stores.append(pytest.param("memory", marks=[pytest.mark.long] if name in MANY_STEPS else []))
    if "of_the_file" not in marked:
        here = None if name in MANY_STEPS else SERVED[zlib.crc32(name.encode()) % len(SERVED)]
        for kind in SERVED:
            long = [] if kind == here else [pytest.mark.long]
            stores.append(pytest.param(kind, marks=[pytest.mark.server(kind), *long]))
    metafunc.parametrize("place", stores, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a folder that is named for its kind of store, and stands for one ledger there."""
    place = tmp_path / request.param
    place.mkdir()
    return place


@pytest.fixture
def cluster(place: Path) -> Iterator[Cluster]:
    """An empty ledger in a place of its own, at noon, without nodes."""
    cluster = Cluster(place)
    yield cluster
    cluster.close()
