"""What others read with plain SQL: the views are as the page says, and exact to the microsecond."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
from msgspec.structs import replace
from tests.servers import ledgers
from tests.store.sqlite_place import connected, opened_at

from onebeat.core.messages import Edit, Entry, EntryAnswer
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import Book

SCHEMA_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "schema.md"
VIEWS = ("schedules", "runs", "events", "nodes", "inbox")
INSTANT = re.compile(r"(_at|_until|^at)$")
INSTANT_TEXT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
ODD = timedelta(microseconds=123_457)
Ask = Callable[[str], list[tuple[Any, ...]]]


class Place:
    """A ledger on one kind of database, and a shell beside it."""

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.clock = VirtualClock(NOON + ODD)
        self._path = place / "ledger.db"
        self._url = "" if kind == "sqlite" else ledgers.ledger_url(kind, place)
        self.store: SqlStore = (
            opened_at(self._path, self.clock)
            if kind == "sqlite"
            else ledgers.opened_at(self._url, self.clock)
        )
        self.book = Book(self.store, self.clock)

    @contextmanager
    def shell(self) -> Iterator[Ask]:
        if self.kind != "sqlite":
            with ledgers.connected(self.kind, self._url) as ask:
                yield ask
            return
        with connected(self._path) as db:
            yield lambda sql: db.execute(sql).fetchall()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.shell() as ask:
            return ask(sql)

    def columns(self, view: str) -> list[str]:
        of = {
            "sqlite": "SELECT name FROM pragma_table_info('{}')",
            "postgres": "SELECT column_name FROM information_schema.columns WHERE table_name = '{}' "
            "AND table_schema = current_schema() ORDER BY ordinal_position",
            "mariadb": "SELECT column_name FROM information_schema.columns WHERE table_name = '{}' "
            "AND table_schema = database() ORDER BY ordinal_position",
        }
        return [row[0] for row in self.ask(of[self.kind].format(view))]


def instant_or_none(cell: Any) -> datetime | None:
    """Return the instant of a cell of the database's own type; None for anything else."""
    if isinstance(cell, str) and INSTANT_TEXT.fullmatch(cell):
        cell = datetime.fromisoformat(cell)
    if not isinstance(cell, datetime):
        return None
    return cell.replace(tzinfo=UTC) if cell.tzinfo is None else cell.astimezone(UTC)


def replace_next(edit: Edit, at: datetime) -> Edit:
    return replace(edit, after=replace(edit.after, next_at=at))


KINDS = ["sqlite", *(pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb"))]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path)
    yield place
    place.store.close()


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_explained_and_every_instant_is_a_timestamp(place: Place, view: str) -> None:
    page = SCHEMA_PAGE.read_text(encoding="utf-8")
    section = page.partition(f"## onebeat_view_{view}\n")[2].partition("\n## ")[0]
    place.book.create()
    place.store.announce(place.book.node("n1"))
    place.book.finish(place.book.running())
    entry = ledgers.append(place.store, Entry(id="", kind="pause", name="a"))
    place.store.answer([EntryAnswer(entry_id=entry, accepted=True, cut_at=place.book.now)])

    explained = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    assert explained == place.columns(f"onebeat_view_{view}")
    rows = place.ask(f"SELECT * FROM onebeat_view_{view}")
    told = {name for row in rows for name, cell in zip(explained, row, strict=True) if instant_or_none(cell)}
    assert told <= set(filter(INSTANT.search, explained))
    for row in rows:
        for name, cell in zip(explained, row, strict=True):
            if INSTANT.search(name) and cell is not None:
                assert instant_or_none(cell) is not None, (name, cell)


def test_a_schedule_stands_beside_its_last_run_its_state_and_its_node(place: Place) -> None:
    book = place.book
    row = book.create("report")
    asked = """SELECT name, last_run_id, last_run_state, last_run_holder, last_run_due_at,
        last_run_finished_at, next_at FROM onebeat_view_schedules"""
    ((*stands, next_at),) = place.ask(asked)
    assert stands == ["report", None, None, None, None, None]
    assert instant_or_none(next_at) == row.next_at

    run = book.running("report", holder="n1")

    ((name, run_id, state, holder, due_at, finished_at, _),) = place.ask(asked)
    assert (name, run_id, state, holder, finished_at) == ("report", run.id, "running", "n1", None)
    assert instant_or_none(due_at) == run.due_at

    book.finish(run)

    ((*_, finished_at, _),) = place.ask(asked)
    assert instant_or_none(finished_at) == book.run(run).finished_at


def test_a_tombstone_is_no_schedule_and_a_paused_one_says_why(place: Place) -> None:
    book = place.book
    book.create("b")
    book.accept(book.deletion(book.row("b")))
    book.create("a")
    book.accept(book.change(book.row("a"), paused="the mail server moves", next_at=None))

    assert place.ask("SELECT name, paused, next_at FROM onebeat_view_schedules") == [
        ("a", "the mail server moves", None)
    ]


@pytest.mark.parametrize(
    "at",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2255, 6, 7, 8, 9, 10, 123_457, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
    ids=lambda at: str(at.year),
)
def test_an_instant_is_exact_to_the_microsecond_however_far_it_is(place: Place, at: datetime) -> None:
    book = place.book
    book.accept(replace_next(book.creation(), at))

    ((told,),) = place.ask("SELECT next_at FROM onebeat_view_schedules")
    assert instant_or_none(told) == at


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_takes_no_writes_where_the_database_can_say_so(place: Place, view: str) -> None:
    if place.kind == "mariadb":
        # It takes what a view of one table passes on; there the right to write is what to keep back.
        ((says,),) = place.ask(
            "SELECT is_updatable FROM information_schema.views WHERE table_schema = database() "
            f"AND table_name = 'onebeat_view_{view}'"
        )
        assert says == "YES"
        return
    column = place.columns(f"onebeat_view_{view}")[0]
    with pytest.raises((apsw.SQLError, psycopg.Error), match="cannot"):
        place.ask(f"UPDATE onebeat_view_{view} SET {column} = {column}")
