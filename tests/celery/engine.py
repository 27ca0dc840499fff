"""A fleet whose beats are Celery's own command: ledger, broker, beats and workers, all of them real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.celery.fleet import TOP, WAIT_S, Fleet

from onebeat.core.messages import RunQuery
from onebeat.core.model import FINISHED, Run

MORE = {"include": ["tests.celery.shop_more"]}
"""What a worker needs to be told of the tasks of shop_more."""


class Engine(Fleet):
    """A fleet, with real beats in front of it."""

    def start_beat(self, **conf: Any) -> subprocess.Popen[bytes]:
        """Start a beat of the workers' app, whose settings are these."""
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TOP)]).lstrip(os.pathsep),
            "ONEBEAT_URL": self.ledger,
            "SHOP_BROKER": self.broker,
            "SHOP_CONF": json.dumps({"result_expires": None, **conf}),
        }
        command = [sys.executable, "-m", "celery", "-A", "tests.celery.shop", "beat", "-S", "onebeat"]
        if shutil.which("setpriv"):  # however the tests end, it ends with them
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / f"worker{len(self._workers)}-beat.log").open("ab") as log:
            beat = subprocess.Popen(
                [*command, "-l", "INFO", "--pidfile="],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self._workers.append(beat)
        return beat

    def runs(self, schedule: str | None = None) -> list[Run]:
        """All runs, the oldest first."""
        return self.store.runs(RunQuery(schedule=schedule, limit=10_000))[::-1]

    def settled(self, *names: str) -> list[Run]:
        """Let nothing more come due, and return the runs of these schedules once all have ended."""
        for name in names:
            self.beat.schedules.pause(name)
        self.wait_for(lambda: all(run.state in FINISHED for name in names for run in self.runs(name)))
        return [run for name in names for run in self.runs(name)]

    def wait_for(self, there: Callable[[], bool]) -> None:
        """Wait for the ledger to change until something is there."""
        end = self.store.now() + timedelta(seconds=WAIT_S)
        while not there():
            now = self.store.now()
            assert now < end, f"it did not come about:\n{self.logs()}"
            self.store.wait(now + timedelta(seconds=0.1))

    def begun(self) -> Counter[str]:
        """How often each word was said, of those that nobody waited for."""
        return Counter(word.split()[0] for word in self.unsaid("said"))

    def hear(self, count: int) -> list[str]:
        """Wait for so many words, and return them."""
        return [self.heard("said").split()[0] for _ in range(count)]
