"""Nodes that break the promise on purpose, so that everybody can see that the rig would have noticed.

`python -m chaos run --sabotage KIND` starts such nodes; a run of them that ends well is a broken rig.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, NamedTuple

from msgspec.structs import replace

from onebeat import CurrentRun
from onebeat.core.messages import Advanced, Answer, AnyTransition, Claim, Claimed, Finish, Renew
from onebeat.core.ports import Clock, Store
from onebeat.engine.clock import SystemClock

ONE_IN = 50
AHEAD = timedelta(seconds=2)

Wrapping = Callable[[Store], Any]


class Sabotage(NamedTuple):
    """A node's clock (None: the right one), and what to put around its store."""

    clock: Clock | None
    within: Wrapping


class Ahead:
    """A clock that is ahead; on a SQLite file it is also the ledger's, for a file has none of its own."""

    def now(self) -> datetime:
        return SystemClock().now() + AHEAD


class Unfenced:
    """A store that takes the end of an attempt from whoever says it, also from who has lost its lease.

    So that some do lose theirs in every play, and not only where a node is stopped with a body in hand, no
    renewal of a first attempt arrives. That alone would be no harm: what outlives its lease is tried again.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._first: set[int] = set()  # tokens

    def claim(self, claim: Claim) -> list[Claimed]:
        claimed = self._store.claim(claim)
        self._first |= {each.run.token for each in claimed if each.run.attempt == 1}
        return claimed

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        arriving = [asked for asked in transitions if not self._is_dropped(asked)]
        answers = iter(self._store.advance(arriving))
        return [self._answered(asked, answers) for asked in transitions]

    def _is_dropped(self, asked: AnyTransition) -> bool:
        return isinstance(asked, Renew) and asked.token in self._first

    def _answered(self, asked: AnyTransition, answers: Iterator[Advanced]) -> Advanced:
        if self._is_dropped(asked):
            return Advanced(answer=Answer.ACCEPTED)
        answer = next(answers)
        return self._forced(asked, answer) if isinstance(asked, Finish) else answer

    def _forced(self, finish: Finish, answer: Advanced) -> Advanced:
        if answer.answer is not Answer.REFUSED:
            return answer
        run = self._store.run(finish.run_id)
        if run is not None:
            self._store.advance([replace(finish, token=run.token, event=None)])
        return replace(answer, answer=Answer.ACCEPTED)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def sabotaged(kind: str, bodies: ModuleType) -> Sabotage:
    """Prepare this process to break the promise in one way; '' for not at all."""
    if kind == "lose":
        bodies.effect = _lost(bodies.effect)  # type: ignore[attr-defined]  # a module's own
    elif kind == "double":
        bodies.effect = _doubled(bodies.effect)  # type: ignore[attr-defined]  # a module's own
    elif kind == "early":
        return Sabotage(Ahead(), _as_it_is)
    elif kind == "unfenced":
        return Sabotage(None, Unfenced)
    return Sabotage(None, _as_it_is)


KINDS = {
    "lose": "one body in 50 is said to have succeeded, and never began",
    "double": "one body in 50 runs twice under one lease",
    "early": "the clock of each node is 2 s ahead, and the ledger believes it: on SQLite only",
    "unfenced": "first attempts are not renewed, and the ledger takes the ends of those that lost the lease",
}
"""What a run can be told to get wrong, and how."""


def _as_it_is(store: Store) -> Any:
    return store


def _chosen(run: CurrentRun) -> bool:
    return zlib.crc32(run.id.encode()) % ONE_IN == 0


def _lost(body: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(body)
    def lost(run: CurrentRun, **words: Any) -> None:
        if not _chosen(run):
            body(run, **words)

    return lost


def _doubled(body: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(body)
    def doubled(run: CurrentRun, **words: Any) -> None:
        body(run, **words)
        if _chosen(run):
            body(run, **words)

    return doubled
