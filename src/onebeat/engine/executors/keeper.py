"""Ends the commands of a node that has died, by a small process that notices and outlives it by seconds.

    node ──pipe──► keeper: "+PID" a command began, "-PID" it ended
     └ dies, however: end of file ──► SIGTERM to what goes on ──► grace ──► SIGKILL to what is left of it

A help and not the fence: if there is no keeper, commands go on, as every run may whose node was cut off.
"""

import logging
import os
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

from onebeat.engine.executors import sessions

CLOSE_S = 1.0

_log = logging.getLogger("onebeat.engine")


class Keeper:
    """The node's end of the pipe. Its process begins with the first command. For one thread."""

    def __init__(self, grace: timedelta) -> None:
        self._grace = grace
        self._process: subprocess.Popen[bytes] | None = None

    def begun(self, leader: int) -> None:
        """Have the session of a leader ended, should this process die before it does."""
        if self._process is None:
            try:
                self._process = _started(self._grace)
            except OSError as error:
                _log.warning(
                    "commands of this node would outlive it, for their keeper cannot start: %s", error
                )
                return
        self._say(f"+{leader}\n")

    def ended(self, leader: int) -> None:
        """Forget a leader that has ended. It must not be reaped yet."""
        self._say(f"-{leader}\n")

    def close(self) -> None:
        """End the process, when nothing goes on that it keeps."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(CLOSE_S)
            except subprocess.TimeoutExpired:  # on a machine that is busy it may not even have begun
                process.kill()
                process.wait()

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):  # it was killed, or stopped: nobody may wait for it
                os.write(self._process.stdin.fileno(), line.encode())


def _started(grace: timedelta) -> "subprocess.Popen[bytes]":
    # Isolated, and by its path: neither this package nor what the host has on its path is imported there.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", sessions.__file__, str(grace.total_seconds())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process
