"""Rows 70, 72, 75 and 76: writers in any language, each told what became of what they asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.seed.cluster import EVERYTHING, HOUR, MINUTE, T0, Cluster, every
from tests.servers import binaries, ledgers, redis
from tests.servers.running import SERVERS

from onebeat import Onebeat
from onebeat.core import inbox
from onebeat.core.messages import Entry, RunQuery
from onebeat.engine.dispatcher import POLL

PAGE = (Path(__file__).parents[2] / "docs/howto/write-from-any-language.md").read_text(encoding="utf-8")
WAIT_S = 60
BODY = """
from queue import SimpleQueue

closed = SimpleQueue()


def close(order):
    closed.put(order)
"""

pytestmark = pytest.mark.slow

# --- 70, 75 and 76: entries -------------------------------------------------------------------------

TRIGGER = {"kind": "interval", "fields": {"period_s": 60, "anchor_at": "2026-11-21T12:00:00Z"}}
DEFINITION = {"trigger": TRIGGER, "target": {"kind": "seed", "address": "body"}}
Wish = Callable[..., None]


def asked(cluster: Cluster, kind: str, name: str = "a", **document: Any) -> str:
    """Append an entry, as a program in another language would."""
    text = json.dumps(document) if document else ""
    return ledgers.append(cluster.store, Entry(id="", kind=kind, name=name, document=text))


def answers(cluster: Cluster) -> dict[str, bool]:
    """Whether each entry that was answered was accepted."""
    found = cluster.store.entries(EVERYTHING, waiting=False)
    return {entry.id: entry.answer.accepted for entry in found if entry.answer is not None}


def by_people(cluster: Cluster, kind: str, **document: Any) -> None:
    schedules = cluster.beat.schedules
    match kind:
        case "put":
            cluster.put("a", every(MINUTE, T0))
        case "edit":
            schedules.edit("a", title=document["changes"]["title"])
        case "pause":
            schedules.pause("a")
        case "resume":
            schedules.resume("a")
        case _:
            schedules.delete("a")
    cluster.changed()


def by_programs(cluster: Cluster, kind: str, **document: Any) -> None:
    asked(cluster, kind, **document)


@pytest.mark.parametrize("act", [by_people, by_programs])
def test_seed_70_what_people_and_programs_change_holds_on_every_node_within_a_poll(
    cluster: Cluster, act: Wish
) -> None:
    nodes = [cluster.node(), cluster.node()]
    seen: list[tuple[str, int]] = []
    for kind, document in (
        ("put", {"definition": DEFINITION}),
        ("edit", {"changes": {"title": "other"}}),
        ("pause", {}),
        ("resume", {}),
        ("delete", {}),
    ):
        act(cluster, kind, **document)
        cluster.run(POLL, hints=False)
        row = cluster.row()
        state = "gone" if row.deleted else "paused" if row.paused is not None else row.definition.title
        before = len(cluster.runs())
        cluster.run(MINUTE, hints=False)
        seen.append((state, len(cluster.runs()) - before))

    assert seen == [("", 1), ("other", 1), ("paused", 0), ("other", 1), ("gone", 0)]
    assert nodes == cluster.nodes  # none was started anew
    assert all(answers(cluster).values())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("verb", ["put", "request", "answer"])
def test_seed_75_there_is_no_second_write_to_lose_and_a_start_clears_nothing(
    cluster: Cluster, verb: str, *, after: bool
) -> None:
    cluster.put("there", every(HOUR, T0))
    dying = cluster.node()
    dying.die_at(verb, after=after)
    wishes = [
        asked(cluster, "put", definition=DEFINITION),
        asked(cluster, "request", "there"),
        asked(cluster, "pause", "nowhere"),
    ]
    dying.step()
    kept = cluster.row("there").definition
    cluster.node()
    cluster.run(POLL, hints=False)

    assert not dying.alive
    assert answers(cluster) == dict(zip(wishes, (True, True, False), strict=True))
    assert cluster.row().version == 1
    assert len(cluster.runs("there")) == 1
    assert cluster.row("there").definition == kept


@pytest.mark.parametrize("after", [False, True])
def test_seed_76_readers_see_the_old_or_the_new_and_the_answer_goes_with_it(
    cluster: Cluster, *, after: bool
) -> None:
    cluster.put("a", every(HOUR, T0), title="old")
    dying = cluster.node()
    dying.die_at("put", after=after)
    entry = asked(cluster, "edit", changes={"title": "new", "policy": {"attempts": 3}})
    dying.step()
    definition = cluster.row().definition
    between = (definition.title, definition.policy.attempts, entry in answers(cluster))
    cluster.node()
    cluster.run(POLL, hints=False)

    assert not dying.alive
    assert between == (("new", 3, True) if after else ("old", 1, False))
    assert answers(cluster) == {entry: True}
    assert (cluster.row().definition.title, cluster.row().version) == ("new", 2)


# --- 72: the examples of the page, as they stand, by the clients that people have -------------------


def examples(title: str) -> list[str]:
    """The code blocks of a section of the page."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(?:sh|sql)\n(.*?)```", section, re.DOTALL)


def shell(command: str, program: Path, cwd: Path, **environment: str) -> str:
    """Run an example as it stands, with one program in reach."""
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=cwd,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def client(name: str, package: str, run: Path, folders: tuple[str, ...] = ("usr/bin",)) -> Path:
    """Return a client of this machine, or of Debian's package, unpacked."""
    here = binaries.found(name, folders)
    if here is not None:
        return here
    root = binaries.unpacked(package, run)
    binaries.libraries_of(root)
    return next(path for path in root.glob(f"usr/**/{name}") if path.parent.name == "bin")


@pytest.fixture
def serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_imports: None
) -> Iterator[Callable[[str], Onebeat]]:
    """Serve a ledger, with a function that the examples call."""
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "orders.py").write_text(BODY)
    monkeypatch.syspath_prepend(tmp_path)
    started = []

    def serve(url: str) -> Onebeat:
        beat = Onebeat(url)
        beat.allow("shop.orders")
        service = beat.service()
        service.start()
        started.append((beat, service))
        return beat

    yield serve
    for beat, service in started:
        service.shutdown()
        beat.close()


def the_order_is_closed(beat: Onebeat) -> None:
    """Wait until the body was called; then hold its run and its entry against each other."""
    assert import_module("shop.orders").closed.get(timeout=WAIT_S) == 17
    (run,) = beat.store.runs(RunQuery(schedule="close-order-17"))
    (entry,) = beat.store.entries(10, waiting=False)
    answer = entry.answer
    assert answer is not None
    assert (answer.accepted, answer.version) == (True, 1)
    assert answer.cut_at is not None
    assert run.occurrence_at is not None
    assert (run.occurrence_at - answer.cut_at).total_seconds() == 0.2
    assert (entry.key, entry.actor) == ("order-17", "billing")
    assert beat.schedules.trail("close-order-17")[0].actor == "billing"


@pytest.mark.server("postgres")
def test_seed_72_psql_makes_a_schedule_that_fires(serving: Callable[[str], Onebeat], tmp_path: Path) -> None:
    beat = serving(ledgers.ledger_url("postgres", tmp_path))
    schema = SERVERS.ledger("postgres", tmp_path)
    psql = client("psql", "postgresql-client", tmp_path, ("usr/lib/postgresql/*/bin", "usr/bin"))
    told = {"LEDGER": SERVERS.url("postgres"), "PGOPTIONS": f"-c search_path={schema}"}
    write, look = examples("On PostgreSQL")

    shell(write.replace("onebeat.public", f"onebeat.{schema}"), psql, tmp_path, **told)

    the_order_is_closed(beat)
    assert "accepted" in shell(look, psql, tmp_path, **told)


@pytest.mark.server("redis")
def test_seed_72_redis_cli_makes_a_schedule_that_fires(
    serving: Callable[[str], Onebeat], tmp_path: Path
) -> None:
    url = redis.ledger_url(tmp_path)
    beat = serving(url)
    at, namespace = url.split("?namespace=")
    redis_cli = Path(redis.binary()).with_name("redis-cli")
    write, look = (each.replace("{onebeat}", f"{{{namespace}}}") for each in examples("On Redis"))

    shell(write, redis_cli, tmp_path, LEDGER=at)

    the_order_is_closed(beat)
    assert "accepted" in shell(look, redis_cli, tmp_path, LEDGER=at)


def test_seed_72_the_sqlite_shell_makes_a_schedule_that_fires(
    serving: Callable[[str], Onebeat], tmp_path: Path
) -> None:
    beat = serving(f"sqlite:///{tmp_path}/onebeat.db")
    beat.store.now()  # the tables are there

    shell(*examples("On SQLite"), client("sqlite3", "sqlite3", tmp_path), tmp_path)

    the_order_is_closed(beat)


@pytest.mark.server("mariadb")
def test_seed_72_the_words_of_mysql_make_a_schedule_that_fires(
    serving: Callable[[str], Onebeat], tmp_path: Path
) -> None:
    from tests.servers import mariadb

    url = ledgers.ledger_url("mariadb", tmp_path)
    beat = serving(url)
    (write,) = examples("On MariaDB and MySQL")

    with mariadb.connected(url) as db, db.cursor() as cursor:
        cursor.execute(write.strip().removesuffix(";"))
        db.commit()

    the_order_is_closed(beat)


# --- the page's tables --------------------------------------------------------------------------------


def test_the_page_has_every_kind_and_every_word_of_its_document() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]+ \|$", PAGE, re.MULTILINE)
    of = {
        inbox.Kind.PUT: inbox.PutWords,
        inbox.Kind.EDIT: inbox.EditWords,
        inbox.Kind.REQUEST: inbox.RequestWords,
    }
    common = {field.name for field in msgspec.structs.fields(inbox.Words)}

    assert [kind for kind, _ in rows] == list(inbox.Kind)
    for kind, words in rows:
        fields = msgspec.structs.fields(of.get(inbox.Kind(kind), inbox.Words))
        wanted = {field.name for field in fields} - common
        assert set(re.findall(r"`(\w+)`", words)) == wanted, kind
