"""A PostgreSQL transaction that the ledger shares: its settings are its owner's, but for our statements."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

from onebeat.store.dialects import postgres_driver as driver
from onebeat.store.dialects.postgres_driver import Cursor
from onebeat.store.dialects.postgres_session import PostgresSession
from onebeat.store.dialects.protocol import Cell, Session
from onebeat.store.dialects.repeating import once

FOUND = b"SELECT current_setting('search_path'), current_setting('lock_timeout')"
SET = b"SELECT set_config('search_path', %s, true), set_config('lock_timeout', %s, true)"
LOCK_TIMEOUT = "10s"


class PostgresJoint:
    """A Joint. ``schema`` is the ledger's; ``gates`` and ``now`` are as in PostgresSession."""

    def __init__(
        self,
        connection: Any,
        place: str,
        schema: str,
        gates: int,
        now: Callable[[], datetime] | None,
    ) -> None:
        self.connection = connection
        self._place = place
        self._schema = schema
        self._gates = gates
        self._now = now

    def execute(self, sql: bytes, args: Sequence[Cell] = ()) -> Cursor:
        """Run a statement of ours on a cursor of ours, whatever rows the user's cursors give."""
        cursor = driver.plain_cursor(self.connection)
        cursor.execute(sql, args)
        return cursor

    def run(self, sql: str) -> None:
        with self._words():
            self.execute(sql.encode())

    @contextmanager
    def ours(self) -> Iterator[Session]:
        with self._words():
            found = self.execute(FOUND).fetchone() or ()
            self.execute(SET, (f'"{self._schema}"', LOCK_TIMEOUT))
            yield PostgresSession(self, self._gates, self._now)
            self.execute(SET, found)  # after an error the savepoint puts them back

    def _words(self) -> AbstractContextManager[None]:
        return once(driver.DriverError, driver.in_our_words, self._place)
