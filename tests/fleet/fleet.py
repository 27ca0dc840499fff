"""A fleet: real nodes in processes of their own, on one ledger, and what they did as the world saw it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

from onebeat import Onebeat, interval
from onebeat.core.errors import Conflict, StoreUnavailable
from onebeat.core.messages import RunQuery
from onebeat.core.model import UNFINISHED, Run, RunState
from onebeat.engine.clock import SystemClock

TOP = Path(__file__).resolve().parents[2]
BODY = "tests.fleet.node:effect"
PATIENCE = timedelta(minutes=10)
LOOK = timedelta(seconds=0.2)
LEASE_S = 120.0
"""Longer than a slow machine stands still: where nobody dies, no run is taken for lost and done again."""
EVERYTHING = 1_000_000


class Effect(NamedTuple):
    """One body that ran: a line of the file."""

    run_id: str
    attempt: int
    token: int
    pid: int


class Node:
    """One process."""

    def __init__(self, url: str, place: Path, *numbers: float) -> None:
        command = [sys.executable, "-m", "tests.fleet.node", url, str(place), *map(str, numbers)]
        self.process = subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self._said = ""

    def ready(self) -> None:
        """Wait until it serves. Safe to repeat."""
        assert self.process.stdout is not None
        self._said = self._said or self.process.stdout.readline()
        assert self._said == "ready\n"

    def signalled(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        status = self.process.wait(PATIENCE.total_seconds())
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


class Fleet:
    """Nodes on the ledger of a URL. ``place`` is a folder for what they leave in the world."""

    def __init__(self, url: str, place: Path) -> None:
        self.url = url
        self.place = place
        self.beat = Onebeat(url, modules=("tests.fleet",))
        self.names: list[str] = []
        self.nodes: list[Node] = []

    # --- what there is to do ---

    def put(self, count: int, *, spread: bool = False) -> None:
        """Put schedules that are due every second, together or spread over it, and owe what nobody fires."""
        second = self.beat.store.now().replace(microsecond=0)
        for number in range(count):
            name = f"s{number:03}"
            anchor = second + timedelta(seconds=number / count if spread else 0)
            self.beat.schedules.put(
                name,
                interval(seconds=1, anchor=anchor),
                BODY,
                overlap="allow",
                catch_up="all",
                catch_up_max=10_000,
            )
            self.names.append(name)

    def start(
        self,
        count: int = 1,
        *,
        url: str | None = None,
        lease: float = LEASE_S,
        skew: float = 0,
        lasts: float = 0,
        wait: bool = True,
    ) -> list[Node]:
        """Start nodes, all at once; wait until all of them serve, unless told not to."""
        at = self.url if url is None else url
        for _ in range(count):
            self.nodes.append(Node(at, self.place, lease, skew, lasts))
        started = self.nodes[-count:]
        for node in started if wait else ():
            node.ready()
        return started

    def stop(self, *nodes: Node) -> None:
        """Ask nodes to end, and wait until they have. One that has only begun is waited for first."""
        for node in nodes:
            node.ready()
            node.signalled(signal.SIGTERM)
        for node in nodes:
            assert node.ends() == 0
            self.nodes.remove(node)

    def kill(self, node: Node) -> None:
        """Kill a node without a word."""
        node.signalled(signal.SIGKILL)
        node.ends()
        self.nodes.remove(node)

    def close(self) -> None:
        """Leave nothing behind."""
        for node in list(self.nodes):
            self.kill(node)
        self.beat.close()

    # --- what the world saw ---

    def effects(self) -> list[Effect]:
        """Return what the bodies did, in that order."""
        path = self.place / "effects"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            Effect(run_id, int(attempt), int(token), int(pid))
            for run_id, attempt, token, pid in map(str.split, lines)
        ]

    def until(self, there: Callable[[], object]) -> None:
        """Wait until something is there, or can be done, looking whenever the ledger has changed."""
        clock = SystemClock()
        end = clock.now() + PATIENCE
        while clock.now() < end:
            with suppress(StoreUnavailable, Conflict):
                if there():
                    return
                self.beat.store.wait(self.beat.store.now() + LOOK)
        raise AssertionError("it never came to that")

    def until_fired(self, more: int) -> None:
        """Wait until so many more occurrences of each schedule have had their effect."""

        def counted() -> Counter[str]:
            return Counter(run_id.partition("@")[0] for run_id in {each.run_id for each in self.effects()})

        before = counted()
        self.until(lambda: all(counted()[name] >= before[name] + more for name in self.names))

    # --- the proof ---

    def rest(self) -> None:
        """Pause everything, wait until no run is left unfinished, and end all nodes."""
        for name in self.names:
            self.until(partial(self.beat.schedules.pause, name))
        self.until(lambda: not self.beat.store.runs(RunQuery(states=list(UNFINISHED), limit=1)))
        self.stop(*self.nodes)

    def runs(self) -> list[Run]:
        """Return every run that there is, oldest first."""
        return self.beat.store.runs(RunQuery(limit=EVERYTHING))[::-1]

    def prove(self) -> None:
        """Fail unless the audit finds nothing missed and nothing doubled, and the world says the same."""
        report = self.beat.audit()
        assert report.right, [each for each in report.schedules if not each.right]
        assert (report.gaps, report.extras, report.early) == (0, 0, 0)
        assert report.expected >= len(self.names)
        runs = {run.id: run for run in self.runs()}
        assert {run.state for run in runs.values()} == {RunState.SUCCEEDED}
        began: defaultdict[str, list[Effect]] = defaultdict(list)
        for each in self.effects():
            began[each.run_id].append(each)
        assert began.keys() == runs.keys()
        for run_id, bodies in began.items():
            tokens = [each.token for each in bodies]
            # A body more than once only where an attempt was lost, and never twice under one token.
            assert len(bodies) <= runs[run_id].attempt, bodies
            assert len(set(tokens)) == len(tokens), bodies

    def doubled(self) -> set[str]:
        """Return the runs whose body ran more than once."""
        return {
            run_id for run_id, count in Counter(each.run_id for each in self.effects()).items() if count > 1
        }


def fleets(place: Path) -> Iterator[Callable[[str], Fleet]]:
    """Give what makes a fleet on the ledger of a URL; none of its nodes is left behind."""
    with ExitStack() as left:

        def one_more(url: str) -> Fleet:
            fleet = Fleet(url, place)
            left.callback(fleet.close)
            return fleet

        yield one_more
