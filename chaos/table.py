"""The table of results in docs/explanation/the-proof.md: `python -m chaos table RESULT.json…` prints it."""

from __future__ import annotations

from collections.abc import Sequence

from chaos.page import FINDINGS, duration, number
from chaos.result import Result

HEAD = (
    "| store | fired | must | edits | faults | fewest of a kind | missed | doubled | early | other |"
    " late p50 | p99 | calm p50 | p99 | the ledger agrees |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
)
ONCE = "fail-over"
"""The kind that is done once in a run: there is one replica."""


def table(results: Sequence[Result]) -> list[str]:
    """Return the lines of the table, one for each result."""
    return [*HEAD, *map(row, results)]


def row(result: Result) -> str:
    """Return the line of one result."""
    counts, done = result.counts, result.faults
    named = ("missed", "doubled", "early")
    others = sum(counts[name] for name in FINDINGS if name not in named)
    cells = [
        result.server,
        *(number(counts[name]) for name in ("fired", "must", "edits_ok")),
        f"{sum(kind.count for kind in done.values())} of {len(done)} kinds",
        number(min((kind.count for name, kind in done.items() if name != ONCE), default=0)),
        *(number(counts[name]) for name in named),
        number(others),
        *(
            duration(late)
            for spread in (result.lateness_all, result.lateness_calm)
            for late in (spread.p50, spread.p99)
        ),
        "yes" if result.audit is not None and result.audit["right"] else "no",
    ]
    return f"| {' | '.join(cells)} |"
