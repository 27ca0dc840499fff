"""What the guard leaves alone: messages that stand for no run that a guard was promised for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.celery.fleet import Fleet
from tests.servers import redis

from onebeat.core.messages import HandOver
from onebeat.core.model import RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis.ledger_url(tmp_path), redis.url().replace("/0", "/9"), tmp_path)
    yield fleet
    fleet.close()


def said(fleet: Fleet, last: str) -> list[str]:
    """What bodies said, until one says the last word."""
    words: list[str] = []
    while not words or words[-1] != last:
        words.append(fleet.heard("said").split()[0])
    return words


def test_a_run_without_a_guard_runs_on_a_worker_that_has_one(fleet: Fleet) -> None:
    """As while a guard is brought into a fleet: the workers have it, the declarations do not say so yet."""
    fleet.worker("solo")
    first, second = (fleet.asked(word, "shop.note", word, options={"guarded": False}) for word in "ab")

    handed, sent = fleet.marked(first.id), fleet.marked(second.id)
    fleet.store.advance([HandOver(run_id=first.id, attempt=1)])
    fleet.outlet.send([handed, sent])

    assert said(fleet, "b") == ["a", "b"]
    assert fleet.run(first.id).state is RunState.HANDED_OVER
    assert fleet.run(second.id).state is RunState.SENT


STARTED = {
    "delay": ["starts", "child"],
    "headers": ["starts", "starts", "child"],
    "chain": ["starts", "first", "child"],
    "chord": ["starts", "one", "two", "child"],
    "replace": ["starts", "child"],
    "replace by a chain": ["starts", "first", "child"],
    "replace by itself": ["starts", "starts", "child"],
}


def test_what_a_guarded_body_starts_or_is_replaced_by_is_a_task_of_its_own(fleet: Fleet) -> None:
    fleet.worker("solo", conf={"include": ["tests.celery.shop_more"], "result_backend": fleet.broker})

    for number, (how, words) in enumerate(STARTED.items()):
        run = fleet.asked(f"s{number}", "shop.starts", how)
        fleet.send(run.id)

        assert sorted(said(fleet, "child")) == sorted(words), how
        ended = fleet.state(run.id)
        assert (ended.state, ended.attempt) == (RunState.SUCCEEDED, 1), how
