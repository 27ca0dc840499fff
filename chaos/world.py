"""What a process of the rig writes down outside of the ledger, and the clock that nobody can fake to it.

An observer's instant is the machine's monotonic clock, which a faked clock leaves alone, counted from an
origin that the rig read once and hands to every process: so they agree, whatever their own clocks say.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from chaos.story import EFFECTS
from onebeat import CurrentRun
from onebeat.core.messages import Advanced, Answer, Finish
from onebeat.testing.history import Effect, Writer

SAID = {
    Answer.ACCEPTED: "accepted",
    Answer.REPEATED: "accepted",  # the reply to the first time was lost
    Answer.REFUSED: "refused",
    Answer.STALE: "refused",
}


NODE, TOLD = "CHAOS_NODE", "CHAOS_ORDERS"
"""By what a process learns its name and its orders that takes no words of ours: of its environment."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of the rig is told at its start, as one word of JSON."""

    url: str
    folder: str
    origin_s: float  # what to add to the monotonic clock
    lease_s: float = 3.0
    share: tuple[int, int] | None = None
    sabotage: str = ""
    edits_s: float = 0.0
    edited: tuple[str, ...] = ()
    seed: int = 0
    broker: str = ""  # the URL of a Celery fleet's; then what is edited are its schedules
    guarded: bool = True


def origin_s() -> float:
    """Return what to add to the monotonic clock to have the time of day."""
    return time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)


def real_now(origin: float) -> datetime:
    """Return the observer's instant, whatever the clock of this process says."""
    return datetime.fromtimestamp(origin + time.clock_gettime(time.CLOCK_MONOTONIC), UTC)


class World:
    """What the bodies of one node do, as lines of a file that all nodes append to."""

    def __init__(self, folder: Path, origin: float, node: str) -> None:
        self._origin = origin
        self._node = node
        self._out = Writer(folder / EFFECTS)

    def now(self) -> datetime:
        """Return the observer's instant."""
        return real_now(self._origin)

    def began(self, run: CurrentRun) -> None:
        """Write down that a body has begun."""
        self._body("began", run)

    def ended(
        self, run: CurrentRun, outcome: str, *, at: datetime | None = None, mine: bool | None = None
    ) -> None:
        """Write down that a body is about to return, and whether it held the run for its own at ``at``."""
        self._body("ended", run, outcome, at, mine)

    def _body(
        self,
        phase: str,
        run: CurrentRun,
        outcome: str | None = None,
        at: datetime | None = None,
        mine: bool | None = None,
    ) -> None:
        fold = run.fold
        self._out.write(
            Effect(
                phase=phase,  # type: ignore[arg-type]  # one of its words
                run_id=run.id,
                schedule=run.schedule,
                at=at or self.now(),
                occurrence_at=None if run.key is not None else run.occurrence,
                attempt=run.attempt,
                token=run.token,
                node=self._node,
                outcome=outcome,
                mine=mine,
                first_at=None if fold is None else fold.first_at,
                last_at=None if fold is None else fold.last_at,
                count=1 if fold is None else fold.count,
            )
        )

    def answered(self, finish: Finish, answer: Advanced) -> None:
        """Write down what the ledger said to the end of an attempt."""
        self._out.write(
            Effect(
                phase=SAID[answer.answer],  # type: ignore[arg-type]  # one of its words
                run_id=finish.run_id,
                schedule=schedule_of(finish.run_id),
                at=self.now(),
                token=finish.token,
                node=self._node,
                outcome=finish.outcome.value,
                state=None if answer.state is None else answer.state.value,
            )
        )


def schedule_of(run_id: str) -> str:
    """Return the name of the schedule that a run's id begins with."""
    return run_id.replace("!", "@").partition("@")[0].partition("~")[0]
