"""Functions that stand for a user's, for processes: imported there, so what they know of here is a file."""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from onebeat.engine.current import CurrentRun

opened: list[object] = []
_nap = threading.Event()


class Pool:
    """A pool of connections as a module keeps one: made once, at import."""

    def __init__(self) -> None:
        opened.append(self)


pool = Pool()


def tells() -> list[int]:
    return [os.getpid(), len(opened)]


def waits_for(file: str) -> str:
    while not Path(file).exists():
        _nap.wait(0.01)
    return "at last"


def looks(run: CurrentRun, began: str) -> str:
    Path(began).touch()
    while run.still_mine():
        _nap.wait(0.01)
    return f"stopped: {run.stop_reason}"


def exits(status: int) -> None:
    sys.exit(status)


def exits_at_once(status: int) -> None:
    print("the last words", flush=True)
    os._exit(status)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes() -> None:
    ctypes.string_at(0)


def will_not_end(pids: str) -> None:
    """Fork a child, ignore SIGTERM, say who is there, and go on for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    said = Path(pids + ".part")
    said.write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    said.rename(pids)
    while True:
        _nap.wait(60)


def holds_the_interpreter(pids: str) -> None:
    """Say who is there, and let no other thread of this process run any more."""
    said = Path(pids + ".part")
    said.write_text(str(os.getpid()), encoding="utf-8")
    said.rename(pids)
    ctypes.PyDLL(None).sleep(600)


def talks(run: CurrentRun) -> None:
    print("printed")
    os.write(1, b"written by hand\n")
    print("to stderr", file=sys.stderr)
    subprocess.run(["/bin/echo", "by a child"], check=True)
    logging.getLogger("a.library").warning("from a library")
    run.log.info("from the run")
    run.progress(2, 3)


def logs_aside() -> None:
    """Log on a thread of its own, which knows of no run."""
    aside = threading.Thread(target=logging.getLogger("a.library").error, args=("from a thread",))
    aside.start()
    aside.join()


def floods(megabytes: int) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)


def leaves(file: str) -> None:
    atexit.register(Path(file).touch)


async def awaits() -> list[int]:
    await asyncio.sleep(0)
    return [os.getpid(), id(asyncio.get_running_loop())]


def raises() -> None:
    raise ConnectionResetError("the line is dead")
