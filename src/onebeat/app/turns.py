"""What a ready run of a group waits for, out of the ledger and nothing else."""

from datetime import datetime

from onebeat.core.messages import RunQuery
from onebeat.core.model import Run, RunState
from onebeat.core.ports import Store

LOOKED_AT = 10_000
"""How many runs that are out, and that are ready, are looked at."""


def waits_for(store: Store, run: Run) -> str:
    """Return what a run waits for, as it follows its name in a sentence; "" where its turn has come."""
    if run.state is not RunState.READY or run.exclusive is None:
        return ""
    for out in store.runs(RunQuery(states=(RunState.RUNNING, RunState.SENT), limit=LOOKED_AT)):
        if out.exclusive == run.exclusive:
            return f"waits for the group {run.exclusive}, which {out.id} has"
    now = store.now()
    ready = store.runs(RunQuery(states=(RunState.READY,), limit=LOOKED_AT))
    before = [each for each in ready if each.exclusive == run.exclusive and _turn(each) < _turn(run)]
    before = [each for each in before if each.ready_at <= now]
    if not before:
        return ""
    return f"waits for its turn in the group {run.exclusive}, after {min(before, key=_turn).id}"


def _turn(run: Run) -> tuple[int, datetime, str]:
    return -run.priority, run.ready_at, run.id
