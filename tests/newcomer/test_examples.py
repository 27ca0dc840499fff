"""Every example does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import sqlite3
import sys
from pathlib import Path
from socket import socket
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.newcomer.serving import EXAMPLES, PATIENCE, example, ran, said, serving, wait_for

from onebeat import Onebeat, Run, RunState
from onebeat.core.model import instant_text

NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


def loaded(name: str) -> ModuleType:
    """The example as a module, as another program would import it."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(name: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name)]


def runs_of(beat: Onebeat, schedule: str, state: RunState) -> list[Run]:
    return [run for run in beat.runs.list(schedule=schedule) if run.state is state]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_can_be_imported_without_a_store(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBEAT_URL", "sqlite:////no/such/folder/onebeat.db")

    loaded(name)


def test_the_list_of_examples_has_each_of_them() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))

    assert sorted(listed) == NAMES


@pytest.mark.slow
def test_daily_report_serves_and_its_run_leaves_result_and_lines(tmp_path: Path) -> None:
    with serving(tmp_path, command("daily_report.py")) as beat:
        asked = beat.runs.request("daily-report")
        run = wait_for(beat, lambda: runs_of(beat, "daily-report", RunState.SUCCEEDED))[0]

        assert run.id == asked.id
        assert run.result == f"report of {asked.due_at:%Y-%m-%d}"
        assert beat.runs.logs(run.id)[0].text.startswith("reporting from ")


@pytest.mark.slow
def test_a_script_and_the_command_line_serve_the_same_schedule(tmp_path: Path) -> None:
    with serving(tmp_path, command("daily_report.py")) as beat:
        declared = beat.schedules.show("daily-report").schedule.definition.target.address
    assert declared == "daily_report:daily_report"


@pytest.mark.slow
def test_act_now_acts(tmp_path: Path) -> None:
    done = example(tmp_path, "act_now.py")

    assert done.returncode == 0, done.stderr
    assert "close-order-17 is due at" in done.stdout
    assert "refused: there is a schedule stock already" in done.stdout
    assert "schedule.edited by the shop (the supplier asked for it)" in done.stdout
    assert done.stdout.splitlines()[-1] == "['stock']"


@pytest.mark.slow
def test_when_shows_the_morning_without_half_past_two(tmp_path: Path) -> None:
    done = example(tmp_path, "when.py")

    assert done.returncode == 0, done.stderr
    assert "2026-03-08T03:00:00-04:00" in done.stdout
    assert not (tmp_path / "onebeat.db").exists()


@pytest.mark.slow
def test_charge_once_charges_each_occurrence_once(tmp_path: Path) -> None:
    payments = str(tmp_path / "payments.db")
    with serving(tmp_path, command("charge_once.py"), PAYMENTS=payments) as beat:
        wait_for(beat, lambda: len(runs_of(beat, "subscription-17", RunState.SUCCEEDED)) >= 2)
    with Onebeat(f"sqlite:///{tmp_path / 'onebeat.db'}") as beat:
        run_ids = {run.id for run in beat.runs.list(schedule="subscription-17")}
    charged = sqlite3.connect(payments)
    rows = [run for (run,) in charged.execute("SELECT run FROM charge")]
    charged.close()

    assert len(rows) == len(set(rows)) >= 2
    assert set(rows) <= run_ids


def test_charge_once_knows_a_second_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENTS", str(tmp_path / "payments.db"))
    charge = loaded("charge_once.py").charge
    run: Any = SimpleNamespace(id="subscription-17@20261121T010000Z")

    assert charge(run, 17, 990) == "charged"
    assert charge(run, 17, 990) == "had been charged already"


def test_fenced_export_refuses_the_smaller_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORTS", str(tmp_path / "exports.db"))
    module = loaded("fenced_export.py")
    module.write("hourly", "the later attempt", 8)

    with pytest.raises(module.TooLateError, match="larger than 7"):
        module.write("hourly", "the body that was asleep", 7)


@pytest.mark.slow
def test_commit_together_books_each_success_once_and_takes_an_order_with_its_deadline(tmp_path: Path) -> None:
    with serving(tmp_path, command("commit_together.py")) as beat:
        wait_for(beat, lambda: len(runs_of(beat, "book-interest", RunState.SUCCEEDED)) >= 2)
        done = ran(tmp_path, *command("commit_together.py"), "17")
        assert done.returncode == 0, done.stderr
        assert beat.schedules.show("close-17").schedule.next_at is not None
    with Onebeat(f"sqlite:///{tmp_path / 'onebeat.db'}") as beat:
        succeeded = sorted(run.id for run in runs_of(beat, "book-interest", RunState.SUCCEEDED))
    there = sqlite3.connect(tmp_path / "onebeat.db")
    booked = sorted(run for (run,) in there.execute("SELECT run FROM booked"))
    orders = there.execute("SELECT number FROM orders").fetchall()
    there.close()

    assert booked == succeeded
    assert orders == [(17,)]


@pytest.mark.slow
def test_long_body_says_how_far_it_is_and_stops_when_cancelled(tmp_path: Path) -> None:
    words = ["--app", "long_body:beat", "serve", "--lease", "1s"]  # cancelling is told with a renewal
    with serving(tmp_path, [sys.executable, "-m", "onebeat", *words], PYTHONPATH=str(EXAMPLES)) as beat:
        run = beat.runs.request("rebuild-index")
        wait_for(beat, lambda: beat.runs.show(run.id).run.progress)
        beat.runs.cancel(run.id)
        ended = wait_for(beat, lambda: runs_of(beat, "rebuild-index", RunState.CANCELLED))[0]

        assert ended.error is not None
        assert "cancelled" in ended.error
        assert any("stopping at part" in line.text for line in beat.runs.logs(run.id))


@pytest.mark.slow
def test_many_at_once_asks_every_feed(tmp_path: Path) -> None:
    with serving(tmp_path, command("many_at_once.py")) as beat:
        feeds = loaded("many_at_once.py").FEEDS

        def asked_feeds() -> set[str]:
            runs = beat.runs.list(states=[RunState.SUCCEEDED], limit=10 * feeds)
            return {run.schedule for run in runs}

        wait_for(beat, lambda: len(asked_feeds()) == feeds)


@pytest.mark.slow
def test_in_processes_keeps_one_warm_and_kills_what_never_ends(tmp_path: Path) -> None:
    with serving(tmp_path, command("in_processes.py")) as beat:
        stopped = wait_for(beat, lambda: runs_of(beat, "runaway", RunState.TIMED_OUT))[0]
        wait_for(beat, lambda: runs_of(beat, "count-primes", RunState.SUCCEEDED)[3:])
        counted = runs_of(beat, "count-primes", RunState.SUCCEEDED)

        assert "SIGTERM" in (stopped.error or "")
        assert {run.result["primes"] for run in counted} == {9592}
        lines = beat.runs.logs(counted[-1].id)  # of the first run: what it loaded, later ones found
        assert [line.text for line in lines] == ["looking for the primes below 100,000"]


@pytest.mark.slow
def test_watch_failures_writes_to_the_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager.txt"
    with serving(tmp_path, command("watch_failures.py"), PAGER_FILE=str(pager)) as beat:
        wait_for(beat, pager.exists)

    assert re.match(
        r"send-invoices@[\w.]+ failed: attempt 2 of 2 failed\n", pager.read_text(encoding="utf-8")
    )


@pytest.mark.slow
def test_on_failure_asks_once_for_each_failure(tmp_path: Path) -> None:
    with serving(tmp_path, command("on_failure.py")) as beat:
        repaired = wait_for(beat, lambda: runs_of(beat, "repair-prices", RunState.SUCCEEDED))[0]
        (asked_for,) = [each for each in beat.runs.show(repaired.id).events if each.kind == "run.requested"]

        assert re.match(r"import-prices@[\w.]+: attempt 1 of 1 failed", asked_for.reason)
        assert repaired.result == f"repaired, asked for as {repaired.id}"


@pytest.mark.slow
def test_run_commands_keeps_what_programs_say(tmp_path: Path) -> None:
    with serving(tmp_path, command("run_commands.py")) as beat:
        disk = wait_for(beat, lambda: runs_of(beat, "disk", RunState.SUCCEEDED))[0]
        newest = wait_for(beat, lambda: runs_of(beat, "newest", RunState.SUCCEEDED))[0]

        assert disk.result["exit_status"] == 0
        assert beat.runs.logs(disk.id)[0].text.startswith("Filesystem")
        assert newest.occurrence_at is not None
        assert beat.runs.logs(newest.id)[0].text == f"for {instant_text(newest.occurrence_at)}:"


@pytest.mark.slow
def test_call_services_charges_each_occurrence_once(tmp_path: Path) -> None:
    with socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with serving(tmp_path, command("call_services.py"), PORT=str(port)) as beat:
        wait_for(beat, lambda: runs_of(beat, "charge-17", RunState.SUCCEEDED)[1:])
        done = runs_of(beat, "charge-17", RunState.SUCCEEDED)

        said = sorted(json.loads(run.result["body"])["charges"] for run in done)
        assert said == list(range(1, len(done) + 1))
        assert {run.attempt for run in done} == {2}


@pytest.mark.slow
def test_inside_a_host_starts_serves_and_ends(tmp_path: Path) -> None:
    done = example(tmp_path, "inside_a_host.py")

    assert done.returncode == 0, done.stderr
    assert "refreshed for" in done.stdout


@pytest.mark.slow
def test_fastapi_app_closes_what_is_not_paid_and_leaves_alone_what_is(tmp_path: Path) -> None:
    words = ["-m", "uvicorn", "fastapi_app:app", "--port", "0", "--app-dir", str(EXAMPLES)]
    with serving(tmp_path, [sys.executable, *words], status=-signal.SIGTERM) as beat:
        (address,) = wait_for(beat, lambda: re.findall(r"running on (http://[\d.:]+)", said(tmp_path)))

        assert asked(f"{address}/orders/1?within=0.1", "POST")["closes_at"]
        assert asked(f"{address}/orders/2", "POST") == asked(f"{address}/orders/2", "POST")
        assert asked(f"{address}/orders/2/deadline", "DELETE") == {"paid": True}
        wait_for(beat, lambda: runs_of(beat, "close-order-1", RunState.SUCCEEDED))

        assert asked(f"{address}/orders/1") == {"open": False}
        assert asked(f"{address}/orders/2") == {"open": True}
        node = beat.nodes.list(alive=True)[0].id
        assert [row.name for row in beat.schedules.list()] == ["close-order-1"]
    with Onebeat(f"sqlite:///{tmp_path / 'onebeat.db'}") as beat:
        assert beat.nodes.list(alive=True) == [], f"{node} said goodbye"


def asked(url: str, method: str = "GET") -> Any:
    """Ask a server of ours, and return what it answers."""
    with urlopen(Request(url, method=method), timeout=PATIENCE.seconds) as answer:
        return json.load(answer)
