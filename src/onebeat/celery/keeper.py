"""Keeps the leases of a Celery worker's runs: one thread of its main process, whatever runs the bodies.

    child: hold ──link──► keeper ── Renew at a third of the lease ──► ledger
           done ──link──►   │ ◄── accepted, refused, a cancel was asked for
           gone ──EOF───►   └── told over the link; killed; judged: cancelled, timed out, or lost

A child of a prefork pool cannot renew while its body holds the GIL, and cannot report its own death; the main
process can do both. The socket that a child introduces itself by is made before the fork. Where bodies run in
the main process (threads, solo, gevent, eventlet), the same thread keeps them without a link.
"""

import json
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from onebeat.celery.ledger import Ledgers
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Advanced, Answer, Done, Finish, Guard, Renew, Report
from onebeat.core.model import Event, Outcome, RunState, from_micros, micros
from onebeat.core.ports import Clock, Store
from onebeat.engine.attempt import attempt_event, ended

BYTES_MAX = 65_536
AGAIN = timedelta(seconds=1)
"""How long the keeper waits before it says again what the store did not take."""
SETTLES = timedelta(seconds=0.3)
"""How long after a child's death it is judged: why it was killed may become known a moment later."""
KILLED_AFTER = timedelta(seconds=5)
"""How long past its hard limit a child has to be killed by Celery before its run is reported all the same."""

Key = tuple[str, int]

_log = logging.getLogger("onebeat.celery")


class Held:
    """An attempt whose body runs: whose lease it is, until when, and by what it can be reached."""

    __slots__ = (
        "cancelled",
        "died_at",
        "hard_at",
        "key",
        "link",
        "pid",
        "renew_at",
        "soft_at",
        "task_id",
        "tell",
        "told",
    )

    def __init__(
        self,
        key: Key,
        task_id: str,
        pid: int,
        until: datetime,
        soft_at: datetime | None,
        hard_at: datetime | None,
    ) -> None:
        self.key = key
        self.task_id = task_id
        self.pid = pid
        self.renew_at = until
        self.soft_at = soft_at
        self.hard_at = hard_at
        self.cancelled: str | None = None
        self.died_at: datetime | None = None
        self.link: socket.socket | None = None
        self.tell: Callable[[str, Any], None] | None = None
        """Tells the body something in this process; None where it runs in a child."""
        self.told = False


class Keeper:
    """The keeper of one worker. ``kill`` ends the body of a child for good."""

    def __init__(
        self, ledgers: Ledgers, clock: Clock, lease: timedelta, kill: Callable[[Held], None]
    ) -> None:
        self._ledgers = ledgers
        self._clock = clock
        self._lease = lease
        self._kill = kill
        self._owner = 0
        self._held: dict[Key, Held] = {}
        self._events: list[Event] = []
        self._revoked: list[tuple[str, int, bool, str]] = []
        self._again_at: datetime | None = None
        self._sleeps_until: datetime | None = None
        self._lock = threading.Lock()
        self._door: tuple[socket.socket, socket.socket] | None = None
        self._links: dict[int, socket.socket] = {}  # of this process, when it is a child, by its own id
        self._ears: dict[Key, Callable[[str, Any], None]] = {}

    # --- from the processes that run bodies ---

    def begin(self) -> None:
        """Make the door that children come by, and begin to keep. Before the fork; safe to repeat."""
        if self._owner:  # asked without the lock: in a child, a thread that is not there may hold it
            return
        with self._lock:
            if self._door is not None:
                return
            self._door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._owner = os.getpid()
            threading.Thread(target=self._keep, name="onebeat-keeper", daemon=True).start()

    @property
    def elsewhere(self) -> bool:
        """Return whether this is a child of the process that keeps."""
        return self._owner not in (0, os.getpid())

    def hold(self, held: Held, told: Callable[[str, Any], None]) -> None:
        """Keep an attempt from now on. ``told`` hears what becomes of its lease, on another thread."""
        self.begin()
        if self.elsewhere:
            self._say({"hold": _written(held)}, told)
            return
        held.tell = told
        with self._lock:
            self._held[held.key] = held
            sleeps = self._sleeps_until is None or min(self._moments(held)) < self._sleeps_until
        if sleeps:
            self._wake()

    def done(self, key: Key) -> None:
        """Keep an attempt no more: its end is in the ledger, or will be refused there."""
        if self.elsewhere:
            self._say({"done": key})
            return
        with self._lock:
            self._held.pop(key, None)

    def ended(self, run_id: str, token: int) -> None:
        """Take note that a body is over while its end waits for the ledger: no limit of time can pass now."""
        if self.elsewhere:
            with suppress(OSError):  # the keeper is gone, and this process with it
                self._say({"ended": [run_id, token]})
            return
        with self._lock:
            _over(self._held.get((run_id, token)))

    def record(self, event: Event) -> None:
        """Write an event as soon as the store takes it."""
        if self.elsewhere:
            self._say(
                {
                    "event": {
                        "kind": event.kind,
                        "run": event.run_id,
                        "at": micros(event.at),
                        "actor": event.actor,
                        "reason": event.reason,
                    }
                }
            )
            return
        with self._lock:
            self._events.append(event)
        self._wake()

    def revoked(self, run_id: str, attempt: int, holder: str, *, expired: bool) -> None:
        """End a run whose message was revoked, or expired, before its body began."""
        with self._lock:
            self._revoked.append((run_id, attempt, expired, holder))
        self._wake()

    def terminated(self, run_id: str) -> None:
        """Take note that somebody had the body of a run killed by Celery."""
        with self._lock:
            for held in self._held.values():
                if held.key[0] == run_id and held.cancelled is None:
                    held.cancelled = "its task was revoked, and its process killed"

    def _say(self, message: dict[str, Any], told: Callable[[str, Any], None] | None = None) -> None:
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:
            assert self._door is not None
            link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            socket.send_fds(self._door[1], [str(pid).encode()], [other.fileno()])
            other.close()
            self._links[pid] = link
            self._ears = {}
            threading.Thread(target=self._listen, args=(link,), name="onebeat-ear", daemon=True).start()
        if told is not None:
            run_id, token, *_ = message["hold"]
            self._ears[run_id, token] = told
        elif "done" in message:
            self._ears.pop(message["done"], None)
        link.send(json.dumps(message).encode())

    def _listen(self, link: socket.socket) -> None:
        """Hear in a child what the keeper says of its runs. Silence at the end: the keeper is gone."""
        while data := link.recv(BYTES_MAX):
            run_id, token, what, value = json.loads(data)
            told = self._ears.get((run_id, token))
            if told is not None:
                told(what, from_micros(value) if what == "renewed" else value)

    # --- the thread ---

    def _wake(self) -> None:
        if self._door is not None:
            with suppress(OSError):
                self._door[1].send(b"wake")

    def _keep(self) -> None:
        assert self._door is not None
        selector = selectors.DefaultSelector()
        selector.register(self._door[0], selectors.EVENT_READ)
        while True:
            try:
                for key, _ in selector.select(self._pause()):
                    self._hear(selector, key.fileobj)
                self._round()
            except StoreUnavailable as error:
                _log.warning("the ledger does not answer; leases are renewed when it does: %s", error)
                self._again_at = self._clock.now() + AGAIN
            except Exception:  # noqa: BLE001 - whatever it is, other leases are to be renewed
                _log.exception("the keeper of leases stumbled, and goes on")
                self._again_at = self._clock.now() + AGAIN

    def _pause(self) -> float | None:
        with self._lock:
            if self._again_at is not None:
                return max(0.0, (self._again_at - self._clock.now()).total_seconds())
            moments = [at for held in self._held.values() for at in self._moments(held)]
            self._sleeps_until = min(moments, default=None)
            if self._sleeps_until is None:
                return None
            return max(0.0, (self._sleeps_until - self._clock.now()).total_seconds())

    def _moments(self, held: Held) -> list[datetime]:
        """Return when something is to be done about an attempt."""
        soft_at = held.soft_at if held.tell is not None and not held.told else None
        died_at = None if held.died_at is None else held.died_at + SETTLES
        return [at for at in (held.renew_at, soft_at, self._hard_at(held), died_at) if at]

    def _hear(self, selector: selectors.BaseSelector, source: Any) -> None:
        assert self._door is not None
        if source is self._door[0]:
            data, files, _, _ = socket.recv_fds(source, BYTES_MAX, 1)
            for file in files:
                selector.register(socket.socket(fileno=file), selectors.EVENT_READ)
            return
        try:
            data = source.recv(BYTES_MAX)
        except OSError:
            data = b""
        if not data:  # its process is gone, with all that it ran
            selector.unregister(source)
            source.close()
            with self._lock:
                for held in self._held.values():
                    if held.link is source:
                        held.link, held.died_at = None, self._clock.now()
            return
        message = json.loads(data)
        with self._lock:
            if "hold" in message:
                held = _read(message["hold"])
                held.link = source
                self._held[held.key] = held
            elif "done" in message:
                run_id, token = message["done"]
                self._held.pop((run_id, token), None)
            elif "ended" in message:
                run_id, token = message["ended"]
                _over(self._held.get((run_id, token)))
            else:
                said = message["event"]
                self._events.append(
                    Event(
                        at=from_micros(said["at"]),
                        kind=said["kind"],
                        run_id=said["run"],
                        actor=said["actor"],
                        reason=said["reason"],
                    )
                )

    def _round(self) -> None:
        """Do what is due. What the store does not take stays, and is done again."""
        now = self._clock.now()
        if self._again_at is not None and now < self._again_at:
            return
        self._again_at = None
        with self._lock:
            everyone = list(self._held.values())
        for held in everyone:
            if held.died_at is not None and held.died_at + SETTLES <= now:
                self._end(held, *_judged(held, now))
            elif (hard_at := self._hard_at(held)) is not None and hard_at <= now:
                self._tell(held, "tell", "timeout")
                self._end(held, Outcome.TIMED_OUT, "the body took longer than its time limit")
            elif held.soft_at is not None and held.soft_at <= now and not held.told and held.tell:
                held.told = True
                self._tell(held, "tell", "timeout")
        self._renew([held for held in everyone if held.died_at is None and held.key in self._held], now)
        self._deliver()

    def _hard_at(self, held: Held) -> datetime | None:
        if held.hard_at is None or held.tell is not None:
            return held.hard_at
        return held.hard_at + KILLED_AFTER  # Celery kills a child by itself, and is given the time

    def _renew(self, everyone: list[Held], now: datetime) -> None:
        if not any(held.renew_at <= now for held in everyone):
            return
        soon = [held for held in everyone if held.renew_at <= now + self._lease / 12]
        with self._ledgers.borrowed() as store:
            until = store.now() + self._lease
            answers = store.advance(
                [Renew(run_id=held.key[0], token=held.key[1], until=until) for held in soon]
            )
        for held, answer in zip(soon, answers, strict=True):
            self._renewed(held, answer, now)

    def _renewed(self, held: Held, answer: Advanced, now: datetime) -> None:
        if answer.answer is Answer.REFUSED:
            with self._lock:
                self._held.pop(held.key, None)
            self._tell(held, "tell", "the lease was lost")
            return
        held.renew_at = now + self._lease / 3
        self._tell(held, "renewed", now + self._lease)
        if answer.cancel_requested and held.cancelled is None:
            held.cancelled = "cancelled on request"
            self._tell(held, "tell", held.cancelled)
            if held.tell is None:
                self._kill(held)

    def _tell(self, held: Held, what: str, value: Any) -> None:
        if held.tell is not None:
            held.tell(what, value)
        elif held.link is not None:
            said = micros(value) if what == "renewed" else value
            with suppress(OSError):  # it is dying: that is heard, too
                held.link.send(json.dumps([*held.key, what, said]).encode(), socket.MSG_DONTWAIT)

    def _end(self, held: Held, outcome: Outcome, error: str) -> None:
        """Report the end of a body that cannot do so itself."""
        run_id, token = held.key
        with self._ledgers.borrowed() as store:
            run = store.run(run_id)
            if run is not None and run.token == token and run.state is RunState.RUNNING:
                policy = store.definition(run.schedule_id, run.number).policy
                report = Report(
                    run_id=run_id, token=token, outcome=outcome, error=error, error_type="Timeout"
                )
                finish = ended(policy, run, report, at=store.now(), actor=run.holder or "")
                store.advance([finish])
                _log.warning("%s, attempt %d: %s", run_id, run.attempt, error)
        with self._lock:
            self._held.pop(held.key, None)

    def _deliver(self) -> None:
        """Write what waits: events, and runs whose messages were revoked."""
        with self._lock:
            events, revoked = self._events, self._revoked
            self._events, self._revoked = [], []
        if not (events or revoked):
            return
        works: list[tuple[list[Any], Callable[[Store, Any], None]]] = [
            (events, lambda store, event: store.record([event])),
            (revoked, lambda store, each: self._finish_revoked(store, *each)),
        ]
        try:
            with self._ledgers.borrowed() as store:
                for waiting, write in works:
                    while waiting:
                        _written_or_dropped(store, waiting[0], write)
                        waiting.pop(0)
        finally:
            with self._lock:
                self._events += events
                self._revoked += revoked

    def _finish_revoked(self, store: Store, run_id: str, attempt: int, expired: bool, holder: str) -> None:
        now = store.now()
        (taken,) = store.advance(
            [Guard(run_id=run_id, attempt=attempt, holder=holder, until=now + self._lease)]
        )
        if taken.answer is Answer.REFUSED:
            return  # somebody runs it, or it has ended: a copy was revoked
        run = store.run(run_id)
        assert run is not None
        verdict = Done(
            state=RunState.EXPIRED if expired else RunState.CANCELLED,
            reason="its message expired before its body began" if expired else "its task was revoked",
        )
        event = attempt_event(run, Outcome.CANCELLED, verdict, error=None, at=now, actor=holder)
        store.advance(
            [
                Finish(
                    run_id=run_id, token=taken.token, outcome=Outcome.CANCELLED, verdict=verdict, event=event
                )
            ]
        )


def _over(held: Held | None) -> None:
    if held is not None:
        held.soft_at = held.hard_at = None


def _written_or_dropped(store: Store, what: Any, write: Callable[[Store, Any], None]) -> None:
    """Write one thing. What the store will never take must not keep the others, and the renewals, back."""
    try:
        write(store, what)
    except StoreUnavailable:
        raise
    except Exception:  # noqa: BLE001 - whatever the store has against it
        _log.exception("%s cannot be written, and is dropped", what)


def _judged(held: Held, now: datetime) -> tuple[Outcome, str]:
    """Return how a body ended whose process died."""
    if held.cancelled is not None:
        return Outcome.CANCELLED, held.cancelled
    if held.hard_at is not None and held.died_at is not None and held.died_at >= held.hard_at:
        return Outcome.TIMED_OUT, "the body took longer than its time limit, and its process was killed"
    return Outcome.LOST, "its process died"


def _written(held: Held) -> list[Any]:
    moments = (held.renew_at, held.soft_at, held.hard_at)
    return [*held.key, held.task_id, held.pid, *(None if at is None else micros(at) for at in moments)]


def _read(said: list[Any]) -> Held:
    run_id, token, task_id, pid, *moments = said
    renew_at, soft_at, hard_at = (None if at is None else from_micros(at) for at in moments)
    assert renew_at is not None
    return Held((run_id, token), task_id, pid, renew_at, soft_at, hard_at)
