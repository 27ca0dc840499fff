"""One open transaction on one connection to MySQL or MariaDB, which say the same in what is used here.

Neither knows an update that returns rows, and only one of them an insert or a delete that does. So what is
compared and set is asked first and written second: the rows are held already, nobody comes between. Many rows
travel as one JSON document, which JSON_TABLE makes a table of; new ones as literals, at a third of the price.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from onebeat.core.model import from_micros
from onebeat.store.dialects.mysql_driver import Connection, Plain
from onebeat.store.dialects.paging import paged
from onebeat.store.dialects.protocol import (
    MIGRATE,
    AddMissing,
    BatchDelete,
    BatchUpdate,
    Cell,
    ManyRows,
    Row,
)
from onebeat.store.dialects.repeating import Passing, Trouble

CLOCK = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
HAS_TABLE = "SELECT 1 FROM information_schema.tables WHERE table_schema = database() AND table_name = ?"
NAMED_GATE = "SELECT GET_LOCK(CONCAT('onebeat.', database()), 30)"  # it answers 0 when the time is up
GATE = "SELECT value FROM onebeat_meta WHERE name = ? FOR UPDATE"
SHARED_GATE = "SELECT value FROM onebeat_meta WHERE name = ? LOCK IN SHARE MODE"
SHORT = 255
INDEXES = {
    "onebeat_schedules": "PRIMARY, name",
    "onebeat_runs": "PRIMARY, id, onebeat_runs_schedule",
    "onebeat_cursors": "PRIMARY",
    "onebeat_groups": "PRIMARY",
    "onebeat_inbox": "PRIMARY",
}
"""How rows that are to be held are found. A small table is else walked through, and every row of it locked,
or waited for: one held row would stop all."""

_FROM = re.compile(r"FROM (\w+)((?: AS \w+)?)(?=\s+WHERE)")

_json = msgspec.json.Encoder().encode
_rows_of = msgspec.json.Decoder(list[tuple[Cell, ...]]).decode


class MysqlSession:
    """A Session. It ends with its transaction; ``named`` says that a lock must be given back after it."""

    alone = False

    def __init__(self, db: "Connection | Plain", now: Callable[[], datetime] | None = None) -> None:
        self._db = db
        self._now = now
        self._passed: set[tuple[str, bool]] = set()
        self.named = False

    def now(self) -> datetime:
        return from_micros(self.rows(CLOCK)[0][0]) if self._now is None else self._now()

    def clocked(self, sql: str) -> tuple[datetime, Any]:
        ((clock, cell),) = self.rows(f"{CLOCK}, ({sql})")
        return from_micros(clock) if self._now is None else self._now(), cell

    def rows(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        return _unpacked(sql, self._asked(_packed(sql), args))

    def _asked(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        with self._db.cursor() as cursor:
            cursor.execute(_spoken(sql) if args else sql, args or None)
            return list(cursor.fetchall())

    def row(self, sql: str, args: Sequence[Cell] = ()) -> Row | None:
        return next(iter(self.rows(sql, args)), None)

    def each(self, sql: str, args: Sequence[Cell] = (), about: int = 100) -> Iterator[Row]:
        return paged(self.rows, sql, args, about)

    def insert(self, sql: str, args: Sequence[Cell]) -> int:
        with self._db.cursor() as cursor:
            cursor.execute(_spoken(sql), args)
            return int(cursor.lastrowid)

    def lock(self, sql: str, keys: Sequence[Cell]) -> Iterable[Row]:
        return self._held(sql, keys, "FOR UPDATE") if keys else ()

    def free(self, sql: str, keys: Sequence[Cell]) -> list[Row]:
        return self._held(sql, keys, "FOR UPDATE SKIP LOCKED") if keys else []

    def _held(self, sql: str, keys: Sequence[Cell], how: str) -> list[Row]:
        return _unpacked(sql, self._asked(f"{self._among(_by_index(_packed(sql)), keys)} {how}"))

    def gate(self, name: str, *, shared: bool = False) -> None:
        if self._passed & {(name, False), (name, shared)}:
            return
        self._passed.add((name, shared))
        if name == MIGRATE:  # before there is a table
            self.named = True
            if self.rows(NAMED_GATE) != [(1,)]:
                raise Passing(Trouble.BUSY, "another node has been making tables for too long")
        else:
            self.rows(SHARED_GATE if shared else GATE, (f"gate_{name}",))

    def run(self, sql: str, args: Sequence[Cell] = ()) -> None:
        if isinstance(sql, AddMissing):
            kept = sql.unique.split(",")[0]
            self.rows(f"{sql.insert} ON DUPLICATE KEY UPDATE {kept} = {kept}", args)
            return
        for statement in [sql] if args else sql.split(";\n"):
            if statement.strip():
                self.rows(statement, args)

    def batch(self, sql: str, rows: Sequence[Sequence[Cell]], args: Sequence[Cell] = ()) -> list[Row]:
        if not rows:
            return []
        if isinstance(sql, BatchUpdate):
            self._update(sql, rows, args)
            return []
        if isinstance(sql, BatchDelete):
            return self._delete(sql, [row[0] for row in rows])
        if sql.startswith("INSERT"):
            columns = [self._literals(column) for column in zip(*rows, strict=True)]
            literals = "),(".join(map(",".join, zip(*columns, strict=True)))
            return self.rows(sql.replace("{rows}", f"({literals})"))
        named = [f"c{number}" for number in range(len(rows[0]))]
        return self.rows(sql.replace("VALUES {rows}", f"SELECT * FROM {self._table(rows, named)} AS j"))

    def has_table(self, name: str) -> bool:
        return self.row(HAS_TABLE, (name,)) is not None

    def _update(self, sql: BatchUpdate, rows: Sequence[Sequence[Cell]], args: Sequence[Cell]) -> None:
        # The table of a document has no index, and must be the one that is walked through.
        table = f"{sql.table} FORCE INDEX FOR JOIN ({INDEXES[sql.table]})"
        matched = f"{self._table(rows, sql.columns)} AS {sql.name} STRAIGHT_JOIN {table} ON {sql.where}"
        given = iter(args)
        sets = ", ".join(
            f"{sql.table}.{column} = {self._literal(next(given)) if value == '?' else value}"
            for column, value in sql.sets.items()
        )
        self.rows(f"UPDATE {matched} SET {sets}")

    def _delete(self, sql: BatchDelete, keys: Sequence[Cell]) -> list[Row]:
        among = self._among(f"{sql.table} WHERE {sql.where} AND {sql.key} IN {{keys}}", keys)
        gone = self.rows(ManyRows(sql.returning, f"{among} FOR UPDATE")) if sql.returning else []
        if gone or not sql.returning:
            self.rows(f"DELETE FROM {among}")
        return gone

    def _among(self, sql: str, keys: Sequence[Cell]) -> str:
        return sql.replace("{keys}", f"({','.join(map(self._literal, keys))})")

    def _table(self, rows: Sequence[Sequence[Cell]], columns: Sequence[str]) -> str:
        kinds = [_kind(column) for column in zip(*rows, strict=True)]
        paths = ", ".join(
            f"\"{column}\" {kind} PATH '$[{number}]'"
            for number, (column, kind) in enumerate(zip(columns, kinds, strict=True))
        )
        return f"JSON_TABLE({self._literal(_json(rows).decode())}, '$[*]' COLUMNS ({paths}))"

    def _literals(self, column: Sequence[Cell]) -> list[str]:
        """Return a column as literals; what it says again and again is spelled once."""
        spelled = {cell: self._literal(cell) for cell in set(column)}
        return [spelled[cell] for cell in column]

    def _literal(self, cell: Cell) -> str:
        if cell is None:
            return "NULL"
        return str(self._db.escape(cell)) if isinstance(cell, str) else str(cell)


class ReadingSession(MysqlSession):
    """A Session on one picture, which nobody changes: there is nothing to keep apart."""

    def gate(self, name: str, *, shared: bool = False) -> None:
        """Do nothing."""


def _packed(sql: str) -> str:
    """Return the statement as it is said: of many rows each is a document, for the driver reads by cells."""
    return f"SELECT JSON_ARRAY({sql.cells}) FROM {sql.source}" if isinstance(sql, ManyRows) else sql


def _unpacked(sql: str, rows: list[Row]) -> list[Row]:
    return _rows_of(f"[{','.join([row[0] for row in rows])}]") if isinstance(sql, ManyRows) else rows


def _spoken(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


def _by_index(sql: str) -> str:
    return _FROM.sub(lambda found: f"{found[0]} FORCE INDEX FOR JOIN ({INDEXES[found[1]]})", sql, count=1)


def _kind(column: Sequence[Cell]) -> str:
    """Return the type of a column; one of NULLs alone is of numbers."""
    longest = max((len(cell) for cell in column if isinstance(cell, str)), default=-1)
    if longest < 0:
        return "BIGINT"
    return f"VARCHAR({SHORT})" if longest <= SHORT else "LONGTEXT"
