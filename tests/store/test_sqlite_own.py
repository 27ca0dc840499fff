"""What only SQLite has: one file, its locks, its kernel, its journals, and the end of a process."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from tests.store.sqlite_place import by_hand, connected, dialect_of, opened_at, python

from onebeat.core.errors import StoreError, StoreUnavailable, StoreUnsafe
from onebeat.core.messages import ScheduleQuery
from onebeat.core.model import Overlap
from onebeat.store.dialects import sqlite, sqlite_connections, sqlite_file
from onebeat.store.dialects.protocol import Session
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock
from onebeat.testing.conformance_stage import HOUR, MINUTE, Book

PATIENCE_S = 30.0


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


# --- the file ---------------------------------------------------------------------------------------


def test_a_file_that_was_removed_underneath_is_not_written_any_more(path: Path, book: Book) -> None:
    # Others would make a new one of that name, and both would fire.
    row = book.create(overlap=Overlap.ALLOW)
    at = book.clock.advance(MINUTE)
    for file in path.parent.iterdir():
        file.unlink()

    with pytest.raises(StoreUnsafe, match="removed, moved or replaced"):
        book.settle(book.decision(row, book.fired(row, at)))


def test_a_file_that_was_replaced_underneath_is_not_written_any_more(
    path: Path, clock: VirtualClock, book: Book
) -> None:
    book.create()
    other = path.with_name("other.db")
    opened_at(other, clock).close()
    other.replace(path)

    with pytest.raises(StoreUnsafe, match="removed, moved or replaced"):
        book.create("b")


def test_a_missing_folder_is_told_as_what_it_is(path: Path, clock: VirtualClock) -> None:
    with pytest.raises(StoreUnavailable, match="folder exists"):
        opened_at(path / "deeper" / "x.db", clock)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, clock: VirtualClock) -> None:
    path.write_bytes(b"no database, but somebody's letters\n" * 100)
    before = path.read_bytes()

    with pytest.raises(StoreError, match="no intact SQLite database"):
        opened_at(path, clock)

    assert path.read_bytes() == before


def test_a_full_disk_changes_nothing_and_says_so(path: Path, store: SqlStore, book: Book) -> None:
    book.create()
    before = book.picture()
    dialect = dialect_of(store)
    pages = dialect.read(lambda session: session.rows("PRAGMA page_count"))[0][0]
    dialect.write(lambda session: session.rows(f"PRAGMA max_page_count = {pages}"))

    def fill() -> None:
        for number in range(1000):
            book.create(f"s{number}", book.definition(tags=("x" * 1000,)))

    with pytest.raises(StoreUnavailable, match="the disk is full"):
        fill()
    rows = len(book.store.schedules(ScheduleQuery(limit=2000)))
    dialect.write(lambda session: session.rows("PRAGMA max_page_count = 1000000"))

    assert len(book.events()) == rows
    assert book.picture()[0][0] == before[0][0]
    assert book.create("after").version == 1


def test_a_closed_store_says_that_it_was_closed(store: SqlStore) -> None:
    store.close()
    store.close()

    with pytest.raises(StoreError, match="was closed"):
        store.due(store.now(), 1)
    with pytest.raises(StoreError, match="was closed"):
        store.record([])


# --- one kernel -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(sqlite_file.FOREIGN.values())))
def test_a_share_is_refused_whatever_one_says(
    name: str, path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    magic = next(magic for magic, known in sqlite_file.FOREIGN.items() if known == name)
    monkeypatch.setattr(sqlite_file, "file_system", lambda folder: magic)

    with pytest.raises(StoreUnsafe, match=re.escape(name)):
        opened_at(path, clock)

    assert not path.exists()


def test_the_file_system_of_a_folder_is_asked_from_the_kernel(tmp_path: Path) -> None:
    assert sqlite_file.file_system(Path("/proc")) == 0x9FA0
    assert sqlite_file.file_system(tmp_path / "not there") == 0


def another_boot(monkeypatch: pytest.MonkeyPatch, boot_id: str = "another") -> None:
    monkeypatch.setattr(sqlite_file, "boot_id", lambda: boot_id)


def test_another_kernel_is_refused_while_a_node_is_announced(
    path: Path, clock: VirtualClock, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.store.announce(book.node("node-7", host="ant"))
    another_boot(monkeypatch)

    with pytest.raises(StoreUnsafe, match="node-7 on ant"):
        opened_at(path, clock)
    clock.advance(MINUTE)

    opened_at(path, clock).close()
    assert by_hand(path, "SELECT value FROM onebeat_meta WHERE name = 'boot_id'") == [("another",)]


def test_the_kernel_that_lost_the_file_is_refused_in_its_turn(
    path: Path, clock: VirtualClock, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        another_boot(elsewhere)
        other = opened_at(path, clock)
        other.announce(Book(other, clock).node("node-9", host="bee"))
        other.close()

    with pytest.raises(StoreUnsafe, match="node-9 on bee"):
        opened_at(path, clock)


def test_a_machine_that_does_not_tell_its_boot_is_let_in(
    path: Path, clock: VirtualClock, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.store.announce(book.node())
    another_boot(monkeypatch, "")

    opened_at(path, clock).close()


# --- journals ---------------------------------------------------------------------------------------


def test_a_fixed_library_keeps_a_write_ahead_log(store: SqlStore) -> None:
    facts = store.facts()

    assert (facts["kind"], facts["journal"]) == ("sqlite", "wal")
    assert "safe" in facts["verdict"]
    assert "FULL" in facts["durability"]


def test_an_unfixed_library_keeps_a_rollback_journal(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "fixed", lambda version: False)
    store = opened_at(path, clock)
    book = Book(store, clock)
    book.create()

    book.fire()

    assert store.facts()["journal"] == "truncate"
    assert not path.with_name(path.name + "-wal").exists()
    store.close()


def test_a_fixed_library_leaves_the_journal_of_a_file_in_use_as_it_is(
    path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(sqlite_file, "fixed", lambda version: False)
        opened_at(path, clock).close()

    store = opened_at(path, clock)

    assert store.facts()["journal"] != "wal"
    store.close()


def test_an_unfixed_library_is_refused_a_log_that_others_use(
    path: Path, clock: VirtualClock, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "fixed", lambda version: False)
    monkeypatch.setattr(sqlite_connections, "BUSY_NAPS_MAX", 3)

    with pytest.raises((StoreUnsafe, StoreUnavailable)):
        opened_at(path, clock)

    assert store.facts()["journal"] == "wal"


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.40.1", False),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.52.0", True),
        ("3.53.0", True),
        ("4.0.0", True),
    ],
)
def test_versions_that_can_corrupt_a_shared_log_are_known(version: str, fixed: bool) -> None:
    assert sqlite_file.fixed(version) is fixed


def test_every_connection_waits_for_the_disk(path: Path, store: SqlStore) -> None:
    dialect = dialect_of(store)

    for transaction in (dialect.read, dialect.write):
        assert transaction(lambda session: session.rows("PRAGMA synchronous")) == [(2,)]
        assert transaction(lambda session: session.rows("PRAGMA mmap_size")) in ([(0,)], [])


# --- locks ------------------------------------------------------------------------------------------


def test_a_lock_that_nobody_lets_go_is_an_error_in_bounded_time(
    path: Path, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.create()
    before = book.picture()
    monkeypatch.setattr(sqlite_connections, "BUSY_NAPS_MAX", 5)
    with connected(path) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable, match="another process holds its lock"):
            book.create("b")

        assert book.picture() == before
        other.execute("ROLLBACK")
    assert book.create("b").name == "b"


def test_reading_goes_on_while_somebody_writes(path: Path, book: Book) -> None:
    row = book.create()
    with connected(path) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE onebeat_schedules SET version = 99")

        assert book.row() == row


def test_a_passing_error_repeats_the_whole_verb_from_nothing(store: SqlStore) -> None:
    seen: list[int] = []

    def work(session: Session) -> int:
        ((count,),) = session.rows("SELECT count(*) FROM onebeat_cursors")
        seen.append(count)
        session.run("INSERT INTO onebeat_cursors (name, event_id) VALUES ('a', 1)")
        if len(seen) < sqlite.ATTEMPTS:
            raise apsw.BusyError("somebody else")
        return count

    assert dialect_of(store).write(work) == 0
    assert seen == [0] * sqlite.ATTEMPTS


def test_an_error_that_stays_is_told_and_leaves_nothing(store: SqlStore) -> None:
    def work(session: Session) -> None:
        session.run("INSERT INTO onebeat_cursors (name, event_id) VALUES ('a', 1)")
        raise apsw.BusyError("somebody else")

    with pytest.raises(StoreUnavailable):
        dialect_of(store).write(work)

    assert dialect_of(store).read(lambda session: session.rows("SELECT * FROM onebeat_cursors")) == []


def test_what_a_verb_raises_itself_rolls_back_and_is_raised(store: SqlStore) -> None:
    def work(session: Session) -> None:
        session.run("INSERT INTO onebeat_cursors (name, event_id) VALUES ('a', 1)")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dialect_of(store).write(work)

    assert dialect_of(store).read(lambda session: session.rows("SELECT * FROM onebeat_cursors")) == []
    assert store.cursor("b") == 0


KILLED = """
import os, signal, sys
from onebeat.store.open import open_store
from onebeat.testing.clock import VirtualClock
store = open_store(sys.argv[1], VirtualClock())
def work(session):
    session.run("UPDATE onebeat_schedules SET version = version + 1")
    session.run("DELETE FROM onebeat_changes")
    os.kill(os.getpid(), signal.SIGKILL)
store._dialect.write(work)
"""


def test_a_process_killed_within_a_transaction_leaves_nothing_and_holds_nothing(
    path: Path, book: Book
) -> None:
    book.create()
    before = book.picture()

    killed = python(KILLED, f"sqlite:///{path}")

    assert killed.returncode == -signal.SIGKILL
    assert book.picture() == before
    assert book.create("b").version == 1


# --- fork -------------------------------------------------------------------------------------------

FORKED = """
import os, sys
from onebeat.core.messages import ScheduleQuery
from onebeat.store.open import open_store
from onebeat.testing.clock import VirtualClock
from onebeat.testing.conformance_stage import Book

def held():
    "Return the open files and locks of this process on the ledger."
    files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()
             and os.path.exists(f"/proc/self/fd/{fd}")]
    return [file for file in files if "ledger.db" in file]

clock = VirtualClock()
store = open_store(sys.argv[1], clock)
book = Book(store, clock)
book.create("parent")
assert held()
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    try:
        assert held() == [], held()
        os.read(reading, 1)
        book._edits = 100
        book.create("child")
        book.fire("child")
        store.wait(store.now())
        store.close()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
book.create("mine")
os.write(writing, b"x")
assert os.waitpid(child, 0)[1] == 0
book.create("after")
assert [row.name for row in store.schedules(ScheduleQuery())] == ["after", "child", "mine", "parent"]
store.close()
print("both lived")
"""


def test_seed_30_a_forked_child_opens_its_own_connections(path: Path) -> None:
    # Gunicorn with --preload: SQLite's locks do not travel, and a closing child may delete the parent's log.
    forked = python(FORKED, f"sqlite:///{path}")

    assert forked.stdout == "both lived\n", forked.stderr


# --- waiting ----------------------------------------------------------------------------------------


def test_a_change_by_another_process_ends_a_wait(path: Path, store: SqlStore, clock: VirtualClock) -> None:
    store.wait(store.now())
    other = opened_at(path, clock)  # to SQLite another connection is another process
    woken: list[bool] = []
    begun = threading.Event()

    def wait() -> None:
        store.wait(store.now())
        begun.set()
        woken.append(store.wait(store.now() + HOUR))

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(PATIENCE_S)
    Book(other, clock).create()
    thread.join(PATIENCE_S)
    other.close()

    assert woken == [True]


def test_every_waiting_thread_hears_of_it(path: Path, store: SqlStore, clock: VirtualClock) -> None:
    other = opened_at(path, clock)
    woken: list[bool] = []
    begun = threading.Barrier(4)

    def wait() -> None:
        store.wait(store.now())
        begun.wait(PATIENCE_S)
        woken.append(store.wait(store.now() + HOUR))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE_S)
    Book(other, clock).create()
    for thread in threads:
        thread.join(PATIENCE_S)
    other.close()

    assert woken == [True] * 3


def test_when_the_thread_that_looks_leaves_another_one_looks(
    path: Path, store: SqlStore, clock: VirtualClock
) -> None:
    other = opened_at(path, clock)
    woken: list[bool] = []
    begun = threading.Barrier(2)

    def wait_long() -> None:
        store.wait(store.now())
        begun.wait(PATIENCE_S)
        woken.append(store.wait(store.now() + HOUR))

    thread = threading.Thread(target=wait_long)
    store.wait(store.now())
    thread.start()
    begun.wait(PATIENCE_S)
    store.wait(store.now() + timedelta(milliseconds=150))
    Book(other, clock).create()
    thread.join(PATIENCE_S)
    other.close()

    assert woken == [True]


def test_ones_own_changes_are_not_taken_for_those_of_others(store: SqlStore, book: Book) -> None:
    book.create()
    store.wait(store.now())
    book.store.announce(book.node())
    book.claim()

    assert store.wait(store.now()) is False


def test_who_finds_nothing_to_do_waits_for_no_lock(path: Path, book: Book) -> None:
    # Fifty idle workers look after each commit of anybody: they must not queue for the right to write.
    book.create()
    book.store.cursor("reader", 7)
    with connected(path) as other:
        other.execute("BEGIN IMMEDIATE")

        assert book.claim() == []
        assert book.store.cursor("reader") == 7
        assert book.store.cursor("reader", 3) == 7
        assert book.store.due(book.now, 10).rows == ()
        assert book.store.purge(book.now, 10).runs == 0
