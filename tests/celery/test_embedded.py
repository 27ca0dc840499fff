"""A worker that has the beat in it: `celery worker -B --scheduler onebeat`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.celery.fleet import WAIT_S, Fleet
from tests.servers import redis

from onebeat.core.messages import RunQuery
from onebeat.core.model import RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow]

EACH_SECOND = {"beat_schedule": {"each second": {"task": "shop.note", "schedule": 1.0, "args": ["beat"]}}}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_with_a_beat_in_it_sends_runs_and_records(fleet: Fleet, pool: str) -> None:
    worker = fleet.worker(pool, conf=EACH_SECOND, args=["-B", "--scheduler", "onebeat"])

    assert fleet.heard("said").startswith("beat")
    ran = fleet.until(lambda: next(iter(fleet.store.runs(RunQuery(states=(RunState.SUCCEEDED,)))), None))
    worker.terminate()

    assert ran.holder == "w0@here"
    assert worker.wait(WAIT_S) == 0, fleet.logs()
