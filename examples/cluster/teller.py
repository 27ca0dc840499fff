"""How the cluster speaks: lines with the time, and one live line below them on a terminal."""

from __future__ import annotations

import time
from typing import TextIO


class Teller:
    """Lines with the seconds since the beginning. The live line is drawn on a terminal only."""

    def __init__(self, out: TextIO) -> None:
        self.live = out.isatty()
        self._out = out
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Tell one line, with the time."""
        self.write(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def write(self, text: str = "") -> None:
        """Tell lines without the time."""
        self._wipe()
        print(text, file=self._out, flush=True)

    def status(self, text: str) -> None:
        """Draw the live line anew."""
        if self.live:
            self._wipe()
            self._out.write(text)
            self._out.flush()

    def _wipe(self) -> None:
        if self.live:
            self._out.write("\r\x1b[K")
