"""Row 23: an effect in the transaction that ends its run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.seed import lent
from tests.seed.cluster import T0, Cluster, ledger_at
from tests.seed.lent import COMMITTED, DEATHS, LEASE, SECOND, Lab, Step, effects, prepare, write
from tests.seed.processes import TOP
from tests.servers.ledgers import append

from onebeat import CurrentRun, InvalidInput, Onebeat, Run, call, cron
from onebeat.core.messages import Cancel, Claim, Done, Entry, EventQuery, Lost, RunQuery, Start
from onebeat.core.model import Outcome, RunState
from onebeat.core.ports import Sharing
from onebeat.engine.executors.python import PythonExecutor
from onebeat.testing.clock import VirtualClock

pytestmark = pytest.mark.slow

SERVED = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in lent.KINDS if kind != "sqlite"]
on_every_database = pytest.mark.parametrize("home", ["sqlite", *SERVED], indirect=True)
on_every_server = pytest.mark.parametrize("home", SERVED, indirect=True)


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that is named for its database, and stands for one ledger there, with the user's table."""
    place = tmp_path / request.param
    place.mkdir()
    return place


def made(home: Path, body: Callable[[CurrentRun], object], **policy: object) -> Lab:
    """A node on a new ledger that owes one occurrence."""
    clock = VirtualClock(T0)
    lab = Lab(home, clock, body)
    prepare(lab.store, **policy)
    clock.advance(2 * SECOND)
    return lab


def the_run(lab: Lab) -> Run:
    (run,) = lab.store.runs(RunQuery())
    return run


def kinds(lab: Lab) -> list[str]:
    return [event.kind for event in lab.store.events(EventQuery(run_id=the_run(lab).id))]


@pytest.mark.parametrize("death", DEATHS)
@on_every_database
def test_seed_23_wherever_its_process_is_killed_effect_and_success_are_there_once(
    home: Path, death: str
) -> None:
    clock = VirtualClock(T0)
    store = ledger_at(home, clock)
    prepare(store)
    store.close()

    died = subprocess.run(
        [sys.executable, "-m", "tests.seed.lent", str(home), death], cwd=TOP, check=False, timeout=60
    )
    assert died.returncode == -signal.SIGKILL
    clock.advance(2 * SECOND)
    lab = Lab(home, clock, lambda run: write(home, run))
    assert len(effects(lab.store)) == (death == COMMITTED)
    lab.step()
    clock.advance(LEASE + SECOND)
    lab.step()

    run = the_run(lab)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 1 if death == COMMITTED else 2)
    assert effects(lab.store) == [(run.id, run.token)]
    lab.store.close()


@pytest.mark.parametrize("commit", [lent.unheard, lent.undone])
@on_every_database
def test_seed_23_a_commit_without_an_answer_is_found_out_and_never_reported_before(
    home: Path, commit: Callable[[Step], None]
) -> None:
    lab = made(home, lambda run: write(home, run))
    once = [commit]
    lab.commit = lambda run: once.pop()(run) if once else run("COMMIT")

    lab.step()

    run = the_run(lab)
    assert (run.state, run.attempt) == (RunState.SUCCEEDED, 1 if commit is lent.unheard else 2)
    assert effects(lab.store) == [(run.id, run.token)]
    assert kinds(lab) == ([] if commit is lent.unheard else ["attempt.lost"])
    assert lab.metrics.value("onebeat_attempts_total", "succeeded") == 1
    assert not lab.worker.holding
    lab.store.close()


@on_every_database
def test_seed_23_a_body_that_fails_leaves_nothing_and_is_tried_again(home: Path) -> None:
    def body(run: CurrentRun) -> None:
        write(home, run)
        if run.attempt == 1:
            raise ValueError("after the effect")

    lab = made(home, body, attempts=2, backoff=SECOND, report_success=True)
    lab.step()
    assert effects(lab.store) == []
    lab.clock.advance(2 * SECOND)
    lab.step()

    run = the_run(lab)
    assert (run.state, run.attempt, effects(lab.store)) == (RunState.SUCCEEDED, 2, [(run.id, run.token)])
    assert kinds(lab) == ["attempt.failed", "run.succeeded"]
    lab.store.close()


@on_every_database
def test_seed_23_a_body_that_commits_by_itself_fails_and_is_told_why(home: Path) -> None:
    def body(run: CurrentRun) -> None:
        write(home, run)
        run.connection.cursor().execute("COMMIT")

    lab = made(home, body)
    lab.step()

    run = the_run(lab)
    assert run.state is RunState.FAILED
    assert "has not left the transaction as it was lent" in (run.error or "")
    assert len(effects(lab.store)) == 1  # what it committed stands
    lab.store.close()


@on_every_server
def test_seed_23_a_cancel_or_a_lost_lease_while_the_body_runs_undoes_all_of_it(home: Path) -> None:
    def cancelled(run: CurrentRun) -> None:
        write(home, run)
        lab.store.advance([Cancel(run_id=run.id)])

    lab = made(home, cancelled)
    lab.step()

    assert (the_run(lab).state, effects(lab.store)) == (RunState.CANCELLED, [])
    lab.clock.advance(3600 * SECOND)

    def lost(run: CurrentRun) -> None:
        write(home, run)
        lab.clock.advance(2 * LEASE)
        verdict = Done(state=RunState.FAILED, reason="lost")
        lab.store.advance([Lost(run_id=run.id, token=run.token, verdict=verdict)])

    lab.executor.register("lent:body", lost)
    lab.step()

    assert [run.state for run in lab.store.runs(RunQuery())] == [RunState.FAILED, RunState.CANCELLED]
    assert effects(lab.store) == []
    lab.store.close()


@on_every_database
def test_seed_23_a_body_past_its_timeout_commits_nothing_when_it_returns(home: Path) -> None:
    began, go = threading.Event(), threading.Event()

    def body(run: CurrentRun) -> None:
        write(home, run)
        began.set()
        go.wait()

    lab = made(home, body)
    lab.dispatcher.step()
    wish = Claim(
        holder="node",
        queues=("default",),
        targets=("python:lent:body",),
        limit=1,
        until=lab.clock.now() + LEASE,
    )
    (claimed,) = lab.store.claim(wish)
    lab.store.advance([Start(run_id=claimed.run.id, token=claimed.run.token)])
    run = lab.store.run(claimed.run.id)
    assert run is not None
    assert isinstance(lab.store, Sharing)
    executor = PythonExecutor(threads=1, clock=lab.clock, sharing=lab.store)
    executor.register("lent:body", body)
    ended = threading.Event()
    executor.connect(ended.set)
    executor.start(replace(claimed, run=run), lab.clock.now() + LEASE)
    began.wait()
    lab.clock.advance(6 * SECOND)
    (report,) = executor.overrun(lab.clock.now())
    go.set()
    ended.wait()

    assert report.outcome is Outcome.TIMED_OUT
    assert executor.reports() == []
    assert effects(lab.store) == []
    executor.close()
    lab.store.close()


def test_seed_23_a_ledger_without_transactions_refuses_such_a_schedule() -> None:
    with Onebeat("memory://") as beat, pytest.raises(InvalidInput, match="no transaction to lend"):
        beat.schedules.put("a", cron("0 9 * * *"), call("shop.orders:close"), transactional=True)


def test_seed_23_on_a_file_such_a_schedule_needs_a_timeout_below_a_third_of_the_lease(
    tmp_path: Path,
) -> None:
    with Onebeat(f"sqlite:///{tmp_path}/ledger.db") as beat:
        for timeout in (None, 10):
            with pytest.raises(InvalidInput, match="a timeout shorter than 10 s"):
                beat.schedules.put(
                    "a", "0 9 * * *", call("shop.orders:close"), transactional=True, timeout=timeout
                )
        beat.schedules.put("a", "0 9 * * *", call("shop.orders:close"), transactional=True, timeout=9)


REFUSALS = {
    "memory": "has no transaction to lend to a body",
    "redis": "has no transaction to lend to a body",
    "sqlite": "needs a timeout shorter than 10 s",
}
"""Where an entry of the inbox cannot have such a schedule, and what it is told."""


def test_seed_23_an_entry_that_wants_it_where_it_cannot_be_had_is_refused_and_told_why(
    cluster: Cluster, place: Path
) -> None:
    target = {"kind": "python", "address": "shop.orders:close"}
    trigger = {"kind": "cron", "fields": {"expression": "0 9 * * *"}}
    definition, such = {"target": target, "trigger": trigger}, {"policy": {"transactional": True}}
    cluster.node(roles=("dispatcher",))
    cluster.beat.schedules.put("there", "0 9 * * *", call("shop.orders:close"))

    wishes = [
        Entry(id="", kind="put", name="new", document=json.dumps({"definition": definition | such})),
        Entry(id="", kind="edit", name="there", document=json.dumps({"changes": such})),
        Entry(id="", kind="put", name="beside", document=json.dumps({"definition": definition})),
    ]
    for wish in wishes:
        append(cluster.store, wish)
    cluster.step()

    entries = cluster.store.entries(100, waiting=False)
    answers = {entry.name: entry.answer for entry in entries if entry.answer is not None}
    refused = place.name in REFUSALS
    assert {name: each.accepted for name, each in answers.items()} == {
        "beside": True,
        "new": not refused,
        "there": not refused,
    }
    for name in ("new", "there"):
        assert REFUSALS.get(place.name, "") in answers[name].why
    assert {row.name for row in cluster.beat.schedules.list()} == set(answers) - (
        {"new"} if refused else set()
    )
    assert cluster.row("there").definition.policy.transactional is not refused
