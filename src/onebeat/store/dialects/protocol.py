"""What the SQL store asks of a database: transactions, its clock, its errors, and word of changes.

A dialect owns its connections. It gives the store two kinds of transaction and never a connection, so that
"one transaction per verb, repeated whole after a passing error" is written once for each database.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
Cell: TypeAlias = int | str | None
Row: TypeAlias = tuple[Any, ...]


class Session(Protocol):
    """One open transaction. Statements use ``?`` for their arguments."""

    def rows(self, sql: str, args: Sequence[Cell] = ()) -> list[Row]:
        """Run a statement and return all its rows."""

    def row(self, sql: str, args: Sequence[Cell] = ()) -> Row | None:
        """Run a statement and return its first row, None if there is none."""

    def each(self, sql: str, args: Sequence[Cell] = ()) -> Iterator[Row]:
        """Run a statement and yield its rows as they are found: whoever stops early pays no more."""

    def run(self, sql: str, args: Sequence[Cell] = ()) -> None:
        """Run a statement that returns nothing; without arguments it may be several."""

    def has_table(self, name: str) -> bool:
        """Return whether the database has a table of this name."""

    def batch(self, sql: str, rows: Sequence[Sequence[Cell]], args: Sequence[Cell] = ()) -> list[Row]:
        """Run one statement over many rows, which stand where it says ``{rows}``; return what it returns.

        ``args`` follow the rows. As few statements as possible: many rows travel in each.
        """


class Dialect(Protocol):
    """One database, as the SQL store sees it."""

    kind: str
    """The name of its statements in schema/, and what ``facts`` says."""

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

    def changed(self) -> None:
        """Tell those who wait, here and elsewhere, that something may have changed."""

    def wait(self, until: datetime | None) -> bool:
        """Wait as ``Ledger.wait`` says."""

    def facts(self) -> dict[str, str]:
        """Return what ``Reader.facts`` says."""

    def close(self) -> None:
        """Let go of all connections. Safe to repeat."""
