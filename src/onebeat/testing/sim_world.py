"""A world of its own: virtual time, nodes that take turns, and trouble between any two calls of the ledger.

There are no threads. A node's turn is one ``step()``; when it calls the ledger, the world may let other nodes
take their turns first, may kill it before or after the call, may lose the answer, or may let it sleep past
its lease while life goes on. So each step meets the others at every call, and a seed repeats exactly.

    turn ──► step ──► call ──► [overtaken | pause | crash | unavailable] ──► ledger ──► watch
                       ▲                        │ given up, arrives later: [wire] ──► ▲   │
                       └──────────────── [overtaken | crash | reply lost | again] ◄───────┘
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import ScheduleQuery
from onebeat.core.ports import Clock, Store
from onebeat.testing.checkers import Broken, Watch
from onebeat.testing.clock import NOON
from onebeat.testing.faults import WRITING_VERBS
from onebeat.testing.sim_clocks import NodeClock
from onebeat.testing.sim_draw import FLEET, FLEETS, GROUPED, GROUPS, WHOLE, Draw, Plan
from onebeat.testing.sim_pace import pace

WRITING = frozenset(WRITING_VERBS)
TELLING = {
    "put": frozenset({"dispatcher", "worker", "outbox"}),
    "hold": frozenset({"dispatcher"}),
    "settle": frozenset({"worker", "outbox"}),
    "request": frozenset({"worker", "outbox"}),
    "advance": frozenset({"worker", "outbox"}),
}
"""Verbs after which others may find something to do, and who."""
SILENT = frozenset({"wait", "wake", "close"})
"""Verbs of the Ledger that are no calls of a step: waiting is the world's business."""

ENGINE = frozenset({"dispatcher", "worker", "outbox", "fleet"})
"""Roles of nodes that run the engine, and of workers that are not ours."""

READS = 0.15
"""How much less likely anything is before a call that only reads: most calls do, and they matter less."""

MEETS = {("dispatcher", "advance"): 6.0, ("other", "put"): 6.0, ("other", "request"): 6.0}
"""Calls that decide about what others may be changing: these are overtaken more often."""

TICK = timedelta(microseconds=100)
BACK_OFF = timedelta(milliseconds=200)
BLINK = timedelta(milliseconds=1)
IDLE = timedelta(hours=1)


class Crash(BaseException):
    """The process is gone: nobody catches it, nothing of it remains."""


class WorldEnds(BaseException):
    """Something is wrong for good: an invariant broke, or the ledger raised what no sound caller should see.

    It passes by every handler of the code under test, as a Crash does.
    """


class StoreClock:
    """The clock that decides: the world's time, and by how far it was set back."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def now(self) -> datetime:
        """Return the store's time."""
        return self._world.time + self._world.shift


class Spell(NamedTuple):
    """A while in which something is wrong with the store, for everybody."""

    since: datetime = NOON
    until: datetime = NOON


class Line:
    """A node's connection to the ledger: every call passes through the world."""

    def __init__(self, world: "World", node: "Node", ledger: Store) -> None:
        self._world = world
        self._node = node
        self._ledger = ledger

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        verb_of_store = getattr(self._ledger, verb)
        world, node = self._world, self._node

        def called(*args: Any) -> Any:
            return world.call(node, verb, verb_of_store, args)

        called.__name__ = verb
        setattr(self, verb, called)
        return called


class Node(ABC):
    """A process: up or down, awake or not. ``life`` counts its starts."""

    role = "other"
    meets = 1.0  # how much likelier than others it is overtaken

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.up = False
        self.busy = False  # in the middle of a step, and overtaken
        self.born_at = world.time
        self.wake_at = world.time
        self.sleeps_until = world.time
        self.clock: Clock = StoreClock(world)
        self.ledger: Store | None = None
        self.draw = self.fate = world.drawn(name)

    @property
    def holder(self) -> str:
        """Return the identity of this life."""
        return f"{self.name}.{self.life}"

    def begin(self) -> None:
        """Begin the next life: what it will do, and what will befall its calls, is drawn apart."""
        self.life += 1
        self.up = True
        self.born_at = self.world.time
        self.draw = self.world.drawn(self.holder)
        self.fate = self.world.drawn(self.holder, "fate")

    def overtakes(self, *, anybody: bool) -> bool:
        """Return whether it may take a turn in the middle of another's step."""
        return anybody or (self.up and self.role in ENGINE)

    @abstractmethod
    def start(self) -> None:
        """Begin a life, knowing nothing of the one before."""

    @abstractmethod
    def step(self) -> datetime:
        """Take one turn; return when the next is due by the store's clock."""

    def store(self) -> Any:
        """Return the ledger as this life sees it: through a connection of its own, where there are any."""
        if self.world.connects:
            if self.ledger is not None:
                self.ledger.close()
            self.ledger = self.world.open_store(self.world.clock)
        return Line(self.world, self, self.ledger or self.world.store)

    def age(self) -> timedelta:
        """Return how long this life of a node with an engine has lasted."""
        return self.world.time - self.born_at if self.role in ENGINE else timedelta(0)

    def die(self) -> None:
        """Lose everything; come back after a while."""
        self.up = False
        self.world.lived += self.age()
        self.sleeps_until = self.world.time + self.fate.within(0.1, 1.5 * self.world.lease_s)
        self.wake_at = self.sleeps_until


class Wire(Node):
    """Calls whose callers have given them up, and that reach the ledger all the same: each in its time."""

    role = "wire"

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self._under_way: list[tuple[datetime, str, tuple[Any, ...]]] = []

    def take(self, verb: str, args: tuple[Any, ...], at: datetime) -> None:
        """Take a call that is to arrive at an instant, or when somebody is overtaken by it."""
        said = tuple(list(each) if isinstance(each, list) else each for each in args)
        self._under_way.append((at, verb, said))
        self.wake_at = min(self.wake_at, at)

    def start(self) -> None:
        """Be there."""

    def step(self) -> datetime:
        """Let the call arrive that was given up first."""
        if self._under_way:
            self._arrive()
        return min((at for at, _, _ in self._under_way), default=self.world.time + IDLE) + self.world.shift

    def overtakes(self, *, anybody: bool) -> bool:
        """Return whether a call is under way: what overtakes is its arrival."""
        return bool(self._under_way)

    def deliver(self) -> None:
        """Let all calls arrive."""
        while self._under_way:
            self._arrive()

    def _arrive(self) -> None:
        _, verb, args = self._under_way.pop(0)
        self.world.made(self, verb, getattr(self.world.store, verb), args)


class World:
    """Time, the ledger, the nodes, and what befalls them."""

    def __init__(
        self,
        seed: int,
        open_store: Callable[[Clock], Store],
        *,
        connects: bool = False,
        plan: Plan = WHOLE,
    ) -> None:
        self.seed = seed
        self.plan = plan
        self.open_store = open_store
        self.connects = connects  # each life opens the store anew; if not, all share one
        self.pace = pace(Draw(seed, "pace"))
        self.draw = self.drawn("cluster")
        self.luck = self.draw.luck()
        self._hints = self.drawn("hints")
        self.fleet = self.drawn(FLEET).chance() < FLEETS and self.has(FLEET)
        self.groups = self.drawn(GROUPED).chance() < GROUPS and self.has(GROUPED)
        self.lease_s = self.pace.lease.total_seconds()
        self.time = NOON
        self.shift = timedelta(0)
        self.clock = StoreClock(self)
        self.store = open_store(self.clock)
        self.watch = Watch()
        self.wire = Wire(self, "wire")
        self.nodes: list[Node] = [self.wire]
        self.faults: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.lived = timedelta(0)  # the lives of nodes with an engine that are over, one after the other
        self.faulty = False
        self.slow = self.out = Spell()
        self.trace: Callable[[str], None] | None = None

    def drawn(self, *concern: object) -> Draw:
        """Return the source of chance for one concern."""
        return Draw(self.seed, *concern, scale=self.pace.scale, brief=self.pace.brief)

    def has(self, what: str) -> bool:
        """Return whether a kind of trouble, an edit, a node or a schedule is part of this world.

        Asked only after everything about it is drawn, so that leaving it out shifts nothing else.
        """
        return what not in self.plan.without

    # --- time and turns ---

    def run(self, until: datetime) -> None:
        """Let every node that is not in the middle of something take its turns up to an instant."""
        while True:
            node, wake_at = None, until
            for each in self.nodes:
                if not each.busy and (each.wake_at < wake_at or (node is None and each.wake_at == until)):
                    node, wake_at = each, each.wake_at
            if node is None:
                break
            self.time = max(self.time, node.wake_at)
            self.turn(node)
        self.time = max(self.time, until)

    def turn(self, node: Node) -> None:
        """Let one node take one turn, whatever becomes of it."""
        if not node.up:
            node.begin()
            self._tell(f"{node.holder} starts")
            if self.faulty and node.role in ENGINE:
                self._set_clock(node)
            node.start()
        node.busy = True
        try:
            node.wake_at = max(node.step() - self.shift, self.time)
            if self.faulty and node is not self.wire:
                self._after_turn(node)
        except Crash:
            self._tell(f"{node.holder} is dead")
            node.die()
        except StoreUnavailable:
            node.wake_at = self.time + BACK_OFF
        finally:
            node.busy = False
        node.wake_at = max(node.wake_at, node.sleeps_until)

    def _set_clock(self, node: Node) -> None:
        """Give a life a clock that may be wrong for as long as it lasts, also after faults have stopped."""
        clock = NodeClock(lambda: self.time, self.drawn(node.holder, "clock"))
        wrong = clock.shape is not None and self.strikes(f"clock {clock.shape}")
        node.clock = clock if wrong else StoreClock(self)

    def _after_turn(self, node: Node) -> None:
        """Between two turns a process may die or sleep, too: bodies that it was running stop with it."""
        luck, chance = self.luck, node.fate.chance()
        if chance >= luck.crash + luck.pause:
            return
        duration = self._long(node)
        if chance < luck.crash:
            if self.strikes("crash between steps"):
                raise Crash
        elif self.strikes("pause between steps"):
            node.sleeps_until = self.time + duration

    def strikes(self, kind: str) -> bool:
        """Count a fault; return False where its kind is left out."""
        strikes = self.has(kind)
        self.faults[kind] += strikes
        return strikes

    def _long(self, node: Node) -> timedelta:
        """Return a while that no lease outlives."""
        return node.fate.within(1.1 * self.lease_s, 2 * self.lease_s)

    def peace(self) -> None:
        """Stop all faults, and bring every node back."""
        self.faulty = False
        self.slow = self.out = Spell()
        self.wire.deliver()
        for node in self.nodes:
            node.sleeps_until = self.time
            node.wake_at = min(node.wake_at, self.time)

    def node_hours(self) -> float:
        """Return how long dispatchers and workers have lived, all together."""
        lives = sum((node.age() for node in self.nodes if node.up), self.lived)
        return lives / timedelta(hours=1)

    def close(self) -> None:
        """Let go of every connection."""
        for ledger in (self.store, *(node.ledger for node in self.nodes)):
            if ledger is not None:
                ledger.close()

    # --- calls ---

    def call(self, node: Node, verb: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Make one call of the ledger for a node, and everything that may happen around it."""
        if verb in SILENT:
            return None
        self.time += TICK
        self.calls[verb] += 1
        writes = verb in WRITING
        share = 1.0 if writes else READS
        if self.faulty:
            self._weather(node, verb)
        chance = node.fate.chance()
        if chance < share * self.luck.any_before:
            self._before(node, verb, args, chance / share)
        answer = self.made(node, verb, function, args)
        if writes and self._after(node, verb):
            answer = self.made(node, verb, function, args)
        return answer

    def made(self, node: Node, verb: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Let a call reach the ledger; show the answer to those who watch."""
        at = self.time + self.shift
        try:
            answer = function(*args)
        except Exception as error:
            # Callers may handle it; but no world holds anything that a sound ledger has to raise for.
            raise WorldEnds(f"{verb} raised {type(error).__name__}: {error}") from error
        if self.trace is not None:
            self._tell(f"{node.holder} {verb} {args} → {answer}")
        if verb in WRITING:
            self.see(self.watch.saw, verb, args, answer, at)
            if verb == "purge":
                self.watch.seen.took_purge(answer, self._tombstones() if answer.schedules else ())
            if answer and verb in TELLING:
                self._wake_others(node, TELLING[verb])
        return answer

    def see(self, watch: Callable[..., None], *what: Any) -> None:
        """Show something to the checkers; the world ends with the first thing that is wrong."""
        try:
            watch(*what)
        except Broken as broken:
            raise WorldEnds(str(broken)) from broken

    def _weather(self, node: Node, verb: str) -> None:
        """Let a call meet what is wrong with the store for everybody."""
        if self.slow.since <= self.time < self.slow.until:
            self._linger(node, f"waits for {verb}", node.fate.within(0.05, 2))
        if self.out.since <= self.time < self.out.until:
            self._fail(node, f"{verb} finds no ledger")

    def _before(self, node: Node, verb: str, args: tuple[Any, ...], chance: float) -> None:
        luck = self.luck
        overtaken = luck.overtaken * max(node.meets, MEETS.get((node.role, verb), 1.0))
        if chance < overtaken:
            self._overtake(node)
            return
        chance -= overtaken
        if not self.faulty or chance < 0:
            return
        if chance < luck.crash:
            if self.strikes("crash before commit"):
                self._kill(node, f"crash before {verb}")
            return
        chance -= luck.crash
        if chance < luck.unavailable:
            if self.strikes("unavailable"):
                self._fail(node, f"{verb} finds no ledger")
            return
        chance -= luck.unavailable
        if chance < luck.late * node.meets:
            duration = node.fate.within(0.001, 3)
            if verb in WRITING and self.strikes("late arrival"):
                self.wire.take(verb, args, self.time + duration)
                self._fail(node, f"{verb} is given up, and under way")
            return
        chance -= luck.late * node.meets
        if chance < luck.pause:
            duration = self._long(node)
            if self.strikes("pause in a step"):
                self._linger(node, f"sleeps before {verb}", duration)
            return
        chance -= luck.pause
        if chance < luck.slow * node.meets:
            duration = node.fate.within(0.3, 3)
            if self.strikes("slow call"):
                self._linger(node, f"waits for {verb}", duration)

    def _linger(self, node: Node, what: str, duration: timedelta) -> None:
        """Let life go on while a node is in the middle of a step."""
        self._tell(f"{node.holder} {what}")
        self.run(self.time + duration)

    def _after(self, node: Node, verb: str) -> bool:
        """Let something happen to an answer; return whether the store makes the whole call again, unasked."""
        luck, chance = self.luck, node.fate.chance()
        if self.faulty:
            if chance < luck.crash and self.strikes("crash after commit"):
                self._kill(node, f"crash after {verb}")
            chance -= luck.crash
            if 0 <= chance < luck.reply_lost and self.strikes("reply lost"):
                self._fail(node, f"the reply to {verb} is lost")
            chance -= luck.reply_lost
            if 0 <= chance < luck.repeated * node.meets:
                at_once, duration = node.fate.chance() < 0.5, node.fate.within(0.002, 2)
                if self.strikes("call repeated"):
                    if not at_once:
                        self._linger(node, f"finds the way to the ledger again, for {verb}", duration)
                    return True
            chance -= luck.repeated * node.meets
        if 0 <= chance < luck.overtaken / 3:
            self._overtake(node)
        return False

    def _overtake(self, node: Node) -> None:
        """Let one or two others take their turns in the middle of this one's step."""
        for _ in range(node.fate.one((1, 1, 2))):
            anybody = node.fate.chance() < 0.1
            place = node.fate.chance()
            others = [other for other in self.nodes if not other.busy and other.overtakes(anybody=anybody)]
            if others and self.has("overtaking"):
                self.calls["overtaken"] += 1
                other = others[int(place * len(others))]
                # Whoever sleeps wakes up now: often just too late, or just not.
                other.sleeps_until = self.time
                self.turn(other)

    def _kill(self, node: Node, what: str) -> None:
        self._tell(f"{node.holder}: {what}")
        raise Crash

    def _fail(self, node: Node, what: str) -> None:
        self._tell(f"{node.holder}: {what}")
        raise StoreUnavailable(what)

    def _wake_others(self, node: Node, roles: frozenset[str]) -> None:
        """Hint at a change to those who wait. A hint may be lost, and nothing depends on it."""
        soon = self.time + BLINK
        for other in self.nodes:
            if other.role in roles and other.up and not other.busy and other is not node:
                if other.wake_at <= soon or other.sleeps_until > self.time:
                    continue
                lost = self._hints.chance() >= self.luck.hints
                if lost and self.has("hint lost"):
                    self.faults["hint lost"] += self.faulty
                else:
                    other.wake_at = soon

    def _tombstones(self) -> list[Any]:
        """Return what now answers for the rows that a purge took away."""
        here = {row.name for row in self.store.schedules(ScheduleQuery(deleted=True, limit=1_000_000))}
        gone = [name for name in self.watch.seen.ids if name not in here]
        return [row for row, _ in self.store.owing(gone)]

    def _tell(self, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.clock.now():%H:%M:%S.%f} {what}")
