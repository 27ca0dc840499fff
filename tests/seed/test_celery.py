"""Rows about a Celery fleet: what a broker does to a message, a real worker must not do to a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.celery.fleet import Fleet
from tests.servers import redis

from onebeat.core.model import RunState

pytestmark = [pytest.mark.of_servers, pytest.mark.server("redis"), pytest.mark.slow]

# Kombu looks for what was not acknowledged now and then; newer ones are asked to look each second.
LOOKS = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
SHORT = {"broker_transport_options": {"visibility_timeout": 2, **LOOKS}}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


def test_seed_62_a_visibility_timeout_shorter_than_the_task_runs_it_once(fleet: Fleet) -> None:
    """Beside it the peer: Celery alone runs the same task again while it still runs."""
    fleet.worker("threads", conf=SHORT)
    run = fleet.asked("digest", "shop.late", "guarded")

    fleet.send(run.id)
    for _ in range(2):  # the second one is the redelivery
        assert fleet.heard("delivered") == run.id
    fleet.app.send_task("shop.late", args=["raw"])

    assert [fleet.heard("said").split()[0] for _ in range(3)] == ["guarded", "raw", "raw"]
    for _ in range(9):
        fleet.release()
    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert not [said for said in fleet.unsaid("said") if said.startswith("guarded")]
