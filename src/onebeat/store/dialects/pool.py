"""The connections of one process to one server: bounded, lent to one thread at a time, left alone by forks.

A child of fork has the parent's sockets, and the server would take what it says there for the parent's words.
So a child forgets them without a word, and opens its own.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from onebeat.core.errors import StoreError, StoreUnavailable

C = TypeVar("C")

CONNECTIONS_MAX = 8
"""How many connections a process has to its server at most, beside the one that listens."""

LEND_S = 30
"""How long a thread waits for another one to give a connection back."""


class Pool(Generic[C]):
    """Opens, lends and closes. Thread-safe. ``usable`` says whether what came back may be lent again."""

    def __init__(
        self,
        connect: Callable[[], C],
        close: Callable[[C], Any],
        usable: Callable[[C], bool],
        size: int = CONNECTIONS_MAX,
    ) -> None:
        self._connect = connect
        self._close = close
        self._usable = usable
        self._size = size
        self._closed = False
        self._begin_anew()
        _opened.add(self)

    def _begin_anew(self) -> None:
        self._gate = threading.Condition()
        self._idle: list[C] = []
        self._lent = 0
        self._age = 0  # what was opened before the last ``forget`` is not kept

    @contextmanager
    def lent(self) -> Iterator[C]:
        """Lend a connection. Raises StoreUnavailable when none comes back in time."""
        with self._gate:
            free = self._gate.wait_for(lambda: self._lent < self._size or self._closed, LEND_S)
            if self._closed:
                raise StoreError("the store was closed; open it again")
            if not free:
                raise StoreUnavailable(
                    f"all {self._size} connections of this process were in use for {LEND_S:.0f} s; "
                    "nothing was changed, try again"
                )
            self._lent += 1
            age = self._age
            held = [self._idle.pop()] if self._idle else []
        try:
            if not held:
                held.append(self._connect())
            yield held[0]
        finally:
            with self._gate:
                self._lent -= 1
                fresh = age == self._age and not self._closed
                kept = [db for db in held if fresh and self._usable(db)]
                self._idle += kept
                self._gate.notify()
            for db in held:
                if not kept:
                    self._drop(db)

    def forget(self) -> None:
        """Let go of every connection: the server is another one now, or has forgotten them."""
        with self._gate:
            self._age += 1
            gone, self._idle = self._idle, []
        for db in gone:
            self._drop(db)

    def close(self) -> None:
        """Close what is not lent, and the rest when it comes back. Safe to repeat."""
        with self._gate:
            self._closed = True
            self._gate.notify_all()
        self.forget()

    def _drop(self, db: C) -> None:
        with suppress(Exception):
            self._close(db)

    def after_fork_in_child(self) -> None:
        """Begin anew: these sockets are the parent's, and the threads that may hold the lock are there."""
        _inherited.append(self._idle)
        self._begin_anew()


_opened: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork_in_child() -> None:
    for pool in list(_opened):
        pool.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
