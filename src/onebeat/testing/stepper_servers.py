"""The servers of the stepper: a ledger of its own on each, whose connections stop before every statement.

What stops is the driver's connection, which the dialect is handed; the store and the dialect are the real
ones. A pipeline of PostgreSQL is taken apart: its statements are the same, one after the other, and others
may come in between, as they may where the server is slow.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from onebeat.core.errors import InvalidInput
from onebeat.core.ports import Clock
from onebeat.store import migrations
from onebeat.store.dialects import mysql_driver, postgres_driver
from onebeat.store.dialects.mysql import Mysql
from onebeat.store.dialects.postgres import Postgres
from onebeat.store.dialects.protocol import Dialect, Session
from onebeat.store.dialects.repeating import Trouble
from onebeat.store.sql import SqlStore

T = TypeVar("T")

KEPT = ("onebeat_meta", "onebeat_steps")
TABLES = """SELECT table_name FROM information_schema.tables
    WHERE table_schema = {here} AND table_type = 'BASE TABLE' ORDER BY table_name"""
META = "SELECT name, value FROM onebeat_meta"
META_SET = "UPDATE onebeat_meta SET value = ? WHERE name = ?"
WAITING = "SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
RAISED = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{}'; END $$"
SIGNALLED = "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {}, MESSAGE_TEXT = 'on purpose'"
DEADLOCK = ("40P01", 1213)
"""What PostgreSQL calls it, and MySQL."""
THREAD = re.compile(r"thread id (\d+)")


class Hooks(Protocol):
    """Who is asked before each statement, and told of each transaction."""

    def statement(self, db: "Stepped", sql: str, run: Callable[[], T]) -> T:
        """Return what a statement returns, when it is its turn."""

    def noting(self, work: Callable[[Session], T]) -> Callable[[Session], T]:
        """Return the work of a transaction, which leaves word of what it returns."""


class Unasked:
    """Hooks for whoever only looks on: nothing stops."""

    def statement(self, db: "Stepped", sql: str, run: Callable[[], T]) -> T:
        """Run it."""
        return run()

    def noting(self, work: Callable[[Session], T]) -> Callable[[Session], T]:
        """Return the work as it is."""
        return work


class Stepped(ABC):
    """A driver's connection that stops before each statement.

    Closed, it leaves the driver's connection among the ``spare`` ones, if it is of use: most of the time of a
    small world would else go into connecting.
    """

    def __init__(self, db: Any, backend: int, hooks: Hooks, spare: list[Any]) -> None:
        self._db = db
        self.backend = backend  # what the server calls it
        self._hooks = hooks
        self._spare = spare

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def rollback(self) -> None:
        """Roll back, when it is its turn."""
        self._hooks.statement(self, "ROLLBACK", self._db.rollback)

    def close(self) -> None:
        """Be of use to the next one, or end."""
        if self._usable():
            self._spare.append(self._db)
        else:
            self._db.close()

    @abstractmethod
    def fail(self, trouble: Trouble) -> None:
        """Have the server raise what it raises in such a trouble; of a lost connection nothing is left."""

    @abstractmethod
    def in_a_circle(self, error: Exception) -> bool:
        """Return whether an error says that transactions waited for each other, and this one was ended."""

    @abstractmethod
    def _usable(self) -> bool: ...


class SteppedPostgresConnection(Stepped):
    """A connection of psycopg."""

    def execute(self, sql: bytes, args: Sequence[object] | None = None) -> Any:
        """Run a statement, when it is its turn."""
        return self._hooks.statement(self, sql.decode(), lambda: self._db.execute(sql, args))

    def pipeline(self) -> "AbstractContextManager[SteppedPostgresConnection]":
        """Send nothing together."""
        return nullcontext(self)

    def sync(self) -> None:
        """Wait for nothing: each statement was answered when it was made."""

    def fail(self, trouble: Trouble) -> None:
        """Have the server raise it."""
        if trouble is Trouble.GONE:
            self._db.rollback()  # the server does it in any case, but tells nobody when
            self._db.execute(b"SELECT pg_terminate_backend(pg_backend_pid())")
        codes = {Trouble.ROLLED_BACK: DEADLOCK[0], Trouble.BUSY: "55P03"}
        self._db.execute(RAISED.format(codes[trouble]).encode())

    def in_a_circle(self, error: Exception) -> bool:
        """Return whether an error is that of a deadlock."""
        return getattr(error, "sqlstate", "") == DEADLOCK[0]

    def _usable(self) -> bool:
        return postgres_driver.usable(self._db)


class SteppedMysqlConnection(Stepped):
    """A connection of PyMySQL."""

    def cursor(self) -> "SteppedMysqlCursor":
        """Return a cursor that stops, too."""
        return SteppedMysqlCursor(self, self._db.cursor(), self._hooks)

    def fail(self, trouble: Trouble) -> None:
        """Have the server raise it."""
        # Of a lock that was not had in time the server takes back one statement only.
        if trouble is not Trouble.BUSY:
            self._db.rollback()
        with self._db.cursor() as cursor:
            if trouble is Trouble.GONE:
                cursor.execute("KILL CONNECTION CONNECTION_ID()")
            codes = {Trouble.ROLLED_BACK: DEADLOCK[1], Trouble.BUSY: 1205}
            cursor.execute(SIGNALLED.format(codes[trouble]))

    def in_a_circle(self, error: Exception) -> bool:
        """Return whether an error is that of a deadlock."""
        return error.args[:1] == DEADLOCK[1:]

    def _usable(self) -> bool:
        return mysql_driver.usable(self._db)


class SteppedMysqlCursor:
    """A cursor of PyMySQL."""

    def __init__(self, db: SteppedMysqlConnection, cursor: Any, hooks: Hooks) -> None:
        self._db = db
        self._cursor = cursor
        self._hooks = hooks

    def __enter__(self) -> "SteppedMysqlCursor":
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, args: Sequence[object] | None = None) -> Any:
        """Run a statement, when it is its turn."""
        return self._hooks.statement(self._db, sql, lambda: self._cursor.execute(sql, args))


class SteppedPostgres(Postgres):
    """The dialect of PostgreSQL, on connections that stop. Nobody is told of changes: hints are lost."""

    def __init__(self, url: str, clock: Clock, hooks: Hooks, spare: list[Any]) -> None:
        self._hooks, self._spare = hooks, spare
        super().__init__(url, clock, own_clock=False)

    def _connect(self) -> Any:
        db = self._spare.pop() if self._spare else super()._connect()
        return SteppedPostgresConnection(db, int(db.info.backend_pid), self._hooks, self._spare)

    def write(self, work: Callable[[Session], T]) -> T:
        """Commit ``work``, and leave word of what it returns."""
        return super().write(self._hooks.noting(work))

    def changed(self) -> None:
        """Tell nobody."""


class SteppedMysql(Mysql):
    """The dialect of MySQL and MariaDB, on connections that stop."""

    def __init__(self, url: str, clock: Clock, hooks: Hooks, spare: dict[str, list[Any]]) -> None:
        self._hooks, self._spare = hooks, spare
        super().__init__(url, clock, own_clock=False)

    def _connect(self, isolation: str) -> Any:
        spare = self._spare.setdefault(isolation, [])
        db = spare.pop() if spare else super()._connect(isolation)
        return SteppedMysqlConnection(db, int(db.thread_id()), self._hooks, spare)

    def write(self, work: Callable[[Session], T]) -> T:
        """Commit ``work``, and leave word of what it returns."""
        return super().write(self._hooks.noting(work))

    def changed(self) -> None:
        """Tell nobody."""


class Server(ABC):
    """A ledger on a server, made for the stepper and removed at the end."""

    here: str

    def __init__(self) -> None:
        self._tables: list[str] = []
        self._meta: list[Any] = []

    @abstractmethod
    def dialect(self, clock: Clock, hooks: Hooks) -> Dialect:
        """Return what speaks with the ledger, on connections of its own."""

    @abstractmethod
    def waits(self, backends: Collection[int]) -> set[int]:
        """Return those of some connections that wait for a lock."""

    @abstractmethod
    def close(self) -> None:
        """Remove the ledger."""

    def emptied(self, clock: Clock) -> SqlStore:
        """Open the ledger, empty as on its first day, for whoever only looks on."""
        dialect = self.dialect(clock, Unasked())
        if not self._tables:
            migrations.migrate(dialect)
            found = dialect.look(TABLES.format(here=self.here))
            self._tables = [name for (name,) in found if name.startswith("onebeat_") and name not in KEPT]
            self._meta = dialect.look(META)
        dialect.write(self._empty)
        return SqlStore(dialect)

    def _empty(self, session: Session) -> None:
        for name in self._tables:
            session.run(f"DELETE FROM {name}")  # noqa: S608 - tables of ours, as the server names them
        for name, value in self._meta:
            session.run(META_SET, (value, name))


class PostgresServer(Server):
    """A schema of its own on PostgreSQL."""

    here = "current_schema()"

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        parts = urlsplit(url)
        pairs = [(key, value) for key, value in parse_qsl(parts.query) if key != "schema"]
        self._url = urlunsplit(parts._replace(query=urlencode([*pairs, ("schema", name)])))
        self._name = name
        self._spare: list[Any] = []
        self._onlooker = postgres_driver.opened(urlunsplit(parts._replace(query=urlencode(pairs))))

    def dialect(self, clock: Clock, hooks: Hooks) -> Dialect:
        """Return what speaks with the ledger, on connections of its own."""
        return SteppedPostgres(self._url, clock, hooks, self._spare)

    def waits(self, backends: Collection[int]) -> set[int]:
        """Return those of some connections that wait for a lock."""
        return {pid for (pid,) in self._onlooker.execute(WAITING, ([*backends],)).fetchall()}

    def close(self) -> None:
        """Remove the ledger."""
        for db in self._spare:
            db.close()
        self._onlooker.execute(f'DROP SCHEMA IF EXISTS "{self._name}" CASCADE'.encode())
        self._onlooker.close()


class MysqlServer(Server):
    """A database of its own on MySQL or MariaDB."""

    here = "database()"

    def __init__(self, url: str, name: str) -> None:
        super().__init__()
        self._url = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        self._name = name
        self._spare: dict[str, list[Any]] = {}
        self._onlooker = mysql_driver.opened(url)
        self._told(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")

    def dialect(self, clock: Clock, hooks: Hooks) -> Dialect:
        """Return what speaks with the ledger, on connections of its own."""
        return SteppedMysql(self._url, clock, hooks, self._spare)

    def waits(self, backends: Collection[int]) -> set[int]:
        """Return those of some connections that wait for a lock."""
        # The tables of information_schema are a picture that may be a tenth of a second old; this is not.
        told = self._told("SHOW ENGINE INNODB STATUS")[0][2]
        waiting = (part for part in told.split("---TRANSACTION ")[1:] if "LOCK WAIT" in part)
        found = (THREAD.search(part) for part in waiting)
        return {int(each[1]) for each in found if each is not None} & set(backends)

    def _told(self, sql: str) -> Any:
        with self._onlooker.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def close(self) -> None:
        """Remove the ledger."""
        for db in (db for spare in self._spare.values() for db in spare):
            db.close()
        self._told(f"DROP DATABASE IF EXISTS `{self._name}`")
        self._onlooker.close()


SERVERS: dict[str, type[PostgresServer] | type[MysqlServer]] = {
    "postgresql": PostgresServer,
    "postgres": PostgresServer,
    "mysql": MysqlServer,
    "mariadb": MysqlServer,
}


@contextmanager
def server_at(url: str, name: str) -> Iterator[Server]:
    """Yield a ledger of this name on the server of a URL; it is removed again."""
    kind = SERVERS.get(urlsplit(url).scheme)
    if kind is None:
        raise InvalidInput(f"the stepper steps through {', '.join(SERVERS)}:// servers, and not {url}")
    server = kind(url, name)
    try:
        yield server
    finally:
        server.close()
