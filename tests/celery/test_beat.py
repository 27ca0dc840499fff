"""`celery beat -S onebeat`: what Celery asks of a scheduler, and real beats on real brokers and ledgers."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client
from celery import Celery
from celery.beat import Service as CeleryService
from celery.schedules import crontab
from tests.servers import redis

from onebeat import Onebeat
from onebeat.celery.beat import Beat
from onebeat.core.errors import InvalidInput, Refused
from onebeat.core.messages import RunQuery
from onebeat.core.model import FINISHED, RunState

TOP = Path(__file__).parents[2]
PATIENCE_S = 100


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


class Shop:
    """A broker, a ledger, beats as processes, and who counts what arrives."""

    def __init__(self, ledger: Callable[[redis.Own], str], place: Path) -> None:
        self.broker = redis.Own()
        self.url = ledger(self.broker)
        self.place = place
        self.beats: list[subprocess.Popen[bytes]] = []
        self.arrived: list[dict[str, Any]] = []

    def start(self, *words: str, period: float = 1.0) -> subprocess.Popen[bytes]:
        """Start a beat, by Celery's own command."""
        env = os.environ | {
            "SHOP_BROKER": self.broker.url,
            "SHOP_PERIOD": str(period),
            "SHOP_CONF": json.dumps({"onebeat_url": self.url}),
            "PYTHONPATH": str(TOP),
        }
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.celery.shop_beats",
            "beat",
            "-l",
            "info",
            *words,
        ]
        with (self.place / f"beat{len(self.beats)}.log").open("wb") as log:
            self.beats.append(
                subprocess.Popen(command, cwd=self.place, env=env, stdout=log, stderr=subprocess.STDOUT)
            )
        return self.beats[-1]

    def take(self, enough: Callable[[], bool]) -> None:
        """Take messages off the queue, as a worker does, until there are enough."""
        with client.Redis.from_url(self.broker.url, socket_timeout=PATIENCE_S) as queue:
            while not enough():
                found: Any = queue.blpop(["celery"], timeout=PATIENCE_S)
                assert found is not None, self.logs()
                self.arrived.append(json.loads(found[1])["headers"])

    def runs(self) -> Counter[str]:
        return Counter(each.get("onebeat_run", "") for each in self.arrived)

    def logs(self) -> str:
        return "\n".join(
            path.read_text(errors="replace")[-3000:] for path in sorted(self.place.glob("beat*.log"))
        )

    def in_state(self, state: RunState) -> set[str]:
        with Onebeat(self.url) as front:
            return {run.id for run in front.store.runs(RunQuery(states=(state,), limit=1000))}

    def settled(self) -> set[str]:
        """Let no more come due, and return the runs that there are once all have been handed over."""
        with Onebeat(self.url) as front:
            front.schedules.pause("each-second")
            for _ in range(PATIENCE_S * 10):
                runs = list(front.store.runs(RunQuery(limit=1000)))
                if all(run.state in FINISHED for run in runs):
                    break
                threading.Event().wait(0.1)  # nobody is told when a single run has ended
            assert {run.state for run in runs} == {RunState.HANDED_OVER}, self.logs()
            assert front.audit().right
        with client.Redis.from_url(self.broker.url) as queue:
            while found := queue.lpop("celery"):
                self.arrived.append(json.loads(str(found, "utf-8"))["headers"])
        return {run.id for run in runs}

    def stop(self) -> None:
        for beat in self.beats:
            if beat.poll() is None:
                beat.kill()
            beat.wait()
        self.broker.stop()


LEDGERS: dict[str, Callable[[redis.Own, Path], str]] = {
    "sqlite": lambda broker, place: f"sqlite:///{place / 'onebeat.db'}",
    "redis": lambda broker, place: f"{broker.url}?namespace=test-beats",
}


@pytest.fixture(params=LEDGERS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(lambda broker: LEDGERS[request.param](broker, tmp_path), tmp_path)
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
