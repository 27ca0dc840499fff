"""The ledger's file, read with plain SQL: what the demo watches while it runs, and what it judges at the end.

Nothing of the product is used here, so that nothing of it can excuse itself; docs/reference/schema.md
explains the tables. Everything only reads; ``writable`` asks for the write lock, and changes nothing.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from onebeat.demo.expect import SECOND
from onebeat.demo.picture import Change, Ending, Picture, Run, Tile

BUSY_MS = 5000
LOCK_MS = 300

AT_MOST_ONCE = "at-most-once"
LONG = ("long-0", "long-1", "long-2", "long-3", AT_MOST_ONCE)
"""Schedules whose bodies take two seconds: what a node can be caught in the middle of."""

CAUGHT = (SECOND // 20, SECOND * 5 // 4)
"""Such a body is in the middle of its work from 0.05 to 1.25 seconds after it started."""


class Ledger:
    """One SQLite file, from outside."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None

    # --- while it runs --------------------------------------------------------------------------------

    def schedules(self) -> int:
        """Return how many schedules there are; 0 while there is no table."""
        return self._count("SELECT count(*) FROM onebeat_schedules")

    def unfinished(self) -> int:
        """Return how many runs are unfinished."""
        return self._count("SELECT count(*) FROM onebeat_runs WHERE slot IS NOT NULL")

    def refused(self) -> int:
        """Return how many results were refused so far."""
        return self._count("SELECT count(*) FROM onebeat_events WHERE kind = 'attempt.refused'")

    def alive(self) -> set[int]:
        """Return the process ids of the nodes that say they are alive."""
        query = "SELECT pid FROM onebeat_nodes WHERE alive_until > ? AND NOT stopping"
        return {pid for (pid,) in self._rows(query, [_now()])}

    def has_run(self, pid: int) -> bool:
        """Return whether a node has begun a run."""
        query = (
            "SELECT 1 FROM onebeat_runs r JOIN onebeat_nodes n ON n.id = r.holder "
            "WHERE n.pid = ? AND r.started_at IS NOT NULL LIMIT 1"
        )
        return bool(self._rows(query, [pid]))

    def running(self) -> dict[int, dict[str, int]]:
        """Return by process id the long runs that are in the middle of their bodies, with their tokens."""
        least, most = CAUGHT
        query = (
            "SELECT n.pid, r.id, r.token FROM onebeat_runs r JOIN onebeat_nodes n ON n.id = r.holder "
            "WHERE r.state = 'running' AND r.started_at BETWEEN ? AND ? "
            "AND r.schedule IN (SELECT value FROM json_each(?))"
        )
        found: dict[int, dict[str, int]] = {}
        for pid, run, token in self._rows(query, [_now() - most, _now() - least, json.dumps(LONG)]):
            found.setdefault(pid, {})[run] = token
        return found

    def held_still(self, runs: dict[str, int]) -> int:
        """Return how many of these runs are still under the lease of that token."""
        query = "SELECT count(*) FROM onebeat_runs WHERE state = 'running' AND id = ? AND token = ?"
        return sum(self._count(query, [run, token]) for run, token in runs.items())

    def held_at(self) -> int:
        """Return when the last hold came into force, 0 if none did. Nothing was settled after it."""
        return self._count("SELECT coalesce(max(at), 0) FROM onebeat_events WHERE kind = 'firing.held'")

    def owed(self, at: int) -> int:
        """Return how many schedules have something due at ``at`` that is not settled."""
        return self._count("SELECT count(*) FROM onebeat_schedules WHERE next_at <= ? AND dormant = 0", [at])

    def glance(self) -> str:
        """Return a few words for the progress bar."""
        settled = self._count("SELECT count(*) FROM onebeat_runs WHERE mark_after IS NOT NULL")
        return f"{settled:,} fired, {self.unfinished()} unfinished"

    def writable(self) -> bool:
        """Return whether the write lock can be had soon; nothing is written."""
        connection = apsw.Connection(str(self._path))
        try:
            connection.set_busy_timeout(LOCK_MS)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except apsw.BusyError:
            return False
        finally:
            connection.close()
        return True

    # --- when all is over -----------------------------------------------------------------------------

    def picture(self) -> Picture:
        """Return all that is to be judged."""
        return Picture(
            tiles=[*self._fired(), *self._others()],
            runs=self._runs(),
            endings=self._endings(),
            changes=[
                Change(*row)
                for row in self._rows('SELECT schedule, version, "action", cut_at FROM onebeat_changes')
            ],
            refused=self.refused(),
            marks=dict(self._rows("SELECT name, settled_until FROM onebeat_schedules")),
        )

    def _fired(self) -> list[Tile]:
        query = (
            'SELECT schedule, mark_before, mark_after, "count", id, occurrence_at FROM onebeat_runs '
            "WHERE mark_after IS NOT NULL"
        )
        return [
            Tile(schedule, before, after, count, run=run, fired=True, occurrence=occurrence)
            for schedule, before, after, count, run, occurrence in self._rows(query)
        ]

    def _others(self) -> list[Tile]:
        query = (
            'SELECT schedule, mark_before, mark_after, "count", run_id, reason, kind FROM onebeat_events '
            "WHERE mark_after IS NOT NULL"
        )
        return [
            Tile(schedule, before, after, count, run=run or "", reason=reason if count else kind)
            for schedule, before, after, count, run, reason, kind in self._rows(query)
        ]

    def _runs(self) -> list[Run]:
        query = (
            'SELECT id, schedule, state, due_at, created_at, occurrence_at, "key" IS NOT NULL, attempt, '
            "token, reason FROM onebeat_runs"
        )
        return [
            Run(run, schedule, state, due, created, occurrence, bool(asked), attempt, token, reason)
            for run, schedule, state, due, created, occurrence, asked, attempt, token, reason in self._rows(
                query
            )
        ]

    def _endings(self) -> list[Ending]:
        query = (
            "SELECT run_id, at, data FROM onebeat_events WHERE run_id IS NOT NULL AND data IS NOT NULL "
            "AND kind <> 'attempt.refused'"
        )
        endings: list[Ending] = []
        for run, at, text in self._rows(query):
            data = json.loads(text)
            if "outcome" in data:
                started = data.get("started_at") is not None
                endings.append(
                    Ending(run, data["attempt"], data["outcome"], at, data.get("holder") or "", started)
                )
        return endings

    # --- the driver -----------------------------------------------------------------------------------

    def _count(self, query: str, values: Sequence[Any] = ()) -> int:
        return sum(count for (count,) in self._rows(query, values))

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query; none while the file or its tables are not there yet."""
        try:
            if self._connection is None:
                connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
                connection.set_busy_timeout(BUSY_MS)
                self._connection = connection
            return list(self._connection.execute(query, values))
        except apsw.CantOpenError:
            return []
        except apsw.SQLError as error:
            if "no such table" in str(error):
                return []
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _now() -> int:
    return time.time_ns() // 1000
