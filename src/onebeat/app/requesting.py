"""Requests of one schedule, committed as a batch: what `Runs` and a backfill both do."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias

from onebeat.app.desk import Desk
from onebeat.core.decide import admit
from onebeat.core.messages import Answer, Request
from onebeat.core.model import MICROSECOND, Load, NewRun, RunState, Schedule

Wanted: TypeAlias = tuple[str, datetime | None]
"""The key of a run, and the occurrence that it stands for."""

BATCH_MAX = 500


def ask(
    desk: Desk, row: Schedule, load: Load, wanted: Sequence[Wanted], *, forced: bool, reason: str
) -> list[Answer]:
    """Admit and commit runs, in this order, against the row as it was read. One transaction.

    What is STALE was not done: read the row again and ask again. Each is due a microsecond after the one
    before, none later than now, so that those that wait are promoted in this order.

    Raises Refused where the overlap policy has no place for one; then nothing was done.
    """
    now = desk.store.now()
    requests: list[Request] = []
    for number, (key, at) in enumerate(wanted):
        due_at = now - (len(wanted) - 1 - number) * MICROSECOND
        new = admit(row, load, key=key, now=due_at, occurrence_at=at, forced=forced)
        load = _with(load, new)
        requests.append(
            Request(
                schedule_id=row.id,
                expected_version=row.version + number,
                run=new,
                actor=desk.actor,
                reason=reason,
            )
        )
    return desk.store.request(requests)


def _with(load: Load, new: NewRun) -> Load:
    """Return the load after one more run was admitted."""
    if new.state is RunState.READY:
        return Load(live=load.live + 1, waiting=load.waiting, last_waiting=load.last_waiting)
    return Load(live=load.live, waiting=load.waiting + 1, last_waiting=new.id)
