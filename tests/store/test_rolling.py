"""Nodes of two versions on one ledger: the roll there, the way back, and what is refused; nothing is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.servers import ledgers, redis

from onebeat import Onebeat, interval
from onebeat.core import model as noun
from onebeat.core.codec import FORMAT
from onebeat.core.errors import SchemaMismatch, StoreUnavailable
from onebeat.core.messages import RunQuery
from onebeat.core.ports import Store
from onebeat.engine.dispatcher import Dispatcher
from onebeat.store import migrations
from onebeat.store.dialects import mysql_session
from onebeat.store.dialects.protocol import Dialect
from onebeat.store.dialects.sqlite import Sqlite
from onebeat.store.migrations import Step
from onebeat.store.redis import opening, promise
from onebeat.store.redis.address import address_of
from onebeat.store.redis.cells import node_fields, text_of
from onebeat.store.redis.server import Script, Server
from onebeat.store.redis.store import RedisStore
from onebeat.store.rows import NODE_COLUMNS, node_cells
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import Book

pytestmark = pytest.mark.slow

LATEST = max(step.number for step in migrations.steps("sqlite"))
# As a release would: first only what the old nodes do not mind, at the end what no node needs any more.
PRE = Step(
    LATEST + 1,
    "pre",
    "more",
    "CREATE TABLE onebeat_more (id BIGINT PRIMARY KEY);\nALTER TABLE onebeat_nodes ADD COLUMN x INTEGER;\n",
)
POST = Step(LATEST + 1, "post", "less", "DROP TABLE onebeat_more;\n")
MINUTE = timedelta(minutes=1)
# As its scripts would: a field more in each hash that grows or changes, and a key of its own.
MORE_FIELDS = [
    ("'created_at', now,", "'created_at', now, 'more', now,"),
    ("call('HSET', key, 'id', schedule_id,", "call('HSET', key, 'more', now, 'id', schedule_id,"),
    ("call('HSET', ns .. 'node:' .. id,", "call('HSET', ns .. 'node:' .. id, 'more', now,"),
    (
        "local function finish()\n",
        "local function finish()\n  call('HSET', ns .. 'more', 'changed_at', now)\n",
    ),
]


def on(*servers: str) -> list[object]:
    return [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in servers]


TABLES = ["sqlite", *on("postgres", "mariadb")]
KINDS = [*TABLES, *on("redis")]
on_tables = pytest.mark.parametrize("roll", TABLES, indirect=True)


class Node:
    """A dispatcher on a store of its own."""

    def __init__(self, store: Store, clock: VirtualClock, name: str) -> None:
        self.store = store
        self.dispatcher = Dispatcher(store, clock, holder=name)
        self.beat = Onebeat(store=store, clock=clock)


class Roll:
    """A ledger, and nodes that know it as it is now (old), or as one release more would make it (new)."""

    def __init__(self, kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.clock = VirtualClock(NOON)
        self.nodes: list[Node] = []
        self._place = place
        self._patch = monkeypatch
        self._fired = 0
        self._begin()

    def _begin(self) -> None:
        """Name the ledger."""
        raise NotImplementedError

    def _opened(self, *, new: bool, migrate: bool) -> Store:
        """Open the ledger as a node of one release does."""
        raise NotImplementedError

    def finish(self) -> None:
        """Make what no old node could bear, as a person does at the end."""
        raise NotImplementedError

    def announced_before_settings(self, node: noun.Node) -> None:
        """Announce a node as a release did that had no settings yet."""
        raise NotImplementedError

    def start(self, *, new: bool, migrate: bool = True) -> Node:
        store = self._opened(new=new, migrate=migrate)
        self.nodes.append(Node(store, self.clock, f"{'new' if new else 'old'}-{len(self.nodes)}"))
        return self.nodes[-1]

    def stop(self, node: Node) -> None:
        self.nodes.remove(node)
        node.store.close()

    def tick(self) -> None:
        """Let a minute pass; all nodes meet what is due, each time another one first."""
        self.clock.advance(MINUTE)
        self._fired += 1
        turn = self._fired % len(self.nodes)
        for node in [*self.nodes[turn:], *self.nodes[:turn]]:
            node.dispatcher.step()
        assert len(self.runs()) == self._fired

    def runs(self) -> list[str]:
        return [run.id for run in self.nodes[0].store.runs(RunQuery(schedule="a"))]


class TableRoll(Roll):
    """New nodes know one number of steps more."""

    def _begin(self) -> None:
        self.url = "" if self.kind == "sqlite" else ledgers.ledger_url(self.kind, self._place)
        self._known = {name: migrations.steps(name) for name in ("sqlite", "postgres", "mysql")}

    def _dialect(self, *, new: bool) -> Dialect:
        more = [PRE, POST] if new else []
        self._patch.setattr(migrations, "steps", lambda kind: [*self._known[kind], *more])
        if self.kind == "sqlite":
            return Sqlite(self._place / "ledger.db", self.clock)
        return ledgers.dialect_at(self.url, self.clock)

    def _opened(self, *, new: bool, migrate: bool) -> SqlStore:
        with ExitStack() as left:
            dialect = left.enter_context(closing(self._dialect(new=new)))
            (migrations.migrate if migrate else migrations.check)(dialect)
            left.pop_all()
        return SqlStore(dialect)

    def finish(self) -> None:
        with closing(self._dialect(new=True)) as dialect:
            assert migrations.migrate(dialect, finish=True) == [POST]

    def announced_before_settings(self, node: noun.Node) -> None:
        columns = [name.strip() for name in NODE_COLUMNS.split(",")]
        assert columns.pop() == "settings"
        sql = f"INSERT INTO onebeat_nodes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        with closing(self._dialect(new=False)) as dialect:
            dialect.write(lambda session: session.run(sql, node_cells(node)[:-1]))


class NewerServer(Server):
    """A server as a new node speaks to it: by scripts of its own, which write more than those of old ones."""

    def run(self, script: Script, *rest: Any, **more: Any) -> Any:
        text = script.text
        for before, after in MORE_FIELDS:
            text = text.replace(before, after)
        newer = Script(text, hashlib.sha1(text.encode()).hexdigest())
        return super().run(newer, *rest, **more)


class KeyRoll(Roll):
    """New nodes write fields and a key that old ones do not know, and can read the next format."""

    def _begin(self) -> None:
        self._url = redis.ledger_url(self._place)

    def _opened(self, *, new: bool, migrate: bool) -> RedisStore:
        self._patch.setattr(promise, "FORMAT", FORMAT + new)
        server = (NewerServer if new else Server)(address_of(self._url))
        return RedisStore(server, opening._kept(server, migrate=migrate), self.clock, instead=self.clock)

    def finish(self) -> None:
        self.ask("HSET", "meta", "format", str(FORMAT + 1))

    def announced_before_settings(self, node: noun.Node) -> None:
        *fields, name, _ = node_fields(node)
        assert name == "settings"
        self.ask("HSET", f"node:{node.id}", *fields)
        self.ask("ZADD", "nodes", text_of(node.seen_at), node.id)

    def ask(self, verb: str, key: str, *rest: str) -> Any:
        """Do what a person with redis-cli can do."""
        server = Server(address_of(self._url))
        with closing(server):
            return server.ask(verb, f"{{{server.address.namespace}}}:{key}", *rest)


ROLLS = {"redis": KeyRoll}


@pytest.fixture(params=KINDS)
def roll(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roll]:
    roll = ROLLS.get(request.param, TableRoll)(request.param, tmp_path, monkeypatch)
    yield roll
    for node in list(roll.nodes):
        roll.stop(node)


def test_a_roll_there_and_back_and_there_again_misses_nothing_and_doubles_nothing(roll: Roll) -> None:
    first, second = roll.start(new=False), roll.start(new=False)
    first.beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")
    roll.tick()
    roll.tick()
    newer = roll.start(new=True)  # makes the pre step; the old ones go on
    roll.tick()
    roll.stop(second)
    roll.tick()
    roll.stop(newer)  # it was no good: back to the release before, which starts on what is there now
    back = roll.start(new=False)
    roll.tick()
    again = [roll.start(new=True, migrate=False), roll.start(new=True)]
    roll.tick()
    for old in (first, back):
        roll.stop(old)
        roll.tick()

    roll.finish()
    roll.tick()
    for migrate in (True, False):
        with pytest.raises(SchemaMismatch, match="upgrade this node"):
            roll.start(new=False, migrate=migrate)
    roll.tick()

    report = again[0].beat.audit()
    assert report.right, report
    assert len(roll.runs()) == 10


def test_old_nodes_go_on_while_the_step_is_being_made_and_see_what_new_ones_write(roll: Roll) -> None:
    old = roll.start(new=False)
    newer = roll.start(new=True)
    newer.beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")
    roll.tick()
    newer.beat.schedules.edit("a", title="by a new one")
    old.beat.schedules.edit("a", tags=["by-an-old-one"])
    roll.tick()

    row = newer.beat.schedules.show("a").schedule
    assert (row.definition.title, row.definition.tags) == ("by a new one", ("by-an-old-one",))


@on_tables
def test_a_new_node_that_may_not_make_its_step_is_refused_and_leaves_the_old_ones_alone(roll: Roll) -> None:
    old = roll.start(new=False)
    old.beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")

    with pytest.raises(SchemaMismatch, match=f"at step {LATEST}, and this onebeat needs {LATEST + 1}"):
        roll.start(new=True, migrate=False)

    roll.tick()


@pytest.mark.parametrize("roll", on("redis"), indirect=True)
def test_old_nodes_leave_the_fields_and_keys_that_only_new_ones_know(roll: KeyRoll) -> None:
    def more() -> list[str | None]:
        keys = [f"schedule:{schedule.id}", *(f"run:{run_id}" for run_id in runs), "node:new"]
        return [roll.ask("HGET", "more", "changed_at"), *(roll.ask("HGET", key, "more") for key in keys)]

    old, newer = roll.start(new=False), roll.start(new=True)
    newer.beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")
    newer.store.announce(Book(newer.store, roll.clock).node("new"))
    roll.clock.advance(MINUTE)
    newer.dispatcher.step()
    schedule, runs = newer.beat.schedules.show("a").schedule, roll.runs()
    before = more()
    roll.stop(newer)
    roll.clock.advance(MINUTE)
    old.dispatcher.step()
    old.beat.schedules.edit("a", title="by an old one", max_running=2, overlap="queue_all")
    old.beat.schedules.edit("a", overlap="allow")
    old.beat.schedules.pause("a")
    old.beat.runs.cancel(runs[0])

    assert None not in before
    assert more() == before
    assert [node.id for node in old.store.nodes()] == ["new"]
    assert roll.ask("HGET", f"schedule:{schedule.id}", "max_running") is None
    assert old.beat.audit().right


def test_a_node_of_before_there_were_settings_is_listed_and_compared_without_them(roll: Roll) -> None:
    store = roll.start(new=False).store
    book = Book(store, roll.clock)
    roll.announced_before_settings(book.node("old"))

    assert store.announce(book.node("new", settings={"the zone of app": "UTC"})) == []
    assert {node.id: node.settings for node in store.nodes()} == {
        "old": {},
        "new": {"the zone of app": "UTC"},
    }


@pytest.mark.parametrize("roll", on("mariadb"), indirect=True)
def test_a_node_that_waits_too_long_for_another_one_to_make_tables_says_so_and_makes_none(
    roll: TableRoll, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hasty, ledgers.connected("mariadb", roll.url) as run:
        hasty.setattr(mysql_session, "NAMED_GATE", mysql_session.NAMED_GATE.replace("30", "0"))
        assert run("SELECT GET_LOCK(CONCAT('onebeat.', database()), 0)") == [(1,)]
        with pytest.raises(StoreUnavailable, match="another node has been making tables"):
            roll.start(new=False)
        assert run("SHOW TABLES") == []

    assert roll.start(new=False).store.nodes() == []


@pytest.mark.parametrize("roll", on("mariadb"), indirect=True)
def test_every_pre_step_may_be_begun_again_where_statements_commit_one_by_one(roll: Roll) -> None:
    store = roll.start(new=False).store
    assert isinstance(store, SqlStore)
    dialect = store._dialect
    for step in migrations.steps("mysql"):
        if step.step == "pre":
            dialect.write(lambda session, sql=step.sql: session.run(sql))

    assert roll.start(new=False).store.nodes() == []
