"""Migrating a ledger by hand: what `onebeat migrate` does to it, or prints for somebody else to do."""

from typing import NamedTuple
from urllib.parse import urlsplit

from onebeat.core.ports import Clock
from onebeat.store import migrations
from onebeat.store.open import open_dialect, sqlite_path


class Made(NamedTuple):
    """One step that was made: its number, pre or post, and what it is called."""

    number: int
    step: str
    what: str


def migrate(url: str, clock: Clock, *, finish: bool = False) -> list[Made]:
    """Make the steps that the ledger of a URL misses, and return them; ``post`` ones only to ``finish``.

    One transaction; safe to repeat, and beside running nodes. Raises SchemaMismatch for a newer ledger.
    """
    dialect = open_dialect(url, clock)
    try:
        made = migrations.migrate(dialect, finish=finish)
        dialect.adopt()
    finally:
        dialect.close()
    return [Made(step.number, step.step, step.what) for step in made]


def script(url: str, clock: Clock, *, finish: bool = False) -> str:
    """Return as SQL the steps that the ledger of a URL misses. Changes nothing, and makes no file."""
    if urlsplit(url).scheme == "sqlite" and not sqlite_path(url).exists():
        return migrations.script("sqlite", finish=finish)
    dialect = open_dialect(url, clock)
    try:
        have = dialect.read(migrations.made)
    finally:
        dialect.close()
    return migrations.script(dialect.kind, have, finish=finish)
