"""A node without any app runs what a person has typed: commands where that is switched on, and requests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.service import Service
from tests.newcomer.serving import ran, serving, wait_for

from onebeat import Onebeat, Run, RunState

ONEBEAT = (sys.executable, "-m", "onebeat")

pytestmark = pytest.mark.slow


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


def add(folder: Path, name: str, *words: str) -> str:
    done = ran(folder, *ONEBEAT, "schedule", "add", name, "--in", "0s", *words)
    assert done.returncode == 0, done.stderr
    return done.stderr


def the_run(beat: Onebeat, name: str, state: RunState) -> Run | None:
    return next((run for run in beat.runs.list(schedule=name) if run.state is state), None)


def test_what_was_typed_runs_on_a_node_that_was_told_to(tmp_path: Path, service: Service) -> None:
    told = {"ONEBEAT_SHELL": "1", "ONEBEAT_HTTP_ALLOW": "127.0.0.1", "TOKEN": "t0k-s3cret"}
    with serving(tmp_path, [*ONEBEAT, "serve"], **told) as beat:
        add(tmp_path, "words", "--shell", "printf '%s|' 'a b' $HOME")
        add(tmp_path, "hook", "--http", f"{service.url}/echo", "--header", "Authorization: Bearer env:TOKEN")
        words = wait_for(beat, lambda: the_run(beat, "words", RunState.SUCCEEDED))
        hook = wait_for(beat, lambda: the_run(beat, "hook", RunState.SUCCEEDED))

    assert words.result == {"exit_status": 0, "tail": "a b|$HOME|"}
    assert hook.result["status"] == 200
    assert service.asked[0]["headers"]["Authorization"] == "Bearer t0k-s3cret"
    assert b"s3cret" not in (tmp_path / "onebeat.db").read_bytes()


def test_on_a_node_that_was_not_told_to_they_are_parked_and_a_person_is_told_why(
    tmp_path: Path, service: Service
) -> None:
    with serving(tmp_path, [*ONEBEAT, "serve"]) as beat:
        noted = add(tmp_path, "words", "--shell", "true")
        add(tmp_path, "hook", "--http", service.url)
        wait_for(beat, lambda: the_run(beat, "words", RunState.PARKED))
        wait_for(beat, lambda: the_run(beat, "hook", RunState.PARKED))

    assert "--shell" in noted
    assert service.asked == []
