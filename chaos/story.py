"""What a run leaves in its folder: the names of its files, and what the rig says beside the evidence."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

HISTORY, EFFECTS, FAULTS = "history.jsonl", "effects.jsonl", "faults.jsonl"
STORY, AUDIT, RESULT, PAGE = "run.json", "audit.json", "result.json", "page.html"


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What the rig says of a run. Only what a judge cannot do without has to be there."""

    store: str
    minutes: float
    seed: int | None = None
    began_at: datetime
    calm_at: datetime | None = None
    until: datetime
    ended_at: datetime
    lives: int = 0
    done: dict[str, int] = {}
    unfinished: int = 0
    interrupted: bool = False
    ended: bool = True  # in order: then, if no run is unfinished, everything that was owed must have come
    facts: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    machine: dict[str, Any] = {}  # as bench.machine describes it
