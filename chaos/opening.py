"""Makes the place of a run: a ledger of each kind, on a server of the rig's own, that keeps what it said.

PostgreSQL and MariaDB come with a replica in step, to fail over to. Redis has none: no setting makes one of
its replicas wait, and a fail-over to a stale one is outside of the promise (docs/explanation/fail-over.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.servers import redis
from tests.servers.pairs import PAIRS
from tests.servers.running import SERVERS

from chaos.place import Place


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Place]:
    """Give a place without nodes; leave nothing behind."""
    if kind == "sqlite":
        yield from _closed(Place(kind, folder, lambda _: f"sqlite:///{folder / 'ledger.db'}"))
    elif kind == "redis":
        server = redis.Own()
        try:
            yield from _closed(Place(kind, folder, lambda port: f"redis://127.0.0.1:{port}/0", server))
        finally:
            server.stop()
    else:
        with closing(PAIRS[kind](in_step=True)) as pair:
            yield from _closed(Place(kind, folder, pair.url, pair.primary, pair))


@contextmanager
def servers() -> Iterator[None]:
    """Be the process whose servers end with it, unless a test run is that already."""
    if SERVERS.folder is not None:
        yield
        return
    SERVERS.own()
    try:
        yield
    finally:
        SERVERS.leave()


def _closed(place: Place) -> Iterator[Place]:
    with closing(place):
        yield place
