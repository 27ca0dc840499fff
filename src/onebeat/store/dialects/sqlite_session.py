"""One open transaction on one SQLite connection."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

import apsw
import msgspec

from onebeat.core.ports import Clock
from onebeat.store.dialects.protocol import Cell, Row

BATCH_SIZES = (100, 10, 1)
"""Rows a statement: few different texts, so that each stays prepared."""

_json = msgspec.json.Encoder().encode


class SqliteSession:
    """A Session. It ends with its transaction."""

    __slots__ = ("_clock", "_db")

    alone = True

    def __init__(self, db: apsw.Connection, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def clocked(self, sql: str) -> tuple[datetime, Any]:
        row = self.row(sql)
        return self.now(), None if row is None else row[0]

    def rows(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        return self._db.execute(sql, args).fetchall()

    def row(self, sql: str, args: Sequence[Cell] = ()) -> Row | None:
        cursor = self._db.execute(sql, args)
        found = cursor.fetchone()
        cursor.close(True)
        return found

    def each(self, sql: str, args: Sequence[Cell] = (), about: int = 100) -> Iterator[Row]:
        cursor = self._db.execute(sql, args)
        try:
            yield from cursor
        finally:
            cursor.close(True)

    def insert(self, sql: str, args: Sequence[Cell]) -> int:
        self._db.execute(sql, args)
        return self._db.last_insert_rowid()

    def lock(self, sql: str, keys: Sequence[Cell]) -> Iterator[Row]:
        """Hold nothing: whoever writes holds the whole file. The rows are read if anybody reads them."""
        yield from self.free(sql, keys)

    def free(self, sql: str, keys: Sequence[Cell]) -> list[Row]:
        return self.rows(sql.replace("{keys}", "(SELECT value FROM json_each(?))"), (_json(keys).decode(),))

    def gate(self, name: str, *, shared: bool = False) -> None:
        """Do nothing, as in ``lock``."""

    def run(self, sql: str, args: Sequence[Cell] = ()) -> None:
        self._db.execute(sql, args)

    def batch(self, sql: str, rows: Sequence[Sequence[Cell]], args: Sequence[Cell] = ()) -> list[Row]:
        found: list[Row] = []
        begin = 0
        for size in BATCH_SIZES:
            while len(rows) - begin >= size:
                cells = [*chain.from_iterable(rows[begin : begin + size]), *args]
                found += self._db.execute(_expanded(sql, len(rows[0]), size), cells)
                begin += size
        return found

    def has_table(self, name: str) -> bool:
        return self.row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,)) is not None


@lru_cache(maxsize=256)
def _expanded(sql: str, width: int, size: int) -> str:
    row = f"({','.join('?' * width)})"
    return sql.replace("{rows}", ",".join([row] * size))
