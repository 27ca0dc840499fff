"""From a Redis URL to a store."""

from onebeat.core.ports import Clock
from onebeat.store.redis.address import address_of
from onebeat.store.redis.promise import Kept, adopted, looked_at
from onebeat.store.redis.server import Server
from onebeat.store.redis.store import RedisStore


def open_redis(url: str, clock: Clock, *, migrate: bool = True) -> RedisStore:
    """Return the store of a Redis URL, ready for use; see address.py for what a URL may say.

    ``clock`` is this machine's, for sleeping: due-ness is judged by the server's. Raises as ``open_store``.
    """
    server = Server(address_of(url))
    return RedisStore(server, _kept(server, migrate=migrate), clock)


def open_on_clock(url: str, clock: Clock) -> RedisStore:
    """Return the store with the server's clock replaced: for the suite and the simulator alone."""
    server = Server(address_of(url))
    return RedisStore(server, _kept(server, migrate=True), clock, instead=clock)


def erase_ledger(url: str) -> None:
    """Delete every key of a ledger that a test or a simulated world has left. There is no way back."""
    server = Server(address_of(url))
    try:
        pattern = f"[{{]{server.address.namespace}}}:*"
        cursor = "0"
        while True:
            cursor, found = server.ask("SCAN", cursor, "MATCH", pattern, "COUNT", "1000")
            if found:
                server.ask("UNLINK", *found)
            if cursor == "0":
                return
    finally:
        server.close()


def _kept(server: Server, *, migrate: bool) -> Kept:
    """Look at the server, and find its ledger or begin one; say how it is kept."""
    try:
        kept = looked_at(server)
        server.ledger = adopted(server, begin=migrate)
    except BaseException:
        server.close()
        raise
    return kept
