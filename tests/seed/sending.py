"""Celery as the engine of a cluster, in virtual time: beats, messages, workers behind a guard.

The broker is kombu's own in memory, the outbox and its outlet are the real ones. The workers do what the
guard of a real one does: claim the attempt that the message names, mark its start, begin, report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from celery import Celery
from msgspec.structs import replace
from tests.seed.cluster import MINUTE, Cluster, Effect, Node

from onebeat.celery import CeleryOutlet
from onebeat.core.messages import Answer, Claimed, Finish, Guard, Report, Start
from onebeat.core.model import Outcome, Run
from onebeat.engine.attempt import ended
from onebeat.engine.current import CurrentRun
from onebeat.engine.outbox import Outbox

LEASE = timedelta(seconds=30)


class Broker:
    """A queue of Celery messages of a cluster, and what came by it."""

    def __init__(self, cluster: Cluster) -> None:
        self.app = Celery("shop", broker="memory://", set_as_current=False)
        self.app.conf.task_default_queue = f"q-{uuid4().hex}"  # kombu keeps its queues for the whole process
        self.came: list[tuple[str, int, Any]] = []
        self._cluster = cluster
        self._connection = self.app.connection_for_read()
        queue = self.app.amqp.queues[self.app.conf.task_default_queue]
        self._queue = queue(self._connection.default_channel)
        self._queue.declare()

    def take(self) -> tuple[str, int] | None:
        """Take a message off the queue: the run and the attempt that it names."""
        message = self._queue.get(no_ack=True)
        if message is None:
            return None
        run, attempt = message.headers["onebeat_run"], message.headers["onebeat_attempt"]
        self.came.append((run, attempt, message.payload[0]))
        return run, attempt

    def runs(self) -> Counter[str]:
        """How many messages came for each run."""
        return Counter(run for run, _, _ in self.came)

    def close(self) -> None:
        self._queue.delete()
        self._connection.release()
        self.app.close()


class _Outlet(CeleryOutlet):
    """An outlet whose broker wakes the workers."""

    def __init__(self, broker: Broker, node: Node) -> None:
        super().__init__(broker.app, clock=node.clock)
        self._node = node

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        try:
            return super().send(batch)
        finally:
            self._node.cluster.changed(self._node)


def beat(cluster: Cluster, broker: Broker) -> Node:
    """A beat: a dispatcher, and an outbox beside it."""
    node = cluster.node(roles=("dispatcher",))
    outbox = Outbox(node.store, node.clock, _Outlet(broker, node), node.presence)
    node._steps.append(outbox.step)
    return node


def worker(cluster: Cluster, broker: Broker) -> Node:
    """A worker with as many hands as there is work."""
    node = cluster.node(roles=())
    node._steps.append(_Worker(cluster, broker, node).step)
    return node


class _Worker:
    def __init__(self, cluster: Cluster, broker: Broker, node: Node) -> None:
        self._cluster = cluster
        self._broker = broker
        self._node = node
        self._going: list[tuple[datetime, Claimed, Effect]] = []

    def step(self) -> datetime:
        """End what has lasted long enough, begin what came; return when something ends."""
        for each in [each for each in self._going if each[0] <= self._cluster.now]:
            self._going.remove(each)
            self._end(*each)
        while (came := self._broker.take()) is not None:
            self._begin(*came)
        return min((at for at, _, _ in self._going), default=self._cluster.now + MINUTE)

    def _begin(self, run_id: str, attempt: int) -> None:
        store, now = self._node.store, self._node.store.now()
        guard = Guard(run_id=run_id, attempt=attempt, holder=self._node.name, until=now + 10 * LEASE)
        (taken,) = store.advance([guard])
        if taken.answer is not Answer.ACCEPTED:
            return
        (started,) = store.advance([Start(run_id=run_id, token=taken.token)])
        assert started.answer is Answer.ACCEPTED
        run: Run | None = store.run(run_id)
        assert run is not None
        run = replace(run, token=taken.token)
        claimed = Claimed(run=run, definition=store.definition(run.schedule_id, run.number))
        effect = Effect(CurrentRun(claimed, self._node.clock, lambda _: None), self._node.name, now)
        self._cluster.effects.append(effect)
        self._going.append((now + self._cluster.plays["body"].lasts, claimed, effect))

    def _end(self, at: datetime, claimed: Claimed, effect: Effect) -> None:
        effect.ended_at = self._cluster.now
        run = claimed.run
        report = Report(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED)
        finish: Finish = ended(
            claimed.definition.policy, run, report, at=self._cluster.now, actor=self._node.name
        )
        (answer,) = self._node.store.advance([finish])
        assert answer.answer is Answer.ACCEPTED
