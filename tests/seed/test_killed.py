"""Rows 16 and 25: processes that are killed, and processes that are asked to end."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.seed.cluster import HOUR, MINUTE, T0, Cluster, every, url_of
from tests.seed.processes import Child, children

from onebeat import Onebeat
from onebeat.core.model import Run, RunState
from onebeat.engine.clock import SystemClock

pytestmark = pytest.mark.slow

# --- 16: killed at each boundary --------------------------------------------------------------------

NEVER, READY, STARTED, ENDED = "never claimed", "not started", "started", "ended"
DEATHS = [
    ("settle", "before", 1, NEVER, 0),
    ("settle", "after", 1, NEVER, 0),
    ("claim", "before", 1, NEVER, 0),
    ("claim", "after", 1, READY, 0),
    ("advance", "before", 1, READY, 0),
    ("advance", "after", 1, STARTED, 0),
    ("body", "before", 1, STARTED, 0),
    ("body", "after", 1, STARTED, 1),
    ("body", "after", 2, STARTED, 2),
    ("advance", "before", 2, STARTED, 2),
    ("advance", "after", 2, ENDED, 2),
]


@pytest.mark.parametrize(("verb", "when", "call", "left", "done"), DEATHS)
@pytest.mark.of_processes
def test_seed_16_killed_at_any_instruction_each_schedule_gets_the_repetition_it_chose(
    cluster: Cluster, verb: str, when: str, call: int, left: str, done: int
) -> None:
    cluster.put("most-once", every(HOUR, T0 + MINUTE), on_lost="fail")
    cluster.put("least-once", every(HOUR, T0 + MINUTE), on_lost="retry")
    at = (T0 + MINUTE).isoformat()
    with children("die", cluster.place, 1, verb, when, str(call), at) as (child,):
        assert child.ends() == -signal.SIGKILL
    effects = Counter(line.split()[0] for line in read(cluster.place / "effects"))
    assert effects.total() == done
    cluster.clock.advance(MINUTE)
    cluster.node()
    cluster.run(2 * MINUTE, every=MINUTE / 12)
    effects.update(effect.run_id for effect in cluster.effects)

    first = {NEVER: 1, READY: 2, STARTED: 2, ENDED: 1}[left]
    again = cluster.the_run("least-once")
    assert (again.id, again.state) == ("least-once@20261121T120100Z", RunState.SUCCEEDED)
    assert again.attempt == first
    assert effects[again.id] >= 1
    once = cluster.the_run("most-once")
    assert (once.id, effects[once.id] <= 1) == ("most-once@20261121T120100Z", True)
    if left == STARTED:
        # Whether its body was over nobody knows, so it never runs again, and says so.
        assert (once.state, once.attempt) == (RunState.FAILED, 1)
        assert "lost after it started" in once.reason
    else:
        assert (once.state, once.attempt, effects[once.id]) == (RunState.SUCCEEDED, first, 1)
    assert cluster.beat.audit().right


def read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# --- 25: asked to end -------------------------------------------------------------------------------


@pytest.fixture
def beat(place: Path) -> Iterator[Onebeat]:
    """A ledger in real time, for a process in real time."""
    with Onebeat(url_of(place), modules=("tests.seed",)) as beat:
        yield beat


def serving(beat: Onebeat, child: Child, name: str) -> Run:
    """Have the child begin a body that lasts, and return its run."""
    beat.schedules.put(name, "0 0 1 1 *", "tests.seed.child:held", run_now=True, overlap="allow")
    assert child.says() == ["began", f"{name}!created", 1]
    (run,) = beat.runs.list(schedule=name)
    return run


def until_it_stops(beat: Onebeat) -> None:
    """Wait until the node has announced that it claims nothing new."""
    while not all(node.stopping for node in beat.nodes.list()):
        beat.store.wait(SystemClock().now() + timedelta(seconds=1))


@pytest.mark.of_processes
def test_seed_25_asked_to_end_a_node_claims_nothing_new_and_finishes_what_it_has(
    beat: Onebeat, place: Path
) -> None:
    with children("serve", place, 1, "60") as (child,):
        before = serving(beat, child, "in-flight")
        child.signalled(signal.SIGTERM)
        until_it_stops(beat)
        late = beat.runs.request("in-flight", key="too-late")
        child.hears("finished in its own time")
        assert child.says() == ["ended", True]
        assert child.ends() == 0

    after = beat.runs.show(before.id).run
    assert (after.state, after.attempt) == (RunState.SUCCEEDED, 1)
    assert after.result == "finished in its own time"
    left = beat.runs.show(late.id).run
    # Not claimed even for a moment: a claim that is handed back leaves its token.
    assert (left.state, left.attempt, left.token) == (RunState.READY, 0, 0)
    assert beat.nodes.list(alive=True) == []


@pytest.mark.of_processes
def test_seed_25_what_does_not_end_within_the_grace_is_handed_on_at_once(beat: Onebeat, place: Path) -> None:
    with children("serve", place, 1, "0.05") as (child,):
        before = serving(beat, child, "hanging")
        child.signalled(signal.SIGTERM)
        assert child.says()[0] == "ended"

    run = beat.runs.show(before.id)
    assert (run.run.state, run.run.attempt, run.run.holder) == (RunState.READY, 1, None)
    (event,) = [event for event in run.events if event.kind == "attempt.lost"]
    assert "did not end within the grace" in event.data["error"]
