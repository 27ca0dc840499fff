"""The PostgreSQL store passes the suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.servers import ledgers

from onebeat.core.messages import Entry
from onebeat.core.ports import Clock, Store
from onebeat.testing.conformance import StoreSuite


@pytest.mark.server("postgres")
class TestPostgres(StoreSuite):
    shares = True

    def opener(self, place: Path) -> Callable[[Clock], Store]:
        return ledgers.opener("postgres", place)

    def append(self, store: Store, entry: Entry) -> str:
        return ledgers.append(store, entry)

    def break_row(self, store: Store, name: str) -> None:
        ledgers.break_row(store, name)
