"""Where a peer lives for one run: a database of its own on PostgreSQL, or an empty one of Redis's."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

DATABASE = 9
"""The number of the database on Redis. It must be empty, for it is emptied afterwards."""

Count = Callable[[str], int]
"""Answer one question that counts, on a connection of the observer's."""


@contextmanager
def place(ledger: str) -> Iterator[tuple[str, Count]]:
    """Give a place on the server of a ledger: its URL for a peer, and who counts there."""
    with (_on_redis if ledger.startswith("redis") else _on_postgres)(ledger) as given:
        yield given


@contextmanager
def _on_postgres(ledger: str) -> Iterator[tuple[str, Count]]:
    import psycopg

    server = urlunsplit(urlsplit(ledger)._replace(query=""))
    name = f"bench_peer_{secrets.token_hex(4)}"
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
        try:
            with psycopg.connect(url, autocommit=True) as counter:

                def count(question: str) -> int:
                    return int(counter.execute(question.encode()).fetchall()[0][0])

                yield url, count
        finally:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _on_redis(ledger: str) -> Iterator[tuple[str, Count]]:
    import redis

    parts = urlsplit(ledger)
    url = urlunsplit(parts._replace(path=f"/{DATABASE}", query=""))
    with redis.Redis.from_url(url) as db:
        if db.dbsize():
            raise SystemExit(
                f"database {DATABASE} of {parts.hostname} is not empty, and peers are measured in it"
            )
        try:
            yield url, lambda question: int(db.execute_command(*question.split()))
        finally:
            db.flushdb()
