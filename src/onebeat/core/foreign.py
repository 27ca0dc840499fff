"""What other schedulers call our policies. A manifest reads their words; everywhere else they are an error.

Both say our word: two words for one thing make two things of it.
"""

from collections.abc import Callable
from typing import NamedTuple

from onebeat.core.errors import InvalidInput, shown
from onebeat.core.model import CatchUp, Json, Overlap


class Foreign(NamedTuple):
    """A word of somebody else: whose it is, what we say, and how its values are read."""

    whose: str
    ours: str
    read: Callable[[Json], Json]
    meaning: str


def _as_it_is(value: Json) -> Json:
    return value


def _coalesce(value: Json) -> Json:
    if not isinstance(value, bool):
        raise InvalidInput(f'coalesce={shown(value)} is neither true nor false; write catch_up = "latest"')
    return (CatchUp.LATEST if value else CatchUp.ALL).value


_CONCURRENCY = {"Allow": Overlap.ALLOW, "Forbid": Overlap.SKIP, "Replace": Overlap.CANCEL_RUNNING}


def _concurrency(value: Json) -> Json:
    if not isinstance(value, str) or value not in _CONCURRENCY:
        raise InvalidInput(
            f'concurrencyPolicy={shown(value)} is none of {", ".join(_CONCURRENCY)}; write overlap = "skip"'
        )
    return _CONCURRENCY[value].value


FOREIGN: dict[str, Foreign] = {
    "max_instances": Foreign(
        "APScheduler", "max_running", _as_it_is, "it holds on all nodes together, not in each process"
    ),
    "misfire_grace_time": Foreign("APScheduler", "grace", _as_it_is, "without it nothing is ever too late"),
    "coalesce": Foreign("APScheduler", "catch_up", _coalesce, "true is 'latest', false is 'all'"),
    "concurrencyPolicy": Foreign(
        "Kubernetes", "overlap", _concurrency, "Allow is 'allow', Forbid 'skip', Replace 'cancel_running'"
    ),
    "startingDeadlineSeconds": Foreign(
        "Kubernetes", "grace", _as_it_is, "how late an occurrence may be and still fire"
    ),
}
"""docs/reference/manifest.md shows them."""


def told(word: str) -> str:
    """Return what a person who wrote a foreign word should know."""
    of = FOREIGN[word]
    return f"{word} is {of.whose}'s word for {of.ours} ({of.meaning}); write {of.ours}"
