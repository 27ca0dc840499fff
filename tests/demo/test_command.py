"""`onebeat demo`, as a newcomer runs it: it counts right, notices sabotage, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from onebeat.demo import report
from onebeat.demo.bodies import OUTSIDE
from onebeat.demo.command import demo
from onebeat.demo.nodes import PARENT
from onebeat.demo.outside import read
from onebeat.demo.teller import Teller
from onebeat.demo.verdict import Verdict

DEMO = [sys.executable, "-m", "onebeat", "demo", "--seconds", "20", "--json"]


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Start a demo that keeps what it leaves in ``folder``."""
    home = {**os.environ, "HOME": str(folder), "ONEBEAT_URL": "sqlite:////no/such/folder/of/mine.db"}
    command = [*DEMO, "--keep", str(folder / "kept"), *more]
    return subprocess.Popen(command, env=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(demo: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    """Return a demo's exit status and what it found."""
    with demo:
        out, said = demo.communicate(timeout=280)
    found: dict[str, Any] = json.loads(out) if out else {"verdict": {"problems": said}, "passed": said}
    return demo.returncode, found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_passes_and_a_sabotaged_one_fails_as_does_its_audit(tmp_path: Path) -> None:
    # Both at once: nearly all of their time they wait.
    folders = [tmp_path / "right", tmp_path / "sabotaged"]
    demos = [started(folders[0]), started(folders[1], "--sabotage")]
    (status, found), (sabotaged_status, sabotaged) = [ended(demo) for demo in demos]
    verdict = found["verdict"]
    lines = read(folders[0] / "kept" / "outside.jsonl")

    assert (status, found["passed"], verdict["problems"]) == (0, True, [])
    assert (verdict["missed"], verdict["doubled"], found["audit"]["exit_status"]) == (0, 0, 0)
    assert verdict["schedules"] >= 50
    assert verdict["expected"] > 300
    assert verdict["nodes"] == {"killed": 1, "stopped": 1}
    assert verdict["takeovers"] >= 2
    assert verdict["refused"] >= 1
    assert verdict["ledger"]["requested"] == 1
    assert len({line.pid for line in lines}) == 4
    assert sum(line.what == "begin" for line in lines) == verdict["outside"]["effects"]

    verdict = sabotaged["verdict"]
    assert (sabotaged_status, sabotaged["passed"]) == (1, False)
    assert (verdict["missed"], verdict["doubled"], verdict["otherwise_wrong"]) == (1, 2, 0), verdict[
        "problems"
    ]
    assert sabotaged["audit"]["exit_status"] == 1


@pytest.mark.slow
def test_a_node_of_the_demo_does_not_outlive_it(tmp_path: Path) -> None:
    # Started for a parent that is not there, as if the demo had been killed: it ends by itself.
    words = [sys.executable, "-m", "onebeat", "--app", "onebeat.demo.heart:beat", "serve"]
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    environment = {**os.environ, PARENT: "0", OUTSIDE: str(tmp_path / "outside.jsonl"), "ONEBEAT_URL": url}

    assert (
        subprocess.run(words, env=environment, capture_output=True, timeout=60, check=False).returncode == 1
    )


def test_a_folder_that_is_not_empty_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(demo, ["--keep", str(tmp_path)])

    assert done.exit_code == 2
    assert "is not empty" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_demo_too_short_for_its_story_is_refused() -> None:
    assert CliRunner().invoke(demo, ["--seconds", "5"]).exit_code == 2


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_at_a_terminal_and_nowhere_else() -> None:
    terminal, file, story = Terminal(), io.StringIO(), io.StringIO()
    for err in (terminal, file):
        teller = Teller(1e9, story, err)
        teller.progress("17 fired")
        teller.say("kill -9 node-2")

    assert "17 fired" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")  # wiped, before the line is told
    assert file.getvalue() == ""
    assert story.getvalue().count("kill -9 node-2\n") == 2


def test_the_table_tells_what_is_wrong_and_how_much_more() -> None:
    verdict = Verdict(expected=1234, fired=1000, folded=200, skipped=Counter(paused=34))
    for n in range(25):
        verdict.miss("tick-1", n, f"number {n}")
    lines = report.table(verdict, ["node-2 ended by itself"], killed=1, frozen=1)

    assert any(line.split()[:3] == ["expected", "1,234", "occurrences,"] for line in lines)
    assert any("skipped: 34 paused" in line for line in lines)
    assert any(line.split() == ["missed", "25"] for line in lines)
    assert "  ! node-2 ended by itself" in lines
    assert lines[-1] == "  ! and 6 more"


def test_what_is_printed_as_json_is_json() -> None:
    verdict = Verdict(late=[1000, 2000, 100_000])

    found = json.loads(json.dumps(report.data(verdict, [], killed=1, frozen=0)))

    assert found["lateness_ms"]["to_commit"] == {"p50": 2.0, "p99": 100.0, "max": 100.0}
    assert found["missed"] == 0
