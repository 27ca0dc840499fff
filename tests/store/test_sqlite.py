"""The SQLite store passes the suite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
from tests.servers import ledgers

from onebeat.core.messages import Entry
from onebeat.core.ports import Clock, Store
from onebeat.store.open import open_store
from onebeat.testing.conformance import StoreSuite


class TestSqlite(StoreSuite):
    shares = True

    def opener(self, place: Path) -> Callable[[Clock], Store]:
        return partial(open_store, f"sqlite:///{place / 'ledger.db'}")

    def append(self, store: Store, entry: Entry) -> str:
        return ledgers.append(store, entry)

    def break_row(self, store: Store, name: str) -> None:
        with apsw.Connection(store.facts()["place"]) as db:
            db.execute(
                "UPDATE onebeat_definitions SET trigger = '{broken' WHERE id = "
                "(SELECT definition_id FROM onebeat_schedules WHERE name = ?)",
                (name,),
            )
