"""The one place that speaks to Redis: connections, scripts, and what their errors mean.

    call ──► a connection (at most POOL_MAX at once) ──► EVALSHA ──► NOSCRIPT? EVAL
                │ cannot connect, or the server is loading: nothing was sent, so wait and try again
                └ the connection broke afterwards: nobody knows what was done ──► StoreUnavailable

A command that may have been done is never sent twice from here: who called the verb calls it again, and each
verb says what a repetition does.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import msgspec

from onebeat.core.errors import InvalidInput, MissingExtra, StoreError, StoreUnavailable, StoreUnsafe
from onebeat.store.redis.address import Address

try:
    import redis
    from redis import sentinel as redis_sentinel
    from redis.backoff import NoBackoff
    from redis.connection import ConnectionPool, SSLConnection
    from redis.exceptions import RedisError
    from redis.retry import Retry
except ImportError as missing:
    raise MissingExtra(
        "a redis:// ledger needs the client library, which is not installed: pip install 'onebeat[redis]'"
    ) from missing

_untyped: Any = redis_sentinel  # this part of the library says nothing of its types

POOL_MAX = 8
"""How many connections a process opens for its calls; one more listens, once something waits."""

CONNECT_S = 3
ANSWER_S = 10
"""How long one call may take: then its connection is given up, and nobody knows what was done."""

PATIENCE_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
"""How long to wait before each further try to connect. What comes after that is the caller's to decide."""

WAIT_MS = 1000
"""How long a commit waits for the replicas that it needs."""

GONE, KNOWN, WRONG = "ONEBEATGONE", "ONEBEATKNOWN", "ONEBEATWRONG"
NOT_NOW = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
)
"""Errors that say: nothing was done, and it may go later."""


UNPACK: Final = """
local function plain(part)
  if type(part) == 'table' then
    if next(part) and part[1] == nil then
      return {map = part}
    end
    for index = 1, #part do
      part[index] = plain(part[index])
    end
  end
  return part
end
return plain(cmsgpack.unpack(ARGV[1]))
"""


class Script(NamedTuple):
    """A script of this room, put together from its parts."""

    text: str
    sha: str


@cache
def script(*parts: str) -> Script:
    """Return the script of these parts of lua/, after the library that each begins with."""
    folder = files("onebeat.store.redis") / "lua"
    text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in ("library", *parts))
    return Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 - how the server names scripts


class Server:
    """A Redis server, or whichever Sentinel calls the master. Thread-safe; a forked child connects anew."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.ledger = ""  # which ledger is meant: a script refuses to touch another one
        self._pool = _pool(address)
        self._closed = threading.Event()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self.name = secrets.token_hex(8)  # by which what this process publishes is told apart
        self._room = threading.BoundedSemaphore(POOL_MAX)

    def run(
        self, script: Script, args: Sequence[Any], clock: str, *, writes: bool = False, packed: bool = False
    ) -> Any:
        """Run a script on the ledger; ``clock`` is the instant to take for the server's own, '' for none.

        A script that answers ``packed`` answers in one piece, which both sides are done with sooner.
        """
        if os.getpid() != self._pid:
            self._reset()
        rest = (
            "1",
            f"{{{self.address.namespace}}}",
            msgspec.msgpack.encode(args),
            self.ledger,
            clock,
            self.name,
        )
        with self._connection() as connection, _translated():
            try:
                answer = _ask(connection, "EVALSHA", script.sha, *rest, packed=packed)
            except redis.exceptions.NoScriptError:
                answer = _ask(connection, "EVAL", script.text, *rest, packed=packed)
            if writes and self.address.replicas:
                self._await_replicas(connection)
            return _unpacked(connection, answer) if packed else answer

    def ask(self, *command: str) -> Any:
        """Send one command and return its answer."""
        with self._connection() as connection, _translated():
            return _ask(connection, *command)

    def listen(self, channel: str) -> "Line":
        """Return a line on which a channel is heard."""
        with _translated():
            return Line(_pool(self.address), channel)

    def close(self) -> None:
        """Let go of all connections, also of those that wait to be made."""
        self._closed.set()
        self._pool.disconnect()

    def _await_replicas(self, connection: Any) -> None:
        have = _ask(connection, "WAIT", str(self.address.replicas), str(WAIT_MS))
        if have < self.address.replicas:
            raise StoreUnavailable(
                f"the commit was made, but only {have} of {self.address.replicas} replicas had it within "
                f"{WAIT_MS} ms: it is not certain to outlive the master; try again"
            )

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        if os.getpid() != self._pid:
            self._reset()
        if not self._room.acquire(timeout=ANSWER_S):
            raise StoreUnavailable(
                f"all {POOL_MAX} connections to {self.address.place} are in use; try again"
            )
        try:
            connection = self._connected()
            try:
                yield connection
            finally:
                self._pool.release(connection)
        finally:
            self._room.release()

    def _connected(self) -> Any:
        """Return a connection of the pool; while there is none, nothing was sent, so trying again is safe."""
        patience = iter(PATIENCE_S)
        while True:
            try:
                with _translated():
                    return self._pool.get_connection()
            except StoreUnavailable:
                delay = next(patience, None)
                if delay is None or self._closed.wait(delay):
                    raise


class Line:
    """A connection of its own that hears a channel."""

    def __init__(self, pool: Any, channel: str) -> None:
        self._pool = pool
        client: Any = redis.Redis(connection_pool=pool)
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.subscribe(channel)

    def heard(self, seconds: float) -> str | None:
        """Return what was said within some seconds; None for silence. Raises StoreUnavailable if it broke."""
        with _translated():
            message = self._pubsub.get_message(timeout=seconds)
        return None if message is None else str(message["data"])

    def close(self) -> None:
        """Hang up."""
        self._pubsub.close()
        self._pool.disconnect()


def _ask(connection: Any, *command: str | bytes, packed: bool = False) -> Any:
    """Send a command and wait for its answer. A connection that answers no more is not used again."""
    try:
        connection.send_command(*command, check_health=False)
        return connection.read_response(disable_decoding=packed)
    except redis.exceptions.ResponseError:
        raise
    except BaseException:
        connection.disconnect()
        raise


def _unpacked(connection: Any, answer: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A text in it was broken by a hand: unpacked there, it is mended by the connection as all others are.
        return _ask(connection, "EVAL", UNPACK, "0", answer)


@contextmanager
def _translated() -> Iterator[None]:
    """Say in this house's words what the library raises."""
    try:
        yield
    except redis.exceptions.AuthenticationError as error:
        raise StoreError(f"the server does not let this node in: {error}; check user and password") from error
    except (redis.exceptions.NoPermissionError, redis.exceptions.MovedError) as error:
        raise StoreUnsafe(f"the server refuses what a ledger needs: {error}") from error
    except redis.exceptions.ResponseError as error:
        raise _meant(error) from error
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"the server does not answer: {error}; try again") from error


def _meant(error: Exception) -> StoreError:
    text = str(error)
    if GONE in text:
        return StoreUnavailable(
            "the ledger that this node opened is not there any more: the data was flushed or replaced, or "
            "this is another server; nothing was written. Bring it back, or start the node again"
        )
    if KNOWN in text:
        run_id = text.rpartition(" ")[2]
        return StoreError(f"a run {run_id} exists already, and a run id is given once; report this")
    if WRONG in text:
        return StoreUnsafe(f"somebody else writes to the keys of this ledger: {text}; give it a namespace")
    refused = isinstance(error, redis.exceptions.ReadOnlyError | redis.exceptions.OutOfMemoryError)
    if refused or any(f"{word} " in text for word in NOT_NOW):
        return StoreUnavailable(f"the server takes no writes for now: {text}; try again")
    return StoreError(f"the server does not understand: {text}; report this")


def _pool(address: Address) -> Any:
    options: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": CONNECT_S,
        "socket_keepalive": True,
        "decode_responses": True,
        "encoding_errors": "replace",  # one text broken by a hand must not hide its neighbours
        "protocol": 2,
        "client_name": "onebeat",
        # Whether a command may be sent again is not the library's to know.
        "retry": Retry(NoBackoff(), 0),
    }
    tls: dict[str, Any] = {}
    if address.tls:
        tls = {"ssl_ca_certs": address.ca, "ssl_certfile": address.cert, "ssl_keyfile": address.key}
    try:
        if address.service is not None:
            sentinel = _untyped.Sentinel(
                list(address.hosts),
                sentinel_kwargs={
                    "socket_timeout": CONNECT_S,
                    "username": address.sentinel_username,
                    "password": address.sentinel_password,
                    "ssl": address.tls,
                    **tls,
                },
            )
            options |= {"ssl": address.tls, **tls}
            return _untyped.SentinelConnectionPool(address.service, sentinel, **options)
        ((host, port),) = address.hosts
        if address.tls:
            options |= {"connection_class": SSLConnection, **tls}
        return ConnectionPool(host=host, port=port, **options)
    except (RedisError, OSError, ValueError) as error:
        raise InvalidInput(f"this address cannot be used: {error}") from error
