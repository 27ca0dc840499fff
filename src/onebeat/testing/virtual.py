"""A whole Onebeat in one test: memory for a ledger, time that moves when told to, bodies that run at once.

It is the real front door, dispatcher and worker. Nothing sleeps and nothing runs beside the test: a day of a
schedule takes as long as its bodies do.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from onebeat.app import Onebeat
from onebeat.app.targets import CHECKED
from onebeat.core.errors import InvalidInput
from onebeat.core.messages import Claimed, RunQuery
from onebeat.core.model import FINISHED, UNFINISHED, Run, Target, utc
from onebeat.core.reconcile import AT_START
from onebeat.core.targets import FUNCTIONS, checked_target
from onebeat.core.triggers.walltime import tz_version, zone
from onebeat.engine.alerts import Alerts
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.executors.bodies import Bodies
from onebeat.engine.executors.python import InlineExecutor
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker
from onebeat.store.memory import MemoryStore
from onebeat.testing.clock import VirtualClock

HOLDER = "virtual-node"
EVERYTHING = 1_000_000
ROUNDS_MAX = 1000
STAND_INS = 1000
NUDGE = timedelta(milliseconds=1)
LOOK_AGAIN = timedelta(seconds=10)
"""While a run is unfinished and nothing says when it goes on (it may be parked), time moves by this much."""


class VirtualOnebeat(Onebeat):
    """An Onebeat on virtual time. ``now`` is where it begins, by default noon of a fixed day, UTC.

    A test declares and acts as a program does, then lets time pass with ``run_until`` and ``run_for``.
    """

    def __init__(self, *, zone: str | None = None, now: datetime | str | None = None) -> None:
        self.clock = VirtualClock()
        self._memory = MemoryStore(self.clock)
        super().__init__(
            "memory://", zone=zone, owner="test", actor="test", clock=self.clock, store=self._memory
        )
        if now is not None:
            self.at(now)
        self._node: _Node | None = None

    @property
    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        return self.clock.now()

    def adopt(self, app: Onebeat) -> None:
        """Take over what a program's own app declares: schedules, functions, and handlers of events."""
        for name, definition in app.declared.items():
            self._declarations.add(name, definition)
            self._targets.declared(definition.target)
        for address, function in app._targets._functions.items():
            self._targets.register(address, function)
        self._followers += [follower for follower in app._followers if follower not in self._followers]
        self._node = None

    def at(self, instant: datetime | str) -> datetime:
        """Move to an instant with nothing running, as if every node were down till then; return it.

        What was due meanwhile meets catch-up and grace in the next ``run_until``.
        """
        self.clock.set(self._instant(instant))
        return self.now

    def run_until(self, instant: datetime | str) -> list[Run]:
        """Serve until an instant, itself included; return the runs that ended meanwhile, the first due first.

        Declarations are applied as at the start of a node. A text that names no offset is wall time in the
        app's zone. Runs that history has forgotten since (``keep_runs``, ``keep_days``) are not returned.
        """
        start, until = self.now, self._instant(instant)
        if until < start:
            raise InvalidInput(
                f"{until.isoformat()} has passed: it is {start.isoformat()} here; at() can set the clock back"
            )
        if self._declarations.wanted:
            self._declarations.apply(AT_START)
        ended_before = {run.id for run in self._ended()}
        node = self._node = self._node or _Node(self, self._memory)
        node.serve()
        while self.now < until:
            self.clock.set(min(until, node.next_at()))
            node.serve()
        ended = [run for run in self._ended() if run.id not in ended_before]
        return sorted(ended, key=lambda run: (run.due_at, run.created_at, run.id))

    def run_for(self, duration: timedelta) -> list[Run]:
        """Serve for a while, as ``run_until`` does."""
        return self.run_until(self.now + duration)

    def _ended(self) -> list[Run]:
        return self._memory.runs(RunQuery(states=tuple(sorted(FINISHED)), limit=EVERYTHING))

    def _instant(self, instant: datetime | str) -> datetime:
        if isinstance(instant, str):
            instant = datetime.fromisoformat(instant)
            if instant.tzinfo is None:
                instant = instant.replace(tzinfo=zone(self.zone))
        return utc(instant)


class _StandIn(Bodies):
    """Stands in for commands or requests: each ends at once, and well, and nothing of it is run."""

    def __init__(self, kind: str, clock: VirtualClock) -> None:
        super().__init__(STAND_INS, clock)
        self.kind = kind

    def resolve(self, target: Target) -> None:
        checked_target(target)

    def start(self, claimed: Claimed, until: datetime) -> None:
        body = self.begin(claimed, until)
        self.end(body, body.returned(None))


class _Node:
    """The parts of one node, stepped by hand."""

    def __init__(self, beat: VirtualOnebeat, store: MemoryStore) -> None:
        self._store = store
        self._clock = beat.clock
        allowed = tuple(beat._targets._allowed())
        executors: list[Bodies] = [
            *(InlineExecutor(kind=kind, allow=allowed, clock=beat.clock) for kind in FUNCTIONS),
            *(_StandIn(kind, beat.clock) for kind in CHECKED),
        ]
        for executor in executors:
            executor.connect(store.wake)
        presence = Presence(
            store, beat.clock, holder=HOLDER, roles=("dispatcher", "worker"), tz_version=tz_version()
        )
        targets = sorted({definition.target.key for definition in beat.declared.values()})
        self._worker = Worker(store, beat.clock, executors, presence, targets=targets)
        self._dispatcher = Dispatcher(store, beat.clock, holder=HOLDER, tz_version=tz_version())
        self._alerts = Alerts(store, beat.clock, holder=HOLDER)
        self._followers = beat._followers

    def serve(self) -> None:
        """Do all that can be done at this instant."""
        self._worker.step()  # first: after a long time it has to be known again, or its runs would be parked
        for _ in range(ROUNDS_MAX):
            self._dispatcher.step()
            self._worker.step()
            self._alerts.step()
            for follower in self._followers:
                follower.step(self._store, HOLDER)
            if not self._store.wait(self._clock.now()):
                return

    def next_at(self) -> datetime:
        """Return when something may happen next: polls are left out, for nobody else writes here."""
        now = self._store.now()
        coming = [self._store.due(now, 1).next_at, *self._moments()]
        later = [instant for instant in coming if instant is not None and instant > now]
        return min(later, default=datetime.max.replace(tzinfo=now.tzinfo))

    def _moments(self) -> Iterable[datetime | None]:
        now = self._store.now()
        for run in self._store.runs(RunQuery(states=tuple(sorted(UNFINISHED)), limit=EVERYTHING)):
            yield run.ready_at
            yield run.lease_until
            yield None if run.deadline_at is None else run.deadline_at + NUDGE
            yield now + LOOK_AGAIN
