"""Schedules and requests within a transaction of the caller's own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apsw
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.seed.cluster import T0, ledger_at, url_of
from tests.seed.lent import SECOND
from tests.servers import mariadb

from onebeat import Conflict, InvalidInput, NotFound, Onebeat, Refused, call, hours, interval, once
from onebeat.core.messages import EventQuery, RunQuery
from onebeat.engine.dispatcher import Dispatcher
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock

pytestmark = pytest.mark.slow

POSTGRES = pytest.param("postgres", marks=pytest.mark.server("postgres"))
MARIADB = pytest.param("mariadb", marks=pytest.mark.server("mariadb"))
on_every_database = pytest.mark.parametrize("home", ["sqlite", POSTGRES, MARIADB], indirect=True)
on_every_server = pytest.mark.parametrize("home", [POSTGRES, MARIADB], indirect=True)
on_postgres = pytest.mark.parametrize("home", [POSTGRES], indirect=True)
on_mariadb = pytest.mark.parametrize("home", [MARIADB], indirect=True)
on_a_file = pytest.mark.parametrize("home", ["sqlite"], indirect=True)
TARGET = call("shop.orders:close")


@pytest.fixture
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that is named for its database, and stands for one ledger there."""
    place = tmp_path / request.param
    place.mkdir()
    return place


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(T0)


@pytest.fixture
def beat(home: Path, clock: VirtualClock) -> Iterator[Onebeat]:
    """An app on the ledger, with the user's table beside it and one schedule in it."""
    with Onebeat(store=ledger_at(home, clock), clock=clock, actor="ada") as beat:
        assert isinstance(beat.store, SqlStore)
        beat.store._dialect.write(lambda session: session.run("CREATE TABLE orders (number BIGINT NOT NULL)"))
        beat.schedules.put("there", interval(hours=1), TARGET, overlap="allow")
        yield beat


def server(home: Path) -> str:
    """The URL of the ledger's server and database, as other programs write it."""
    return url_of(home).partition("?")[0]


def opened(home: Path, **more: Any) -> Any:
    """A connection of the user's own, which begins a transaction by itself."""
    if home.name == "sqlite":
        db = apsw.Connection(str(home / "ledger.db"))
        db.execute("BEGIN")
        return db
    if home.name == "postgres":
        import psycopg

        return psycopg.connect(server(home), **more)
    db = mariadb.connected(server(home))
    db.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return db


def order(home: Path, connection: Any) -> None:
    """Write what is the user's own."""
    schema = url_of(home).partition("?schema=")[2]
    table = f'"{schema}".orders' if schema else "orders"
    connection.cursor().execute(f"INSERT INTO {table} (number) VALUES (17)")


def orders(beat: Onebeat) -> int:
    assert isinstance(beat.store, SqlStore)
    return len(beat.store._dialect.read(lambda session: session.rows("SELECT number FROM orders")))


def act(beat: Onebeat, connection: object) -> None:
    """Do in a transaction all that may be done there."""
    using = beat.using(connection)
    using.schedules.put("close-17", once(in_=hours(1)), TARGET)
    using.runs.request("there", key="of-17")


def seen(beat: Onebeat) -> tuple[bool, bool]:
    """Whether the schedule and the run of ``act`` are there, for others."""
    rows, runs = beat.store.owing(["close-17"]), beat.store.runs(RunQuery(schedule="there"))
    return bool(rows), bool(runs)


# --- with the driver's own connections ------------------------------------------------------------------


@on_every_database
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_what_is_done_there_comes_with_the_commit_and_goes_with_a_rollback(
    home: Path, beat: Onebeat, end: str
) -> None:
    with closing(opened(home)) as connection:
        order(home, connection)
        act(beat, connection)
        assert seen(beat) == (False, False)
        connection.cursor().execute(end)

    assert seen(beat) == (end == "COMMIT",) * 2
    assert orders(beat) == (end == "COMMIT")


@on_every_database
def test_a_schedule_just_put_can_be_asked_for_a_run_and_is_not_put_twice(home: Path, beat: Onebeat) -> None:
    with closing(opened(home)) as connection:
        using = beat.using(connection)
        using.schedules.put("new", interval(hours=1), TARGET)
        with pytest.raises(Conflict, match="there is a schedule new already"):
            using.schedules.put("new", interval(hours=1), TARGET)
        assert not using.schedules.put("new", interval(hours=2), TARGET, if_exists="ignore").changed
        assert using.runs.request("new", key="k").id == "new!k"
        with pytest.raises(NotFound):
            using.runs.request("nobody")
        connection.cursor().execute("COMMIT")

    assert beat.runs.show("new!k").run.schedule == "new"


@on_every_database
@pytest.mark.parametrize(("grace", "fires"), [(None, True), (60, True), (10, False)])
def test_what_comes_due_before_the_commit_is_late_and_under_grace(
    home: Path, beat: Onebeat, clock: VirtualClock, grace: float | None, fires: bool
) -> None:
    with closing(opened(home)) as connection:
        beat.using(connection).schedules.put("soon", once(in_=10 * SECOND), TARGET, grace=grace)
        clock.advance(40 * SECOND)
        connection.cursor().execute("COMMIT")

    Dispatcher(beat.store, clock, holder="node").step()

    runs = beat.runs.list(schedule="soon")
    assert [run.due_at for run in runs] == ([T0 + 10 * SECOND] if fires else [])
    skipped = beat.store.events(EventQuery(kinds=("occurrence.skipped",)))
    assert [event.reason for event in skipped] == ([] if fires else ["misfire"])
    assert beat.audit(["soon"]).right


@on_every_server
def test_an_open_transaction_of_the_callers_stops_nobody_else(
    home: Path, beat: Onebeat, clock: VirtualClock
) -> None:
    beat.schedules.put("skipping", interval(minutes=1), TARGET, overlap="skip", grace=1)
    with closing(opened(home)) as connection:
        act(beat, connection)
        clock.advance(90 * SECOND)
        Dispatcher(beat.store, clock, holder="node").step()
        beat.schedules.put("meanwhile", interval(hours=1), call("shop.orders:another"))

        assert [event.schedule for event in beat.store.events(EventQuery(kinds=("occurrence.skipped",)))]
        assert [row.name for row in beat.schedules.list()] == ["meanwhile", "skipping", "there"]
        connection.rollback()


@on_every_server
def test_the_connection_keeps_its_own_settings(home: Path, beat: Onebeat) -> None:
    looks = {
        "postgres": "SELECT current_setting('search_path'), current_setting('lock_timeout')",
        "mariadb": "SELECT @@sql_mode, @@time_zone, @@innodb_lock_wait_timeout",
    }
    with closing(opened(home)) as connection:
        cursor = connection.cursor()
        cursor.execute(looks[home.name])
        before = cursor.fetchone()
        act(beat, connection)
        with pytest.raises(NotFound):
            beat.using(connection).runs.request("nobody")
        cursor.execute(looks[home.name])
        assert cursor.fetchone() == before


@on_postgres
def test_a_connection_whose_rows_are_mappings_is_as_good(home: Path, beat: Onebeat) -> None:
    from psycopg.rows import dict_row

    with closing(opened(home, row_factory=dict_row)) as connection:
        act(beat, connection)
        connection.commit()
    assert seen(beat) == (True, True)


@on_every_database
def test_a_commit_may_be_told_at_once(home: Path, beat: Onebeat, clock: VirtualClock) -> None:
    beat.store.wait(clock.now())
    with closing(opened(home)) as connection:
        using = beat.using(connection)
        using.schedules.put("new", interval(hours=1), TARGET)
        connection.cursor().execute("COMMIT")
    using.committed()

    assert beat.store.wait(clock.now() + 3600 * SECOND)


# --- by SQLAlchemy --------------------------------------------------------------------------------------


def engine(home: Path) -> sqlalchemy.Engine:
    return sqlalchemy.create_engine(alchemy(home), isolation_level="READ COMMITTED")


def alchemy(home: Path) -> str:
    driver = {"postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}[home.name]
    return urlsplit(server(home))._replace(scheme=driver).geturl()


@on_every_server
@pytest.mark.parametrize("commits", [True, False])
def test_a_connection_or_session_of_sqlalchemy_is_joined(home: Path, beat: Onebeat, commits: bool) -> None:
    made = engine(home)
    with made.connect() as connection:
        act(beat, connection)
        assert seen(beat) == (False, False)
        (connection.commit if commits else connection.rollback)()
    assert seen(beat) == (commits, commits)
    with Session(made) as session:
        beat.using(session).schedules.put("by-session", interval(hours=1), TARGET)
        (session.commit if commits else session.rollback)()
    made.dispose()

    assert bool(beat.store.owing(["by-session"])) == commits


@on_postgres
@pytest.mark.parametrize("commits", [True, False])
def test_the_asynchronous_ones_are_joined_within_run_sync(home: Path, beat: Onebeat, commits: bool) -> None:
    async def play() -> None:
        made = create_async_engine(alchemy(home), isolation_level="READ COMMITTED")
        async with made.connect() as connection:
            await connection.run_sync(lambda sync: act(beat, sync))
            await (connection.commit if commits else connection.rollback)()
        async with AsyncSession(made) as session:
            await session.run_sync(
                lambda sync: beat.using(sync).schedules.put("by-session", interval(hours=1), TARGET)
            )
            await (session.commit if commits else session.rollback)()
            with pytest.raises(InvalidInput, match="run_sync"):
                beat.using(session)
        await made.dispose()

    asyncio.run(play())

    assert seen(beat) == (commits, commits)
    assert bool(beat.store.owing(["by-session"])) == commits


# --- refused --------------------------------------------------------------------------------------------


@on_every_database
def test_edits_are_refused_there_and_say_why(home: Path, beat: Onebeat) -> None:
    with closing(opened(home)) as connection:
        using = beat.using(connection)
        acts: list[Callable[[], object]] = [
            lambda: using.schedules.edit("there", title="x"),
            lambda: using.schedules.delete("there"),
            lambda: using.runs.cancel("there!x"),
            lambda: using.schedules.put("there", interval(hours=1), TARGET, if_exists="replace"),  # type: ignore[arg-type]  # the refusal is what is tested
        ]
        for each in acts:
            with pytest.raises(Refused, match="not for a transaction of yours"):
                each()
        with pytest.raises(AttributeError):
            using.schedules.nothing  # noqa: B018 - asking for it is the test


@on_every_database
def test_a_connection_in_autocommit_is_refused(home: Path, beat: Onebeat) -> None:
    with closing(opened(home)) as connection:
        connection.cursor().execute("ROLLBACK")
        if home.name == "postgres":
            connection.autocommit = True
        elif home.name == "mariadb":
            connection.autocommit(True)
        with pytest.raises(InvalidInput, match="autocommit"):
            beat.using(connection)


@on_every_server
def test_a_transaction_on_one_picture_is_refused(home: Path, beat: Onebeat) -> None:
    with closing(opened(home)) as connection:
        cursor = connection.cursor()
        if home.name == "postgres":
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        else:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(InvalidInput, match="begin it at READ COMMITTED"):
            beat.using(connection)


@on_every_database
def test_a_connection_to_another_database_is_refused(home: Path, beat: Onebeat, tmp_path: Path) -> None:
    other = tmp_path / "other" / home.name
    other.mkdir(parents=True)
    if home.name == "postgres":  # where another ledger of the same database is no other database
        import psycopg

        elsewhere = psycopg.connect(urlsplit(server(home))._replace(path="/template1").geturl())
    else:
        with Onebeat(store=ledger_at(other, VirtualClock(T0))) as strange:
            elsewhere = opened(other)
            strange.using(elsewhere).schedules.put("its-own", interval(hours=1), TARGET)
    with closing(elsewhere), pytest.raises(InvalidInput, match=r"another database|and the ledger is"):
        beat.using(elsewhere)


@on_every_database
def test_another_drivers_connection_is_refused(home: Path, beat: Onebeat) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        said = "locks" if home.name == "sqlite" else "is no connection of"
        with pytest.raises(InvalidInput, match=said):
            beat.using(connection)


def test_a_ledger_without_transactions_is_refused() -> None:
    with Onebeat("memory://") as beat, pytest.raises(InvalidInput, match="no transaction to share"):
        beat.using(object())


@on_a_file
def test_two_sqlite_libraries_in_one_process_do_not_see_each_others_locks(home: Path, beat: Onebeat) -> None:
    """This is why sqlite3's connections are refused: were it not so, they could be taken."""
    with closing(opened(home)) as ours, closing(sqlite3.connect(home / "ledger.db", timeout=0)) as theirs:
        ours.cursor().execute("ROLLBACK")
        ours.cursor().execute("BEGIN IMMEDIATE")

        theirs.execute("BEGIN IMMEDIATE")  # a second right to write, while the first is held
        theirs.execute("ROLLBACK")
