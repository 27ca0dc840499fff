"""A fleet for the tests: a ledger, a broker, workers in processes of their own, and what is seen outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from onebeat import Onebeat, celery_task, on_request
from onebeat.celery import CeleryOutlet
from onebeat.celery.library import Celery
from onebeat.celery.message import fingerprint
from onebeat.core.decide import judge
from onebeat.core.messages import Answer, Claimed, Lost, Overtaken, Resend, Sent
from onebeat.core.model import Outcome, Run, RunState, Target
from onebeat.core.ports import Store
from onebeat.engine.attempt import attempt_event
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

WAIT_S = 60
TOP = Path(__file__).parents[2]
ENDED = {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT, RunState.EXPIRED}


class Fleet:
    """One ledger and one broker; what a beat would do between them is done here, step by step."""

    def __init__(self, ledger: str, broker: str, folder: Path, *, outside: str | None = None) -> None:
        """``outside`` is the Redis that evidence goes to, where it is not the broker."""
        self.ledger = ledger
        self.broker = broker
        self._outside_url = outside or broker
        self.folder = folder
        self.beat = Onebeat(ledger)
        self.store: Store = open_store(ledger, SystemClock())
        self.outside = redis.Redis.from_url(self._outside_url, socket_timeout=2 * WAIT_S)
        self.app = Celery("shop", broker=broker, set_as_current=False)
        self.outlet = CeleryOutlet(self.app, ledger=fingerprint(ledger))
        self.python = sys.executable
        self._workers: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self.outlet.close()
        self.app.close()
        with suppress(redis.ConnectionError):
            self.outside.flushdb()
        self.outside.close()
        self.store.close()
        self.beat.close()

    # --- workers ---

    def environment(
        self, guard: str = "closed", lease: float = 30, conf: dict[str, Any] | None = None
    ) -> dict[str, str]:
        """Return the variables of a process of the shop; another Python finds ours at its source."""
        ours = [str(TOP)] if self.python == sys.executable else [str(TOP), str(TOP / "src")]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), *ours]).lstrip(os.pathsep),
            "ONEBEAT_URL": self.ledger,
            "SHOP_BROKER": self.broker,
            "SHOP_OUTSIDE": self._outside_url,
            "SHOP_GUARD": guard,
            "SHOP_LEASE": str(lease),
            "SHOP_CONF": json.dumps(conf or {}),
        }

    def worker(
        self,
        pool: str,
        *,
        guard: str = "closed",
        lease: float = 30,
        conf: dict[str, Any] | None = None,
        args: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a worker and return when it takes tasks. In a group of its own: a kill takes its children."""
        environment = self.environment(guard, lease, conf)
        command = [self.python, "-m", "celery", "-A", "tests.celery.shop", "worker", "--pool", pool]
        command += ["-c", "2", "-l", "INFO", "-n", f"w{len(self._workers)}@here", "--without-mingle", *args]
        command += ["--without-gossip"]
        if shutil.which("setpriv"):  # however the tests end, it ends with them
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / f"worker{len(self._workers)}.log").open("ab") as log:
            worker = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        self._workers.append(worker)
        self.heard("ready")
        return worker

    def heard(self, key: str) -> str:
        """Wait until somebody says something under a key; return it."""
        found = self.outside.blpop([key], timeout=WAIT_S)
        assert found is not None, f"nobody said anything under {key!r}:\n{self.logs()}"
        return str(found[1].decode())

    def unsaid(self, key: str) -> list[str]:
        """Return what was said under a key and not waited for."""
        return [each.decode() for each in self.outside.lrange(key, 0, -1)]

    def release(self) -> None:
        self.outside.rpush("release", 1)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("worker*.log")))

    # --- what a beat does ---

    def schedule(self, name: str, target: Target, **options: Any) -> None:
        """Write a schedule whose runs are asked for."""
        self.beat.schedules.put(name, on_request(), target, **{"overlap": "allow", **options})

    def asked(
        self, name: str, task: str, *args: Any, options: dict[str, Any] | None = None, **policy: Any
    ) -> Run:
        """Ask for a run of a task, by a schedule of its own."""
        self.schedule(name, celery_task(task, args=args, **(options or {})), **policy)
        return self.beat.runs.request(name)

    def marked(self, run_id: str, resend_in: float = 600) -> Claimed:
        """Mark a ready run as sent, and return what to send."""
        run = self.run(run_id)
        resend_at = self.store.now() + timedelta(seconds=resend_in)
        (answer,) = self.store.advance([Sent(run_id=run_id, attempt=run.attempt + 1, resend_at=resend_at)])
        assert answer.answer is Answer.ACCEPTED
        return Claimed(run=self.run(run_id), definition=self.store.definition(run.schedule_id, run.number))

    def send(self, run_id: str) -> Claimed:
        """Mark a ready run as sent, and send it."""
        claimed = self.marked(run_id)
        assert self.outlet.send([claimed]) == [None]
        return claimed

    def recover(self, run_id: str) -> Run:
        """Wait until time has overtaken a run, and do what a dispatcher does about it."""

        def overtaken() -> Run | None:
            for each in self.store.lost(self.store.now(), 100):
                if each.run.id != run_id:
                    continue
                if each.overtaken is Overtaken.RESEND:
                    self.store.advance([Resend(run_id=run_id)])
                else:
                    at = self.store.now()
                    verdict = judge(each.policy, each.run, Outcome.LOST, "", at)
                    event = attempt_event(each.run, Outcome.LOST, verdict, error=None, at=at, actor="test")
                    self.store.advance(
                        [Lost(run_id=run_id, token=each.run.token, verdict=verdict, event=event)]
                    )
                return self.run(run_id)
            return None

        return self.until(overtaken)

    def run(self, run_id: str) -> Run:
        run = self.store.run(run_id)
        assert run is not None
        return run

    def until(self, look: Callable[[], Run | None]) -> Run:
        """Wait for the ledger to change until it shows what is looked for."""
        end = self.store.now() + timedelta(seconds=WAIT_S)
        while (found := look()) is None:
            now = self.store.now()
            assert now < end, f"it did not come about:\n{self.logs()}"
            self.store.wait(now + timedelta(seconds=0.1))
        return found

    def state(self, run_id: str, *wanted: RunState) -> Run:
        """Wait until a run is in one of these states; by default, until it has ended."""
        return self.until(lambda: run if (run := self.run(run_id)).state in (wanted or ENDED) else None)
