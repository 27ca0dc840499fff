"""PostgreSQL 13 and later, through psycopg: any number of nodes on any number of machines.

Writing is READ COMMITTED with rows locked before they are looked at, reading is one picture. The clock is the
server's. Isolation, locks, pool, wake-ups and what dies where: docs/design/005-server-stores.md.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from onebeat.core.errors import InvalidInput, OnebeatError, StoreUnavailable, StoreUnsafe, shown
from onebeat.core.model import from_micros
from onebeat.core.ports import Clock
from onebeat.store.dialects import postgres_driver as driver
from onebeat.store.dialects.borrowing import refuse_isolation
from onebeat.store.dialects.pool import Pool
from onebeat.store.dialects.postgres_driver import Connection
from onebeat.store.dialects.postgres_joint import PostgresJoint
from onebeat.store.dialects.postgres_session import CLOCK, PostgresSession, ReadingSession
from onebeat.store.dialects.postgres_waking import Listener
from onebeat.store.dialects.protocol import Cell, Joint, Row, Session, T
from onebeat.store.dialects.repeating import Passing, repeated
from onebeat.store.waking import ServerClock, Waiting

OLDEST = 130_000
PLANNING = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off"),
}
"""Every statement of ours has an index that serves it, whatever the server believes of a ledger that it has
not analyzed yet: while a table was small, it would plan to read all of it, and keep to that as it grows."""

SETTINGS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    # Less than others wait for a row: a node that stands still within a transaction loses it first.
    "idle_in_transaction_session_timeout": "5s",
    **PLANNING,
}
READING, WRITING = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", b"BEGIN ISOLATION LEVEL READ COMMITTED"
PERIOD = timedelta(minutes=1)
ABOUT = """SELECT current_setting('server_version_num')::bigint, current_setting('server_version'),
    current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync'),
    current_setting('full_page_writes'), current_setting('synchronous_standby_names'),
    pg_is_in_recovery()::int, current_schema()"""

BESIDE = """SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relname = 'onebeat_nodes' AND n.nspname <> current_schema()
    AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY c.oid DESC LIMIT 100"""


class Postgres:
    """The dialect of one schema of one database. Thread-safe, and safe across fork.

    ``clock`` is this machine's. Nothing is judged by it, unless ``own_clock`` is False: then it stands for
    the server's, so that a play can set the time.
    """

    kind = "postgres"
    alone = False

    def __init__(self, url: str, clock: Clock, *, own_clock: bool = True) -> None:
        self._url, schema = _parted(url)
        self._place = driver.hidden(self._url)
        names = {"search_path": f'"{schema}"', "application_name": f"onebeat {schema}"} if schema else {}
        self._settings = SETTINGS | names
        self._given = None if own_clock else clock.now
        self._clock = ServerClock(clock)
        self._pool: Pool[Connection] = Pool(self._connect, Connection.close, driver.usable)
        self._gates = 0
        try:
            self._about = self._looked_at(schema)
        except BaseException:
            self._pool.close()
            raise
        self._schema = schema = schema or str(self._about[8])
        self._place = f"{self._place}?schema={schema}"
        self._gates = zlib.crc32(f"onebeat.{schema}".encode()) << 8
        self._waiting = Waiting(self._clock, lambda: False, PERIOD)
        self._listener = Listener(self._connect, f"onebeat.{schema}"[:63], self._waiting.changed)

    def _connect(self) -> Connection:
        return driver.connect(self._url, self._settings)

    def _looked_at(self, schema: str) -> tuple[object, ...]:
        """Return what the server says of itself; refuse one that cannot keep the promise."""

        def look(session: Session) -> tuple[object, ...]:
            if schema:
                session.run(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            return session.rows(ABOUT)[0]

        about = self._transacted(READING, ReadingSession, lambda session: session.rows(ABOUT)[0])
        version, name, encoding, recovering = about[0], about[1], about[2], about[7]
        if version < OLDEST:
            raise StoreUnsafe(f"{self._place} is PostgreSQL {name}; onebeat needs 13 or later")
        if encoding != "UTF8":
            raise StoreUnsafe(
                f"{self._place} has the encoding {encoding}, which cannot hold every text; create the "
                "database with ENCODING 'UTF8'"
            )
        if recovering:
            raise StoreUnavailable(
                f"{self._place} is a replica, where nothing can be written; name the primary"
            )
        if about[8] is None:
            return self._transacted(WRITING, PostgresSession, look)
        return about

    def adopt(self) -> None:
        """Do nothing: any number of machines may use it."""

    def now(self) -> datetime:
        if self._given is not None:
            return self._given()
        return self._clock.measured(lambda: from_micros(self.look(CLOCK)[0][0]))

    # --- transactions ---

    def write(self, work: Callable[[Session], T]) -> T:
        return self._transacted(WRITING, PostgresSession, work)

    def read(self, work: Callable[[Session], T]) -> T:
        return self._transacted(READING, ReadingSession, work)

    def look(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        def ask() -> list[Row]:
            with self._lent() as db:
                return ReadingSession(db, self._gates).rows(sql, args)

        return repeated(ask, self._place, self._pool.forget)

    def _transacted(self, begin: bytes, kind: type[PostgresSession], work: Callable[[Session], T]) -> T:
        def transact() -> T:
            with self._lent() as db:
                try:
                    with driver.pipeline(db) as answered:
                        db.execute(begin)
                        done = work(kind(db, self._gates, self._given, answered))
                        db.execute(b"COMMIT")
                except BaseException:
                    with suppress(driver.DriverError):
                        db.rollback()
                    raise
                return done

        return repeated(transact, self._place, self._pool.forget)

    @contextmanager
    def _lent(self) -> Iterator[Connection]:
        """Lend a connection; what the driver raises meanwhile is raised in our words."""
        try:
            with self._pool.lent() as db:
                yield db
        except driver.DriverError as error:
            raise driver.in_our_words(error, self._place) from error

    # --- transactions shared with others ---

    @contextmanager
    def lend(self) -> Iterator[Joint]:
        try:
            db = driver.opened(self._url, f"onebeat {self._schema}"[:63])
        except driver.DriverError as error:
            raise StoreUnavailable(f"{self._place} gives no connection to a body: {error}") from error
        with closing(db):
            joint = self._joint(db)
            joint.run(WRITING.decode())
            yield joint

    def join(self, connection: object) -> Joint:
        joint = self._joint(driver.joinable(connection))
        with joint.ours() as session:
            ((level,),) = session.rows("SELECT current_setting('transaction_isolation')")
        if level != "read committed":
            refuse_isolation(connection, level)
        return joint

    def _joint(self, connection: object) -> PostgresJoint:
        return PostgresJoint(connection, self._place, self._schema, self._gates, self._given)

    # --- waiting ---

    def changed(self) -> None:
        self._waiting.changed()
        if self._listener.listens:
            self._listener.tell()
            return
        with suppress(OnebeatError, Passing), self._lent() as db:  # what was done stays done, heard of or not
            self._listener.say(db)

    def wake(self) -> None:
        self._waiting.changed()

    def wait(self, until: datetime | None) -> bool:
        self._listener.begin()
        return self._waiting.wait(until)

    # --- the whole ---

    def facts(self) -> dict[str, str]:
        _, version, _, commit, fsync, full_pages, standbys, _, _ = self._about
        lossy = [
            f"{name}={value}"
            for name, value in (
                ("synchronous_commit", commit),
                ("fsync", fsync),
                ("full_page_writes", full_pages),
            )
            if value == "off"
        ]
        kept = "as synchronous_standby_names says" if standbys else "not: no synchronous standby is named"
        return {
            "kind": self.kind,
            "place": self._place,
            "durability": f"{', '.join(lossy)}: what was acknowledged may be lost in a crash, and fire again"
            if lossy
            else f"what was acknowledged survives a crash of the server, and a fail-over {kept}",
            "verdict": "safe for many machines",
            "postgres": str(version),
        }

    def beside(self) -> list[str]:
        return [str(name) for (name,) in self.look(BESIDE)]

    def close(self) -> None:
        self._listener.close()
        self._pool.close()
        self.wake()


def _parted(url: str) -> tuple[str, str]:
    """Return a URL for libpq, and the schema that it names beside; "" for the one that the server takes."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    schema = "".join(value for name, value in pairs if name == "schema")
    if schema and not (schema.replace("_", "a").isalnum() and schema.isascii() and len(schema) <= 40):
        raise InvalidInput(f"schema={shown(schema)} is no name of at most 40 letters, digits and underscores")
    rest = urlencode([(name, value) for name, value in pairs if name != "schema"])
    return urlunsplit(("postgresql", parts.netloc, parts.path, rest, "")), schema
