"""The cluster: brings its processes up, sees what becomes of them, and ends them in order with a verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from examples.cluster import load, servers
from examples.cluster.evidence import Evidence
from examples.cluster.load import EPOCH, SECOND, micros
from examples.cluster.processes import TOP, Process
from examples.cluster.teller import Teller

from onebeat import Onebeat, RunState, StoreUnavailable

PATIENCE = 60.0
STOP_S_MAX = 45.0
AHEAD = 5 * SECOND
"""How far ahead the first occurrence lies, so that all schedules are written before it."""

UNFINISHED = [RunState.WAITING, RunState.READY, RunState.SENT, RunState.RUNNING, RunState.PARKED]
PROBLEMS_SHOWN_MAX = 10


class Trouble(Exception):
    """The cluster cannot go on; the message says why."""


class Cluster:
    """A server, its nodes, and the file that their runs write."""

    def __init__(self, folder: Path, teller: Teller, *, nodes: int, schedules: int, lease: int) -> None:
        self._folder = folder
        self._teller = teller
        self._lease = lease
        self._schedules = schedules
        self._outside = folder / "outside.jsonl"
        self._server: Process | None = None
        self._nodes_wanted = nodes
        self._nodes: list[Process] = []
        self._told: dict[str, str] = {}  # what was last said of each process
        self._url = ""
        self._environment: dict[str, str] = {}
        self._start = 0

    # --- up ---------------------------------------------------------------------------------------------

    def up(self, store: str, url: str | None, place: Path) -> None:
        """Start all of it, the server in a place; return when every node is known to the ledger."""
        if url is None:
            self._server, self._url = servers.server(store, place, self._folder / f"{store}.log")
            self._server.start()
        else:
            self._url = url
        with self._asking() as beat:
            self._await("the server", lambda: self._answers(beat))
            rows = beat.schedules.list(deleted=True, limit=1)
            if rows or beat.store.held() is not None:
                raise Trouble(
                    f"the ledger at {self._url} is in use; give the URL of a new one: another ?schema= "
                    "(PostgreSQL), database (MariaDB) or ?namespace= (Redis)"
                )
        said = f" (pid {self._server.pid})" if self._server is not None else ", which is yours,"
        self._teller.say(f"the server{said} answers at {self._url}")
        self._declare()
        for number in range(1, self._nodes_wanted + 1):
            self._nodes.append(self._node(f"node-{number}"))
        for node in self._nodes:
            node.start()
        with self._asking() as beat:
            wanted = {node.pid for node in self._nodes}
            self._await("the nodes", lambda: wanted <= {each.pid for each in beat.nodes.list(alive=True)})
        self._teller.say(
            f"{len(self._nodes)} nodes serve {self._schedules} schedules of 1 to 5 s; none of them leads"
        )

    def _declare(self) -> None:
        """Write the schedules before anything is due, so that plain arithmetic knows what must fire."""
        with self._asking() as beat:
            self._start = (micros(beat.store.now()) + AHEAD) // SECOND * SECOND
        with self._asking(load.app(self._start, self._schedules)) as beat:
            beat.apply()
            if micros(beat.store.now()) >= self._start:
                raise Trouble(
                    f"writing {self._schedules} schedules took too long here; take fewer (--schedules)"
                )
        beats = load.plan(self._start, self._schedules)
        self._evidence = Evidence(self._outside, beats, patience=3.0 * self._lease + 10)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ONEBEAT_")}
        self._environment = {
            **kept,
            "ONEBEAT_URL": self._url,
            load.OUTSIDE: str(self._outside),
            load.START: str(self._start),
            load.SCHEDULES: str(self._schedules),
        }

    def _node(self, name: str) -> Process:
        words = ("--app", "examples.cluster.load:beat", "serve", "--lease", f"{self._lease}s")
        command = [sys.executable, "-m", "onebeat", *words]
        return Process(name, command, self._folder / f"{name}.log", environment=self._environment)

    def tell_what_to_try(self, *, restart: bool) -> None:
        """Say who is who, and what to do to them."""
        tell, first, last = self._teller.write, self._nodes[0], self._nodes[-1]
        tell()
        for process in self._processes():
            tell(f"  {process.name:<10} pid {process.pid:<8} {process.log}")
        tell()
        tell("Break something, from another terminal:")
        tell()
        lost = f"dies at once; within its lease, {self._lease} s, others have its runs"
        tries = [
            (f"kill -9 {first.pid}", f"{first.name} {lost}"),
            (f"kill -STOP {last.pid}", f"{last.name} sleeps, and does not know it"),
            (f"kill -CONT {last.pid}", "it goes on, and what it brings too late is refused"),
        ]
        if self._server is not None:
            crash = "the server crashes; the nodes wait, and catch up when it is back"
            tries.append((f"kill -9 {self._server.pid}", crash))
        again = "whatever is gone is started again"
        tries += [] if restart else [("Enter, here", again)]
        tries.append(("Ctrl-C, here", "ends all in order, and says what it came to"))
        for what, why in tries:
            tell(f"  {what:<18} {why}")
        tell()
        tell(f"  {_shown('onebeat')} --url '{self._url}' schedule list")
        tell()
        if restart:
            tell(f"With --restart {again} at once.")
            tell()

    # --- meanwhile --------------------------------------------------------------------------------------

    def look(self) -> None:
        """Read what the runs wrote, and say what has become of the processes since the last look."""
        self._evidence.look(_now())
        for process in self._processes():
            state = "runs" if process.alive else process.fate
            state = "is stopped" if process.stopped else state
            if state != self._told.get(process.name, "runs"):
                self._teller.say(f"{process.name} (pid {process.pid}) {state}{self._meaning(process, state)}")
            self._told[process.name] = state

    def _meaning(self, process: Process, state: str) -> str:
        if state == "runs":
            return " again"
        if process is self._server:
            return ": nothing fires until it is back, and nothing is lost"
        if not any(node.alive and not node.stopped for node in self._nodes):
            return ": no node is left, so nothing fires"
        return f": others settle at once, and have its runs when {self._lease} s have passed"

    def start_again(self) -> None:
        """Start again whatever is gone."""
        for process in self._processes():
            if not process.alive:
                process.start()
                self._told[process.name] = "runs"
                self._teller.say(f"{process.name} is started again, as pid {process.pid}")

    def status(self) -> str:
        """Return the counts in one line."""
        counts = self._evidence.counts
        serving = sum(node.alive and not node.stopped for node in self._nodes)
        return (
            f"{serving}/{len(self._nodes)} nodes   fired {counts.fired:,}   late {counts.late:,} "
            f"(worst {counts.worst / SECOND:.1f} s)   again {counts.again:,}   owed {counts.owed:,}   "
            f"missed {counts.missed:,}   doubled {counts.doubled:,}"
        )

    # --- down -------------------------------------------------------------------------------------------

    def down(self) -> bool:
        """End all in order; say what it came to; return whether nothing was missed and nothing doubled."""
        for process in self._processes():
            process.wake()
        if self._server is not None and not self._server.alive:
            self._server.start()
            self._teller.say(
                f"{self._server.name} is started again (pid {self._server.pid}): the verdict is in it"
            )
        with self._asking() as beat:
            self._await("the server", lambda: self._answers(beat))
            serving = any(node.alive for node in self._nodes)
            if serving:
                self._await("the nodes to catch up", self._caught_up, gently=True)
            closed = self._hold(beat)
            self._teller.say("onebeat hold: nothing fires any more; what has fired is worked off")
            if serving:
                self._await("the end of all runs", lambda: not self._unfinished(beat), gently=True)
            orderly = self._end_nodes()
            self._evidence.look(closed)
            marks = {
                row.name: min(micros(row.settled_until), closed) for row in beat.schedules.list(limit=1000)
            }
            unfinished = self._unfinished(beat)
        audit = self._audit(closed)
        if self._server is not None:
            self._server.ask_to_end()
            self._server.ended(STOP_S_MAX)
            self._teller.say(f"{self._server.name} has ended")
        return self._verdict(marks, unfinished, audit, closed) and orderly

    def _hold(self, beat: Onebeat) -> int:
        """Stop all firing; return an instant after which nothing has fired, on the store's clock."""
        beat.hold("the cluster ends")
        return micros(beat.store.now())

    def _end_nodes(self) -> bool:
        running = [node for node in self._nodes if node.alive]
        for node in running:
            node.ask_to_end()
        orderly = True
        for node in running:
            if (status := node.ended(STOP_S_MAX)) != 0:
                self._teller.say(f"{node.name} was asked to end, and ended with {status}; see {node.log}")
                orderly = False
        if running and orderly:
            self._teller.say(
                f"kill -TERM {', '.join(node.name for node in running)}: all have ended in order"
            )
        return orderly

    def _caught_up(self) -> bool:
        """Return whether all that was due two seconds ago has begun."""
        now = _now()
        return self._evidence.look(now - 2 * SECOND).owed <= 0

    def _unfinished(self, beat: Onebeat) -> set[tuple[str, int]]:
        """Return what has fired and was not run to its end."""
        found: set[tuple[str, int]] = set()
        before: str | None = None
        while page := beat.runs.list(states=UNFINISHED, before=before, limit=1000):
            found |= {
                (run.schedule, micros(run.occurrence_at)) for run in page if run.occurrence_at is not None
            }
            before = page[-1].id
        return found

    def _audit(self, closed: int) -> subprocess.CompletedProcess[str]:
        until = (EPOCH + timedelta(microseconds=closed)).isoformat()
        return subprocess.run(
            [sys.executable, "-m", "onebeat", "audit", "--until", until],
            cwd=TOP,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def _verdict(
        self,
        marks: dict[str, int],
        unfinished: set[tuple[str, int]],
        audit: subprocess.CompletedProcess[str],
        closed: int,
    ) -> bool:
        tell, counts = self._teller.write, self._evidence.counts
        missed = self._evidence.left(marks, unfinished)
        expected = sum(
            max(0, (closed - each.first) // each.period + 1)
            for each in load.plan(self._start, self._schedules)
        )
        rows = [
            ("due", expected, "occurrences, by plain arithmetic"),
            ("fired", counts.fired, "bodies that began, in the outside file"),
            ("  again", counts.again, "under a further attempt, after a node was lost or stopped"),
            ("  late", counts.late, f"by more than a second; the worst by {counts.worst / SECOND:.1f} s"),
            ("waiting", len(unfinished), "fired, and no node was left to run them: kept"),
            (
                "owed",
                expected - counts.fired - len(unfinished) - len(missed),
                "due, and not settled yet: kept",
            ),
            ("missed", len(missed), ""),
            ("doubled", counts.doubled, ""),
        ]
        tell()
        for what, number, words in rows:
            if number or what in {"due", "fired", "missed", "doubled"}:
                tell(f"  {what:<10}{number:>9,}  {words}".rstrip())
        for problem in [*missed, *counts.problems][:PROBLEMS_SHOWN_MAX]:
            tell(f"  ! {problem}")
        tell()
        tell("What `onebeat audit` says of the ledger:")
        tell()
        for line in (audit.stdout + audit.stderr).rstrip().splitlines():
            tell(f"  {line}".rstrip())
        tell()
        right = not missed and not counts.doubled and audit.returncode == 0
        tell(
            "Nothing was missed, and nothing doubled."
            if right
            else self._wrong(len(missed), audit.returncode)
        )
        return right

    def _wrong(self, missed: int, audit_status: int) -> str:
        said = (
            f"{missed} missed, {self._evidence.counts.doubled} doubled; the audit ended with {audit_status}"
        )
        return f"This ledger is NOT right: {said}."

    def kill(self) -> None:
        """Leave no process behind, whatever happened. Safe to repeat."""
        for process in reversed(self._processes()):
            process.kill()

    # --- small things -----------------------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        return [*([] if self._server is None else [self._server]), *self._nodes]

    @contextmanager
    def _asking(self, beat: Onebeat | None = None) -> Iterator[Onebeat]:
        """Give an app on the ledger, and let go of it."""
        asked = Onebeat(zone="UTC") if beat is None else beat
        asked.url = self._url
        try:
            yield asked
        finally:
            asked.close()

    def _answers(self, beat: Onebeat) -> bool:
        try:
            beat.store.now()
        except StoreUnavailable:
            return False
        return True

    def _ended(self) -> str:
        """Return why something that is waited for cannot come: whose end that is, with the end of its log."""
        for process in self._processes():
            if process.pid and not process.alive:
                tail = process.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
                return "\n".join([f"{process.name} {process.fate}; the end of its log:", *tail])
        return ""

    def _await(self, what: str, seen: Callable[[], bool], *, gently: bool = False) -> None:
        """Wait for something; ``gently`` goes on without it, and says so."""
        until = time.monotonic() + PATIENCE
        while not seen():
            if not gently and (why := self._ended()):
                raise Trouble(why)
            if time.monotonic() > until:
                said = f"{what} did not come within {PATIENCE:.0f} s"
                if not gently:
                    raise Trouble(said)
                self._teller.say(said)
                return
            time.sleep(0.05)


def _shown(program: str) -> str:
    """Return how to call a program that is installed beside this interpreter."""
    beside = Path(sys.executable).with_name(program)
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)


def _now() -> int:
    return micros(datetime.now(UTC))
