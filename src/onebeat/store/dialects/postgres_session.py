"""One open transaction on one PostgreSQL connection.

Statements are sent in a pipeline: one whose rows nobody waits for travels with the next one. Batches travel
as arrays, one for each column, in one statement whatever their length.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol

from onebeat.core.model import from_micros
from onebeat.store.dialects.paging import paged
from onebeat.store.dialects.postgres_driver import Cursor
from onebeat.store.dialects.protocol import (
    FENCE,
    HOLD,
    MIGRATE,
    ORDER,
    PURGE,
    AddMissing,
    BatchDelete,
    BatchUpdate,
    Cell,
    Row,
)

CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
HAS_TABLE = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = ?"
GATES = (ORDER, HOLD, PURGE, FENCE, MIGRATE)
GATE, SHARED_GATE = b"SELECT pg_advisory_xact_lock(%s)", b"SELECT pg_advisory_xact_lock_shared(%s)"
LOCKED = "FOR NO KEY UPDATE"
NUMBERS, TEXTS = "%s::bigint[]", "%s::text[]"


class Executing(Protocol):
    """What a session says its statements to: a connection, or what shares one."""

    def execute(self, sql: bytes, args: Sequence[Cell]) -> Cursor:
        """Run a statement."""


class PostgresSession:
    """A Session. It ends with its transaction. ``gates`` is a number that no other ledger there has.

    ``answered`` waits until all that was sent in a pipeline is answered.
    """

    alone = False

    def __init__(
        self,
        db: Executing,
        gates: int,
        now: Callable[[], datetime] | None = None,
        answered: Callable[[], object] = lambda: None,
    ) -> None:
        self._db = db
        self._gates = gates
        self._now = now
        self._answered = answered
        self._passed: set[tuple[str, bool]] = set()

    def now(self) -> datetime:
        return from_micros(self.rows(CLOCK)[0][0]) if self._now is None else self._now()

    def clocked(self, sql: str) -> tuple[datetime, Any]:
        ((clock, cell),) = self.rows(f"{CLOCK}, ({sql})")
        return from_micros(clock) if self._now is None else self._now(), cell

    def rows(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        return self._asked(_spoken(sql), args).fetchall()

    def row(self, sql: str, args: Sequence[Cell] = ()) -> Row | None:
        return self._asked(_spoken(sql), args).fetchone()

    def each(self, sql: str, args: Sequence[Cell] = (), about: int = 100) -> Iterator[Row]:
        return paged(self.rows, sql, args, about)

    def insert(self, sql: str, args: Sequence[Cell]) -> int:
        return int(self.rows(f"{sql} RETURNING id", args)[0][0])

    def lock(self, sql: str, keys: Sequence[Cell]) -> Iterable[Row]:
        return self._sent(_among(sql, _kind(keys), LOCKED), [_array(keys)]) if keys else ()

    def free(self, sql: str, keys: Sequence[Cell]) -> list[Row]:
        if not keys:
            return []
        return self._asked(_among(sql, _kind(keys), f"{LOCKED} SKIP LOCKED"), [_array(keys)]).fetchall()

    def gate(self, name: str, *, shared: bool = False) -> None:
        if self._passed & {(name, False), (name, shared)}:
            return
        self._passed.add((name, shared))
        self._sent(SHARED_GATE if shared else GATE, [self._gates + GATES.index(name)])

    def run(self, sql: str, args: Sequence[Cell] = ()) -> None:
        for statement in [sql] if args or isinstance(sql, AddMissing) else sql.split(";\n"):
            if statement.strip():
                self._sent(_spoken(statement), args)

    def batch(self, sql: str, rows: Sequence[Sequence[Cell]], args: Sequence[Cell] = ()) -> list[Row]:
        if not rows:
            return []
        columns = list(zip(*rows, strict=True))
        spoken, cells = _unnested(sql, tuple(map(_kind, columns))), [*map(_array, columns), *args]
        silent = isinstance(sql, BatchUpdate) or sql.startswith("INSERT")
        if sql.returning if isinstance(sql, BatchDelete) else not silent:
            return self._asked(spoken, cells).fetchall()
        self._sent(spoken, cells)
        return []

    def has_table(self, name: str) -> bool:
        return self.row(HAS_TABLE, (name,)) is not None

    def _asked(self, sql: bytes, args: Sequence[Cell]) -> Cursor:
        cursor = self._sent(sql, args)
        self._answered()
        return cursor

    def _sent(self, sql: bytes, args: Sequence[Cell]) -> Cursor:
        # PostgreSQL's texts hold no NUL: a visible sign stands for it.
        clean = [cell.replace("\0", "␀") if isinstance(cell, str) and "\0" in cell else cell for cell in args]
        return self._db.execute(sql, clean)


class ReadingSession(PostgresSession):
    """A Session on one picture, which nobody changes: there is nothing to keep apart."""

    def gate(self, name: str, *, shared: bool = False) -> None:
        """Do nothing."""


@lru_cache(maxsize=1024)
def _spoken(sql: str) -> bytes:
    return sql.replace("%", "%%").replace("?", "%s").encode()


@lru_cache(maxsize=256)
def _among(sql: str, kind: str, end: str) -> bytes:
    return _spoken(f"{sql} {end}").replace(b"IN {keys}", f"= ANY({kind})".encode())


@lru_cache(maxsize=256)
def _unnested(sql: str, kinds: tuple[str, ...]) -> bytes:
    return _spoken(sql).replace(b"VALUES {rows}", f"SELECT * FROM unnest({', '.join(kinds)})".encode())


def _kind(column: Sequence[Cell]) -> str:
    """Return the type of an array; one of NULLs alone is of numbers, which become texts where they must."""
    some = next((cell for cell in column if cell is not None), None)
    return TEXTS if isinstance(some, str) else NUMBERS


def _array(column: Sequence[Cell]) -> str:
    """Return an array as the text that PostgreSQL reads: a fraction of what the driver's own form costs."""
    if _kind(column) is TEXTS:
        cells = [
            "NULL" if cell is None else '"' + str(cell).replace("\\", "\\\\").replace('"', '\\"') + '"'
            for cell in column
        ]
    else:
        cells = ["NULL" if cell is None else str(cell) for cell in column]
    return "{" + ",".join(cells) + "}"
