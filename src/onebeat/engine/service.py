"""The service: keeps the steps of one process going, and winds them down in order.

Each part (dispatcher, alerts, worker, an outbox for each outlet, or the presence of a node that has neither)
has a thread of its own:

    step() ──► wait until the instant it named, or a hint ──► step() …
      │ raises StoreUnavailable: wait a little, longer each time, go on
      └ raises anything else: said loudly, an event if the store takes it, wait, go on

A part that fails delays nobody but itself, and no part ever ends before it is asked to.

    stop ──► the dispatcher leaves ──► the worker claims nothing new, finishes, releases, reports the rest;
                                       an outbox sends what it has claimed, or leaves it to other nodes
         ──► the node announces that it is gone ──► threads joined, executors closed
"""

import logging
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

from onebeat.core.errors import OnebeatError, StoreUnavailable
from onebeat.core.messages import Share
from onebeat.core.model import Event
from onebeat.core.ports import LEASE, Clock, Executor, Outlet, Store
from onebeat.engine.alerts import Alerts
from onebeat.engine.current import storable
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.metrics import Metrics
from onebeat.engine.outbox import RESEND, Outbox
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker

DISPATCHER, WORKER, OUTBOX = "dispatcher", "worker", "outbox"
GRACE = timedelta(seconds=30)
LAST_WORDS = timedelta(seconds=5)
"""Beyond the grace, for delivering the last reports; after it the leases of this node lapse instead."""
SIGNAL_S = 0.5
"""How often the main thread looks up: a signal that comes just as it goes to sleep would never wake it."""
PACE = timedelta(milliseconds=5)
"""From one step of a part to the next, however often it is woken: under a stream of single runs each commit
then carries several, and costs what it would for one."""
BACKOFF = 0.1
BACKOFF_MAX = 5.0
EVENT_EVERY = timedelta(minutes=1)
EVENTS_REMEMBERED_MAX = 100

_log = logging.getLogger("onebeat.engine")


class Service:
    """One process: its roles, its threads, its end. ``run()`` blocks; ``start()`` does not.

    ``beside`` are steps of the host, by name: they get a thread and go on like a part of ours.
    ``settings`` are what all nodes should agree on; another node's that differ are named in the log.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        holder: str,
        roles: Sequence[str] = (DISPATCHER, WORKER),
        executors: Iterable[Executor] = (),
        outlets: Iterable[Outlet] = (),
        queues: Sequence[str] = ("default",),
        targets: Sequence[str] = (),
        lease: timedelta = LEASE,
        grace: timedelta = GRACE,
        share: Share | None = None,
        tz_version: str = "",
        data: str = "",
        settings: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
        beside: Iterable[tuple[str, Callable[[], datetime]]] = (),
        resend: timedelta = RESEND,
    ) -> None:
        self.metrics = Metrics() if metrics is None else metrics
        self._store = store
        self._clock = clock
        self._holder = holder
        self._grace = grace
        self._executors = list(executors)
        self._outlets = list(outlets)
        self._resend = resend
        works = WORKER in roles
        self._presence = Presence(
            store,
            clock,
            holder=holder,
            roles=(*roles, OUTBOX) if self._outlets else roles,
            queues=queues if works or self._outlets else (),
            tz_version=tz_version,
            settings=settings,
        )
        self._worker: Worker | None = None
        self._quit = threading.Event()  # everything but those that finish first
        self._quit_last = threading.Event()
        self._parts: list[_Part] = []
        if DISPATCHER in roles:
            dispatcher = Dispatcher(
                store,
                clock,
                holder=holder,
                share=share,
                tz_version=tz_version,
                data=data,
                metrics=self.metrics,
            )
            alerts = Alerts(store, clock, holder=holder, metrics=self.metrics)
            self._add(DISPATCHER, dispatcher.step, self._quit)
            self._add("alerts", alerts.step, self._quit)
        if works:
            self._worker = self._works(queues, targets, lease)
            self._add(WORKER, self._worker.step, self._quit_last, self._worker)
        for outlet in self._outlets:
            outbox = self._sends(outlet, queues, targets)
            self._add(OUTBOX, outbox.step, self._quit_last, outbox)
        if not works and not self._outlets:
            self._add("presence", self._presence.step, self._quit)
        for name, step in beside:
            self._add(name, step, self._quit)
        # A queue and not an Event: its put() may interrupt its get(), which is what a signal handler does.
        self._asked: SimpleQueue[None] = SimpleQueue()

    def _works(self, queues: Sequence[str], targets: Sequence[str], lease: timedelta) -> Worker:
        for executor in self._executors:
            executor.connect(self._store.wake)
        return Worker(
            self._store,
            self._clock,
            self._executors,
            self._presence,
            queues=queues,
            targets=targets,
            lease=lease,
            aside=True,
            metrics=self.metrics,
        )

    def _sends(self, outlet: Outlet, queues: Sequence[str], targets: Sequence[str]) -> Outbox:
        return Outbox(
            self._store,
            self._clock,
            outlet,
            self._presence,
            queues=queues,
            targets=targets,
            resend=self._resend,
            aside=True,
            metrics=self.metrics,
        )

    def _add(
        self,
        name: str,
        step: Callable[[], datetime],
        quits: threading.Event,
        finishes: Worker | Outbox | None = None,
    ) -> None:
        self._parts.append(_Part(self, self._clock, name, step, quits, finishes))

    def run(self) -> bool:
        """Serve until ``stop()`` is called, then wind down. Return whether everything ended in order."""
        self.start()
        while True:
            with suppress(Empty):
                self._asked.get(timeout=SIGNAL_S)
                return self.shutdown()

    def start(self) -> None:
        """Begin to serve, on threads of this process. Once only."""
        for part in self._parts:
            part.thread.start()

    def stop(self) -> None:
        """Ask ``run()`` to end. Safe in a signal handler, from any thread, and to repeat."""
        self._asked.put(None)

    def shutdown(self) -> bool:
        """Wind down: claim nothing new, finish within the grace, release and report the rest, say goodbye.

        Return False if something was left: its leases lapse, and another node takes it over.
        """
        self._quit.set()
        last = [part for part in self._parts if part.finishes is not None]
        for part in last:
            assert part.finishes is not None
            part.finishes.stop(self._grace)
        self._store.wake()
        for part in last:
            if part.thread.is_alive():
                part.thread.join((self._grace + LAST_WORDS).total_seconds())
        self._quit_last.set()
        self._store.wake()
        for part in self._parts:
            if part.thread.is_alive():
                part.thread.join(LAST_WORDS.total_seconds())
        for executor in self._executors:
            executor.close()
        for outlet in self._outlets:
            outlet.close()
        try:
            self._presence.leave(self._store.now())
        except OnebeatError as error:
            _log.warning("%s could not say that it is gone: %s", self._holder, error)
        left = [part.name for part in self._parts if part.thread.is_alive()]
        holding = 0 if self._worker is None else self._worker.holding
        if left or holding:
            _log.error(
                "%s ends with %d attempts unreported; parts still busy: %s", self._holder, holding, left
            )
        return not left and not holding

    @property
    def holder(self) -> str:
        """Return the identity under which this process holds leases."""
        return self._holder

    @property
    def alive(self) -> bool:
        """Return whether every part is still going."""
        return all(part.thread.is_alive() for part in self._parts)

    def over(self, part: "_Part") -> bool:
        """Return whether a part has nothing left to do."""
        return part.quits.is_set() or (part.finishes is not None and part.finishes.done)

    def wait(self, part: "_Part", wake_at: datetime) -> None:
        """Wait until an instant on the store's clock, or for a hint, by the parts that hints are for."""
        if part.name in (DISPATCHER, WORKER, OUTBOX):
            self._store.wait(wake_at)
        else:
            part.quits.wait(max(0.0, (wake_at - self._store.now()).total_seconds()))

    def failed(self, part: "_Part", error: Exception) -> float:
        """Say what went wrong; return for how many seconds the part shall wait."""
        self.metrics.count("onebeat_step_failures_total", part.name)
        if isinstance(error, StoreUnavailable):
            _log.warning("%s, %s: the store does not answer: %s", self._holder, part.name, error)
        else:
            _log.error("%s, %s: a step failed, and goes on", self._holder, part.name, exc_info=error)
            self._leave_event(part, error)
        # Jitter from a hash: nodes that failed together come back apart, and a replay is the same.
        share = zlib.crc32(f"{self._holder}/{part.name}/{part.failures}".encode()) / 2**32
        return min(BACKOFF * 2.0 ** min(part.failures - 1, 10), BACKOFF_MAX) * (0.5 + share / 2)

    def _leave_event(self, part: "_Part", error: Exception) -> None:
        """Record a failure, if the store takes it; the same one of a part at most once in EVENT_EVERY."""
        now = self._clock.now()
        said = part.said.get(type(error).__name__)
        if said is not None and now < said + EVENT_EVERY:
            return
        part.said[type(error).__name__] = now
        event = Event(
            at=now,
            kind="node.step_failed",
            actor=self._holder,
            reason=storable(f"{part.name}: {type(error).__name__}: {error}")[:500],
        )
        try:
            self._store.record([event])
        except Exception:  # noqa: BLE001 - most likely it failed for the same cause; it has been logged
            _log.exception("%s, %s: the failure could not be recorded either", self._holder, part.name)


class _Part:
    """One step function and the thread that keeps it going."""

    def __init__(
        self,
        service: Service,
        clock: Clock,
        name: str,
        step: Callable[[], datetime],
        quits: threading.Event,
        finishes: Worker | Outbox | None,
    ) -> None:
        self.name = name
        self.quits = quits
        self.finishes = finishes  # what it is stopped by before it has to quit
        self.failures = 0
        self.said: dict[str, datetime] = {}
        self._service = service
        self._clock = clock
        self._step = step
        self.thread = threading.Thread(target=self._go, name=f"onebeat-{name}", daemon=True)

    def _go(self) -> None:
        while not self._service.over(self):
            began = self._clock.now()
            try:
                wake_at = self._step()
                self.failures = 0
                if not self._service.over(self):
                    self._service.wait(self, wake_at)
                    took = self._clock.now() - began
                    if timedelta(0) <= took < PACE:  # a clock that was set back must not stop us
                        self.quits.wait((PACE - took).total_seconds())
            except Exception as error:  # noqa: BLE001 - a part goes on whatever happens; this is where it is said
                self.failures += 1
                self.quits.wait(self._service.failed(self, error))
