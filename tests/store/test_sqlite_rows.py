"""Rows of a SQLite ledger that hands have edited, and what two nodes do to one row at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.store.sqlite_place import by_hand, dialect_of, opened_at

from onebeat.core.errors import BrokenDocument, StoreError
from onebeat.core.messages import RunQuery, ScheduleQuery
from onebeat.core.model import Overlap, Target
from onebeat.store import sql_purge, sql_strays
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock
from onebeat.testing.conformance_stage import HOUR, MINUTE, Book, one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def store(path: Path, clock: VirtualClock) -> Iterator[SqlStore]:
    opened = opened_at(path, clock)
    yield opened
    opened.close()


@pytest.fixture
def book(store: SqlStore, clock: VirtualClock) -> Book:
    return Book(store, clock)


# --- hands ------------------------------------------------------------------------------------------

BREAKS = {
    "trigger": "UPDATE onebeat_definitions SET trigger = '{\"kind\":1}'",
    "policy": 'UPDATE onebeat_definitions SET policy = \'{"grace_s":"soon"}\'',
    "skip list": "UPDATE onebeat_schedules SET skips = '[\"tomorrow\"]'",
    "settled_until": f"UPDATE onebeat_schedules SET settled_until = {1 << 62}",
    "trigger is missing": "DELETE FROM onebeat_definitions",
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_row_that_a_hand_broke_is_left_out_named_and_listed(what: str, path: Path, book: Book) -> None:
    bad = book.create("bad")
    by_hand(path, BREAKS[what])
    good = book.create("good")
    later = book.clock.advance(HOUR)

    assert [owing.name for owing in book.store.due(later, 10).rows] == ["good"]
    ((name, why),) = book.store.broken(10)
    assert name == "bad"
    assert what in why
    listed = {row.name: row for row in book.store.schedules(ScheduleQuery())}
    assert listed["good"] == good
    assert listed["bad"].quarantined == why
    assert (listed["bad"].id, listed["bad"].version) == (bad.id, bad.version)


@pytest.mark.parametrize("column", ["target", "tags"])
def test_a_broken_document_that_deciding_does_not_need_is_named_too(
    column: str, path: Path, book: Book
) -> None:
    book.create("bad")
    by_hand(path, f"UPDATE onebeat_definitions SET {column} = '['")

    ((name, why),) = book.store.broken(10)

    assert name == "bad"
    assert column in why


def test_broken_rows_do_not_fill_the_limit_of_what_is_due(path: Path, book: Book) -> None:
    for number in range(5):
        book.create(f"bad-{number}")
    by_hand(path, "UPDATE onebeat_definitions SET trigger = 'x'")
    book.create("good")

    assert [owing.name for owing in book.store.due(book.clock.advance(HOUR), 1).rows] == ["good"]


def test_a_broken_row_that_was_mended_by_hand_goes_on(path: Path, book: Book) -> None:
    row = book.create()
    by_hand(path, "UPDATE onebeat_definitions SET trigger = 'x' || trigger")
    assert book.store.broken(10)

    by_hand(path, "UPDATE onebeat_definitions SET trigger = substr(trigger, 2)")

    assert book.store.broken(10) == []
    assert book.row() == row


def test_a_run_whose_definition_does_not_decode_is_not_claimed_and_holds_nobody_up(
    path: Path, book: Book
) -> None:
    for name in ("a-bad", "b-good"):
        book.create(name)
        book.fire(name)
    by_hand(path, "UPDATE onebeat_definitions SET target = 'x' WHERE schedule_id = 1")

    claimed = book.claim(limit=1)

    assert [each.run.schedule for each in claimed] == ["b-good"]
    assert book.claim() == []


def test_a_run_whose_policy_does_not_decode_is_judged_by_the_defaults(path: Path, book: Book) -> None:
    book.create(attempts=5)
    run = book.running(until=book.now + MINUTE)
    by_hand(path, "UPDATE onebeat_definitions SET policy = 'x'")

    overdue = one(book.store.lost(book.now + HOUR, 10))

    assert (overdue.run.id, overdue.policy.attempts) == (run.id, 1)


def test_a_broken_result_is_told_with_the_run_and_hides_no_other(path: Path, book: Book) -> None:
    book.create(overlap=Overlap.ALLOW)
    first, second = book.running(), book.running()
    for run in (first, second):
        book.finish(run)
    by_hand(path, "UPDATE onebeat_runs SET result = '{' WHERE id = ?", first.id)

    runs = {run.id: run for run in book.store.runs(RunQuery())}

    assert runs.keys() == {first.id, second.id}
    assert "does not decode" in (runs[first.id].error or "")
    assert runs[second.id].error is None


def test_a_hold_that_cannot_be_read_is_no_release(path: Path, book: Book) -> None:
    book.create()
    by_hand(path, "INSERT INTO onebeat_holds (edit_id, after) VALUES ('h', '{')")

    with pytest.raises(BrokenDocument):
        book.store.due(book.clock.advance(HOUR), 10)


def test_a_state_that_does_not_exist_is_refused_by_the_table(path: Path, book: Book) -> None:
    book.create()
    book.fire()

    with pytest.raises(apsw.ConstraintError):
        by_hand(path, "UPDATE onebeat_runs SET state = 'tired'")


# --- purging ----------------------------------------------------------------------------------------


def test_two_nodes_that_purge_at_once_count_nothing_twice(
    path: Path, clock: VirtualClock, book: Book
) -> None:
    row = book.create(keep_runs=1)
    for _ in range(4):
        book.finish(book.running())
    found, _ = book.store._read(lambda session: sql_purge._search(session, clock.now(), 100, 0))

    other = opened_at(path, clock)
    assert other.purge(clock.now(), 100).runs == 3
    other.close()
    book.store._dialect.write(lambda session: [sql_purge._forget(session, each) for each in found])

    assert one(book.store.summaries(row.id)).fired == 3


def test_a_purge_looks_at_no_more_schedules_than_its_limit(book: Book) -> None:
    # A million quiet schedules must not keep everybody waiting.
    rows = [book.create(f"s{number}") for number in range(5)]

    assert book.store.purge(book.now, 2).next_id == rows[2].id
    assert book.store.purge(book.now, 2, rows[2].id).next_id == rows[4].id
    assert book.store.purge(book.now, 2, rows[4].id).next_id is None


# --- lanes ------------------------------------------------------------------------------------------


def test_claiming_leaps_over_what_others_serve(store: SqlStore, book: Book) -> None:
    for number in range(30):
        target = Target(kind="python", address=f"m:f{number}")
        book.create(f"s{number}", book.definition(target=target))
        book.fire(f"s{number}")
    steps: list[int] = []

    class Counting:
        def row(self, sql: str, args: tuple[int, ...]) -> tuple[int] | None:
            steps.append(args[0])
            return dialect_of(store).read(lambda session: session.row(sql, args))

    mine = [3, 17, 40]
    assert list(sql_strays.ready_targets(Counting(), mine)) == [3, 17]
    assert steps == mine


def test_a_run_id_is_given_once(store: SqlStore, book: Book) -> None:
    row = book.create(overlap=Overlap.ALLOW)
    at = book.clock.advance(MINUTE)
    other = book.create("other", overlap=Overlap.ALLOW)
    tile = book.fired(row, at)
    book.settle(book.decision(row, tile))
    before = book.picture()

    with pytest.raises(StoreError, match="UNIQUE"):
        book.settle(book.decision(other, tile))

    assert book.picture() == before


def test_more_names_than_a_statement_takes_are_asked_for_in_turns(book: Book) -> None:
    for name in ("a", "m", "z"):
        book.create(name)
    many = (*(f"name-{number}" for number in range(40_000)), "z", "a", "m")

    assert [row.name for row in book.store.schedules(ScheduleQuery(names=many))] == ["a", "m", "z"]
    assert [row.name for row in book.store.schedules(ScheduleQuery(names=many, limit=2))] == ["a", "m"]
    assert [row.name for row in book.store.schedules(ScheduleQuery(names=many, after="a"))] == ["m", "z"]
    assert len(book.store.owing(["a", "m", "nobody"])) == 2
