"""The rig itself: short plays that end well, and plays that must not."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from chaos.__main__ import main
from chaos.result import Result
from tests.servers.pairs import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = ["--size", "0.15", "--edits", "20", "--seed", "1"]
TOP = Path(__file__).resolve().parents[2]


def result_in(folder: Path) -> Result:
    return msgspec.json.decode((folder / "result.json").read_bytes(), type=Result)


def test_a_short_play_on_a_file_leaves_its_evidence_and_ends_well(tmp_path: Path) -> None:
    status = main(["run", "--minutes", "0.15", "--out", str(tmp_path), *SMALL])

    result = result_in(tmp_path)
    assert (status, result.right, result.findings) == (0, True, [])
    assert result.counts["fired"] >= result.counts["must"] > 100
    assert result.counts["edits_ok"] > 0
    assert sum(each.count for each in result.faults.values()) > 0
    assert result.audit is not None
    assert (result.audit["gaps"], result.audit["extras"], result.audit["differences"]) == (0, 0, 0)
    assert all(
        (tmp_path / name).stat().st_size for name in ("faults.jsonl", "history.jsonl", "effects.jsonl")
    )


# --- a rig that cannot fail is worth nothing ----------------------------------------------------------


@pytest.mark.parametrize(
    ("sabotage", "kind", "fault"),
    [
        ("lose", "missing", "node killed"),
        ("double", "same lease", "node killed"),
        ("early", "early", "node killed"),
        # Who is killed reports nothing; this fault leaves all holders alive, past their leases.
        ("unfenced", "stale end", "presence of nodes deleted"),
    ],
)
def test_a_sabotaged_play_ends_with_1_and_names_what_was_done(
    sabotage: str, kind: str, fault: str, tmp_path: Path
) -> None:
    words = ["run", "--minutes", "0.05", "--out", str(tmp_path), "--sabotage", sabotage, *SMALL]

    status = main([*words, "--only", fault])

    result = result_in(tmp_path)
    assert (status, result.right) == (1, False)
    assert kind in {finding.kind for finding in result.findings}


def test_evidence_of_which_a_line_was_taken_is_judged_wrong_afterwards(tmp_path: Path) -> None:
    main(["run", "--minutes", "0.05", "--out", str(tmp_path), *SMALL, "--only", "node killed"])
    effects = tmp_path / "effects.jsonl"
    lines = effects.read_bytes().splitlines(keepends=True)
    (one, *_) = [line for line in lines if b'"began"' in line and b'"schedule":"herd-' in line]
    run_id = msgspec.json.decode(one)["run_id"].encode()
    effects.write_bytes(b"".join(line for line in lines if run_id not in line))

    status = main(["judge", str(tmp_path)])

    assert status == 1
    assert [finding.kind for finding in result_in(tmp_path).findings] == ["missing"]


def started(folder: Path) -> subprocess.Popen[bytes]:
    """Start a long play, and wait until bodies have begun."""
    words = ["run", "--minutes", "10", "--out", str(folder), *SMALL]
    rig = subprocess.Popen([sys.executable, "-m", "chaos", *words], cwd=TOP, stdout=subprocess.PIPE)
    effects = folder / "effects.jsonl"
    until(lambda: effects.exists() and effects.stat().st_size > 50_000)
    return rig


def test_an_interrupted_play_is_judged_all_the_same(tmp_path: Path) -> None:
    rig = started(tmp_path)

    rig.send_signal(signal.SIGINT)
    said, _ = rig.communicate(timeout=300)

    assert rig.returncode == 0, said
    result = result_in(tmp_path)
    assert result.settings["interrupted"]
    assert result.counts["must"] > 0


def test_a_rig_that_dies_takes_its_nodes_with_it(tmp_path: Path) -> None:
    rig = started(tmp_path)

    rig.kill()
    rig.communicate()

    until(lambda: not processes_of(tmp_path))  # of a parent that is gone: nobody can wait for them


def processes_of(folder: Path) -> list[str]:
    """Return the processes whose command names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder).encode() in (path / "cmdline").read_bytes():
                found.append(path.name)
    return found
