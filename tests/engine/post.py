"""A broker that does what a test wants: takes messages, takes none, refuses one, or breaks its contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onebeat.core.errors import OutletUnavailable
from onebeat.core.messages import Claimed
from onebeat.core.model import Target

UNGUARDED = "unguarded"
"""The address at which no guard meets a message."""


class Post:
    """An outlet that keeps what it is given. It records every batch, whatever became of it."""

    kind = "post"
    place = "the post office"

    def __init__(self) -> None:
        self.away = False
        self.refused: set[str] = set()  # run ids that it does not take, and says so
        self.cursed: set[str] = set()  # run ids that it raises for, whoever is with them
        self.got: list[tuple[str, int]] = []  # run id and attempt
        self.tries: list[int] = []  # how large each batch was
        self.closed = False
        self.told: Callable[[], None] = lambda: None

    def resolve(self, target: Target) -> None:
        """Take every target of its kind."""

    def guarded(self, target: Target) -> bool:
        return target.address != UNGUARDED

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        self.tries.append(len(batch))
        if self.away:
            raise OutletUnavailable("the post office is closed")
        if any(each.run.id in self.cursed for each in batch):
            raise KeyError("cursed")
        answers: list[str | None] = []
        for each in batch:
            refused = each.run.id in self.refused
            answers.append("no such address" if refused else None)
            if not refused:
                self.got.append((each.run.id, each.run.attempt + 1))
        self.told()
        return answers

    def close(self) -> None:
        self.closed = True
