"""How PostgreSQL finds the rows of each statement: by an index, on a ledger that nobody has analyzed yet.

A plan that was made while a table was small is kept as the table grows: it would read all of it each time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from tests.seed.cluster import DAY, HOUR, MINUTE, SECOND, Cluster, every

from onebeat.core.messages import EventQuery, RunQuery, ScheduleQuery
from onebeat.core.model import RunState
from onebeat.store.dialects.postgres_driver import Cursor
from onebeat.store.dialects.postgres_session import PostgresSession
from onebeat.store.dialects.protocol import Cell
from onebeat.store.sql import SqlStore

pytestmark = pytest.mark.server("postgres")

WALKS = re.compile(
    r"Seq Scan on (onebeat_(?:schedules|definitions|changes|runs|groups|events|log_lines)\b)"
    r"|using (onebeat_runs_schedule) .*\n *Index Cond: \(slot"  # all of an index, for what is second in it
)
EXPLAINED = (b"SELECT", b"WITH", b"INSERT", b"UPDATE", b"DELETE")


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The statements, from here on, that read a table from end to end, and which."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    sent = PostgresSession._sent

    def explained(self: PostgresSession, sql: bytes, args: Sequence[Cell]) -> Cursor:
        if sql.lstrip().startswith(EXPLAINED):
            plan = "\n".join(row[0] for row in sent(self, b"EXPLAIN " + sql, args).fetchall())
            for named in WALKS.findall(plan):
                found[sql.decode()].update(filter(None, named))
        return sent(self, sql, args)

    monkeypatch.setattr(PostgresSession, "_sent", explained)
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    place = tmp_path / "postgres"
    place.mkdir()
    cluster = Cluster(place)
    yield cluster
    cluster.close()


def test_no_statement_of_a_ledgers_life_walks_through_a_table(
    cluster: Cluster, walks: dict[str, set[str]]
) -> None:
    beat = cluster.beat
    cluster.put("plain", every(MINUTE), overlap="allow")
    cluster.put("limited", every(MINUTE), overlap="queue_all", queue_max=5)
    cluster.put("impatient", every(MINUTE), overlap="cancel_running", start_within=2 * SECOND)
    cluster.put("short", every(MINUTE), overlap="allow", keep_runs=2, alert_after=SECOND)
    cluster.put("grouped", every(MINUTE), overlap="allow", exclusive="invoices")
    cluster.put("beside", every(MINUTE), overlap="allow", exclusive="invoices")
    first = cluster.node()
    cluster.run(3 * MINUTE)
    first.crash()
    second = cluster.node()
    beat.runs.request("plain")
    cluster.edit("limited", title="new")
    cluster.run(5 * MINUTE)
    beat.schedules.pause("plain")
    beat.schedules.resume("plain")
    beat.runs.cancel(beat.runs.request("limited").id)
    beat.schedules.delete("impatient")
    cluster.run(20 * MINUTE)
    store = cluster.store
    for state in RunState:
        store.runs(RunQuery(states=(state,), limit=5))
        store.runs(RunQuery(states=(state,), schedule="plain", limit=5))
    store.runs(RunQuery(limit=5))
    store.events(EventQuery(limit=5))
    store.events(EventQuery(schedule="plain", limit=5))
    store.schedules(ScheduleQuery(limit=5))
    store.schedules(ScheduleQuery(names=("plain", "limited")))
    store.purge(cluster.now + DAY, 100)
    second.crash()
    cluster.clock.advance(HOUR)
    assert beat.audit(until=cluster.now - timedelta(hours=1)).right

    assert walks == {}


def test_a_walk_would_be_seen(cluster: Cluster, walks: dict[str, set[str]]) -> None:
    # Else the test above could not fail.
    assert isinstance(cluster.store, SqlStore)
    cluster.store._dialect.look("SELECT id FROM onebeat_runs WHERE holder = ?", ("somebody",))

    assert [*walks.values()] == [{"onebeat_runs"}]
