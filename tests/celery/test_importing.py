"""`onebeat import celery-beat`: what Celery's own beat left, and what becomes of it."""

from __future__ import annotations

import json
import pickle
import shelve
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab

from onebeat.celery.beatfile import last_runs
from onebeat.cli.main import run
from onebeat.cli.session import Session
from onebeat.core.errors import InvalidInput
from onebeat.testing.virtual import VirtualOnebeat

PROJECT = """
from celery import Celery
from celery.schedules import crontab

app = Celery("shop", broker="memory://", set_as_current=False)
app.conf.timezone = "Europe/Berlin"
app.conf.result_expires = None
app.conf.beat_schedule_filename = {file!r}
app.conf.beat_schedule = {{
    "Nightly": {{"task": "shop.nightly", "schedule": crontab(0, 3)}},
    "each-minute": {{"task": "shop.each", "schedule": 60.0, "args": (1,), "options": {{"queue": "mail"}}}},
    "hourly": {{"task": "shop.hourly", "schedule": crontab(0)}},
    {more}
}}
"""


class Shop:
    """A Celery project in a folder of its own, and what its beat has left there."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file = place / "celerybeat-schedule"
        self.write()

    def write(self, more: str = "") -> None:
        (self.place / "shop_proj.py").write_text(
            PROJECT.format(file=str(self.file), more=more), encoding="utf-8"
        )
        sys.modules.pop("shop_proj", None)

    @property
    def app(self) -> Any:
        import shop_proj  # type: ignore[import-not-found]  # written by the test

        return shop_proj.app

    def beat_ran(self, **at: datetime) -> None:
        """Have Celery's own scheduler keep these last runs, as it does when it ends; the rest ran then."""
        scheduler = PersistentScheduler(self.app, schedule_filename=str(self.file))
        for entry in scheduler.schedule.values():
            entry.last_run_at = max(at.values())
        for name, instant in at.items():
            scheduler.schedule[name.replace("_", "-")].last_run_at = instant
        scheduler.close()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Shop(tmp_path)
    sys.modules.pop("shop_proj", None)


@pytest.fixture
def imported(onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Import with these options; return what --json prints, with the exit status in it."""

    def import_(*options: str) -> Any:
        capsys.readouterr()
        status = run(["import", "celery-beat", "-A", "shop_proj", "--json", *options], Session(onebeat))
        said, complained = capsys.readouterr()
        return json.loads(said or complained) | {"status": status}

    return import_


def did(plan: Any) -> dict[str, str]:
    return {each["schedule"]: each["what"] for each in plan["entries"]} | {
        step["name"]: step["verb"] for step in plan["gone"]
    }


def test_a_plan_writes_nothing(onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]) -> None:
    plan = imported()

    assert did(plan) == {"nightly": "create", "each-minute": "create", "hourly": "create"}
    assert (plan["owner"], plan["zone"], plan["applied"], plan["status"]) == (
        "celery.shop",
        "Europe/Berlin",
        False,
        0,
    )
    assert "there is no" in plan["last_runs"]
    assert onebeat.schedules.list() == []


def test_what_is_applied_is_what_beat_sent(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    imported("--apply", "--reason", "moving")
    nightly = onebeat.schedules.show("nightly").schedule
    minutely = onebeat.schedules.show("each-minute").schedule

    assert nightly.definition.trigger.fields == {"expression": "0 3 * * *", "zone": "Europe/Berlin"}
    assert (nightly.owner, nightly.definition.title) == ("celery.shop", "Nightly")
    assert minutely.definition.target.key == "celery:shop.each"
    assert minutely.definition.target.args == (1,)
    assert minutely.definition.target.kwargs == {"options": {"queue": "mail"}, "guarded": False}


def test_what_came_due_since_the_last_run_is_owed_once_and_nothing_else_is(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    now = onebeat.now  # noon, on the clock of the ledger
    shop.beat_ran(
        Nightly=now - timedelta(days=3),  # stopped for three nights: Celery sends one
        each_minute=now - timedelta(seconds=20),
        hourly=now - timedelta(minutes=30),
    )

    plan = imported()
    owed = {each["schedule"]: each.get("owed_at") for each in plan["entries"]}
    applied = imported("--apply")

    assert owed["nightly"] == "2026-11-21T02:00:00Z"
    assert owed["each-minute"] is None
    assert {each["schedule"]: each["owed_at"] for each in applied["entries"]} == owed
    assert onebeat.runs.list() == []  # it is owed by the row itself, and a node settles it

    onebeat.run_until(onebeat.now)
    runs = {run.schedule: run for run in onebeat.runs.list()}
    assert set(runs) == {name for name, at in owed.items() if at} == {"nightly", "hourly"}
    assert runs["nightly"].occurrence_at == datetime(2026, 11, 21, 2, tzinfo=UTC)
    assert onebeat.audit().right


def test_a_period_goes_on_from_its_last_run(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    ran = onebeat.now - timedelta(seconds=20)
    shop.beat_ran(each_minute=ran)

    imported("--apply")

    assert onebeat.schedules.show("each-minute").schedule.next_at == ran + timedelta(minutes=1)


def test_importing_again_does_nothing_however_old_the_file_is(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.beat_ran(Nightly=onebeat.now - timedelta(days=3), each_minute=onebeat.now - timedelta(hours=1))
    imported("--apply")
    rows = [(row.name, row.version, row.definition) for row in onebeat.schedules.list()]
    onebeat.at(onebeat.now + timedelta(days=2))

    again = imported("--apply")

    assert set(did(again).values()) == {"keep"}
    assert [(row.name, row.version, row.definition) for row in onebeat.schedules.list()] == rows


def test_what_a_beat_has_sent_whose_clock_is_ahead_is_not_sent_again(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    onebeat.at(onebeat.now - timedelta(seconds=2))
    sent = onebeat.now + timedelta(seconds=3)  # at noon, by its own clock
    shop.beat_ran(hourly=sent)

    imported("--apply")
    onebeat.run_until(sent + timedelta(minutes=61))

    assert [run.occurrence_at for run in onebeat.runs.list(schedule="hourly")] == [
        sent.replace(second=0) + timedelta(hours=1)
    ]
    assert onebeat.audit().right


def test_a_last_run_far_ahead_is_refused_for_no_instant_can_be_trusted_then(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.beat_ran(hourly=onebeat.now + timedelta(hours=8))

    plan = imported("--apply")

    assert "8:00:00 ahead of the ledger's clock" in plan["error"]["message"]
    assert onebeat.schedules.list() == []


def test_anew_leaves_the_last_runs_out(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.beat_ran(Nightly=onebeat.now - timedelta(days=3))

    plan = imported("--apply", "--anew")

    assert plan["last_runs"] == "left out (--anew)"
    assert onebeat.runs.list() == []


def test_a_bad_entry_is_told_and_stops_no_other(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.write('"broken": {"task": "t", "schedule": 30, "options": {"countdown": 9}},')

    plan = imported("--apply")

    assert plan["status"] == 1
    assert [each["entry"] for each in plan["problems"]] == ["broken"]
    assert sorted(row.name for row in onebeat.schedules.list()) == ["each-minute", "hourly", "nightly"]


def test_what_beat_adds_by_itself_is_added_by_celery_s_own_rule(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.write("}\napp.conf.result_expires = 3600\n_ = {")
    imported("--apply")
    cleanup = onebeat.schedules.show("celery.backend_cleanup").schedule.definition

    assert cleanup.target.key == "celery:celery.backend_cleanup"
    assert cleanup.target.kwargs["options"] == {"expires": 12 * 3600}
    assert cleanup.trigger.fields == {"expression": "0 4 * * *", "zone": "Europe/Berlin"}


def test_prune_removes_what_the_app_declares_no_more_and_never_what_is_broken(
    onebeat: VirtualOnebeat, shop: Shop, imported: Callable[..., Any]
) -> None:
    shop.write('"old": {"task": "t", "schedule": 30},')
    imported("--apply")
    shop.write('"old": {"task": "t", "schedule": None},')
    refused = imported("--apply", "--prune")
    shop.write()
    plan = imported("--apply", "--prune")

    assert "before it was broken" in refused["error"]["message"]
    assert did(plan)["old"] == "remove"


def test_the_plan_in_words_says_what_to_do(
    onebeat: VirtualOnebeat, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.beat_ran(Nightly=onebeat.now - timedelta(days=3))

    status = run(["import", "celery-beat", "-A", "shop_proj"], Session(onebeat))
    said = capsys.readouterr().out

    assert status == 0
    assert "times in Europe/Berlin; owner celery.shop; last runs: of" in said
    assert "at 03:00, every day, Europe/Berlin" in said
    assert "each-minute: a period is counted from the declaration" in said
    assert said.endswith("Nothing was done; --apply does it.\n")


def test_an_app_that_is_not_there_is_an_error(imported: Callable[..., Any]) -> None:
    assert "no Celery app 'nowhere'" in imported("-A", "nowhere")["error"]["message"]


# --- the file -------------------------------------------------------------------------------------------


class Evil:
    """What runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("import pathlib; pathlib.Path('evil').touch()",))


@pytest.mark.parametrize("entries", [Evil(), {"a": Evil()}])
def test_what_would_run_code_is_refused_and_does_not_run(
    entries: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with shelve.open("celerybeat-schedule") as file:
        file["entries"] = entries

    with pytest.raises(InvalidInput, match=r"builtins\.exec, which is not read"):
        last_runs(Path("celerybeat-schedule"))

    assert not Path("evil").exists()


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Asia/Shanghai"), timezone(timedelta(hours=2)), None])
def test_a_last_run_is_read_in_whatever_zone_it_was_kept(protocol: int, zone: Any, tmp_path: Path) -> None:
    app = Celery("x", set_as_current=False)
    scheduler = PersistentScheduler(app, lazy=True)
    at = datetime(2026, 11, 21, 12, 0, 0, 123, tzinfo=UTC)
    kept = at.replace(tzinfo=None) if zone is None else at.astimezone(zone)
    entry = scheduler.Entry(name="a", task="t", schedule=crontab(), last_run_at=kept, app=app)
    with shelve.open(str(tmp_path / "file"), protocol=protocol) as file:
        file["entries"] = {"a": entry}

    assert last_runs(tmp_path / "file") == {"a": at}


def test_a_broken_file_is_told_and_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "celerybeat-schedule"
    place.write_bytes(b"\x00 not a database")

    with pytest.raises(InvalidInput, match="--anew"):
        last_runs(place)

    assert place.read_bytes() == b"\x00 not a database"


def test_no_file_is_no_last_runs(tmp_path: Path) -> None:
    assert last_runs(tmp_path / "celerybeat-schedule") is None
