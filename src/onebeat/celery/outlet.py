"""The way out to a broker: runs become the messages that Celery would have sent, many in one write.

Kombu prepares and routes each message (queues, exchanges, priorities, signals), on a connection that the app
makes; what is bundled is the writing. On Redis a batch is one pipeline, on AMQP its confirms are waited for
once; any other transport is written message by message.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from os import getpid
from socket import gethostname
from typing import Any

from onebeat.celery.message import message_of
from onebeat.core.errors import OutletUnavailable, TargetNotFound
from onebeat.core.messages import Claimed
from onebeat.core.model import Target
from onebeat.core.ports import Clock
from onebeat.core.targets import checked_target
from onebeat.core.tasks import TaskOptions, guarded
from onebeat.engine.clock import SystemClock

CONNECT_S = 5.0
CONFIRM_S = 30.0
"""How long a broker has to confirm a batch."""


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
        self._origin = f"onebeat{getpid()}@{gethostname()}"
        self._lock = threading.Lock()

    def resolve(self, target: Target) -> None:
        """Take every Celery task: only workers know which names they have."""
        if target.kind != self.kind:
            raise TargetNotFound(f"a target of kind {target.kind} is no Celery task")
        checked_target(target)

    def guarded(self, target: Target) -> bool:
        """Return whether a guard is said to meet the message."""
        return guarded(target)

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        """Send a message for each run; return for each None, or why it can never be sent as it is.

        What None stands for, the broker has. Raises OutletUnavailable where it does not answer: then some of
        them may be there, and all are to be sent again.
        """
        with self._lock:
            if self._bundle is not None:
                with suppress(
                    OutletUnavailable, _ChannelLost
                ):  # it may have been idle for so long that it was cut off
                    return self._sent(self._bundle, batch)
            try:
                return self._sent(self._connected(), batch)
            except _ChannelLost as error:
                if len(batch) == 1:
                    return [str(error)]
            # One of them was refused, and on AMQP the channel with it: the others shall not share its fate.
            return [answer for each in batch for answer in self._alone(each)]

    def _alone(self, claimed: Claimed) -> list[str | None]:
        try:
            return self._sent(self._bundle or self._connected(), [claimed])
        except _ChannelLost as error:
            return [str(error)]

    def close(self) -> None:
        """Let go of the connection. A later send makes another one."""
        with self._lock:
            self._drop()

    def _connected(self) -> "_Bundle":
        """Return a way to write on a new connection."""
        self._connection = self._app.connection_for_write(
            heartbeat=0, connect_timeout=CONNECT_S, transport_options={"confirm_publish": False}
        )
        try:
            self._connection.connect()
            kind = _KINDS.get(self._connection.transport.driver_type, _Bundle)
            channel = self._connection.channel()
            self._bundle = kind(self._app.amqp.Producer(channel, auto_declare=False))
        except Exception as error:
            raise self._away(error) from error
        return self._bundle

    def _sent(self, bundle: "_Bundle", batch: Sequence[Claimed]) -> list[str | None]:
        now = self._clock.now()
        answers: list[str | None] = []
        away, lost = (*self._connection.connection_errors, OSError), self._connection.channel_errors
        try:
            press = _Press(self._app, bundle.producer, self._declared, self._ledger, self._origin, now)
            with bundle.collecting():
                for claimed in batch:
                    try:
                        press.publish(claimed)
                        answers.append(None)
                    except LookupError as error:  # a queue that nobody declared; kombu counts it as a loss
                        answers.append(f"{type(error).__name__}: {error}")
                    except away:
                        raise
                    except lost as error:
                        raise _ChannelLost(f"{type(error).__name__}: {error}") from error
                    except Exception as error:  # noqa: BLE001 - one that cannot be said keeps no other back
                        answers.append(f"{type(error).__name__}: {error}")
            bundle.flush(CONFIRM_S)
        except _ChannelLost:
            self._drop()
            raise
        except Exception as error:
            raise self._away(error) from error
        return answers

    def _away(self, error: Exception) -> OutletUnavailable:
        place = self._connection.as_uri()
        self._drop()
        return OutletUnavailable(f"{place} takes no messages: {type(error).__name__}: {error}")

    def _drop(self) -> None:
        connection, self._connection, self._bundle = self._connection, None, None
        self._declared.clear()
        if connection is not None:
            with suppress(Exception):  # it is broken, or no longer wanted: nothing is lost with it
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


def _shown(values: object, chars_max: int) -> str:
    """Return what monitors show of arguments, which are JSON."""
    text = repr(values)
    return text if len(text) <= chars_max else f"{text[: chars_max - 3]}..."


class _ChannelLost(Exception):
    """The broker refused a message, or what it is to go through, and took the channel away."""


# --- writing many at once -------------------------------------------------------------------------------


class _Bundle:
    """Messages written one by one, as the transport takes them."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect what is published in here, as far as this transport can."""
        yield

    def flush(self, timeout: float) -> None:
        """Return when the broker has what was collected, or raise."""


class _RedisBundle(_Bundle):
    """Messages collected where kombu would write them, then written in one pipeline."""

    def __init__(self, producer: Any) -> None:
        super().__init__(producer)
        with producer.channel.conn_or_acquire() as client:
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

    def flush(self, timeout: float) -> None:
        self._writes.queued.execute()


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

    def __init__(self, producer: Any) -> None:
        super().__init__(producer)
        channel = producer.channel
        self._count = 0
        self._waiting: set[int] = set()
        self._refused = False
        self._publish = channel.basic_publish
        channel.confirm_select()
        channel.events["basic_ack"].add(self._acked)
        channel.events["basic_nack"].add(self._nacked)
        channel.basic_publish = self._counted

    def _counted(self, *args: Any, **kwargs: Any) -> Any:
        # A channel numbers its messages from 1 on, and the broker confirms them by these numbers.
        self._count += 1
        self._waiting.add(self._count)
        return self._publish(*args, **kwargs)

    def _acked(self, delivery_tag: int, multiple: bool) -> None:
        if multiple:
            self._waiting = {tag for tag in self._waiting if tag > delivery_tag}
        else:
            self._waiting.discard(delivery_tag)

    def _nacked(self, delivery_tag: int, multiple: bool) -> None:
        self._refused = True
        self._acked(delivery_tag, multiple)

    def flush(self, timeout: float) -> None:
        while self._waiting:
            self.producer.channel.connection.drain_events(timeout=timeout)
        if self._refused:
            raise OSError("the broker did not take all of the messages")


_KINDS: dict[str, type[_Bundle]] = {"redis": _RedisBundle, "amqp": _AmqpBundle}
