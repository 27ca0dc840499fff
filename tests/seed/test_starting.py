"""Rows 17, 65, 80 and 81: what a start does to the ledger, to the process and to the machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.seed.cluster import BODY, DAY, HOUR, MINUTE, SECOND, Cluster, Play, every, url_of
from tests.seed.processes import TOP, children, let_go

from onebeat import Onebeat, interval
from onebeat.core.messages import ScheduleQuery
from onebeat.core.model import Node, RunState
from onebeat.engine.clock import SystemClock

pytestmark = pytest.mark.slow


def picture(cluster: Cluster, *, but: str = "") -> tuple[object, ...]:
    """All that the ledger holds, but what is of one schedule."""
    store = cluster.store
    rows = [row for row, _ in store.owing([row.name for row in store.schedules(ScheduleQuery(deleted=True))])]
    rows = [row for row in rows if row.name != but]
    runs = [run for run in cluster.runs(None) if run.schedule != but]
    events = [event for event in cluster.events() if event.schedule != but]
    return rows, runs, events, [store.trail(row.id) for row in rows], [store.log(run.id) for run in runs]


# --- 17: leftovers ----------------------------------------------------------------------------------


@pytest.fixture
def leftovers(cluster: Cluster) -> Cluster:
    """A ledger that has seen much, with nobody there any more."""
    cluster.plays["body"] = Play(lasts=HOUR)
    theirs = Onebeat(store=cluster.store, clock=cluster.clock, owner="theirs", revision=9)
    theirs.declare("of-another-owner", interval(hours=1), BODY)
    theirs.apply()
    before = Onebeat(store=cluster.store, clock=cluster.clock, owner="mine", revision=99)
    before.declare("declared-no-more", interval(hours=1), BODY)
    before.apply()
    for name in ("running", "paused", "deleted"):
        cluster.put(name, every(DAY, cluster.now + MINUTE))
    cluster.put("nobodys", every(DAY, cluster.now + MINUTE), address="gone.module:function")
    cluster.put("finished", every(DAY, cluster.now + MINUTE), address="quick")
    dead = cluster.node(knows=("body", "quick"))
    cluster.run(MINUTE)
    cluster.run(SECOND)
    cluster.beat.schedules.pause("paused", "for the holidays")
    cluster.beat.schedules.delete("deleted")
    dead.crash()
    assert cluster.states("running") == {RunState.RUNNING: 1}
    assert cluster.states("finished") == {RunState.SUCCEEDED: 1}
    assert cluster.states("nobodys") == {RunState.READY: 1}
    return cluster


def test_seed_17_a_start_deletes_and_rewrites_nothing_that_it_did_not_create(leftovers: Cluster) -> None:
    before = picture(leftovers)

    mine = Onebeat(store=leftovers.store, clock=leftovers.clock, owner="mine", revision=100)
    mine.declare("mine", interval(hours=1), BODY)
    mine.service(roles=("dispatcher", "worker"))
    leftovers.node()
    leftovers.step()

    assert picture(leftovers, but="mine") == before
    assert leftovers.row("mine").owner == "mine"


def test_seed_17_stale_claims_end_with_their_lease_and_orphans_are_listed_and_kept(
    leftovers: Cluster,
) -> None:
    node = leftovers.node()
    leftovers.run(20 * SECOND, every=SECOND)
    before_it_lapsed = leftovers.the_run("running")
    leftovers.run(10 * MINUTE, every=5 * SECOND)

    assert before_it_lapsed.holder == "n1"
    taken = leftovers.the_run("running")
    assert (taken.holder, taken.attempt) == (node.name, 2)
    (orphan,) = leftovers.beat.runs.list(states=["parked"])
    assert (orphan.schedule, orphan.reason) == ("nobodys", "no live node can run seed:gone.module:function")
    assert leftovers.row("nobodys").definition.target.address == "gone.module:function"
    assert leftovers.row("paused").paused == "for the holidays"


# --- 80: many starts at one time --------------------------------------------------------------------


@pytest.mark.of_processes
def test_seed_80_fifty_simultaneous_starts_add_once_and_then_change_nothing(cluster: Cluster) -> None:
    cluster.put("dynamic", every(MINUTE), overlap="allow")
    cluster.node()
    cluster.run(2 * MINUTE, every=MINUTE)
    dynamic = cluster.row("dynamic")

    # Each of 5 processes starts 10 nodes that declare the same.
    with children("start", cluster.place, 5, "10") as started:
        counts = let_go(started)
        added = picture(cluster)
        again = let_go(started)

    assert counts == again == [[6] * 10] * 5
    assert cluster.row("dynamic") == dynamic
    rows = {row.name: row for row in cluster.beat.schedules.list()}
    assert sorted(rows) == [*(f"declared-{index}" for index in range(5)), "dynamic"]
    assert {row.version for row in rows.values() if row.owner} == {1}
    assert len(cluster.events("schedule.created")) == 6
    assert picture(cluster) == added
    assert len(cluster.fired("dynamic")) == 2


# --- 81: one image, any role ------------------------------------------------------------------------

LOOK = """
import json, os, sys, threading
before = set(os.listdir())
import tests.seed.declared
said = {
    "declared": len(tests.seed.declared.beat.declared),
    "threads": threading.active_count(),
    "files": sorted(set(os.listdir()) - before),
    "store": [name for name in sys.modules if name.startswith(("apsw", "onebeat.store.sql"))],
    "engine": [name for name in sys.modules if name == "onebeat.engine.service"],
}
print(json.dumps(said))
"""


def test_seed_81_importing_an_app_in_the_wrong_role_has_no_side_effect(tmp_path: Path) -> None:
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(TOP)])
    ran = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(ran.stdout) == {"declared": 201, "threads": 1, "files": [], "store": [], "engine": []}


@pytest.fixture
def beat(place: Path) -> Onebeat:
    return Onebeat(url_of(place), modules=("tests.seed",))


def until(beat: Onebeat, there: Callable[[], object]) -> None:
    """Wait until something is there, looking whenever the ledger has changed."""
    while not there():
        beat.store.wait(SystemClock().now() + timedelta(seconds=1))


@pytest.mark.parametrize("by", ["flag", "environment"])
@pytest.mark.of_processes
def test_seed_81_the_role_of_a_process_is_chosen_by_a_flag_or_the_environment(
    beat: Onebeat, place: Path, by: str
) -> None:
    flags = ["--roles", "dispatcher"] if by == "flag" else []
    roles = {"ONEBEAT_ROLES": "dispatcher"} if by == "environment" else {}
    with beat:
        serving = subprocess.Popen(
            [sys.executable, "-m", "onebeat", "--url", url_of(place), "serve", *flags],
            env={**os.environ, **roles},
            stdout=subprocess.DEVNULL,
        )
        try:
            until(beat, lambda: beat.nodes.list(alive=True))
            (node,) = beat.nodes.list(alive=True)
            serving.send_signal(signal.SIGTERM)
            assert serving.wait() == 0
        finally:
            serving.kill()
            serving.wait()

    assert isinstance(node, Node)
    assert (node.roles, node.targets) == (("dispatcher",), ())


# --- 65: nothing else is needed ---------------------------------------------------------------------


@pytest.mark.of_the_file
def test_seed_65_one_process_and_one_file_are_a_complete_installation(beat: Onebeat, place: Path) -> None:
    with beat, children("serve", place, 1, "60") as (child,):
        beat.schedules.put("a", "0 0 1 1 *", "tests.seed.child:held", run_now=True)
        assert child.says() == ["began", "a!created", 1]
        open_files = [str(each.readlink()) for each in Path(f"/proc/{child.pid}/fd").iterdir()]
        child.hears("all by itself")
        until(beat, lambda: beat.runs.list(states=["succeeded"]))
        child.signalled(signal.SIGTERM)
        assert child.says() == ["ended", True]
        (run,) = beat.runs.list()

    assert run.result == "all by itself"
    assert not [name for name in open_files if name.startswith("socket:")]
    ours = {Path(name).name for name in open_files if name.startswith(str(place))}
    assert ours <= {"ledger.db", "ledger.db-wal", "ledger.db-shm"}
    assert "ledger.db" in ours
