"""What a Redis server must keep for the promise to hold: looked at once, before anything is written."""

from typing import NamedTuple

from onebeat.core.codec import FORMAT
from onebeat.core.errors import SchemaMismatch, StoreError, StoreUnsafe
from onebeat.store.redis.server import Server

OLDEST = (6, 2)
NEVER_EVICTS = ("noeviction", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
"""The volatile ones evict only what has a time to live, and no key of a ledger has one."""

SAY_SO = "or state durable=assumed in the URL, if you know better than the server tells"


class Kept(NamedTuple):
    """What the server says of how it keeps what it acknowledged."""

    kind: str
    version: str
    durability: str
    verdict: str


def looked_at(server: Server) -> Kept:
    """Return how the server keeps a ledger. Raises StoreUnsafe, saying what to set, where it would not."""
    told = _info(server)
    place, assumed = server.address.place, server.address.durable
    kind = "valkey" if "valkey_version" in told else "redis"
    version = told.get("valkey_version") or told.get("redis_version", "")
    _refuse_old(told.get("redis_version", ""), place)
    if told.get("redis_mode") == "cluster":
        raise StoreUnsafe(
            f"{place} is a node of a cluster, which this store does not follow when slots move; "
            "use a server of its own, or Sentinel"
        )
    if told.get("role", "master") != "master":
        raise StoreUnsafe(f"{place} is a replica: give the master's address, or redis+sentinel://…")
    _refuse_eviction(told.get("maxmemory_policy"), place, assumed=assumed)
    if told.get("aof_enabled") != "1":
        if not assumed:
            said = "does not say whether it keeps" if "aof_enabled" not in told else "keeps"
            none = "an append-only file" if "aof_enabled" not in told else "no append-only file"
            raise StoreUnsafe(
                f"{place} {said} {none}: when it restarts, what it acknowledged is lost, and what was fired "
                f"would fire again; set appendonly yes and appendfsync always, {SAY_SO}"
            )
        return Kept(
            kind, version, "stated by the operator (durable=assumed)", "as good as what the operator states"
        )
    return _with_log(server, kind, version)


def _with_log(server: Server, kind: str, version: str) -> Kept:
    fsync = _setting(server, "appendfsync") or "unknown"
    more = (
        f", and {server.address.replicas} replicas before it is answered" if server.address.replicas else ""
    )
    if fsync == "always":
        verdict = (
            "what was acknowledged survives a crash of the machine; a fail-over to a replica may lose some"
        )
    elif fsync == "everysec":
        verdict = (
            "a crash of the machine may lose about the last second of what was acknowledged, and a fail-over "
            "more; set appendfsync always to close the first"
        )
    else:
        verdict = "a crash of the machine may lose what the kernel had not written; set appendfsync always"
    return Kept(kind, version, f"append-only file, appendfsync {fsync}{more}", verdict)


def _info(server: Server) -> dict[str, str]:
    told: dict[str, str] = {}
    for part in ("server", "replication", "memory", "persistence"):
        for line in str(server.ask("INFO", part)).splitlines():
            name, colon, value = line.partition(":")
            if colon:
                told[name] = value.strip()
    return told


def _refuse_old(version: str, place: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        raise StoreUnsafe(
            f"{place} is version {version or 'unknown'}; a ledger needs Redis 6.2 or later, or Valkey"
        )


def _refuse_eviction(policy: str | None, place: str, *, assumed: bool) -> None:
    if policy in NEVER_EVICTS or (policy is None and assumed):
        return
    if policy is None:
        raise StoreUnsafe(
            f"{place} does not say what it evicts when memory is short; set maxmemory-policy noeviction, "
            f"{SAY_SO}"
        )
    raise StoreUnsafe(
        f"{place} has maxmemory-policy {policy}: when memory is short it deletes keys, and with them runs, "
        "marks and proof; set maxmemory-policy noeviction (or a volatile one: no key of a ledger expires)"
    )


def _setting(server: Server, name: str) -> str | None:
    try:
        found = server.ask("CONFIG", "GET", name)
    except StoreError:
        return None  # many hosted servers do not let it be asked
    return str(found[1]) if found else None


def adopted(server: Server, *, begin: bool = True) -> str:
    """Return the identity of the ledger in the namespace; give it one if there is none, unless told not to.

    Raises SchemaMismatch for a ledger whose format this code does not know.
    """
    meta = f"{{{server.address.namespace}}}:meta"
    if begin and server.ask("HGET", meta, "ledger") is None:
        # Whoever comes first wins: fifty nodes may start at once.
        server.ask("HSETNX", meta, "format", str(FORMAT))
        server.ask("HSETNX", meta, "ledger", str(server.ask("ACL", "GENPASS")))
    ledger, written = server.ask("HMGET", meta, "ledger", "format")
    if ledger is None:
        raise SchemaMismatch(
            f"{server.address.place} holds no ledger; run `onebeat migrate`, or start a node"
        )
    if written is None or int(written) > FORMAT:
        raise SchemaMismatch(
            f"the ledger at {server.address.place} has format {written}, and this node knows formats up to "
            f"{FORMAT}; upgrade this node"
        )
    return str(ledger)
