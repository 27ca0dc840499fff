"""The one place that knows PyMySQL: how a connection is made and closed, and what its errors mean."""

from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from onebeat.core.errors import InvalidInput, MissingExtra, StoreError, StoreUnavailable, shown
from onebeat.store.dialects.borrowing import of_the_driver, refuse, refuse_autocommit
from onebeat.store.dialects.repeating import Passing, Trouble

try:
    import pymysql
    from pymysql.constants import SERVER_STATUS
except ImportError as error:
    raise MissingExtra(
        "a ledger on MySQL or MariaDB needs PyMySQL, which is not here: pip install 'onebeat[mysql]'"
    ) from error

Connection: TypeAlias = "pymysql.connections.Connection[Any]"
DriverError = pymysql.MySQLError

CONNECT_S = 10
ANSWER_S = 60
"""Longer than any statement or lock may last: who hears nothing for so long has lost the server."""

OPTIONS = ("ssl_ca", "ssl_cert", "ssl_key", "unix_socket")

_ROLLED_BACK = (1213, 1020, 1180, 1412, 3101)
_TAKEN = (1062,)
_BUSY = {
    1205: "another transaction held a row for too long; look who in SHOW PROCESSLIST",
    1969: "a statement took too long",
    3024: "a statement took too long",
}
_GONE = (1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1290, 1792, 1836, 1927, 2002, 2003, 2006, 2013, 2055)
_FULL = (1021, 1041, 1114)
_SHUT = (1044, 1045, 1049, 1130, 1698)


def connect(url: str, settings: Mapping[str, str | int], of_mariadb: Mapping[str, int]) -> Connection:
    """Open a connection on which nothing begins by itself, with these settings. Raises DriverError.

    ``of_mariadb`` are settings that MySQL does not have; it reads them as a comment.
    """
    db = opened(url, ANSWER_S)
    try:
        with db.cursor() as cursor:
            known = ", ".join(f"SESSION {name} = %s" for name in settings)
            more = "".join(f", SESSION {name} = {value}" for name, value in of_mariadb.items())
            cursor.execute(f"SET {known} /*M!100300 {more} */", [*settings.values()])
    except BaseException:
        db.close()
        raise
    return db


def opened(url: str, answer_s: int | None = None) -> Connection:
    """Open a connection on which nothing begins by itself, as the server sets it up. Raises DriverError.

    ``answer_s`` is how long a statement may be silent; None: for ever.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    db: Connection = pymysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        user=unquote(parts.username or "") or None,
        password=unquote(parts.password or ""),
        database=unquote(parts.path.removeprefix("/")),
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=CONNECT_S,
        read_timeout=answer_s,
        write_timeout=answer_s,
        program_name="onebeat",
        **options,
    )
    return db


def joinable(connection: object) -> Connection:
    """Return a connection of PyMySQL whose transaction we may write in. Raises InvalidInput."""
    db = of_the_driver(connection)
    if not isinstance(db, pymysql.connections.Connection):
        refuse(connection, "is no connection of PyMySQL, by which this ledger is reached on MySQL or MariaDB")
    if db.get_autocommit() and usable(db):
        refuse_autocommit(connection)
    return db


class Plain:
    """A connection whose cursors give rows as tuples."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def cursor(self) -> Any:
        """Return a cursor."""
        return self._db.cursor(pymysql.cursors.Cursor)

    def escape(self, text: str) -> Any:
        """Return a text as a literal."""
        return self._db.escape(text)


def usable(db: Connection) -> bool:
    """Return whether a connection that came back may be lent again."""
    return db.open and not getattr(db, "server_status", 0) & SERVER_STATUS.SERVER_STATUS_IN_TRANS


def hidden(url: str) -> str:
    """Return where a URL leads, without its secrets. Raises InvalidInput for one that leads nowhere."""
    parts = urlsplit(url)
    if not parts.path.removeprefix("/") or parts.fragment:
        raise InvalidInput(f"{shown(url)} names no database; write mysql://user:password@host/database")
    unknown = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if name not in OPTIONS]
    if unknown:
        raise InvalidInput(f"a mysql URL may say {', '.join(OPTIONS)} after the ?, and not {unknown[0]}")
    return f"mysql://{parts.hostname or 'localhost'}:{parts.port or 3306}{parts.path}"


def in_our_words(error: pymysql.MySQLError, place: str) -> Exception:
    """Return what to raise for an error of the driver: Passing, or an error of the house."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    what = " ".join(str(part) for part in error.args)
    if code in _ROLLED_BACK:
        return Passing(Trouble.ROLLED_BACK, what)
    if code in _TAKEN:
        return Passing(Trouble.TAKEN, what)
    if code in _BUSY:
        return Passing(Trouble.BUSY, f"{_BUSY[code]} ({what})")
    if code in _GONE or (not code and isinstance(error, pymysql.InterfaceError | pymysql.OperationalError)):
        return Passing(Trouble.GONE, what)
    if code in _FULL:
        return StoreUnavailable(f"{place} is full: {what}; nothing was changed, make room")
    if code in _SHUT:
        return StoreUnavailable(f"{place} does not let us in: {what}; look at the URL's user and database")
    return StoreError(f"{place} refused a statement: {what}; report this")
