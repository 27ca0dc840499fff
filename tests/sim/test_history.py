"""The files of evidence: what is written is read again, and a torn line costs only itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from onebeat.core.model import Overlap, Policy, TriggerSpec
from onebeat.testing.history import Effect, Fault, Limits, Operation, Writer, faults, read

T0 = datetime(2026, 11, 21, 12, 0, 0, 250, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVERY = TriggerSpec(kind="interval", fields={"period_s": 1, "anchor_at": "2026-11-21T12:00:00Z"})
BEGAN = Effect(phase="began", run_id="a@1", schedule="a", at=T0, occurrence_at=T0, token=7, node="one")


def written(path: Path, *lines: Operation | Effect | Fault) -> Path:
    writer = Writer(path)
    for line in lines:
        writer.write(line)
    writer.close()
    return path


def test_every_kind_of_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    limits = Limits.of(Policy(overlap=Overlap.QUEUE_ALL, max_running=2, grace=30 * SECOND))
    asked = Operation(
        number=1, schedule="a", action="put", phase="invoke", at=T0, trigger=EVERY, limits=limits
    )
    answer = Operation(number=1, schedule="a", action="put", phase="ok", at=T0 + SECOND, cut=T0)
    fault = Fault(number=1, kind="kill", target="node one", began_at=T0, detail="SIGKILL")

    assert list(read(written(tmp_path / "history", asked, answer), Operation)) == [asked, answer]
    assert list(read(written(tmp_path / "effects", BEGAN), Effect)) == [BEGAN]
    assert list(read(written(tmp_path / "faults", fault), Fault)) == [fault]
    assert (limits.max_running, limits.overlap, limits.grace_s) == (2, "queue_all", 30)


def test_a_policy_that_allows_any_number_sets_no_limit() -> None:
    assert Limits.of(Policy(overlap=Overlap.ALLOW)).max_running is None


def test_a_torn_last_line_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "effects", BEGAN, BEGAN)
    path.write_bytes(path.read_bytes()[:-20])

    lines = read(path, Effect)

    assert list(lines) == [BEGAN]
    assert lines.torn == 1


def test_the_line_behind_a_torn_one_is_not_lost_with_it(tmp_path: Path) -> None:
    path = written(tmp_path / "effects", BEGAN)
    path.write_bytes(path.read_bytes()[:30])
    written(path, BEGAN, BEGAN)

    lines = read(path, Effect)

    assert list(lines) == [BEGAN, BEGAN]
    assert lines.torn == 1


def test_a_file_that_nobody_wrote_has_no_lines(tmp_path: Path) -> None:
    assert list(read(tmp_path / "nothing", Effect)) == []


def test_a_fault_is_one_though_it_has_two_lines() -> None:
    began = Fault(number=1, kind="kill", target="one", began_at=T0)
    other = Fault(number=2, kind="stop", target="two", began_at=T0 - SECOND)
    ended = Fault(number=1, kind="kill", target="one", began_at=T0, ended_at=T0 + SECOND)

    assert faults([began, other, ended]) == [other, ended]
