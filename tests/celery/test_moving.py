"""Moving a live fleet by the lines of a page: an old beat that runs, real workers, who counts outside."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest
from tests.celery.fleet import TOP, Fleet
from tests.peers import places
from tests.servers import rabbitmq, redis

from onebeat.celery.beatfile import last_runs
from onebeat.core.messages import RunQuery
from onebeat.core.model import Run, RunState

pytestmark = [pytest.mark.server("redis"), pytest.mark.slow, pytest.mark.timeout(600)]

APP = "tests.celery.shop"
PERIODS = {"one": 1, "two": 2}
ENDS_S = 60


class Ran(NamedTuple):
    """What the old beat wrote of a schedule: when it ran last, and how often, if it says so."""

    last_run_at: datetime
    count: int | None


class Old(NamedTuple):
    """A beat to move from: its environment, its program, and its page, with the URL that stands there."""

    lock: str
    program: str
    page: str
    written: str
    url: Callable[[Moving], str]
    ran: Callable[[Moving, str], Ran]


class Moving:
    """A fleet on the move."""

    def __init__(self, old: Old, folder: Path, amqp: str | None) -> None:
        self.old = old
        self.folder = folder
        self.file = folder / "django.sqlite3"
        self.broker = redis.Own()
        self.amqp = amqp  # else the broker is Redis, where the bodies leave a word in any case
        self.fleet = Fleet(f"sqlite:///{folder / 'onebeat.db'}", self.broker.url, folder)
        self.said: Counter[str] = Counter()
        self.pushed: int | None = None
        self.beats: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for beat in self.beats:
            if beat.poll() is None:
                beat.kill()
            beat.wait()
        self.fleet.close()
        self.broker.stop()

    @property
    def conf(self) -> dict[str, Any]:
        """What the app's settings say beside its own."""
        conf: dict[str, Any] = {"result_expires": None}
        if self.amqp is not None:
            conf["broker_url"] = self.amqp
        if not self.old.program:
            conf["beat_schedule"] = {
                name: {"task": "shop.note", "schedule": period, "args": [name]}
                for name, period in PERIODS.items()
            }
        return conf

    def environment(self) -> dict[str, str]:
        """Under which programs of this environment run."""
        told = {"ONEBEAT_URL": self.fleet.ledger, "SHOP_BROKER": self.broker.url}
        return places.environment(told | {"SHOP_CONF": json.dumps(self.conf)}) | {"PYTHONPATH": str(TOP)}

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / f"beat{len(self.beats)}.log").open("wb") as log:
            beat = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.beats.append(beat)

    def start_the_old_beat(self) -> None:
        if not self.old.program:
            self.start([sys.executable, "-m", "celery", "-A", APP, "beat"], self.environment())
            return
        program = str(places.PROGRAMS / f"{self.old.program}.py")
        words = [self.broker.url, json.dumps(PERIODS), str(self.file), self.amqp or self.broker.url]
        self.start([places.python(self.old.lock), program, *words], places.environment({}))

    def stop(self) -> None:
        """Stop the last beat in order."""
        self.beats[-1].send_signal(signal.SIGTERM)
        self.beats[-1].wait(ENDS_S)

    def follow(self, line: str) -> None:
        """Do what a line of the page says, here."""
        if line.startswith("# stop"):
            self.stop()
            # How many messages there were by then, as the broker counts.
            if self.amqp is None:
                self.pushed = int(self.fleet.outside.info("commandstats")["cmdstat_lpush"]["calls"])
            return
        words = shlex.split(line.replace(self.old.written, self.old.url(self)), comments=True)
        if words[0] not in ("onebeat", "celery"):
            return  # where the ledger is, our environment says
        command = [sys.executable, "-m", *(APP if word == "proj" else word for word in words)]
        environment = self.environment()
        if words[0] == "celery":
            self.start(command, environment)
            return
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def hear(self) -> None:
        """Wait for a body, and count it."""
        self.said[self.fleet.heard("said").split()[0]] += 1

    def runs(self, name: str) -> list[Run]:
        return sorted(
            self.fleet.store.runs(RunQuery(schedule=name, limit=1000)),
            key=lambda run: run.occurrence_at or run.due_at,
        )

    def ended(self, name: str) -> int:
        return sum(run.state is RunState.SUCCEEDED for run in self.runs(name))

    def settle(self) -> None:
        """Let no more come due, and wait until all that came has ended."""
        for name in PERIODS:
            self.fleet.beat.schedules.pause(name)

        def last() -> Run | None:
            runs = [run for name in PERIODS for run in self.runs(name)]
            return runs[0] if all(run.state is RunState.SUCCEEDED for run in runs) else None

        self.fleet.until(last)
        for said in self.fleet.unsaid("said"):
            self.said[said.split()[0]] += 1


def _of_redbeat(moving: Moving, name: str) -> Ran:
    meta = json.loads(moving.fleet.outside.hget(f"redbeat:{name}", "meta"))
    at = {part: value for part, value in meta["last_run_at"].items() if part not in ("__type__", "timezone")}
    return Ran(datetime(**at, tzinfo=UTC), meta["total_run_count"])


def _of_django(moving: Moving, name: str) -> Ran:
    db: Any = apsw.Connection(str(moving.file))
    sql = "SELECT last_run_at, total_run_count FROM django_celery_beat_periodictask WHERE name = ?"
    ((at, count),) = db.execute(sql, (name,)).fetchall()
    db.close()
    return Ran(datetime.fromisoformat(at).replace(tzinfo=UTC), count)


def _of_celery(moving: Moving, name: str) -> Ran:
    ran = last_runs(moving.folder / "celerybeat-schedule")
    assert ran is not None
    return Ran(ran[name], None)


OLD = {
    "celery-beat": Old("", "", "move-from-celery-beat.md", "nothing", lambda moving: "", _of_celery),
    "redbeat": Old(
        "redbeat",
        "redbeat_running",
        "move-from-redbeat.md",
        "redis://cache:6379/1",
        lambda moving: moving.broker.url,
        _of_redbeat,
    ),
    "django-celery-beat": Old(
        "django",
        "django_running",
        "move-from-django-celery-beat.md",
        "postgresql://shop@db/shop",
        lambda moving: f"sqlite:///{moving.file}",
        _of_django,
    ),
}


def lines(page: str) -> Iterator[str]:
    text = (TOP / "docs" / "howto" / page).read_text(encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    yield from block[1].splitlines()


@pytest.fixture
def amqp(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The broker, if it is not the Redis where the bodies leave a word."""
    if request.param == "redis":
        yield None
        return
    with rabbitmq.vhost() as url:
        yield url


@pytest.mark.parametrize(
    ("name", "amqp"),
    [
        ("redbeat", "redis"),
        pytest.param("celery-beat", "redis", marks=pytest.mark.long),
        pytest.param("django-celery-beat", "redis", marks=pytest.mark.long),
        pytest.param("redbeat", "rabbitmq", marks=[pytest.mark.long, pytest.mark.server("rabbitmq")]),
        pytest.param(
            "django-celery-beat", "rabbitmq", marks=[pytest.mark.long, pytest.mark.server("rabbitmq")]
        ),
    ],
    indirect=["amqp"],
)
def test_moving_a_live_fleet_by_its_page_loses_no_occurrence_and_runs_none_twice(
    name: str, amqp: str | None, tmp_path: Path
) -> None:
    moving = Moving(OLD[name], tmp_path, amqp)
    try:
        moving.fleet.worker("threads", conf=moving.conf)
        moving.start_the_old_beat()
        while min(moving.said[each] for each in PERIODS) < 2:
            moving.hear()
        for line in lines(moving.old.page):
            moving.follow(line)
        while min(moving.ended(each) for each in PERIODS) < 3:
            moving.hear()
        moving.settle()
        moving.stop()

        ran = {each: moving.old.ran(moving, each) for each in PERIODS}
        runs = {each: moving.runs(each) for each in PERIODS}
        # What the old beat sent was run once each, and so was each run of the ledger.
        if moving.pushed is not None:
            assert moving.said.total() == moving.pushed + sum(map(len, runs.values())), moving.fleet.logs()
        for each in PERIODS:
            # A beat that is told to end may have written a run down that it did not send any more.
            count = ran[each].count
            assert count is None or moving.said[each] - len(runs[each]) in (count, count - 1)
            # The ledger goes on where the old beat was, and each run where the one before ended.
            assert runs[each][0].mark_before == ran[each].last_run_at
            assert all(before.mark_after == after.mark_before for before, after in pairwise(runs[each]))
        assert moving.fleet.beat.audit().right
    finally:
        moving.close()
