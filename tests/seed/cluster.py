"""A cluster for the seed table: nodes of the real engine on one file, virtual time, people who edit.

Every node opens the file for itself. What its bodies did is written down here, outside of the ledger, so that
a test can hold the one against the other. A node may die at any call of the ledger, stand still, or be
started anew; nothing is left of it then but what the file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import ledgers, redis
from tests.servers.running import KINDS

from onebeat import Onebeat
from onebeat.core.errors import TargetNotFound
from onebeat.core.messages import Claimed, EventQuery, Note, Report, RunQuery, Share, Tile
from onebeat.core.model import Event, Json, Outcome, Run, RunState, Schedule, Target, TriggerSpec
from onebeat.core.ports import Clock, Store
from onebeat.core.targets import FUNCTIONS
from onebeat.engine.alerts import Alerts
from onebeat.engine.current import CurrentRun
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.executors.python import InlineExecutor
from onebeat.engine.metrics import Metrics
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.memory import MemoryStore
from onebeat.store.open import open_store
from onebeat.store.redis.opening import open_on_clock
from onebeat.store.redis.store import RedisStore
from onebeat.store.sql import SqlStore
from onebeat.testing.clock import VirtualClock
from onebeat.testing.faults import WRITING_VERBS, Hook, Moment, hooked

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86_400))
EVERYTHING = 1_000_000
BODY = Target(kind="seed", address="body")
LOOKS = frozenset({"announce", "claim", "note", "cursor"})
"""Writing verbs after which nobody else has to look."""

IN_MEMORY: dict[Path, MemoryStore] = {}


def ledger_at(place: Path, clock: Clock) -> Store:
    """Open the ledger of a place, as one more process would. A place is named for its kind of store.

    One in memory is this process's own: all nodes share it, and whoever opens it first gives the clock.
    """
    if place.name == "memory":
        return IN_MEMORY.setdefault(place, MemoryStore(clock))
    url = url_of(place)
    if place.name in KINDS:
        return ledgers.opened_at(url, clock)
    return open_on_clock(url, clock) if place.name == "redis" else open_store(url, clock)


def url_of(place: Path) -> str:
    """Return the URL of the ledger of a place, in every process that plays a part there."""
    told = place.with_suffix(".url")
    if not told.exists():
        if place.name in KINDS:
            told.write_text(ledgers.ledger_url(place.name, place))
        elif place.name == "redis":
            told.write_text(redis.ledger_url(place))
        else:
            return f"sqlite:///{place}/ledger.db"
    return told.read_text()


class Died(BaseException):
    """A node dies here: nothing of it goes on, and nothing may catch it."""


class Play(NamedTuple):
    """What a body does: it lasts, then ``does`` its work; one that ``listens`` ends when it is told to."""

    lasts: timedelta = timedelta(0)
    does: Callable[[CurrentRun], Json] | None = None
    listens: bool = False


class Effect:
    """One body, as the world saw it: where and when it began, and when it ended."""

    def __init__(self, run: CurrentRun, node: str, began_at: datetime) -> None:
        self.run_id = run.id
        self.schedule = run.schedule
        self.occurrence = run.occurrence
        self.attempt = run.attempt
        self.token = run.token
        self.node = node
        self.began_at = began_at
        self.ended_at: datetime | None = None


class Bodies:
    """An executor in virtual time. ``knows`` are the addresses that it can run."""

    kind = "seed"

    def __init__(self, cluster: Cluster, node: Node, slots: int, knows: Sequence[str]) -> None:
        self._cluster = cluster
        self._node = node
        self._slots = slots
        self._knows = knows
        self._going: dict[tuple[str, int], tuple[CurrentRun, Effect, datetime, datetime | None]] = {}
        self._told: set[tuple[str, int]] = set()
        self._said: list[CurrentRun] = []

    @property
    def next_end(self) -> datetime | None:
        return min((end for _, _, end, _ in self._going.values()), default=None)

    def resolve(self, target: Target) -> None:
        if target.address not in self._knows:
            raise TargetNotFound(f"{self._node.name} has no {target.address}")

    def free(self) -> int:
        return self._slots - len(self._going)

    def start(self, claimed: Claimed, until: datetime) -> None:
        run = CurrentRun(claimed, self._node.clock, self._said.append)
        run.renewed(until)
        effect = Effect(run, self._node.name, self._cluster.now)
        self._cluster.effects.append(effect)
        timeout, begun = claimed.definition.policy.timeout, claimed.run.started_at
        limit = None if timeout is None or begun is None else begun + timeout
        end = self._cluster.now + self._play(run).lasts
        self._going[run.id, run.token] = (run, effect, end, limit)

    def _play(self, run: CurrentRun) -> Play:
        return self._cluster.plays.get(run.definition.target.address, Play())

    def reports(self) -> list[Report]:
        ended = [key for key, (_, _, end, _) in self._going.items() if end <= self._cluster.now]
        return [self._end(key) for key in ended + [key for key in self._told if key not in ended]]

    def _end(self, key: tuple[str, int]) -> Report:
        run, effect, _, _ = self._going.pop(key)
        effect.ended_at = self._cluster.now
        self._told.discard(key)
        play = self._play(run)
        try:
            result = None if play.does is None else play.does(run)
        except Exception as error:  # noqa: BLE001 - a body may raise anything
            name = type(error).__name__
            return Report(
                run_id=run.id, token=run.token, outcome=Outcome.FAILED, error=str(error), error_type=name
            )
        outcome = Outcome.CANCELLED if run.heard else Outcome.SUCCEEDED
        return Report(run_id=run.id, token=run.token, outcome=outcome, result=result)

    def notes(self) -> list[Note]:
        said, self._said[:] = list(self._said), []
        return [note for run in said if (note := run.take()) is not None]

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        if (run_id, token) in self._going:
            self._going[run_id, token][0].renewed(until)

    def tell(self, run_id: str, token: int, why: str) -> None:
        if (run_id, token) in self._going:
            run = self._going[run_id, token][0]
            run.tell(why)
            if self._play(run).listens and not run.still_mine():
                self._told.add((run_id, token))

    def overrun(self, now: datetime) -> list[Report]:
        late = [key for key, (_, _, _, limit) in self._going.items() if limit is not None and limit <= now]
        for key in late:
            _, effect, _, _ = self._going.pop(key)
            effect.ended_at = self._cluster.now
        return [
            Report(run_id=run_id, token=token, outcome=Outcome.TIMED_OUT, error="too long")
            for run_id, token in late
        ]

    def connect(self, wake: Callable[[], None]) -> None:
        """Nobody has to be woken: the cluster knows when a body ends."""

    def close(self) -> None:
        """Nothing is open."""


class Skewed:
    """A node's own clock: the world's, some seconds off."""

    def __init__(self, clock: VirtualClock, by: timedelta) -> None:
        self._clock = clock
        self._by = by

    def now(self) -> datetime:
        return self._clock.now() + self._by


class Node:
    """One process of the cluster. It steps when it wants to, or when a commit of another woke it."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        roles: Sequence[str],
        skew: timedelta,
        slots: int,
        knows: Sequence[str],
        lease: timedelta,
        allow: Sequence[Callable[..., Any]],
        share: Share | None,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.clock = Skewed(cluster.clock, skew)
        self.metrics = Metrics()
        self.alive = True
        self.paused_until: datetime | None = None
        self.wake_at = cluster.now
        self.calls: Counter[str] = Counter()
        self.hooks: list[Hook] = []
        self._ledger = ledger_at(cluster.place, cluster.clock)
        self.store = hooked(self._ledger, self._at)
        self.bodies = Bodies(cluster, self, slots, knows)
        self.presence = Presence(self.store, self.clock, holder=name, roles=tuple(roles))
        self._steps: list[Callable[[], datetime]] = []
        if "dispatcher" in roles:
            self.dispatcher = Dispatcher(
                self.store, self.clock, holder=name, share=share, metrics=self.metrics
            )
            alerts = Alerts(self.store, self.clock, holder=name, metrics=self.metrics)
            self._steps += [self.dispatcher.step, alerts.step]
        if "worker" in roles:
            inline = [InlineExecutor(kind=kind, allow=allow, clock=self.clock) for kind in FUNCTIONS]
            executors = [self.bodies, *inline]
            self.worker = Worker(
                self.store, self.clock, executors, self.presence, lease=lease, metrics=self.metrics
            )
            self._steps.append(self.worker.step)

    def _at(self, moment: Moment) -> None:
        self.calls[moment.verb] += not moment.after
        for hook in self.hooks:
            hook(moment)
        if moment.after and moment.verb in WRITING_VERBS and moment.verb not in LOOKS:
            self.cluster.changed(self)

    def die_at(self, verb: str, *, after: bool, call: int = 1) -> None:
        """Die at the ``call``-th call of a verb from now on, before or after it commits."""
        number = self.calls[verb] + call

        def hook(moment: Moment) -> None:
            if moment == Moment(verb, after, number):
                raise Died

        self.hooks.append(hook)

    def step(self) -> None:
        """Do what there is to do; a death ends the node, wherever it comes."""
        if self.paused:
            return
        try:
            self.wake_at = min(step() for step in self._steps)
        except Died:
            self.crash()

    @property
    def paused(self) -> bool:
        """Whether the node stands still, as in a long collection of garbage."""
        return self.paused_until is not None and self.cluster.now < self.paused_until

    @property
    def next_at(self) -> datetime:
        """When the node acts again without being woken."""
        if self.paused and self.paused_until is not None:
            return self.paused_until
        ends_at = self.bodies.next_end
        return self.wake_at if ends_at is None else min(self.wake_at, ends_at)

    def crash(self) -> None:
        """Be gone, at once, without a word."""
        if self.alive:
            self.alive = False
            self.cluster.nodes.remove(self)
            self._ledger.close()


class Cluster:
    """Nodes, people and a world outside, on one file and one clock."""

    def __init__(self, place: Path, *, at: datetime = T0) -> None:
        self.place = place
        self.clock = VirtualClock(at)
        self.store = ledger_at(place, self.clock)
        self.beat = Onebeat(store=self.store, clock=self.clock, actor="ada")
        self.nodes: list[Node] = []
        self.effects: list[Effect] = []
        self.plays: dict[str, Play] = {}
        self._born = 0
        self._awake: set[Node] = set()

    @property
    def now(self) -> datetime:
        """The time in the world, which is the store's."""
        return self.clock.now()

    # --- nodes ---

    def node(
        self,
        *,
        roles: Sequence[str] = ("dispatcher", "worker"),
        skew: timedelta = timedelta(0),
        slots: int = 100,
        knows: Sequence[str] = ("body",),
        lease: timedelta = timedelta(seconds=30),
        allow: Sequence[Callable[..., Any]] = (),
        share: Share | None = None,
    ) -> Node:
        """Start one more node. It runs the bodies that it ``knows``, and the functions that it ``allow``s."""
        self._born += 1
        node = Node(
            self,
            f"n{self._born}",
            roles=roles,
            skew=skew,
            slots=slots,
            knows=knows,
            lease=lease,
            allow=allow,
            share=share,
        )
        self.nodes.append(node)
        return node

    def changed(self, by: Node | None = None) -> None:
        """Wake every node but the one that changed something."""
        self._awake.update(node for node in self.nodes if node is not by)

    def close(self) -> None:
        """End everything."""
        for node in list(self.nodes):
            node.crash()
        self.store.close()
        IN_MEMORY.pop(self.place, None)

    # --- time ---

    def run(self, span: timedelta, *, every: timedelta | None = None, hints: bool = True) -> None:
        """Let time pass, each node stepping when it wants to; without ``hints`` nobody is ever woken.

        With ``every`` all nodes step together at that pace instead: what waits longer comes later, not worse.
        """
        end = self.now + span
        if every is not None:
            while self.now < end:
                self.clock.set(min(self.now + every, end))
                self.step()
            return
        self._awake.update(self.nodes)
        while True:
            self._step_those_awake(hints=hints)
            if self.now >= end:
                return
            soonest = min((node.next_at for node in self.nodes), default=end)
            self.clock.set(min(max(soonest, self.now + MICROSECOND), end))

    def _step_those_awake(self, *, hints: bool) -> None:
        for _ in range(100):
            ready = [node for node in self.nodes if node in self._awake or node.next_at <= self.now]
            self._awake.difference_update(ready)
            if not hints:
                self._awake.clear()
            ready = [node for node in ready if not node.paused]
            for node in ready:
                if node.alive:
                    node.step()
                    # It has done all it can at this instant, whatever it said: time has to move on.
                    node.wake_at = max(node.wake_at, self.now + MICROSECOND)
            if not ready:
                return

    def step(self, times: int = 2) -> None:
        """Have every node step at this instant: twice, so that what one leaves the next one finds."""
        for _ in range(times):
            for node in list(self.nodes):
                if node.alive:
                    node.step()

    # --- people ---

    def put(
        self,
        name: str = "a",
        trigger: str | TriggerSpec = "",
        *,
        address: str = "body",
        run_now: bool = False,
        paused: bool = False,
        **policy: Any,
    ) -> Schedule:
        """Put a schedule as a person would."""
        target = Target(kind="seed", address=address)
        written = self.beat.schedules.put(name, trigger, target, run_now=run_now, paused=paused, **policy)
        self.changed()
        return written.schedule

    def spoil(self, name: str, field: str, text: str) -> None:
        """Write something else into a definition, as a person with a shell can."""
        row = self.row(name)
        if isinstance(self.store, RedisStore):
            key = f"{{{self.store._server.address.namespace}}}:definition:{row.id}:{row.number}"
            self.store._server.ask("HSET", key, field, text)
            return
        assert isinstance(self.store, SqlStore)
        statement = f'UPDATE onebeat_definitions SET "{field}" = ? WHERE schedule_id = ?'
        self.store._dialect.write(lambda session: session.run(statement, (text, row.id)))

    def edit(self, name: str = "a", **changes: Any) -> Schedule:
        """Edit a schedule as a person would."""
        written = self.beat.schedules.edit(name, **changes)
        self.changed()
        return written.schedule

    # --- what there is ---

    def row(self, name: str = "a") -> Schedule:
        """A schedule as it stands, or its tombstone."""
        ((row, _),) = self.store.owing([name])
        return row

    def runs(self, name: str | None = "a") -> list[Run]:
        """All runs of a schedule, oldest first."""
        return self.store.runs(RunQuery(schedule=name, limit=EVERYTHING))[::-1]

    def the_run(self, name: str = "a") -> Run:
        """The only run of a schedule."""
        (run,) = self.runs(name)
        return run

    def states(self, name: str = "a") -> Counter[RunState]:
        """How many runs of a schedule are in each state."""
        return Counter(run.state for run in self.runs(name))

    def events(self, *kinds: str, name: str | None = None) -> list[Event]:
        """Events of these kinds, oldest first; of all kinds if none is named."""
        return self.store.events(EventQuery(kinds=kinds or None, schedule=name, limit=EVERYTHING))

    def tiles(self, name: str = "a") -> list[Tile]:
        """All tiles of a schedule, in order."""
        far = timedelta(days=36_525)
        return self.store.tiles(self.row(name).id, self.now - far, self.now + far)

    def fired(self, name: str = "a") -> list[datetime]:
        """The occurrences that have a run of their own, in the order in which they were fired."""
        return [
            run.occurrence_at for run in self.runs(name) if run.key is None and run.occurrence_at is not None
        ]

    def skipped(self, name: str = "a") -> Counter[str]:
        """How many occurrences were skipped, by reason."""
        counts: Counter[str] = Counter()
        for event in self.events("occurrence.skipped", name=name):
            counts[event.reason] += event.count or 0
        return counts

    def began(self, name: str = "a") -> list[datetime]:
        """The occurrences whose bodies began, in that order."""
        return [effect.occurrence for effect in self.effects if effect.schedule == name]

    def most_at_once(self, name: str = "a") -> int:
        """The largest number of bodies of a schedule that were under way at one time."""
        ends = [(e.ended_at or self.now + MICROSECOND, -1) for e in self.effects if e.schedule == name]
        begins = [(e.began_at, 1) for e in self.effects if e.schedule == name]
        most = now = 0
        for _, change in sorted(ends + begins):
            now += change
            most = max(most, now)
        return most

    def prove(self) -> None:
        """Fail unless the audit proves the ledger, and the world saw each run begin exactly once."""
        report = self.beat.audit()
        assert report.right, [each for each in report.schedules if not each.right]
        assert (report.gaps, report.extras, report.early, report.owed) == (0, 0, 0, 0)
        effects = Counter(effect.run_id for effect in self.effects)
        ended = {run.id for run in self.runs(None) if run.state is RunState.SUCCEEDED}
        assert (effects - Counter(ended), Counter(ended) - effects) == (Counter(), Counter())


def every(period: timedelta, anchor: datetime = T0) -> TriggerSpec:
    """An interval with its anchor at the beginning of the play."""
    return TriggerSpec(
        kind="interval",
        fields={"period_s": period.total_seconds(), "anchor_at": anchor.isoformat().replace("+00:00", "Z")},
    )
