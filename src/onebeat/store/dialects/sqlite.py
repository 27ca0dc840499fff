"""SQLite, through apsw: one file, any number of processes on one machine.

Every writing verb is one BEGIN IMMEDIATE … COMMIT with synchronous=FULL; reading has a picture of its own and
waits for nobody. Locking, journal, clock, kernel and fork: docs/design/002-sqlite.md.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import apsw

from onebeat.core.errors import StoreError, StoreUnavailable, StoreUnsafe
from onebeat.core.model import from_micros, instant_text, micros
from onebeat.core.ports import Clock
from onebeat.store.dialects import sqlite_connections, sqlite_file
from onebeat.store.dialects.borrowing import of_the_driver, refuse, refuse_autocommit
from onebeat.store.dialects.protocol import Cell, Joint, Row, Session, T
from onebeat.store.dialects.sqlite_connections import Connections
from onebeat.store.dialects.sqlite_joint import SqliteJoint
from onebeat.store.dialects.sqlite_session import SqliteSession
from onebeat.store.waking import Waiting

ATTEMPTS = 3

WRITES = "UPDATE onebeat_meta SET value = value WHERE FALSE"
BOOT_ID = "SELECT value FROM onebeat_meta WHERE name = 'boot_id'"
BOOT_ID_SET = "INSERT OR REPLACE INTO onebeat_meta (name, value) VALUES ('boot_id', ?)"
ALIVE = "SELECT id, host, alive_until FROM onebeat_nodes WHERE alive_until > ? ORDER BY alive_until DESC"

_PASSING = (apsw.BusyError, apsw.LockedError, apsw.ProtocolError, apsw.SchemaChangeError, apsw.IOError)
_UNAVAILABLE: dict[type[apsw.Error], str] = {
    apsw.FullError: "the disk is full; make room, nothing was lost",
    apsw.CantOpenError: "the file cannot be opened; look whether its folder exists and may be written to",
    apsw.ReadOnlyError: "the file may not be written by this user; mind the -wal and -shm files beside it",
    apsw.PermissionsError: "the file may not be used by this user",
}


class Sqlite:
    """The dialect of one file. Thread-safe, and safe across fork."""

    kind = "sqlite"
    alone = True

    def __init__(self, path: Path, clock: Clock) -> None:
        sqlite_file.refuse_foreign(path.absolute().parent)
        self._path = path
        self._clock = clock
        self._connections = Connections(path)
        self._waiting = Waiting(clock, self._connections.look)
        try:
            opened = self._connections.open()
            if not opened:
                raise self._unavailable()
        except apsw.Error as error:
            self._connections.close()
            raise self._unavailable() from self._passing(error)
        except StoreError:
            self._connections.close()
            raise

    def now(self) -> datetime:
        return self._clock.now()

    # --- transactions ---

    def write(self, work: Callable[[Session], T]) -> T:
        def transact() -> T:
            with self._connections.writing() as db:
                session = SqliteSession(db, self._clock)
                return _transact(db, "BEGIN IMMEDIATE", session, work, self._connections.refuse_other_file)

        return self._repeated(transact)

    def read(self, work: Callable[[Session], T]) -> T:
        def transact() -> T:
            with self._connections.reading() as db:
                return _transact(db, "BEGIN", SqliteSession(db, self._clock), work)

        return self._repeated(transact)

    def look(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        return self.read(lambda session: session.rows(sql, args))

    def _repeated(self, transact: Callable[[], T]) -> T:
        """Do a whole transaction again after an error that may pass."""
        failed: apsw.Error | None = None
        for _ in range(ATTEMPTS):
            try:
                return transact()
            except apsw.Error as error:
                failed = self._passing(error)
        raise self._unavailable() from failed

    # --- transactions shared with others ---

    @contextmanager
    def lend(self) -> Iterator[Joint]:
        with self._words(), self._connections.apart() as db:
            joint = SqliteJoint(db, self._clock, self._words)
            joint.run("BEGIN IMMEDIATE")
            self._connections.refuse_other_file()
            yield joint

    def join(self, connection: object) -> Joint:
        db = of_the_driver(connection)
        if isinstance(db, sqlite3.Connection):
            refuse(
                connection,
                "brings a SQLite library of its own into this process, and two of them do not see each "
                "other's locks, so that the file could be damaged; open it with apsw.Connection",
            )
        if not isinstance(db, apsw.Connection):
            refuse(connection, "is no connection of apsw, by which this ledger is reached")
        if not db.in_transaction:
            refuse_autocommit(connection)
        if not db.filename or not Path(db.filename).samefile(self._path):
            refuse(connection, f"is open on {db.filename or 'no file'}, and the ledger is {self._path}")
        joint = SqliteJoint(db, self._clock, self._words)
        joint.run(WRITES)  # now: what is read before the lock is there may be old when it comes
        return joint

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise self._unavailable() from self._passing(error)

    # --- waiting ---

    def changed(self) -> None:
        self._waiting.changed()

    def wake(self) -> None:
        self._waiting.changed()

    def wait(self, until: datetime | None) -> bool:
        return self._waiting.wait(until)

    # --- the file ---

    def adopt(self) -> None:
        """Write down which kernel uses the file; raise StoreUnsafe while nodes of another one are alive."""
        mine = sqlite_file.boot_id()

        def strange(session: Session) -> bool:
            return session.has_table("onebeat_nodes") and session.row(BOOT_ID) != (mine,)

        def work(session: Session) -> None:
            recorded = session.row(BOOT_ID)
            alive = session.row(ALIVE, (micros(self._clock.now()),))
            if recorded not in (None, (mine,)) and alive is not None:
                raise StoreUnsafe(
                    f"{self._path} is in use under another kernel: node {alive[0]} on {alive[1]} is "
                    f"announced until {instant_text(from_micros(alive[2]))}, and SQLite's clock and locks "
                    "hold under one kernel only; stop those nodes; after a crash, wait until that lapses"
                )
            session.run(BOOT_ID_SET, (mine,))

        if mine and self.read(strange):
            self.write(work)

    def facts(self) -> dict[str, str]:
        memory = sqlite_file.IN_MEMORY.get(sqlite_file.file_system(self._path.absolute().parent))
        mode = self.read(lambda session: session.rows("PRAGMA journal_mode"))[0][0]
        version = apsw.sqlite_lib_version()
        durability = (
            "synchronous=FULL: what was acknowledged survives a crash and a power cut, if the disk keeps"
        )
        return {
            "kind": self.kind,
            "place": str(self._path.absolute()),
            "durability": f"none: {memory} lives in memory"
            if memory
            else f"{durability} what it says it wrote",
            "verdict": "safe for many processes of one machine"
            if self._connections.fixed or mode != "wal"
            else f"SQLite {version} can corrupt a shared write-ahead log: install the apsw from PyPI",
            "sqlite": version,
            "journal": str(mode),
            "boot_id": sqlite_file.boot_id(),
        }

    def beside(self) -> list[str]:
        return []  # another file is out of sight

    def close(self) -> None:
        self._connections.close()
        self.changed()

    # --- errors ---

    def _passing(self, error: apsw.Error) -> apsw.Error:
        """Return an error that may be gone the next time; raise any other in the words of the house."""
        if isinstance(error, _PASSING):
            return error
        for kind, what in _UNAVAILABLE.items():
            if isinstance(error, kind):
                raise StoreUnavailable(f"{self._path}: {what} ({error})") from error
        if isinstance(error, apsw.CorruptError | apsw.NotADBError):
            raise StoreError(
                f"{self._path} is no intact SQLite database ({error}); nothing was changed: keep the file "
                "and its -wal file, and restore a backup beside it"
            ) from error
        raise StoreError(f"{self._path} refused a statement: {error}; report this") from error

    def _unavailable(self) -> StoreUnavailable:
        seconds = ATTEMPTS * sqlite_connections.BUSY_NAPS_MAX * sqlite_connections.BUSY_NAP_S
        return StoreUnavailable(
            f"{self._path} could not be used for {seconds:.0f} s: another process holds its lock, or the "
            "disk fails; nothing was changed, try again"
        )


def _transact(
    db: apsw.Connection,
    begin: str,
    session: SqliteSession,
    work: Callable[[Session], T],
    check: Callable[[], None] | None = None,
) -> T:
    """Do ``work`` in one transaction: committed as a whole, or rolled back whatever happened."""
    try:
        db.execute(begin)
        if check is not None:
            check()
        done = work(session)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(apsw.Error):
                db.execute("ROLLBACK")
        raise
    return done
