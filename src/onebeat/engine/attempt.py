"""The end of one attempt: how it is judged, and its record as an event, for the run's row keeps only one."""

import logging
from datetime import datetime

from msgspec.structs import replace

from onebeat.core.decide import judge
from onebeat.core.messages import Done, Finish, Report, Retry, Verdict
from onebeat.core.model import Event, Json, Outcome, Policy, Run, RunState, instant_text

_log = logging.getLogger("onebeat.engine")

LAPSED = "its lease had lapsed on its node before its body began, and it did not begin"


def ended(policy: Policy, run: Run, report: Report, *, at: datetime, actor: str) -> Finish:
    """Judge the end of an attempt; return what carries it to the ledger."""
    verdict: Verdict
    if report.retry_on and not policy.retry_on:
        policy = replace(policy, retry_on=report.retry_on)
    try:
        verdict = judge(policy, run, report.outcome, report.error_type, at)
    except Exception as error:  # noqa: BLE001 - its executor gave the report away: it must not be lost here
        _log.exception("%s: its end cannot be judged", run.id)
        verdict = Done(state=RunState.FAILED, reason=f"its end cannot be judged: {type(error).__name__}")
    quiet = report.outcome is Outcome.SUCCEEDED and not policy.report_success
    return Finish(
        run_id=run.id,
        token=run.token,
        outcome=report.outcome,
        verdict=verdict,
        result=report.result,
        error=report.error,
        event=None
        if quiet
        else attempt_event(run, report.outcome, verdict, error=report.error, at=at, actor=actor),
    )


def attempt_event(
    run: Run, outcome: Outcome, verdict: Verdict, *, error: str | None, at: datetime, actor: str
) -> Event:
    """Return ``attempt.<outcome>`` when the run goes on, ``run.<state>`` when it ends.

    ``run`` is the row as the attempt had it, so a takeover names the previous holder. ``at`` is when the
    attempt ended, or was found lost; ``actor`` is the node that says so.
    """
    data: dict[str, Json] = {
        "attempt": run.attempt,
        "token": run.token,
        "holder": run.holder,
        "outcome": outcome.value,
        "claimed_at": _text(run.claimed_at),
        "started_at": _text(run.started_at),
        "finished_at": instant_text(at),
    }
    if error is not None:
        data["error"] = error
    if isinstance(verdict, Retry):
        kind = f"attempt.{outcome.value}"
        data["retry_at"] = instant_text(verdict.at)
    else:
        kind = f"run.{verdict.state.value}"
    return run_event(kind, run, at=at, actor=actor, reason=verdict.reason, data=data)


def refused_event(mine: Run, outcome: Outcome, there: Run | None, *, at: datetime, actor: str) -> Event:
    """Return ``attempt.refused``: a result came too late. ``there`` is the run as the ledger has it now."""
    if there is None:
        passed = "its run is no longer in the ledger"
    elif there.token != mine.token:
        passed = f"the lease passed to {there.holder or 'another attempt'} (attempt {there.attempt})"
    elif there.state is RunState.READY:
        passed = "the lease lapsed, and the run waits for another attempt"
    else:
        passed = f"the lease lapsed, and the run has ended: {there.state.value} ({there.reason})"
    data: dict[str, Json] = {
        "attempt": mine.attempt,
        "token": mine.token,
        "holder": actor,
        "outcome": outcome.value,
        "started_at": _text(mine.started_at),
    }
    return run_event(
        "attempt.refused", mine, at=at, actor=actor, reason=f"result refused: {passed}", data=data
    )


def run_event(
    kind: str, run: Run, *, at: datetime, actor: str, reason: str, data: dict[str, Json] | None = None
) -> Event:
    """Return an event about one run."""
    return Event(
        at=at,
        kind=kind,
        schedule_id=run.schedule_id,
        schedule=run.schedule,
        run_id=run.id,
        actor=actor,
        reason=reason,
        data=data or {},
    )


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant_text(instant)
