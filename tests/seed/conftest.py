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
MANY_STEPS = (
    "test_seed_01_an_edit_near_the_instant_neither_loses_nor_doubles_it",
    "test_seed_03_restarting_every_second_never_moves_a_first_occurrence",
    "test_seed_04_a_hundred_edits_a_second_lose_double_and_delay_nothing",
    "test_seed_71_under_deaths_pauses_and_edits_nothing_is_lost_and_nothing_doubled",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play each row on every store; on the file alone what a hand does to the file."""
    if "cluster" not in metafunc.fixturenames:
        return
    stores: list[object] = ["sqlite"]
    if metafunc.definition.get_closest_marker("of_the_file") is None:
        name = metafunc.definition.name
        here = None if name in MANY_STEPS else KINDS[zlib.crc32(name.encode()) % len(KINDS)]
        for kind in KINDS:
            long = [] if kind == here else [pytest.mark.long]
            stores.append(pytest.param(kind, marks=[pytest.mark.server(kind), *long]))
    metafunc.parametrize("cluster", stores, indirect=True)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """An empty ledger in a place of its own, at noon, without nodes."""
    place = tmp_path / request.param
    place.mkdir()
    cluster = Cluster(place)
    yield cluster
    cluster.close()
