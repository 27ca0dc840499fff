"""What the demo's runs do: append a line to a file outside of the ledger, so that somebody can count.

Each line is one write() on a descriptor opened with O_APPEND: lines of several processes never mix, and a
killed process leaves whole lines only.
"""

import json
import os
import time
from datetime import datetime
from functools import cache

from onebeat import CurrentRun

OUTSIDE = "ONEBEAT_DEMO_OUTSIDE"
"""The environment variable that names the outside file."""

SLICE = 0.05


def strike(run: CurrentRun, seconds: float = 0.0, looks: bool = False) -> None:
    """Say that the body began; work for so many seconds; say that it ended.

    A body that ``looks`` stops as soon as the run is no longer its own, as long bodies should.
    """
    _say(run, "begin")
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if looks and not run.still_mine():
            _say(run, "stopped")
            return
        time.sleep(min(left, SLICE))
    _say(run, "end")


def stumble(run: CurrentRun) -> None:
    """Fail on the first attempt, succeed on the second."""
    _say(run, "begin")
    if run.attempt == 1:
        raise RuntimeError("the first attempt fails on purpose")
    _say(run, "end")


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def _say(run: CurrentRun, what: str) -> None:
    line = {
        "at": datetime.now().astimezone().isoformat(),
        "what": what,
        "schedule": run.schedule,
        "occurrence": run.occurrence.isoformat(),
        "run": run.id,
        "attempt": run.attempt,
        "token": run.token,
        "pid": os.getpid(),
    }
    os.write(_opened(os.environ[OUTSIDE]), (json.dumps(line) + "\n").encode())
