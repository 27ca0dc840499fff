"""What every row of the seed table begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.seed.cluster", "tests.seed.processes")

from tests.seed.cluster import Cluster  # noqa: E402 - after its assertions were taken care of


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An empty ledger in a file of its own, at noon, without nodes."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()
