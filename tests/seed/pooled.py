"""A module as a team has it: connections that it opens once, and bodies that use them."""

from __future__ import annotations

import logging
import os
import sqlite3
from functools import cache

opened: list[sqlite3.Connection] = []


@cache
def connection() -> sqlite3.Connection:
    """Open the one connection of this process."""
    opened.append(sqlite3.connect(":memory:", check_same_thread=False))
    return opened[-1]


def asks() -> list[int]:
    """Use the connection; say in which process that was, and how many connections it has opened."""
    assert connection().execute("SELECT 1").fetchone() == (1,)
    return [os.getpid(), len(opened)]


def talks() -> None:
    """Print, and log as a library does."""
    print("printed by a body")
    logging.getLogger("a.library").warning("logged by a library")


async def talks_awaiting() -> None:
    """Log as a library does."""
    logging.getLogger("a.library").warning("logged by a library")
