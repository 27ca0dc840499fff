"""Rows that are about what a Celery beat reads and sends."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.schedules import crontab
from tests.celery.beats import EITHER, Shop

from onebeat.celery.entries import read_entries
from onebeat.core.model import RunState
from onebeat.core.triggers import cron

TEXTS = ("0 0 * * *", "30 9 * * mon-fri", "0 0 13 * fri", "15 6 1 jan,jul 7", "@daily", "@weekly")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", EITHER)
def test_seed_36_what_comes_due_while_a_real_broker_is_away_is_sent_once_it_is_back(
    tmp_path: Path, broker: str
) -> None:
    """Beside it the peer, on each: test_celery_s_own_beat_loses_what_comes_due_while_the_broker_is_away."""
    shop = Shop("sqlite", tmp_path, broker)
    try:
        shop.start("-S", "onebeat")
        shop.take(lambda: len(shop.runs()) >= 2)
        while shop.in_state(
            RunState.SENT
        ):  # what the broker has and the ledger does not know may go out again
            shop.nap()
        shop.broker.leave()
        sent = set(shop.runs())
        away: set[str] = set()
        while len(away) < 3:  # until three have come due that nobody could send
            away = (shop.in_state(RunState.READY) | shop.in_state(RunState.SENT)) - sent
            shop.nap()
        shop.broker.come_back()
        shop.take(lambda: away <= set(shop.runs()))
        settled = shop.settled()

        assert settled == set(shop.runs())
        assert {shop.runs()[run] for run in away} == {1}, shop.logs()
    finally:
        shop.stop()


@pytest.mark.parametrize("text", TEXTS)
def test_seed_39_a_cron_text_in_beat_schedule_is_a_schedule_where_celery_raises(text: str) -> None:
    entries = {"report": {"task": "shop.report", "schedule": text}}
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = entries

    found = read_entries(entries, zone="Europe/Berlin")

    assert not found.problems
    assert found.definitions["report"].trigger == cron(text, zone="Europe/Berlin")
    with pytest.raises(AttributeError):
        Scheduler(app).tick()


def test_seed_45_both_settings_give_identical_schedules() -> None:
    entries = {
        "nightly": {
            "task": "shop.nightly",
            "schedule": crontab(0, 3, "mon-fri"),
            "options": {"queue": "mail"},
        },
        "Each Minute": {"task": "shop.each", "schedule": 60.0, "args": (1,), "kwargs": {"dry": True}},
        "text": {"task": "shop.text", "schedule": "0 0 * * *", "enabled": True},
    }

    beat = read_entries(entries, zone="Asia/Shanghai")
    redbeat = read_entries({}, redbeat=entries, zone="Asia/Shanghai")

    assert len(beat.entries) == 3
    assert redbeat == beat
