"""The way out to a broker: runs become the messages that Celery would have sent, many in one write.

Kombu prepares and routes each message (queues, exchanges, priorities, signals), on a connection that the app
makes; what is bundled is the writing. On Redis a batch is one pipeline, on AMQP its confirms are waited for
once; any other transport is written message by message.

On AMQP a message that no queue is bound for comes back, and one that a full queue refuses is named: neither
is taken, and neither keeps the others. A broker that is short of memory or of disk gets no more until it says
that it takes messages again.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from os import getpid
from socket import gethostname
from typing import Any

from onebeat.celery.message import message_of
from onebeat.core.errors import OutletUnavailable, TargetNotFound
from onebeat.core.messages import Claimed
from onebeat.core.model import Target
from onebeat.core.ports import Clock
from onebeat.core.targets import checked_target, outside_name
from onebeat.core.tasks import TaskOptions, guarded
from onebeat.engine.clock import SystemClock

CONNECT_S = 5
CONFIRM_S = 30
"""How long a broker may be silent while it owes an answer."""
BLOCKED = timedelta(seconds=60)
"""How long a connection is kept on which the broker takes no messages for now."""


class CeleryOutlet:
    """Sends runs of Celery tasks by the broker of an app, on a connection of its own. For one thread at once.

    ``ledger`` is the fingerprint of the ledger that they come from, which goes with each message.
    """

    kind = "celery"

    def __init__(self, app: Any, *, ledger: str = "", clock: Clock | None = None) -> None:
        self._app = app
        self._ledger = ledger
        self._clock: Clock = SystemClock() if clock is None else clock
        self._connection: Any = None
        self._bundle: _Bundle | None = None
        self._declared: set[str] = set()  # queues, on this connection
        self._blocked_at: datetime | None = None
        self._cut = (
            False  # whether what failed last was a connection that had ended, and not just a silent one
        )
        self._origin = f"onebeat{getpid()}@{gethostname()}"
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """Return the broker's URL, without the password. Connects to nothing."""
        return str(self._app.connection_for_write().as_uri())

    def resolve(self, target: Target) -> None:
        """Take every Celery task: only workers know which names they have."""
        if target.kind != self.kind:
            raise TargetNotFound(f"a target of kind {target.kind} is no Celery task")
        checked_target(target)

    def guarded(self, target: Target) -> bool:
        """Return whether a guard is said to meet the message."""
        return guarded(target)

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        """Send a message for each run; return for each None, or why it was not taken.

        What None stands for, the broker has. Raises OutletUnavailable where it does not answer: then some of
        them may be there, and all are to be sent again.
        """
        with self._lock:
            if self._bundle is not None:
                try:
                    return self._settled(self._bundle, batch)
                except OutletUnavailable:
                    if not self._cut:  # else it may just have been idle for so long
                        raise
            return self._settled(self._connected(), batch)

    def _settled(self, bundle: "_Bundle", batch: Sequence[Claimed]) -> list[str | None]:
        """Send a batch; what comes back and what took the channel with it, once more by itself."""
        try:
            answers = self._sent(bundle, batch)
            back = [number for number, each in enumerate(batch) if _id(each) in bundle.returned]
            if back:  # a queue may be gone that this connection has declared: another one knows of none
                self._drop()
            for number in back:
                answers[number] = self._alone(batch[number])
        except _ChannelLost as lost:
            if len(batch) == 1:
                return [str(lost)]
            # One of them was refused, and on AMQP the channel with it: the others shall not share its fate.
            return [None if _id(each) in lost.taken else self._alone(each) for each in batch]
        return answers

    def _alone(self, claimed: Claimed) -> str | None:
        try:
            return self._sent(self._bundle or self._connected(), [claimed])[0]
        except _ChannelLost as error:
            return str(error)

    def close(self) -> None:
        """Let go of the connection. A later send makes another one."""
        with self._lock:
            self._drop()

    def _connected(self) -> "_Bundle":
        """Return a way to write on a new connection."""
        self._drop()
        self._connection = self._app.connection_for_write(
            heartbeat=0, connect_timeout=CONNECT_S, transport_options={"confirm_publish": False}
        )
        try:
            self._connection.connect()
            kind = _KINDS.get(self._connection.transport.driver_type, _Bundle)
            self._bundle = kind(self._app, self._connection)
        except Exception as error:
            raise self._away(error) from error
        return self._bundle

    def _sent(self, bundle: "_Bundle", batch: Sequence[Claimed]) -> list[str | None]:
        now = self._clock.now()
        answers: list[str | None] = []
        away, lost = (*self._connection.connection_errors, OSError), self._connection.channel_errors
        try:
            bundle.begin()
            press = _Press(self._app, bundle.producer, self._declared, self._ledger, self._origin, now)
            with bundle.collecting():
                for claimed in batch:
                    try:
                        press.publish(claimed)
                        answers.append(None)
                    except LookupError as error:  # a queue that nobody declared; kombu counts it as a loss
                        answers.append(_told(error))
                    except (*away, *lost, _Blocked):
                        raise
                    except Exception as error:
                        if not self._connection.connected:
                            raise
                        answers.append(_told(error))  # one that cannot be said keeps no other back
            refused = bundle.flush()
        except _Blocked as error:
            if self._blocked_at is None:
                self._blocked_at = now
            elif now - self._blocked_at > BLOCKED:
                raise self._away(error) from error
            raise self._unavailable(error) from error
        except away as error:
            raise self._away(error) from error
        except lost as error:
            self._drop()
            raise _ChannelLost(_told(error), bundle.taken()) from error
        except Exception as error:
            raise self._away(error) from error
        self._blocked_at = None
        return [answer or refused.get(_id(each)) for each, answer in zip(batch, answers, strict=True)]

    def _away(self, error: Exception) -> OutletUnavailable:
        """Let go of a connection that is lost; return what to raise."""
        told = self._unavailable(error)
        self._drop(lost=True)
        return told

    def _unavailable(self, error: Exception) -> OutletUnavailable:
        self._cut = not isinstance(error, (TimeoutError, _Blocked))
        return OutletUnavailable(f"{self._connection.as_uri()} takes no messages: {_told(error)}")

    def _drop(self, *, lost: bool = False) -> None:
        connection, self._connection, self._bundle = self._connection, None, None
        self._declared.clear()
        self._blocked_at = None
        if connection is not None:
            with suppress(Exception):  # it is broken, or no longer wanted: nothing is lost with it
                if lost and connection.transport.driver_type == "amqp":
                    connection.collect()  # a farewell would be waited for
                connection.release()


class _Press:
    """Has kombu route and prepare messages, as ``send_task`` would. For one batch.

    Celery looks up its own parts by way of descriptors, which costs as much as to fill in a message: here it
    is done once.
    """

    def __init__(
        self, app: Any, producer: Any, declared: set[str], ledger: str, origin: str, now: datetime
    ) -> None:
        amqp = app.amqp
        self._tasks = app.tasks
        self._route = amqp.router.route
        self._create = partial(
            amqp.create_task_message,
            reply_to=app.thread_oid,
            origin=origin,
            create_sent_event=app.conf.task_send_sent_event,
        )
        self._send = partial(amqp.send_task_message, producer, retry=False)
        self._args_chars_max = amqp.argsrepr_maxsize
        self._kwargs_chars_max = amqp.kwargsrepr_maxsize
        self._own: dict[str, dict[str, Any]] = {}
        self._declared = declared
        self._ledger = ledger
        self._now = now

    def publish(self, claimed: Claimed) -> None:
        """Have one message written."""
        name = claimed.definition.target.address
        message = message_of(claimed, self._now, defaults=self._said_at(name), ledger=self._ledger)
        options = self._route(message.sending, name, message.args, message.kwargs, self._tasks.get(name))
        made = self._create(
            name=name,
            args=message.args,
            kwargs=message.kwargs,
            argsrepr=_shown(message.args, self._args_chars_max),
            kwargsrepr=_shown(message.kwargs, self._kwargs_chars_max),
            **message.content,
        )
        queue = options.get("queue")
        queue_name = getattr(queue, "name", queue)
        declared = queue is not None and queue_name in self._declared
        self._send(name, made, declare=[] if declared else None, **options)
        if queue is not None and not declared:  # kombu remembers, too, at a third of the price of a message
            self._declared.add(queue_name)

    def _said_at(self, name: str) -> dict[str, Any]:
        """Return what is said at the task itself, as far as a run can be sent with it: it counts too."""
        said = self._own.get(name)
        if said is None:
            task = self._tasks.get(name)
            own = {} if task is None else task._get_exec_options()
            said = {option: value for option, value in own.items() if option in TaskOptions.__annotations__}
            self._own[name] = said
        return said


def _id(claimed: Claimed) -> str:
    return outside_name(claimed.run.id)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _shown(values: object, chars_max: int) -> str:
    """Return what monitors show of arguments, which are JSON."""
    text = repr(values)
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."


class _ChannelLost(Exception):
    """The broker refused a message, or what it is to go through, and took the channel away."""

    def __init__(self, text: str, taken: frozenset[str]) -> None:
        super().__init__(text)
        self.taken = taken


class _Blocked(Exception):
    """The broker takes messages from nobody, for now."""


# --- writing many at once -------------------------------------------------------------------------------


class _Bundle:
    """Messages written one by one, as the transport takes them."""

    returned: Mapping[str, str] = {}
    """Why messages came back, by their ids, since ``begin``."""

    def __init__(self, app: Any, connection: Any) -> None:
        self.producer = app.amqp.Producer(connection.channel(), auto_declare=False)

    def begin(self) -> None:
        """Make ready for a batch, or raise."""

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what is published in here, as far as this transport can."""
        yield

    def flush(self) -> Mapping[str, str]:
        """Return when the broker has what was collected, but for these, or raise."""
        return {}

    def taken(self) -> frozenset[str]:
        """Return the ids of the messages that the broker has said to have, since ``begin``."""
        return frozenset()


class _RedisBundle(_Bundle):
    """Messages collected where kombu would write them, then written in one pipeline."""

    def __init__(self, app: Any, connection: Any) -> None:
        super().__init__(app, connection)
        with self.producer.channel.conn_or_acquire() as client:
            self._writes = _Writes(client)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        channel = self.producer.channel
        self._writes.queued.reset()
        # Kombu asks the channel for a client at each write: for a moment it gets one that collects.
        channel.conn_or_acquire = self._client
        try:
            yield
        finally:
            del channel.conn_or_acquire

    @contextmanager
    def _client(self, client: Any = None) -> Iterator[Any]:
        yield client or self._writes

    def flush(self) -> Mapping[str, str]:
        try:
            self._writes.queued.execute()
        except Exception as error:  # of a full or read-only server, too, and not of one message
            raise ConnectionError(_told(error)) from error
        return {}


class _Writes:
    """A Redis client that collects what puts messages; all else it asks the server, at once."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.queued = client.pipeline(transaction=False)
        self.lpush = self.queued.lpush
        self.publish = self.queued.publish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _AmqpBundle(_Bundle):
    """Messages written at once, on a channel whose confirms are waited for at the end."""

    def __init__(self, app: Any, connection: Any) -> None:
        self._line = connection.connection
        self._line.transport.sock.settimeout(CONFIRM_S)  # whatever waits for the broker waits no longer
        self._line.on_blocked, self._line.on_unblocked = self._block, self._unblock
        super().__init__(app, connection)
        self._count = 0
        self._waiting: dict[int, str] = {}  # the ids of messages, by their numbers on this channel
        self._written: set[str] = set()
        self.returned: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._blocked = False
        channel = self.producer.channel
        self._publish = channel.basic_publish
        channel.confirm_select()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.events["basic_return"].add(self._came_back)
        channel.basic_publish = self._counted

    def begin(self) -> None:
        self._written, self.returned, self._refused = set(), {}, {}
        with suppress(TimeoutError):
            while self._blocked:
                self._line.drain_events(timeout=0)
        self._look()

    def _look(self) -> None:
        if self._blocked:
            raise _Blocked("the broker is short of memory or of disk")

    def _block(self, reason: str) -> None:
        self._blocked = True

    def _unblock(self) -> None:
        self._blocked = False

    def _counted(self, message: Any, **options: Any) -> Any:
        self._look()
        # A channel numbers its messages from 1 on, and the broker confirms them by these numbers.
        self._count += 1
        self._waiting[self._count] = task = message.properties.get("correlation_id") or ""
        self._written.add(task)
        # That a task was sent is told to whoever listens, if anybody does; the task is for somebody.
        return self._publish(message, **{**options, "mandatory": bool(task)})

    def _acked(self, delivery_tag: int, multiple: bool) -> None:
        for tag in self._answered(delivery_tag, multiple):
            self._waiting.pop(tag, None)

    def _nacked(self, delivery_tag: int, multiple: bool) -> None:
        for tag in self._answered(delivery_tag, multiple):
            self._refused[self._waiting.pop(tag, "")] = "the broker refused it: a queue is full, say"

    def _answered(self, delivery_tag: int, multiple: bool) -> list[int]:
        return [tag for tag in self._waiting if tag <= delivery_tag] if multiple else [delivery_tag]

    def _came_back(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # It is confirmed right afterwards: the broker is done with it.
        place = f"exchange {exchange!r} with routing key {routing_key!r}"
        self.returned[message.properties.get("correlation_id")] = f"no queue is bound for it at {place}"

    def flush(self) -> Mapping[str, str]:
        while self._waiting:
            self._look()
            self._line.drain_events()
        return {**self._refused, **self.returned}

    def taken(self) -> frozenset[str]:
        return frozenset(self._written - set(self._waiting.values()) - {*self._refused, *self.returned})


_KINDS: dict[str, type[_Bundle]] = {"redis": _RedisBundle, "amqp": _AmqpBundle}
