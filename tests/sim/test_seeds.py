"""The seeds that found something, lived through again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.servers import redis

from onebeat.testing import simulator

TOP = Path(__file__).resolve().parents[2]
SEEDS = tomllib.loads((TOP / "tests" / "seeds" / "seeds.toml").read_text(encoding="utf-8"))["seed"]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", [each["seed"] for each in SEEDS])
def test_what_was_found_stays_mended(seed: int, store: str) -> None:
    lived = simulator.survive_on(store, seed)

    assert lived.broken is None


@pytest.mark.slow
@pytest.mark.server("redis")
@pytest.mark.parametrize("seed", [each["seed"] for each in SEEDS])
def test_what_was_found_stays_mended_on_redis(seed: int) -> None:
    lived = simulator.survive_on(redis.url(), seed)

    assert lived.broken is None


def test_each_finding_has_a_test_of_its_own() -> None:
    for each in SEEDS:
        path, _, name = each["test"].partition("::")
        assert each["found"]
        assert name in (TOP / path).read_text(encoding="utf-8")
