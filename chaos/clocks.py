"""Clocks that are wrong: a process that follows a file, and not the machine, for what time of day it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.servers import binaries


def set_clock(file: Path, by_s: int) -> None:
    """Have the clock of whoever follows a file be so many seconds off, from now on."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(f"{by_s:+}\n")
    new.replace(file)  # at once: what is half written would be no time at all


def faked_clock(file: Path, run: Path) -> dict[str, str]:
    """Return the environment in which a process follows the clock of a file; ``run`` is a folder of its run.

    Its waits do not: what is monotonic is not faked, so `time.monotonic` tells how long something took. Two
    calls are broken there by the library: `time.sleep`, and the raw monotonic clock. Whoever waits on an
    event, a lock or a socket is not harmed.
    """
    if not file.exists():
        set_clock(file, 0)
    return {
        "LD_PRELOAD": str(_library(run)),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@cache
def _library(run: Path) -> Path:
    (library,) = binaries.unpacked("libfaketime", run).glob("**/libfaketimeMT.so.1")
    return library.resolve()
