"""The one place that knows psycopg: how a connection is made and closed, and what its errors mean."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from onebeat.core.errors import MissingExtra, StoreError, StoreUnavailable
from onebeat.store.dialects.borrowing import of_the_driver, refuse, refuse_autocommit
from onebeat.store.dialects.repeating import Passing, Trouble

try:
    import psycopg
    from psycopg.pq import TransactionStatus
    from psycopg.types.numeric import Int8Dumper
except ImportError as error:
    raise MissingExtra(
        "a ledger on PostgreSQL needs psycopg, which is not here: pip install 'onebeat[postgres]'"
    ) from error

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.Cursor[tuple[Any, ...]]
DriverError = psycopg.Error

CONNECT_S = 10
PREPARED_MAX = 400

_ROLLED_BACK = ("40001", "40P01")
_TAKEN = ("23505",)
_BUSY = {
    "55P03": "another transaction held a row for too long; look who in pg_stat_activity",
    "57014": "a statement took too long",
}
_GONE_CLASSES = ("08", "57")
_GONE = ("25006", "26000", "0A000", "25P03")  # a replica now, or what was prepared is not there any more
_FULL_CLASS = "53"
_OURS = threading.local()


def connect(url: str, settings: Mapping[str, str]) -> Connection:
    """Open a connection on which nothing begins by itself, with these settings. Raises psycopg.Error."""
    db = opened(url)
    try:
        # One width for all numbers: else each new mixture of widths would be prepared anew.
        db.adapters.register_dumper(int, Int8Dumper)
        db.prepare_threshold = 2
        db.prepared_max = PREPARED_MAX
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        db.execute(f"SELECT {calls}".encode(), [text for pair in settings.items() for text in pair])
    except BaseException:
        db.close()
        raise
    return db


def opened(url: str, name: str = "onebeat") -> Connection:
    """Open a connection on which nothing begins by itself, as the server sets it up. Raises psycopg.Error."""
    return psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_S,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
        application_name=name,
        client_encoding="UTF8",
    )


def joinable(connection: object) -> Any:
    """Return a connection, of psycopg or on top of it, whose transaction we may write in, or InvalidInput."""
    db = of_the_driver(connection)
    inner = getattr(db, "driver_connection", None) or getattr(db, "_connection", None) or db
    if isinstance(db, psycopg.AsyncConnection):
        refuse(connection, "is asynchronous; SQLAlchemy's asynchronous engine on psycopg can be joined")
    if not isinstance(inner, psycopg.Connection | psycopg.AsyncConnection):
        refuse(connection, "is no connection of psycopg, by which this ledger is reached on PostgreSQL")
    if inner.autocommit and inner.info.transaction_status is TransactionStatus.IDLE:
        refuse_autocommit(connection)
    return db


def plain_cursor(db: Any) -> Cursor:
    """Return a cursor that gives rows as tuples, whatever the connection's owner likes."""
    if isinstance(db, psycopg.Connection):
        return db.cursor(row_factory=psycopg.rows.tuple_row)
    return db.cursor()  # type: ignore[no-any-return]  # SQLAlchemy's, which does the waiting, and gives tuples


def usable(db: Connection) -> bool:
    """Return whether a connection that came back may be lent again."""
    return not db.closed and db.info.transaction_status is TransactionStatus.IDLE


def _not_ours(record: logging.LogRecord) -> bool:
    return not getattr(_OURS, "on", False)


# What ends a pipeline is raised, and told in our words; that its end failed too is no news.
logging.getLogger("psycopg").addFilter(_not_ours)


@contextmanager
def pipeline(db: Connection) -> Iterator[Callable[[], object]]:
    """Send the statements within it together, as far as nobody waits; yield what waits for all answers.

    It waits by a Sync, after which the server takes the session for idle in its transaction, and begins to
    count. A Flush brings the rows as soon, but to the server the session then is at work, however long.
    """
    _OURS.on = True
    try:
        with db.pipeline() as sent:
            yield sent.sync
    finally:
        _OURS.on = False


def heard(db: Connection) -> bool:
    """Return whether anybody else's notification has come in; never waits. Raises psycopg.Error."""
    db.pgconn.consume_input()
    mine = db.info.backend_pid
    return bool([note for note in iter(db.pgconn.notifies, None) if note.be_pid != mine])


def hidden(url: str) -> str:
    """Return where a URL leads, without its secrets. Raises StoreError for one that leads nowhere."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise StoreError(f"libpq does not understand the URL: {error}") from error
    hosts = str(parts.get("host") or parts.get("hostaddr") or "localhost").split(",")
    ports = str(parts.get("port") or 5432).split(",")
    if len(ports) == 1:
        ports *= len(hosts)  # as libpq takes it: one port is for all
    places = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{places}/{parts.get('dbname', '')}"


def in_our_words(error: psycopg.Error, place: str) -> Exception:
    """Return what to raise for an error of the driver: Passing, or an error of the house."""
    code = error.sqlstate or ""
    what = " ".join(str(error).split())
    if code in _ROLLED_BACK:
        return Passing(Trouble.ROLLED_BACK, what)
    if code in _TAKEN:
        return Passing(Trouble.TAKEN, what)
    if code in _BUSY:
        return Passing(Trouble.BUSY, f"{_BUSY[code]} ({what})")
    lost = not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost or code in _GONE or code[:2] in _GONE_CLASSES:
        return Passing(Trouble.GONE, what)
    if code[:2] == _FULL_CLASS:
        return StoreUnavailable(f"{place} is full: {what}; nothing was changed, make room")
    if code[:2] == "28" or code == "3D000":
        return StoreUnavailable(f"{place} does not let us in: {what}; look at the URL's user and database")
    return StoreError(f"{place} refused a statement: {what}; report this")
