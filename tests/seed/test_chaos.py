"""Rows that are about processes, on the chaos rig: what bodies and nodes wrote down tells, not the ledger.

Every claim here is also one of the judge's, for whoever plays the rig for longer; a row says what it means.
"""

from __future__ import annotations

import fcntl
import os
from itertools import pairwise
from pathlib import Path

import pytest
from chaos.faults.kinds import for_store
from chaos.faults.nodes import Killed, Stopped
from chaos.faults.protocol import Fault
from chaos.faults.rows import LeasesLapsed, PresenceLost
from chaos.story import EFFECTS, HISTORY
from tests.chaos.plays import EditorKilled, Played, played

from onebeat.testing.history import Effect, Operation, read

# Real processes under faults, for a while: with the long ones.
pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def on_a_file(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Nodes that share nothing but the file, and die and stand still while leases and presence vanish."""
    faults: list[Fault] = [Killed(), Stopped(), LeasesLapsed(), PresenceLost(), EditorKilled()]
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "on-a-file"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers play it once, and share what was seen
        if not folder.exists():
            folder.mkdir()
            played(folder, "sqlite", faults, size=0.2, shared=False, edits_s=200.0, rounds=3)
    return Played.found(folder)


def test_seed_16_on_the_rig_the_lost_begin_again_with_the_next_attempt_or_never(on_a_file: Played) -> None:
    bodies = on_a_file.bodies()
    again = [each for run_id, each in bodies.items() if len(each) > 1 and not run_id.startswith("fail-")]

    assert on_a_file.result.findings == []
    assert on_a_file.result.faults["node killed"].count > 0
    assert {len(each) for run_id, each in bodies.items() if run_id.startswith("once-only")} == {1}
    assert again  # somebody died, or was taken for dead, with a body in hand
    assert all(one.attempt < other.attempt for each in again for one, other in pairwise(each))


def test_seed_54_on_the_rig_nodes_that_share_nothing_out_settle_everything_once(on_a_file: Played) -> None:
    assert on_a_file.story.settings["shared"] is False
    assert on_a_file.result.right
    assert on_a_file.result.counts["fired"] >= on_a_file.result.counts["must"] > 200


def test_seed_57_on_the_rig_whoever_comes_back_from_a_lapsed_lease_is_refused(on_a_file: Played) -> None:
    reports = [each for each in read(on_a_file.folder / EFFECTS, Effect) if each.state is not None]
    newest = {run_id: each[-1].token for run_id, each in on_a_file.bodies().items()}
    ends = {each.run_id: each.token for each in reports if each.phase == "accepted" and each.state != "ready"}

    assert [each for each in reports if each.phase == "refused"]
    assert {run_id: token for run_id, token in ends.items() if token < newest.get(run_id, 0)} == {}
    assert on_a_file.result.audit is not None
    assert on_a_file.result.audit["differs"] == []


def test_seed_76_on_the_rig_an_edit_that_was_killed_midway_is_done_or_was_never(on_a_file: Played) -> None:
    operations = list(read(on_a_file.folder / HISTORY, Operation))
    answered = {each.number for each in operations if each.phase in {"ok", "fail"}}

    assert {each.number for each in operations} - answered  # nobody knows what became of these
    assert on_a_file.result.findings == []
    assert on_a_file.result.audit is not None
    assert (on_a_file.result.audit["gaps"], on_a_file.result.audit["extras"]) == (0, 0)


def test_seed_78_on_the_rig_leases_and_presence_vanish_and_no_process_ends_for_it(on_a_file: Played) -> None:
    story, done = on_a_file.story, on_a_file.result.faults

    assert min(done["leases set to lapsed"].count, done["presence of nodes deleted"].count) > 0
    assert on_a_file.result.right
    killed = [each for each in on_a_file.result.fault_list if each.kind == "node killed"]
    assert story.lives == story.settings["nodes"] + sum(each.target != "editor" for each in killed)


@pytest.fixture
def on_a_server(kind: str, tmp_path: Path) -> Played:
    wanted = {"clock of a node jumped", "node stopped past its leases"}
    faults = [fault for fault in for_store(kind) if fault.kind in wanted]
    return played(tmp_path, kind, faults, edits_s=40.0, rounds=3)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("redis", marks=pytest.mark.server("redis")),
        pytest.param("postgres", marks=[pytest.mark.server("postgres"), pytest.mark.long]),
        pytest.param("mariadb", marks=[pytest.mark.server("mariadb"), pytest.mark.long]),
    ],
)
def test_seed_18_on_the_rig_clocks_that_jump_and_nodes_that_stand_still_change_nothing(
    on_a_server: Played,
) -> None:
    assert len(on_a_server.result.faults) == 2
    assert on_a_server.result.right
    assert on_a_server.result.counts["must"] > 200
