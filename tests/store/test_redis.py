"""The Redis store passes the suite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.servers import ledgers, redis

from onebeat.core.messages import Entry
from onebeat.core.ports import Clock, Store
from onebeat.store.redis.opening import open_on_clock
from onebeat.store.redis.store import RedisStore
from onebeat.testing.conformance import StoreSuite


@pytest.mark.server("redis")
class TestRedis(StoreSuite):
    def opener(self, place: Path) -> Callable[[Clock], Store]:
        return partial(open_on_clock, redis.ledger_url(place))

    def append(self, store: Store, entry: Entry) -> str:
        return ledgers.append(store, entry)

    def break_row(self, store: Store, name: str) -> None:
        assert isinstance(store, RedisStore)
        ((row, _),) = store.owing([name])
        key = f"{{{store._server.address.namespace}}}:definition:{row.id}:{row.number}"
        store._server.ask("HSET", key, "trigger", "{broken")
