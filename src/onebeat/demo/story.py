"""What happens in the demo: nodes start, people change things, nodes die and sleep, and all of it is told.

The story only acts and watches. What it did it writes down as deeds, with a look at the clock before and
after each; whether all went well is for the judge, when all is over.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onebeat.demo import sabotage
from onebeat.demo.bodies import OUTSIDE
from onebeat.demo.expect import SECOND, At, Expectation, micros, seconds
from onebeat.demo.ledger import AT_MOST_ONCE, Ledger
from onebeat.demo.nodes import LEASE, PARENT, START, Node, end, onebeat
from onebeat.demo.picture import Deed, Held
from onebeat.demo.plan import plan
from onebeat.demo.teller import Teller

TICK = 0.1
PATIENCE = 20.0
"""How long to wait for what ought to be seen soon, on a slow machine."""

CHOOSY = 6.0
"""How long to wait for a node that is in the middle of as much as one wants to see."""

CLOSINGS_MAX = 10
"""How often the end is tried while something is due that is not settled yet; then it is missed."""

COMMAND_S_MAX = 60


class StoryFailed(Exception):
    """The story cannot go on: a node did not come up, or a command failed."""


class Story:
    """One demo in one folder. ``play`` acts; ``deeds``, ``held`` and ``closed`` then say what was done."""

    def __init__(self, folder: Path, length: float, teller: Teller, *, sabotaged: bool = False) -> None:
        self.ledger_path = folder / "ledger.db"
        self.outside_path = folder / "outside.jsonl"
        self.deeds: list[Deed] = []
        self.held: list[Held] = []
        self.closed = 0
        self.policies: dict[str, dict[str, Any]] = {}
        self.troubles: list[str] = []
        self.nodes: list[Node] = []
        self.killed = self.frozen = 0
        self._folder = folder
        self._length = length
        self._teller = teller
        self._sabotaged = sabotaged
        self._start = datetime.now(UTC).replace(microsecond=0)
        # What the person who starts the demo has set for other ledgers is none of its business.
        own = {name: value for name, value in os.environ.items() if not name.startswith("ONEBEAT_")}
        self.environment = {
            **own,
            OUTSIDE: str(self.outside_path),
            START: self._start.isoformat(),
            PARENT: str(os.getpid()),
            "ONEBEAT_URL": f"sqlite:///{self.ledger_path}",
        }
        self._ledger = Ledger(self.ledger_path)

    def play(self) -> None:
        """Tell the whole story. Leaves no process behind, whatever happens."""
        try:
            self._begin()
            for share, act in self._acts():
                self._pass_until(share * self._length)
                act()
            self._pass_until(self._length * 0.95)
            self._end()
        finally:
            end(self.nodes)

    def _acts(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what is done, and at which part of the whole time."""
        acts: list[tuple[float, Callable[[], None]]] = [
            (0.12, self._edit),
            (0.16, self._add),
            (0.24, self._kill),
            (0.36, self._pause),
            (0.42, self._freeze),
            (0.58, self._hold),
            (0.70, self._resume),
            (0.76, self._again),
            (0.82, self._join),
            (0.88, self._by_hand),
        ]
        if self._sabotaged:
            acts.append((0.66, self._sabotage))
        return sorted(acts, key=lambda act: act[0])

    # --- the acts -------------------------------------------------------------------------------------

    def _begin(self) -> None:
        beats = plan(self._start)
        self.policies = {beat.name: beat.policy for beat in beats}
        self._teller.say(
            f"three nodes start at once on one new file, and declare {len(beats)} schedules each"
        )
        since = _now()
        for _ in range(3):
            self._new_node()
        self._await("the three nodes", lambda: len(self._ledger.alive()) == 3)
        self._await("the schedules", lambda: self._ledger.schedules() == len(beats))
        until = _now()
        self.held.append(Held(since, until))
        for beat in beats:
            self.deeds.append(Deed(beat.name, "schedule.created", since, until, beat.expectation))
        pids = ", ".join(f"{node.name} (pid {node.pid})" for node in self.nodes)
        self._teller.say(f"seen: {pids} are alive; each schedule is there once")

    def _edit(self) -> None:
        words = ("schedule", "edit", "pair-0", "--cron", "*/3 * * * * *")
        self._change("schedule.edited", "pair-0", words, seconds(range(0, 60, 3)))

    def _add(self) -> None:
        words = ("--cron", "* * * * * *", *CALL, "--overlap", "allow", "--catch-up", "all")
        self._change("schedule.created", "added", ("schedule", "add", "added", *words), seconds(range(60)))
        self.policies["added"] = {"overlap": "allow", "catch_up": "all"}
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
        when = ("--at", at.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self._change(
            "schedule.created", "added-once", ("schedule", "add", "added-once", *when, *CALL), At(micros(at))
        )

    def _kill(self) -> None:
        node, runs = self._busiest(least=2, wanted=AT_MOST_ONCE)
        node.kill()
        self.killed += 1
        self._teller.say(f"kill -9 {node.name}, which has {_runs(runs)} in its hands")
        self._taken_over(runs)

    def _pause(self) -> None:
        self._change("schedule.paused", "tick-7", ("schedule", "pause", "tick-7"))
        self._change("schedule.skip_next", "five-0", ("schedule", "skip-next", "five-0"))

    def _freeze(self) -> None:
        """Stop a node, but not within a commit: it would keep the file's write lock, and all would wait."""
        node, runs = self._busiest(least=2)
        node.freeze()
        while not self._ledger.writable():
            node.thaw()
            self._teller.say(
                f"{node.name} was stopped in a commit, where it holds SQLite's write lock: once more"
            )
            time.sleep(TICK)
            node, runs = self._busiest()
            node.freeze()
        began, refused = self._teller.elapsed, self._ledger.refused()
        self.frozen += 1
        self._teller.say(
            f"kill -STOP {node.name}, which has {_runs(runs)} in its hands, for longer than its lease"
        )
        self._taken_over(runs)
        self._pass_until(began + LEASE + 1)
        node.thaw()
        self._teller.say(
            f"kill -CONT {node.name}: it does not know that {self._teller.elapsed - began:.1f} s passed"
        )
        self._await("a refused result", lambda: self._ledger.refused() > refused)
        self._teller.say("seen: what it brought for the runs that had passed on was refused")

    def _hold(self) -> None:
        since = _now()
        self._command("hold", "--reason", "an incident")
        self._teller.say("onebeat hold: no schedule fires any more")
        self._pass_until(self._teller.elapsed + 3)
        self._command("release")
        until = _now()
        self.held.append(Held(since, until))
        length = (until - since) / SECOND
        self._teller.say(
            f"onebeat release, {length:.1f} s later: what was owed meets each schedule's catch-up"
        )

    def _sabotage(self) -> None:
        done: list[str] = []

        def struck() -> bool:
            done[:] = sabotage.strike(self.ledger_path)
            return bool(done)

        self._await("a moment for the sabotage", struck)
        for line in done:
            self._teller.say(f"SABOTAGE: {line}")

    def _resume(self) -> None:
        self._change("schedule.resumed", "tick-7", ("schedule", "resume", "tick-7"))

    def _again(self) -> None:
        self._change("schedule.deleted", "added", ("schedule", "delete", "added", "--yes"))
        words = ("--cron", "*/2 * * * * *", *CALL, "--overlap", "allow", "--catch-up", "all")
        self._change(
            "schedule.created", "added", ("schedule", "add", "added", *words), seconds(range(0, 60, 2))
        )

    def _join(self) -> None:
        node = self._new_node()
        self._await("the new node", lambda: node.pid in self._ledger.alive())
        self._await("a run on the new node", lambda: self._ledger.has_run(node.pid))
        self._teller.say(
            f"{node.name} (pid {node.pid}) joins, declares the same, and changes nothing that is there"
        )

    def _by_hand(self) -> None:
        self._command("schedule", "run", "tick-0")
        self._teller.say("onebeat schedule run tick-0: a run beside the plan")

    def _end(self) -> None:
        self._close()
        self._teller.say("onebeat hold: the demo ends; what has fired is worked off")
        self._await("the end of all runs", lambda: self._ledger.unfinished() == 0, gently=True)
        running = [node for node in self.nodes if node.alive]
        for node in running:
            node.ask_to_stop()
        for node in running:
            if (status := node.stopped()) != 0:
                self.troubles.append(
                    f"{node.name} was asked to stop, and ended with {status}; see {node.log}"
                )
        self._teller.say(f"kill -TERM {', '.join(node.name for node in running)}: all have ended in order")

    def _close(self) -> None:
        """Hold all firing when nothing is owed, so that all that was expected until then must be there.

        On a machine with much else to do, the nodes may be a second late just then: they get another moment.
        """
        for left in reversed(range(CLOSINGS_MAX)):
            since = _now()
            self._command("hold", "--reason", "the demo ends")
            self.closed = self._ledger.held_at()
            if not since <= self.closed <= _now():
                self.troubles.append(f"the last hold is recorded at {self.closed}, and was not then")
            owed = self._ledger.owed(self.closed)
            if not owed or not left:
                return
            self._teller.say(f"onebeat hold came before {owed} schedules that were due: once more")
            self._command("release")
            self.held.append(Held(since, _now()))
            self._pass_until(self._teller.elapsed + 1)

    # --- doing and watching ---------------------------------------------------------------------------

    def _new_node(self) -> Node:
        node = Node(f"node-{len(self.nodes) + 1}", self._folder, self.environment)
        self.nodes.append(node)
        node.start()
        return node

    def _change(
        self, action: str, schedule: str, words: Sequence[str], expectation: Expectation | None = None
    ) -> None:
        since = _now()
        self._command(*words)
        self.deeds.append(Deed(schedule, action, since, _now(), expectation))
        self._teller.say(f"onebeat {_shown(words)}")

    def _command(self, *words: str) -> Any:
        """Run a command as a person would; return what it answers."""
        done = subprocess.run(
            onebeat(*words, "--json"),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if done.returncode:
            raise StoryFailed(
                f"onebeat {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return json.loads(done.stdout)

    def _busiest(self, *, least: int = 1, wanted: str = "") -> tuple[Node, dict[str, int]]:
        """Return the living node with the most bodies in the middle of their work, and those runs.

        For a while it waits for one that has at least so many, and one of the schedule that is ``wanted``.
        """
        busy: list[tuple[Node, dict[str, int]]] = []
        choosy_until = time.monotonic() + CHOOSY

        def enough(runs: dict[str, int]) -> bool:
            return len(runs) >= least and any(wanted in run for run in runs)

        def found() -> bool:
            running = self._ledger.running()
            choosy = time.monotonic() < choosy_until
            alive = [(node, running.get(node.pid, {})) for node in self.nodes if node.alive]
            busy[:] = [each for each in alive if each[1] and (not choosy or enough(each[1]))]
            return bool(busy)

        self._await("a node with work in its hands", found)
        return max(busy, key=lambda each: len(each[1]))

    def _taken_over(self, runs: dict[str, int]) -> None:
        began = self._teller.elapsed
        self._await("the takeover", lambda: not self._ledger.held_still(runs))
        passed = self._teller.elapsed - began
        self._teller.say(f"seen: {passed:.1f} s later the others have them, as the policies say")

    def _await(self, what: str, seen: Callable[[], bool], *, gently: bool = False) -> None:
        until = time.monotonic() + PATIENCE
        while not seen():
            self._look()
            if time.monotonic() > until:
                trouble = f"{what} did not come within {PATIENCE:.0f} s"
                if not gently:
                    raise StoryFailed(trouble)
                self.troubles.append(trouble)
                return
            time.sleep(TICK)

    def _pass_until(self, second: float) -> None:
        while self._teller.elapsed < second:
            self._look()
            time.sleep(min(TICK, max(0.0, second - self._teller.elapsed)))

    def _look(self) -> None:
        """Draw the bar, and notice a node that ended by itself."""
        self._teller.progress(self._ledger.glance())
        expected_dead = self.killed
        dead = [node for node in self.nodes if not node.alive]
        if len(dead) > expected_dead:
            node = dead[-1]
            tail = node.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise StoryFailed("\n".join([f"{node.name} ended by itself; the end of its log:", *tail]))


CALL = ("--call", "onebeat.demo.bodies:strike")


def _runs(runs: dict[str, int]) -> str:
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}"


def _shown(words: Sequence[str]) -> str:
    """Return a command as it would be typed, without what every schedule of the demo has."""
    told = [f'"{word}"' if " " in word else word for word in words]
    return " ".join([*told[: told.index(CALL[0])], "…"] if CALL[0] in told else told)


def _now() -> int:
    return micros(datetime.now(UTC))
