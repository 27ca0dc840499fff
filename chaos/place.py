"""What there is to hurt: nodes in processes of their own, their links, and the server they all share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tests.servers.pairs import Pair

from chaos.clocks import faked_clock
from chaos.wire import Wire

TOP = Path(__file__).resolve().parents[1]

GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(0, signal.SIGKILL)"
"""Leads the group that all processes of a run are in, and ends it with the rig, however that ends. A stopped
one ends, too; and what a terminal sends to the rig alone reaches none of them."""


class Nobody(Exception):
    """There is nobody just now whom this may be done to: the play tries something else, and comes back."""


class Server(Protocol):
    """A server of the rig's own, of one of three kinds. ``ask`` takes SQL, or the words of a command."""

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...

    def ask(self, *words: str) -> Any: ...


class Node:
    """A seat in the fleet: a name, a link of its own, a clock of its own, and one process after another.

    ``life`` counts the processes. ``wire`` is None on SQLite. ``clock_file`` holds by how much its clock is
    off; whoever sits here next finds it as it is then.
    """

    def __init__(self, name: str, command: list[str], clock_file: Path, wire: Wire | None) -> None:
        self.name = name
        self.life = 0
        self.wire = wire
        self.clock_file = clock_file
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, environment: Mapping[str, str], group: int) -> None:
        """Begin the next life, in a group of processes. What it says goes to a file. Returns at once."""
        assert not self.alive, f"{self.name} is alive"
        self.life += 1
        log = self.clock_file.with_name(f"{self.name}-{self.life}.log")
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self.words(),
                cwd=TOP,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=group,
            )

    def words(self) -> list[str]:
        """Return the command of this life."""
        return [*self._command, self.name, str(self.life)]

    def signalled(self, number: int) -> None:
        """Send a signal to this life, if it still is one."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self, patience_s: float) -> int | None:
        """Wait until this life is over; return how it ended, None if it has not."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience_s)
        return None

    def killed(self) -> None:
        """End this life without a word, if it still is one."""
        if self.alive:
            self.signalled(signal.SIGKILL)
            self.ended(60)


class Place:
    """The fleet, and its ledger.

    ``kind`` is the kind of store, and ``url`` leads to the ledger past all links; ``at`` returns the URL by
    way of a port. ``server`` is None on SQLite; where it has a replica in step, ``pair`` is both of them.
    ``editor`` is the process that edits: it has a link, and may be hurt like a node.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        at: Callable[[int], str],
        server: Server | None = None,
        pair: Pair | None = None,
    ) -> None:
        self.kind = kind
        self.at = at
        self.folder = folder
        self.server = server
        self.pair = pair
        self.nodes: list[Node] = []
        self.editor: Node | None = None
        self.environment: dict[str, str] = {}
        self._hurt: set[Node] = set()
        self._guard = subprocess.Popen(
            [sys.executable, "-c", GUARD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
        )

    @property
    def url(self) -> str:
        """Return the URL of the ledger itself."""
        return self.at(0 if self.server is None else self.server.port)

    def wired(self) -> Wire | None:
        """Return a new link to the server, None on SQLite."""
        return None if self.server is None else Wire(self.server.port)

    # --- whom to hurt ---

    def take(self, rng: Random, *, editor: bool = False) -> Node:
        """Return a living node that nobody hurts yet, to be hurt. ``editor``: or the editor.

        Raises Nobody rather than take the last healthy node.
        """
        well = [node for node in self.nodes if node.alive and node not in self._hurt]
        if len(well) < 2:
            raise Nobody
        if editor and self.editor is not None and self.editor.alive and self.editor not in self._hurt:
            well.append(self.editor)
        return self.taken(rng.choice(well))

    def taken(self, node: Node) -> Node:
        """Take note that somebody hurts a node from now on; return it."""
        self._hurt.add(node)
        return node

    def give(self, node: Node) -> None:
        """Take a node for healthy again. Safe to repeat."""
        self._hurt.discard(node)

    def hurts(self, node: Node) -> bool:
        """Return whether somebody hurts a node just now."""
        return node in self._hurt

    @property
    def bodies(self) -> list[Node]:
        """Return who runs bodies."""
        return self.nodes

    @property
    def seats(self) -> list[Node]:
        """All nodes, and the editor."""
        return [*self.nodes, *([self.editor] if self.editor is not None else [])]

    # --- what heals ---

    def environment_of(self, node: Node) -> dict[str, str]:
        """Return the environment that a node's life begins with."""
        if self.server is None:
            return self.environment  # a file's nodes share a machine, and so a clock
        return {**self.environment, **faked_clock(node.clock_file, self.folder)}

    def restart_node(self, node: Node) -> None:
        """Begin another life, ending the one there is without a word. Returns before it serves."""
        node.killed()
        node.start(self.environment_of(node), self._guard.pid)

    def fail_over(self) -> None:
        """Kill the server, make its replica the server, and lead every link there. Once only.

        Raises Nobody where there is no replica, or none any more.
        """
        if self.pair is None:
            raise Nobody
        pair, self.pair = self.pair, None
        pair.kill()
        pair.promote()
        self.server = pair.replica
        self.lead(pair.replica_port)

    def lead(self, port: int) -> None:
        """Lead every link to another port of this machine."""
        for wire in [node.wire for node in self.seats if node.wire is not None]:
            wire.cut()
            wire.mend(port)

    # --- the end ---

    def close(self) -> None:
        """Leave nothing behind."""
        for node in self.seats:
            node.killed()
            if node.wire is not None:
                node.wire.close()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


def python(module: str, *words: str) -> list[str]:
    """Return the command that runs a module of ours."""
    return [sys.executable, "-m", module, *words]
