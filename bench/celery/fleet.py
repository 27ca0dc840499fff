"""A broker for one bench, and Celery's processes beside it, started by Celery's own command."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from tests.servers import rabbitmq
from tests.servers import redis as servers
from tests.servers.running import Place as Folder

from bench.celery import shop
from bench.ledger import defined
from bench.stores.servers import Started
from onebeat import celery_task
from onebeat.celery.library import Celery
from onebeat.core.model import Definition, Target, TriggerSpec
from onebeat.core.ports import Store
from onebeat.core.triggers.interval import interval
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

AS_SHIPPED = {"appendonly": "no", "save": ""}
BROKER_DB, RESULTS_DB = 0, 1
START_S = 120
END_S = 60
NAP_S = 0.02
QUIET = "ignore:You're running the worker"
"""Celery's word about root, which is all the same to a benchmark."""


class Broker:
    """A Redis whose queue can be counted, emptied and listened to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.db = redis.Redis.from_url(url, socket_timeout=2 * START_S)

    @property
    def results_url(self) -> str:
        """Return where a result backend may be, on the same server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{RESULTS_DB}"))

    def length(self, queue: str = "celery") -> int:
        """Return how many messages wait."""
        return int(self.db.llen(queue))

    def clear(self) -> None:
        """Forget all messages and results."""
        self.db.flushall()

    def heard(self, key: str) -> str:
        """Wait until somebody has said something under a key; return it."""
        found: Any = self.db.blpop([key], timeout=START_S)
        if found is None:
            raise SystemExit(f"nobody said that they are {key}")
        return str(found[1], "utf-8")


@contextmanager
def broker(place: Path) -> Iterator[Broker]:
    """Start a Redis as it is shipped, but for its snapshots."""
    started = Started(place / "broker", partial(_command, settings=AS_SHIPPED))
    try:
        found = Broker(started.answering(_answers))
        yield found
        found.db.close()
    finally:
        started.end()


class Rabbit:
    """A RabbitMQ whose queue can be counted and emptied."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._app = Celery("bench", broker=url, set_as_current=False)
        self._channel = self._app.connection_for_write().default_channel

    def length(self, queue: str = "celery") -> int:
        """Return how many messages wait."""
        return int(self._channel.queue_declare(queue, passive=True).message_count)

    def clear(self) -> None:
        """Forget all messages."""
        self._app.amqp.queues["celery"](self._channel).declare()
        self._channel.queue_purge("celery")

    def close(self) -> None:
        """Let go of the connection."""
        self._app.close()


@contextmanager
def rabbit(place: Path) -> Iterator[Rabbit]:
    """Start a RabbitMQ as it is shipped, with its data on the disk."""
    started = Started(place / "rabbitmq", rabbitmq.command)
    try:
        found = Rabbit(started.answering(rabbitmq.answers))
        yield found
        found.close()
    finally:
        started.end()


def _command(place: Path, settings: dict[str, str]) -> tuple[list[str], str]:
    port = Folder(place).free_port()
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    started = [servers.binary(place.parent), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(place)]
    return [*started, *words], f"redis://127.0.0.1:{port}/{BROKER_DB}"


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as db:
            return bool(db.ping())
    except redis.ConnectionError:
        return False


@contextmanager
def celery(broker: Broker, ledger: str, words: Sequence[str], **said: str) -> Iterator[None]:
    """Run a command of Celery's on the app of the benchmarks; end it in order."""
    env = os.environ | {shop.BROKER: broker.url, "ONEBEAT_URL": ledger, "PYTHONWARNINGS": QUIET} | said
    command = [sys.executable, "-m", "celery", "-A", "bench.celery.shop", *words, "-l", "WARNING"]
    if shutil.which("setpriv"):  # however the bench ends, it ends with it
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as child:
        try:
            yield
            if child.poll() is not None:
                raise SystemExit(f"celery {' '.join(words)} ended by itself, with {child.returncode}")
        finally:
            child.terminate()
            try:
                child.wait(END_S)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def worker(broker: Broker, ledger: str, pool: str, many: int, **said: str) -> Iterator[None]:
    """Have a worker take what comes on a queue."""
    words = ["worker", "-P", pool, "-c", str(many), "-n", f"w{time.monotonic_ns()}@here"]
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    with celery(broker, ledger, [*words, *quiet], **said):
        broker.heard("ready")
        yield


@contextmanager
def beat(broker: Broker, ledger: str, store: Store) -> Iterator[None]:
    """Have a beat of ours serve a ledger; it is up when the ledger knows it."""
    with celery(broker, ledger, ["beat", "-S", "onebeat"]):
        until = time.monotonic() + START_S
        while not any("outbox" in node.roles for node in store.nodes()):
            if time.monotonic() > until:
                raise SystemExit("the beat did not come up")
            time.sleep(NAP_S)
        yield


@contextmanager
def opened(ledger: str) -> Iterator[Store]:
    """Open a ledger for an observer."""
    store = open_store(ledger, SystemClock())
    try:
        yield store
    finally:
        store.close()


def task(trigger: TriggerSpec, *args: Any, **options: Any) -> Definition:
    """Return a schedule of the task that does nothing."""
    return defined(trigger, target(*args, **options))


def target(*args: Any, **options: Any) -> Target:
    """Return the task that does nothing."""
    return celery_task("noop", args=list(args), **options)


def each(seconds: float, firsts: Iterable[datetime]) -> Iterator[Definition]:
    """Yield a schedule of it for each first instant, due again after so many seconds."""
    return (task(interval(timedelta(seconds=seconds), anchor=first)) for first in firsts)
