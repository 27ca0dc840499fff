"""Transitions as moves.lua takes them: the name of the move, and what it needs."""

from collections.abc import Sequence
from typing import Any, assert_never

from onebeat.core.messages import (
    AnyTransition,
    Cancel,
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
    Sent,
    Start,
    Unpark,
    Verdict,
)
from onebeat.store.moves import OF_HOLDERS
from onebeat.store.redis.cells import event_cells, text_of, text_or_none
from onebeat.store.rows import json_text


def steps_cells(steps: Sequence[AnyTransition]) -> tuple[list[int], list[str], list[str | None], list[Any]]:
    """Return transitions as a script takes them: of each its form, run and token; and the forms.

    A batch is a thousand times the same but for run and token: what is said once is read once.
    """
    which: list[int] = []
    forms: list[Any] = []
    known: dict[object, int] = {}
    for step in steps:
        shared = _shared(step)
        form = None if shared is None else known.get(shared)
        if form is None:
            forms.append(_form(step))
            form = len(forms)
            if shared is not None:
                known[shared] = form
        which.append(form)
    tokens = [str(step.token) if isinstance(step, OF_HOLDERS) else None for step in steps]
    return which, [step.run_id for step in steps], tokens, forms


def _shared(step: AnyTransition) -> object:
    """Return what tells the form of a transition from other shared ones; None for a form of its own."""
    if step.event is not None:
        return None
    if isinstance(step, Start):
        return Start
    if isinstance(step, Renew):
        return step.until
    if isinstance(step, Finish) and step.result is None and step.error is None:
        return step.outcome, step.verdict
    return None


def _form(step: AnyTransition) -> dict[str, Any]:
    cells = _needs(step)
    if step.event is not None:
        cells["event"] = event_cells(step.event)
    return cells


def _needs(step: AnyTransition) -> dict[str, Any]:
    match step:
        case Start():
            return {"kind": "start"}
        case Renew():
            return {"kind": "renew", "till": text_of(step.until)}
        case Finish():
            return {
                "kind": "finish",
                "outcome": step.outcome,
                "verdict": _verdict(step.verdict),
                "result": json_text(step.result),
                "error": step.error,
            }
        case Release():
            return {"kind": "release"}
        case Lost():
            return {"kind": "lost", "verdict": _verdict(step.verdict), "started": step.started}
        case Sent():
            at = text_or_none(step.resend_at)
            return {"kind": "sent", "attempt": str(step.attempt), "resend_at": at}
        case Resend():
            return {"kind": "resend"}
        case Guard():
            wish = {"attempt": str(step.attempt), "holder": step.holder, "till": text_of(step.until)}
            return {"kind": "guard", "starts": step.starts, **wish}
        case HandOver():
            return {"kind": "hand_over", "attempt": str(step.attempt)}
        case Cancel():
            return {"kind": "cancel"}
        case Park():
            return {"kind": "park", "reason": step.reason}
        case Unpark():
            return {"kind": "unpark"}
        case Expire():
            return {"kind": "expire"}
        case _:
            assert_never(step)


def _verdict(verdict: Verdict) -> dict[str, str | None]:
    if isinstance(verdict, Done):
        return {"state": verdict.state, "reason": verdict.reason or None}
    return {"at": text_of(verdict.at), "reason": verdict.reason or None}
