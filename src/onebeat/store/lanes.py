"""Lanes: what a claim goes through. A lane is a queue, the key of a target, and the group of its runs.

A group that has a run out keeps others of its runs ready, perhaps very many; a claim passes by their lanes,
and reads none of them. In a store the group is part of the queue's text, ``default!invoices``: so a node of a
release that knows no groups finds a queue there that it does not serve, and lets its runs be.

docs/design/021-groups.md
"""

from functools import lru_cache
from typing import NamedTuple

from onebeat.core.messages import AnyTransition, Guard, Sent
from onebeat.core.model import Definition, Run, RunState

OUT = frozenset({RunState.SENT, RunState.RUNNING})
"""Somebody outside the ledger has the run. Of the runs of a group at most one is in these states."""

OPENING = (Guard, Sent)
"""Transitions that let a run out, if it is ready."""

_MARK = "!"  # in the name of no queue and of no group


class Lane(NamedTuple):
    """Where a ready run is looked for."""

    queue: str
    target: str
    exclusive: str | None


def lane_cells(definition: Definition) -> tuple[str, str]:
    """Return the queue's text and the target's key under which runs of a definition are kept."""
    queue, group = definition.target.queue, definition.policy.exclusive
    return queue if group is None else f"{queue}{_MARK}{group}", definition.target.key


@lru_cache(maxsize=4096)
def lane_of(queue: str, target: str) -> Lane:
    """Return the lane of a queue's text and a target's key."""
    name, _, group = queue.partition(_MARK)
    return Lane(name, target, group or None)


def lets_out(run: Run, step: AnyTransition) -> bool:
    """Return whether a transition would let a run out that is not: its group must have no other one out."""
    return run.exclusive is not None and run.state is RunState.READY and isinstance(step, OPENING)
