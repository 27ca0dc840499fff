"""Each fault, on real processes and servers: that it hurts whom it says, and that it heals.

A probe sits in each node's place: a process that writes to the ledger without end, by its own link and under
its own clock, and tells when each write began, ended and how it went.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random

import pytest
from chaos.faults.kinds import ALL, for_store
from chaos.faults.nodes import JUMPS_S
from chaos.faults.protocol import SERVERS, STORES, Ending, Fault, Nobody
from chaos.faults.servers import callers
from chaos.hand import Away, Shell, hand_on
from chaos.opening import opened
from chaos.place import Node, Place, python
from tests.chaos.probe import Said, read

from onebeat import Onebeat

# Real processes and servers, and a few seconds for each fault: with the long ones.
pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(120)]

NODES = 3
PATIENCE_S = 40.0
SILENCE_S = 0.4


def until(there: Callable[[], object]) -> None:
    """Ask until the answer is yes: a process that somebody hurts tells nobody when it feels it."""
    end, nap = time.monotonic() + PATIENCE_S, threading.Event()
    while not there():
        assert time.monotonic() < end, "it never came to that"
        nap.wait(0.02)


class Scene:
    """A place whose nodes are probes."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.told = folder / "told"

    def said(self, name: str) -> list[Said]:
        return [each for each in read(self.told) if each.name == name]

    def until_well(self) -> None:
        """Wait until every node has done something that it began from here on, and was told so."""
        began = time.monotonic()
        for node in self.place.nodes:
            until(
                lambda node=node: any(
                    each.began > began and each.outcome == "ok" for each in self.said(node.name)
                )
            )

    def is_silent(self, name: str) -> bool:
        """Return whether a node gets nothing done, for as long as takes it for silent."""
        at = time.monotonic()
        threading.Event().wait(SILENCE_S)
        return not [each for each in self.said(name) if each.began > at and each.outcome == "ok"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Scene]]:
    """Give the scene of a kind of store, which all faults share: each has to leave it whole."""
    made: dict[str, Scene] = {}
    with ExitStack() as left:

        def scene_on(kind: str) -> Scene:
            if kind not in made:
                folder = tmp_path_factory.mktemp(kind)
                place = left.enter_context(opened(kind, folder))
                with closing(Onebeat(place.url)) as beat:
                    for number in range(NODES):
                        beat.schedules.put(f"n{number}", "0 0 1 1 *", "elsewhere:body")
                for number in range(NODES):
                    seat(place, f"n{number}", folder)
                made[kind] = Scene(place, folder)
            return made[kind]

        yield scene_on


def seat(place: Place, name: str, folder: Path) -> None:
    wire = place.wired()
    url = place.url if wire is None else place.at(wire.port)
    clock = folder / f"{name}.clock"
    node = Node(name, python("tests.chaos.probe", url, str(folder / "told")), clock, wire)
    place.nodes.append(node)
    place.restart_node(node)


# --- what shows that a fault hurts -------------------------------------------------------------------

Hurts = Callable[[Scene, Ending], None]


def hurt(scene: Scene, ending: Ending) -> Node:
    """Return the node that a fault says it hurts."""
    return next(node for node in scene.place.nodes if ending.target.startswith(node.name))


def is_dead(scene: Scene, ending: Ending) -> None:
    assert not hurt(scene, ending).alive


def gets_nothing_done(scene: Scene, ending: Ending) -> None:
    name = hurt(scene, ending).name
    until(lambda: scene.is_silent(name))
    for other in {node.name for node in scene.place.nodes} - {name}:
        until(lambda other=other: not scene.is_silent(other))


def stands_still_at_times(scene: Scene, ending: Ending) -> None:
    def state() -> str:
        return Path(f"/proc/{hurt(scene, ending).pid}/stat").read_text().rpartition(")")[2].split()[0]

    until(lambda: state() == "T")
    until(lambda: state() != "T")


def get_new_lives(scene: Scene, ending: Ending) -> None:
    names = ending.target.split(", ")
    lives = {node.name: node.life for node in scene.place.nodes}
    assert len(names) == NODES - 1
    for name in names:
        until(lambda name=name: any(each.life > lives[name] for each in scene.said(name)))


def has_the_wrong_time(scene: Scene, ending: Ending) -> None:
    name, _, words = ending.target.partition(" by ")
    by = int(words.removesuffix(" s"))
    assert by in JUMPS_S
    right = time.time() - time.monotonic()
    until(lambda: abs(scene.said(name)[-1].wall - scene.said(name)[-1].ended - right - by) < 1)


def nobody_gets_anything_done(scene: Scene, ending: Ending) -> None:
    until(lambda: all(scene.is_silent(node.name) for node in scene.place.nodes))


def takes_its_time(scene: Scene, ending: Ending) -> None:
    node, at = hurt(scene, ending), time.monotonic()
    up, _, down = ending.target.partition(", ")[2].removesuffix(" ms").partition(" and ")
    both_s = (int(up) + int(down) - 1) / 1000
    until(lambda: any(each.began > at for each in scene.said(node.name)))
    assert all(each.ended - each.began >= both_s for each in scene.said(node.name) if each.began > at)


def replies_are_spoiled(scene: Scene, ending: Ending) -> None:
    wire = hurt(scene, ending).wire
    assert wire is not None
    before = wire.spoiled
    until(lambda: wire.spoiled > before)


def server_is_away(scene: Scene, ending: Ending) -> None:
    with pytest.raises(Away):
        hand_on(scene.place)


def shell_on(place: Place) -> Shell:
    """Open a shell. One that has not said yet whose it is may be thrown out as a node."""
    while True:
        with suppress(Away):
            return Shell(place)


def nodes_of(shell: Shell) -> set[int]:
    """Return the connections of nodes. Where such are ended, whoever asks may be thrown out, too."""
    while True:
        with suppress(Away):
            return {number for number, node in callers(shell) if node}


def connections_are_others(scene: Scene, ending: Ending) -> None:
    with closing(shell_on(scene.place)) as shell:
        before = nodes_of(shell)
        until(lambda: not before & nodes_of(shell))


def some_connections_end(scene: Scene, ending: Ending) -> None:
    with closing(shell_on(scene.place)) as shell:
        seen: set[int] = set()

        def one_has_gone() -> bool:
            now = nodes_of(shell)
            gone = seen - now
            seen.update(now)
            return bool(gone)

        until(one_has_gone)


def nobody_is_let_in(scene: Scene, ending: Ending) -> None:
    def refused() -> bool:
        try:
            hand_on(scene.place).close()
        except Away:
            return True
        return False

    until(refused)
    nobody_gets_anything_done(scene, ending)


def writers_wait(scene: Scene, ending: Ending) -> None:
    until(lambda: any(scene.is_silent(node.name) for node in scene.place.nodes))


def log_cannot_begin_anew(scene: Scene, ending: Ending) -> None:
    with closing(hand_on(scene.place)) as hand:
        ((busy, *_),) = hand.ask("PRAGMA wal_checkpoint(TRUNCATE)")
        assert busy


def others_get_on(scene: Scene, ending: Ending) -> None:
    scene.until_well()


def are_unknown_until_they_say_so(scene: Scene, ending: Ending) -> None:
    assert int(ending.target.split()[0]) >= 1
    with closing(Onebeat(scene.place.url)) as beat:
        until(lambda: {node.id for node in beat.store.nodes()} == {node.name for node in scene.place.nodes})


SHOWN: dict[str, Hurts] = {
    "node killed": is_dead,
    "node stopped past its leases": gets_nothing_done,
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
    "wake-up lines closed": others_get_on,
    "scripts flushed": others_get_on,
    "presence of nodes deleted": are_unknown_until_they_say_so,
    "leases set to lapsed": others_get_on,
    "rows held by a long transaction": writers_wait,
    "write lock held by another program": nobody_gets_anything_done,
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


def begun(fault: Fault, place: Place, seed: int) -> Ending:
    """Begin a fault as the play does: again, where there was nobody just now."""
    rng, nap = Random(seed), threading.Event()
    while True:
        with suppress(Nobody):
            return fault.begin(place, rng)
        nap.wait(0.05)


@pytest.mark.parametrize(("kind", "fault"), KINDS)
def test_a_fault_hurts_as_it_says_and_heals(kind: str, fault: Fault, scenes: Callable[[str], Scene]) -> None:
    scene = scenes(kind)
    scene.until_well()

    ending = begun(fault, scene.place, seed=1)
    try:
        SHOWN[fault.kind](scene, ending)
    finally:
        ending.end()

    assert not scene.place._hurt
    assert all(node.alive for node in scene.place.nodes)
    scene.until_well()


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
def test_a_fault_ends_well_though_its_node_was_killed_meanwhile(
    fault: Fault, scenes: Callable[[str], Scene]
) -> None:
    place = scenes("redis").place

    ending = begun(fault, place, seed=2)
    for node in place.nodes:
        node.killed()
    ending.end()

    for node in place.nodes:
        assert not place.hurts(node)
        if not node.alive:
            place.restart_node(node)
        assert node.clock_file.read_text() == "+0\n"
    scenes("redis").until_well()


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
        place = Place(kind, tmp_path, lambda _, kind=kind: nowhere[kind])  # type: ignore[misc]  # bound at once
        threads = threading.active_count()

        with pytest.raises(Nobody):
            fault.begin(place, Random(3))
        assert threading.active_count() == threads


@pytest.mark.server("redis")
def test_every_fault_at_once_leaves_the_place_whole(scenes: Callable[[str], Scene]) -> None:
    scene, rng = scenes("redis"), Random(4)
    scene.until_well()
    wires = [node.wire for node in scene.place.nodes if node.wire is not None]
    wide = [fault for fault in for_store("redis") if fault.wide]

    for seed in range(3):
        endings = [begun(wide[seed], scene.place, seed)]
        for fault in rng.sample(for_store("redis"), k=6):
            with suppress(Nobody):
                if not fault.wide:
                    endings.append(fault.begin(scene.place, rng))
        rng.shuffle(endings)
        for ending in endings:
            ending.end()

    for node in scene.place.nodes:
        assert not scene.place.hurts(node)
        assert node.alive
    assert not any(wire._burdens for wire in wires)
    scene.until_well()


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
)
def test_a_fail_over_keeps_what_was_acknowledged_and_comes_once(
    kind: str, scenes: Callable[[str], Scene]
) -> None:
    scene = scenes(kind)
    (fault,) = [each for each in for_store(kind) if each.kind == "fail-over"]
    scene.until_well()
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
