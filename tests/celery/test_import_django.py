"""`onebeat import django-celery-beat`: rows that it has written itself, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import apsw
import pymysql
import pytest
from tests.celery.planning import did, importing
from tests.peers import places
from tests.servers import mariadb
from tests.servers.running import SERVERS

from onebeat.celery.django_beat import TABLES, TASKS, Reader
from onebeat.core.triggers import anchored, build
from onebeat.store.elsewhere import picture_of
from onebeat.testing.virtual import VirtualOnebeat

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

START = datetime(2026, 3, 10, tzinfo=UTC)
NEVER_IMPORTED = {"ran", "ran-now", "ran-once", "expired"}
NOT_ASKED = {"sunset", "off", "told", *NEVER_IMPORTED}
IN_A_GAP = {datetime(2026, 3, 29, 1, 30, tzinfo=UTC): datetime(2026, 3, 29, 1, tzinfo=UTC)}
"""The clock is put forward from 02:00 to 03:00: for 02:30, Celery comes at 03:30, and onebeat at 03:00."""


class Peer:
    """A file that django-celery-beat has written, and when each of its rows comes by its own account."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.file = folder / "django.sqlite3"
        settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.file)}
        self.comes = written(settings, **more)
        self._kept = self.file.read_bytes()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def begin_anew(self) -> None:
        self.file.write_bytes(self._kept)

    def run(self, sql: str, *args: Any) -> None:
        """Change it by hand, as an admin does."""
        with apsw.Connection(str(self.file)) as db:
            db.execute(sql, args)
        db.close()

    def set(self, name: str, column: str, value: Any) -> None:
        self.run(f'UPDATE {TASKS} SET "{column}" = ? WHERE name = ?', value, name)


def written(settings: dict[str, str], **more: str) -> dict[str, list[str]]:
    said: dict[str, list[str]] = places.answered(
        "django", "django_rows", json.dumps(settings), START.isoformat(), more=more
    )
    return said


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    return Peer(tmp_path_factory.mktemp("django"))


@pytest.fixture
def peer(kept: Peer) -> Peer:
    kept.begin_anew()
    return kept


@pytest.fixture
def imported(peer: Peer, onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    onebeat.at(START)
    return importing(onebeat, capsys, "django-celery-beat", peer.url)


def test_each_row_comes_for_a_year_when_that_beat_sends_it(peer: Peer) -> None:
    found = Reader(peer.url).found(zone_name="UTC", guarded=False)
    entries = {each.entry: each.definition.trigger for each in found.entries.entries}

    assert found.entries.problems == ()
    assert entries.keys() == (peer.comes.keys() | NOT_ASKED) - NEVER_IMPORTED
    for entry, said in peer.comes.items():
        since = found.ran.get(entry, START - timedelta(days=1))
        trigger = build(anchored(entries[entry], since))
        theirs = [datetime.fromisoformat(text) for text in said]
        if entry == "in-the-gap":
            theirs = [IN_A_GAP.get(at, at) for at in theirs]
        ours = [since]
        while len(ours) <= len(theirs) and (following := trigger.after(ours[-1])) is not None:
            ours.append(following)
        late = entry == "long-ago"  # due before the start: that beat sends it as soon as it looks
        assert ours[1:] == ([START - timedelta(hours=1)] if late else theirs), entry
        assert theirs, entry


def test_the_rows_are_the_same_from_each_database(
    peer: Peer, tmp_path: Path, database: tuple[str, Any]
) -> None:
    url, settings, more = database
    written(settings, **more)

    of_server = Reader(url).found(zone_name="UTC", guarded=False)
    of_file = Reader(peer.url).found(zone_name="UTC", guarded=False)

    assert of_server.entries == of_file.entries
    assert of_server.ran == of_file.ran
    assert of_server.disabled == of_file.disabled == {"off"}


@pytest.fixture(
    params=[
        pytest.param("postgres", marks=pytest.mark.server("postgres")),
        pytest.param("mariadb", marks=pytest.mark.server("mariadb")),
    ]
)
def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """An empty database on a server: its URL, as Django names it, and what Django needs for it."""
    kind = request.param
    server, name = urlsplit(SERVERS.url(kind)), SERVERS.ledger(kind, tmp_path)
    settings: dict[str, Any] = {"HOST": server.hostname, "PORT": server.port, "USER": server.username}
    settings |= {"PASSWORD": server.password or ""}
    if kind == "mariadb":
        mariadb.make(SERVERS.url(kind), name)
        library = tmp_path / "library"  # Django's own client for MySQL is a program in C; ours is not
        library.mkdir()
        (library / "pymysql").symlink_to(Path(pymysql.__file__).parent)
        more = {"PYTHONPATH": os.pathsep.join([str(library), str(places.PROGRAMS)])}
        yield (
            urlunsplit(server._replace(path=f"/{name}")),
            settings | {"ENGINE": "django.db.backends.mysql", "NAME": name},
            more,
        )
        return
    import psycopg

    path = f"-c search_path={name}"
    with psycopg.connect(SERVERS.url(kind), autocommit=True) as db:
        db.execute(f'CREATE SCHEMA "{name}"'.encode())
    yield (
        f"{SERVERS.url(kind)}?options=-csearch_path%3D{name}",
        settings
        | {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": server.path.removeprefix("/"),
            "OPTIONS": {"options": path},
        },
        {},
    )


def test_without_time_zones_instants_are_read_in_django_s_own(peer: Peer, tmp_path: Path) -> None:
    local = Peer(tmp_path, DJANGO_LOCAL="1")

    of_local = Reader(local.url, "Asia/Shanghai").found(zone_name="UTC", guarded=False)
    of_utc = Reader(peer.url).found(zone_name="UTC", guarded=False)

    assert of_local.entries == of_utc.entries
    assert of_local.ran == of_utc.ran


def test_a_plan_and_an_import_leave_the_tables_as_they_are(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    before = peer.file.read_bytes()

    plan = imported()
    nothing = onebeat.schedules.list()
    applied = imported("--apply")

    assert set(did(plan).values()) == set(did(applied).values()) == {"create"}
    assert (plan["owner"], plan["status"], nothing) == ("django-celery-beat", 0, [])
    assert len(onebeat.schedules.list(owner="django-celery-beat")) == len(plan["entries"])
    assert peer.file.read_bytes() == before
    assert sorted(each.name for each in peer.file.parent.iterdir()) == [peer.file.name]


def test_what_is_said_of_a_row_is_said_of_its_target(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    plan = imported("--apply", "--guarded")
    told = onebeat.schedules.show("told").schedule.definition.target
    notes = {entry for each in plan["notes"] if "not imported" in each["text"] for entry in each["entries"]}
    paused = {row.name: row.paused for row in onebeat.schedules.list() if row.paused is not None}

    assert (told.key, told.args) == ("celery:shop.told", (1, "two", {"three": None}))
    assert told.kwargs == {
        "kwargs": {"dry": True},
        "options": {
            "queue": "mail",
            "routing_key": "mail.now",
            "priority": 0,
            "expires": 60,
            "headers": {"a": 1, "periodic_task_name": "told"},
        },
    }
    assert onebeat.schedules.show("ninety-minutes").schedule.definition.title == "Ninety Minutes"
    assert paused == {"off": "disabled where it comes from"}
    assert notes == NEVER_IMPORTED


def test_what_came_due_since_the_last_run_is_owed_once_and_the_rhythm_goes_on(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    for busy in ("half-seconds", "seconds", "each-minute"):
        peer.run(f"DELETE FROM {TASKS} WHERE name = ?", busy)
    onebeat.at(START + timedelta(hours=3, minutes=10))
    plan = {each["schedule"]: each for each in imported("--apply")["entries"]}
    onebeat.run_until(START + timedelta(hours=4, minutes=30))
    wanted = {"ninety-minutes", "nightly", "soon", "long-ago", "once-hourly", "off", "never-ran"}
    runs = sorted(
        (run.schedule, (run.occurrence_at - START) / timedelta(minutes=1))
        for run in onebeat.runs.list(limit=1000)
        if run.schedule in wanted and run.occurrence_at is not None
    )

    assert runs == [
        ("long-ago", -60),
        ("never-ran", 180),  # from when it was changed
        ("nightly", 150),
        ("ninety-minutes", 180),  # of two that came due
        ("ninety-minutes", 270),
        ("once-hourly", 60),
        ("soon", 60),
    ]
    assert {name for name in wanted if plan[name]["owed_at"] is None} == {"off"}
    assert plan["never-ran"]["last_run_at"] is None
    assert plan["nightly"]["last_run_at"] == "2026-03-10T00:00:00Z"
    assert onebeat.audit().right


def test_importing_again_changes_what_has_changed_and_nothing_else(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("--apply")
    before = {row.name: row.version for row in onebeat.schedules.list()}
    same = imported("--apply")
    unchanged = {row.name: row.version for row in onebeat.schedules.list()}
    peer.set("nightly", "args", "[5]")
    peer.run(f"DELETE FROM {TASKS} WHERE name = 'sundays'")
    other = imported("--apply")

    assert set(did(same).values()) == {"keep"}
    assert unchanged == before
    assert {name: what for name, what in did(other).items() if what != "keep"} == {"nightly": "change"}
    assert [step["name"] for step in other["gone"]] == ["sundays"]
    assert onebeat.schedules.show("nightly").schedule.definition.target.args == (5,)
    assert did(imported("--apply", "--prune"))["sundays"] == "remove"


def test_a_sunset_that_was_sent_within_its_minute_is_not_sent_again(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("--apply", "--anew")
    sunset = onebeat.schedules.show("sunset").upcoming[0]
    onebeat.schedules.delete("sunset")
    onebeat.at(sunset - timedelta(seconds=20))
    sent = sunset - timedelta(seconds=30)
    peer.set("sunset", "last_run_at", sent.replace(tzinfo=None).isoformat(" "))

    imported("--apply", "--force")
    onebeat.run_until(sunset + timedelta(minutes=5))

    assert onebeat.runs.list(schedule="sunset") == []


BAD = {
    "args": ("[1", "its args are no JSON"),
    "kwargs": ("[1]", "no JSON object"),
    "headers": ("nothing", "its headers are no JSON"),
    "task": ("celery.group", "composition of tasks"),
    "interval_id": (None, "it has no schedule"),
    "crontab_id": (1, "it has interval and crontab"),
    "priority": (999, "no number from 0 to 255"),
    "start_time": ("tomorrow", "its start_time is 'tomorrow'"),
}


def test_a_row_that_cannot_be_meant_is_told_and_stops_no_other(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    peer.run("PRAGMA foreign_keys = OFF")
    columns = "task, interval_id, args, kwargs, headers, enabled, total_run_count, date_changed"
    columns += ", description, one_off"
    for column, (value, _) in BAD.items():
        peer.run(
            f"INSERT INTO {TASKS} (name, {columns}) SELECT ?, {columns} FROM {TASKS} WHERE name = 'seconds'",
            column,
        )
        peer.set(column, column, value)
    peer.run("UPDATE django_celery_beat_crontabschedule SET timezone = 'Mars/Base' WHERE hour = '12'")
    peer.run("UPDATE django_celery_beat_intervalschedule SET period = 'fortnights' WHERE period = 'days'")
    peer.run("UPDATE django_celery_beat_crontabschedule SET minute = '61' WHERE minute = '13'")
    peer.set("shanghai", "crontab_id", 999)

    plan = imported("--apply")

    problems = {each["entry"]: each["why"] for each in plan["problems"]}
    assert plan["status"] == 1
    for column, (_, why) in BAD.items():
        assert why in problems.pop(column), column
    assert "Mars/Base" in problems.pop("sundays")
    assert "'fortnights'" in problems.pop("two-days")
    assert "minute has 61" in problems.pop("friday-13")
    assert "number 999, is not there" in problems.pop("shanghai")
    assert problems.keys() <= {"expired"}
    assert onebeat.schedules.show("nightly").schedule.owner == "django-celery-beat"
    assert "before it was broken" in imported("--apply", "--prune")["error"]["message"]


def test_what_is_no_such_database_is_an_error_and_nothing_is_applied(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copy(__file__, tmp_path / "text")
    apsw.Connection(str(tmp_path / "empty.db")).execute("CREATE TABLE shop (id)").close()
    said = {
        url: imported("--apply", "--prune", url=url)["error"]["message"]
        for url in (
            f"sqlite:///{tmp_path}/nothing.db",
            f"sqlite:///{tmp_path}/text",
            f"sqlite:///{tmp_path}/empty.db",
            "redis://127.0.0.1/0",
            "mysql://shop:secret@127.0.0.1:1/shop",
            "postgresql://shop:secret@127.0.0.1:1/shop",
        )
    }

    assert "there is no file" in said[f"sqlite:///{tmp_path}/nothing.db"]
    assert "file is not a database" in said[f"sqlite:///{tmp_path}/text"]
    assert f"has no table {TASKS}" in said[f"sqlite:///{tmp_path}/empty.db"]
    assert "'redis' begins no URL of a database" in said["redis://127.0.0.1/0"]
    for url in ("mysql://shop:secret@127.0.0.1:1/shop", "postgresql://shop:secret@127.0.0.1:1/shop"):
        assert "127.0.0.1:1/shop could not be used" in said[url]
        assert "secret" not in said[url]
    assert onebeat.schedules.list() == []
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.server("mariadb")
def test_who_may_not_come_in_is_told_so(imported: Callable[..., Any]) -> None:
    server = urlsplit(SERVERS.url("mariadb"))
    wrong = urlunsplit(server._replace(netloc=f"nobody:wrong@{server.hostname}:{server.port}"))

    assert "does not let us in" in imported(url=wrong)["error"]["message"]


def test_a_table_that_older_versions_lack_is_no_hindrance(peer: Peer) -> None:
    peer.run(f"DELETE FROM {TASKS} WHERE clocked_id IS NOT NULL")
    peer.run("DROP TABLE django_celery_beat_clockedschedule")

    assert picture_of(peer.url, TABLES).tables.keys() == set(TABLES[:-1])
    assert Reader(peer.url).found(zone_name="UTC", guarded=False).entries.problems == ()
