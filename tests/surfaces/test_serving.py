"""Real nodes: started, told to stop, and what their commands answer on one file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.stage import Town, close

from onebeat import InvalidInput, Onebeat, interval, seconds
from onebeat.core.errors import SchemaMismatch
from onebeat.engine.service import Service
from onebeat.store import migrations

APP = """
import logging, os, sys
from onebeat import Event, Onebeat, CurrentRun, interval, seconds

beat = Onebeat()

@beat.scheduled(interval(seconds=1), overlap="allow")
def tick(run: CurrentRun) -> None:
    logging.getLogger("shop").info("counted by a library")
    print("ticked", run.id, flush=True)

@beat.scheduled(interval(seconds=1), name="long")
def stand_still(run: CurrentRun) -> None:
    print("standing", flush=True)
    while run.still_mine():
        pass
"""


class Node:
    """One `onebeat serve` in a process of its own. What it says is read line by line."""

    def __init__(self, folder: Path, *words: str) -> None:
        environment = os.environ | {"ONEBEAT_URL": f"sqlite:///{folder}/a.db", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onebeat", "serve", "--app", "shop_app:beat", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []

    def read_until(self, words: str) -> str:
        """Read lines until one says so; the test's own timeout bounds it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"never said {words!r}: {''.join(self.said)}")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        self.said.append(rest)
        return self.process.returncode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop_app.py").write_text(APP, encoding="utf-8")
    return tmp_path


@pytest.fixture
def nodes(folder: Path) -> Iterator[list[Node]]:
    started: list[Node] = []
    yield started
    for node in started:
        if node.process.poll() is None:
            node.process.kill()
            node.process.communicate()


def ask(folder: Path, *words: str, status: int = 0) -> Any:
    environment = os.environ | {"ONEBEAT_URL": f"sqlite:///{folder}/a.db"}
    done = subprocess.run(
        [sys.executable, "-m", "onebeat", *words, "--json"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_told_to_stop_ends_in_order_with_0(
    folder: Path, nodes: list[Node], number: signal.Signals
) -> None:
    node = Node(folder, "--grace", "0s")
    nodes.append(node)
    node.read_until("standing")
    node.read_until("ticked")

    assert node.end(number) == 0, "".join(node.said)
    (gone,) = ask(folder, "node", "list", "--all")["nodes"]
    assert gone["stopping"] is True
    assert ask(folder, "node", "list")["nodes"] == []
    runs = ask(folder, "run", "list", "--schedule", "tick")["runs"]
    assert "succeeded" in {run["state"] for run in runs}
    (line,) = (line for line in node.said if f"[{runs[-1]['id']}] counted by a library" in line)
    assert " INFO shop " in line
    (kept,) = ask(folder, "run", "logs", runs[-1]["id"])["lines"]
    assert (kept["level"], kept["text"]) == ("info", "counted by a library")
    assert not [run for run in ask(folder, "run", "list")["runs"] if run["state"] == "running"]
    assert ask(folder, "audit")["right"] is True


@pytest.mark.slow
def test_two_nodes_serve_one_file_and_commands_act_on_both(folder: Path, nodes: list[Node]) -> None:
    nodes += [Node(folder, "--roles", "dispatcher"), Node(folder, "--roles", "worker", "--grace", "0s")]
    nodes[1].read_until("ticked")

    assert len(ask(folder, "node", "list")["nodes"]) == 2
    assert ask(folder, "schedule", "pause", "tick")["schedule"]["paused"] == ""
    run = ask(folder, "schedule", "run", "tick", "--key", "by-hand")["runs"][0]
    nodes[1].read_until(run["id"])
    for node in nodes:
        assert node.end(signal.SIGTERM) == 0, "".join(node.said)
    assert ask(folder, "audit")["right"] is True


@pytest.mark.slow
def test_a_second_signal_ends_a_node_at_once(folder: Path, nodes: list[Node]) -> None:
    node = Node(folder, "--grace", "1h")
    nodes.append(node)
    node.read_until("standing")
    node.process.send_signal(signal.SIGTERM)

    # What was standing still for an hour is not waited for: the second signal is the ordinary one.
    while node.process.poll() is None:
        node.process.send_signal(signal.SIGTERM)
    node.process.communicate()
    assert node.process.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_no_migrate_refuses_a_ledger_without_tables(folder: Path) -> None:
    environment = os.environ | {"ONEBEAT_URL": f"sqlite:///{folder}/a.db"}
    done = subprocess.run(
        [sys.executable, "-m", "onebeat", "serve", "--no-migrate"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == SchemaMismatch.exit_status
    assert "onebeat migrate" in done.stderr


@pytest.mark.slow
def test_a_ledger_is_migrated_by_hand_and_its_sql_changes_nothing(folder: Path) -> None:
    assert "CREATE TABLE" in ask(folder, "migrate", "--sql")["sql"]
    assert not (folder / "a.db").exists()
    steps = [f"{step.number:03} {step.step} {step.what}" for step in migrations.steps("sqlite")]
    assert ask(folder, "migrate")["made"] == steps
    assert ask(folder, "migrate")["made"] == []
    assert "CREATE TABLE onebeat_schedules" not in ask(folder, "migrate", "--sql")["sql"]


# --- in this process ------------------------------------------------------------------------------------


def test_a_node_off_the_main_thread_serves_and_leaves_signals_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    beat = Onebeat(f"sqlite:///{tmp_path}/a.db")
    ended = threading.Event()

    @beat.scheduled(interval(seconds=0.05))
    def body() -> None:
        ended.set()

    serving: list[Service] = []
    answers: list[bool] = []
    ready = threading.Event()

    def serve() -> None:
        def keep(service: Service) -> None:
            serving.append(service)
            ready.set()

        answers.append(beat.serve(grace=seconds(5), ready=keep))

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(30)
    assert ended.wait(30)
    serving[0].stop()
    thread.join(60)

    assert answers == [True]
    assert signal.getsignal(signal.SIGTERM) is before
    beat.close()


def test_signals_are_given_back_when_a_node_ends(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    beat = Onebeat(f"sqlite:///{tmp_path}/a.db")

    assert beat.serve(("dispatcher",), ready=lambda service: service.stop())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    beat.close()


def test_a_role_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'worker'"):
        Town().app().service(("workr",))


def test_a_node_reconciles_before_it_serves() -> None:
    town = Town()
    beat = town.app()
    beat.declare("a", interval(hours=1), close)

    beat.service(("dispatcher",))

    assert [row.name for row in beat.schedules.list()] == ["a"]


def test_a_start_is_idempotent_and_additive() -> None:
    # Fifty starts leave the store as one does: nothing is cleared, nothing reloaded.
    town = Town()
    by_hand = town.app("bob").schedules.put("by-hand", interval(hours=1), close).schedule

    def start() -> None:
        beat = town.app()
        beat.declare("a", interval(hours=1), close)
        beat.service(("dispatcher",))

    start()
    first = town.app().schedules.list()
    for _ in range(49):
        start()

    assert town.app().schedules.list() == first
    assert by_hand in first
