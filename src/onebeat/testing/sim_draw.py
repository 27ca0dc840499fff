"""What one seed draws: the cluster, its schedules, its bodies and its bad luck; and what is left out of it.

Each concern has a generator of its own, made from the seed and its name: what an editor does, what befalls a
life's calls, how its clock is off, how an attempt goes. So leaving one kind of trouble out does not change
what is drawn for the others, and a world can be cut down to what matters in it. Periods and durations are
short, so that two minutes of virtual time hold hundreds of occurrences and every kind of trouble among them.
"""

import random  # noqa: TID251 - the seed is printed, and it is what repeats a world
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

from msgspec.structs import replace

from onebeat.core.model import (
    CatchUp,
    Definition,
    OnLost,
    Overlap,
    Policy,
    Target,
    TriggerSpec,
    instant_text,
)

T = TypeVar("T")

KIND = "sim"
FLEET = "fleet"
"""The kind of targets that a fleet executes, in worlds that have one; and what leaves it out of them."""
GUARDED, UNGUARDED = "guarded", "unguarded"
FLEETS = 0.25
"""The share of worlds that have a fleet."""
GROUPED = "groups"
"""What leaves groups of mutual exclusion out of worlds that have them."""
GROUPS = 0.25
"""The share of worlds that have groups."""

COMMON, RARE = f"{KIND}:common", f"{KIND}:rare"
"""The targets: every worker runs the common one, and only the first runs the rare one."""

PERIODS = (0.5, 1, 1, 1, 1, 1.5, 2, 2, 3, 5)
GRIDS = ("*/2", "*/3", "*/5", "0,15,30,45", "7,8,9,50")
CALM_GRIDS = ("0", "*/20", "*/30", "0,15,30,45", "7,8,9,50")


CLOCKS = ("constant", "linear", "periodic", "step", "drift")
"""The shapes in which a node's clock is wrong, if it is: see sim_clocks.py."""

KINDS = (
    "crash before commit",
    "crash after commit",
    "crash between steps",
    "reply lost",
    "call repeated",
    "unavailable",
    "late arrival",
    "outage",
    "pause in a step",
    "pause between steps",
    "slow call",
    "slow store",
    *(f"clock {shape}" for shape in CLOCKS),
    "clock set back",
    "broker away",
    "message lost",
    "message copied",
    "message late",
    "edit conflict",
    "hint lost",
)
"""What is counted."""

MILD = frozenset({"edit conflict", "hint lost"})
"""Counted, but not among the faults that a seed is said to have survived: these happen anyway."""


ACTS = {
    "edit": 0.22,
    "pause": 0.10,
    "resume": 0.14,
    "delete": 0.07,
    "skip": 0.10,
    "request": 0.15,
    "cancel": 0.10,
    "hold": 0.07,
    "purge": 0.05,
}
"""What editors do, and how often."""

NAMES = tuple(f"s{number}" for number in range(7))
"""The names that schedules may have."""


class Plan(NamedTuple):
    """What is left of a drawn world: all of it, unless something is to be left out.

    ``without`` names kinds of trouble, kinds of edits, nodes and schedules; ``until`` is where the safety
    phase ends, in seconds.
    """

    without: frozenset[str] = frozenset()
    until: float | None = None


WHOLE = Plan()


class Body(NamedTuple):
    """How one attempt will go: when it ends, how, and whether it looks when it is told to stop."""

    lasts: timedelta
    ends: Literal["succeeded", "failed"]
    listens: bool
    talks: bool


class Luck(NamedTuple):
    """How likely each fault is at one call of the ledger, and what the cluster is like."""

    crash: float
    unavailable: float
    late: float  # the caller gives up, and the call arrives all the same
    reply_lost: float
    repeated: float  # the reply is lost, and the store makes the whole call again
    pause: float
    slow: float
    overtaken: float  # another node takes a step between two calls: no fault, but the point of it all
    hints: float  # the share of wake-ups that arrive
    slots: int
    shared: bool  # whether the dispatchers divide the shards
    any_before: float  # that anything at all happens before a call, for whoever meets the most


class Draw:
    """The source of chance for one concern of a world, named by ``of``: the seed first.

    Durations of schedules are stretched by ``scale``, those of attempts by ``brief``.
    """

    def __init__(self, *of: object, scale: float = 1, brief: float = 1) -> None:
        self.chance = random.Random("/".join(map(str, of))).random
        self._scale = scale
        self._brief = brief

    def one(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[int(self.chance() * len(choices))]

    def within(self, low: float, high: float) -> timedelta:
        """Return a duration between two numbers of seconds, to the millisecond."""
        return timedelta(milliseconds=round(1000 * (low + (high - low) * self.chance())))

    def stretched(self, low: float, high: float) -> timedelta:
        """Return a duration between two numbers of seconds, at the pace of the world."""
        return self.within(low * self._scale, high * self._scale)

    def brief(self, low: float, high: float) -> timedelta:
        """Return a duration between two numbers of seconds, at the pace of attempts."""
        return self.within(low * self._brief, high * self._brief)

    def luck(self) -> Luck:
        """Return the bad luck of this world."""
        harsh = self.one((0.5, 1.0, 2.0))
        overtaken = self.one((0.02, 0.05, 0.1))
        return Luck(
            crash=0.0016 * harsh,
            unavailable=0.002 * harsh,
            late=0.0015 * harsh,
            reply_lost=0.004 * harsh,
            repeated=0.003 * harsh,
            pause=0.0006 * harsh,
            slow=0.0006 * harsh,
            overtaken=overtaken,
            hints=self.one((0.0, 0.3, 0.7)),
            slots=self.one((2, 3, 5, 10)),
            shared=self.chance() < 0.3,
            any_before=0.0105 * harsh + 6 * overtaken,
        )

    def definition(self, now: datetime) -> Definition:
        """Return a schedule's definition."""
        return Definition(trigger=self.trigger(now), target=self._target(), policy=self.policy())

    def _target(self) -> Target:
        rare = self.chance() < 0.1
        return Target(kind=KIND, address=(RARE if rare else COMMON).partition(":")[2])

    def aimed(self, definition: Definition) -> Definition:
        """Return a definition, or the same for the fleet to execute."""
        chance, address = self.chance(), UNGUARDED if self.chance() < 0.15 else GUARDED
        target = Target(kind=FLEET, address=address)
        return replace(definition, target=target) if chance < 0.6 else definition

    def grouped(self, definition: Definition) -> Definition:
        """Return a definition in a group, or in none."""
        group = self.one((None, "one", "one", "two"))
        return replace(definition, policy=replace(definition.policy, exclusive=group))

    def trigger(self, now: datetime) -> TriggerSpec:
        """Return a trigger of a kind for which sums.py has a sum."""
        kind = self.chance()
        if kind < 0.5:
            return self._interval(now)
        if kind < 0.7:
            grid = self.one(GRIDS if self._scale == 1 else CALM_GRIDS)
            return TriggerSpec(kind="cron", fields={"expression": f"{grid} * * * * *", "zone": "UTC"})
        if kind < 0.78:
            return self._interval(now) | self._interval(now)
        if kind < 0.84:
            return self._interval(now) - self._interval(now, self.one((3, 5, 7)))
        if kind < 0.9:
            start = now + self.stretched(-20, 30)
            return self._interval(now).between(start, start + self.stretched(5, 60))
        return TriggerSpec(kind="once", fields={"at": instant_text(now + self.stretched(-2, 40))})

    def _interval(self, now: datetime, period: float | None = None) -> TriggerSpec:
        # Most are due together with others, on a whole second: that is what a cluster's second looks like.
        anchor = now + self.stretched(-60, 5)
        if self.chance() < 0.8:
            anchor = anchor.replace(microsecond=0)
        period = self._scale * (period or self.one(PERIODS))
        return TriggerSpec(kind="interval", fields={"period_s": period, "anchor_at": instant_text(anchor)})

    def policy(self) -> Policy:
        """Return a policy; most of it is the default most of the time."""
        seldom = self.chance
        return Policy(
            catch_up=self.one(tuple(CatchUp)),
            catch_up_max=self.one((1, 2, 3, 5)),
            grace=None if seldom() < 0.6 else self.stretched(0.5, 6),
            overlap=self.one(tuple(Overlap)),
            max_running=self.one((1, 1, 2, 3)),
            queue_max=self.one((1, 2, 4, 8)),
            start_within=None if seldom() < 0.8 else self.stretched(0.5, 6),
            timeout=None if seldom() < 0.7 else self.brief(0.5, 4),
            attempts=self.one((1, 1, 2, 3)),
            backoff=self.brief(0.1, 2),
            backoff_max=self._brief * timedelta(seconds=3),
            on_lost=self.one(tuple(OnLost)),
            spread=timedelta(0) if seldom() < 0.6 else self.stretched(0.5, 5),
            priority=self.one((0, 0, 1, -1)),
            report_success=seldom() < 0.1,
            keep_runs=1000 if seldom() < 0.7 else 3,
        )

    def changed(self, definition: Definition, now: datetime) -> Definition:
        """Return a definition with a little or a lot of it changed."""
        what = self.chance()
        policy = definition.policy
        if what < 0.1:
            return definition
        if what < 0.3:
            return replace(definition, policy=replace(policy, spread=self.policy().spread))
        if what < 0.5:
            fresh = self.policy()
            limits = {
                "max_running": fresh.max_running,
                "overlap": fresh.overlap,
                "queue_max": fresh.queue_max,
            }
            return replace(definition, policy=replace(policy, **limits))
        if what < 0.75:
            return replace(definition, trigger=self.trigger(now))
        return self.definition(now)

    def body(self) -> Body:
        """Return how an attempt goes."""
        pace = self.chance()
        lasts = self.brief(*((0, 0.02) if pace < 0.6 else (0.1, 2) if pace < 0.9 else (2, 12)))
        return Body(
            lasts=lasts,
            ends="failed" if self.chance() < 0.15 else "succeeded",
            listens=self.chance() < 0.5,
            talks=self.chance() < 0.1,
        )
