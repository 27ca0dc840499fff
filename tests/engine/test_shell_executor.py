"""Commands run as processes of their own, hear when to stop, and cost what they are allowed to cost."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, ClassVar

import pytest

from onebeat import shell
from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.errors import TargetNotFound
from onebeat.core.messages import LogLine
from onebeat.core.model import Json, Outcome, Target
from onebeat.engine.executors import shell as module
from onebeat.engine.executors.output import HEAD_BYTES_MAX, LINES_ALONE_MAX, TAIL_BYTES_MAX, Output
from onebeat.engine.executors.shell import ShellExecutor
from onebeat.testing.conformance_executor import PATIENCE_S, ExecutorSuite, Watched

NODE = {
    "PATH": os.environ["PATH"],
    "HOME": "/tmp",
    "ONEBEAT_URL": "postgresql://u:s3cret@h/d",
    "TOKEN": "t0k-s3cret",
}
MIB = 1024 * 1024


def sh(script: str, **given: object) -> Target:
    return shell(["/bin/sh", "-c", script], **given)  # type: ignore[arg-type]  # as a test writes them


class Gate:
    """A lock that a command waits for until the test opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[bytes] | None = None

    def shut(self) -> None:
        self.file = self.path.open("wb")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def open(self) -> None:
        if self.file is not None:
            self.file.close()

    @property
    def command(self) -> str:
        return f"flock {self.path} true"


class TestShell(ExecutorSuite):
    good_result: ClassVar[Json] = {"exit_status": 0, "tail": "all is well"}
    line = "all is well"

    @pytest.fixture(autouse=True)
    def _gate(self, tmp_path: Path) -> None:
        self.gate = Gate(tmp_path / "gate")

    def executor(self) -> ShellExecutor:
        return ShellExecutor(slots=4, on=True)

    def ready(self) -> None:
        self.gate.shut()

    def let_go(self) -> None:
        self.gate.open()

    def good(self) -> Target:
        return sh("echo all is well")

    def bad(self) -> Target:
        return sh("head -c 100000 /dev/zero | tr '\\0' x; exit 3")

    def large(self) -> Target:
        return sh("head -c 1000000 /dev/zero | tr '\\0' x")

    def hangs(self) -> Target:
        return sh(self.gate.command)

    def refused(self) -> Target:
        return shell(["/no/such/program"])


@pytest.fixture
def watched() -> Iterator[Watched]:
    executor = ShellExecutor(slots=4, on=True, environ=NODE)
    yield Watched(executor)
    executor.close()


def lines(watched: Watched) -> list[LogLine]:
    return [line for note in watched.executor.notes() for line in note.lines]


def texts(watched: Watched) -> list[str]:
    return [line.text for line in lines(watched)]


class Ear:
    """A pipe with a name: commands write a number into it, and a test waits for that."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.file = path.open("r+b", buffering=0)  # for writing too: so it never ends

    def number(self) -> int:
        assert select.select([self.file], [], [], PATIENCE_S)[0], "nothing was said"
        return int(self.file.readline())


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(tmp_path / "ear")
    yield ear
    ear.file.close()


def wait_for_end(pid: int) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            assert select.select([handle], [], [], PATIENCE_S)[0], f"process {pid} goes on"
        finally:
            os.close(handle)


# --- whether it may run ---------------------------------------------------------------------------------


def test_commands_are_off_until_they_are_switched_on() -> None:
    with pytest.raises(TargetNotFound, match="ONEBEAT_SHELL=1"):
        ShellExecutor().resolve(shell(["true"]))

    ShellExecutor(on=True).resolve(shell(["true"]))


def test_a_program_that_is_not_there_is_refused_with_the_nearest() -> None:
    executor = ShellExecutor(on=True)

    with pytest.raises(TargetNotFound, match="did you mean 'sleep'"):
        executor.resolve(shell(["sleeep"]))
    with pytest.raises(TargetNotFound, match="is not there"):
        executor.resolve(shell(["/bin/sleeep"]))
    with pytest.raises(TargetNotFound, match="may not be run"):
        executor.resolve(shell(["/etc/passwd"]))


# --- what it is given -----------------------------------------------------------------------------------


def test_no_shell_reads_the_words_of_a_command(watched: Watched) -> None:
    watched.start(shell(["printf", "%s|", "$HOME; ls", "*", "a b", "", "`id`"]))

    assert watched.only().result == {"exit_status": 0, "tail": "$HOME; ls|*|a b||`id`|"}


def test_a_command_gets_a_clean_environment_and_what_its_run_is(watched: Watched) -> None:
    run = watched.start(shell(["env"], env={"A": "1", "PGPASSWORD": "env:TOKEN"}), token=7).run
    watched.only()

    given = dict(text.split("=", 1) for text in texts(watched))
    assert run.occurrence_at is not None
    assert given == {
        "PATH": NODE["PATH"],
        "HOME": "/tmp",
        "A": "1",
        "PGPASSWORD": "env:TOKEN",
        "ONEBEAT_RUN_ID": run.id,
        "ONEBEAT_SCHEDULE": "a",
        "ONEBEAT_OCCURRENCE": run.occurrence_at.isoformat().replace("+00:00", "Z"),
        "ONEBEAT_ATTEMPT": "1",
        "ONEBEAT_TOKEN": "7",
    }


def test_a_secret_reaches_a_command_and_is_kept_out_of_what_it_says(watched: Watched) -> None:
    watched.start(sh('echo "$A"; test "$A" = t0k-s3cret && exit 3', env={"A": "env:TOKEN"}))

    report = watched.only()
    assert (report.error, report.result) == (
        "exit status 3\nenv:TOKEN",
        {"exit_status": 3, "tail": "env:TOKEN"},
    )
    assert texts(watched) == ["env:TOKEN"]


def test_a_reference_to_nothing_fails_before_anything_runs(watched: Watched) -> None:
    watched.start(shell(["env"], env={"PGPASSWORD": "env:TOKENS"}))

    report = watched.only()
    assert (report.outcome, report.error_type) == (Outcome.FAILED, "InvalidInput")
    assert "no variable TOKENS" in (report.error or "")
    assert texts(watched) == []


def test_a_command_reads_its_input_in_its_folder(watched: Watched, tmp_path: Path) -> None:
    watched.start(sh("pwd; cat", cwd=str(tmp_path), input="一\n" * 20_000))

    assert watched.only().outcome is Outcome.SUCCEEDED
    assert texts(watched)[:2] == [str(tmp_path), "一"]


def test_a_command_without_input_finds_its_end(watched: Watched) -> None:
    watched.start(shell(["cat"]))

    assert watched.only().result == {"exit_status": 0, "tail": ""}


# --- how it ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "error", "error_type"),
    [
        ("echo oh; exit 3", 3, "exit status 3\noh", "exit 3"),
        ("exit 255", 255, "exit status 255", "exit 255"),
        ("kill -9 $$", -9, "killed by SIGKILL", "SIGKILL"),
    ],
)
def test_an_end_that_is_no_success_is_told_with_its_status(
    watched: Watched, script: str, status: int, error: str, error_type: str
) -> None:
    watched.start(sh(script))

    report = watched.only()
    assert (report.outcome, report.error, report.error_type) == (Outcome.FAILED, error, error_type)
    assert report.result["exit_status"] == status


@pytest.mark.parametrize(
    ("retry_on", "error_type"), [(["exit"], "exit"), (["exit 75"], "exit 75"), (["signal"], "exit 75")]
)
def test_the_type_of_an_end_is_the_one_that_retry_on_names(
    watched: Watched, retry_on: list[str], error_type: str
) -> None:
    watched.start(sh("exit 75"), retry_on=retry_on)

    assert watched.only().error_type == error_type


def test_a_command_that_cannot_begin_fails_and_says_why(watched: Watched, tmp_path: Path) -> None:
    watched.start(sh("true", cwd="/no/such/folder"))
    missing = watched.only()
    (program := tmp_path / "program").write_text("no program\0")
    program.chmod(0o755)
    watched.start(shell([str(program)]))

    assert (missing.outcome, missing.error_type) == (Outcome.FAILED, "FileNotFoundError")
    assert "/no/such/folder" in (missing.error or "")
    assert "format" in (watched.only().error or "")


def test_an_exit_status_that_somebody_else_took_is_no_success(watched: Watched) -> None:
    # With this the kernel itself takes it; an `os.wait()` elsewhere in the process does the same.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        watched.start(shell(["true"]))
        report = watched.only()
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert (report.outcome, report.error_type) == (Outcome.FAILED, "ExitStatusUnknown")


# --- being told to stop ---------------------------------------------------------------------------------


def test_a_command_is_asked_to_end_before_it_is_killed(watched: Watched, ear: Ear) -> None:
    run = watched.start(sh(f"trap 'echo tidy; exit 0' TERM; sleep 1000 & echo $$ > {ear.path}; wait"))
    ear.number()

    watched.executor.tell(run.run.id, run.run.token, "cancelled on request")

    assert watched.only().outcome is Outcome.CANCELLED
    assert "tidy" in texts(watched)


def test_a_command_that_does_not_listen_is_killed_with_all_that_it_began(
    watched: Watched, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", timedelta(milliseconds=20))
    # `set -m` puts what runs in the background into groups of its own, in the same session.
    run = watched.start(sh(f"trap '' TERM; set -m; sleep 1000 & echo $! > {ear.path}; sleep 1000"), timeout=5)
    child = ear.number()
    assert run.run.started_at is not None

    (report,) = watched.executor.overrun(run.run.started_at + timedelta(seconds=5))

    assert report.outcome is Outcome.TIMED_OUT
    watched.wait(lambda: watched.executor.free() == 4)
    assert watched.executor.reports() == []
    wait_for_end(child)


def test_what_was_told_to_stop_is_killed_when_its_node_ends(watched: Watched, ear: Ear) -> None:
    run = watched.start(sh(f"trap '' TERM; echo $$ > {ear.path}; sleep 1000"))
    pid = ear.number()

    watched.executor.tell(run.run.id, run.run.token, "the node is shutting down")
    watched.executor.close()

    wait_for_end(pid)


# --- hostile --------------------------------------------------------------------------------------------


def test_a_child_that_lingers_is_killed_and_keeps_neither_slot_nor_thread(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", timedelta(milliseconds=20))
    watched.start(sh("sleep 1000 & echo child=$!"))

    report = watched.only()
    assert report.outcome is Outcome.SUCCEEDED
    assert watched.executor.free() == 4
    kept = lines(watched)
    assert kept[-1].level == "warning"
    assert "still held its output" in kept[-1].text
    wait_for_end(int(kept[0].text.partition("=")[2]))


def test_a_child_that_closed_its_output_ends_with_its_program(watched: Watched) -> None:
    watched.start(sh("sleep 1000 > /dev/null 2>&1 & echo child=$!"))

    assert watched.only().outcome is Outcome.SUCCEEDED
    (text,) = texts(watched)
    wait_for_end(int(text.partition("=")[2]))


def test_a_daemon_is_left_alone_and_nothing_waits_for_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "LINGER", timedelta(milliseconds=20))
    (gate := Gate(tmp_path / "gate")).shut()
    script = (
        "import os, subprocess\nprint(subprocess.Popen(['flock', %r, 'true'], start_new_session=True).pid)"
    )
    watched.start(shell([sys.executable, "-c", script % str(gate.path)]))

    report = watched.only()
    daemon = int(report.result["tail"])
    assert report.outcome is Outcome.SUCCEEDED
    assert watched.executor.free() == 4
    os.kill(daemon, 0)  # it is there
    gate.open()
    wait_for_end(daemon)


@pytest.mark.slow
def test_a_gigabyte_of_output_costs_bounded_memory_and_keeps_head_and_tail(watched: Watched) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watched.start(sh("echo first; yes $(seq 1000) | head -c 1073741824; echo; echo last"))

    report = watched.only()
    assert report.result["tail"].endswith("\nlast")
    kept = texts(watched)
    assert (kept[0], kept[-1][-4:]) == ("first", "last")
    assert sum("bytes of output were dropped here" in text for text in kept) == 1
    assert sum(len(text) for text in kept) < LOG_BYTES_MAX
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 32 * MIB


NODE_THAT_DIES = """
import sys
import threading
from datetime import timedelta
from onebeat import shell
from onebeat.engine.executors import shell as module
from onebeat.testing.conformance_executor import Watched

module.GRACE = timedelta(milliseconds=20)
watched = Watched(module.ShellExecutor(on=True))
for token, script in enumerate(sys.argv[1:]):
    watched.start(shell(["/bin/sh", "-c", script]), token=token)
begun = threading.Event()
executor = watched.executor


def look():  # a command is here as soon as its keeper was told of it, not as soon as it runs
    if len(executor._commands) == len(sys.argv) - 1:
        begun.set()
    else:
        executor._loop.call(look)


executor._loop.call(look)
begun.wait()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_commands_of_a_node_that_is_killed_end_with_it(ear: Ear) -> None:
    scripts = (
        f"echo $$ > {ear.path}; sleep 1000",
        f"trap '' TERM; set -m; sleep 1000 & echo $! > {ear.path}; sleep 1000",
        f"(sleep 1000 & echo $! > {ear.path}) > /dev/null 2>&1; sleep 1000",
    )
    command = [sys.executable, "-c", NODE_THAT_DIES, *scripts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as node:
        pids = [ear.number() for _ in scripts]
        assert node.stdout is not None
        assert node.stdout.readline() == b"ready\n"
        for pid in pids:
            os.kill(pid, 0)

        node.kill()

    for pid in pids:
        wait_for_end(pid)


def test_nothing_keeps_an_eye_on_commands_once_their_executor_is_closed(watched: Watched) -> None:
    watched.start(shell(["true"]))
    watched.only()
    keeper = watched.executor._keeper._process  # type: ignore[attr-defined]  # of a ShellExecutor

    watched.executor.close()

    wait_for_end(keeper.pid)


def test_a_keeper_that_was_killed_is_no_reason_to_fail(watched: Watched) -> None:
    watched.start(shell(["true"]))
    watched.only()
    watched.executor._keeper._process.kill()  # type: ignore[attr-defined]  # of a ShellExecutor
    watched.executor._keeper._process.wait()  # type: ignore[attr-defined]  # as above

    watched.start(shell(["true"]), token=2)

    assert watched.only().outcome is Outcome.SUCCEEDED


# --- output, without processes --------------------------------------------------------------------------


def everything(*pieces: bytes, look: bool = False) -> list[str]:
    output = Output()
    entries = []
    for piece in pieces:
        entries += output.take(piece)
        entries += output.looked() if look else []
    return entries + output.end()


def test_lines_are_kept_one_by_one_however_they_are_read() -> None:
    assert everything(b"a\nb", b"b\n", b"\nc") == ["a", "bb", "", "c"]


def test_many_lines_at_once_are_kept_together_and_none_is_lost() -> None:
    text = "".join(f"line {number}\n" for number in range(10_000))

    for look in (False, True):
        entries = everything(text.encode(), look=look)
        assert "\n".join(entries) + "\n" == text
        assert len(entries) < 2 * LINES_ALONE_MAX + 50


def test_later_lines_stand_alone_again_once_the_worker_has_looked() -> None:
    output = Output()
    output.take(b"x\n" * 600)

    assert output.take(b"waits\n") == []
    assert output.looked()[-1] == "waits"
    assert output.take(b"alone\n") == ["alone"]


def test_a_line_without_an_end_is_cut_between_characters() -> None:
    entries = everything(*["一".encode() * 5000 for _ in range(5)])

    assert "".join(entries) == "一" * 25_000


@pytest.mark.parametrize("size", [HEAD_BYTES_MAX, HEAD_BYTES_MAX + 1, HEAD_BYTES_MAX + TAIL_BYTES_MAX])
def test_output_up_to_head_and_tail_is_kept_whole(size: int) -> None:
    text = ("x" * 99 + "\n") * (size // 100 + 1)

    assert "".join(everything(text[:size].encode())).replace("\n", "") == text[:size].replace("\n", "")


def test_what_is_dropped_is_counted_to_the_byte() -> None:
    line = b"x" * 99 + b"\n"
    entries = everything(*[line * 1000 for _ in range(10)])

    place = next(at for at, entry in enumerate(entries) if "dropped here" in entry)
    dropped = int(entries[place].split()[1].replace(",", ""))
    kept = sum(entry.count("x") for entry in entries)
    assert dropped + kept + entries_newlines(entries, place) == 1_000_000


def entries_newlines(entries: list[str], place: int) -> int:
    """Every line that was kept ends with one; the head ends within a line."""
    head = sum(entry.count("\n") + 1 for entry in entries[:place])
    tail = sum(entry.count("\n") + 1 for entry in entries[place + 1 :])
    return head - 1 + tail


def test_output_that_is_no_text_is_kept_as_far_as_it_is_one() -> None:
    assert everything(b"\xff\xfea\0\n") == ["\ufffd\ufffda\0"]
