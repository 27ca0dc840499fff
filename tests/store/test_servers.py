"""What only a server can show: its clock, rows that others hold, connections that end, nodes elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from tests.servers import ledgers
from tests.servers.pairs import until
from tests.store.sqlite_place import python
from tests.store.test_migrations import STARTING

from onebeat.core.codec import FORMAT
from onebeat.core.errors import InvalidInput, MissingExtra, SchemaMismatch, StoreError, StoreUnavailable
from onebeat.core.messages import Answer, Done, Edit, EventQuery, Finish, Hold, PutAnswer
from onebeat.core.model import Event, Outcome, Overlap, RunState
from onebeat.engine.clock import SystemClock
from onebeat.store import migrations, upkeep
from onebeat.store.dialects import postgres_driver
from onebeat.store.dialects.postgres_session import Executing
from onebeat.store.dialects.postgres_waking import Listener
from onebeat.store.dialects.protocol import Session
from onebeat.store.open import open_dialect, open_store
from onebeat.store.sql import CURSOR, CURSOR_LOCKED, CURSOR_MOVED, SqlStore
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import HOUR, MINUTE, Book

BOTH = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
LONG_S = 60.0


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return ledgers.ledger_url(kind, tmp_path)


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], SqlStore]]:
    """Open the ledger as one more node, on the server's clock."""
    with ExitStack() as left:

        def one_more() -> SqlStore:
            store = left.enter_context(closing(open_store(url, SystemClock())))
            assert isinstance(store, SqlStore)
            return store

        yield one_more


@pytest.fixture
def played(url: str) -> Iterator[Book]:
    """The same ledger, on a clock that is set by hand."""
    clock = VirtualClock(NOON)
    with closing(ledgers.opened_at(url, clock)) as store:
        yield Book(store, clock)


@pytest.fixture
def beside(played: Book, url: str) -> Iterator[Callable[[], SqlStore]]:
    """Open it once more, on the same clock."""
    with ExitStack() as left:
        yield lambda: left.enter_context(closing(ledgers.opened_at(url, played.clock)))


# --- the clock --------------------------------------------------------------------------------------


def test_the_clock_is_the_servers_whatever_the_nodes_says(url: str) -> None:
    with closing(open_store(url, VirtualClock(NOON - 10_000 * HOUR))) as store:
        assert abs(store.now() - SystemClock().now()) < HOUR


def test_a_settle_that_the_servers_clock_has_not_reached_is_early(opened: Callable[[], SqlStore]) -> None:
    store = opened()

    told = store.settle(store.now() + HOUR, [])

    assert told.early_by is not None
    assert HOUR - timedelta(minutes=1) < told.early_by <= HOUR
    assert store.settle(store.now(), []).early_by is None


# --- what others hold -------------------------------------------------------------------------------


def test_a_schedule_whose_row_somebody_holds_is_passed_over_and_fires_after(
    played: Book, kind: str, url: str
) -> None:
    rows = [played.create(name) for name in ("held", "free")]
    played.clock.advance(HOUR)
    decisions = [played.decision(row, played.fired(row, played.now)) for row in rows]

    with ledgers.connected(kind, url) as run:
        run("SELECT id FROM onebeat_schedules WHERE name = 'held' FOR UPDATE")
        assert played.settle(*decisions) == (False, True)

    assert played.settle(decisions[0]) == (True,)
    assert len(played.states()) == 2


def test_ready_runs_that_somebody_holds_are_left_and_the_others_claimed(
    played: Book, kind: str, url: str
) -> None:
    for name in ("held", "free"):
        played.create(name)
    held, free = played.fire("held"), played.fire("free")

    with ledgers.connected(kind, url) as run:
        run(f"SELECT seq FROM onebeat_runs WHERE id = '{held.id}' FOR UPDATE")
        assert [each.run.id for each in played.claim()] == [free.id]

    assert len(played.claim()) == 1


def test_what_concerns_another_schedule_does_not_wait_for_a_row_that_somebody_holds(
    played: Book, kind: str, url: str
) -> None:
    for name in ("held", "free"):
        played.create(name, overlap="queue_all", max_running=1)
    held, free = played.running("held"), played.running("free")

    with ledgers.connected(kind, url) as run:
        run("SELECT id FROM onebeat_schedules WHERE name = 'held' FOR UPDATE")
        run(f"SELECT seq FROM onebeat_runs WHERE id = '{held.id}' FOR UPDATE")
        # Each of these would meet the other's row if it walked through the table, and wait for 10 s.
        assert played.finish(free).answer is Answer.ACCEPTED
        edited = played.accept(played.change(played.row("free")))
        asked = played.request("free", "k")
        assert played.claim()[0].run.id == asked.id
        assert run("SELECT 1") == [(1,)]
    assert played.row("free").version == edited.version + 1
    assert played.finish(held).answer is Answer.ACCEPTED


def test_no_reader_sees_an_event_before_one_with_a_smaller_id(
    opened: Callable[[], SqlStore], kind: str, url: str
) -> None:
    store, other = opened(), opened()
    events = [Event(at=store.now(), kind="node.started", reason=reason) for reason in ("first", "second")]

    with under_way(store, lambda session: store._tell(session, events[:1])) as done:
        assert done.wait(LONG_S)
        second = threading.Thread(target=other.record, args=(events[1:],))
        second.start()
        until(lambda: ledgers.somebody_waits(kind, url))
        assert other.events(EventQuery()) == []
    second.join(LONG_S)

    assert [event.reason for event in other.events(EventQuery())] == ["first", "second"]


@contextmanager
def under_way(store: SqlStore, work: Callable[[Session], object]) -> Iterator[threading.Event]:
    """Do something in a transaction that is committed at the end; give the event that it is done."""
    done, commit = threading.Event(), threading.Event()

    def slowly(session: Session) -> None:
        work(session)
        session.now()  # an answer: until then nothing need have been sent
        done.set()
        commit.wait(LONG_S)

    thread = threading.Thread(target=store._dialect.write, args=(slowly,))
    thread.start()
    try:
        yield done
    finally:
        commit.set()
        thread.join(LONG_S)


def limiting(played: Book) -> tuple[Edit, Finish]:
    """Return the end of a run whose schedule has no limit, and the edit that puts one on it."""
    played.create(overlap=Overlap.ALLOW)
    run = played.running()
    edit = played.change(played.row(), definition=played.definition(overlap=Overlap.QUEUE_ALL))
    verdict = Done(state=RunState.SUCCEEDED)
    return edit, Finish(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=verdict)


def test_an_edit_that_puts_a_limit_waits_for_the_ends_under_way(
    played: Book, beside: Callable[[], SqlStore], kind: str, url: str
) -> None:
    store = beside()
    edit, end = limiting(played)
    with under_way(store, lambda session: store._advance(session, [end])) as done:
        assert done.wait(LONG_S)
        edited = threading.Thread(target=played.accept, args=(edit,))
        edited.start()
        until(lambda: ledgers.somebody_waits(kind, url))
        assert played.row().version == edit.expected_version  # or an occurrence would be queued for nothing
    edited.join(LONG_S)

    ((row, load),) = played.store.owing(["a"])
    assert (row.definition.policy.max_running, load.live) == (1, 0)


def test_an_edit_and_an_end_of_its_runs_never_wait_for_each_other(
    played: Book, kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, end = limiting(played)
    tries: list[Session] = []
    put = SqlStore._put

    def counted(store: SqlStore, session: Session, edits: Sequence[Edit]) -> list[PutAnswer]:
        tries.append(session)
        return put(store, session, edits)

    monkeypatch.setattr(SqlStore, "_put", counted)
    with ledgers.connected(kind, url) as run:  # what an end does: it holds the row, and then writes it
        run(f"SELECT seq FROM onebeat_runs WHERE id = '{end.run_id}' FOR UPDATE")
        edited = threading.Thread(target=played.accept, args=(edit,))
        edited.start()
        until(lambda: ledgers.somebody_waits(kind, url))
        told = "RETURNING seq" if kind == "postgres" else ""
        run(f"UPDATE onebeat_runs SET slot = NULL WHERE id = '{end.run_id}' {told}")
    edited.join(LONG_S)

    assert len(tries) == 1


def test_an_end_that_waited_for_an_edit_holds_the_schedule_that_has_a_limit_now(
    played: Book, beside: Callable[[], SqlStore], kind: str, url: str
) -> None:
    editor, ender = beside(), beside()
    edit, end = limiting(played)
    with ExitStack() as ending:
        with under_way(editor, lambda session: editor._put(session, [edit])) as written:
            assert written.wait(LONG_S)
            done = ending.enter_context(under_way(ender, lambda session: ender._advance(session, [end])))
            until(lambda: ledgers.somebody_waits(kind, url))

        assert done.wait(LONG_S)
        played.clock.advance(MINUTE)
        row = played.row()
        queued = played.decision(row, played.fired(row, played.now, RunState.WAITING))
        assert played.settle(queued) == (False,)  # what it queued now, nobody would let in

    assert played.settle(queued) == (True,)
    assert set(played.states().values()) == {RunState.SUCCEEDED, RunState.READY}


# --- connections that end ---------------------------------------------------------------------------


def test_a_connection_that_the_server_ended_is_made_anew(
    opened: Callable[[], SqlStore], kind: str, url: str
) -> None:
    store = opened()
    assert store.cursor("mine", 1) == 1

    ledgers.end_connections(kind, url)

    assert store.cursor("mine", 2) == 2
    assert store.cursor("mine") == 2


@pytest.mark.slow
def test_a_node_that_stands_still_within_a_transaction_does_not_keep_its_rows(
    opened: Callable[[], SqlStore],
) -> None:
    stopped, other = opened(), opened()
    assert other.cursor("mine", 1) == 1
    held, goes_on = threading.Event(), threading.Event()
    tries: list[Session] = []

    def standing_still(session: Session) -> int:
        tries.append(session)
        session.lock(CURSOR_LOCKED, ["mine"])
        row = session.row(CURSOR, ("mine",))
        held.set()
        assert goes_on.wait(LONG_S)
        session.run(CURSOR_MOVED, (3, "mine"))
        return int(row[0]) if row else 0

    with ThreadPoolExecutor(1) as one:
        seen = one.submit(stopped._dialect.write, standing_still)
        try:
            assert held.wait(LONG_S)
            assert other.cursor("mine", 2) == 2
        finally:
            goes_on.set()

        assert (seen.result(), len(tries)) == (2, 2)  # it was told, and has done the whole again
    assert other.cursor("mine") == 3


@pytest.mark.server("postgres")
def test_what_is_committed_is_done_though_the_line_to_tell_others_by_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(db: Executing) -> None:
        db.execute("SELECT pg_terminate_backend(pg_backend_pid())", ())

    with closing(open_store(ledgers.ledger_url("postgres", tmp_path), SystemClock())) as store:
        assert isinstance(store, SqlStore)
        # A process that has not waited yet tells others by an ordinary connection.
        monkeypatch.setattr(Listener, "say", lambda self, db: cut_off(db))

        assert store.hold(Hold(since_at=store.now(), actor="me"), "first") is None

        assert (store.held() or Hold(since_at=NOON)).actor == "me"


@pytest.mark.server("postgres")
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "committed"])
@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("40001", "could not be used: on purpose"),
        ("40P01", "could not be used: on purpose"),
        ("23505", "holds such a row already: on purpose"),
        ("55P03", "another transaction held a row for too long"),
        ("57P01", "could not be used: on purpose"),
        ("53100", "is full: on purpose"),
        ("42601", "refused a statement: on purpose"),
    ],
)
def test_what_failed_first_is_told_whatever_was_sent_after_it(
    tmp_path: Path, code: str, what: str, asked: bool
) -> None:
    def failing(session: Session) -> None:
        session.now()  # an answer, in the same transaction
        session.run(f"DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $$")
        session.run("DELETE FROM onebeat_cursors")
        if asked:
            session.now()

    with closing(open_store(ledgers.ledger_url("postgres", tmp_path), SystemClock())) as store:
        assert isinstance(store, SqlStore)
        store.cursor("mine", 1)

        with pytest.raises(StoreError, match=what):
            store._dialect.write(failing)

        assert store.cursor("mine", 2) == 2
        assert store.cursor("mine", 1) == 2  # which the deletion would have let go back


FORKING = """
import os, sys
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
store = open_store(sys.argv[1], SystemClock())
store.cursor("parent", 1)
child = os.fork()
if child == 0:
    store.cursor("child", 2)
    store.close()
    os._exit(0)
status = os.waitpid(child, 0)[1]
store.cursor("parent", 3)
print(status, store.cursor("parent"), store.cursor("child"))
store.close()
"""


def test_a_child_of_fork_uses_connections_of_its_own(url: str) -> None:
    told = python(FORKING, url)

    assert (told.stderr, told.stdout.split()) == ("", ["0", "3", "2"])


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    for scheme in ("postgresql", "mysql"):
        with pytest.raises(StoreUnavailable, match="try again") as told:
            open_store(f"{scheme}://ada:secret@127.0.0.1:1/beats", SystemClock())

        assert f"{scheme}://127.0.0.1:1/beats" in str(told.value)
        assert "secret" not in str(told.value)


# --- waking -----------------------------------------------------------------------------------------


def woken(store: SqlStore) -> threading.Thread:
    """Return a thread that ends when the store is woken, and not before an hour otherwise."""
    thread = threading.Thread(target=store.wait, args=(store.now() + HOUR,), daemon=True)
    thread.start()
    return thread


def test_a_change_of_one_node_wakes_another(opened: Callable[[], SqlStore]) -> None:
    store, other = opened(), opened()
    other.wait(other.now())  # from here on it knows what is new
    waiting = woken(other)

    Book(store, VirtualClock(store.now())).create()

    waiting.join(LONG_S)
    assert not waiting.is_alive()


@pytest.mark.server("postgres")
def test_a_node_whose_listening_ended_listens_again(tmp_path: Path) -> None:
    url = ledgers.ledger_url("postgres", tmp_path)
    with closing(open_store(url, SystemClock())) as store:
        store.wait(store.now() + HOUR)  # woken by beginning to listen
        waiting = woken(store)

        ledgers.end_connections("postgres", url)

        waiting.join(LONG_S)
        assert not waiting.is_alive()


# --- the tables -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_nodes_that_start_on_an_empty_database_at_once_all_come_up(
    url: str, opened: Callable[[], SqlStore]
) -> None:
    starters = 20

    started = python(STARTING, url, starters)

    assert (started.stderr, started.returncode) == ("", 0)
    store = opened()
    assert [store.cursor(f"s{number}") for number in range(starters)] == list(range(starters))


def test_the_printed_script_makes_tables_that_a_node_takes(url: str) -> None:
    with pytest.raises(SchemaMismatch, match="onebeat migrate"):
        open_store(url, SystemClock(), migrate=False)
    script = upkeep.script(url, SystemClock())
    with closing(open_dialect(url, SystemClock())) as dialect:
        dialect.write(lambda session: session.run(script))

        steps = migrations.steps(dialect.kind)
        made = dialect.read(migrations.made)
        assert made == {(step.number, step.step) for step in steps if step.step == "pre"}
        assert dialect.read(lambda session: session.row(migrations.FORMAT_READ)) == (FORMAT,)
    open_store(url, SystemClock(), migrate=False).close()
    assert upkeep.migrate(url, SystemClock()) == []


def test_a_text_with_a_nul_in_it_is_kept(opened: Callable[[], SqlStore]) -> None:
    store = opened()
    store.record([Event(at=store.now(), kind="node.started", reason="a\0b"), Event(at=store.now(), kind="x")])

    reasons = [event.reason for event in store.events(EventQuery())]

    assert reasons[0] in ("a\0b", "a␀b")
    assert reasons[1] == ""


# --- urls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql://host", "names no database"),
        ("mysql://host/beats?sll_ca=x", "and not sll_ca"),
        ("postgresql://host/beats?schema=a%22b", "no name"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        open_store(url, SystemClock())


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://ada:secret@one:1,two:2/beats", "postgresql://one:1,two:2/beats"),
        ("postgresql://one,two/beats?password=secret", "postgresql://one:5432,two:5432/beats"),
        ("postgresql:///beats", "postgresql://localhost:5432/beats"),
    ],
)
def test_the_servers_that_a_url_leads_to_are_named_without_its_password(url: str, place: str) -> None:
    assert postgres_driver.hidden(url) == place


@pytest.mark.parametrize(("library", "url"), [("psycopg", "postgresql://h/d"), ("pymysql", "mysql://h/d")])
def test_without_its_driver_a_url_names_the_extra(library: str, url: str) -> None:
    script = f"""
import sys
sys.modules[{library!r}] = None
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store
try:
    open_store({url!r}, SystemClock())
except Exception as error:
    print(type(error).__name__, error)
"""

    told = python(script).stdout

    assert told.startswith(MissingExtra.__name__)
    assert "pip install 'onebeat[" in told
