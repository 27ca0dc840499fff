"""A fleet that executes what it is sent: outboxes, a broker that forgets and repeats, and workers behind it.

The outbox is the real one. The broker and the workers are the lab's, behind a guard that does what all guards
must: claim the attempt that the message names, its start with it, and only then begin. A worker that gets
no answer to that drops the message: the ledger brings the run back.
"""

import heapq
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from msgspec.structs import replace

from onebeat.core.errors import OutletUnavailable
from onebeat.core.messages import (
    Answer,
    Claimed,
    Finish,
    Guard,
    Renew,
    Report,
)
from onebeat.core.model import Outcome, Run, RunState, Target
from onebeat.engine.attempt import ended
from onebeat.engine.outbox import Outbox
from onebeat.engine.presence import Presence
from onebeat.testing.sim_draw import FLEET, UNGUARDED, Body, Draw
from onebeat.testing.sim_nodes import body_report, see_begin
from onebeat.testing.sim_world import Node, World

TRIP_S = 0.02
"""The longest way of a message while all is well."""

AWAY, LOST, COPIED, LATE = "broker away", "message lost", "message copied", "message late"
TROUBLE = 0.06
"""How likely each of these is, for a batch or a message."""


class Broker:
    """What is on its way. It has no clock and no memory of what it gave."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._messages: list[tuple[datetime, int, Claimed]] = []
        self._count = 0
        self.fleet: list[Node] = []

    def take_in(self, claimed: Claimed, draw: Draw) -> None:
        """Take a message; lose it, double it, or let it lie."""
        world = self._world
        chance, trip, more = draw.chance(), draw.within(0, TRIP_S), draw.within(0.1, 2 * world.lease_s)
        if world.faulty:
            if chance < TROUBLE:
                if world.strikes(LOST):
                    return
            elif chance < 2 * TROUBLE:
                if world.strikes(COPIED):
                    self._put(claimed, world.time + more)
            elif chance < 3 * TROUBLE and world.strikes(LATE):
                trip = more
        self._put(claimed, world.time + trip)

    def _put(self, claimed: Claimed, at: datetime) -> None:
        self._count += 1
        heapq.heappush(self._messages, (at, self._count, claimed))
        for node in self.fleet:
            if node.up and not node.busy and node.sleeps_until <= self._world.time:
                node.wake_at = min(node.wake_at, at)

    @property
    def next_at(self) -> datetime | None:
        """Return when the next message is there, in the world's time."""
        return self._messages[0][0] if self._messages else None

    def give(self) -> Claimed | None:
        """Give a message that is there."""
        if self._messages and self._messages[0][0] <= self._world.time:
            return heapq.heappop(self._messages)[2]
        return None


class Way:
    """The outlet of one node."""

    kind = FLEET
    place = "the lab"

    def __init__(self, node: "OutboxNode", broker: Broker) -> None:
        self._node = node
        self._broker = broker

    def resolve(self, target: Target) -> None:
        """Take every target of its kind."""

    def guarded(self, target: Target) -> bool:
        """Return whether the lab's guard is in front of it."""
        return target.address != UNGUARDED

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        """Send a batch; now and then the broker is gone before its end, and nobody knows how far it came."""
        world, draw = self._node.world, self._node.draw
        drawn, part = draw.chance() < TROUBLE, draw.chance()
        away = drawn and world.faulty and world.strikes(AWAY)
        for claimed in batch[: int(part * (len(batch) + 1))] if away else batch:
            self._broker.take_in(claimed, draw)
        if away:
            raise OutletUnavailable("the broker is away")
        return [None] * len(batch)

    def close(self) -> None:
        """Nothing is open."""


class OutboxNode(Node):
    """The real outbox."""

    role = "outbox"

    def __init__(self, world: World, name: str, broker: Broker) -> None:
        super().__init__(world, name)
        self._broker = broker

    def start(self) -> None:
        """Begin with nothing but the ledger."""
        store, pace = self.store(), self.world.pace
        presence = Presence(store, self.clock, holder=self.holder, roles=("outbox",), lasts=pace.lease)
        self._outbox = Outbox(
            store,
            self.clock,
            Way(self, self._broker),
            presence,
            resend=1.5 * pace.lease,
            resend_max=3 * pace.lease,
            poll=pace.poll,
        )

    def step(self) -> datetime:
        """Send what is ready."""
        return self._outbox.step()


class Task(NamedTuple):
    """A body under way behind the guard."""

    claimed: Claimed
    body: Body
    ends_at: datetime  # in the world's time
    timed_out: bool
    renew_at: datetime


class FleetNode(Node):
    """A worker that is not ours, with the lab's guard in front of its bodies."""

    role = "fleet"

    def __init__(self, world: World, name: str, broker: Broker) -> None:
        super().__init__(world, name)
        self._broker = broker
        broker.fleet.append(self)

    def start(self) -> None:
        """Begin with nothing but the ledger and the broker."""
        self._ledger = self.store()
        self._tasks: dict[tuple[str, int], Task] = {}
        self._ends: list[Finish] = []

    def step(self) -> datetime:
        """Report, renew, receive."""
        now = self._ledger.now()
        self._collect(now)
        self._report()
        self._renew(now)
        self._receive(now)
        wakes = [self.world.time + self.world.pace.poll]
        wakes += [task.ends_at for task in self._tasks.values()]
        if self._broker.next_at is not None and len(self._tasks) < self.world.luck.slots:
            wakes.append(self._broker.next_at)
        renewals = [task.renew_at for task in self._tasks.values()]
        return min([min(wakes) + self.world.shift, *renewals])

    def _collect(self, now: datetime) -> None:
        for key, task in list(self._tasks.items()):
            if task.ends_at <= self.world.time:
                del self._tasks[key]
                policy = task.claimed.definition.policy
                report = body_report(key, task.body)
                if task.timed_out:
                    report = Report(run_id=key[0], token=key[1], outcome=Outcome.TIMED_OUT, error="too long")
                self._ends.append(ended(policy, task.claimed.run, report, at=now, actor=self.holder))

    def _report(self) -> None:
        """Say how bodies ended, again and again until there is an answer."""
        if self._ends:
            self._ledger.advance(list(self._ends))
            self._ends = []

    def _renew(self, now: datetime) -> None:
        lease = self.world.pace.lease
        due = [(key, task) for key, task in self._tasks.items() if task.renew_at <= now]
        if not due:
            return
        steps = [Renew(run_id=key[0], token=key[1], until=now + lease) for key, _ in due]
        for (key, task), told in zip(due, self._ledger.advance(steps), strict=True):
            stops = task.body.listens and (told.answer is Answer.REFUSED or told.cancel_requested)
            ends_at = min(task.ends_at, self.world.time) if stops else task.ends_at
            self._tasks[key] = task._replace(renew_at=now + lease / 3, ends_at=ends_at)

    def _receive(self, now: datetime) -> None:
        while len(self._tasks) < self.world.luck.slots and (claimed := self._broker.give()) is not None:
            if claimed.definition.target.address == UNGUARDED:
                continue  # it runs, and nobody asks who or how often
            until = now + self.world.pace.lease
            number = claimed.run.attempt + 1
            guard = Guard(run_id=claimed.run.id, attempt=number, holder=self.holder, until=until, starts=True)
            (told,) = self._ledger.advance([guard])
            if told.answer is Answer.ACCEPTED:
                self._begin(claimed, told.token, until)

    def _begin(self, claimed: Claimed, token: int, until: datetime) -> None:
        world = self.world
        run: Run = replace(
            claimed.run,
            state=RunState.RUNNING,
            attempt=claimed.run.attempt + 1,
            token=token,
            holder=self.holder,
            lease_until=until,
            started_at=world.clock.now(),
        )
        see_begin(world, self, run)
        body = world.drawn(run.id, run.attempt).body()
        timeout = claimed.definition.policy.timeout
        lasts = body.lasts if timeout is None else min(body.lasts, timeout)
        self._tasks[run.id, token] = Task(
            claimed=Claimed(run=run, definition=claimed.definition),
            body=body,
            ends_at=world.time + lasts,
            timed_out=lasts < body.lasts,
            renew_at=until - world.pace.lease * 2 / 3,
        )
