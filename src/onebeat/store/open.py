"""From a URL to a store: the one place that knows which kinds there are."""

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from onebeat.core.errors import InvalidInput, near_miss, shown
from onebeat.core.ports import Clock, Store
from onebeat.store import migrations
from onebeat.store.dialects.protocol import Dialect

GROUP = "onebeat.stores"
"""The entry point group of stores from outside: the name is the scheme, the object an Opener."""

REDIS = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

Opener: TypeAlias = Callable[[str, Clock], Store]


# Libraries are loaded when a URL asks for them: a process that never opens a file never loads SQLite.


def _sqlite(url: str, clock: Clock) -> Dialect:
    from onebeat.store.dialects.sqlite import Sqlite  # noqa: PLC0415 - see above

    dialect = Sqlite(sqlite_path(url), clock)
    try:
        dialect.adopt()
    except BaseException:
        dialect.close()
        raise
    return dialect


def _postgres(url: str, clock: Clock) -> Dialect:
    from onebeat.store.dialects.postgres import Postgres  # noqa: PLC0415 - see above

    return Postgres(url, clock)


def _mysql(url: str, clock: Clock) -> Dialect:
    from onebeat.store.dialects.mysql import Mysql  # noqa: PLC0415 - see above

    return Mysql(url, clock)


DIALECTS: dict[str, Callable[[str, Clock], Dialect]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
}


def open_store(url: str, clock: Clock, *, migrate: bool = True) -> Store:
    """Return the store of a URL, ready for use; a store without a clock of its own takes ``clock``.

    ``sqlite:///path`` is relative to the current folder, ``sqlite:////path`` absolute; ``memory://`` is a
    new ledger that ends with this process; ``postgresql://user@host/database?schema=name`` may say after the
    ``?`` whatever libpq understands, too; ``mysql://user@host/database`` (or ``mariadb:``) is a ledger there;
    ``redis://host:6379/0`` is a server, ``rediss://`` the same by TLS, and
    ``redis+sentinel://host:26379/mymaster/0`` whichever is the master now. Missing tables are made, unless
    told not to ``migrate``.
    Raises InvalidInput for a URL that cannot be meant, SchemaMismatch for tables that do not go together
    with this code, StoreUnsafe where the promise would not hold, StoreUnavailable where nothing answers,
    MissingExtra where the client library is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return _memory(url, clock)
    if scheme in DIALECTS:
        return _sql(url, clock, migrate=migrate)
    if scheme in REDIS:
        return _redis(url, clock, migrate=migrate)
    outside = entry_points(group=GROUP)
    if scheme in outside.names:
        opener: Opener = outside[scheme].load()
        return opener(url, clock)
    known = [*DIALECTS, "memory", *REDIS, *outside.names]
    raise InvalidInput(
        f"{shown(url)} names no store: a URL begins with one of {', '.join(f'{name}://' for name in known)}"
        f"{near_miss(scheme, known)}"
    )


def sqlite_path(url: str) -> Path:
    """Return the file of a ``sqlite:`` URL. Raises InvalidInput for one that names no file."""
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or parts.query or parts.fragment or not path or path.endswith("/"):
        raise InvalidInput(
            f"{shown(url)} names no file; write sqlite:///name.db for a file in the current folder, or "
            "sqlite:////folder/name.db for an absolute path"
        )
    if path == ":memory:":
        raise InvalidInput(f"{shown(url)} would be a ledger that ends with the process; write memory://")
    return Path(path)


def open_dialect(url: str, clock: Clock) -> Dialect:
    """Return the dialect of a URL that names a SQL database, connected; its tables may be missing.

    Raises InvalidInput for any other URL, and what ``open_store`` raises.
    """
    opener = DIALECTS.get(urlsplit(url).scheme)
    if opener is None:
        raise InvalidInput(f"{shown(url)} has no tables to migrate here; {', '.join(DIALECTS)}:// have")
    return opener(url, clock)


def _sql(url: str, clock: Clock, *, migrate: bool) -> Store:
    from onebeat.store.sql import SqlStore  # noqa: PLC0415 - as above

    dialect = open_dialect(url, clock)
    try:
        if migrate:
            migrations.migrate(dialect)
            dialect.adopt()
        else:
            migrations.check(dialect)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)


def _memory(url: str, clock: Clock) -> Store:
    from onebeat.store.memory import MemoryStore  # noqa: PLC0415 - as above

    if url != "memory://":
        raise InvalidInput(f"{shown(url)} says more than memory:// can hear; each one is new and has no name")
    return MemoryStore(clock)


def _redis(url: str, clock: Clock, *, migrate: bool) -> Store:
    from onebeat.store.redis.opening import open_redis  # noqa: PLC0415 - as above

    return open_redis(url, clock, migrate=migrate)
