"""The stores that are measured, one small file for each: what a benchmark needs to know of one.

A file here has a class ``Place``: it starts a server with durable settings (or takes one by URL), makes
ledgers there, and writes by hand what the product writes, as fast as that driver can.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

KINDS = ("sqlite", "postgres", "mariadb", "redis")

Newest = Callable[[int], list[tuple[int, int, int]]]
"""Return (seq, due, created) of the runs after a seq: plain reading, on a connection of its own."""


class Fire(NamedTuple):
    """One fire, ready to be written: the version to compare with, the run's cells, the next instant."""

    version: int
    run: tuple[Any, ...]
    next_at: int


class Floor(Protocol):
    """The same writes as the product's by hand: one transaction each, in batches, and nothing beside them."""

    def schedules(self) -> list[tuple[Any, ...]]:
        """Return id, name, number, definition, target, priority and version of each schedule, by id."""

    def settle(self, batch: Sequence[Fire]) -> None:
        """Compare the versions, move the marks, add the runs."""

    def claim(self, batch: Sequence[tuple[str, int]], at: int, until: int) -> None:
        """Put these ready runs (id, token) under a lease."""

    def start(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        """Mark them as started."""

    def finish(self, batch: Sequence[tuple[str, int]], at: int) -> None:
        """End them."""

    def close(self) -> None:
        """Let go of the connection."""


class Store(Protocol):
    """One kind of store, at one place."""

    wakes: bool
    """Whether a commit wakes other nodes; else they poll."""

    counted: str
    """What ``asked`` counts, in words."""

    def about(self) -> dict[str, object]:
        """Return version and settings of the server, and what its durability is."""

    def ledger(self, name: str) -> str:
        """Return the URL of a new ledger, without schedules."""

    def drop(self, url: str) -> None:
        """Remove a ledger."""

    def floor(self, url: str) -> Floor:
        """Return hands that write to a ledger."""

    def newest(self, url: str) -> Newest:
        """Return an observer's eyes."""

    def asked(self) -> int | None:
        """Return how many statements the server has been asked so far; None where nobody counts."""

    analyze: str
    """What makes the planner look at the tables anew."""

    def run(self, url: str, sql: str) -> None:
        """Run a statement of a benchmark's own, committed."""

    def numbers(self, count: int) -> str:
        """Return a table ``g`` with one column ``n``, from 1 on."""

    def state(self, url: str) -> dict[str, object]:
        """Return how large the runs lie there, and in ``walks`` how often a table was walked through."""

    def close(self) -> None:
        """End the server, if it is ours."""


def opened(kind: str, place: Path, url: str | None) -> Store:
    """Return the store of a kind: a server of our own in a folder, or the one at ``url``."""
    store: Store = importlib.import_module(f"bench.stores.{kind}").Place(place, url)
    return store


RUN_CELLS = """id, schedule_id, schedule, number, definition_id, target_id, priority, state, slot, watch_at,
    due_at, ready_at, created_at, occurrence_at, deadline_at, mark_before, mark_after, count, fold_first_at,
    fold_last_at, fold_count"""
"""What a fire writes of a run, in the order of Fire.run; the key, which a fire has not, aside."""

SCHEDULES = """SELECT id, name, number, definition_id, target_id, priority, version FROM onebeat_schedules
    ORDER BY id"""
NEWEST = "SELECT seq, due_at, created_at FROM onebeat_runs WHERE seq > {} ORDER BY seq"
