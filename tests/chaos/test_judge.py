"""From evidence in a folder to the one JSON: what is counted, what is told, and what is read back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos.judge import judge_folder
from chaos.result import EDGES_MS, FaultKind, Result, Spread, read
from chaos.story import AUDIT, EFFECTS, FAULTS, HISTORY, RESULT, STORY

from onebeat.core.model import TriggerSpec
from onebeat.testing.history import Effect, Fault, Limits, Operation, Writer

T0 = datetime(2026, 11, 22, 9, tzinfo=UTC)
SECONDS = 60
STOPPED = (20.0, 24.0)


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def evidence(folder: Path, *, without: int | None = None, audit: dict[str, Any] | None = None) -> Path:
    """Leave the evidence of a minute on two nodes, of which one is stopped once and another killed."""
    folder.mkdir()
    history, effects, faults = (Writer(folder / name) for name in (HISTORY, EFFECTS, FAULTS))
    every = TriggerSpec(kind="cron", fields={"expression": "* * * * * *"})
    asked = Operation(
        number=1, schedule="tick", action="put", phase="invoke", at=at(0.1), trigger=every, limits=Limits()
    )
    history.write(asked)
    history.write(msgspec.structs.replace(asked, phase="ok", at=at(0.2), trigger=None, cut=at(0.15)))
    for second in range(1, SECONDS + 1):
        late = STOPPED[1] - second if STOPPED[0] <= second < STOPPED[1] else 0.010 + second / 10_000
        life = 1 if second < 40 else 2
        began = Effect(
            phase="began",
            run_id=f"tick@{second}",
            schedule="tick",
            occurrence_at=at(second),
            at=at(second + late),
            token=second,
            node=f"node-{second % 2}.{life}",
        )
        if second != without:
            effects.write(began)
            effects.write(
                msgspec.structs.replace(
                    began, phase="ended", outcome="succeeded", at=began.at + timedelta(milliseconds=5)
                )
            )
    stop = Fault(number=1, kind="node stopped", target="node-0", began_at=at(STOPPED[0]))
    faults.write(stop)
    faults.write(msgspec.structs.replace(stop, ended_at=at(STOPPED[1])))
    faults.write(Fault(number=2, kind="node killed", target="node-1", began_at=at(39), ended_at=at(40)))
    story = {
        "store": "sqlite",
        "minutes": 1.0,
        "seed": 7,
        "began_at": T0,
        "until": at(SECONDS + 0.5),
        "ended_at": at(SECONDS + 5),
        "lives": 4,
        "facts": {"kind": "sqlite", "sqlite": "3.54.1"},
        "settings": {"nodes": 2, "shared": False, "sabotage": ""},
        "machine": {"cpu": "a processor", "cores": 2, "commit": "abcdef0"},
    }
    (folder / STORY).write_bytes(msgspec.json.encode(story))
    if audit is not None:
        (folder / AUDIT).write_text(json.dumps(audit))
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Result:
    return judge_folder(evidence(tmp_path / "run", audit={"right": True, "words": "60 of 60"}))


def test_everything_that_was_done_and_seen_is_counted(result: Result) -> None:
    counts = result.counts

    assert result.right
    assert (counts["must"], counts["fired"], counts["missed"], counts["doubled"]) == (60, 60, 0, 0)
    assert (counts["schedules"], counts["nodes_started"], counts["edits_ok"]) == (1, 4, 1)
    assert result.faults == {
        "node killed": FaultKind(count=1, seconds=1.0),
        "node stopped": FaultKind(count=1, seconds=4.0),
    }
    assert [(span.kind, span.from_s, span.until_s) for span in result.fault_list] == [
        ("node stopped", 20.0, 24.0),
        ("node killed", 39.0, 40.0),
    ]
    assert result.server == "SQLite 3.54.1"
    assert result.audit == {"right": True, "words": "60 of 60"}
    assert result.command == "python -m chaos run --store sqlite --minutes 1 --seed 7 --nodes 2 --unshared"


def test_each_life_of_a_node_has_a_lane_and_each_body_a_second(result: Result) -> None:
    assert [lane.node for lane in result.lanes] == ["node-0.1", "node-0.2", "node-1.1", "node-1.2"]
    assert sum(sum(lane.began) for lane in result.lanes) == sum(result.began_each_second) == 60
    assert result.began_each_second[24] == 5


def test_lateness_is_calm_where_nothing_was_done_in_the_ten_seconds_before(result: Result) -> None:
    assert result.lateness_all.count == sum(result.lateness_all.histogram) == 60
    assert result.lateness_all.max == 4000.0
    # Both nodes had served for ten seconds from 12.01 on. There was trouble, or had just been, from 20 to 34
    # and from 39 to 50.
    assert result.lateness_calm.count == (60 - 12) - 15 - 12
    assert result.lateness_calm.max == 16.0
    assert result.lateness_max_ms_each_second[20:24] == [4000.0, 3000.0, 2000.0, 1000.0]


def test_what_is_written_is_read_again_and_can_be_judged_again(tmp_path: Path) -> None:
    folder = evidence(tmp_path / "run")
    first = judge_folder(folder)

    assert read(folder / RESULT) == first
    assert judge_folder(folder).counts == first.counts


def test_a_finding_is_told_with_its_second_and_the_run_is_not_right(tmp_path: Path) -> None:
    result = judge_folder(evidence(tmp_path / "run", without=33))

    assert not result.right
    assert (result.counts["missed"], result.found) == (1, {"missing": 1})
    assert [(said.kind, said.schedule, said.at_s) for said in result.findings] == [("missing", "tick", 33.0)]


def test_a_rig_that_died_left_evidence_that_can_be_judged_and_is_not_called_right(tmp_path: Path) -> None:
    folder = evidence(tmp_path / "run")
    (folder / STORY).unlink()

    result = judge_folder(folder)

    assert not result.right
    assert result.findings == []
    assert (result.counts["fired"], result.counts["must"]) == (60, 0)  # nothing is old enough to be certain


def test_a_folder_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no evidence"):
        judge_folder(tmp_path)


def test_a_run_that_the_audit_calls_wrong_is_not_right(tmp_path: Path) -> None:
    assert not judge_folder(evidence(tmp_path / "run", audit={"right": False})).right


def test_a_torn_line_is_counted(tmp_path: Path) -> None:
    folder = evidence(tmp_path / "run")
    with (folder / EFFECTS).open("ab") as effects:
        effects.write(b'{"line":"effect","phase":"be')

    assert judge_folder(folder).counts["torn_lines"] == 1


def test_percentiles_are_of_what_was_seen() -> None:
    spread = Spread.of(float(value) for value in range(1, 1001))

    assert (spread.p50, spread.p90, spread.p99, spread.p999, spread.max) == (500, 900, 990, 999, 1000)
    assert spread.histogram[EDGES_MS.index(1000.0)] == sum(value > 749.894 for value in range(1001))
    assert Spread.of([]).count == 0
