"""The judge's findings, for people and for programs."""

from collections.abc import Sequence
from typing import Any

from onebeat.demo.verdict import Verdict, percentile

PROBLEMS_SHOWN_MAX = 20


def table(verdict: Verdict, troubles: Sequence[str], *, killed: int, frozen: int) -> list[str]:
    """Return the verdict as lines of text."""
    skipped = sum(verdict.skipped.values())
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(verdict.skipped.items()))
    settled = f"{verdict.fired:,} fired, {verdict.folded:,} folded, {skipped:,} skipped"
    rows = [
        ("expected", verdict.expected, "occurrences, by the demo's own arithmetic"),
        ("in the ledger", verdict.fired + verdict.folded + skipped, settled),
        ("", None, f"skipped: {reasons}" if reasons else ""),
        ("", None, f"{verdict.owed:,} due in the last second, still owed: kept" if verdict.owed else ""),
        ("", None, f"and {verdict.requested:,} asked for by hand" if verdict.requested else ""),
        ("in the outside file", verdict.effects, "bodies that began"),
        ("  again, after a loss", verdict.again_lost, "runs of the killed or stopped node, under attempt 2"),
        ("  again, after a failure", verdict.again_failed, "runs that failed on purpose, under attempt 2"),
        ("  never again, after a loss", verdict.given_up, 'runs with on_lost="fail"'),
        ("missed", verdict.missed, ""),
        ("doubled", verdict.doubled, ""),
        ("otherwise wrong", verdict.other + len(troubles), "") if verdict.other or troubles else None,
        ("nodes killed, stopped", None, f"{killed}, {frozen}"),
        ("attempts taken over", verdict.takeovers, ""),
        ("results refused", verdict.refused, ""),
        ("late, due to commit", None, _late(verdict.late)),
        ("late, due to the body", None, f"{_late(verdict.began)}; with overlap=allow"),
        (
            "due at start, while held",
            verdict.caught_up,
            "fires, late for a reason, and not in the two lines above",
        ),
    ]
    lines = [_row(*row) for row in rows if row is not None and any(row)]
    problems = [*troubles, *verdict.problems]
    lines += [f"  ! {problem}" for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        lines.append(f"  ! and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    return lines


def data(verdict: Verdict, troubles: Sequence[str], *, killed: int, frozen: int) -> dict[str, Any]:
    """Return the verdict as plain JSON data."""
    return {
        "schedules": verdict.schedules,
        "expected": verdict.expected,
        "ledger": {
            "fired": verdict.fired,
            "folded": verdict.folded,
            "skipped": dict(sorted(verdict.skipped.items())),
            "owed": verdict.owed,
            "requested": verdict.requested,
        },
        "outside": {
            "effects": verdict.effects,
            "again_after_loss": verdict.again_lost,
            "again_after_failure": verdict.again_failed,
            "never_again_after_loss": verdict.given_up,
        },
        "missed": verdict.missed,
        "doubled": verdict.doubled,
        "otherwise_wrong": verdict.other + len(troubles),
        "nodes": {"killed": killed, "stopped": frozen},
        "takeovers": verdict.takeovers,
        "refused": verdict.refused,
        "lateness_ms": {"to_commit": _numbers(verdict.late), "to_body": _numbers(verdict.began)},
        "due_while_held": verdict.caught_up,
        "problems": [*troubles, *verdict.problems],
    }


def _row(what: str, number: int | None, words: str) -> str:
    shown = "" if number is None else f"{number:,}"
    return f"  {what:<26}{shown:>7}  {words}".rstrip()


def _numbers(values: Sequence[int]) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values, share) / 1000, 1) for name, share in shares.items()}


def _late(values: Sequence[int]) -> str:
    return ", ".join(f"{name} {number:,.1f} ms" for name, number in _numbers(values).items())
