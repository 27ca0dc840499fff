"""How a ledger's tables come to be: from nothing, by many at once, by hand; and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest
from tests.store.sqlite_place import by_hand, opened_at, python

from onebeat.core.codec import FORMAT
from onebeat.core.errors import InvalidInput, SchemaMismatch
from onebeat.store import migrations
from onebeat.store.dialects.sqlite import Sqlite
from onebeat.store.memory import MemoryStore
from onebeat.store.migrations import Step
from onebeat.store.open import open_store
from onebeat.testing.clock import VirtualClock
from onebeat.testing.conformance_stage import Book

SCHEMA_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "schema.md"
LATEST = max(step.number for step in migrations.steps("sqlite"))
NEXT_PRE = Step(LATEST + 1, "pre", "more", "CREATE TABLE onebeat_more (id INTEGER PRIMARY KEY);")
NEXT_POST = Step(LATEST + 1, "post", "less", "DROP TABLE onebeat_more;")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def schema(path: Path) -> list[tuple[str, str]]:
    """Return every table and index with its text, but not the order in which they came."""
    found = by_hand(path, "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
    return [(name, " ".join(text.split())) for name, text in found]


def with_steps(monkeypatch: pytest.MonkeyPatch, *more: Step) -> None:
    known = [*migrations.steps("sqlite"), *more]
    monkeypatch.setattr(migrations, "steps", lambda kind: known)


def test_a_new_file_gets_every_step_and_remembers_it(path: Path, clock: VirtualClock) -> None:
    opened_at(path, clock).close()

    made = by_hand(path, "SELECT number, step, what FROM onebeat_steps ORDER BY number, step DESC")
    assert made == [
        (step.number, step.step, step.what) for step in migrations.steps("sqlite") if step.step == "pre"
    ]
    assert by_hand(path, "SELECT value FROM onebeat_meta WHERE name = 'format'") == [(FORMAT,)]


def test_opening_again_changes_nothing(path: Path, clock: VirtualClock) -> None:
    opened_at(path, clock).close()
    before = schema(path), by_hand(path, "SELECT * FROM onebeat_steps"), by_hand(path, "PRAGMA data_version")

    opened_at(path, clock).close()

    after = schema(path), by_hand(path, "SELECT * FROM onebeat_steps"), by_hand(path, "PRAGMA data_version")
    assert after == before


def test_the_printed_script_makes_the_very_same_tables(path: Path, clock: VirtualClock) -> None:
    by_itself = path.with_name("by-itself.db")
    opened_at(by_itself, clock).close()
    with apsw.Connection(str(path)) as db:
        db.execute(migrations.script("sqlite"))

    assert schema(path) == schema(by_itself)
    store = open_store(f"sqlite:///{path}", clock, migrate=False)
    assert Book(store, clock).create().version == 1
    store.close()


def test_a_script_holds_only_what_is_missing() -> None:
    everything = [(step.number, step.step) for step in migrations.steps("sqlite")]

    assert "CREATE TABLE onebeat_runs" in migrations.script("sqlite")
    assert "CREATE TABLE onebeat_runs" not in migrations.script("sqlite", everything)


def test_without_migrating_an_empty_file_is_refused_with_what_to_do(path: Path, clock: VirtualClock) -> None:
    with pytest.raises(SchemaMismatch, match="onebeat migrate"):
        open_store(f"sqlite:///{path}", clock, migrate=False)

    assert schema(path) == []


def test_a_step_that_fails_leaves_the_tables_as_they_were(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_at(path, clock).close()
    before = schema(path), by_hand(path, "SELECT * FROM onebeat_steps")
    broken = Step(LATEST + 2, "pre", "broken", "CREATE TABLE onebeat_other (id INTEGER); SELECT nonsense;")
    with_steps(monkeypatch, NEXT_PRE, broken)

    with pytest.raises(Exception, match="nonsense"):
        opened_at(path, clock)

    assert (schema(path), by_hand(path, "SELECT * FROM onebeat_steps")) == before


# --- two versions of nodes --------------------------------------------------------------------------


def test_a_node_of_the_version_before_goes_on_beside_a_pre_step(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        with_steps(newer, NEXT_PRE, NEXT_POST)
        opened_at(path, clock).close()

    older = opened_at(path, clock)

    assert Book(older, clock).create().version == 1
    older.close()


def test_a_node_makes_no_post_step_by_itself(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_steps(monkeypatch, NEXT_PRE, NEXT_POST)
    opened_at(path, clock).close()
    dialect = Sqlite(path, clock)
    assert by_hand(path, "SELECT step FROM onebeat_steps WHERE number = ?", LATEST + 1) == [("pre",)]

    made = migrations.migrate(dialect, finish=True)

    assert made == [NEXT_POST]
    assert migrations.migrate(dialect, finish=True) == []
    dialect.close()


def test_a_node_older_than_a_post_step_is_told_to_upgrade(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        with_steps(newer, NEXT_PRE, NEXT_POST)
        dialect = Sqlite(path, clock)
        migrations.migrate(dialect, finish=True)
        dialect.close()
    before = schema(path)

    for migrate in (True, False):
        with pytest.raises(SchemaMismatch, match="upgrade this node"):
            open_store(f"sqlite:///{path}", clock, migrate=migrate)

    assert schema(path) == before


def test_documents_of_a_newer_format_are_refused(path: Path, clock: VirtualClock) -> None:
    opened_at(path, clock).close()
    by_hand(path, "UPDATE onebeat_meta SET value = ? WHERE name = 'format'", FORMAT + 1)

    with pytest.raises(SchemaMismatch, match=f"format {FORMAT + 1}"):
        opened_at(path, clock)


def test_a_newer_pre_step_is_asked_for_where_it_is_missing(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_at(path, clock).close()
    with_steps(monkeypatch, NEXT_PRE)

    with pytest.raises(SchemaMismatch, match=f"at step {LATEST}, and this onebeat needs {LATEST + 1}"):
        open_store(f"sqlite:///{path}", clock, migrate=False)


# --- many at once -----------------------------------------------------------------------------------

STARTING = """
import os, sys
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
from onebeat.store.sql import SqlStore
from onebeat.store.dialects.sqlite import Sqlite
url, count = sys.argv[1], int(sys.argv[2])
reading, writing = os.pipe()
children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        try:
            os.close(writing)
            os.read(reading, 1)  # until the parent lets go of the other end: all at once
            store = open_store(url, SystemClock())
            store.cursor(f"s{number}", number)
            store.close()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    children.append(child)
os.close(writing)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""
STARTERS = 50


@pytest.mark.slow
def test_fifty_nodes_that_start_on_a_new_file_at_once_all_come_up(path: Path) -> None:
    started = python(STARTING, f"sqlite:///{path}", STARTERS)

    assert (started.stderr, started.returncode) == ("", 0)
    assert by_hand(path, "SELECT count(*) FROM onebeat_cursors") == [(STARTERS,)]
    assert by_hand(path, "SELECT count(*) FROM onebeat_steps WHERE number = 1") == [(1,)]
    assert by_hand(path, "PRAGMA integrity_check") == [("ok",)]
    assert by_hand(path, "PRAGMA journal_mode") == [("wal",)]


# --- opening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("sqllite:///x.db", "did you mean 'sqlite'"),
        ("memry://", "did you mean 'memory'"),
        ("ledger.db", "sqlite://"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_what_was_meant(
    url: str, near: str, clock: VirtualClock
) -> None:
    with pytest.raises(InvalidInput, match=re.escape(near)):
        open_store(url, clock)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?mode=ro", "sqlite:///folder/"]
)
def test_a_sqlite_url_without_a_file_is_refused(url: str, clock: VirtualClock) -> None:
    with pytest.raises(InvalidInput, match="names no file"):
        open_store(url, clock)


def test_a_sqlite_ledger_in_memory_is_sent_to_memory(clock: VirtualClock) -> None:
    with pytest.raises(InvalidInput, match="memory://"):
        open_store("sqlite:///:memory:", clock)


def test_a_path_is_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    for url in ("sqlite:///here.db", f"sqlite:///{tmp_path}/a%20b.db"):
        open_store(url, clock).close()

    assert {file.name for file in tmp_path.glob("*.db")} == {"here.db", "a b.db"}


def test_memory_is_new_each_time_and_has_no_name(clock: VirtualClock) -> None:
    assert isinstance(open_store("memory://", clock), MemoryStore)
    assert open_store("memory://", clock) is not open_store("memory://", clock)
    with pytest.raises(InvalidInput, match="no name"):
        open_store("memory://mine", clock)


# --- the page ---------------------------------------------------------------------------------------


def test_every_table_column_and_index_is_explained(path: Path, clock: VirtualClock) -> None:
    opened_at(path, clock).close()
    page = SCHEMA_PAGE.read_text(encoding="utf-8")
    tables = by_hand(path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    indexes = by_hand(path, "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")

    for (table,) in tables:
        _, found, section = page.partition(f"## {table}\n")
        assert found, f"{table} has no section"
        section = section.partition("\n## ")[0]
        columns = [row[1] for row in by_hand(path, f"PRAGMA table_info({table})")]
        explained = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
        assert explained == columns, table
    for (index,) in indexes:
        assert f"`{index}`" in page, index
