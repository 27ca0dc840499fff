"""The example of a cluster: it stands a killed node, counts right, and leaves no process behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from examples.cluster import servers
from examples.cluster.__main__ import main
from examples.cluster.evidence import Evidence
from examples.cluster.load import SECOND, Beat, plan
from tests.servers import binaries, postgres
from tests.servers.ledgers import ledger_url
from tests.servers.running import SERVERS

from onebeat import Onebeat, call, interval

TOP = Path(__file__).resolve().parents[2]
LINES_MIN = 40


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a cluster that keeps what it leaves in ``folder``; its server is this machine's PostgreSQL."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    given = []
    if os.environ.get("ONEBEAT_TEST_POSTGRES_URL"):
        given = ["--url", ledger_url("postgres", folder)]
    else:
        program = binaries.found("initdb", postgres.FOLDERS)
        if program is None:
            place = Path(tempfile.mkdtemp(dir=SERVERS.folder))
            place.chmod(0o755)
            (program,) = binaries.unpacked("postgresql", place).glob("usr/lib/postgresql/*/bin/initdb")
        environment["PATH"] = f"{program.parent}:{environment['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "examples.cluster", *given, "--keep", str(folder / "kept"), *words],
        cwd=TOP,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.server("postgres")
def test_a_cluster_stands_a_killed_node_and_the_end_is_in_order(tmp_path: Path) -> None:
    said, pids = "", {}
    with started(tmp_path, "--seconds", "6", "--lease", "2", "--schedules", "80") as cluster:
        assert cluster.stdout is not None
        for line in cluster.stdout:
            said += line
            if told := re.match(r"  (\S+) +pid (\d+)", line):
                pids[told[1]] = int(told[2])
            if "Ctrl-C" in line:
                break
        traces, nap = tmp_path / "kept" / "outside.jsonl", threading.Event()
        while not traces.exists() or traces.read_bytes().count(b"\n") < LINES_MIN:
            assert cluster.poll() is None, said + cluster.stdout.read()
            nap.wait(0.05)  # a file that grows tells nobody
        os.kill(pids["node-2"], signal.SIGKILL)
        said += cluster.stdout.read()

    counted = dict(re.findall(r"^  (due|fired|missed|doubled) +([\d,]+)", said, re.MULTILINE))
    lines = [json.loads(line) for line in traces.read_text(encoding="utf-8").splitlines()]
    assert cluster.returncode == 0, said
    assert f"node-2 (pid {pids['node-2']}) was ended by SIGKILL" in said
    assert (counted["missed"], counted["doubled"]) == ("0", "0"), said
    assert said.endswith("Nothing was missed, and nothing doubled.\n")
    assert int(counted["fired"].replace(",", "")) == len({(line["schedule"], line["run"]) for line in lines})
    assert {line["pid"] for line in lines} <= {pids[name] for name in ("node-1", "node-2", "node-3")}
    assert not [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]


def test_a_ledger_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mine.db'}"
    with Onebeat(url) as beat:
        beat.allow("shop")
        beat.schedules.put("mine", interval(hours=1), call("shop.orders:close"))
    done = CliRunner().invoke(main, ["--url", url])

    assert done.exit_code == 1
    assert "is in use" in done.output
    with Onebeat(url) as beat:
        assert [row.name for row in beat.schedules.list()] == ["mine"]


def test_without_a_server_s_program_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "found", lambda names: None)
    done = CliRunner().invoke(main, ["--store", "redis"])

    assert done.exit_code == 1
    assert "apt-get install redis-server" in done.output
    assert "--url" in done.output


# --- counting -------------------------------------------------------------------------------------------


class File:
    """An outside file, written by hand, of one schedule that is due each second from second 0 on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "outside.jsonl"
        self.evidence = Evidence(self.path, [Beat("load-0000", 0, SECOND)], patience=10)

    def add(self, number: float, *, late: float = 0.0, attempt: int = 1, run: str = "") -> None:
        occurrence = round(number * SECOND)
        line: dict[str, Any] = {
            "at": occurrence + round(late * SECOND),
            "schedule": "load-0000",
            "occurrence": occurrence,
            "run": run or f"load-0000@{number}",
            "attempt": attempt,
            "token": attempt,
            "pid": 1,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def look(self, second: int) -> tuple[int, int, int, int]:
        counts = self.evidence.look(second * SECOND)
        return counts.fired, counts.owed, counts.missed, counts.doubled


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


def test_what_is_due_and_has_not_begun_is_owed(file: File) -> None:
    assert file.look(-1) == (0, 0, 0, 0)
    file.add(0)

    assert file.look(2) == (1, 2, 0, 0)


def test_an_occurrence_is_missed_when_later_ones_have_long_begun(file: File) -> None:
    for number in (0, 2, 3):
        file.add(number)
    assert file.look(3) == (3, 1, 0, 0)
    assert file.look(14)[2] == 1
    assert file.evidence.left({"load-0000": 3 * SECOND}, set()) == [
        "load-0000, due 1.000 s after 1970, has left no trace"
    ]
    assert file.evidence.left({"load-0000": 3 * SECOND}, {("load-0000", SECOND)}) == []
    file.add(1, late=20)

    assert file.look(14)[2] == 0
    assert file.evidence.counts.late == 1


def test_a_further_attempt_is_no_double_and_a_second_run_is(file: File) -> None:
    file.add(0)
    file.add(0, attempt=2)
    assert file.look(0) == (1, 0, 0, 0)
    assert file.evidence.counts.again == 1

    file.add(0, attempt=2)
    file.add(0, run="another")
    file.add(0.5)
    assert file.look(0) == (1, 0, 0, 3)


def test_a_line_that_is_half_written_is_read_when_it_is_whole(file: File) -> None:
    file.add(0)
    whole = file.path.read_text()
    file.path.write_text(whole[:20])
    assert file.look(0) == (0, 1, 0, 0)
    file.path.write_text(whole)

    assert file.look(0) == (1, 0, 0, 0)


def test_the_load_is_spread_over_its_periods() -> None:
    beats = plan(0, 200)

    assert {beat.period // SECOND for beat in beats} == {1, 2, 3, 4, 5}
    assert len({(beat.first, beat.period) for beat in beats}) == 200
    assert all(0 <= beat.first < beat.period for beat in beats)
