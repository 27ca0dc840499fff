"""`onebeat import redbeat`: what redbeat itself has written, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.celery.planning import did, importing
from tests.peers import places
from tests.servers import redis

from onebeat.celery.redbeat import Redbeat
from onebeat.core.triggers import anchored, build
from onebeat.testing.virtual import VirtualOnebeat

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow, pytest.mark.timeout(400)]

START = datetime(2026, 3, 10, tzinfo=UTC)
PREFIX = "shop-beat:"
SCHEDULE = f"{PREFIX}:schedule"
HOURLY = {"__type__": "interval", "every": 3600.0, "relative": False}


class Peer:
    """A Redis to which redbeat has written an entry of each kind, and when each comes by its own account."""

    def __init__(self) -> None:
        self.server = redis.Own()
        self.fires: dict[str, list[str]] = {}
        try:
            self.fires = places.answered("redbeat", "redbeat_rows", self.server.url, START.isoformat())
            self._kept = [(key, self.server.ask("HGETALL", key)) for key in self._keys()]
        except BaseException:
            self.server.stop()
            raise

    @property
    def url(self) -> str:
        return self.server.url

    def _keys(self) -> list[str]:
        return list(self.server.ask("ZRANGE", SCHEDULE, "0", "-1"))

    def begin_anew(self) -> None:
        """Bring back what redbeat wrote, and nothing else."""
        self.server.ask("FLUSHALL")
        for key, fields in self._kept:
            self.server.ask("HSET", key, *fields)
            self.server.ask("ZADD", SCHEDULE, "1", key)

    def contents(self) -> dict[str, Any]:
        """Everything that is in there."""
        keys = sorted(self.server.ask("KEYS", "*"))
        return {
            key: self.server.ask(
                *(("ZRANGE", key, "0", "-1", "WITHSCORES") if ":schedule" in key else ("HGETALL", key))
            )
            for key in keys
        }

    def write(self, name: str, definition: object, meta: object = None) -> None:
        """Write an entry by hand, as another program may; a text is written as it is."""
        self.remove(name)
        for field, value in (("definition", definition), ("meta", meta)):
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value)
                self.server.ask("HSET", f"{PREFIX}{name}", field, text)
        self.server.ask("ZADD", SCHEDULE, "0", f"{PREFIX}{name}")

    def remove(self, name: str) -> None:
        self.server.ask("DEL", f"{PREFIX}{name}")
        self.server.ask("ZREM", SCHEDULE, f"{PREFIX}{name}")


@pytest.fixture(scope="module")
def kept() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.server.stop()


@pytest.fixture
def peer(kept: Peer) -> Peer:
    kept.begin_anew()
    return kept


@pytest.fixture
def imported(peer: Peer, onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    options = ("--prefix", PREFIX, "--zone", "Europe/Berlin")
    onebeat.at(START)
    return importing(onebeat, capsys, "redbeat", peer.url, *options)


def test_each_kind_comes_for_a_year_when_redbeat_sends_it(peer: Peer) -> None:
    with Redbeat(peer.url, PREFIX) as source:
        found = source.found(zone_name="Europe/Berlin", guarded=False)
    triggers = {each.entry: build(anchored(each.definition.trigger, START)) for each in found.entries.entries}

    assert found.entries.problems == ()
    assert {"told", "off", *peer.fires} == triggers.keys()
    for entry, said in peer.fires.items():
        theirs = [datetime.fromisoformat(text) for text in said]
        ours = [START]
        while len(ours) <= len(theirs) and (following := triggers[entry].after(ours[-1])) is not None:
            ours.append(following)
        assert ours[1:] == theirs, entry
        assert theirs, entry


def test_a_plan_and_an_import_leave_redbeat_s_keys_as_they_are(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    before = peer.contents()

    plan = imported()
    nothing = onebeat.schedules.list()
    applied = imported("--apply")

    assert set(did(plan).values()) == set(did(applied).values()) == {"create"}
    assert (plan["owner"], plan["zone"], plan["status"]) == ("redbeat", "Europe/Berlin", 0)
    assert nothing == []
    assert len(onebeat.schedules.list(owner="redbeat")) == len(plan["entries"]) == len(peer.fires) + 2
    assert peer.contents() == before


def test_arguments_options_and_a_disabled_entry_arrive_as_they_are(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("--apply", "--guarded")
    told = onebeat.schedules.show("told").schedule.definition.target
    titles = {row.name: row.definition.title for row in onebeat.schedules.list()}

    assert (told.key, told.args) == ("celery:shop.told", (1, "two", {"three": None}))
    assert told.kwargs == {
        "kwargs": {"dry": True},
        "options": {"queue": "mail", "priority": 3, "expires": 60, "headers": {"a": 1}},
    }
    assert titles["odd-minutes"] == "Odd Minutes"
    paused = {row.name: row.paused for row in onebeat.schedules.list() if row.paused is not None}
    assert paused == {"off": "disabled where it comes from"}


def test_what_came_due_since_the_last_run_is_owed_once_and_the_rhythm_goes_on(
    onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    onebeat.at(START + timedelta(hours=3, minutes=29))
    imported("--apply")
    onebeat.run_until(START + timedelta(hours=4))
    runs = [run for run in onebeat.runs.list(limit=1000) if run.schedule in ("told", "nightly", "friday-13")]

    assert {(run.schedule, run.occurrence_at) for run in runs} == {
        ("told", START + timedelta(hours=3)),  # of three that came due
        ("told", START + timedelta(hours=4)),
        ("nightly", START + timedelta(hours=2, minutes=30)),
    }
    assert onebeat.schedules.show("odd-minutes").schedule.settled_until >= START + timedelta(hours=3)
    assert onebeat.audit().right


def test_importing_again_changes_what_has_changed_and_nothing_else(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    imported("--apply")
    before = {row.name: row.version for row in onebeat.schedules.list()}
    same = imported("--apply")
    unchanged = {row.name: row.version for row in onebeat.schedules.list()}
    peer.write("fives", {"task": "shop.fives", "schedule": HOURLY, "enabled": True})
    peer.remove("sundays")
    other = imported("--apply")
    pruned = imported("--apply", "--prune")

    assert set(did(same).values()) == {"keep"}
    assert unchanged == before
    assert {name: what for name, what in did(other).items() if what != "keep"} == {"fives": "change"}
    assert [step["name"] for step in other["gone"]] == ["sundays"]
    assert onebeat.schedules.show("fives").schedule.definition.trigger.kind == "interval"
    assert did(pruned)["sundays"] == "remove"


def test_an_entry_that_is_disabled_later_is_said_and_runs_on(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    peer.write("mail", {"task": "shop.mail", "schedule": HOURLY, "enabled": True})
    imported("--apply")
    peer.write("mail", {"task": "shop.mail", "schedule": HOURLY, "enabled": False})

    again = imported("--apply")

    assert [each["entries"] for each in again["notes"] if "onebeat schedule pause" in each["text"]] == [
        ["mail"]
    ]
    assert onebeat.schedules.show("mail").schedule.paused is None


def test_an_entry_that_never_ran_is_said_and_waits_for_its_next_occurrence(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    peer.write("new", {"task": "shop.new", "schedule": HOURLY})

    plan = imported("--apply")

    assert [each["entries"] for each in plan["notes"] if "has never run" in each["text"]] == [["new"]]
    assert onebeat.schedules.show("new").schedule.next_at == START + timedelta(hours=1)


BAD = {
    "no JSON": ("{broken", "its definition is no JSON"),
    "a list": ([1], "and no mapping"),
    "no task": ({"schedule": HOURLY}, "task is None"),
    "no schedule": ({"task": "t"}, "its schedule is None"),
    "an unknown type": (
        {"task": "t", "schedule": {"__type__": "moon", "phase": 3}},
        "its schedule is {'__type__'",
    ),
    "a period of nothing": ({"task": "t", "schedule": HOURLY | {"every": 0}}, "period"),
    "a period of text": ({"task": "t", "schedule": HOURLY | {"every": "often"}}, "is no interval"),
    "a crontab's field": (
        {"task": "t", "schedule": {"__type__": "crontab", "minute": "61"}},
        "minute has 61",
    ),
    "a crontab's word": (
        {"task": "t", "schedule": {"__type__": "crontab", "second": 1}},
        "'second' is nothing",
    ),
    "a rule's freq": (
        {"task": "t", "schedule": {"__type__": "rrule", "freq": 9, "dtstart": 1}},
        "is no rule",
    ),
    "easter": (
        {"task": "t", "schedule": {"__type__": "rrule", "freq": 0, "byeaster": 0}},
        "byeaster is no part",
    ),
    "half an hour": (
        {"task": "t", "schedule": {"__type__": "rrule", "freq": 3, "dtstart": 1, "dtstart_tz": 330}},
        "+330 minutes from UTC",
    ),
    "a chain": ({"task": "celery.chain", "schedule": HOURLY}, "composition of tasks"),
    "a countdown": ({"task": "t", "schedule": HOURLY, "options": {"countdown": 9}}, "countdown=9"),
    "arguments": ({"task": "t", "schedule": HOURLY, "args": "abc"}, "is no list"),
    "an end": (
        {
            "task": "t",
            "schedule": HOURLY,
            "options": {"expires": {"__type__": "datetime", "year": 2026, "month": 1, "day": 1}},
        },
        "to end a schedule",
    ),
}


def test_an_entry_that_cannot_be_meant_is_told_and_stops_no_other(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    for name, (definition, _) in BAD.items():
        peer.write(name, definition)
    peer.write(
        "an unknown zone",
        {"task": "t", "schedule": HOURLY},
        {"last_run_at": {"__type__": "datetime", "timezone": "Mars/Base"}},
    )
    peer.server.ask("ZADD", SCHEDULE, "0", f"{PREFIX}nowhere")
    peer.server.ask("SET", f"{PREFIX}text", "no hash")
    peer.server.ask("ZADD", SCHEDULE, "0", f"{PREFIX}text")

    plan = imported("--apply")

    assert "problems" in plan, plan
    problems = {each["entry"]: each["why"] for each in plan["problems"]}
    assert plan["status"] == 1
    for name, (_, why) in BAD.items():
        assert why in problems.pop(name), name
    assert "Mars/Base" in problems.pop("an unknown zone")
    assert "there is no definition" in problems.pop("nowhere")
    assert "no hash of redbeat's" in problems.pop("text")
    assert problems == {}
    assert len(onebeat.schedules.list(owner="redbeat")) == len(peer.fires) + 2
    assert "before it was broken" in imported("--apply", "--prune")["error"]["message"]


def test_what_is_no_redbeat_is_an_error_and_nothing_is_applied(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    peer.server.ask("ACL", "SETUSER", "beat", "on", ">right", "~*", "+@all")
    place = f"127.0.0.1:{peer.server.port}/0"
    said = {
        url: imported("--apply", "--prune", url=url)["error"]["message"]
        for url in (
            "http://127.0.0.1/0",
            f"redis://beat:wrong@{place}",
            f"redis://{place[:-1]}1",
            "redis://127.0.0.1:1/0",
        )
    }

    assert "there is no shop-beat::schedule" in said[f"redis://{place[:-1]}1"]
    assert "check user and password" in said[f"redis://beat:wrong@{place}"]
    assert "wrong@" not in str(list(said.values()))
    assert "does not answer" in said["redis://127.0.0.1:1/0"]
    assert "redis://" in said["http://127.0.0.1/0"]
    assert onebeat.schedules.list() == []


def test_while_a_beat_holds_the_lock_there_is_a_plan_and_no_import(
    peer: Peer, onebeat: VirtualOnebeat, imported: Callable[..., Any]
) -> None:
    peer.server.ask("SET", f"{PREFIX}:lock", "token", "PX", "60000")

    plan = imported()
    refused = imported("--apply")

    assert plan["status"] == 0
    assert "it runs, and would send what onebeat sends" in refused["error"]["message"]
    assert onebeat.schedules.list() == []
