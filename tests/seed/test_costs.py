"""Rows 41 and 68: what a claim and a start cost, counted by the driver and not by a clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from tests.seed.cluster import BODY, HOUR, MINUTE, SECOND, T0, Cluster, every, ledger_at

from onebeat import Definition
from onebeat.core.decide import settle
from onebeat.core.messages import Claim, Claimed
from onebeat.core.model import Policy
from onebeat.core.ports import Store

pytestmark = pytest.mark.slow


class Meter:
    """Counts what every connection that is opened from now on asks of the file."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.steps = 0  # of SQLite's own machine: proportional to the rows that are looked at

    def watch(self, db: apsw.Connection) -> None:
        db.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._count)

    def _count(self, told: dict[str, Any]) -> None:
        self.statements.append(told["sql"].strip())
        self.steps += told["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def reset(self) -> None:
        self.statements.clear()
        self.steps = 0

    @property
    def transactions(self) -> list[str]:
        """Where transactions begin and end. Only those that write wait for the lock and the disk."""
        return [sql for sql in self.statements if sql.split()[0] in ("BEGIN", "COMMIT", "ROLLBACK")]


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter()
    apsw.connection_hooks.append(meter.watch)
    yield meter
    apsw.connection_hooks.remove(meter.watch)


# --- 41: one round trip for a batch -----------------------------------------------------------------

LOOKED = ["BEGIN", "COMMIT"]
WRITTEN = ["BEGIN IMMEDIATE", "COMMIT"]


def claimed(store: Store, limit: int) -> list[Claimed]:
    until = store.now() + MINUTE
    wish = Claim(holder="n", queues=("default",), targets=("seed:body",), limit=limit, until=until)
    return store.claim(wish)


@pytest.mark.of_the_file
def test_seed_41_settling_and_claiming_a_thousand_waits_for_the_disk_once_each(
    cluster: Cluster, meter: Meter
) -> None:
    policy = Policy(overlap="allow")  # type: ignore[arg-type]  # a word of the enum
    wanted = {f"s{i}": Definition(trigger=every(MINUTE), target=BODY, policy=policy) for i in range(1000)}
    cluster.beat.schedules.put_all(wanted)
    store = ledger_at(cluster.place, cluster.clock)
    counts = {}
    for minute, size in enumerate((10, 100, 1000), 1):
        cluster.clock.set(T0 + minute * MINUTE)
        decisions = [settle(row, cluster.now) for row in store.due(cluster.now, size).rows]
        meter.reset()
        won = store.settle(cluster.now, decisions).won
        settling = list(meter.statements)
        assert (sum(won), meter.transactions) == (size, WRITTEN)
        meter.reset()
        runs = claimed(store, 10_000)
        assert (len(runs), meter.transactions) == (size, 2 * LOOKED + WRITTEN)
        counts[size] = (len(settling), len(meter.statements))
    store.close()

    # Beyond the transaction itself, a statement carries a hundred rows.
    assert counts[100] <= counts[10]
    assert counts[1000][0] - counts[100][0] <= 3 * 9
    assert counts[1000][1] - counts[100][1] <= 3 * 9


@pytest.mark.of_the_file
def test_seed_41_a_claim_of_nothing_only_looks_and_stands_in_nobodys_way(
    cluster: Cluster, meter: Meter
) -> None:
    cluster.put("a", every(HOUR))
    store = ledger_at(cluster.place, cluster.clock)
    claimed(store, 10)
    meter.reset()

    assert claimed(store, 10) == []
    assert meter.transactions == LOOKED
    assert not [sql for sql in meter.statements if sql.split()[0] in ("INSERT", "UPDATE", "DELETE", "WITH")]
    store.close()


# --- 68: a start does not look at what is not due ---------------------------------------------------


def fill(cluster: Cluster, count: int) -> None:
    """Have as many schedules, all but one due in an hour: copies made beside the store, for it is quicker."""
    cluster.put("soon", every(HOUR, T0 + SECOND))
    cluster.put("copied", every(HOUR, T0 + HOUR))
    with apsw.Connection(str(cluster.place / "ledger.db")) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(onebeat_schedules)")]
        others = ", ".join(f"s.{name}" for name in columns if name not in ("id", "name"))
        names = ", ".join(name for name in columns if name not in ("id", "name"))
        db.execute(
            f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 2})
            INSERT INTO onebeat_schedules (name, {names})
            SELECT 'copy-' || n.i, {others} FROM onebeat_schedules AS s, n WHERE s.name = 'copied'"""
        )
    db.close()


@pytest.mark.of_the_file
def test_seed_68_the_first_fire_costs_as_much_with_fifty_thousand_schedules_as_with_a_thousand(
    tmp_path_factory: pytest.TempPathFactory, meter: Meter
) -> None:
    costs: dict[int, tuple[int, int]] = {}
    for size in (1_000, 5_000, 50_000):
        one = Cluster(tmp_path_factory.mktemp(f"ledger-{size}"))
        fill(one, size)
        assert one.store.counts()["schedules"] == size
        one.clock.advance(SECOND)
        meter.reset()
        one.node()  # opens the file, as a process that starts
        one.run(SECOND)
        costs[size] = (len(meter.statements), meter.steps)
        assert [effect.schedule for effect in one.effects] == ["soon"]
        one.close()

    assert costs[1_000][0] == costs[5_000][0] == costs[50_000][0]
    # The search for documents that do not decode looks at the soonest few thousand rows, and at no more.
    assert costs[50_000][1] == pytest.approx(costs[5_000][1], rel=0.01)
    assert costs[50_000][1] < 4 * costs[1_000][1]
