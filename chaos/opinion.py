"""The second opinion: what the ledger says of the same run, and whether the world agrees with it.

The ledger is asked last, and is never the first witness. Its audit proves the ledger against itself; here its
runs are held against what bodies and nodes wrote down:

* a run whose body began is in the ledger, and has ended;
* a run that the ledger holds for succeeded was seen to succeed, under the very token that the ledger ends on:
  so whoever had lost the lease, and came back to report, was refused;
* a run that ended otherwise ended under the token of its last body, or began nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from onebeat import Onebeat
from onebeat.core.messages import RunQuery
from onebeat.core.model import FINISHED, Run, RunState
from onebeat.testing.history import Effect

PAGE = 5000
TOLD_MAX = 20


class Seen(NamedTuple):
    """What was seen of one run: the largest token of a body, and the tokens under which one returned.

    A body that was told to stop, and returned, has succeeded for a ledger that heard of it in time.
    """

    token: int = 0
    returned: frozenset[int] = frozenset()


def opinion(beat: Onebeat, effects: Iterable[Effect]) -> dict[str, Any]:
    """Ask the ledger; return what it says, and whether that is right, for `audit.json`."""
    said = differences(beat, effects)
    report = beat.audit()
    return {
        "right": report.right and not said,
        "expected": report.expected,
        "fired": report.fired,
        "folded": report.folded,
        "skipped": dict(report.skipped),
        "owed": report.owed,
        "gaps": report.gaps,
        "extras": report.extras,
        "early": report.early,
        "differences": len(said),
        "differs": said[:TOLD_MAX],
        "wrong": [each.name for each in report.schedules if not each.right][:TOLD_MAX],
    }


def differences(beat: Onebeat, effects: Iterable[Effect]) -> list[str]:
    """Return in words where the ledger and the world differ."""
    seen = _seen(effects)
    said: list[str] = []
    for run in _runs(beat):
        said += _differs(run, seen.pop(run.id, Seen()))
    return said + [f"{run_id} began, and the ledger knows nothing of it" for run_id in seen]


def _seen(effects: Iterable[Effect]) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    for effect in effects:
        before = seen.get(effect.run_id, Seen())
        if effect.phase == "began":
            seen[effect.run_id] = before._replace(token=max(before.token, effect.token))
        elif effect.phase == "ended" and effect.outcome in {"succeeded", "cancelled"}:
            seen[effect.run_id] = before._replace(returned=before.returned | {effect.token})
    return seen


def _runs(beat: Onebeat) -> Iterable[Run]:
    before = None
    while page := beat.store.runs(RunQuery(before=before, limit=PAGE)):
        yield from page
        before = page[-1].id


def _differs(run: Run, seen: Seen) -> list[str]:
    if run.state not in FINISHED:
        return [f"{run.id} is {run.state.value}"]
    if run.state is RunState.SUCCEEDED and run.token not in seen.returned:
        return [f"{run.id} succeeded by token {run.token}, under which no body was seen to return"]
    if seen.token > run.token:
        return [f"{run.id} ended by token {run.token}, and a body began under {seen.token}"]
    return []
