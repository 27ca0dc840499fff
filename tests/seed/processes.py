"""Real processes for the seed table: started, let go at one time, listened to. Nobody waits by the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]


class Child:
    """One process that plays a part of child.py. What it prints are lines of JSON."""

    def __init__(self, play: str, place: Path, number: int, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.seed.child", play, str(place), str(number), *args],
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def hears(self, word: str) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def says(self) -> Any:
        """Wait for the next line and return what it means; None when the process ends without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def signalled(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def ends(self) -> int:
        """Wait for the end and return the status: below zero, the signal that ended it."""
        return self._process.wait()

    def close(self) -> None:
        """End it, if it has not ended by itself."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def children(play: str, place: Path, count: int, *args: str) -> Iterator[list[Child]]:
    """Give ``count`` processes that play the same part; none of them is left behind."""
    started: list[Child] = []
    try:
        for number in range(count):
            started.append(Child(play, place, number, *args))  # noqa: PERF401 - each one started must be ended
        yield started
    finally:
        for child in started:
            child.close()


def together(count: int, place: Path, play: str, *args: str) -> list[Any]:
    """Have processes get ready, let all of them go at one time, and return what each of them said."""
    with children(play, place, count, *args) as started:
        said = let_go(started)
        assert [child.ends() for child in started] == [0] * count
    return said


def let_go(started: list[Child]) -> list[Any]:
    """Let all of them go at one time when each has said that it is ready; return what each said then."""
    assert [child.says() for child in started] == ["ready"] * len(started)
    for child in started:
        child.hears("go")
    return [child.says() for child in started]
