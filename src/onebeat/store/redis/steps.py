"""Transitions as moves.lua takes them: the name of the move, and what it needs."""

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
from onebeat.store.redis.cells import event_cells, text_of, text_or_none
from onebeat.store.rows import json_text


def step_cells(step: AnyTransition) -> dict[str, Any]:
    """Return a transition as a script takes it."""
    cells = _needs(step) | {"run_id": step.run_id}
    if step.event is not None:
        cells["event"] = event_cells(step.event)
    return cells


def _needs(step: AnyTransition) -> dict[str, Any]:
    match step:
        case Start():
            return {"kind": "start", "token": str(step.token)}
        case Renew():
            return {"kind": "renew", "token": str(step.token), "till": text_of(step.until)}
        case Finish():
            return {
                "kind": "finish",
                "token": str(step.token),
                "outcome": step.outcome,
                "verdict": _verdict(step.verdict),
                "result": json_text(step.result),
                "error": step.error,
            }
        case Release():
            return {"kind": "release", "token": str(step.token)}
        case Lost():
            return {"kind": "lost", "token": str(step.token), "verdict": _verdict(step.verdict)}
        case Sent():
            at = text_or_none(step.resend_at)
            return {"kind": "sent", "attempt": str(step.attempt), "resend_at": at}
        case Resend():
            return {"kind": "resend"}
        case Guard():
            wish = {"attempt": str(step.attempt), "holder": step.holder, "till": text_of(step.until)}
            return {"kind": "guard", **wish}
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


def _verdict(verdict: Verdict) -> dict[str, str]:
    if isinstance(verdict, Done):
        return {"state": verdict.state, "reason": verdict.reason}
    return {"at": text_of(verdict.at), "reason": verdict.reason}
