"""The connections of one process to one SQLite file: one that writes, under a lock, and a few that read.

SQLite's locks do not travel into a child of fork, and a child that closes what it inherited may delete the
parent's log. So every connection is closed before a fork, and parent and child open their own when they need
one.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from onebeat.core.errors import StoreError, StoreUnsafe
from onebeat.store.dialects import sqlite_file

BUSY_NAP_S = 0.0003
BUSY_NAPS_MAX = 33_333
"""One wait for another process's transaction: 10 s in naps of equal length, so that who came late has no
better chance than who waits longest, as it has with SQLite's own growing ones. The nap is shorter than the
gap that a busy neighbour leaves between two transactions: a longer one sleeps through gap after gap."""

READERS_KEPT = 4
CHECKPOINT_PAGES = 4000
CACHE_KIB = 4096


class Connections:
    """Opens, lends and closes. Thread-safe. ``fixed`` says whether this SQLite can share a WAL file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fixed = sqlite_file.fixed(apsw.sqlite_lib_version())
        self._closed = False
        self._identity: tuple[int, int] | None = None  # of the file; None until it was opened once
        self._begin_anew()
        _opened.add(self)

    def _begin_anew(self) -> None:
        """Stand without connections, and with locks that nobody holds: new, or the child of a fork."""
        self._lock = threading.Lock()  # whoever holds it may use self._writer
        self._writer: apsw.Connection | None = None
        self._version = 0
        self._gate = threading.Condition()  # guards the readers
        self._idle: list[apsw.Connection] = []
        self._reading = 0

    # --- lending ---

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """Lend the connection that writes. Raises apsw.BusyError when another thread never returns it."""
        if not self._lock.acquire(timeout=BUSY_NAP_S * BUSY_NAPS_MAX):
            raise apsw.BusyError("another thread of this process holds the connection that writes")
        try:
            yield self._connected()
        except apsw.IOError:
            self._let_go()  # the next one starts afresh
            raise
        finally:
            self._lock.release()

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Lend a connection that reads. One that failed is not lent again."""
        with self._gate:
            self._reading += 1
            db = self._idle.pop() if self._idle else None
        keep = False
        try:
            if db is None:
                db = self._connect()
                db.pragma("query_only", True)
            yield db
            keep = True
        finally:
            with self._gate:
                self._reading -= 1
                if keep and db is not None and not self._closed and len(self._idle) < READERS_KEPT:
                    self._idle.append(db)
                elif db is not None:
                    db.close(True)
                self._gate.notify_all()

    @contextmanager
    def apart(self) -> Iterator[apsw.Connection]:
        """Open a connection that nobody else uses, and close it at the end, whatever is open on it."""
        db = self._connect()
        try:
            yield db
        finally:
            db.close(True)

    def look(self) -> bool:
        """Return whether another process committed since the last look. Never waits."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._writer is None:
                self._connected()  # after a fork, or an error: who knows what happened meanwhile
                return True
            before, self._version = self._version, self._writer.pragma("data_version")
            return self._version != before
        except (apsw.Error, StoreError):
            return False  # whoever needs the file next will say what is wrong with it
        finally:
            self._lock.release()

    # --- opening and closing ---

    def open(self) -> bool:
        """Connect for the first time and settle how the file keeps its journal; False: others hinder it."""
        with self.writing() as db:
            self._identity = self._on_disk()
            for _ in range(BUSY_NAPS_MAX):
                if self._journal_is_safe(db):
                    self._version = db.pragma("data_version")  # which a new journal has moved
                    return True
                threading.Event().wait(BUSY_NAP_S)
        return False

    def _journal_is_safe(self, db: apsw.Connection) -> bool:
        """Choose the journal; False: somebody is in the way just now. A file in use keeps what it has."""
        try:
            mode = db.pragma("journal_mode")
            empty = db.pragma("page_count") == 0
            if self.fixed:
                return mode == "wal" or not empty or db.pragma("journal_mode", "wal") == "wal"
            if mode == "wal":
                mode = db.pragma("journal_mode", "truncate")
        except apsw.BusyError:
            return False
        if mode == "wal":
            raise StoreUnsafe(
                f"{self.path} keeps a write-ahead log, and this node's SQLite {apsw.sqlite_lib_version()} "
                "can corrupt it while others use it; stop the others, or install the apsw from PyPI"
            )
        return True

    def _connected(self) -> apsw.Connection:
        """Return the connection that writes. The lock is held."""
        if self._writer is None:
            self._writer = self._connect()
            self._version = self._writer.pragma("data_version")
        return self._writer

    def _connect(self) -> apsw.Connection:
        if self._closed:
            raise StoreError(f"{self.path} was closed; open the store again")
        create = apsw.SQLITE_OPEN_CREATE if self._identity is None else 0
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX | create
        db = apsw.Connection(str(self.path), flags=flags, statementcachesize=256)
        nap = threading.Event()
        db.set_busy_handler(lambda naps: naps < BUSY_NAPS_MAX and not nap.wait(BUSY_NAP_S))
        # Plans that depend on no argument: without it SQLite prepares a statement anew whenever one changes.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        db.pragma("synchronous", "full")
        db.pragma("mmap_size", 0)
        db.pragma("cache_size", -CACHE_KIB)
        db.wal_autocheckpoint(CHECKPOINT_PAGES)
        if not self.fixed:
            db.pragma("journal_mode", "truncate")
        return db

    def close(self) -> None:
        """Close what is not lent, and all the rest when it comes back. Safe to repeat."""
        with self._lock, self._gate:
            self._closed = True
            self._close_all()

    def _close_all(self) -> None:
        self._let_go()
        while self._idle:
            self._idle.pop().close(True)

    def _let_go(self) -> None:
        if self._writer is not None:
            with suppress(apsw.Error):
                self._writer.close(True)
            self._writer = None

    # --- the same file ---

    def refuse_other_file(self) -> None:
        """Raise if the file was removed or replaced: others would use the new one, and both would fire."""
        if self._on_disk() != self._identity:
            raise StoreUnsafe(
                f"{self.path} is not the file any more that this process opened: it was removed, moved or "
                "replaced under it; stop every node before touching the file, then start them again"
            )

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - before every transaction, at a third of the cost
        except OSError:
            return None
        return found.st_dev, found.st_ino

    # --- fork ---

    def before_fork(self) -> None:
        """Close every connection, and let none be opened until the fork is done."""
        self._lock.acquire()
        self._gate.acquire()
        while self._reading:
            self._gate.wait()
        self._close_all()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._gate.release()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the threads that may hold the locks do not exist here."""
        _inherited.append((self._writer, self._idle))
        self._begin_anew()


_opened: weakref.WeakSet[Connections] = weakref.WeakSet()
_paused: list[Connections] = []
_inherited: list[object] = []
"""Connections that another thread opened while this one forked: a child must never close them."""


def _before_fork() -> None:
    global _paused  # noqa: PLW0603 - a process forks once at a time: all of them hold their locks then
    paused = sorted(_opened, key=id)
    for connections in paused:
        connections.before_fork()
    _paused = paused


def _after_fork(act: Callable[[Connections], None]) -> None:
    for connections in _paused:
        act(connections)


def _after_fork_in_child() -> None:
    for connections in list(_opened):
        connections.after_fork_in_child()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(Connections.after_fork_in_parent),
    after_in_child=_after_fork_in_child,
)
