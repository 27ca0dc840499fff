"""Python functions in processes: warm, heard, killed when they have to be, and gone with their node."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engine import grinding

from onebeat import call, process
from onebeat.core.errors import InvalidInput, TargetNotFound
from onebeat.core.messages import Report
from onebeat.core.model import Outcome, Target
from onebeat.engine.executors.output import HEAD_BYTES_MAX, TAIL_BYTES_MAX
from onebeat.engine.executors.process import ProcessExecutor
from onebeat.testing.conformance_executor import PATIENCE_S, SECOND, Watched

SOON = timedelta(seconds=0.05)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched(
        ProcessExecutor(processes=2, allow=["tests.engine.grinding"], look=60 * SECOND, grace=SOON)
    )
    yield watched
    watched.executor.close()


def ends(watched: Watched, body: Any, *args: Any, **policy: Any) -> Report:
    watched.start(process(body, *args), **policy)
    return watched.only()


def there(path: Path) -> str:
    """Wait for a file, which is there whole or not at all, and return what is in it."""
    subprocess.run(
        ["/bin/sh", "-c", 'until [ -e "$1" ]; do sleep 0.05; done', "sh", path],
        check=True,
        timeout=PATIENCE_S,
    )
    return path.read_text(encoding="utf-8")


def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], PATIENCE_S)
        if not ended:  # it must not outlive a test that has failed, too
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert ended, f"process {pid} is still there"
    finally:
        os.close(handle)


# --- warm ---


def test_one_process_runs_one_body_after_the_other_and_keeps_what_they_made(watched: Watched) -> None:
    told = [tuple(ends(watched, grinding.tells, token=token).result) for token in range(20)]

    ((pid, connections),) = set(told)
    assert pid != os.getpid()
    assert connections == 1


def test_a_coroutine_function_finds_its_loop_again(watched: Watched) -> None:
    assert len({tuple(ends(watched, grinding.awaits).result) for _ in range(3)}) == 1


# --- how a process ends ---


@pytest.mark.parametrize(
    ("body", "args", "error_type"),
    [
        (grinding.exits, (3,), "exit 3"),
        (grinding.exits, (0,), "exit 0"),
        (grinding.exits_at_once, (4,), "exit 4"),
        (grinding.is_killed, (), "SIGKILL"),
        (grinding.crashes, (), "SIGSEGV"),
    ],
)
def test_a_process_that_dies_fails_its_attempt_with_its_status_and_is_replaced(
    watched: Watched, body: Any, args: tuple[int, ...], error_type: str
) -> None:
    before = ends(watched, grinding.tells).result[0]

    report = ends(watched, body, *args)
    assert (report.outcome, report.error_type) == (Outcome.FAILED, error_type)
    assert "before the body returned" in (report.error or "")
    after = ends(watched, grinding.tells).result[0]
    assert after != before
    gone(before)


def test_a_process_that_dies_takes_with_it_what_its_body_had_begun(watched: Watched, tmp_path: Path) -> None:
    watched.start(process(grinding.will_not_end, str(tmp_path / "pids")))
    leader, child = (int(word) for word in there(tmp_path / "pids").split())
    os.kill(leader, signal.SIGKILL)

    assert watched.only().error_type == "SIGKILL"
    gone(child)


def test_the_last_words_of_a_process_are_kept(watched: Watched) -> None:
    report = ends(watched, grinding.exits_at_once, 4)

    (note,) = watched.executor.notes()
    assert [line.text for line in note.lines] == ["the last words"]
    assert (report.error or "").endswith("the last words")


def test_retry_on_lists_signals_and_exit_statuses(watched: Watched) -> None:
    report = ends(watched, grinding.is_killed, retry_on=("OSError", "signal"))

    assert report.error_type == "signal"


def test_a_process_that_died_between_two_bodies_fails_neither(watched: Watched) -> None:
    pid = ends(watched, grinding.tells).result[0]
    os.kill(pid, signal.SIGKILL)

    report = ends(watched, grinding.tells)
    assert report.outcome is Outcome.SUCCEEDED
    assert report.result[0] != pid


def test_an_error_comes_with_its_traceback_and_without_our_frames(watched: Watched) -> None:
    report = ends(watched, grinding.raises, retry_on=("OSError",))

    assert report.error_type == "OSError"
    assert "in raises" in (report.error or "")
    assert "executors/" not in (report.error or "")


# --- being stopped ---


def test_past_its_timeout_a_body_that_will_not_end_is_killed_with_what_it_forked(
    watched: Watched, tmp_path: Path
) -> None:
    run = watched.start(process(grinding.will_not_end, str(tmp_path / "pids")), timeout=5).run
    pids = [int(word) for word in there(tmp_path / "pids").split()]
    assert run.started_at is not None

    (report,) = watched.executor.overrun(run.started_at + 5 * SECOND)
    assert report.outcome is Outcome.TIMED_OUT
    assert watched.executor.free() == 1
    watched.wait(lambda: watched.executor.free() == 2)
    for pid in pids:
        gone(pid)


def test_a_body_that_is_told_and_looks_ends_by_itself_and_stays_warm(
    watched: Watched, tmp_path: Path
) -> None:
    pid = ends(watched, grinding.tells).result[0]
    run = watched.start(process(grinding.looks, str(tmp_path / "began"))).run
    there(tmp_path / "began")
    watched.executor.tell(run.id, run.token, "cancelled on request")

    report = watched.only()
    assert (report.outcome, report.result) == (Outcome.CANCELLED, "stopped: cancelled on request")
    assert ends(watched, grinding.tells).result[0] == pid


def test_a_body_is_no_longer_its_own_when_its_lease_has_lapsed(watched: Watched, tmp_path: Path) -> None:
    run = watched.start(process(grinding.looks, str(tmp_path / "began"))).run
    there(tmp_path / "began")
    watched.executor.renewed(run.id, run.token, watched.clock.now())

    assert watched.only().result == "stopped: None"


# --- what it says ---


def test_whatever_a_body_and_its_children_write_and_log_is_kept(watched: Watched) -> None:
    assert ends(watched, grinding.talks).outcome is Outcome.SUCCEEDED

    (note,) = watched.executor.notes()
    said = [(line.level, line.text) for line in note.lines]
    assert {
        ("info", "printed"),
        ("info", "written by hand"),
        ("info", "to stderr"),
        ("info", "by a child"),
        ("warning", "from a library"),
        ("info", "from the run"),
    } == set(said)
    assert note.progress == (2, 3)


def test_what_is_logged_where_no_run_is_known_is_kept_as_if_printed(watched: Watched) -> None:
    ends(watched, grinding.logs_aside)

    (note,) = watched.executor.notes()
    assert [(line.level, line.text) for line in note.lines] == [("info", "from a thread")]


def test_a_flood_of_output_is_bounded_and_holds_nobody_up(watched: Watched) -> None:
    assert ends(watched, grinding.floods, 50).outcome is Outcome.SUCCEEDED

    lines = [line.text for note in watched.executor.notes() for line in note.lines]
    assert sum(map(len, lines)) < HEAD_BYTES_MAX + TAIL_BYTES_MAX + 1000
    assert any("bytes of output were dropped" in line for line in lines)


# --- what may run ---


def test_a_function_within_another_is_refused() -> None:
    def inner() -> None:
        """Be out of reach."""

    executor = ProcessExecutor(allow=[inner])
    with pytest.raises(TargetNotFound, match="inside another one"):
        executor.resolve(process(inner))


def test_a_target_for_a_process_is_checked_as_one_for_a_thread() -> None:
    assert process("shop.orders:close", 17, fast=True) == Target(
        kind="process", address="shop.orders:close", args=(17,), kwargs={"fast": True}
    )
    assert process(grinding.tells).address == call(grinding.tells).address
    with pytest.raises(InvalidInput, match="module:function"):
        process("close")
    with pytest.raises(InvalidInput, match="JSON"):
        process("shop.orders:close", object())  # type: ignore[arg-type]  # what a person may write


# --- the end ---


def test_closed_it_lets_idle_processes_end_in_order(watched: Watched, tmp_path: Path) -> None:
    ends(watched, grinding.leaves, str(tmp_path / "left"))
    pid = ends(watched, grinding.tells).result[0]

    watched.executor.close()

    gone(pid)
    assert (tmp_path / "left").exists()


NODE = """
import sys, threading
from onebeat import process
from onebeat.engine.executors.process import ProcessExecutor
from onebeat.testing.conformance_executor import Watched
watched = Watched(ProcessExecutor(processes=1, allow=["tests.engine.grinding"]))
watched.start(process("tests.engine.grinding:" + sys.argv[1], sys.argv[2]))
threading.Event().wait()
"""


@pytest.mark.parametrize("body", ["will_not_end", "holds_the_interpreter"])
def test_a_node_that_is_killed_takes_its_processes_and_what_they_forked_with_it(
    tmp_path: Path, body: str
) -> None:
    pids = tmp_path / "pids"
    node = subprocess.Popen([sys.executable, "-c", NODE, body, str(pids)])
    try:
        found = [int(word) for word in there(pids).split()]
    finally:
        node.kill()
        node.wait()

    for pid in found:
        gone(pid)


SCRIPT = """
import sys
from onebeat import Onebeat, process

beat = Onebeat("memory://")

def works():
    print("it worked")

def look():
    from onebeat.engine.executors.process import ProcessExecutor
    from onebeat.testing.conformance_executor import Watched
    watched = Watched(ProcessExecutor(processes=1, allow=["script"]))
    target = process(works)
    watched.executor.resolve(target)
    assert "script" not in sys.modules
    watched.start(target)
    print(watched.only().error)

GUARD
"""


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ("if __name__ == '__main__':\n    look()", "None"),
        ("look() if __name__ == '__main__' else beat.serve()", "if __name__ == '__main__'"),
    ],
)
def test_a_script_that_serves_when_it_is_imported_is_told_so(tmp_path: Path, guard: str, said: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", guard), encoding="utf-8")
    top = Path(grinding.__file__).parent.parent.parent

    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(top)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert said in done.stdout, done.stdout + done.stderr
