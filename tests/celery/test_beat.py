"""`celery beat -S onebeat`: what Celery asks of a scheduler, and real beats on real brokers and ledgers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.beat import Service as CeleryService
from celery.schedules import crontab
from tests.celery.beats import EITHER, LEDGERS, PATIENCE_S, Shop
from tests.servers import redis

from onebeat import Onebeat
from onebeat.celery.beat import Beat
from onebeat.celery.settings import resend_of
from onebeat.core.errors import InvalidInput, Refused
from onebeat.core.model import RunState
from onebeat.engine.outbox import RESEND


def an_app(url: str | None, **conf: Any) -> Any:
    app = Celery("Shop & Co", broker="memory://", set_as_current=False)
    app.conf.update(onebeat_url=url, result_expires=None, **conf)
    app.conf.beat_schedule = {"nightly": {"task": "shop.nightly", "schedule": crontab(0, 3)}}
    return app


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'onebeat.db'}"


@pytest.fixture
def beat_of() -> Iterator[Callable[[Any], Beat]]:
    """Make beats as Celery does, and close them."""
    made: list[Beat] = []

    def make(app: Any) -> Beat:
        made.append(CeleryService(app, scheduler_cls="onebeat").get_scheduler())
        return made[-1]

    yield make
    for beat in made:
        beat.close()


# --- what Celery asks of it -----------------------------------------------------------------------------


def test_celery_finds_it_by_its_name_and_asks_for_a_banner_without_touching_the_ledger(
    file: str, tmp_path: Path
) -> None:
    beat = CeleryService(an_app(file), scheduler_cls="onebeat", max_interval=300).get_scheduler(lazy=True)

    assert type(beat) is Beat
    assert beat.info == f"    . ledger -> {file}\n    . owner -> celery.shop-co"
    assert not list(tmp_path.iterdir())


def test_the_banner_shows_no_password() -> None:
    beat = Beat(an_app("postgresql://beats:secret@db/shop?sslmode=require"), lazy=True)

    assert "secret" not in beat.info
    assert "beats:**@db/shop" in beat.info


def test_without_a_ledger_it_says_so_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBEAT_URL", raising=False)

    with pytest.raises(InvalidInput, match="onebeat_url"):
        Beat(an_app(None))


def test_the_first_tick_declares_what_the_settings_say_beside_what_is_there(
    file: str, beat_of: Callable[[Any], Beat]
) -> None:
    with Onebeat(file) as front:
        front.schedules.put("by-hand", "0 9 * * *", "shop:other")
        beat = beat_of(an_app(file, onebeat_revision=7))
        before = {row.name for row in front.schedules.list()}

        assert 0 < beat.tick() <= 1
        rows = {row.name: row for row in front.schedules.list()}

    assert before == {"by-hand"}
    assert rows.keys() == {"by-hand", "nightly"}
    assert (rows["nightly"].owner, rows["nightly"].revision) == ("celery.shop-co", 7)
    assert rows["nightly"].definition.target.kwargs["guarded"] is False


def test_an_app_with_the_guard_declares_guarded_runs(file: str, beat_of: Callable[[Any], Beat]) -> None:
    app = an_app(file)
    app.onebeat_installed = object()  # what install() leaves there
    beat_of(app).tick()

    with Onebeat(file) as front:
        assert "guarded" not in front.schedules.show("nightly").schedule.definition.target.kwargs


def test_a_message_without_an_answer_is_sent_again_after_what_the_settings_say(file: str) -> None:
    assert resend_of(an_app(file)) == RESEND
    assert resend_of(an_app(file, onebeat_resend_s=12.5)) == timedelta(seconds=12.5)


@pytest.mark.parametrize("said", [9, 601, float("nan"), "60", True])
def test_a_beat_does_not_begin_that_would_send_again_too_soon_or_never(
    said: Any, file: str, beat_of: Callable[[Any], Beat]
) -> None:
    with pytest.raises(InvalidInput, match=r"onebeat_resend_s=.* is no number of seconds from 10 to 600"):
        beat_of(an_app(file, onebeat_resend_s=said))


def test_a_bad_entry_is_said_loudly_and_the_others_are_scheduled(
    file: str, beat_of: Callable[[Any], Beat], caplog: pytest.LogCaptureFixture
) -> None:
    app = an_app(file)
    app.conf.beat_schedule["bad"] = {"task": "t", "schedule": "every now and then"}
    beat_of(app).tick()

    with Onebeat(file) as front:
        assert [row.name for row in front.schedules.list()] == ["nightly"]
    assert [record.levelno for record in caplog.records if "'bad'" in record.message] == [logging.ERROR]


def test_a_start_changes_nothing_and_says_what_differs(
    file: str, beat_of: Callable[[Any], Beat], caplog: pytest.LogCaptureFixture
) -> None:
    beat_of(an_app(file)).tick()
    app = an_app(file)
    app.conf.beat_schedule = {"nightly": {"task": "shop.nightly", "schedule": crontab(0, 4)}}
    beat_of(app).tick()
    app.conf.onebeat_revision = 1
    with Onebeat(file) as front:
        kept = front.schedules.show("nightly").schedule.definition.trigger.fields["expression"]
        beat_of(app).tick()
        changed = front.schedules.show("nightly").schedule.definition.trigger.fields["expression"]

    assert (kept, changed) == ("0 3 * * *", "0 4 * * *")
    assert "nightly is in the ledger with another trigger than in the settings" in caplog.text


def test_a_ledger_that_is_away_is_waited_for(
    beat_of: Callable[[Any], Beat], caplog: pytest.LogCaptureFixture
) -> None:
    server = redis.Own()
    try:
        server.kill()
        beat = beat_of(an_app(f"{server.url}?namespace=test-away"))
        said = beat.tick()
        assert 0 < said <= 1
        assert "the ledger cannot be opened" in caplog.text
        server.start()
        for _ in range(20):
            beat.tick()
        with Onebeat(f"{server.url}?namespace=test-away") as front:
            assert [row.name for row in front.schedules.list()] == ["nightly"]
        beat.close()
    finally:
        server.stop()


def test_an_entry_cannot_be_added_to_one_beat_alone(file: str) -> None:
    with pytest.raises(Refused, match=r"schedules\.put"):
        Beat(an_app(file), lazy=True).add(name="x", task="t", schedule=1)


def test_closing_in_the_middle_of_a_start_leaves_it_to_the_close_that_follows(file: str) -> None:
    # Celery's handler of SIGTERM closes, whatever the process is doing; the locks of a start are held then.
    beat = Beat(an_app(file))
    beat._starting = True
    beat.close()
    beat._starting = False
    beat.tick()
    service = beat._service
    beat.close()
    beat.close()

    assert service is not None
    assert not service.alive


# --- real beats -----------------------------------------------------------------------------------------


@pytest.fixture(params=LEDGERS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(request.param, tmp_path)
    yield shop
    shop.stop()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_beats_send_each_run_once_and_one_that_is_killed_loses_none(shop: Shop) -> None:
    first, second = shop.start("-S", "onebeat"), shop.start("-S", "onebeat", "--max-interval", "300")
    shop.take(lambda: len(shop.runs()) >= 10)
    before = shop.runs()
    first.kill()  # and it says no word to anybody
    under_way = shop.in_state(RunState.SENT)
    shop.take(lambda: len(shop.runs()) >= 16)
    settled = shop.settled()
    second.send_signal(signal.SIGTERM)

    assert second.wait(PATIENCE_S) == 0, shop.logs()
    assert set(before.values()) == {1}, before
    assert settled == set(shop.runs()), shop.logs()
    # No guard is behind these: what was sent and not yet noted when a beat died is sent again.
    assert {run for run, count in shop.runs().items() if count > 1} <= under_way


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", EITHER)
def test_celery_s_own_beat_loses_what_comes_due_while_the_broker_is_away(tmp_path: Path, broker: str) -> None:
    # The peer beside test_seed_36_what_comes_due_while_a_real_broker_is_away_is_sent_once_it_is_back.
    shop = Shop("sqlite", tmp_path, broker)
    try:
        beat = shop.start("-S", "celery.beat:PersistentScheduler", "-s", str(tmp_path / "plain"))
        shop.take(lambda: len(shop.arrived) >= 2)
        shop.broker.leave()
        while (failed := shop.logs().count("Message Error")) < 3:
            shop.nap()
        shop.broker.come_back()
        shop.take(lambda: len(shop.arrived) >= 4)
        beat.send_signal(signal.SIGTERM)
        beat.wait(PATIENCE_S)
        shop.drain()

        # The first of them may be there: the broker went away before it could say so.
        assert len(shop.arrived) <= shop.logs().count("Sending due task") - (failed - 1)
    finally:
        shop.stop()
