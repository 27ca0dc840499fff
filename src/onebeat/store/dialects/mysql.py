"""MariaDB 10.6 and later and MySQL 8, through PyMySQL: any number of nodes on any number of machines.

Writing is READ COMMITTED with rows locked before they are looked at, reading is one picture. The clock is the
server's. Nobody is woken from elsewhere: a node looks four times a second. docs/design/005-server-stores.md
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from onebeat.core.errors import OnebeatError, StoreUnavailable, StoreUnsafe
from onebeat.core.model import from_micros
from onebeat.core.ports import Clock
from onebeat.store.dialects import mysql_driver as driver
from onebeat.store.dialects.borrowing import refuse_isolation
from onebeat.store.dialects.mysql_driver import Connection
from onebeat.store.dialects.mysql_joint import MysqlJoint
from onebeat.store.dialects.mysql_session import CLOCK, MysqlSession, ReadingSession
from onebeat.store.dialects.pool import Pool
from onebeat.store.dialects.protocol import Cell, Joint, Row, Session, T
from onebeat.store.dialects.repeating import repeated
from onebeat.store.waking import ServerClock, Waiting

PERIOD = timedelta(milliseconds=250)
SETTINGS: dict[str, str | int] = {
    # How the common form is read, and that nothing is cut short or guessed.
    "sql_mode": "ANSI_QUOTES,PIPES_AS_CONCAT,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION",
    "time_zone": "+00:00",
    "innodb_lock_wait_timeout": 10,
}
OF_MARIADB = {"idle_transaction_timeout": 5}
"""Seconds. Less than others wait for a row: a node that stands still within a transaction loses it first."""
ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL"
WRITING, READING = "START TRANSACTION", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
ABOUT = "SELECT version(), @@innodb_flush_log_at_trx_commit, @@global.sync_binlog, @@log_bin, @@read_only"
LEVELS = "SHOW SESSION VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')"
OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0)}
NEWEST = """SELECT (SELECT max(seq) FROM onebeat_runs), (SELECT max(id) FROM onebeat_changes),
    (SELECT max(id) FROM onebeat_events), (SELECT max(id) FROM onebeat_holds),
    (SELECT max(id) FROM onebeat_inbox), (SELECT count(*) FROM onebeat_groups AS g
        JOIN onebeat_runs AS r ON r.id = g.run_id WHERE (r.state || '') IN ('sent', 'running'))"""

BESIDE = """SELECT table_schema FROM information_schema.tables
    WHERE table_name = 'onebeat_nodes' AND table_schema <> database()
    ORDER BY create_time DESC, table_schema LIMIT 100"""


class Mysql:
    """The dialect of one database. Thread-safe, and safe across fork.

    ``clock`` is this machine's. Nothing is judged by it, unless ``own_clock`` is False: then it stands for
    the server's, so that a play can set the time.
    """

    kind = "mysql"
    alone = False

    def __init__(self, url: str, clock: Clock, *, own_clock: bool = True) -> None:
        self._url = url
        self._place = driver.hidden(url)
        self._given = None if own_clock else clock.now
        self._clock = ServerClock(clock)
        # Two pools, because the isolation belongs to a connection here; each has half of the connections.
        self._writers = self._pool("READ COMMITTED")
        self._readers = self._pool("REPEATABLE READ")
        try:
            self._about = self._looked_at()
        except BaseException:
            self.close_connections()
            raise
        self._newest: Row | None = None
        self._waiting = Waiting(self._clock, self._look, PERIOD)

    def _pool(self, isolation: str) -> Pool[Connection]:
        return Pool(partial(self._connect, isolation), lambda db: db.close(), driver.usable, size=4)

    def _connect(self, isolation: str) -> Connection:
        db = driver.connect(self._url, SETTINGS, OF_MARIADB)
        with db.cursor() as cursor:
            cursor.execute(f"{ISOLATION} {isolation}")
        return db

    def _looked_at(self) -> Row:
        """Return what the server says of itself; refuse one that cannot keep the promise."""
        about = self.read(lambda session: session.rows(ABOUT)[0])
        refuse_old(str(about[0]), self._place)
        if about[4]:
            raise StoreUnavailable(
                f"{self._place} is a replica, where nothing can be written; name the primary"
            )
        return about

    def adopt(self) -> None:
        """Do nothing: any number of machines may use it."""

    def now(self) -> datetime:
        if self._given is not None:
            return self._given()
        return self._clock.measured(lambda: from_micros(self.look(CLOCK)[0][0]))

    # --- transactions ---

    def write(self, work: Callable[[Session], T]) -> T:
        return self._repeated(self._writers, WRITING, MysqlSession, work)

    def read(self, work: Callable[[Session], T]) -> T:
        return self._repeated(self._readers, READING, ReadingSession, work)

    def look(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        def ask() -> list[Row]:
            with self._lent(self._readers) as db:
                return ReadingSession(db).rows(sql, args)

        return repeated(ask, self._place, self._readers.forget)

    def _repeated(
        self, pool: Pool[Connection], begin: str, kind: type[MysqlSession], work: Callable[[Session], T]
    ) -> T:
        def transact() -> T:
            with self._lent(pool) as db:
                return _transact(db, begin, kind(db, self._given), work)

        return repeated(transact, self._place, pool.forget)

    @contextmanager
    def _lent(self, pool: Pool[Connection]) -> Iterator[Connection]:
        """Lend a connection; what the driver raises meanwhile is raised in our words."""
        try:
            with pool.lent() as db:
                yield db
        except driver.DriverError as error:
            raise driver.in_our_words(error, self._place) from error

    # --- transactions shared with others ---

    @contextmanager
    def lend(self) -> Iterator[Joint]:
        try:
            db = driver.opened(self._url)
        except driver.DriverError as error:
            raise StoreUnavailable(f"{self._place} gives no connection to a body: {error}") from error
        with closing(db):
            joint = self._joint(db)
            joint.run(f"{ISOLATION} READ COMMITTED")
            joint.run(WRITING)
            yield joint

    def join(self, connection: object) -> Joint:
        joint = self._joint(driver.joinable(connection))
        with joint.ours() as session:
            levels = {level for _, level in session.rows(LEVELS)}
        if levels != {"READ-COMMITTED"}:
            refuse_isolation(connection, ", ".join(sorted(levels)))
        return joint

    def _joint(self, connection: object) -> MysqlJoint:
        return MysqlJoint(connection, self._place, SETTINGS, self._given)

    # --- waiting ---

    def changed(self) -> None:
        self._waiting.changed()

    def wake(self) -> None:
        self._waiting.changed()

    def wait(self, until: datetime | None) -> bool:
        return self._waiting.wait(until)

    def _look(self) -> bool:
        """Return whether anything was added since the last look, or a group was freed."""
        try:
            newest = self.look(NEWEST)[0]
        except OnebeatError:
            return False  # whoever works next meets the error
        before, self._newest = self._newest, newest
        return before not in (None, newest)

    # --- the whole ---

    def facts(self) -> dict[str, str]:
        version, flush, sync, binlog, _ = self._about
        lossy = [f"innodb_flush_log_at_trx_commit={flush}"] if flush != 1 else []
        lossy += [f"sync_binlog={sync}"] if binlog and sync != 1 else []
        return {
            "kind": self.kind,
            "place": self._place,
            "durability": f"{', '.join(lossy)}: what was acknowledged may be lost in a crash, and fire again"
            if lossy
            else "what was acknowledged survives a crash of the server; a fail-over keeps it only with a "
            "replica that acknowledges first (semi-sync)",
            "verdict": "safe for many machines, while one server takes all writes",
            "server": str(version),
        }

    def beside(self) -> list[str]:
        return [str(name) for (name,) in self.look(BESIDE)]

    def close(self) -> None:
        self.close_connections()
        self.wake()

    def close_connections(self) -> None:
        """Close both pools. Safe to repeat."""
        self._writers.close()
        self._readers.close()


def refuse_old(version: str, place: str) -> None:
    """Raise StoreUnsafe for a server that lacks what is needed; ``version`` is what it says of itself."""
    name = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    numbers = re.findall(r"\d+", version.removeprefix("5.5.5-"))  # what MariaDB puts before its own, at times
    if tuple(map(int, numbers[:2])) < OLDEST[name]:
        raise StoreUnsafe(
            f"{place} is {name} {version}; onebeat needs MariaDB 10.6 or MySQL 8.0, or "
            "later: before them no reader could pass over a row that is held"
        )


def _transact(db: Connection, begin: str, session: MysqlSession, work: Callable[[Session], T]) -> T:
    """Do ``work`` in one transaction: committed as a whole, or rolled back whatever happened."""
    run = partial(MysqlSession.rows, session)
    try:
        run(begin)
        done = work(session)
        run("COMMIT")
    except BaseException:
        with suppress(driver.DriverError):
            db.rollback()
        raise
    finally:
        if session.named:
            with suppress(driver.DriverError):
                run("DO RELEASE_ALL_LOCKS()")
    return done
