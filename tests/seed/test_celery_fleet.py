"""Rows that are about processes, on a Celery fleet: beats and workers on the rig, judged from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.faults.nodes import RolledOver
from chaos.faults.rows import LeasesLapsed, PresenceLost, WakingLost
from chaos.fleet.faults import Scaled
from tests.chaos.fleets import played

# Many processes for a while: with the long ones.
pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.server("redis"),
]


def test_seed_32_with_celery_from_many_beats_to_one_and_back_nothing_is_missed_and_nothing_doubled(
    tmp_path: Path,
) -> None:
    seen = played(tmp_path, "redis", "redis", [Scaled(), RolledOver()], nodes=5, rounds=2)

    assert seen.result.findings == []
    assert seen.result.right
    assert seen.result.counts["must"] > 100
    scaled = [each.target.count("beat") for each in seen.result.fault_list if each.kind == Scaled.kind]
    assert scaled == [4, 4]  # each time one was left


def test_seed_78_with_celery_leases_and_presence_vanish_and_no_process_ends_for_it(tmp_path: Path) -> None:
    faults = [LeasesLapsed(), PresenceLost(), WakingLost()]
    seen = played(tmp_path, "redis", "redis", faults, minutes=1.0, rounds=8)

    assert seen.result.findings == []
    assert seen.result.right
    assert seen.result.counts["must"] > 100
    assert {each.count for each in seen.result.faults.values()} == {8}
    assert seen.story.lives == 2 * seen.story.settings["nodes"]
