"""Nodes of two versions on one ledger: the roll there, the way back, and what is refused; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import pytest
from tests.servers import ledgers

from onebeat import Onebeat, interval
from onebeat.core.errors import SchemaMismatch
from onebeat.core.messages import RunQuery
from onebeat.engine.dispatcher import Dispatcher
from onebeat.store import migrations
from onebeat.store.dialects.protocol import Dialect
from onebeat.store.dialects.sqlite import Sqlite
from onebeat.store.migrations import Step
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
KINDS = ["sqlite", *(pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb"))]


class Node:
    """A dispatcher on a store of its own."""

    def __init__(self, store: SqlStore, clock: VirtualClock, name: str) -> None:
        self.store = store
        self.dispatcher = Dispatcher(store, clock, holder=name)


class Roll:
    """A ledger, and nodes that know its steps up to now (old), or one number more (new)."""

    def __init__(self, kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.clock = VirtualClock(NOON)
        self.nodes: list[Node] = []
        self._path = place / "ledger.db"
        self._url = "" if kind == "sqlite" else ledgers.ledger_url(kind, place)
        self._patch = monkeypatch
        self._known = {name: migrations.steps(name) for name in ("sqlite", "postgres", "mysql")}
        self._fired = 0

    def dialect(self) -> Dialect:
        if self.kind == "sqlite":
            return Sqlite(self._path, self.clock)
        return ledgers.dialect_at(self._url, self.clock)

    def knows(self, *, new: bool) -> None:
        more = [PRE, POST] if new else []
        self._patch.setattr(migrations, "steps", lambda kind: [*self._known[kind], *more])

    def start(self, *, new: bool, migrate: bool = True) -> Node:
        self.knows(new=new)
        with ExitStack() as left:
            dialect = left.enter_context(closing(self.dialect()))
            (migrations.migrate if migrate else migrations.check)(dialect)
            node = Node(SqlStore(dialect), self.clock, f"{'new' if new else 'old'}-{len(self.nodes)}")
            self.nodes.append(node)
            left.pop_all()
        return node

    def stop(self, node: Node) -> None:
        self.nodes.remove(node)
        node.store.close()

    def finish(self) -> list[Step]:
        self.knows(new=True)
        with closing(self.dialect()) as dialect:
            return migrations.migrate(dialect, finish=True)

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


@pytest.fixture(params=KINDS)
def roll(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Roll]]:
    roll = Roll(request.param, tmp_path, monkeypatch)
    yield roll
    for node in list(roll.nodes):
        roll.stop(node)


def test_a_roll_there_and_back_and_there_again_misses_nothing_and_doubles_nothing(roll: Roll) -> None:
    first, second = roll.start(new=False), roll.start(new=False)
    beat = Onebeat(store=first.store, clock=roll.clock)
    beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")
    roll.tick()

    with pytest.raises(SchemaMismatch, match=f"at step {LATEST}, and this onebeat needs {LATEST + 1}"):
        roll.start(new=True, migrate=False)
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

    assert roll.finish() == [POST]
    roll.tick()
    for migrate in (True, False):
        with pytest.raises(SchemaMismatch, match="upgrade this node"):
            roll.start(new=False, migrate=migrate)
    roll.tick()

    report = Onebeat(store=again[0].store, clock=roll.clock).audit()
    assert report.right, report
    assert len(roll.runs()) == 10


def test_old_nodes_go_on_while_the_step_is_being_made_and_see_what_new_ones_write(roll: Roll) -> None:
    old = roll.start(new=False)
    newer = roll.start(new=True)
    beat = Onebeat(store=newer.store, clock=roll.clock)
    beat.schedules.put("a", interval(minutes=1, anchor=NOON), "shop:close", overlap="allow")
    roll.tick()
    beat.schedules.edit("a", title="by a new one")
    Onebeat(store=old.store, clock=roll.clock).schedules.edit("a", tags=["by-an-old-one"])
    roll.tick()

    row = beat.schedules.show("a").schedule
    assert (row.definition.title, row.definition.tags) == ("by a new one", ("by-an-old-one",))


def test_a_node_of_before_there_were_settings_is_listed_and_compared_without_them(roll: Roll) -> None:
    store = roll.start(new=False).store
    book = Book(store, roll.clock)
    columns = [name.strip() for name in NODE_COLUMNS.split(",")]
    assert columns.pop() == "settings"
    sql = f"INSERT INTO onebeat_nodes ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    store._dialect.write(lambda session: session.run(sql, node_cells(book.node("old"))[:-1]))

    assert store.announce(book.node("new", settings={"the zone of app": "UTC"})) == []
    assert {node.id: node.settings for node in store.nodes()} == {
        "old": {},
        "new": {"the zone of app": "UTC"},
    }


@pytest.mark.parametrize(
    "roll", [pytest.param("mariadb", marks=pytest.mark.server("mariadb"))], indirect=True
)
def test_every_pre_step_may_be_begun_again_where_statements_commit_one_by_one(roll: Roll) -> None:
    dialect = roll.start(new=False).store._dialect
    for step in migrations.steps("mysql"):
        if step.step == "pre":
            dialect.write(lambda session, sql=step.sql: session.run(sql))

    assert roll.start(new=False).store.nodes() == []
