"""The row about versions: a beat, a guard and an outlet of ours with each Celery from 5.3 to the newest.

Each has an environment of its own, by the locks in bench/peers, in which ours runs from its source.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.celery.fleet import WAIT_S, Fleet
from tests.peers import places
from tests.servers import redis

from onebeat.core.messages import RunQuery
from onebeat.core.model import Outcome, RunState

pytestmark = [pytest.mark.of_servers, pytest.mark.server("redis"), pytest.mark.slow]

EACH_SECOND = {"each second": {"task": "shop.note", "schedule": 1.0, "args": ["beat"]}}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


@contextmanager
def beating(fleet: Fleet) -> Iterator[None]:
    """Have a beat of the fleet's Celery that is onebeat's, until it is told to end, and does."""
    command = [fleet.python, "-m", "celery", "-A", "tests.celery.shop", "beat", "-l", "INFO"]
    command += ["-S", "onebeat.celery.beat:Beat"]
    environment = fleet.environment(conf={"beat_schedule": EACH_SECOND})
    with (fleet.folder / "worker-beat.log").open("ab") as log:
        beat = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=fleet.folder)
    try:
        yield
        beat.terminate()
        assert beat.wait(WAIT_S) == 0, fleet.logs()
    finally:
        if beat.poll() is None:
            beat.kill()
            beat.wait()


def version(python: str) -> str:
    asked = "import celery; print(celery.__version__)"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("lock", "named"),
    [
        ("celery53", "5.3."),
        ("celery57", "5.7."),
        pytest.param("celery54", "5.4.", marks=pytest.mark.long),
        pytest.param("celery55", "5.5.", marks=pytest.mark.long),
    ],
)
def test_seed_42_a_beat_and_a_guarded_worker_of_every_celery_do_what_they_do_here(
    fleet: Fleet, lock: str, named: str
) -> None:
    fleet.python = places.python(lock)
    assert version(fleet.python).startswith(named)
    fleet.worker("prefork")

    with beating(fleet):
        assert fleet.heard("said").startswith("beat")
        # What it sends is guarded: the end of the run is in the ledger.
        fleet.until(lambda: next(iter(fleet.store.runs(RunQuery(states=(RunState.SUCCEEDED,)))), None))

    again = fleet.asked("again", "shop.again", 1)
    fleet.send(again.id)
    assert fleet.state(again.id, RunState.READY).outcome is Outcome.FAILED
    fleet.send(again.id)
    ended = fleet.state(again.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 2, 1)

    revoked = fleet.asked("revoked", "shop.fail")
    fleet.app.control.revoke(revoked.id, reply=True, timeout=WAIT_S, limit=1)
    fleet.send(revoked.id)
    assert fleet.state(revoked.id).state is RunState.CANCELLED

    copied = fleet.asked("copied", "shop.note", "copied")
    claimed = fleet.send(copied.id)
    fleet.outlet.send([claimed])
    assert fleet.state(copied.id).state is RunState.SUCCEEDED
    last = fleet.asked("last", "shop.note", "last")
    fleet.send(last.id)
    fleet.state(last.id)
    assert [said.split()[0] for said in fleet.unsaid("said") if said.startswith(("copied", "last"))] == [
        "copied",
        "last",
    ]
