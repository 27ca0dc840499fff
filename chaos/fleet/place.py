"""What there is to hurt in a fleet: beats and workers with their children, their links, ledger and broker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random

from tests.servers import pairs, redis

from chaos.fleet.brokers import BROKERS, Broker
from chaos.place import Nobody, Node, Place, Server
from chaos.wire import Wire
from chaos.world import NODE, TOLD

CELERY = [sys.executable, "-m", "celery", "-A", "chaos.fleet.proj"]
CHILDREN = 2
WORDS = {
    "beat": [*CELERY, "beat", "-S", "onebeat", "--pidfile=", "-l", "WARNING"],
    "worker": [
        *CELERY,
        "worker",
        "-c",
        str(CHILDREN),
        "--without-mingle",
        "--without-gossip",
        "-l",
        "WARNING",
    ],
}
"""What starts a process of each role, as an operator would."""


class Member(Node):
    """A seat of a role in the fleet. What is done to it is done to its children, too, unless it is ``alone``.

    ``broker`` is its own link there, as ``wire`` is to the ledger. ``told`` are its orders.
    """

    def __init__(self, role: str, number: int, folder: Path, wire: Wire | None, broker: Wire) -> None:
        name = f"{role}-{number}"
        words = WORDS[role] + (["-n", f"{name}@rig"] if role == "worker" else [])
        super().__init__(name, words, folder / f"{name}.clock", wire)
        self.role = role
        self.broker = broker
        self.told = ""

    def words(self) -> list[str]:
        """Return the command, which knows of no names and lives."""
        return self._command

    def start(self, environment: Mapping[str, str], group: int) -> None:
        more = {NODE: f"{self.name}.{self.life + 1}", TOLD: self.told}
        super().start({**environment, **more}, group)

    @property
    def children(self) -> list[int]:
        """Return the processes that run its bodies."""
        with suppress(OSError):
            return list(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))
        return []

    def signalled(self, number: int) -> None:
        """Send a signal; whoever is stopped, or goes on, does so with the children."""
        self.alone(number)
        if number in {signal.SIGSTOP, signal.SIGCONT}:
            for child in self.children:
                send(child, number)

    def alone(self, number: int) -> None:
        """Send a signal to the main process, and to no child."""
        super().signalled(number)

    def killed(self) -> None:
        """End this life, children and all, without a word."""
        if not self.alive:
            return
        self.alone(signal.SIGSTOP)  # so that it has no more children than are seen
        children = self.children
        self.alone(signal.SIGKILL)
        for child in children:
            send(child, signal.SIGKILL)
        self.ended(60)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Fleet(Place):
    """A ledger, a broker, and who works with both. Of each role one is left well."""

    def __init__(
        self, kind: str, folder: Path, at: Callable[[int], str], server: Server | None, broker: Broker
    ) -> None:
        super().__init__(kind, folder, at, server)
        self.broker = broker
        self.members: list[Member] = []

    def seat(self, role: str, number: int) -> Member:
        """Make a seat, with links of its own; nobody sits there yet."""
        member = Member(role, number, self.folder, self.wired(), Wire(self.broker.port))
        self.members.append(member)
        self.nodes.append(member)
        return member

    @property
    def bodies(self) -> list[Node]:
        """Return who runs bodies."""
        return [member for member in self.members if member.role == "worker"]

    def environment_of(self, node: Node) -> dict[str, str]:
        """Return nothing: a fleet's clocks are the machine's."""
        return self.environment

    def take(self, rng: Random, *, editor: bool = False, role: str = "") -> Node:
        """Return a member that nobody hurts yet, of a role or of any. ``editor``: or the editor."""
        well = [member for member in self.members if member.alive and not self.hurts(member)]
        left = [each for each in well if sum(other.role == each.role for other in well) > 1]
        found: list[Node] = [each for each in left if role in {"", each.role}]
        if not found:
            raise Nobody
        if editor and self.editor is not None and self.editor.alive and not self.hurts(self.editor):
            found.append(self.editor)
        return self.taken(rng.choice(found))

    def close(self) -> None:
        """Leave nothing behind."""
        super().close()
        for member in self.members:
            member.broker.close()


LEDGERS = {
    "sqlite": "sqlite:///{file}",
    "redis": "redis://127.0.0.1:{port}/0",
    "postgres": "postgresql://onebeat@127.0.0.1:{port}/postgres?schema=beats",
}
"""The kinds of ledger that a fleet is played on."""


@contextmanager
def opened(kind: str, broker: str, folder: Path) -> Iterator[Fleet]:
    """Give a fleet in which nobody sits yet, with a ledger and a broker of its own; leave nothing behind."""
    with ExitStack() as left:
        server = _ledger(kind)
        if server is not None:
            left.callback(server.stop)
        post = BROKERS[broker]()
        left.callback(post.stop)
        url = LEDGERS[kind].format(port="{port}", file=folder / "ledger.db")
        yield left.enter_context(
            closing(Fleet(kind, folder, lambda port: url.format(port=port), server, post))
        )


def _ledger(kind: str) -> pairs.Own | redis.Own | None:
    """Start the server of a ledger, where it has one."""
    if kind == "sqlite":
        return None
    if kind == "redis":
        return redis.Own()
    server = pairs.own(kind)
    server.start()
    return server
