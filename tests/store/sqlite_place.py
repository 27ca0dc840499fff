"""A SQLite ledger for a test, and what hands and other processes do to its file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from onebeat.store.dialects import sqlite
from onebeat.store.open import open_store
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock


def opened_at(path: Path, clock: VirtualClock) -> SqlStore:
    opened = open_store(f"sqlite:///{path}", clock)
    assert isinstance(opened, SqlStore)
    return opened


def dialect_of(store: SqlStore) -> sqlite.Sqlite:
    dialect = store._dialect
    assert isinstance(dialect, sqlite.Sqlite)
    return dialect


def by_hand(path: Path, statement: str, *args: Any) -> list[tuple[Any, ...]]:
    """Do to the file what a person with a shell can do."""
    with connected(path) as db:
        return db.execute(statement, args).fetchall()


@contextmanager
def connected(path: Path) -> Iterator[apsw.Connection]:
    """Open the file beside the store, as any other process may."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(30_000)
    try:
        yield db
    finally:
        db.close()


def python(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
