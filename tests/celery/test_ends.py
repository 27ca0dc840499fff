"""The ends of bodies: written behind the back of the next one, all that wait together, none left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.celery.fleet import WAIT_S, Fleet
from tests.servers import redis

from onebeat import Onebeat, celery_task, on_request
from onebeat.celery.ends import End, Ends
from onebeat.celery.keeper import Keeper
from onebeat.celery.ledger import Ledgers
from onebeat.core.messages import Done, Finish, Guard
from onebeat.core.model import Outcome, Run, RunState
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

SUCCEEDED = Done(state=RunState.SUCCEEDED)


class Desk:
    """A ledger in a file, runs that were taken from it, and what brings their ends there."""

    def __init__(self, url: str) -> None:
        clock = SystemClock()
        self.beat = Onebeat(url)
        self.store = open_store(url, clock)
        self.refused: list[str] = []
        ledgers = Ledgers(None, url, clock)
        keeper = Keeper(ledgers, clock, timedelta(seconds=30), lambda _: None)
        self.ends = Ends(ledgers, clock, keeper, lambda: self.refused.append("refused"))
        self.ledger = ledgers.store()
        self.beat.schedules.put("digest", on_request(), celery_task("shop.note"), overlap="allow")

    def taken(self, key: str) -> Run:
        run = self.beat.runs.request("digest", key=key)
        until = self.store.now() + timedelta(hours=1)
        (told,) = self.store.advance([Guard(run_id=run.id, attempt=1, holder="x", until=until, starts=True)])
        assert told.run is not None
        return told.run

    def end(self, run: Run, token: int = 0, result: Any = None) -> End:
        token = token or run.token
        done = Finish(run_id=run.id, token=token, outcome=Outcome.SUCCEEDED, verdict=SUCCEEDED, result=result)
        return End(run, done)

    def state(self, run: Run) -> RunState:
        there = self.store.run(run.id)
        assert there is not None
        return there.state

    def close(self) -> None:
        self.ledger.close()
        self.store.close()
        self.beat.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(f"sqlite:///{tmp_path}/ends.db")
    yield desk
    desk.close()


def test_an_end_that_cannot_be_written_keeps_no_other_back(desk: Desk) -> None:
    """No store takes half a surrogate pair."""
    runs = [desk.taken(key) for key in ("a", "b", "c")]

    for run, result in zip(runs, ("fine", "\ud800", "fine"), strict=True):
        desk.ends.owe(desk.end(run, result=result))
    desk.ends.drain(WAIT_S)

    assert [desk.state(run) for run in runs] == [RunState.SUCCEEDED, RunState.FAILED, RunState.SUCCEEDED]
    broken = desk.store.run(runs[1].id)
    assert broken is not None
    assert broken.reason == "its result could not be written: UnicodeEncodeError"
    assert desk.refused == []


def test_an_end_that_comes_too_late_is_refused_and_said(desk: Desk) -> None:
    run = desk.taken("a")

    desk.ends.owe(desk.end(run, token=run.token - 1))
    desk.ends.drain(WAIT_S)

    assert desk.state(run) is RunState.RUNNING
    assert desk.refused == ["refused"]


def test_an_end_that_is_there_already_is_no_news(desk: Desk) -> None:
    run = desk.taken("a")

    for _ in range(2):
        desk.ends.owe(desk.end(run))
        desk.ends.drain(WAIT_S)

    assert (desk.state(run), desk.refused) == (RunState.SUCCEEDED, [])


# --- processes that leave -------------------------------------------------------------------------------


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


@pytest.mark.server("redis")
@pytest.mark.slow
def test_a_child_that_is_replaced_after_its_body_leaves_no_end_behind(fleet: Fleet) -> None:
    fleet.worker("prefork", lease=600, args=["--max-tasks-per-child", "1"])
    runs = [fleet.asked(name, "shop.note", "here") for name in ("one", "two", "three")]

    for run in runs:
        fleet.send(run.id)

    assert [(ended := fleet.state(run.id)).state for run in runs] == [RunState.SUCCEEDED] * 3
    assert ended.attempt == 1
    assert len({said.split()[1] for said in fleet.unsaid("said")}) == 3


@pytest.mark.server("redis")
@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_that_is_told_to_leave_lets_the_body_end_and_says_so(fleet: Fleet, pool: str) -> None:
    worker = fleet.worker(pool, lease=600)
    run = fleet.asked("digest", "shop.hold", "here")

    fleet.send(run.id)
    fleet.heard("said")
    os.kill(worker.pid, signal.SIGTERM)
    fleet.release()
    worker.wait(WAIT_S)

    assert fleet.run(run.id).state is RunState.SUCCEEDED
