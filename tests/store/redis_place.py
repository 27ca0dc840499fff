"""A Redis ledger for a test, and what hands do to its keys."""

from __future__ import annotations

from typing import Any

from onebeat.store.redis.store import RedisStore


def namespace(store: RedisStore) -> str:
    """Return what all keys of a ledger begin with."""
    return f"{{{store._server.address.namespace}}}:"


def by_hand(store: RedisStore, *command: str) -> Any:
    """Do what a person with redis-cli can do."""
    return store._server.ask(*command)


def keys(store: RedisStore) -> list[str]:
    """Return all keys of a ledger."""
    return sorted(by_hand(store, "KEYS", namespace(store).replace("{", "[{]") + "*"))
