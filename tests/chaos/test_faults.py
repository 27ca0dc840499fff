"""Each fault, on real processes and servers: that it hurts whom it says, and that it heals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from chaos.faults.kinds import ALL, for_store
from chaos.faults.nodes import JUMPS_S
from chaos.faults.protocol import SERVERS, STORES, Ending, Fault, Nobody
from chaos.faults.rows import LISTENS
from chaos.faults.servers import callers
from chaos.hand import Away, Shell, hand_on
from chaos.place import Node, Place
from tests.chaos.scenes import NODES, ROUNDS, Scene, Scenes, begun, gained, in_force, until

from onebeat import Onebeat
from onebeat.core.messages import Claim
from onebeat.core.model import RunState

LONG_S = 0.4
"""Many times what a write takes. On a machine with too much to do this shows less, and is not wrong."""

# Real processes and servers, and some seconds for each fault: with the long ones. The timeout is longer than
# all the patience of one test: whoever loses it says so and cleans up, and is not interrupted.
pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    with closing(Scenes(tmp_path_factory.mktemp)) as scenes:
        yield scenes


# --- what shows that a fault hurts -------------------------------------------------------------------
#
# Each looks at the scene as it is before, is told what was begun, and looks again; some look once more after
# its end.

Shown = Generator[None, Ending, None]


def hurt(scene: Scene, ending: Ending) -> Node:
    """Return the node that a fault says it hurts."""
    return next(node for node in scene.place.nodes if ending.target.startswith(node.name))


def others(scene: Scene, node: Node) -> list[str]:
    return [name for name in scene.names if name != node.name]


def is_dead(scene: Scene) -> Shown:
    ending = yield
    assert not hurt(scene, ending).alive


def gets_nothing_done(scene: Scene) -> Shown:
    ending = yield
    since, node = time.monotonic(), hurt(scene, ending)
    scene.until_much_is_done(others(scene, node))
    assert not scene.done(node.name, since)


def state(node: Node) -> str:
    return Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[0]


def stands_still(scene: Scene) -> Shown:
    """On a file, whoever stands still within a transaction holds it: nobody writes, as long as it does."""
    ending = yield
    node = hurt(scene, ending)
    until(lambda: state(node) == "T")
    since = time.monotonic()
    if scene.place.kind == "sqlite" and scene.holder() == node.pid:
        with closing(hand_on(scene.place)) as hand, pytest.raises(Away):
            hand.ask("BEGIN IMMEDIATE")
        assert not [name for name in scene.names if scene.done(name, since)]
    else:
        scene.until_much_is_done(others(scene, node))
        assert not scene.done(node.name, since)


def stands_still_at_times(scene: Scene) -> Shown:
    ending = yield
    node = hurt(scene, ending)
    until(lambda: state(node) == "T")
    until(lambda: state(node) != "T")


def get_new_lives(scene: Scene) -> Shown:
    lives = {node.name: node.life for node in scene.place.nodes}
    ending = yield
    names = ending.target.split(", ")
    assert len(names) == NODES - 1
    until(lambda: all(scene.said(name)[-1].life > lives[name] for name in names))


def has_the_wrong_time(scene: Scene) -> Shown:
    ending = yield
    name, _, words = ending.target.partition(" by ")
    by = int(words.removesuffix(" s"))
    assert by in JUMPS_S

    def wrong_by() -> float:
        newest = scene.said(name)[-1]
        return newest.wall - newest.ended - (time.time() - time.monotonic())

    until(lambda: abs(wrong_by() - by) < 1)


def nobody_gets_anything_done(scene: Scene) -> Shown:
    yield
    since = time.monotonic()
    threading.Event().wait(LONG_S)  # there is nobody who could get much done meanwhile
    assert not [name for name in scene.names if scene.done(name, since)]


def nobody_may_write(scene: Scene) -> Shown:
    yield
    since = time.monotonic()
    with closing(hand_on(scene.place)) as hand, pytest.raises(Away):
        hand.ask("BEGIN IMMEDIATE")
    assert not [name for name in scene.names if scene.done(name, since)]


def takes_its_time(scene: Scene) -> Shown:
    ending = yield
    node, since = hurt(scene, ending), time.monotonic()
    up, _, down = ending.target.partition(", ")[2].removesuffix(" ms").partition(" and ")
    both_s = (int(up) + int(down) - 1) / 1000
    until(lambda: scene.done(node.name, since))
    assert all(each.ended - each.began >= both_s for each in scene.done(node.name, since))


def replies_are_spoiled(scene: Scene) -> Shown:
    ending = yield
    wire = hurt(scene, ending).wire
    assert wire is not None
    before = wire.spoiled
    until(lambda: wire.spoiled > before)


def server_is_away(scene: Scene) -> Shown:
    yield
    with pytest.raises(Away):
        hand_on(scene.place)


def shell_on(place: Place) -> Shell:
    """Open a shell. One that has not said yet whose it is may be thrown out as a node."""
    return gained(lambda: Shell(place))


def nodes_of(shell: Shell) -> set[int]:
    """Return the connections of nodes. Where such are ended, whoever asks may be thrown out, too."""
    return gained(lambda: {number for number, node in callers(shell) if node})


def connections_are_others(scene: Scene) -> Shown:
    with closing(shell_on(scene.place)) as shell:
        before = nodes_of(shell)
        assert before
        yield
        until(lambda: not before & nodes_of(shell))


def some_connections_end(scene: Scene) -> Shown:
    yield
    with closing(shell_on(scene.place)) as shell:
        seen: set[int] = set()

        def one_has_gone() -> bool:
            now = nodes_of(shell)
            gone = seen - now
            seen.update(now)
            return bool(gone)

        until(one_has_gone)


def nobody_is_let_in(scene: Scene) -> Shown:
    def refused() -> bool:
        try:
            hand_on(scene.place).close()
        except Away:
            return True
        return False

    yield
    since = time.monotonic()
    until(refused)
    until(lambda: all(scene.refused(name, since) for name in scene.names))


def writers_of_them_wait(scene: Scene) -> Shown:
    ending = yield
    since = time.monotonic()
    count = int(ending.target.split()[0])
    with closing(hand_on(scene.place)) as hand:
        names = {name for (name,) in hand.ask("SELECT name FROM onebeat_schedules")}
        free: set[str] = set()

        def held() -> set[str]:
            free.update(
                name for (name,) in hand.ask("SELECT name FROM onebeat_schedules FOR UPDATE SKIP LOCKED")
            )
            return names - free

        until(lambda: len(held()) == count)
    waiting = {*scene.names} - free
    assert waiting
    scene.until_much_is_done({*scene.names} - waiting)
    assert not [name for name in waiting if scene.done(name, since)]


def log_cannot_begin_anew(scene: Scene) -> Shown:
    yield
    with closing(hand_on(scene.place)) as hand:
        ((busy, *_),) = hand.ask("PRAGMA wal_checkpoint(TRUNCATE)")
        assert busy


def lines_of(shell: Shell) -> set[str]:
    """Return the connections on which nodes are woken."""
    if shell.kind == "redis":
        lines = str(shell.ask("CLIENT", "LIST", "TYPE", "pubsub")).splitlines()
        return {line.split()[0] for line in lines}
    return {str(pid) for (pid,) in shell.ask(f"SELECT pid FROM pg_stat_activity WHERE {LISTENS}")}


def lines_are_others(scene: Scene) -> Shown:
    with closing(shell_on(scene.place)) as shell:
        until(lambda: len(lines_of(shell)) == NODES)
        before = lines_of(shell)
        yield
        until(lambda: not before & lines_of(shell))
        scene.until_well()
        yield
        until(lambda: len(lines_of(shell)) == NODES)


def scripts_are_sent_again(scene: Scene) -> Shown:
    with closing(shell_on(scene.place)) as shell:

        def unknown() -> int:
            """Return how often the server was asked for a script that it did not know."""
            told = shell.ask("INFO", "errorstats").get("errorstat_NOSCRIPT", {"count": 0})
            return int(told["count"])

        yield
        before = unknown()
        until(lambda: unknown() >= before + ROUNDS)
        scene.until_well()


def running_runs_are_lost(scene: Scene) -> Shown:
    with closing(Onebeat(scene.place.url)) as beat:
        asked = {beat.runs.request("n0").id for _ in range(4)}
        until_at = beat.store.now() + timedelta(minutes=30)
        keys = ("python:elsewhere:body",)
        beat.store.claim(
            Claim(holder="somebody", queues=("default",), targets=keys, limit=len(asked), until=until_at)
        )

        def lost() -> set[str]:
            """Return which of them the ledger takes for lost: their holder is well, and has 30 minutes."""
            return {each.run.id for each in beat.store.lost(beat.store.now(), 100)} & asked

        assert {beat.runs.show(run_id).run.state for run_id in asked} == {RunState.RUNNING}
        assert not lost()
        ending = yield
        assert len(lost()) == (4 if ending.target == "all of them" else 2)


def are_unknown_until_they_say_so(scene: Scene) -> Shown:
    ending = yield
    assert int(ending.target.split()[0]) >= 1
    with closing(Onebeat(scene.place.url)) as beat:
        until(lambda: {node.id for node in beat.store.nodes()} == {*scene.names})


SHOWN: dict[str, Callable[[Scene], Shown]] = {
    "node killed": is_dead,
    "node stopped past its leases": stands_still,
    "node starved of its processor": stands_still_at_times,
    "rolling restart": get_new_lives,
    "clock of a node jumped": has_the_wrong_time,
    "node cut off": gets_nothing_done,
    "one way of a link silent": gets_nothing_done,
    "everybody cut off": nobody_gets_anything_done,
    "node hung up on": gets_nothing_done,
    "slow link": takes_its_time,
    "connections reset within replies": replies_are_spoiled,
    "replies lost": replies_are_spoiled,
    "server killed": server_is_away,
    "connections killed in bursts": connections_are_others,
    "no connections left": nobody_is_let_in,
    "holders of locks killed": some_connections_end,
    "wake-up lines closed": lines_are_others,
    "scripts flushed": scripts_are_sent_again,
    "presence of nodes deleted": are_unknown_until_they_say_so,
    "leases set to lapsed": running_runs_are_lost,
    "rows held by a long transaction": writers_of_them_wait,
    "write lock held by another program": nobody_may_write,
    "snapshot kept by a reader": log_cannot_begin_anew,
}

KINDS = [
    pytest.param(kind, fault, marks=marks, id=f"{kind}-{fault.kind.replace(' ', '-')}")
    for kind, marks in (
        ("sqlite", []),
        ("redis", [pytest.mark.server("redis")]),
        ("postgres", [pytest.mark.server("postgres"), pytest.mark.long]),
        ("mariadb", [pytest.mark.server("mariadb"), pytest.mark.long]),
    )
    for fault in for_store(kind)
    if fault.kind in SHOWN
]


@pytest.mark.parametrize(("kind", "fault"), KINDS)
def test_a_fault_hurts_as_it_says_and_heals(kind: str, fault: Fault, scenes: Scenes) -> None:
    with scenes.scene(kind) as scene, closing(SHOWN[fault.kind](scene)) as shown:
        next(shown)
        with in_force(fault, scene.place, seed=1) as ending, suppress(StopIteration):
            shown.send(ending)
        next(shown, None)


# --- when faults meet, and when one cannot begin -----------------------------------------------------

OF_NODES = {
    "node killed",
    "node stopped past its leases",
    "node starved of its processor",
    "rolling restart",
    "clock of a node jumped",
    "node cut off",
    "node hung up on",
    "slow link",
    "replies lost",
}


@pytest.mark.server("redis")
@pytest.mark.parametrize(
    "fault", [each for each in ALL if each.kind in OF_NODES], ids=lambda fault: fault.kind
)
def test_a_fault_ends_well_though_its_node_was_killed_meanwhile(fault: Fault, scenes: Scenes) -> None:
    with scenes.scene("redis") as scene:
        place = scene.place
        with in_force(fault, place, seed=2):
            for node in place.nodes:
                node.killed()

        for node in place.nodes:
            if not node.alive:
                place.restart_node(node)
            assert node.clock_file.read_text() == "+0\n"


@pytest.mark.parametrize(
    "fault", [each for each in ALL if each.kind != "everybody cut off"], ids=lambda fault: fault.kind
)
def test_a_fault_that_finds_nobody_to_hurt_has_done_nothing(fault: Fault, tmp_path: Path) -> None:
    nowhere = {
        "sqlite": f"sqlite:///{tmp_path / 'none' / 'ledger.db'}",
        "postgres": "postgresql://onebeat@127.0.0.1:1/postgres?schema=beats",
        "mariadb": "mysql://root@127.0.0.1:1/beats",
        "redis": "redis://127.0.0.1:1/0",
    }
    for kind in sorted(fault.stores):
        url = nowhere[kind]
        with closing(Place(kind, tmp_path, lambda _, url=url: url)) as place:  # type: ignore[misc]  # mypy: lambda
            threads = threading.active_count()

            with pytest.raises(Nobody):
                fault.begin(place, Random(3))
            assert threading.active_count() == threads


@pytest.mark.server("redis")
def test_every_fault_at_once_leaves_the_place_whole(scenes: Scenes) -> None:
    with scenes.scene("redis") as scene:
        rng = Random(4)
        wide = [fault for fault in for_store("redis") if fault.wide]

        for seed in range(3):
            with ExitStack() as left:
                endings = [begun(wide[seed], scene.place, Random(seed))]
                for fault in rng.sample(for_store("redis"), k=6):
                    with suppress(Nobody):
                        if not fault.wide:
                            endings.append(fault.begin(scene.place, rng))
                rng.shuffle(endings)
                for ending in endings:
                    left.callback(ending.end)

        assert not any(node.wire._burdens for node in scene.place.nodes if node.wire is not None)


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
)
def test_a_fail_over_keeps_what_was_acknowledged_and_comes_once(kind: str, scenes: Scenes) -> None:
    (fault,) = [each for each in for_store(kind) if each.kind == "fail-over"]
    with scenes.scene(kind) as scene:
        with closing(Onebeat(scene.place.url)) as beat:
            beat.schedules.put("kept", "0 0 1 1 *", "elsewhere:body")

        fault.begin(scene.place, Random(5)).end()

        scene.until_well()
        with closing(Onebeat(scene.place.url)) as beat:
            assert "kept" in [row.name for row in beat.schedules.list()]
        with pytest.raises(Nobody):
            fault.begin(scene.place, Random(5))


WHERE = {
    frozenset(STORES): "all",
    SERVERS: "servers",
    frozenset({"postgres", "mariadb"}): "PostgreSQL, MariaDB",
    frozenset({"postgres", "redis"}): "PostgreSQL, Redis",
    frozenset({"redis"}): "Redis",
    frozenset({"sqlite"}): "SQLite",
}


def test_every_fault_is_documented_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/reference/faults.md").read_text()
    rows = [line.strip("| ").split(" | ")[:3] for line in page.splitlines() if line.startswith("| ")][1:]

    assert rows == [[fault.kind, WHERE[fault.stores], "{:g} to {:g}".format(*fault.lasts_s)] for fault in ALL]


def test_every_fault_of_a_store_is_shown_to_hurt() -> None:
    assert {fault.kind for fault in ALL} == {*SHOWN, "fail-over"}
    assert len({fault.kind for fault in ALL}) == len(ALL)
    assert {kind for fault in ALL for kind in fault.stores} == STORES
