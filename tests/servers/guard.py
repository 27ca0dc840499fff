"""Runs one server; ends it when told to, or when the test run that it serves is gone, however it went.

python guard.py PID UID GID COMMAND...        -1: as whoever runs the tests
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from types import FrameType


def told(number: int, frame: FrameType | None) -> None:
    raise SystemExit


def ending(command: list[str]) -> signal.Signals:
    """Return what ends a server soonest without leaving a part of it: nothing of it is wanted any more."""
    if "postgres" in command[0]:
        return signal.SIGQUIT
    return signal.SIGKILL if any(word.endswith("/erlexec") for word in command) else signal.SIGTERM


def guard(pid: int, user: int, group: int, command: list[str]) -> None:
    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the tests, which then tell us
    server = subprocess.Popen(
        command,
        start_new_session=True,
        user=None if user < 0 else user,
        group=None if group < 0 else group,
        extra_groups=None if user < 0 else [],
    )
    try:
        ends = [os.pidfd_open(pid), os.pidfd_open(server.pid)]
        select.select(ends, [], [])
    finally:
        server.send_signal(ending(command))
        server.wait()


if __name__ == "__main__":
    pid, user, group = map(int, sys.argv[1:4])
    guard(pid, user, group, sys.argv[4:])
