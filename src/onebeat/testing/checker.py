"""What a checker of an invariant is, and the picture of a ledger that it may look at.

A checker sees every answer of the ledger as it is given (also those that are lost on their way), every body
that begins, and now and then a picture of the ledger as anybody may read it. It knows what should come from
sums.py and what was answered before from evidence.py. It shares no code with what it checks: neither the
triggers nor the decisions nor the stores.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import ClassVar, NamedTuple

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Change,
    Claim,
    Claimed,
    Edit,
    PutAnswer,
    Request,
    RunQuery,
    ScheduleQuery,
    Tile,
)
from onebeat.core.model import LIVE, Decision, Run, RunState, Schedule
from onebeat.core.ports import Store
from onebeat.testing.evidence import Effect, Evidence

EVERYTHING = 1_000_000
FAR = timedelta(days=36_525)


class Picture(NamedTuple):
    """The ledger as anybody may read it. ``tiles`` and ``trails`` are read only for a ``full`` picture."""

    at: datetime
    rows: dict[int, Schedule]
    runs: dict[str, Run]
    trails: dict[int, list[Change]]
    tiles: dict[int, list[Tile]]
    provable: dict[int, datetime]


def picture(ledger: Store, *, full: bool) -> Picture:
    """Read the ledger: rows and unfinished runs, or, when ``full``, all that the checkers look at."""
    at = ledger.now()
    rows = {row.id: row for row in ledger.schedules(ScheduleQuery(deleted=True, limit=EVERYTHING))}
    states = None if full else (RunState.WAITING, *LIVE)
    runs = {run.id: run for run in ledger.runs(RunQuery(states=states, limit=EVERYTHING))}
    if not full:
        return Picture(at, rows, runs, {}, {}, {})
    return Picture(
        at,
        rows,
        runs,
        {row_id: ledger.trail(row_id) for row_id in rows},
        {row_id: ledger.tiles(row_id, at - FAR, at + FAR) for row_id in rows},
        {row_id: ledger.provable_from(row_id) for row_id in rows},
    )


class Checker:
    """One invariant. Each hook yields what is wrong; those that a checker does not need stay empty."""

    invariant: ClassVar[str]
    claim: ClassVar[str]

    def __init__(self, seen: Evidence) -> None:
        self.seen = seen

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterable[str]:
        """Look at the answer to an edit."""
        return ()

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterable[str]:
        """Look at a decision that won."""
        return ()

    def requested(self, request: Request, answer: Answer, at: datetime) -> Iterable[str]:
        """Look at the answer to a request."""
        return ()

    def claimed(self, claimed: Claimed, at: datetime) -> Iterable[str]:
        """Look at a lease that was given."""
        return ()

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterable[str]:
        """Look at a run that a claim sends."""
        return ()

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterable[str]:
        """Look at the answer to a transition."""
        return ()

    def began(self, effect: Effect) -> Iterable[str]:
        """Look at a body that began."""
        return ()

    def look(self, seen_now: Picture) -> Iterable[str]:
        """Look at the ledger between two calls: rows and unfinished runs."""
        return ()

    def rest(self, seen_now: Picture) -> Iterable[str]:
        """Look at the whole ledger, at any time."""
        return ()
