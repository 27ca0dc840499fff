"""Migrating a ledger by hand: what `onebeat migrate` does to it, or prints for somebody else to do."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from onebeat.core.errors import InvalidInput, shown
from onebeat.core.ports import Clock
from onebeat.store import migrations
from onebeat.store.open import sqlite_path


class Made(NamedTuple):
    """One step that was made: its number, pre or post, and what it is called."""

    number: int
    step: str
    what: str


def migrate(url: str, clock: Clock, *, finish: bool = False) -> list[Made]:
    """Make the steps that the ledger of a URL misses, and return them; ``post`` ones only to ``finish``.

    One transaction; safe to repeat, and beside running nodes. Raises SchemaMismatch for a newer ledger.
    """
    from onebeat.store.dialects.sqlite import Sqlite  # noqa: PLC0415 - as in open.py

    dialect = Sqlite(_path(url), clock)
    try:
        dialect.adopt()
        made = migrations.migrate(dialect, finish=finish)
        dialect.adopt()
    finally:
        dialect.close()
    return [Made(step.number, step.step, step.what) for step in made]


def script(url: str, clock: Clock, *, finish: bool = False) -> str:
    """Return as SQL the steps that the ledger of a URL misses. Changes nothing, and makes no file."""
    from onebeat.store.dialects.sqlite import Sqlite  # noqa: PLC0415 - as in open.py

    have: set[tuple[int, str]] = set()
    if _path(url).exists():
        dialect = Sqlite(_path(url), clock)
        try:
            have = dialect.read(migrations.made)
        finally:
            dialect.close()
    return migrations.script("sqlite", have, finish=finish)


def _path(url: str) -> Path:
    if urlsplit(url).scheme != "sqlite":
        raise InvalidInput(f"{shown(url)} has no tables to migrate here; sqlite:///… has")
    return sqlite_path(url)
