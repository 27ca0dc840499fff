"""A process that people may do anything to, and what can be seen of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1


class Process:
    """One program. Its output goes to a file of its own, and it does not outlive who started it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        folder: Path = TOP,
        environment: dict[str, str] | None = None,
        user: int | None = None,
        ends_on: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._folder = folder
        self._environment = environment
        self._user = user
        self._ends_on = ends_on
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the id of its process, 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Return whether it has not ended, stopped or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def stopped(self) -> bool:
        """Return whether somebody has stopped it (SIGSTOP) and not let it go on yet."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return self.alive and stat.rpartition(")")[2].split()[0] in "Tt"

    @property
    def fate(self) -> str:
        """Return how it ended, in words."""
        assert self._process is not None
        status = self._process.poll()
        assert status is not None
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"

    def start(self) -> None:
        """Start it, or start it again. In a session of its own: a Ctrl-C is not for it."""
        parent, prctl = os.getpid(), ctypes.CDLL(None).prctl if sys.platform == "linux" else None

        def with_parent() -> None:
            if prctl is not None:
                prctl(PR_SET_PDEATHSIG, self._ends_on)
                if os.getppid() != parent:  # it had gone before we asked
                    os._exit(1)

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user,
                extra_groups=None if self._user is None else [],
                preexec_fn=with_parent,  # noqa: PLW1509 - no thread of ours runs when something is started
            )

    def ask_to_end(self) -> None:
        """Ask it to end in order; one that was stopped is let go on, so that it can."""
        self._send(signal.SIGCONT)
        self._send(self._ends_on)

    def ended(self, patience: float) -> int | None:
        """Return its exit status as soon as it has ended; None if it does not."""
        assert self._process is not None
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def wake(self) -> None:
        """Let it go on, if it was stopped."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """Leave nothing of it behind. Safe to repeat."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _send(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                assert self._process is not None
                self._process.send_signal(number)
