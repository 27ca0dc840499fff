"""The reference store passes the suite, and is what it says it is."""

from __future__ import annotations

from pathlib import Path

from onebeat.core.messages import Entry
from onebeat.core.ports import Clock, Store
from onebeat.store.memory import MemoryStore
from onebeat.testing.conformance import StoreSuite


class TestMemory(StoreSuite):
    processes = False
    documents = False

    def make_store(self, clock: Clock, tmp_path: Path) -> Store:
        return MemoryStore(clock)

    def append(self, store: Store, entry: Entry) -> str:
        assert isinstance(store, MemoryStore)
        return store.append(entry)
