"""A SQLite transaction that the ledger shares with others."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import apsw

from onebeat.core.ports import Clock
from onebeat.store.dialects.protocol import Session
from onebeat.store.dialects.sqlite_session import SqliteSession


class SqliteJoint:
    """A Joint. ``words`` is the dialect's: what is raised within it is raised in the words of the house."""

    def __init__(
        self, connection: apsw.Connection, clock: Clock, words: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._words = words

    def run(self, sql: str) -> None:
        with self._words():
            self.connection.execute(sql)

    @contextmanager
    def ours(self) -> Iterator[Session]:
        trace, self.connection.row_trace = self.connection.row_trace, None
        try:
            with self._words():
                yield SqliteSession(self.connection, self._clock)
        finally:
            self.connection.row_trace = trace
