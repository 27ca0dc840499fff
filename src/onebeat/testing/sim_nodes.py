"""Who lives in the world: dispatchers and workers of the real engine, people who edit, and the weather."""

from datetime import datetime, timedelta
from typing import NamedTuple

from onebeat.core.errors import TargetNotFound
from onebeat.core.messages import Claimed, LogLine, Note, Report, Share
from onebeat.core.model import Outcome, Run, Target
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.testing.evidence import Effect
from onebeat.testing.sim_draw import KIND, Body
from onebeat.testing.sim_world import Node, Spell, World

WEATHER_S = 20
"""How often the weather may change, in a dense world."""


class DispatcherNode(Node):
    """The real dispatcher."""

    role = "dispatcher"

    def __init__(self, world: World, name: str, share: Share | None) -> None:
        super().__init__(world, name)
        self._share = share

    def start(self) -> None:
        """Begin with nothing but the ledger."""
        self._dispatcher = Dispatcher(
            self.store(), self.clock, holder=self.holder, share=self._share, poll=self.world.pace.poll
        )

    def step(self) -> datetime:
        """Settle what is due, and keep house."""
        return self._dispatcher.step()


class WorkerNode(Node):
    """The real worker, with bodies that take virtual time."""

    role = "worker"

    def __init__(self, world: World, name: str, targets: tuple[str, ...]) -> None:
        super().__init__(world, name)
        self._targets = targets

    def start(self) -> None:
        """Begin with nothing but the ledger."""
        store = self.store()
        lease, poll = self.world.pace.lease, self.world.pace.poll
        self._bodies = Bodies(self.world, self, self._targets)
        presence = Presence(store, self.clock, holder=self.holder, roles=("worker",), lasts=lease)
        self._worker = Worker(store, self.clock, [self._bodies], presence, lease=lease, poll=poll)

    def step(self) -> datetime:
        """Claim, execute, report."""
        wake_at = self._worker.step()
        ends_at = self._bodies.next_end
        return wake_at if ends_at is None else min(wake_at, ends_at + self.world.shift)


def see_begin(world: World, node: Node, run: Run) -> None:
    """Let the world see that a body begins: from here on its effect is there."""
    world.see(
        world.watch.began,
        Effect(
            run_id=run.id,
            token=run.token,
            attempt=run.attempt,
            schedule=run.schedule,
            occurrence_at=run.occurrence_at,
            node=node.holder,
            at=world.clock.now(),
        ),
    )


def body_report(key: tuple[str, int], body: Body) -> Report:
    """Return how a body ended, of the run and under the token of its key."""
    failed = body.ends == "failed"
    return Report(
        run_id=key[0],
        token=key[1],
        outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED,
        result=None if failed else {"token": key[1]},
        error="it failed, as drawn" if failed else None,
        error_type="Drawn" if failed else "",
    )


class Running(NamedTuple):
    """A body under way."""

    claimed: Claimed
    body: Body
    ends_at: datetime  # in the world's time
    deadline_at: datetime | None


class Bodies:
    """An executor whose bodies do nothing but last: what they would do is one entry in the evidence."""

    kind = KIND

    def __init__(self, world: World, node: Node, targets: tuple[str, ...]) -> None:
        self._world = world
        self._node = node
        self._targets = targets
        self._running: dict[tuple[str, int], Running] = {}
        self._hanging: list[datetime] = []  # ends of bodies past their timeout: they hold their slots
        self._notes: list[Note] = []

    @property
    def next_end(self) -> datetime | None:
        """Return when the next body ends, in the world's time."""
        return min((each.ends_at for each in self._running.values()), default=None)

    def resolve(self, target: Target) -> None:
        """Know the targets of this node, and no others."""
        if target.key not in self._targets:
            raise TargetNotFound(f"{self._node.holder} does not run {target.key}")

    def free(self) -> int:
        """Return how many more bodies may begin."""
        self._hanging = [end for end in self._hanging if end > self._world.time]
        return max(0, self._world.luck.slots - len(self._running) - len(self._hanging))

    def start(self, claimed: Claimed, until: datetime) -> None:
        """Begin a body: from here on its effect is in the world."""
        world, run = self._world, claimed.run
        see_begin(world, self._node, run)
        body = world.drawn(run.id, run.attempt).body()
        timeout = claimed.definition.policy.timeout
        deadline = None if timeout is None or run.started_at is None else run.started_at + timeout
        self._running[run.id, run.token] = Running(claimed, body, world.time + body.lasts, deadline)
        if body.talks:
            line = LogLine(at=world.clock.now(), attempt=run.attempt, level="info", text="hello")
            self._notes.append(Note(run_id=run.id, token=run.token, progress=(1, 2), lines=(line,)))

    def reports(self) -> list[Report]:
        """Return the bodies that have ended."""
        ended = [key for key, each in self._running.items() if each.ends_at <= self._world.time]
        return [body_report(key, self._running.pop(key).body) for key in ended]

    def notes(self) -> list[Note]:
        """Return what bodies said."""
        notes, self._notes = self._notes, []
        return notes

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        """Nothing here looks at the clock."""

    def tell(self, run_id: str, token: int, why: str) -> None:
        """Let a body that listens end soon; the others go on."""
        running = self._running.get((run_id, token))
        if running is not None and running.body.listens:
            self._running[run_id, token] = running._replace(ends_at=min(running.ends_at, self._world.time))

    def overrun(self, now: datetime) -> list[Report]:
        """Return what passed its timeout. Its body goes on, unheard, in its slot."""
        late = [
            key
            for key, each in self._running.items()
            if each.deadline_at is not None and each.deadline_at <= now
        ]
        for key in late:
            self._hanging.append(self._running.pop(key).ends_at)
        return [
            Report(
                run_id=key[0], token=key[1], outcome=Outcome.TIMED_OUT, error="too long", error_type="Timeout"
            )
            for key in late
        ]

    def connect(self, wake: object) -> None:
        """Nobody has to be woken: the world knows when a body ends."""

    def close(self) -> None:
        """Nothing is open."""


class Weather(Node):
    """What befalls the store itself: its clock is set back, it is slow for a while, or nobody reaches it."""

    def start(self) -> None:
        """Begin to blow."""

    def step(self) -> datetime:
        """Let something happen, or nothing."""
        world, draw = self.world, self.draw
        if world.faulty:
            back, chance = draw.within(0.001, 2.5), draw.chance()
            if chance < 0.3 and world.strikes("clock set back"):
                # Never forward past the world's time. Who waits for an instant waits for it on a clock that
                # shows it later now.
                world.shift -= back
            slow, out = self._spell(3, 8), self._spell(1, 12)
            if draw.chance() < 0.2 and world.strikes("slow store"):
                world.slow = slow
            if draw.chance() < 0.2 and world.strikes("outage"):
                world.out = out
        return world.clock.now() + timedelta(seconds=WEATHER_S * world.pace.scale)

    def _spell(self, least: float, most: float) -> Spell:
        since = self.world.time + self.draw.stretched(0, WEATHER_S / 2)
        return Spell(since, since + self.draw.brief(least, most))
