"""A ledger for a test on a real server: a schema or a database of its own, on the clock of the play."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers import mariadb
from tests.servers.running import SERVERS

from onebeat.core.messages import Entry
from onebeat.core.ports import Clock, Store
from onebeat.store import migrations
from onebeat.store.dialects.protocol import Dialect
from onebeat.store.memory import MemoryStore
from onebeat.store.redis.store import RedisStore
from onebeat.store.sql import SqlStore


def ledger_url(kind: str, place: Path) -> str:
    """Return the URL of the ledger that belongs to a place."""
    url, name = SERVERS.url(kind), SERVERS.ledger(kind, place)
    if kind == "postgres":
        return f"{url}?schema={name}"
    mariadb.make(url, name)
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def dialect_at(url: str, clock: Clock) -> Dialect:
    """Return the dialect of a URL, on the clock of the play."""
    from onebeat.store.dialects.mysql import Mysql
    from onebeat.store.dialects.postgres import Postgres

    kind = Postgres if url.startswith("postgres") else Mysql
    return kind(url, clock, own_clock=False)


def opened_at(url: str, clock: Clock) -> SqlStore:
    """Open the ledger of a URL on a clock that is not the server's, so that a play can set it."""
    dialect = dialect_at(url, clock)
    try:
        migrations.migrate(dialect)
    except BaseException:
        dialect.close()
        raise
    return SqlStore(dialect)


def opener(kind: str, place: Path) -> Callable[[Clock], SqlStore]:
    """Return what opens the ledger of a place, in any process."""
    return partial(opened_at, ledger_url(kind, place))


def break_row(store: Store, name: str) -> None:
    """Make the stored documents of a schedule undecodable, behind the store's back."""
    assert isinstance(store, SqlStore)
    store._dialect.write(
        lambda session: session.run(
            """UPDATE onebeat_definitions SET "trigger" = '{broken' WHERE id =
            (SELECT definition_id FROM onebeat_schedules WHERE name = ?)""",
            (name,),
        )
    )


def append(store: Store, entry: Entry) -> str:
    """Append an entry to the inbox, as a program outside would: what is not said is left out."""
    if isinstance(store, MemoryStore):
        return store.append(entry)
    named = {name: getattr(entry, name) for name in ("key", "kind", "name", "document", "actor", "reason")}
    words = {name: word for name, word in named.items() if word or name in ("kind", "name")}
    if isinstance(store, RedisStore):
        flat = [cell for pair in words.items() for cell in pair]
        return str(store._server.ask("XADD", f"{{{store._server.address.namespace}}}:inbox", "*", *flat))
    assert isinstance(store, SqlStore)
    columns, marks = ", ".join(f'"{name}"' for name in words), ", ".join("?" * len(words))
    sql = f"INSERT INTO onebeat_inbox ({columns}) VALUES ({marks})"
    return str(store._dialect.write(lambda session: session.insert(sql, tuple(words.values()))))


# --- what others do to it ---

OURS = "FROM pg_stat_activity WHERE application_name = 'onebeat ' || current_schema()"


@contextmanager
def connected(kind: str, url: str) -> Iterator[Callable[[str], list[tuple[object, ...]]]]:
    """Open a transaction beside the store, as a person with a shell may; it is rolled back."""
    if kind == "postgres":
        import psycopg

        at, schema = url.split("?schema=")
        with psycopg.connect(at, options=f"-c search_path={schema}") as db:
            yield lambda sql: db.execute(sql.encode()).fetchall()
            db.rollback()
        return
    with mariadb.connected(url) as db, db.cursor() as cursor:

        def run(sql: str) -> list[tuple[object, ...]]:
            cursor.execute(sql)
            return list(cursor.fetchall())

        cursor.execute("START TRANSACTION")
        yield run
        db.rollback()


def somebody_waits(kind: str, url: str) -> bool:
    """Return whether a transaction of this ledger waits for another one."""
    sql = {
        "postgres": f"SELECT 1 {OURS} AND wait_event_type = 'Lock'",
        "mariadb": "SELECT 1 FROM information_schema.innodb_trx AS t "
        "JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id "
        "WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
    }
    if kind == "mariadb":
        threading.Event().wait(0.15)  # InnoDB answers from a picture that is renewed only when 0.1 s unread
    with connected(kind, url) as run:
        return bool(run(sql[kind]))


def end_connections(kind: str, url: str) -> None:
    """End every connection of this ledger's nodes."""
    with connected(kind, url) as run:
        if kind == "postgres":
            run(f"SELECT pg_terminate_backend(pid) {OURS}")
            return
        from pymysql.err import OperationalError

        for (number,) in run(
            "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id()"
        ):
            with suppress(OperationalError):  # it has ended by itself meanwhile
                run(f"KILL CONNECTION {number}")
