"""Short plays of a small fleet for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaos.faults.protocol import Fault
from chaos.fleet.rig import FleetRig
from chaos.judge import judge_folder
from chaos.rig import Settings
from tests.chaos.plays import Played


def played(folder: Path, broker: str, store: str, faults: Sequence[Fault], **more: Any) -> Played:
    """Play a small load under these faults, and judge it."""
    usual = {"minutes": 0.5, "seed": 1, "nodes": 3, "size": 0.1, "edits_s": 1.0, "rounds": 1}
    settings = Settings(store=store, folder=folder, broker=broker, **{**usual, **more})
    FleetRig(settings, faults, lambda _: None).run()
    judge_folder(folder)
    return Played.found(folder)
