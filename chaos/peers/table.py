"""The table of the page, made of the JSON files of the plays."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaos.peers.kinds import KINDS

HEAD = (
    "| who | by the clock | owed | bodies | missed | doubled |"
    " late p50 | p99 | max | silence | exits | load |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)


def table(folder: Path, play: str) -> list[str]:
    """Return the lines of the table of one play, ``faults`` or ``calm``, of what there is in a folder."""
    return [*HEAD, *map(row, results(folder, play))]


def results(folder: Path, play: str) -> Iterable[dict[str, Any]]:
    """Return the results of one play, in the order of the products."""
    for kind in KINDS:
        path = folder / f"{kind.name}-{play}.json"
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))


def row(result: dict[str, Any]) -> str:
    """Return the line of one product."""
    counts, late = result["counts"], result["lateness_ms"]
    cells = [
        result["product"],
        *(f"{counts[name]:,}" for name in ("by_the_clock", "owed", "fired", "missed", "doubled")),
        *(_length(late[name]) for name in ("p50", "p99", "max")),
        f"{result['longest_silence_s']:.1f} s",
        f"{counts['exits']}",
        f"{result['machine']['load_before']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _length(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
