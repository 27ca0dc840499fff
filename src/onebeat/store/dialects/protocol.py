"""What the SQL store asks of a database: transactions, its clock, its errors, and word of changes.

A dialect owns its connections. It gives the store two kinds of transaction and never a connection, so that
"one transaction per verb, repeated whole after a passing error" is written once for each database.

Statements are written in the SQL that SQLite and PostgreSQL share, with ``?`` for an argument. The shapes
that other databases say otherwise know their own parts: BatchUpdate, BatchDelete, AddMissing are texts, and
more. Where transactions write side by side, ``lock``, ``free`` and ``gate`` are what keeps them apart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol, Self, TypeAlias, TypeVar

ORDER, HOLD, PURGE, FENCE, MIGRATE = "order", "hold", "purge", "fence", "migrate"
"""The gates. ``order``: ids given behind it grow in the order of commits. The others guard what they name."""

T = TypeVar("T")
Cell: TypeAlias = int | str | None
Row: TypeAlias = tuple[Any, ...]


class BatchUpdate(str):
    """An UPDATE of many rows, compared and set; rows are locked by ``lock`` or ``free`` before.

    ``rows`` says what travels, e.g. ``d (id, version)``; ``sets`` are the columns and their new values.
    """

    def __new__(cls, table: str, rows: str, sets: Mapping[str, str], where: str) -> Self:
        """Return the text in the common form; its parts are attributes."""
        name, _, columns = rows.rstrip(")").partition(" (")
        assigned = ", ".join(f"{column} = {value}" for column, value in sets.items())
        self = super().__new__(
            cls, f"WITH {rows} AS (VALUES {{rows}}) UPDATE {table} SET {assigned} FROM {name} WHERE {where}"
        )
        self.table, self.name, self.where = table, name, where
        self.columns = tuple(column.strip() for column in columns.split(","))
        self.sets = dict(sets)
        return self

    table: str
    name: str
    columns: tuple[str, ...]
    sets: dict[str, str]
    where: str


class BatchDelete(str):
    """A DELETE of the rows whose ``key`` is among many, as far as they fit ``where``."""

    def __new__(cls, table: str, key: str, where: str = "TRUE", returning: str = "") -> Self:
        """Return the text in the common form; its parts are attributes."""
        text = f"""WITH g (wanted) AS (VALUES {{rows}})
    DELETE FROM {table} WHERE {where} AND {key} IN (SELECT wanted FROM g)"""
        self = super().__new__(cls, f"{text} RETURNING {returning}" if returning else text)
        self.table, self.key, self.where, self.returning = table, key, where, returning
        return self

    table: str
    key: str
    where: str
    returning: str


class ManyRows(str):
    """A SELECT of many rows. Its parts are attributes, for whom a cell costs more than its content."""

    def __new__(cls, cells: str, source: str) -> Self:
        """Return the text in the common form. The cells have no names of their own."""
        self = super().__new__(cls, f"SELECT {cells} FROM {source}")
        self.cells, self.source = cells, source
        return self

    def __add__(self, more: str) -> Self:
        return type(self)(self.cells, self.source + more)

    cells: str
    source: str


class AddMissing(str):
    """An INSERT of one row that does nothing where a row with its ``unique`` columns is there."""

    def __new__(cls, insert: str, unique: str) -> Self:
        """Return the text in the common form; its parts are attributes."""
        self = super().__new__(cls, f"{insert} ON CONFLICT ({unique}) DO NOTHING")
        self.insert, self.unique = insert, unique
        return self

    insert: str
    unique: str


class Session(Protocol):
    """One open transaction. Statements use ``?`` for their arguments."""

    alone: bool
    """Nobody else writes while this transaction does: it need lock nothing and look at nothing twice."""

    def now(self) -> datetime:
        """Return the store's clock at this moment of the transaction."""

    def clocked(self, sql: str) -> tuple[datetime, Any]:
        """Return the store's clock, and the one cell of a SELECT, in one statement where both are asked."""

    def rows(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        """Run a statement and return all its rows."""

    def row(self, sql: str, args: Sequence[Cell] = ()) -> Row | None:
        """Run a statement and return its first row, None if there is none."""

    def each(self, sql: str, args: Sequence[Cell] = (), about: int = 100) -> Iterator[Row]:
        """Run a SELECT and yield its rows as they are found: whoever stops after ``about`` pays no more."""

    def insert(self, sql: str, args: Sequence[Cell]) -> int:
        """Add one row; return the ``id`` that it was given."""

    def lock(self, sql: str, keys: Sequence[Cell]) -> Iterable[Row]:
        """Hold the rows of a SELECT until the transaction ends; wait for those that another one holds.

        The keys stand where it says ``{keys}``. The SELECT names one table, and orders by its id: whoever
        locks in another order deadlocks. What was read before may be old; read it again. Returns the rows,
        to be read once and not before the next statement is answered.
        """

    def free(self, sql: str, keys: Sequence[Cell]) -> list[Row]:
        """Hold the rows of a SELECT that nobody else holds, and return them as they are now: never waits."""

    def gate(self, name: str, *, shared: bool = False) -> None:
        """Go through a gate, one transaction at a time until it ends; the ``shared`` ones all together."""

    def run(self, sql: str, args: Sequence[Cell] = ()) -> None:
        """Run a statement that returns nothing; without arguments it may be several."""

    def has_table(self, name: str) -> bool:
        """Return whether the database has a table of this name."""

    def batch(self, sql: str, rows: Sequence[Sequence[Cell]], args: Sequence[Cell] = ()) -> list[Row]:
        """Run one statement over many rows, which stand where it says ``{rows}``; return what it returns.

        ``args`` follow the rows. As few statements as possible: many rows travel in each.
        """


class Joint(Protocol):
    """One open connection on which the ledger and its users share a transaction. For one thread.

    What the driver raises is raised in the words of the house; nothing is done again.
    """

    connection: Any
    """As the driver, and the user, know it."""

    def run(self, sql: str) -> None:
        """Run a statement that has no arguments and no rows: of savepoints, or to end the transaction."""

    def ours(self) -> AbstractContextManager[Session]:
        """Speak with the ledger's settings; afterwards the connection has its user's again."""


class Dialect(Protocol):
    """One database, as the SQL store sees it."""

    kind: str
    """The name of its statements in schema/, and what ``facts`` says."""

    alone: bool
    """Nobody else writes while one transaction does."""

    def adopt(self) -> None:
        """Write down what the database shall remember of who uses it; refuse what would not be safe."""

    def now(self) -> datetime:
        """Return the store's clock."""

    def write(self, work: Callable[[Session], T]) -> T:
        """Return what ``work`` returns, after committing it as one transaction.

        After a passing error of the database everything is rolled back and ``work`` is called again, a
        bounded number of times: it must change nothing but the database. What ``work`` itself raises rolls
        back and is raised. Raises StoreUnavailable when it cannot be done for now.
        """

    def read(self, work: Callable[[Session], T]) -> T:
        """Return what ``work`` returns of one consistent picture. It may be called again, as in ``write``."""

    def lend(self) -> AbstractContextManager[Joint]:
        """Begin a transaction at READ COMMITTED on a connection made for it, which is closed at the end.

        What was not committed is rolled back then. Its settings are the server's, and not the ledger's.
        """

    def join(self, connection: object) -> Joint:
        """Return what speaks in the open transaction of somebody's connection; it may begin with this.

        Raises InvalidInput where it is none of this dialect's driver, in autocommit, above READ COMMITTED, or
        plainly of another database.
        """

    def look(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        """Return the rows of one SELECT: a picture by itself, for which no transaction is begun."""

    def changed(self) -> None:
        """Tell those who wait, here and elsewhere, that something was committed."""

    def wake(self) -> None:
        """End the waits of this process now."""

    def wait(self, until: datetime | None) -> bool:
        """Wait as ``Ledger.wait`` says."""

    def facts(self) -> dict[str, str]:
        """Return what ``Reader.facts`` says."""

    def beside(self) -> list[str]:
        """Return the names of other schemas, or databases, that hold a ledger: of many, the 100 newest."""

    def close(self) -> None:
        """Let go of all connections. Safe to repeat."""
