"""Tables of other programs: read whole, in one picture, and never written.

A database is named by the URL that a ledger there would have. Nothing of ours is made in it, and nothing is
asked of it but to be read: a replica will do, or a user who may only read.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import apsw

from onebeat.core.errors import InvalidInput, StoreUnavailable, near_miss, shown
from onebeat.store.dialects.repeating import once
from onebeat.store.open import DIALECTS, sqlite_path

Rows: TypeAlias = list[dict[str, Any]]
BUSY_MS = 10_000
ANSWER_S = 60


class Picture(NamedTuple):
    """The rows of tables at one instant, each as a mapping of its columns; ``place`` holds no secret."""

    place: str
    tables: dict[str, Rows]


def picture_of(url: str, names: Sequence[str]) -> Picture:
    """Return all rows of these tables, as far as there are such tables, as the driver gives their cells.

    Raises InvalidInput for a URL that names no SQL database, StoreUnavailable where nobody lets us in, and
    MissingExtra without the client library.
    """
    scheme = urlsplit(url).scheme
    if scheme not in DIALECTS:
        raise InvalidInput(
            f"{shown(scheme)} begins no URL of a database; {', '.join(f'{each}://' for each in DIALECTS)} do"
            f"{near_miss(scheme, DIALECTS)}"
        )
    if scheme == "sqlite":
        return _of_sqlite(url, names)
    return _of_postgres(url, names) if scheme.startswith("postgres") else _of_mysql(url, names)


def _named(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> Rows:
    known = list(columns)
    return [dict(zip(known, row, strict=True)) for row in rows]


def _of_sqlite(url: str, names: Sequence[str]) -> Picture:
    path = sqlite_path(url)
    if not path.is_file():
        raise StoreUnavailable(f"there is no file {path}; look at the URL")
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
            db.set_busy_timeout(BUSY_MS)
            db.execute("BEGIN")
            there = {
                str(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            tables = {}
            for name in there.intersection(names):
                columns = [str(row[1]) for row in db.execute(f'PRAGMA table_info("{name}")')]
                tables[name] = _named(columns, db.execute(f'SELECT * FROM "{name}"'))
            return Picture(str(path), tables)
    except apsw.Error as error:
        raise StoreUnavailable(f"{path} cannot be read: {error}") from error


def _of_postgres(url: str, names: Sequence[str]) -> Picture:
    from onebeat.store.dialects import postgres_driver as driver  # noqa: PLC0415 - loaded where a URL asks

    place = driver.hidden(url)
    with (
        once(driver.DriverError, driver.in_our_words, place),
        closing(driver.opened(url, "onebeat import")) as db,
    ):
        db.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        tables = {}
        for name in names:
            if db.execute(b"SELECT to_regclass(%s)::text", (name,)).fetchone() != (None,):
                cursor = db.execute(f'SELECT * FROM "{name}"'.encode())
                tables[name] = _named((column.name for column in cursor.description or ()), cursor)
        return Picture(place, tables)


def _of_mysql(url: str, names: Sequence[str]) -> Picture:
    from onebeat.store.dialects import mysql_driver as driver  # noqa: PLC0415 - loaded where a URL asks

    place = driver.hidden(url)
    with (
        once(driver.DriverError, driver.in_our_words, place),
        closing(driver.opened(url, ANSWER_S)) as db,
        db.cursor() as cursor,
    ):
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = database()")
        there = {str(name) for (name,) in cursor.fetchall()}
        tables = {}
        for name in there.intersection(names):
            cursor.execute(f"SELECT * FROM `{name}`")
            tables[name] = _named((column[0] for column in cursor.description), cursor.fetchall())
        return Picture(place, tables)
