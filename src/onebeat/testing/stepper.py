"""The stepper: transactions of several nodes on a real server, crossed statement by statement.

    python -m onebeat.testing.stepper --store postgresql://user@host/database --seeds 100

The world is the simulator's: the real dispatchers, workers and edits, the same checkers. But here a few nodes
take their turns at once, each in a thread with connections of its own, and stop before every statement they
make; a number drawn from the seed says who goes on. So a seed is one interleaving of statements, and the
server itself says what it means. docs/explanation/stepping.md tells more.
"""

import argparse
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from onebeat.app.front import Onebeat
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import EventQuery
from onebeat.core.model import Event, Overlap, Policy, TriggerSpec, instant_text
from onebeat.store.dialects.protocol import Session
from onebeat.store.dialects.repeating import Trouble
from onebeat.store.sql import SqlStore
from onebeat.testing.checker import EVERYTHING
from onebeat.testing.checkers import Broken
from onebeat.testing.sim_draw import COMMON, RARE, Draw
from onebeat.testing.sim_editor import Editor
from onebeat.testing.sim_nodes import DispatcherNode, WorkerNode
from onebeat.testing.sim_world import SILENT, WRITING, Crash, Node, World, WorldEnds
from onebeat.testing.stepper_servers import Server, Stepped, server_at
from onebeat.testing.stepper_turns import ByRank, Chooser, Evenly, Turns

T = TypeVar("T")

ROUNDS = 8
NAMES = ("s0", "s1", "s2")
PASSED_OVER = {"settle": " FROM onebeat_schedules ", "claim": " FROM onebeat_runs "}
"""Verbs that never wait for a row of a table: what somebody else holds is passed over."""
QUARRELS = (
    (),
    (),
    ("worker0", "worker1"),
    ("dispatcher0", "dispatcher1", "editor0"),
    ("dispatcher0", "worker0", "editor0"),
    ("dispatcher0", "worker0", "worker1", "reader"),
    ("editor0", "editor1", "worker0"),
)
"""Who meets in a round: those who want the same rows, or, where nobody is named, anybody."""
LIMITED = (Overlap.SKIP, Overlap.QUEUE_ONE, Overlap.QUEUE_ALL, Overlap.QUEUE_ALL, Overlap.CANCEL_RUNNING)
ABOUT = 60
"""How many statements the first round is taken to have; later ones are taken to be as long as the last."""

TROUBLES = {
    "deadlock": Trouble.ROLLED_BACK,
    "lock timeout": Trouble.BUSY,
    "connection lost": Trouble.GONE,
}
KINDS = (*TROUBLES, "crash at a statement", "reply lost", "crash after commit", "crash between steps")
COMMIT, ROLLBACK = "COMMIT", "ROLLBACK"
ENDS = frozenset({COMMIT, ROLLBACK})


class Stepping(NamedTuple):
    """What one seed went through, and what it found: None, or the sentence that says what broke."""

    seed: int
    settled: int
    steps: int
    waited: int
    faults: Counter[str]
    broken: str | None


class Few(Draw):
    """Draws for few schedules, which are often due and often limited: there is more to quarrel about."""

    def policy(self) -> Policy:
        """Return a policy; most of them have a limit."""
        policy = super().policy()
        if self.chance() < 0.8:
            policy = replace(policy, overlap=self.one(LIMITED), max_running=self.one((1, 1, 2)))
        return replace(policy, spread=timedelta(0)) if self.chance() < 0.7 else policy

    def trigger(self, now: datetime) -> TriggerSpec:
        """Return a trigger; most of them come on a whole second, together."""
        if self.chance() < 0.25:
            return super().trigger(now)
        fields = {"period_s": self.one((1, 1, 2)), "anchor_at": instant_text(now.replace(microsecond=0))}
        return TriggerSpec(kind="interval", fields=fields)


class Reader(Node):
    """Somebody who follows the events by a cursor, and who has to hear of each."""

    role = "reader"

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.heard: set[int] = set()

    def start(self) -> None:
        """Begin with the ledger, and the cursor that was reached."""
        self._line = self.store()

    def step(self) -> datetime:
        """Read on."""
        events = self._line.events(EventQuery(after=max(self.heard, default=0)))
        self.heard.update(event.id for event in events)
        return self.world.clock.now()

    def missed(self) -> list[Event]:
        """Return what it did not hear of, and never will."""
        last = max(self.heard, default=0)
        events = self.world.store.events(EventQuery(limit=EVERYTHING))
        return [event for event in events if event.id <= last and event.id not in self.heard]


class Busy(Editor):
    """Somebody who does two things in a turn, to few schedules."""

    def step(self) -> datetime:
        """Do two things; return when to do the next."""
        for _ in range(2):
            self.act(self.draw.one(NAMES))
        return self.world.clock.now()


class SteppedWorld(World):
    """A world whose nodes take their turns at once. Its time stands still while they do."""

    def __init__(
        self,
        seed: int,
        server: Server,
        trace: Callable[[str], None] | None = None,
        chooser: Callable[[Draw, Sequence[str], int], Chooser] | None = None,
    ) -> None:
        super().__init__(seed, server.emptied, connects=True)
        self.open_store = lambda clock: SqlStore(server.dialect(clock, self))
        self.draw = self.drawn("turns")
        self._fate = self.drawn("fate")
        self.trace = trace
        self.turns = Turns(server.waits, self._waited, trace)
        self._verbs: dict[str, str] = {}
        self.trouble = self.draw.one((0.0, 0.002, 0.006))
        self._chooser = chooser or self.draw.one((_evenly, _by_rank))
        self._about = ABOUT
        self._call = threading.local()
        self.cast: list[Node] = []

    def drawn(self, *concern: object) -> Draw:
        """Return the source of chance for one concern."""
        return Few(self.seed, *concern)

    def _waited(self, name: str, sql: str) -> None:
        """Look at whoever waits for a lock."""
        verb = self._verbs.get(name, "")
        if PASSED_OVER.get(verb, "?") in sql and " FOR " in sql:
            raise Broken("order", "a batch of settling or claiming never waits for a row", f"{name}: {sql}")

    # --- rounds ---

    def round(self) -> None:
        """Let time pass, then let some nodes take their turns at once."""
        self.time = self._soon()
        named = self.draw.one(QUARRELS)
        several = self.draw.one((2, 3, 3, 4))
        nodes = {node.name: node for node in self.cast if node.name in named}
        while not named and len(nodes) < several:
            node = self.draw.one(self.cast)
            nodes[node.name] = node
        self.see_step(f"--- {', '.join(nodes)} at {self.clock.now():%H:%M:%S.%f}")
        before = self.turns.steps
        chooser = self._chooser(self.draw, [*nodes], self._about)
        self.turns.play({name: partial(self.turn, node) for name, node in nodes.items()}, chooser)
        self._about = max(self.turns.steps - before, len(nodes))

    def _soon(self) -> datetime:
        """Return an instant at which there is something to do."""
        chance = self.draw.chance()
        seen = self.watch.seen
        if chance < 0.15:
            lapses = [lease.until for lease in seen.leases.values() if lease.until > self.time]
            return max(lapses, default=self.time) + self.draw.one((0, 1)) * timedelta(seconds=0.2)
        if chance < 0.7:
            due = [row.next_at for row in seen.rows.values() if row.next_at and row.next_at > self.time]
            return min(due, default=self.time) + self.draw.one((0, 0, 0.02, 1)) * timedelta(seconds=1)
        return self.time + self.draw.within(0, 2)

    def see_step(self, what: str) -> None:
        """Tell the trace."""
        if self.trace is not None:
            self.trace(what)

    def _after_turn(self, node: Node) -> None:
        if self.faulty and self._fate.chance() < 5 * self.trouble:
            self.faults["crash between steps"] += 1
            raise Crash

    # --- calls, and the statements that they are made of ---

    def call(self, node: Node, verb: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Make one call of the ledger, statement by statement; the checkers see each of its commits."""
        if verb in SILENT:
            return None
        self.calls[verb] += 1
        self._call.verb, self._call.args, self._call.done = verb, args, None
        self._verbs[node.name] = verb
        try:
            answer = function(*args)
        except StoreUnavailable:
            raise
        except Exception as error:
            raise WorldEnds(f"{verb} raised {type(error).__name__}: {error}") from error
        finally:
            self._call.verb = None
        if verb == "purge":
            self.watch.seen.took_purge(answer, self._tombstones() if answer.schedules else ())
        return answer

    def noting(self, work: Callable[[Session], T]) -> Callable[[Session], T]:
        """Return the work of a transaction, which leaves word of what it answers."""

        def noted(session: Session) -> T:
            self._call.done = None
            done = work(session)
            self._call.done = (done,)
            return done

        return noted

    def statement(self, db: Stepped, sql: str, run: Callable[[], T]) -> T:
        """Return what a statement returns, when it is its turn, and whatever happens around it."""
        if getattr(self._call, "verb", None) is None:
            return run()  # opening the store: nobody has called anything yet

        def doing() -> T:
            troubled = self.faulty and sql != ROLLBACK and self._fate.chance() < self.trouble
            if troubled:
                self._trouble(db, sql)
            try:
                done = run()
            except Exception as error:
                if db.in_a_circle(error):
                    raise WorldEnds(f"order (locks are taken in one order): {sql}: {error}") from error
                raise
            if sql == COMMIT:
                self._committed()
                if self.faulty and self._fate.chance() < 3 * self.trouble:
                    self._lose(db)
            return done

        return self.turns.step(db.backend, sql, doing)

    def _trouble(self, db: Stepped, sql: str) -> None:
        """Let something happen in place of a statement."""
        kinds = ("connection lost", "crash at a statement") if sql in ENDS else (*TROUBLES, KINDS[3])
        kind = self._fate.one(kinds)
        self._tells(kind)
        if kind not in TROUBLES:
            raise Crash
        db.fail(TROUBLES[kind])

    def _lose(self, db: Stepped) -> None:
        """Let the answer to a commit never come: the connection is gone, or who waits for it is."""
        kind = self._fate.one(("reply lost", "crash after commit"))
        self._tells(kind)
        if kind == "crash after commit":
            raise Crash
        db.fail(Trouble.GONE)

    def _tells(self, kind: str) -> None:
        self.faults[kind] += 1
        self.see_step(f"{threading.current_thread().name}: ! {kind}")

    def _committed(self) -> None:
        """Show the checkers what was committed, whoever hears of it: they see commits in their order."""
        done, self._call.done = self._call.done, None
        verb = self._call.verb
        if done is not None and verb in WRITING:
            self.see(self.watch.saw, verb, self._call.args, done[0], self.time + self.shift)


def _evenly(draw: Draw, names: Sequence[str], about: int) -> Chooser:
    return Evenly(draw)


def _by_rank(draw: Draw, names: Sequence[str], about: int) -> Chooser:
    return ByRank(draw, names, draw.one((1, 2, 3)), about)


# --- seeds --------------------------------------------------------------------------------------------


def stepped(
    seed: int, server: Server, trace: Callable[[str], None] | None = None, rounds: int = ROUNDS
) -> Stepping:
    """Live through one world. Whatever goes wrong in it is an answer, not an exception."""
    world = SteppedWorld(seed, server, trace)
    broken = None
    logger = logging.getLogger("onebeat")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # takeovers are the point here, and no news
    try:
        live(world, rounds)
    except (Broken, WorldEnds) as error:
        broken = str(error)
    except Exception as error:
        if trace is not None:
            raise
        broken = f"a step raised {type(error).__name__}: {error}"
    finally:
        logger.setLevel(level)
        world.close()
    return Stepping(
        seed, world.watch.seen.settled, world.turns.steps, world.turns.lock_waits, world.faults, broken
    )


def live(world: SteppedWorld, rounds: int) -> None:
    """Populate a world, let its nodes cross each other, and see that nothing is amiss at rest."""
    editors = [Busy(world, f"editor{number}") for number in range(2)]
    reader = Reader(world, "reader")
    world.cast += [
        *(DispatcherNode(world, f"dispatcher{number}", None) for number in range(2)),
        WorkerNode(world, "worker0", (COMMON, RARE)),
        WorkerNode(world, "worker1", (COMMON,)),
        *editors,
        reader,
    ]
    world.nodes += world.cast
    for node in world.cast:
        node.begin()
        node.start()
    for name in NAMES:
        editors[0].act(name)
    world.faulty = True
    for _ in range(rounds):
        world.round()
        world.watch.look(world.store)

    world.faulty = False
    editors[0].release()
    world.turn(world.cast[0])
    world.watch.calm(world.clock.now(), timedelta(0))
    world.watch.look(world.store)
    world.watch.rest(world.store)
    if missed := reader.missed():
        raise Broken("events", "who follows events by a cursor hears of each", f"{missed[0]}")
    report = Onebeat(store=world.store, clock=world.clock).audit()
    if not report.right:
        wrong = [each for each in report.schedules if not each.right]
        raise Broken("audit", "the ledger proves itself", str(wrong[0]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 when an invariant broke."""
    parser = argparse.ArgumentParser(
        prog="python -m onebeat.testing.stepper",
        description="Cross the transactions of several nodes on a real server, statement by statement.",
    )
    add = parser.add_argument
    add("--store", required=True, help="the URL of a server; a ledger of its own is made there, and removed")
    add("--seeds", type=int, default=40, help="how many seeds (default 40)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--rounds", type=int, default=ROUNDS, help=f"how often nodes meet in a seed (default {ROUNDS})")
    add("--trace", action="store_true", help="print every statement, in their order")
    add("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    given = parser.parse_args(argv)
    done: list[Stepping] = []
    with server_at(given.store, f"onebeat_step_{os.getpid()}") as server:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            done.append(stepped(seed, server, print if given.trace else None, given.rounds))
            if done[-1].broken is not None:
                print(f"{done[-1].broken}\nreplay: --first-seed {seed} --seeds 1 --rounds {given.rounds}")
                if not given.keep_going:
                    break
    print(summary(done))
    return 1 if any(each.broken for each in done) else 0


def summary(done: Sequence[Stepping]) -> str:
    """Return what many seeds came to."""
    faults = sum((each.faults for each in done), Counter[str]())
    failed = [str(each.seed) for each in done if each.broken is not None]
    return "\n".join(
        (
            f"{len(done)} seeds, {sum(each.settled for each in done)} occurrences settled in "
            f"{sum(each.steps for each in done)} steps, of which {sum(each.waited for each in done)} "
            "waited for a lock",
            *(f"  {kind:24}{faults[kind]:>10}" for kind in KINDS),
            f"violations: {len(failed)}" + (f" (seeds {', '.join(failed)})" if failed else ""),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
