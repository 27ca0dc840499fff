"""The nodes of the demo: `onebeat serve`, in processes of their own, and what can be done to a process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

APP = "onebeat.demo.heart:beat"
LEASE = 2
STOP_S_MAX = 30
START = "ONEBEAT_DEMO_START"
"""The environment variable that tells when the demo began: all nodes declare the same."""

PARENT = "ONEBEAT_DEMO_PARENT"
"""The environment variable that names the process without which a node of the demo ends."""


class Node:
    """One process that runs `onebeat serve`. Its output goes to a file of its own."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the id of its process, 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether its process has not ended, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it. In a session of its own: a Ctrl-C is for the demo, which then ends its nodes in order."""
        command = onebeat("--app", APP, "serve", "--lease", f"{LEASE}s", "--threads", "12")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it at this very instant, whatever it is doing."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """Stop it at this very instant; it does not notice."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, as if no time had passed."""
        self._signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Ask it to end in order; ``stopped`` waits for that."""
        self._signal(signal.SIGTERM)

    def stopped(self) -> int | None:
        """Return its exit status, once it has ended; None if it does not."""
        return self._wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self) -> int | None:
        assert self._process is not None
        try:
            return self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            return None


def onebeat(*words: str) -> list[str]:
    """Return the command line that runs onebeat with the interpreter of this process."""
    return [sys.executable, "-m", "onebeat", *words]


def end(nodes: Sequence[Node]) -> None:
    """Leave no process behind, whatever happened. Safe to repeat."""
    for node in nodes:
        if node.alive:
            node.thaw()
            node.kill()


def end_with_parent() -> None:
    """End this process soon after the demo that started it is gone, however it went."""
    parent = os.environ.get(PARENT)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
