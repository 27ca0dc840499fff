"""How long it takes to find the next occurrence, beside croniter, which most schedulers use.

Both sides walk from occurrence to occurrence in New York, gaps and folds included, and take turns, so that a
busy machine slows both. Run by `make bench ARGS=triggers`, or alone: `.venv/bin/python bench/triggers.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from bench.figure import Figure, Settings

ZONE = "America/New_York"
START = datetime(2026, 1, 1, tzinfo=UTC)
TIMES_FASTER_MIN = 5
# Expression, and how many occurrences a walk visits at scale 1.
WALKS = {
    "*/5 * * * *": 20_000,
    "0 9 * * 1-5": 5_000,
    "0 0 29 2 *": 300,
    "30 2 * * *": 5_000,
    "0 0 L * *": 1_000,
}


def run(settings: Settings) -> list[Figure]:
    """Measure walks beside croniter, and counting."""
    from bench.figure import Figure, ratios

    figures = []
    for expression, number in WALKS.items():
        visits = max(20, int(number * settings.scale))
        ours, theirs = taken_in_turns(
            lambda e=expression, n=visits: walk_ours(e, n),
            lambda e=expression, n=visits // 4: walk_croniter(e, n),
            settings.repeats,
        )
        figures.append(
            Figure(
                name=f"next of {expression}",
                value=ratios(theirs, ours),
                unit="times faster",
                beside="croniter",
                bar=TIMES_FASTER_MIN,
                detail={"ours_us": median(ours) * 1e6, "croniter_us": median(theirs) * 1e6, "visits": visits},
            )
        )
    figures += [counted(settings, *case) for case in counts()]
    return figures


def taken_in_turns(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int
) -> tuple[list[float], list[float]]:
    """Return seconds a visit of either side, one pair for each repeat."""
    ours(), theirs()  # zone data, tables and regular expressions are made once and kept
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def walk_ours(expression: str, visits: int) -> float:
    from onebeat.core.triggers import build, cron

    trigger = build(cron(expression, zone=ZONE))
    at: datetime | None = START
    began = time.perf_counter()
    for _ in range(visits):
        at = trigger.after(at)  # type: ignore[arg-type]  # the walks end long before the year 9999
    return (time.perf_counter() - began) / visits


def walk_croniter(expression: str, visits: int) -> float:
    from croniter import croniter

    walker = croniter(expression, START.astimezone(ZoneInfo(ZONE)))
    began = time.perf_counter()
    for _ in range(visits):
        walker.get_next(datetime)
    return (time.perf_counter() - began) / visits


def counts() -> list[tuple[str, Any, float]]:
    from onebeat.core.triggers import cron

    seconds = cron("* * * * * *", zone=ZONE)
    return [
        ("a year of seconds", seconds, 5.0),
        (
            "a year of seconds less a zone's hours",
            seconds - cron("* 9-17 * * MON-FRI", zone="Asia/Tokyo"),
            100.0,
        ),
    ]


def counted(settings: Settings, name: str, spec: Any, bar_ms: float) -> Figure:
    """Measure how long it takes to count a year: the audit does it for every tile of the ledger."""
    from bench.figure import Figure
    from onebeat.core.triggers import build

    trigger, end = build(spec), START.replace(year=START.year + 1)
    found, taken = trigger.count(START, end), list[float]()
    for _ in range(max(3, settings.repeats)):
        began = time.perf_counter()
        found = trigger.count(START, end)
        taken.append((time.perf_counter() - began) * 1e3)
    detail = {"occurrences": found}
    return Figure(f"count of {name}", median(taken), "ms", "nothing", bar_ms, at_least=False, detail=detail)


def main() -> int:
    """Run this bench alone: a table, then JSON."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from bench.__main__ import table
    from bench.figure import Settings
    from bench.stores import opened

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    figures = run(Settings(opened("sqlite", Path(), None), options.scale, options.repeats))
    print(table(figures))
    print(json.dumps([figure.as_data() for figure in figures], indent=1))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
