"""What the runbook says of a restored backup is what happens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from onebeat import Onebeat, interval
from onebeat.cli.main import run
from onebeat.cli.session import Session
from onebeat.core.decide import settle
from onebeat.store.open import open_store
from onebeat.testing.clock import VirtualClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
Ledger = Callable[[], Onebeat]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def restored(tmp_path: Path, clock: VirtualClock) -> Onebeat:
    """A ledger of hourly schedules as it was two hours ago; what came since has been done."""
    path, backup = tmp_path / "onebeat.db", tmp_path / "backup.db"
    beat = opened(path, clock)
    for name in ("a", "b"):
        beat.schedules.put(name, interval(hours=1, anchor=NOON), "shop.orders:close", overlap="allow")
    clock.advance(HOUR)
    assert fired(beat) == ["a@20261121T130000Z", "b@20261121T130000Z"]
    ledger = apsw.Connection(str(path))
    ledger.execute("VACUUM INTO ?", (str(backup),))
    ledger.close()
    for _ in range(2):
        clock.advance(HOUR)
        assert len(fired(beat)) == 2
    beat.close()
    for file in (path, path.with_name("onebeat.db-wal"), path.with_name("onebeat.db-shm")):
        file.unlink(missing_ok=True)
    backup.rename(path)
    return opened(path, clock)


def opened(path: Path, clock: VirtualClock) -> Onebeat:
    url = f"sqlite:///{path}"
    return Onebeat(url, zone="UTC", clock=clock, store=open_store(url, clock))


def fired(beat: Onebeat) -> list[str]:
    """Settle what is due, as a dispatcher would; return the runs that came of it."""
    before = {each.id for each in beat.runs.list()}
    now = beat.store.now()
    while rows := beat.store.due(now, 100).rows:
        if beat.store.settle(now, [settle(row, now) for row in rows]).held:
            break
    return sorted(each.id for each in beat.runs.list() if each.id not in before)


def typed(beat: Onebeat, *words: str) -> None:
    """Do what somebody types."""
    assert run(list(words), Session(beat)) == 0


def test_held_before_the_nodes_start_a_restored_ledger_fires_nothing(restored: Onebeat) -> None:
    typed(restored, "hold", "--reason", "restored")

    assert fired(restored) == []


def test_let_run_again_it_runs_as_catch_up_says_under_the_ids_that_it_had(restored: Onebeat) -> None:
    typed(restored, "hold", "--reason", "restored")
    typed(restored, "release")

    assert fired(restored) == ["a@20261121T150000Z", "b@20261121T150000Z"]
    assert restored.audit().right


def test_paused_before_the_release_what_was_owed_is_skipped_and_the_next_one_fires(
    restored: Onebeat, clock: VirtualClock
) -> None:
    typed(restored, "hold", "--reason", "restored")
    typed(restored, "schedule", "pause", "*", "--reason", "done before the restore", "--yes")
    typed(restored, "release")
    typed(restored, "schedule", "resume", "*", "--yes")

    assert fired(restored) == []
    clock.advance(HOUR)
    assert fired(restored) == ["a@20261121T160000Z", "b@20261121T160000Z"]
    proof = restored.audit()
    assert (proof.right, proof.skipped) == (True, {"paused": 4})
