"""The pools that Celery has beside processes and threads: a guard's promise is the same under each of them.

``gevent`` and ``eventlet`` replace threads, locks and sockets by their own while Celery starts, so that the
keeper and the writer of ends are green threads, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.celery.fleet import Fleet
from tests.servers import redis
from tests.servers.ledgers import connected, ledger_url

from onebeat.core.model import Outcome, RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow]

GREEN = ["gevent", "eventlet"]


def fleet_on(ledger: str, place: Path) -> Iterator[Fleet]:
    fleet = Fleet(ledger, redis.url().replace("/0", "/9"), place)
    yield fleet
    fleet.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    yield from fleet_on(redis.ledger_url(tmp_path), tmp_path)


@pytest.fixture
def on_postgres(tmp_path: Path) -> Iterator[Fleet]:
    yield from fleet_on(ledger_url("postgres", tmp_path), tmp_path)


def lives(fleet: Fleet) -> None:
    """Follow runs through all that becomes of them."""
    once = fleet.asked("once", "shop.note", "once", {"sent": 3})
    claimed = fleet.send(once.id)
    fleet.outlet.send([claimed] * 2)
    for _ in range(3):
        assert fleet.heard("delivered") == once.id
    ended = fleet.state(once.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 1, {"sent": 3})
    assert len(fleet.unsaid("said")) == 1

    again = fleet.asked("again", "shop.again", 1)
    fleet.send(again.id)
    assert fleet.state(again.id, RunState.READY).outcome is Outcome.FAILED
    fleet.send(again.id)
    ended = fleet.state(again.id)
    assert (ended.state, ended.attempt, ended.result) == (RunState.SUCCEEDED, 2, 1)

    kept = fleet.asked("kept", "shop.look")
    fleet.send(kept.id)
    began_at = fleet.state(kept.id, RunState.RUNNING).started_at
    assert began_at is not None
    late = began_at + timedelta(seconds=4)  # its lease of one second would have lapsed three times
    fleet.until(lambda: run if ((run := fleet.run(kept.id)).lease_until or began_at) > late else None)
    fleet.beat.runs.cancel(kept.id)
    ended = fleet.state(kept.id)
    assert (ended.state, ended.attempt) == (RunState.CANCELLED, 1)


@pytest.mark.parametrize("pool", GREEN)
def test_green_threads_begin_a_run_once_keep_it_retry_it_and_let_it_go(fleet: Fleet, pool: str) -> None:
    fleet.worker(pool, lease=1)

    lives(fleet)


@pytest.mark.server("postgres")
@pytest.mark.parametrize("pool", GREEN)
def test_green_threads_begin_a_run_once_keep_it_retry_it_and_let_it_go_on_postgres(
    on_postgres: Fleet, pool: str
) -> None:
    on_postgres.worker(pool, lease=1)

    lives(on_postgres)


@pytest.mark.server("postgres")
@pytest.mark.parametrize(("pool", "told"), [("gevent", ""), ("eventlet", "wait_select")])
def test_a_guard_that_waits_for_a_row_holds_up_no_other_green_thread(
    on_postgres: Fleet, pool: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under eventlet psycopg has to be told how to wait."""
    fleet = on_postgres
    if told:
        monkeypatch.setenv("PSYCOPG_WAIT_FUNC", told)
    fleet.worker(pool)
    run = fleet.asked("digest", "shop.note", "guarded")
    claimed = fleet.marked(run.id)

    with connected("postgres", fleet.ledger) as do:
        do(f"SELECT 1 FROM onebeat_runs WHERE id = '{run.id}' FOR UPDATE")
        fleet.outlet.send([claimed])
        fleet.heard("delivered")
        fleet.app.send_task("shop.note", args=["plain"])
        assert fleet.heard("said").startswith("plain")
        assert fleet.run(run.id).state is RunState.SENT

    assert fleet.state(run.id).state is RunState.SUCCEEDED


def test_a_hard_limit_of_gevents_own_is_a_timeout_of_the_run(fleet: Fleet) -> None:
    fleet.worker("gevent", lease=600)
    run = fleet.asked("digest", "shop.hold", "here", options={"time_limit": 1})

    fleet.send(run.id)

    ended = fleet.state(run.id)
    assert (ended.state, ended.outcome) == (RunState.TIMED_OUT, Outcome.TIMED_OUT)
