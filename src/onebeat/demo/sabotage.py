"""What `onebeat demo --sabotage` does to the ledger, behind its back, so that one can see that it is noticed.

Both are accidents that happened to real systems. A clean-up script deletes the row of a run that had
finished: nothing tells any more that it ever ran. And somebody "repairs" a schedule by winding its mark back:
the product then fires for a second time what had fired before, and runs it again, in all innocence.
"""

from pathlib import Path

import apsw

PRUNED = "tick-1"
REWOUND = "tick-2"
BACK = 2


def strike(path: Path) -> list[str]:
    """Do both with SQL, in one transaction; return what was done, in words.

    Nothing is done, and nothing returned, at a moment when the newest runs have not succeeded yet: to fire
    again what still runs is another accident, with another verdict.
    """
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    try:
        connection.execute("BEGIN IMMEDIATE")
        newest, rewound = _newest(connection, PRUNED, 1), _newest(connection, REWOUND, BACK)
        if not newest or not rewound:
            connection.execute("ROLLBACK")
            return []
        ((pruned, _, _),) = newest
        connection.execute("DELETE FROM onebeat_runs WHERE id = ?", (pruned,))
        _rewind(connection, rewound)
        connection.execute("COMMIT")
    finally:
        connection.close()
    again = ", ".join(run for run, _, _ in rewound)
    return [
        f"a clean-up script deletes the row of {pruned}, which had run",
        f"the mark of {REWOUND} is wound back by {len(rewound)} occurrences that had run: {again}",
    ]


def _newest(connection: apsw.Connection, schedule: str, count: int) -> list[tuple[str, int, int]]:
    """Return a schedule's newest occurrences, the oldest of them first; none unless all have succeeded."""
    query = (
        "SELECT id, mark_before, occurrence_at, state FROM onebeat_runs "
        "WHERE schedule = ? AND mark_after IS NOT NULL ORDER BY occurrence_at DESC LIMIT ?"
    )
    rows = list(connection.execute(query, (schedule, count)))
    if len(rows) < count or any(state != "succeeded" for _, _, _, state in rows):
        return []
    return [(run, before, at) for run, before, at, _ in reversed(rows)]


def _rewind(connection: apsw.Connection, runs: list[tuple[str, int, int]]) -> None:
    for run, _, _ in runs:
        # The id of a run is that of its occurrence and unique, so the old one has to be moved out of the way.
        connection.execute("UPDATE onebeat_runs SET id = ? WHERE id = ?", (f"{run}-before", run))
    _, before, first = runs[0]
    connection.execute(
        "UPDATE onebeat_schedules SET settled_until = ?, next_at = ?, version = version + 1 WHERE name = ?",
        (before, first, REWOUND),
    )
