"""Onebeat: what a program declares, does and asks, behind one name. It only composes; core decides."""

import gc
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from os import getpid
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, Unpack
from uuid import uuid4

from onebeat.app import agreeing
from onebeat.app.declaring import Applied, Declarations
from onebeat.app.desk import Desk
from onebeat.app.explaining import Explaining, Why
from onebeat.app.following import Follower, Handler, checked_kinds, handler_name
from onebeat.app.health import Complaint, Health
from onebeat.app.looking import Nodes, Outlook
from onebeat.app.proof import Proof, Report
from onebeat.app.runs import Runs
from onebeat.app.schedules import Schedules
from onebeat.app.targets import Targets
from onebeat.app.using import Using
from onebeat.core.definition import Options
from onebeat.core.errors import InvalidInput, Refused, near_miss, shown
from onebeat.core.messages import Hold, Share
from onebeat.core.model import Definition, Json, Schedule, Target, TriggerSpec
from onebeat.core.ports import Clock, Outlet, Store
from onebeat.core.reconcile import AT_START, Mode, Step

if TYPE_CHECKING:
    from onebeat.engine.service import Service

Function = TypeVar("Function", bound=Callable[..., Any])
HandlerFunction = TypeVar("HandlerFunction", bound=Handler)
Instants: TypeAlias = list[datetime]

ROLES = ("dispatcher", "worker")


class Onebeat:
    """A scheduler's front door. Making it, and declaring with it, touches no store.

    ``url`` is where the ledger is: ``ONEBEAT_URL`` by default, else ``sqlite:///onebeat.db``. ``zone`` is the
    zone of triggers that name none, by default UTC. ``owner`` and ``revision`` tag what this app declares: a
    lower revision changes nothing. ``modules`` are the prefixes of modules whose functions its nodes may run,
    beside those it declares; with ``shell`` they also run commands, whatever a schedule names, and ``http``
    are networks and hosts beside the internet that they may send requests to. ``actor`` is how the trail
    names who acts. ``clock`` and ``store`` are for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        zone: str | None = None,
        owner: str = "app",
        revision: int = 0,
        modules: Sequence[str] = (),
        shell: bool = False,
        http: Sequence[str] = (),
        actor: str | None = None,
        clock: Clock | None = None,
        store: Store | None = None,
    ) -> None:
        self._desk = Desk(url, zone=zone, actor=actor, clock=clock, modules=modules, store=store)
        self._targets = Targets(self._desk)
        self._targets.allow(shell=shell, http=http)
        self._declarations = Declarations(self._desk, self._targets, owner, revision)
        self._outlook = Outlook(self._desk)
        self._proof = Proof(self._desk)
        self._health = Health(self._desk, self._declarations)
        self._explaining = Explaining(self._desk)
        self._followers: list[Follower] = []
        self.schedules = Schedules(self._desk, self._targets)
        self.runs = Runs(self._desk)
        self.nodes = Nodes(self._desk)

    # --- declaring: collected, and written by serve and apply ---

    def scheduled(
        self,
        trigger: str | TriggerSpec,
        *,
        name: str | None = None,
        args: Iterable[Json] = (),
        kwargs: Mapping[str, Json] | None = None,
        **options: Unpack[Options],
    ) -> Callable[[Function], Function]:
        """Declare the decorated function as a schedule; its own name, with dashes, is the default name.

        Touches no store. Raises InvalidInput where something cannot be meant, or two declarations collide.
        """
        return self._declarations.scheduled(trigger, name, args, kwargs, options)

    def declare(
        self,
        name: str,
        trigger: str | TriggerSpec,
        target: str | Target | Callable[..., Any],
        **options: Unpack[Options],
    ) -> None:
        """Declare a schedule of any target. Touches no store. Raises InvalidInput as ``scheduled`` does."""
        self._declarations.declare(name, trigger, target, options)

    @property
    def declared(self) -> Mapping[str, Definition]:
        """Return what this app has declared so far, by name."""
        return dict(self._declarations.wanted)

    def apply(
        self,
        *,
        prune: bool = False,
        force: bool = False,
        owner: str | None = None,
        revision: int | None = None,
        reason: str = "",
        definitions: Mapping[str, Definition] | None = None,
        since: Mapping[str, datetime] | None = None,
        paused: Mapping[str, str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Applied:
        """Reconcile the declarations with the ledger, now; return what became of each.

        A field that a person changed wins until ``force``. A lower ``revision`` than the one that a schedule
        carries changes nothing of it. What is declared no more is removed by a higher revision, or by
        ``prune``. ``definitions``, ``owner`` and ``revision`` stand in for the app's own (another owner's is
        0 unless it is given); ``progress`` is told how many more were written.

        Of schedules that are new, ``since`` says up to when another scheduler has fired them (what has come
        due meanwhile is owed), and ``paused`` which begin paused, and why.
        """
        declared = self._declarations.instead(definitions, owner, revision)
        declared.since, declared.paused = since or {}, paused or {}
        return declared.apply(_mode(prune, force), reason=reason, progress=progress)

    def diff(
        self,
        *,
        prune: bool = False,
        force: bool = False,
        owner: str | None = None,
        revision: int | None = None,
        definitions: Mapping[str, Definition] | None = None,
    ) -> list[Step]:
        """Return what ``apply`` would do, and do nothing."""
        return self._declarations.instead(definitions, owner, revision).plan(_mode(prune, force))

    def on(
        self, *kinds: str, tag: str | None = None, name: str | None = None
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Have nodes of this app call the decorated function with each event of these kinds (none: all).

        At least once each, in order, by a cursor that is kept in the ledger under ``name``, by default where
        the function is defined; a new name begins with what happens next. ``tag`` keeps to events of
        schedules that carry it.

        Raises InvalidInput for a kind that there is not.
        """
        checked_kinds(kinds)

        def follow(handler: HandlerFunction) -> HandlerFunction:
            self._followers.append(Follower(name or handler_name(handler), kinds, tag, handler))
            return handler

        return follow

    # --- serving ---

    def serve(
        self,
        roles: Sequence[str] = ROLES,
        *,
        queues: Sequence[str] = ("default",),
        threads: int = 10,
        coroutines: int = 1000,
        http_calls: int = 1000,
        processes: int | None = None,
        lease: timedelta = timedelta(seconds=30),
        grace: timedelta = timedelta(seconds=30),
        share: Share | None = None,
        ready: Callable[["Service"], None] | None = None,
    ) -> bool:
        """Reconcile the declarations, then dispatch and work until SIGTERM or SIGINT; then wind down.

        Winding down: claim nothing new, finish within ``grace``, release the rest. Returns whether it all
        ended in order. A start adds what is declared and not there, and changes what a higher revision
        declares; it removes nothing. ``ready`` is called with the node just before.
        """
        service = self.service(
            roles,
            queues=queues,
            threads=threads,
            coroutines=coroutines,
            http_calls=http_calls,
            processes=processes,
            lease=lease,
            grace=grace,
            share=share,
        )
        if threading.current_thread() is not threading.main_thread():
            return _run(service, ready)  # a guest here: signals and garbage are the host's
        # All that was imported stays as long as the process: a collection that walks it every few seconds
        # finds nothing, and makes what is due late.
        gc.collect()
        gc.freeze()
        kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def stop(number: int, frame: FrameType | None) -> None:
            service.stop()
            for each, before in kept.items():  # a second signal does what it always did
                signal.signal(each, before)

        try:
            for number in kept:
                signal.signal(number, stop)
            return _run(service, ready)
        finally:
            for number, before in kept.items():
                signal.signal(number, before)

    def service(
        self,
        roles: Sequence[str] = ROLES,
        *,
        queues: Sequence[str] = ("default",),
        threads: int = 10,
        coroutines: int = 1000,
        http_calls: int = 1000,
        processes: int | None = None,
        lease: timedelta = timedelta(seconds=30),
        grace: timedelta = timedelta(seconds=30),
        share: Share | None = None,
        outlets: Iterable[Outlet] = (),
        resend: timedelta = timedelta(seconds=60),
    ) -> "Service":
        """Reconcile the declarations and return a node that is not started yet: for hosts with an own loop.

        ``start()`` begins to serve on threads of this process, ``shutdown()`` winds down. Runs whose targets
        are of the kind of one of ``outlets`` are sent by it, as messages, whatever the roles; one that no
        guard has answered is sent again after ``resend``.
        """
        from onebeat.core.triggers.walltime import tz_version
        from onebeat.engine.executors.child import inside
        from onebeat.engine.service import Service

        if inside.is_set():
            raise Refused(
                "this process runs a body of another node, and has imported a module that serves when it is "
                "imported; put the serving under `if __name__ == '__main__':`"
            )
        ways = list(outlets)
        _refuse_unserved(roles, ways)
        store = self._desk.store
        if self._declarations.wanted:
            self._declarations.apply(AT_START)
            for definition in self.declared.values():
                self._desk.refuse_unshared(definition, lease)
        holder = f"{socket.gethostname()}-{getpid()}-{uuid4().hex[:6]}"
        followers = self._followers if "dispatcher" in roles else []
        return Service(
            store,
            self._desk.clock,
            holder=holder,
            roles=(*roles, *(follower.role for follower in followers)),
            executors=self._targets.executors(threads, coroutines, processes, http_calls)
            if "worker" in roles
            else (),
            outlets=ways,
            queues=queues,
            targets=sorted({definition.target.key for definition in self.declared.values()}),
            lease=lease,
            grace=grace,
            share=share,
            tz_version=tz_version(),
            data=agreeing.data(),
            settings=agreeing.declared(self._declarations, self._desk.zone)
            | agreeing.served(
                roles=roles,
                queues=queues,
                lease=lease,
                share=share,
                durability=store.facts()["durability"],
                outlets=ways,
            ),
            beside=[(follower.role, _step(follower, store, holder)) for follower in followers],
            resend=resend,
        )

    def hold(self, reason: str = "") -> Hold | None:
        """Stop all firing, of every schedule; return the hold that was in force before, None for none.

        Runs that there are go on. What is owed meanwhile meets each schedule's catch-up after the release.
        """
        since = self._desk.store.now()
        return self._desk.store.hold(Hold(since_at=since, actor=self._desk.actor, reason=reason), uuid4().hex)

    def release(self) -> Hold | None:
        """Let firing go on; return the hold that was in force, None where there was none."""
        return self._desk.store.hold(None, uuid4().hex)

    # --- within a transaction of the caller's own ---

    def using(self, connection: object) -> Using:
        """Return what puts schedules and requests runs in the open transaction of a connection.

        They are there when its owner commits, and gone with a rollback. The connection must lead to the
        ledger's own database, by the driver of its URL, or by SQLAlchemy on it: docs/howto/commit-together.md

        Raises:
            InvalidInput: the connection is another database's or driver's, in autocommit, or its transaction
                is above READ COMMITTED; or the ledger is in memory or on Redis.

        """
        return Using(self._desk, self._targets, connection)

    # --- asking ---

    def preview(
        self, what: str | TriggerSpec, n: int = 10, *, after: datetime | None = None, zone: str | None = None
    ) -> Instants:
        """Return the next ``n`` occurrences of a schedule by name, a cron text or a trigger. Fires nothing.

        Those after ``after``, by default after now; each in the trigger's own zone. A declared schedule is
        found without a store.
        """
        return self._outlook.preview(what, n, after=after, zone=zone, declared=self._declarations.wanted)

    def words(self, what: str | TriggerSpec, lang: str = "en", *, zone: str | None = None) -> str:
        """Return when a schedule, a cron text or a trigger comes, as people would say it.

        ``lang`` is ``en``, or ``zh`` for Simplified Chinese. A declared schedule is found without a store.
        """
        return self._outlook.words(what, lang, zone=zone, declared=self._declarations.wanted)

    def audit(
        self,
        names: Iterable[str] | None = None,
        *,
        tag: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Report:
        """Prove the ledger: each expected occurrence in (since, until] against what was settled.

        By default of all schedules, from their beginning until now. The expected ones come from a matcher
        that shares no code with the triggers. ``progress`` is told as schedules are done.
        """
        return self._proof.audit(self._proof.rows(names, tag), since, until, progress)

    def audited(self, names: Iterable[str] | None = None, *, tag: str | None = None) -> list[Schedule]:
        """Return the schedules that ``audit`` would look at; deleted ones are among them."""
        return self._proof.rows(names, tag)

    def why(self, name: str, at: datetime) -> Why:
        """Return in one paragraph what became of the occurrence of a schedule at an instant, and why."""
        return self._explaining.why(name, at)

    def doctor(self) -> list[Complaint]:
        """Look for what is wrong, or might be: the store, clocks, zones, nodes, targets, settings."""
        return self._health.check()

    # --- composing ---

    def allow(self, *modules: str, shell: bool = False, http: Iterable[str] = ()) -> None:
        """Have nodes of this app run more: functions of modules under these prefixes, commands, requests.

        With ``shell`` a node runs whatever program a schedule names, so who may write schedules may run
        anything there. ``http`` names networks and hosts beside the internet: 10.0.0.0/8, localhost.
        """
        self._targets.allow(*modules, shell=shell, http=http)

    @property
    def url(self) -> str:
        """Return where the ledger is. It may be set until the store is opened."""
        return self._desk.url

    @url.setter
    def url(self, url: str) -> None:
        self._desk.move(url)

    @property
    def migrates(self) -> bool:
        """Whether opening the store makes missing tables; may be set until it is opened."""
        return self._desk.migrates

    @migrates.setter
    def migrates(self, wanted: bool) -> None:
        self._desk.migrates = wanted

    def migrate(self, *, finish: bool = False) -> list[str]:
        """Make the tables that the ledger misses; return the steps made. Safe beside running nodes.

        ``finish`` also takes away what nodes of the version before still need: only when none is left.
        """
        from onebeat.store.upkeep import migrate

        made = migrate(self._desk.url, self._desk.clock, finish=finish)
        return [f"{step.number:03} {step.step} {step.what}" for step in made]

    def migration(self, *, finish: bool = False) -> str:
        """Return what ``migrate`` would do as SQL text, for an administrator to do. Changes nothing."""
        from onebeat.store.upkeep import script

        return script(self._desk.url, self._desk.clock, finish=finish)

    @property
    def store(self) -> Store:
        """Return the store itself, opened when first needed: for surfaces and tools."""
        return self._desk.store

    def clock_now(self) -> datetime:
        """Return the present instant on this app's clock, which is not the store's."""
        return self._desk.clock.now()

    @property
    def zone(self) -> str:
        """Return the zone of triggers that name none."""
        return self._desk.zone

    @property
    def owner(self) -> str:
        """Return the tag of what this app declares."""
        return self._declarations.owner

    @property
    def revision(self) -> int:
        """Return the revision of what this app declares."""
        return self._declarations.revision

    def close(self) -> None:
        """Let go of the store. Safe to repeat; it opens again when needed."""
        self._desk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _mode(prune: bool, force: bool) -> Mode:
    return Mode(edits=True, removes=True, prune=prune, force=force)


def _refuse_unserved(roles: Iterable[str], outlets: Iterable[Outlet]) -> None:
    """Raise InvalidInput for a role that there is not, or for two ways that would share their runs."""
    for role in roles:
        if role not in ROLES:
            raise InvalidInput(
                f"{shown(role)} is no role{near_miss(str(role), ROLES)}; there are {', '.join(ROLES)}"
            )
    for kind, count in Counter(outlet.kind for outlet in outlets).items():
        if count > 1:
            raise InvalidInput(
                f"{count} outlets of kind {kind} would share their runs by chance; give each broker a "
                "node and queues of its own (queues=[…])"
            )


def _step(follower: Follower, store: Store, holder: str) -> Callable[[], datetime]:
    return lambda: follower.step(store, holder)


def _run(service: "Service", ready: "Callable[[Service], None] | None") -> bool:
    if ready is not None:
        ready(service)
    return service.run()
