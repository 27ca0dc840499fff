"""A Celery fleet on the rig: three beats, three workers and a broker, to all of which everything happens."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from chaos.fleet import faults
from chaos.fleet.sabotage import forgotten
from tests.chaos.fleets import played

from onebeat.core.model import run_id

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.server("redis")]

SHORT = (
    faults.BeatKilled(),
    faults.BeatStopped(),
    faults.WorkerKilled(),
    faults.MainKilled(),
    faults.ChildKilled(),
    faults.WorkerStopped(),
    faults.BrokerKilled(),
    faults.BrokerForgot(),
)


@pytest.mark.parametrize(
    "broker", ["redis", pytest.param("amqp", marks=pytest.mark.server("rabbitmq"))], ids=["redis", "rabbitmq"]
)
def test_every_occurrence_runs_once_whoever_is_killed_stopped_or_restarted(
    broker: str, tmp_path: Path
) -> None:
    seen = played(tmp_path, broker, "redis", SHORT)

    assert seen.result.findings == []
    assert seen.result.right
    assert seen.result.counts["fired"] >= seen.result.counts["must"] > 100
    assert {kind: each.count for kind, each in seen.result.faults.items()} == {each.kind: 1 for each in SHORT}


# --- a rig that cannot fail is worth nothing ----------------------------------------------------------


def test_a_fleet_without_the_guard_is_found_doubled_after_redelivery(tmp_path: Path) -> None:
    seen = played(tmp_path, "redis", "redis", [faults.BeatKilled()], nodes=2, sabotage="unguarded")

    doubled = {said.schedule for said in seen.result.findings if said.kind == "same lease"}
    assert not seen.result.right
    assert seen.result.counts["fired"] > 100
    assert "outlives-its-lease-00" in doubled


def whole(began_at: datetime, at_s: float) -> datetime:
    """Return the whole second nearest to so many seconds of a play."""
    return (began_at + timedelta(seconds=at_s + 0.5)).replace(microsecond=0)


def test_a_beat_that_forgets_is_found_missing(tmp_path: Path) -> None:
    seen = played(tmp_path, "redis", "redis", [faults.BeatKilled()], nodes=2, size=0.3, sabotage="forget")

    began_at = seen.result.began_at
    missing = [said for said in seen.result.findings if said.kind == "missing"]
    runs = [run_id(said.schedule, 1, occurrence_at=whole(began_at, said.at_s)) for said in missing]
    assert not seen.result.right
    assert seen.result.counts["fired"] > 100
    assert any(forgotten(run) for run in runs)
