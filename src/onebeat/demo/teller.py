"""How the demo speaks: one line for each thing done or seen, and a bar at a terminal while time passes."""

import sys
import time
from typing import TextIO

BAR = 30


class Teller:
    """Lines with the time since the beginning. The bar goes to stderr, and only if that is a terminal."""

    def __init__(self, total: float, out: TextIO | None, err: TextIO | None = None) -> None:
        self._began = time.monotonic()
        self._total = total
        self._out = out
        self._err = sys.stderr if err is None else err
        self._bar = self._err.isatty()
        self._drawn = False

    @property
    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._began

    def say(self, text: str) -> None:
        """Tell one line, with the time."""
        self._print(f"{self.elapsed:5.1f} s  {text}")

    def write(self, text: str = "") -> None:
        """Tell lines without the time."""
        self._print(text)

    def progress(self, what: str) -> None:
        """Draw the bar anew, at a terminal."""
        if self._bar:
            done = min(1.0, self.elapsed / self._total)
            filled = round(done * BAR)
            bar = "█" * filled + "░" * (BAR - filled)
            self._err.write(f"\r\x1b[K{bar} {done:4.0%}  {what}")
            self._err.flush()
            self._drawn = True

    def _print(self, text: str) -> None:
        if self._drawn:
            self._err.write("\r\x1b[K")
            self._err.flush()
            self._drawn = False
        if self._out is not None:
            print(text, file=self._out, flush=True)
