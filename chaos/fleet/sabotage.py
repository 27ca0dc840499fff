"""Fleets that break the promise on purpose: `python -m chaos run --engine celery --sabotage KIND`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from chaos.sabotage import ONE_IN
from onebeat.celery import CeleryOutlet
from onebeat.core.messages import Claimed

KINDS = {
    "unguarded": "workers have no guard: what the broker delivers twice runs twice",
    "forget": "beats say of one message in 50 that it was sent, and send it never; workers have no guard",
}
"""What a fleet can be told to get wrong, and how."""

Send = Callable[[CeleryOutlet, Sequence[Claimed]], list[str | None]]


def guarded(kind: str) -> bool:
    """Return whether the workers of a fleet have the guard."""
    return kind not in KINDS


def sabotaged(kind: str) -> bool:
    """Prepare this process to break the promise in one way, '' for none; return whether it is guarded."""
    if kind == "forget":
        CeleryOutlet.send = _forgetting(CeleryOutlet.send)  # type: ignore[method-assign]  # on purpose
    return guarded(kind)


def _forgetting(send: Send) -> Send:
    def forgetting(outlet: CeleryOutlet, batch: Sequence[Claimed]) -> list[str | None]:
        kept = [each for each in batch if not forgotten(each.run.id)]
        answers = iter(send(outlet, kept) if kept else [])
        return [None if forgotten(each.run.id) else next(answers) for each in batch]

    return forgetting


def forgotten(run_id: str) -> bool:
    """Return whether a run is one of those that beats forget."""
    return zlib.crc32(run_id.encode()) % ONE_IN == 0
