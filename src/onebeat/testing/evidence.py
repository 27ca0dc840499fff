"""What an onlooker knows of a ledger: every answer that it gave, and every effect that a body had.

The onlooker stands between the ledger and its callers, so it also sees answers that never arrived. From them
it keeps rows of its own, by the contract of ports.py alone; checkers.py holds the ledger against them.
Nothing here decides, and nothing reads the ledger's tables.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Cancel,
    Claimed,
    Done,
    Edit,
    Finish,
    Guard,
    HandOver,
    Hold,
    Lost,
    Purged,
    Release,
    Renew,
    Resend,
    Start,
)
from onebeat.core.model import Decision, Definition, NewRun, Outcome, Policy, RunState, Schedule, Settlement


class Stretch(NamedTuple):
    """A definition in force: it governs the nominal instants after ``since``, until the next one's."""

    since: datetime
    at: datetime  # when it was committed
    version: int
    number: int
    incarnation: int
    definition: Definition
    paused: bool
    deleted: bool


class Born(NamedTuple):
    """A run as it was committed: asked for (no tile), or fired by a settlement or an edit."""

    new: NewRun
    schedule_id: int
    number: int
    incarnation: int
    at: datetime
    tile: Settlement | None
    stretch: int  # the place, among its schedule's stretches, of the one in force


class Lease(NamedTuple):
    """The right of a holder to an attempt, as the ledger gave it."""

    token: int
    holder: str
    until: datetime
    started: bool = False


class Ended(NamedTuple):
    """The accepted end of a run: by which token, how the attempt went, and what became of the run."""

    token: int
    outcome: Outcome
    state: RunState


class Effect(NamedTuple):
    """A body that began, seen from outside the ledger."""

    run_id: str
    token: int
    attempt: int
    schedule: str
    occurrence_at: datetime | None
    node: str
    at: datetime


class Evidence:
    """The onlooker's own rows. Each ``took`` method enters what the ledger said it did; none judges."""

    def __init__(self, *, complete: bool = True) -> None:
        self.complete = complete  # the ledger was empty when the onlooker came, and nothing went past it
        self.rows: dict[int, Schedule] = {}
        self.ids: dict[str, int] = {}
        self.stretches: dict[int, list[Stretch]] = {}
        self.edits: dict[int, list[Edit]] = {}
        self.skips: set[tuple[int, int, datetime]] = set()  # schedule, incarnation, listed occurrence
        self.runs: dict[str, Born] = {}
        self.fired: dict[tuple[int, int, datetime], str] = {}
        self.stands_for: dict[str, tuple[int, datetime, datetime]] = {}  # run -> count, first and last
        self.sent: set[str] = set()  # runs that a claim sent, and that have not come back or been taken
        self.leases: dict[str, Lease] = {}
        self.leased: dict[int, set[str]] = {}  # schedule -> runs under a lease
        self.tokens: dict[str, int] = {}  # the last one given
        self.token_max = 0
        self.ended: dict[str, Ended] = {}
        self.retried: dict[tuple[str, int], Outcome] = {}  # attempts that ended with a retry
        self.ready_at: dict[str, datetime] = {}  # of runs that are tried again: from when on
        self.started: set[tuple[str, int]] = set()
        self.reported: dict[str, int] = {}  # attempts that a holder reported, and that will be repeated
        self.cancelled: set[str] = set()
        self.held: Hold | None = None
        self._released_at: datetime | None = None  # the latest instant that the clock had shown by then
        self.effects: dict[tuple[str, int], Effect] = {}
        self.purged = 0  # runs that a purge may have taken
        self.buried: set[int] = set()
        self._hold_edits: set[str] = set()
        self.clock_max: datetime | None = None  # the latest instant that the store's clock has shown
        self.stepped_back = False
        self.settled = 0

    def policy(self, schedule_id: int) -> Policy:
        """Return the policy in force."""
        return self.rows[schedule_id].definition.policy

    def most_running(self, schedule_id: int, runs: Iterable[str]) -> float:
        """Return the largest limit in force since the oldest of ``runs``: a lower one binds what comes later.

        Oldest in the order of commits: a clock that is set back says nothing of that.
        """
        oldest = min((self.runs[run_id].stretch for run_id in runs if run_id in self.runs), default=0)
        policies = [stretch.definition.policy for stretch in self.stretches.get(schedule_id, ())[oldest:]]
        limits = [policy.max_running if policy.limited else math.inf for policy in policies]
        return max(limits, default=math.inf)

    def clock(self, at: datetime) -> None:
        """Take note of the store's clock."""
        if self.clock_max is None or at > self.clock_max:
            self.clock_max = at
        elif at < self.clock_max:
            self.stepped_back = True

    def took_edit(self, edit: Edit, schedule_id: int, at: datetime) -> None:
        """Enter an accepted edit: what the old definition owed, the new row, the runs asked for."""
        old = self.rows.get(schedule_id)
        if edit.cancel_older:
            self._recalled(schedule_id)
        if old is not None:
            self._took_tiles(old, edit.settlements, at)
        row = replace(edit.after, id=schedule_id)
        self.rows[schedule_id] = row
        self.ids[row.name] = schedule_id
        self.edits.setdefault(schedule_id, []).append(edit)
        self.stretches.setdefault(schedule_id, []).append(
            Stretch(
                since=edit.boundary_at,
                at=at,
                version=row.version,
                number=row.number,
                incarnation=row.incarnation,
                definition=row.definition,
                paused=row.paused is not None,
                deleted=row.deleted,
            )
        )
        self.skips.update((row.id, row.incarnation, skip) for skip in row.skips)
        for new in edit.requests:
            self._born(row, new, at, None)

    def took_decision(self, decision: Decision, at: datetime) -> None:
        """Enter a decision that won."""
        row = self.rows[decision.schedule_id]
        if decision.cancel_older:
            self._recalled(row.id)
        self._took_tiles(row, decision.settlements, at)
        self.rows[row.id] = replace(
            row,
            version=row.version + 1,
            settled_until=decision.settled_until,
            next_at=decision.next_at,
            skips=row.skips if decision.skips is None else decision.skips,
        )

    def took_request(self, schedule_id: int, new: NewRun, at: datetime) -> None:
        """Enter an accepted request."""
        row = self.rows[schedule_id]
        self.rows[schedule_id] = replace(row, version=row.version + 1)
        self._born(row, new, at, None)

    def _took_tiles(self, row: Schedule, settlements: Iterable[Settlement], at: datetime) -> None:
        for tile in settlements:
            self.settled += tile.count
            if tile.run is not None:
                self._born(row, tile.run, at, tile)
            into = tile.into if tile.run is None else tile.run.id
            if into is not None and tile.first_at is not None and tile.last_at is not None:
                count, first, _ = self.stands_for.get(into, (0, tile.first_at, None))
                self.stands_for[into] = (count + tile.count, min(first, tile.first_at), tile.last_at)

    def _born(self, row: Schedule, new: NewRun, at: datetime, tile: Settlement | None) -> None:
        stretch = len(self.stretches[row.id]) - 1
        self.runs[new.id] = Born(new, row.id, row.number, row.incarnation, at, tile, stretch)
        if tile is not None and new.occurrence_at is not None:
            self.fired[row.id, row.incarnation, new.occurrence_at] = new.id

    def took_claim(self, claimed: Claimed) -> None:
        """Enter a lease."""
        run = claimed.run
        assert run.lease_until is not None
        assert run.holder is not None
        self._lease(run.id, run.schedule_id, Lease(run.token, run.holder, run.lease_until))

    def took_sent(self, claimed: Claimed) -> None:
        """Enter a run that goes out as a message."""
        self.sent.add(claimed.run.id)

    def _recalled(self, schedule_id: int) -> None:
        """Enter that all runs of a schedule that nobody has under a lease were cancelled."""
        self.sent -= {each for each in self.sent if self._of(each) == schedule_id}

    def _of(self, run_id: str) -> int | None:
        born = self.runs.get(run_id)
        return None if born is None else born.schedule_id

    def _lease(self, run_id: str, schedule_id: int, lease: Lease) -> None:
        self.leases[run_id] = lease
        self.tokens[run_id] = lease.token
        self.token_max = max(self.token_max, lease.token)
        self.leased.setdefault(schedule_id, set()).add(run_id)

    def _unlease(self, run_id: str) -> None:
        self.leases.pop(run_id, None)
        if (born := self.runs.get(run_id)) is not None:
            self.leased.get(born.schedule_id, set()).discard(run_id)

    def took_step(self, step: AnyTransition, answer: Advanced) -> None:
        """Enter an accepted transition."""
        lease = self.leases.get(step.run_id)
        if isinstance(step, Resend | Guard | HandOver | Cancel):
            self.sent.discard(step.run_id)
        match step:
            case Start():
                self.started.add((step.run_id, step.token))
                if lease is not None:
                    self.leases[step.run_id] = lease._replace(started=True)
            case Renew() if lease is not None:
                self.leases[step.run_id] = lease._replace(until=step.until)
            case Release():
                self._unlease(step.run_id)
            case Finish() | Lost():
                outcome = step.outcome if isinstance(step, Finish) else Outcome.LOST
                if isinstance(step.verdict, Done) or answer.state is RunState.CANCELLED:
                    assert answer.state is not None
                    self.ended[step.run_id] = Ended(step.token, outcome, answer.state)
                else:
                    self.retried[step.run_id, step.token] = outcome
                    self.ready_at[step.run_id] = step.verdict.at
                    if isinstance(step, Finish) and outcome is not Outcome.LOST:
                        self.reported[step.run_id] = self.reported.get(step.run_id, 0) + 1
                self._unlease(step.run_id)
            case Guard():
                born = self.runs[step.run_id]
                lease = Lease(answer.token, step.holder, step.until)
                self._lease(step.run_id, born.schedule_id, lease._replace(started=step.starts))
                if step.starts:
                    self.started.add((step.run_id, answer.token))
            case Cancel():
                self.cancelled.add(step.run_id)
            case _:
                pass

    def took_hold(self, wanted: Hold | None, edit_id: str) -> None:
        """Enter a hold or its end, unless it is a repetition."""
        if edit_id not in self._hold_edits:
            self._hold_edits.add(edit_id)
            if wanted is None and self.held is not None:
                self._released_at = self.clock_max
            self.held = wanted

    def held_since(self, cut: datetime) -> bool:
        """Return whether a hold is in force, or was at or after a cut that the store's clock gave."""
        return self.held is not None or (self._released_at is not None and cut <= self._released_at)

    def took_purge(self, purged: Purged, tombstones: Iterable[Schedule]) -> None:
        """Enter a purge, and the tombstones that now answer for the rows that it took away."""
        self.purged += purged.runs
        for tombstone in tombstones:
            self.buried.add(tombstone.id)
            self.rows[tombstone.id] = tombstone


def accepted(answer: Advanced) -> bool:
    """Return whether a transition changed the ledger now."""
    return answer.answer is Answer.ACCEPTED
