"""Real workers on RabbitMQ, where it does what Redis does not: it gives back what a lost connection held."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.celery.fleet import Fleet
from tests.servers import rabbitmq, redis

from onebeat.core.model import RunState

pytestmark = [
    pytest.mark.server("redis"),  # for the ledger, and for what is seen outside
    pytest.mark.server("rabbitmq"),
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

LATE = {"task_acks_late": True, "task_reject_on_worker_lost": True}


def fleet_at(broker: str, tmp_path: Path) -> Fleet:
    return Fleet(redis.ledger_url(tmp_path), broker, tmp_path, outside=redis.url().replace("/0", "/9"))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with rabbitmq.vhost() as url:
        fleet = fleet_at(url, tmp_path)
        yield fleet
        fleet.close()


def test_a_doubled_message_runs_once(fleet: Fleet) -> None:
    fleet.worker("prefork")
    run = fleet.asked("digest", "shop.note", "here", {"sent": 3})

    claimed = fleet.send(run.id)
    assert fleet.outlet.send([claimed] * 3) == [None] * 3
    for _ in range(4):
        assert fleet.heard("delivered") == run.id

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 1, {"sent": 3})
    assert len(fleet.unsaid("said")) == 1


def test_what_the_broker_gives_back_after_a_kill_runs_no_attempt_twice(fleet: Fleet) -> None:
    """Beside it the peer: Celery alone runs at once again what may have been half done."""
    first = fleet.worker("prefork", lease=8, conf=LATE)
    run = fleet.asked("digest", "shop.late", "guarded")
    fleet.send(run.id)
    fleet.app.send_task("shop.late", args=["raw"])
    said = {fleet.heard("said").split()[0] for _ in range(2)}
    assert said == {"guarded", "raw"}

    os.killpg(first.pid, signal.SIGKILL)
    fleet.worker("threads", lease=8, conf=LATE)  # it is given both
    assert fleet.heard("said").startswith("raw")
    assert fleet.recover(run.id).state is RunState.READY
    assert fleet.unsaid("said") == []
    fleet.send(run.id)
    assert fleet.heard("said").startswith("guarded")
    for _ in range(9):
        fleet.release()

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt, ended.holder) == (RunState.SUCCEEDED, 2, "w1@here")
    assert fleet.unsaid("said") == []


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[tuple[Fleet, rabbitmq.Own]]:
    """A fleet whose broker is a server of its own, which may go away."""
    with rabbitmq.Own() as own:
        fleet = fleet_at(own.url, tmp_path)
        yield fleet, own
        fleet.close()


def test_a_body_goes_on_while_its_broker_is_away_and_is_not_run_again(
    apart: tuple[Fleet, rabbitmq.Own],
) -> None:
    fleet, own = apart
    fleet.worker("threads", lease=600, conf=LATE)
    run = fleet.asked("digest", "shop.late", "here")

    fleet.send(run.id)
    fleet.heard("said")
    own.leave()
    own.come_back()
    for _ in range(2):  # the second one is what was not acknowledged, on the worker's new connection
        assert fleet.heard("delivered") == run.id
    for _ in range(2):
        fleet.release()

    ended = fleet.state(run.id)
    assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1)
    assert fleet.unsaid("said") == []
