"""Programs as a newcomer starts them: real processes on a SQLite file of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from onebeat import Onebeat

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PATIENCE = timedelta(seconds=60)
Thing = TypeVar("Thing")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """What a program finds around it: an empty home, and a ledger in ``folder``."""
    url = f"sqlite:///{folder / 'onebeat.db'}"
    return {**os.environ, "HOME": str(folder), "ONEBEAT_URL": url, "PYTHONUNBUFFERED": "1", **more}


def ran(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE.seconds,
        check=False,
    )


def example(folder: Path, name: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return ran(folder, sys.executable, str(EXAMPLES / name), **more)


@contextmanager
def serving(folder: Path, command: Sequence[str], *, status: int = 0, **more: str) -> Iterator[Onebeat]:
    """Run a program that serves; give an app on its ledger. At the end SIGTERM must end it, in order.

    ``status``: what it ends with; a server that is somebody else's may tell the signal on.
    """
    with (folder / "serve.log").open("ab") as log:
        program = subprocess.Popen(
            command, cwd=folder, env=environment(folder, **more), stdout=log, stderr=log
        )
    try:
        with Onebeat(environment(folder)["ONEBEAT_URL"], zone="UTC") as beat:
            wait_for(beat, lambda: beat.nodes.list(alive=True), lambda: said(folder))
            yield beat
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE.seconds) == status, said(folder)
    finally:
        program.kill()
        program.wait()


def said(folder: Path) -> str:
    """What the program wrote so far."""
    return (folder / "serve.log").read_text(encoding="utf-8")


def wait_for(beat: Onebeat, seen: Callable[[], Thing], why: Callable[[], str] = str) -> Thing:
    """Return what ``seen`` gives as soon as it is something, looking whenever the ledger may have changed."""
    deadline = datetime.now(UTC) + PATIENCE
    while not (found := seen()):
        assert datetime.now(UTC) < deadline, why()
        beat.store.wait(datetime.now(UTC) + timedelta(milliseconds=100))
    return found
