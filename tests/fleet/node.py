"""One real node of a fleet, until it is told to end: python -m tests.fleet.node URL PLACE LEASE SKEW LASTS

What its bodies do is written down in a file of the place, outside of the ledger.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

from onebeat import CurrentRun, Onebeat
from onebeat.engine.clock import SystemClock

PLACE = Path()
LASTS_S = 0.0


def effect(run: CurrentRun) -> None:
    """Leave a line in the world: which run, which attempt, under which token."""
    line = f"{run.id} {run.attempt} {run.token} {os.getpid()}\n"
    out = os.open(PLACE / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(out, line.encode())  # one call: lines of several processes never mix
    finally:
        os.close(out)
    threading.Event().wait(LASTS_S)  # work, so that a death may come in the middle of it


class Skewed:
    """A machine's clock that is some seconds off."""

    def __init__(self, by: timedelta) -> None:
        self._clock = SystemClock()
        self._by = by

    def now(self) -> datetime:
        return self._clock.now() + self._by


def main(url: str, place: str, lease: str, skew: str, lasts: str) -> None:
    here = importlib.import_module(
        "tests.fleet.node"
    )  # which the bodies are looked up in; this one is __main__
    here.PLACE, here.LASTS_S = Path(place), float(lasts)  # type: ignore[attr-defined]  # a module's own
    beat = Onebeat(url, modules=("tests.fleet",), clock=Skewed(timedelta(seconds=float(skew))))
    beat.serve(
        threads=4,
        lease=timedelta(seconds=float(lease)),
        grace=timedelta(seconds=20),
        ready=lambda _: print("ready", flush=True),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
