"""What happens to the server: it dies, throws its callers out, has no room for more, or is replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random

from chaos.faults.again import Again
from chaos.faults.protocol import Nobody, Usual
from chaos.faults.shapes import AgainByHand, shell_of
from chaos.hand import HAND, Away, Hand, Shell, hand_on
from chaos.place import Place

TRIES, PAUSE_S = 600, 0.05
ROOM_MAX = 500
"""How many connections are opened at most, so that a server without a bound does not take all there are."""


class ServerKilled(Usual):
    """kill -9; it is started again on what it left."""

    kind = "server killed"
    lasts_s = (0.2, 3.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        server = place.server
        if server is None:
            raise Nobody
        server.kill()
        left.callback(server.start)
        return "the server"


class FailedOver(Usual):
    """It dies for good, and the replica that was in step with it takes over."""

    kind = "fail-over"
    stores = frozenset({"postgres", "mariadb"})
    lasts_s = (0.1, 0.5)
    wide = True
    alone = True
    times: int | None = 1

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        place.fail_over()
        return "the server, to its replica"


class ThrownOut(AgainByHand):
    """The server ends every connection of everybody, several times in a row."""

    kind = "connections killed in bursts"
    lasts_s = (0.5, 3.0)
    wide = True
    pauses_s = (0.1, 1.0)
    words = "everybody, each {s:.1f} s"
    at_once = True

    def act(self, shell: Shell) -> int:
        return end_connections(shell)


class Exhausted(Usual):
    """Others hold all connections that the server has room for; those of the nodes are ended."""

    kind = "no connections left"
    lasts_s = (1.0, 5.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        shell = shell_of(place, left)
        usual = room_of(shell)
        taken: list[Hand] = []
        left.callback(lambda: close_all(taken))
        # Before these let go: nodes would take their place, and nobody would be let in to end it.
        left.callback(_until_done(lambda: make_room_by([shell, *taken], place.kind, usual)))
        make_room(place.kind, shell, len(callers(shell)) + 2)

        def take() -> None:
            while len(taken) < ROOM_MAX:
                taken.append(hand_on(place))

        def press() -> None:
            with suppress(Away):
                take()
            nodes = nodes_among(callers(shell))
            room = len(callers(shell)) - len(nodes) + 1  # none for whoever comes back
            make_room(place.kind, shell, room)
            for number in nodes:
                end_connection(shell, number)
                with suppress(Away):
                    take()  # before the node is back

        left.callback(Again(press, 0.3).stop)
        return "everybody"


CALLERS = {
    "postgres": "SELECT pid, application_name LIKE 'onebeat%' FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    # Whoever names no database is a replica.
    "mariadb": f"SELECT id, db IS NOT NULL AND user <> '{HAND}' FROM information_schema.processlist "
    "WHERE id <> connection_id() AND user <> 'system user'",
}


def callers(shell: Shell) -> list[tuple[int, bool]]:
    """Return the connections of everybody else, and whether each is a node's."""
    if shell.kind != "redis":
        return [(int(str(number)), bool(node)) for number, node in shell.ask(CALLERS[shell.kind])]
    own = str(shell.ask("CLIENT", "ID"))
    lines = str(shell.ask("CLIENT", "LIST")).splitlines()
    listed = [dict(part.partition("=")[::2] for part in line.split()) for line in lines]
    return [(int(each["id"]), each["name"] != HAND) for each in listed if each["id"] != own]


def end_connections(shell: Shell) -> int:
    """End all connections of nodes; return how many they were."""
    nodes = nodes_among(callers(shell))
    for number in nodes:
        end_connection(shell, number)
    return len(nodes)


def nodes_among(connections: list[tuple[int, bool]]) -> list[int]:
    """Return those that are nodes'."""
    return [number for number, node in connections if node]


def end_connection(shell: Shell, number: object) -> None:
    """End one connection, unless it has ended by itself."""
    with suppress(Away):
        shell.ask(*(word.format(number) for word in KILL[shell.kind]))


KILL = {
    "postgres": ("SELECT pg_terminate_backend({})",),
    "mariadb": ("KILL CONNECTION {}",),
    "redis": ("CLIENT", "KILL", "ID", "{}"),
}


def close_all(hands: list[Hand]) -> None:
    """Let go of every connection."""
    for hand in hands:
        hand.close()


def room_of(shell: Shell) -> int:
    """Return how many connections the server lets in."""
    if shell.kind == "redis":
        return int(shell.ask("CONFIG", "GET", "maxclients")["maxclients"])
    setting = {"postgres": "current_setting('max_connections')", "mariadb": "@@global.max_connections"}
    ((most,),) = shell.ask(f"SELECT {setting[shell.kind]}")
    return int(most)


def make_room(kind: str, hand: Hand, most: int) -> None:
    """Have the server let in so many. PostgreSQL takes that only when it starts, so there it stays."""
    if kind == "mariadb":
        hand.ask(f"SET GLOBAL max_connections = {max(10, most)}")
    elif kind == "redis":
        hand.ask("CONFIG", "SET", "maxclients", str(most))


def make_room_by(hands: list[Hand], kind: str, most: int) -> None:
    """Have the server let in so many, by whichever hand it still hears. Raises Away where it hears none."""
    for hand in hands:
        with suppress(Away):
            return make_room(kind, hand, most)
    raise Away("the server hears nobody")


def _until_done(act: Callable[[], None]) -> Callable[[], None]:
    """Return what does something as soon as the server lets it."""

    def insist() -> None:
        nap = threading.Event()
        for _ in range(TRIES):
            try:
                act()
            except Away:
                nap.wait(PAUSE_S)
            else:
                return
        raise AssertionError("the server never let it be undone")

    return insist
