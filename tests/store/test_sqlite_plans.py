"""How SQLite finds the rows of each hot statement: never by walking through a table, however large it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.store.sqlite_place import dialect_of

from onebeat.core.messages import RunQuery
from onebeat.core.model import RunState
from onebeat.store import sql, sql_claims, sql_groups, sql_purge, sql_put, sql_reader, sql_runs, sql_strays
from onebeat.store.open import open_store
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock

READS = """DUE_ROWS DUE_NEXT LOADS
    RUN_NAMED SCHEDULES_NAMED PURGED_NAMED TARGETS_AFTER TARGET_BY_ID TARGETS_UNFINISHED
    DEFINITION TRAIL LOG_LINES RUN_TILES EVENT_TILES SUMMARIES PURGED_UNTIL FIRST_MARK DUE_COUNT"""
WRITES = "SETTLED SKIPS_LEFT RUN_EXISTS UNDER_CURRENT BUMPED HOLD_SEEN NODE_GONE CURSOR CURSOR_MOVED"
PUTS = """EDITS_SEEN SCHEDULE_IDS SCHEDULES_PUT TARGET_NAMED DEFINITIONS_KEPT DEFINITION_IDS CHANGE_IDS
    STILL_WAITING FOLD_GREW"""
STRAYS = "PARKED_OR_READY READY_TARGET READY_RUNS PARKED_RUNS"
GROUPS = "GROUP_NAMED RUNS_OUT LET_OUT"
CLAIMS = "FIRST_OF_LANES RUNS_NUMBERED LANES CLAIMABLE DEFINITIONS CLAIMED MARKED NEWEST_FENCE FENCE_MOVED"
RUNS = """QUEUED FIRST_WAITING SLOTS PROMOTED UNFINISHED_OF WAITING_OF RUNS_NAMED MOVED HELD_ON NOTED
    PROGRESSED LOG_GREW OVERDUE"""
PURGES = """VISITED CROWDED_BEFORE FINISHED_RUNS OLD_TILES HISTORY RUNS_GONE LINES_GONE OWN_EVENTS_GONE
    EVENTS_GONE SUMMARY SUMMARY_GONE BURIED SCHEDULE_GONE"""
OF_ONE, OF_ALL = RunQuery(schedule="a"), RunQuery()
STATEMENTS = {
    name: getattr(module, name)
    for module, names in (
        (sql_reader, READS),
        (sql, WRITES),
        (sql_put, PUTS),
        (sql_strays, STRAYS),
        (sql_claims, CLAIMS),
        (sql_groups, GROUPS),
        (sql_runs, RUNS),
        (sql_purge, PURGES),
    )
    for name in names.split()
} | {
    "due in order": sql_reader.DUE_ROWS + sql_reader.DUE_ORDER,
    "due of a share": sql_reader.DUE_ROWS + sql_reader.SHARED + sql_reader.DUE_ORDER,
    "next of a share": sql_reader.DUE_NEXT + sql_reader.SHARED + sql_reader.NEXT_ORDER,
    "a page of schedules": sql_reader.SCHEDULES_PAGE + " ORDER BY s.name",
    "runs of a schedule": sql_reader.RUNS_WHERE.format(sql_reader.RUNS_OF_SCHEDULE),
    "failed runs of a schedule": sql_reader.RUNS_WHERE.format(
        f"{sql_reader.RUNS_OF_SCHEDULE} AND {sql_reader.in_state(RunState.FAILED, OF_ONE)}"
    ),
    "failed runs": sql_reader.RUNS_WHERE.format(sql_reader.in_state(RunState.FAILED, OF_ALL)),
    "ready runs": sql_reader.FEW_RUNS_WHERE.format(sql_reader.in_state(RunState.READY, OF_ALL)),
    "events after a cursor": sql_reader.EVENTS_AFTER + " ORDER BY id LIMIT ?",
    "events of a schedule": sql_reader.EVENTS_AFTER + " AND schedule = ? ORDER BY id LIMIT ?",
    "events of a run": sql_reader.EVENTS_AFTER + " AND run_id = ? ORDER BY id LIMIT ?",
}
SORTED_IN_PLACE = ["due in order", "due of a share", "CLAIMABLE", "a page of schedules", "failed runs"]
"""What must come in its order from the index: sorting would read all before giving the first."""

BROUGHT_ALONG = re.compile(r"SCAN (d|w|c|m|g|f|CONSTANT ROW|\d+ CONSTANT ROWS|\d+-ROW VALUES CLAUSE)\b")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    path = tmp_path_factory.mktemp("plans") / "ledger.db"
    open_store(f"sqlite:///{path}", VirtualClock()).close()
    db = apsw.Connection(str(path))
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    yield db
    db.close()


def plan(db: apsw.Connection, statement: str, *, within: bool = True) -> list[str]:
    """Return the steps of a plan, without those over the rows that a batch brings along.

    Not ``within`` what the statement asks for each of its rows, it is the steps to those rows alone.
    """
    if "{rows}" in statement:
        columns = re.search(r"WITH \w+ \(([^)]*)\)", statement)
        assert columns is not None
        row = f"({','.join('?' * (columns[1].count(',') + 1))})"
        statement = statement.replace("{rows}", f"{row},{row}")
    rows = db.execute(f"EXPLAIN QUERY PLAN {statement}", [1] * statement.count("?"))
    steps = [step for _, parent, _, step in rows if within or parent == 0]
    return [step for step in steps if not BROUGHT_ALONG.match(step)]


@pytest.mark.parametrize("name", [name for name in STATEMENTS if name != "ready runs"])
def test_no_hot_statement_walks_through_a_table(db: apsw.Connection, name: str) -> None:
    steps = plan(db, STATEMENTS[name])

    assert [step for step in steps if step.startswith("SCAN")] == []


def test_ready_runs_are_found_along_their_own_index(db: apsw.Connection) -> None:
    walked = [step for step in plan(db, STATEMENTS["ready runs"]) if step.startswith("SCAN")]

    assert walked == ["SCAN onebeat_runs USING COVERING INDEX onebeat_runs_ready"]


def test_a_walk_would_be_seen(db: apsw.Connection) -> None:
    # Else the test above could not fail.
    assert plan(db, "SELECT id FROM onebeat_runs AS r WHERE holder = ?") == ["SCAN r"]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("due in order", "onebeat_schedules_due"),
        ("DUE_NEXT", "onebeat_schedules_due"),
        ("CLAIMABLE", "onebeat_runs_ready"),
        ("READY_TARGET", "onebeat_runs_ready"),
        ("LANES", "onebeat_runs_ready"),
        ("FIRST_OF_LANES", "onebeat_runs_ready"),
        ("OVERDUE", "onebeat_runs_watch"),
        ("QUEUED", "onebeat_runs_schedule"),
        ("LOADS", "onebeat_runs_schedule"),
        ("runs of a schedule", "onebeat_runs_schedule"),
        ("failed runs of a schedule", "onebeat_runs_schedule"),
        ("failed runs", "onebeat_runs_state"),
        ("PARKED_RUNS", "onebeat_runs_parked"),
        ("TARGETS_UNFINISHED", "onebeat_runs_state"),
        ("EVENT_TILES", "onebeat_events_tiles"),
        ("events of a schedule", "onebeat_events_schedule"),
        ("events of a run", "onebeat_events_run"),
    ],
)
def test_each_index_serves_the_statement_that_it_was_made_for(
    db: apsw.Connection, name: str, index: str
) -> None:
    # An index that merely helps may still lead through a million rows.
    assert [step for step in plan(db, STATEMENTS[name]) if f"INDEX {index} (" in step]


@pytest.mark.parametrize("name", SORTED_IN_PLACE)
def test_what_is_read_only_in_part_comes_sorted_from_its_index(db: apsw.Connection, name: str) -> None:
    # Of a limited schedule that is due all waiting runs are counted anyway, and may be sorted for their last.
    steps = plan(db, STATEMENTS[name], within=not name.startswith("due"))

    assert [step for step in steps if "TEMP B-TREE" in step] == []


def test_the_newest_hold_is_one_step_from_the_end(db: apsw.Connection) -> None:
    # A walk by name, which stops at its first row: every settle reads it.
    assert plan(db, sql_reader.HELD) == ["SCAN onebeat_holds"]
    assert "ORDER BY id DESC LIMIT 1" in sql_reader.HELD


def test_a_plan_depends_on_no_argument(tmp_path: Path) -> None:
    # Else SQLite would prepare the statement anew for each: ten times the price of running it.
    store = open_store(f"sqlite:///{tmp_path / 'ledger.db'}", VirtualClock())
    assert isinstance(store, SqlStore)
    dialect = dialect_of(store)
    for lend in (dialect._connections.reading, dialect._connections.writing):
        with lend() as db:
            assert db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1
    store.close()
