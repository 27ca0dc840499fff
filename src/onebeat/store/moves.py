"""How a run moves: one transition on one run, decided from nothing but the two and the store's clock.

This is the closed set of messages.py, in one exhaustive match, for every store that can hold a run row in its
hands while nobody else may change it. It reads and writes nothing.

    waiting ──(a slot is free)──► ready ◄──────────────── Resend ── sent
       │                          │ ▲ │ └── Sent, a sending claim ─► │
       │          Release, Retry ─┼─┘ └─ Park ► parked ─ Unpark ► ready
       │ Cancel, Expire           │ claim, Guard                     │ Guard
       ▼                          ▼                                  ▼
    cancelled, expired          running ── Finish, Lost ──► succeeded, failed, timed_out, cancelled
                                  ↻ Start, Renew               (HandOver: ready, sent ──► handed_over)
"""

from datetime import datetime
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Cancel,
    Claim,
    Done,
    Expire,
    Finish,
    Guard,
    HandOver,
    Lost,
    Park,
    Release,
    Renew,
    Resend,
    Retry,
    Sent,
    Start,
    Unpark,
    Verdict,
)
from onebeat.core.model import FINISHED, Fold, Outcome, Run, RunState

OF_HOLDERS = (Start, Renew, Finish, Release, Lost)
"""Transitions that name the token of the lease that they are about."""

DROPPED = "dropped"
"""The level of a log's last line, where the rest of it did not fit."""

REST_DROPPED = f"the rest was dropped: a run keeps {LOG_BYTES_MAX} bytes"
"""The text of that line."""

IDLE = frozenset({RunState.WAITING, RunState.READY})
"""Where a run may expire."""

OPEN = frozenset({RunState.READY, RunState.SENT})
"""Where what arrives from outside finds a run that nobody has."""

AT_ONCE = frozenset({RunState.WAITING, RunState.READY, RunState.SENT, RunState.PARKED})
"""Where a cancel needs nobody's help: no holder has the run."""


class Moved(NamedTuple):
    """What a transition came to: the answer, and the run after it (the same object if nothing changed)."""

    answer: Advanced
    run: Run


def too_late(run: Run, now: datetime) -> bool:
    """Return whether the start deadline has passed: at the deadline itself a run may still start."""
    return run.deadline_at is not None and run.deadline_at < now


def extended(run: Run, more: Fold) -> Run:
    """Return a waiting run that stands for more occurrences than it did."""
    own = run.fold
    if own is None and run.occurrence_at is not None:
        own = Fold(first_at=run.occurrence_at, last_at=run.occurrence_at, count=1)
    return replace(run, fold=more if own is None else own.joined(more))


def leased(run: Run, holder: str, until: datetime, token: int, now: datetime) -> Run:
    """Return a ready or sent run under a fresh lease: what a claim and a guard both do."""
    return replace(
        run,
        state=RunState.RUNNING,
        reason="",
        attempt=run.attempt + 1,
        token=token,
        holder=holder,
        lease_until=until,
        resend_at=None,
        claimed_at=now,
        started_at=None,
        outcome=None,
        error=None,
        progress=None,
    )


def marked(run: Run, resend_at: datetime | None) -> Run:
    """Return a ready run as sent: what a mark and a claim that sends both do."""
    return replace(run, state=RunState.SENT, resend_at=resend_at)


def resent(claim: Claim, ready_at: datetime, now: datetime) -> datetime:
    """Return the ``resend_at`` of a run that a claim sends: copies come the rarer, the longer it waits."""
    latest = claim.until if claim.until_max is None else claim.until_max
    return min(max(now + (now - ready_at), claim.until), latest)


def cancelled(run: Run, reason: str, now: datetime) -> Run:
    """Return an unfinished run as a cancel leaves it: ended, or flagged if a holder has it."""
    if run.state in AT_ONCE:
        return _ended(run, RunState.CANCELLED, reason, now)
    return replace(run, cancel_requested=True)


def moved(run: Run, step: AnyTransition, now: datetime, token: int) -> Moved:
    """Make one transition. ``token`` is the fencing token to give if a lease begins."""
    match step:
        case Start():
            if _holds(run, step.token) and run.started_at is not None:
                return _told(Answer.REPEATED, run)
            after = _holds(run, step.token) and _started(run, now)
        case Renew():
            after = _holds(run, step.token) and replace(run, lease_until=step.until)
        case Finish():
            return _finish(run, step, now)
        case Release():
            after = _holds(run, step.token) and run.started_at is None and _released(run, now)
        case Lost():
            lapsed = run.lease_until is not None and run.lease_until <= now
            judged = step.started or run.started_at is None
            takes = _holds(run, step.token) and lapsed and judged and _can_be(step.verdict)
            after = takes and _judged(run, step.verdict, Outcome.LOST, now)
        case Sent():
            wanted = run.state is RunState.READY and step.attempt == run.attempt + 1
            after = wanted and marked(run, step.resend_at)
        case Resend():
            silent = run.state is RunState.SENT and run.resend_at is not None and run.resend_at <= now
            after = silent and replace(run, state=RunState.READY, resend_at=None)
        case Guard():
            open_to = run.state in OPEN and not too_late(run, now)
            wanted = open_to and step.attempt == run.attempt + 1
            after = wanted and leased(run, step.holder, step.until, token, now)
            if after and step.starts:
                after = _started(after, now)
        case HandOver():
            wanted = run.state in OPEN and step.attempt == run.attempt + 1
            after = wanted and replace(_ended(run, RunState.HANDED_OVER, "", now), attempt=step.attempt)
        case Cancel():
            if run.state is RunState.CANCELLED or (run.state is RunState.RUNNING and run.cancel_requested):
                return _told(Answer.REPEATED, run)
            after = run.state not in FINISHED and cancelled(run, "cancelled on request", now)
        case Park():
            if run.state is RunState.PARKED:
                return _told(Answer.REPEATED, run)
            after = run.state is RunState.READY and replace(run, state=RunState.PARKED, reason=step.reason)
        case Unpark():
            if run.state is RunState.READY:
                return _told(Answer.REPEATED, run)
            after = run.state is RunState.PARKED and replace(run, state=RunState.READY, reason="")
        case Expire():
            late = run.state in IDLE and too_late(run, now)
            after = late and _ended(run, RunState.EXPIRED, "not started in time", now)
        case _:
            assert_never(step)
    return _told(Answer.ACCEPTED, after, step) if after else _told(Answer.REFUSED, run)


def refused(run: Run | None) -> Advanced:
    """Return the answer to a transition that cannot be made, of a run that may not be there."""
    return Advanced(answer=Answer.REFUSED) if run is None else _told(Answer.REFUSED, run).answer


def _told(answer: Answer, run: Run, step: AnyTransition | None = None) -> Moved:
    told = Advanced(
        answer=answer,
        state=run.state,
        token=run.token if isinstance(step, Guard | Renew) else 0,
        cancel_requested=run.cancel_requested,
        run=run if isinstance(step, Guard) else None,
    )
    return Moved(told, run)


def _holds(run: Run, token: int) -> bool:
    return run.state is RunState.RUNNING and run.token == token


def _started(run: Run, now: datetime) -> Run:
    return replace(run, started_at=now, deadline_at=None)


def _can_be(verdict: Verdict) -> bool:
    return isinstance(verdict, Retry) or verdict.state in FINISHED


def _ended(run: Run, state: RunState, reason: str, now: datetime) -> Run:
    """End a run. Holder and token stay: they say who had it, and let a repeated Finish be known again."""
    return replace(run, state=state, reason=reason, finished_at=now, lease_until=None, resend_at=None)


def _released(run: Run, now: datetime) -> Run:
    if run.cancel_requested:
        return _ended(run, RunState.CANCELLED, "cancelled before it started", now)
    return replace(
        run,
        state=RunState.READY,
        attempt=run.attempt - 1,
        holder=None,
        lease_until=None,
        claimed_at=None,
    )


def _finish(run: Run, step: Finish, now: datetime) -> Moved:
    if not _holds(run, step.token):
        told_before = (run.token, run.outcome) == (step.token, step.outcome)
        return _told(Answer.REPEATED if told_before else Answer.REFUSED, run)
    if not _can_be(step.verdict):
        return _told(Answer.REFUSED, run)
    told = replace(run, result=step.result, error=step.error)
    return _told(Answer.ACCEPTED, _judged(told, step.verdict, step.outcome, now))


def _judged(run: Run, verdict: Verdict, outcome: Outcome, now: datetime) -> Run:
    """End a running run as its verdict says, or make it ready for another attempt in the slot that it has."""
    run = replace(run, outcome=outcome)
    match verdict:
        case Done() if outcome is Outcome.LOST and run.cancel_requested:
            return _ended(run, RunState.CANCELLED, "cancelled; its holder was lost", now)
        case Done():
            return _ended(run, verdict.state, verdict.reason, now)
        case Retry() if run.cancel_requested:
            return _ended(run, RunState.CANCELLED, "cancelled before it was tried again", now)
        case Retry():
            return replace(
                run,
                state=RunState.READY,
                reason=verdict.reason,
                ready_at=verdict.at,
                holder=None,
                lease_until=None,
            )
        case _:
            assert_never(verdict)
