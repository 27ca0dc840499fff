"""Whether start-up and memory depend on how many schedules exist."""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median

from bench.figure import Figure, Settings
from bench.ledger import Observer, defined, every, fill, node, peak_mib, soon
from onebeat.core.triggers.interval import once

SMALL, LARGE = 1_000, 1_000_000


def run(settings: Settings) -> Sequence[Figure]:
    """Compare a node's first fire and peak memory on a small ledger with those on a large one."""
    large = max(SMALL * 2, int(LARGE * settings.scale))
    sizes = {SMALL: settings.place / "small.db", large: settings.place / "large.db"}
    for count, path in sizes.items():
        fill(path, (every(86_400, soon(7200) + timedelta(milliseconds=n)) for n in range(count)))
    # Measured in turns, small, large, small, …: the machine's mood meets both.
    firsts: dict[int, list[float]] = {count: [] for count in sizes}
    peaks: dict[int, list[float]] = {count: [] for count in sizes}
    for turn in range(settings.repeats):
        for count, path in sizes.items():
            first_fire, peak = _once(path, turn)
            firsts[count].append(first_fire)
            peaks[count].append(peak)
    figures = []
    for name, unit, values in (("first fire", "s", firsts), ("peak memory", "MiB", peaks)):
        small, big = median(values[SMALL]), median(values[large])
        figures.append(
            Figure(
                f"{name}, {large:,} schedules against {SMALL:,}",
                big / small,
                "x",
                f"{big:.3g} {unit} against {small:.3g} {unit}, medians of {settings.repeats}",
                1.3,
                at_least=False,
                detail={str(count): each for count, each in values.items()},
            )
        )
    return figures


def _once(path: Path, turn: int) -> tuple[float, float]:
    """Return the seconds from the process's start to its first fire, seen outside, and its peak MiB."""
    fill(path, [defined(once(soon(-60)))], prefix=f"first{turn}-")
    observer = Observer(path)
    os.sync()  # what filling left to be written would stand in the way of the node's first commits
    begun = time.perf_counter()
    with node(path, "dispatcher", "worker") as child:
        seen = observer.watch(120, enough=1)
        took = time.perf_counter() - begun
        assert seen
        time.sleep(2)
        return took, peak_mib(child)
