"""Rows where another beat fails, and is seen to fail: the real one, in its own environment, beside ours."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.celery.beats import PATIENCE_S, Shop
from tests.peers import places

from onebeat import celery_task
from onebeat.testing.virtual import VirtualOnebeat

T = datetime(2026, 11, 21, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
@pytest.mark.onebeat(now=T - 33 * SECOND)
def test_seed_01_what_is_edited_before_its_first_run_is_lost_by_django_celery_beat_and_fires_here(
    onebeat: VirtualOnebeat, tmp_path: Path
) -> None:
    theirs = places.answered("django", "django_edited", str(tmp_path / "beat.sqlite3"))

    # The same acts: it is put two seconds before T, and edited a second after, while nobody has looked.
    onebeat.at(T - 2 * SECOND)
    onebeat.schedules.put("report", "0 9 * * *", celery_task("report", guarded=False), overlap="allow")
    onebeat.at(T + SECOND)
    onebeat.schedules.edit("report", title="for the board")
    onebeat.run_until(T + 900 * SECOND)

    assert theirs == {"edited": [], "left alone": [(T + 2 * SECOND).isoformat()]}
    assert [run.occurrence_at for run in onebeat.runs.list(schedule="report")] == [T]
    assert onebeat.audit().right


@pytest.mark.timeout(400)
@pytest.mark.server("redis")
def test_seed_78_without_its_lock_redbeat_ends_and_onebeat_goes_on(tmp_path: Path) -> None:
    shop = Shop("redis", tmp_path)
    try:
        python = places.python("redbeat")
        command = [python, str(places.PROGRAMS / "redbeat_running.py"), shop.broker.url, '{"theirs": 1}']
        with (tmp_path / "beat-theirs.log").open("wb") as log:
            theirs = subprocess.Popen(
                command, cwd=tmp_path, env=places.environment({}), stdout=log, stderr=subprocess.STDOUT
            )
        shop.beats.append(theirs)
        ours = shop.start("-S", "onebeat")
        shop.take(lambda: len(shop.runs()) >= 3 and shop.runs()[""] >= 2)  # "": of theirs, which name no run

        locks = [key for key in shop.broker.ask("KEYS", "*") if "lock" in key]
        shop.broker.ask("DEL", *locks)
        status = theirs.wait(PATIENCE_S)
        before = set(shop.runs())
        shop.take(lambda: len(set(shop.runs()) - before) >= 3)

        assert locks == ["redbeat::lock"]
        assert status != 0
        assert "LockNotOwnedError" in (tmp_path / "beat-theirs.log").read_text()
        assert ours.poll() is None, shop.logs()
        assert set(shop.runs().values()) - {shop.runs()[""]} == {1}
    finally:
        shop.stop()
