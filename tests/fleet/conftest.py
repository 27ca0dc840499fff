"""What the tests with real nodes run under."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.servers import ledgers, redis

pytest.register_assert_rewrite("tests.fleet.fleet")

from tests.fleet.fleet import Fleet, fleets  # noqa: E402 - after its assertions were taken care of


@pytest.fixture
def fleet_on(tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    yield from fleets(tmp_path)


@pytest.fixture
def fleet(kind: str, fleet_on: Callable[[str], Fleet], tmp_path: Path) -> Fleet:
    """A fleet without nodes, on an empty ledger of a server that others use, too."""
    url = redis.ledger_url(tmp_path) if kind == "redis" else ledgers.ledger_url(kind, tmp_path)
    return fleet_on(url)
