"""Real beats of a Celery app, a real broker, and who counts what arrives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as client
from kombu import Connection
from tests.servers import rabbitmq, redis

from onebeat import Onebeat
from onebeat.core.messages import RunQuery
from onebeat.core.model import FINISHED, RunState

TOP = Path(__file__).parents[2]
PATIENCE_S = 100


class OnRedis(redis.Own):
    """A broker that is there, or away."""

    def take(self, wait_s: float) -> dict[str, Any] | None:
        """Take a message off the queue as a worker does; return its headers, or None if none comes."""
        with client.Redis.from_url(self.url, socket_timeout=wait_s + 10) as queue:
            found: Any = queue.blpop(["celery"], timeout=wait_s) if wait_s else (0, queue.lpop("celery"))
        return json.loads(found[1])["headers"] if found and found[1] else None

    leave = redis.Own.kill
    come_back = redis.Own.start


class OnRabbitMQ(rabbitmq.Own):
    """The same, by AMQP."""

    def take(self, wait_s: float) -> dict[str, Any] | None:
        with Connection(self.url) as line, line.SimpleQueue("celery") as queue:
            try:
                message = queue.get(block=wait_s > 0, timeout=wait_s)
            except queue.Empty:
                return None
            message.ack()
            return dict(message.headers)


BROKERS: dict[str, type[OnRedis] | type[OnRabbitMQ]] = {"redis": OnRedis, "rabbitmq": OnRabbitMQ}
EITHER = ["redis", pytest.param("rabbitmq", marks=pytest.mark.server("rabbitmq"))]
"""For the tests where it makes a difference which one it is."""


class Shop:
    """A broker, a ledger, beats as processes, and who counts what arrives."""

    def __init__(self, ledger: str, place: Path, broker: str = "redis") -> None:
        self.broker = BROKERS[broker]()
        self.url = LEDGERS[ledger](self.broker, place)
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
        while not enough():
            found = self.broker.take(PATIENCE_S)
            assert found is not None, self.logs()
            self.arrived.append(found)

    def runs(self) -> Counter[str]:
        return Counter(each.get("onebeat_run", "") for each in self.arrived)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.place.glob("beat*.log")))

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
                self.nap()
            assert {run.state for run in runs} == {RunState.HANDED_OVER}, self.logs()
            assert front.audit().right
        self.drain()
        return {run.id for run in runs}

    def drain(self) -> None:
        """Take what is still in the queue."""
        while (found := self.broker.take(0)) is not None:
            self.arrived.append(found)

    def nap(self) -> None:
        """Wait a little for what nobody is told of: a state of a run, a line of a log."""
        threading.Event().wait(0.1)

    def stop(self) -> None:
        for beat in self.beats:
            if beat.poll() is None:
                beat.kill()
            beat.wait()
        self.broker.stop()


LEDGERS: dict[str, Callable[[OnRedis | OnRabbitMQ, Path], str]] = {
    "sqlite": lambda broker, place: f"sqlite:///{place / 'onebeat.db'}",
    "redis": lambda broker, place: f"{broker.url}?namespace=test-beats",
}
