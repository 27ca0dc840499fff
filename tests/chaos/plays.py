"""Short plays of the rig for tests, and what was seen in them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
from chaos.faults.protocol import STORES, Fault, Nobody, Usual
from chaos.judge import judge_folder
from chaos.place import Place
from chaos.result import Result
from chaos.rig import Rig, Settings
from chaos.story import EFFECTS, RESULT, STORY, Story

from onebeat.testing.history import Effect, read


class EditorKilled(Usual):
    """The editor, and nobody else, dies in the middle of its edits."""

    kind = "editor killed"
    stores = STORES
    lasts_s = (0.1, 0.5)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        editor = place.editor
        if editor is None or not editor.alive or place.hurts(editor):
            raise Nobody
        editor.killed()
        left.callback(lambda: None if editor.alive else place.restart_node(editor))
        return editor.name


class Played(NamedTuple):
    """A play that is over, and its verdict."""

    story: Story
    result: Result
    folder: Path

    @classmethod
    def found(cls, folder: Path) -> Played:
        """Return what is in the folder of a play that is over."""
        story = msgspec.json.decode((folder / STORY).read_bytes(), type=Story)
        return cls(story, msgspec.json.decode((folder / RESULT).read_bytes(), type=Result), folder)

    def bodies(self) -> dict[str, list[Effect]]:
        """Return the beginnings of bodies, by run, in the order of their tokens."""
        found = defaultdict(list)
        for effect in read(self.folder / EFFECTS, Effect):
            if effect.phase == "began":
                found[effect.run_id].append(effect)
        return {run_id: sorted(each, key=lambda effect: effect.token) for run_id, each in found.items()}


def played(folder: Path, store: str, faults: list[Fault], **more: Any) -> Played:
    """Play a small load under these faults, and judge it."""
    settings = Settings(store=store, minutes=0.2, seed=1, folder=folder, **{"size": 0.3, **more})
    Rig(settings, faults, lambda _: None).run()
    judge_folder(folder)
    return Played.found(folder)
