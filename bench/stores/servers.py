"""Starting a server for a benchmark: as the tests start theirs, but durable, and on a disk."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.running import START_S, Place


class Started:
    """A server in a folder, from here until ``end``; or this process's own end, however that comes."""

    def __init__(self, place: Path, command: Callable[[Path], tuple[list[str], str]]) -> None:
        closed = [folder for folder in place.resolve().parents if not folder.stat().st_mode & 0o001]
        if closed and os.getuid() == 0:
            raise SystemExit(f"a server refuses to be root, and {closed[0]} is closed to others: say --place")
        here = Place(place)
        words, self.url = command(place)
        self._guard: subprocess.Popen[bytes] = here.guarded(os.getpid(), words)
        self._log = place / "log"

    def answering(self, answers: Callable[[str], bool]) -> str:
        """Wait until the server lets us in; return its URL."""
        for _ in range(int(START_S / 0.05)):
            if answers(self.url):
                return self.url
            time.sleep(0.05)
        raise SystemExit(f"the server did not start:\n{self._log.read_text(errors='replace')}")

    def end(self) -> None:
        self._guard.terminate()
        self._guard.wait()
