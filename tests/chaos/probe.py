"""A process that does without end what nodes do, and says when and how it went.

python -m tests.chaos.probe URL FILE NAME LIFE
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from itertools import count
from typing import NamedTuple

from onebeat import Onebeat
from onebeat.core.errors import OnebeatError
from onebeat.core.model import Node

PAUSE = timedelta(milliseconds=20)


class Said(NamedTuple):
    """One write to the ledger: from when to when (monotonic), the wall clock after it, what came of it."""

    name: str
    life: int
    began: float
    ended: float
    wall: float
    outcome: str

    @classmethod
    def parsed(cls, line: str) -> Said:
        name, life, began, ended, wall, outcome = line.split()
        return cls(name, int(life), float(began), float(ended), float(wall), outcome)


def main(url: str, file: str, name: str, life: str) -> None:
    beat = Onebeat(url)
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number in count():
        began = time.monotonic()
        try:
            (beat.schedules.resume if number % 2 else beat.schedules.pause)(name)
            now = beat.store.now()
            till = now + timedelta(minutes=1)
            node = Node(
                id=name, host="here", pid=os.getpid(), roles=(), started_at=now, seen_at=now, alive_until=till
            )
            beat.store.announce(node)
            outcome = "ok"
            beat.store.wait(now + PAUSE)
        except OnebeatError as error:
            outcome = error.code
        line = f"{name} {life} {began} {time.monotonic()} {time.time()} {outcome}\n"
        os.write(out, line.encode())  # one call: lines of several processes never mix


if __name__ == "__main__":
    main(*sys.argv[1:])
