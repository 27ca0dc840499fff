"""The worker: claims runs, starts their bodies, and reports how they ended.

    claim ──► Start accepted ──► body ──► judge ──► Finish accepted | repeated ──► forgotten here
       │          │ refused        │ Renew refused, cancel, timeout: told           │ refused
       │          ▼                ▼                                                ▼
       └─ stop: Release         still_mine() is False                          said loudly

``step()`` never waits and never sleeps. It may raise what the store raises: what was not answered is kept and
sent again by the next step, word for word, so a lost reply loses no report and changes none.
"""

import heapq
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec.structs import replace

from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Done,
    EventQuery,
    Finish,
    Note,
    Release,
    Renew,
    Report,
    Retry,
    Start,
)
from onebeat.core.model import Event, Outcome, Policy, Run, RunState
from onebeat.core.ports import LEASE, Clock, Executor, Store
from onebeat.engine.attempt import LAPSED, ended, refused_event
from onebeat.engine.metrics import Metrics
from onebeat.engine.presence import Presence
from onebeat.engine.repertoire import Repertoire
from onebeat.engine.sayings import Sayings

POLL = timedelta(seconds=10)
"""How long an idle worker does not look, where every word of a change is lost."""
NOTES_EVERY = timedelta(seconds=1)
BATCH_MAX = 1000
ROUNDS_MAX = 100
WRITES_MAX = 5
ALARMS_SPARE = 1000
ANYBODYS = ("", 0)

_log = logging.getLogger("onebeat.engine")


class _Held:
    """One attempt under this holder's lease: claimed, then started, then ended with a Finish to deliver."""

    __slots__ = ("claimed", "executor", "finish", "renew_at", "run", "sent", "started")

    def __init__(self, claimed: Claimed, executor: Executor) -> None:
        self.claimed = claimed
        self.run: Run = claimed.run
        self.executor = executor
        self.started = False
        self.finish: Finish | None = None
        self.sent = 0  # how often the Finish went out: more than once, and it may have been accepted before
        self.renew_at: datetime | None = None

    @property
    def policy(self) -> Policy:
        return self.claimed.definition.policy


class Worker:
    """Executes what it has claimed, under leases that it renews at a third of their length.

    ``targets`` are tried at once; those that the ledger names on a thread ``aside``, where time is real. All
    durations are stated here; the poll bounds what a lost wake-up costs.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        executors: Iterable[Executor],
        presence: Presence,
        *,
        queues: Sequence[str] = ("default",),
        targets: Sequence[str] = (),
        lease: timedelta = LEASE,
        poll: timedelta = POLL,
        aside: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._executors = {executor.kind: executor for executor in executors}
        self._presence = presence
        self._holder = presence.holder
        self._queues = tuple(queues)
        self._lease = lease
        self._poll = poll
        self._metrics = Metrics() if metrics is None else metrics
        self._held: dict[tuple[str, int], _Held] = {}
        self._claimed: list[_Held] = []  # Start not answered yet
        self._ended: list[_Held] = []  # Finish not answered yet
        self._notes: list[Note] = []
        self._notes_at: datetime | None = None
        self._sayings = Sayings(store)
        self._unexplained: list[_Held] = []  # results refused, and not yet said why
        # Retries and timeouts: when to look, with nobody to wake us, and for which attempt.
        self._alarms: list[tuple[datetime, tuple[str, int]]] = []
        self._renew_at: datetime | None = None  # not later than the first renewal
        self._last_now: datetime | None = None
        self._local_now = clock.now()  # this node's clock, just before the store's was read
        self._repertoire = Repertoire(self._holder, self._executors, offered=targets, aside=aside)
        self._grace: timedelta | None = None
        self._stop_at: datetime | None = None

    # --- what others ask of it ---

    def stop(self, grace: timedelta) -> None:
        """Claim nothing new from the next step on, and report as lost what is unfinished after ``grace``."""
        self._grace = grace if self._grace is None else min(grace, self._grace)

    @property
    def done(self) -> bool:
        """Return whether it was stopped and holds nothing any more."""
        return self._grace is not None and not (
            self._held or self._notes or self._sayings or self._unexplained
        )

    @property
    def holding(self) -> int:
        """Return how many attempts it holds."""
        return len(self._held)

    def step(self) -> datetime:
        """Do all that can be done now; return when to be called again at the latest."""
        now = self._now()
        if self._grace is not None and self._stop_at is None:
            self._stop_at = now + self._grace
        trouble: Exception | None = None
        try:
            wake_at = self._known(now)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - raised below: first the results that are in our hands
            trouble, wake_at = error, now
        more = True
        for _ in range(ROUNDS_MAX):  # then the caller may look whether to stop
            more = self._round(now, claiming=more)
            if not (more or self._ended):
                break
            now = self._now()
        if trouble is not None:
            raise trouble
        return now if more or self._ended else min(self._wake_at(now), wake_at)

    def _now(self) -> datetime:
        """Read the store's clock. If it was set back, forget what was planned on it: it may be hours away."""
        self._local_now = self._clock.now()
        now = self._store.now()
        if self._last_now is not None and now < self._last_now:
            self._repertoire.set_back()
            self._notes_at = None
            self._renew_at = now
            for held in self._held.values():
                if held.started and held.renew_at is not None:
                    held.renew_at = now
            if self._stop_at is not None:
                self._stop_at -= self._last_now - now
        self._last_now = now
        return now

    def _round(self, now: datetime, *, claiming: bool) -> bool:
        """Collect, claim, commit, begin. Return whether there may be more to claim."""
        self._collect(now)
        self._keep_notes(now)
        full = claiming and self._grace is None and self._claim(now)
        freed = self._advance(now)
        self._say(now)
        return full or freed

    def _wake_at(self, now: datetime) -> datetime:
        wake_at = now + (min(NOTES_EVERY, self._poll) if self._held else self._poll)
        if len(self._alarms) > 2 * len(self._held) + ALARMS_SPARE:
            # Attempts that ended before their timeout, and retries beyond the next: the poll comes first.
            self._alarms = [alarm for alarm in self._alarms if alarm[1] in self._held]
            heapq.heapify(self._alarms)
        while self._alarms and self._alarms[0][0] <= now:
            heapq.heappop(self._alarms)
        first = self._alarms[0][0] if self._alarms else None
        soon = [at for at in (self._renew_at, self._stop_at, first) if at is not None and at > now]
        return min(wake_at, *soon) if soon else wake_at

    # --- what it can run, and saying so ---

    def _known(self, now: datetime) -> datetime:
        """Learn which targets are asked for, try to resolve them, and announce."""
        stopping = self._grace is not None
        learn_at = None if stopping else self._repertoire.keep_up(self._store, now)
        announce_at = self._presence.announce(
            now, [] if stopping else self._repertoire.all(), stopping=stopping
        )
        return announce_at if learn_at is None else min(announce_at, learn_at)

    # --- from bodies to the ledger ---

    def _collect(self, now: datetime) -> None:
        """Turn what ended into Finishes: each is judged once, and stays as it is until it is answered."""
        for executor in self._executors.values():
            for report in (*executor.reports(), *executor.overrun(now)):
                held = self._held.get((report.run_id, report.token))
                if held is None or held.finish is not None:
                    continue
                if report.committed is not None:
                    self._forget(held)
                    self._count(held, report.committed, now)
                    continue
                # A transaction given up again and again is bounded as lost attempts are.
                began = report.outcome is not Outcome.LOST or held.policy.transactional
                self._end(held, report, now, began=began)
        if self._stop_at is not None and now >= self._stop_at:
            for held in self._held.values():
                if held.started and held.finish is None:
                    self._tell(held, "the node is shutting down")
                    error = f"its node {self._holder} was stopped, and the body did not end within the grace"
                    self._end(held, _report(held.run, Outcome.LOST, error), now)

    def _end(self, held: _Held, report: Report, now: datetime, *, began: bool = True) -> None:
        # Only we can know that the body never began; on_lost="fail" forgives that.
        run = held.run if began else replace(held.run, started_at=None)
        held.finish = finish = ended(held.policy, run, report, at=now, actor=self._holder)
        if isinstance(finish.verdict, Retry):
            heapq.heappush(self._alarms, (finish.verdict.at, ANYBODYS))
        self._ended.append(held)

    def _keep_notes(self, now: datetime) -> None:
        """Carry progress and lines to the ledger: at once where their run ends, else every NOTES_EVERY.

        What could not be delivered goes first. Until it is, new lines wait in the executors, within bounds.
        """
        ending = bool(self._ended) or self._grace is not None
        if not ending and self._notes_at is not None and now < self._notes_at:
            return
        self._notes_at = now + NOTES_EVERY
        for _ in range(2):
            if self._notes:
                try:
                    self._store.note(self._notes)
                except StoreUnavailable:
                    raise
                except Exception:  # noqa: BLE001 - lines that cannot be kept must not keep results back
                    _log.exception("%s: lines of %d runs cannot be kept", self._holder, len(self._notes))
            self._notes = [note for executor in self._executors.values() for note in executor.notes()]

    # --- claiming ---

    def _claim(self, now: datetime) -> bool:
        """Claim for the slots that are free now, not one more: what waited here could run elsewhere.

        Return whether every slot asked for was filled, so that there may be more.
        """
        full = False
        for kind, executor in self._executors.items():
            waiting = sum(held.executor is executor for held in self._claimed)
            limit = min(executor.free() - waiting, BATCH_MAX)
            if limit <= 0 or not self._repertoire.of(kind):
                continue
            claim = Claim(
                holder=self._holder,
                queues=self._queues,
                targets=self._repertoire.of(kind),
                limit=limit,
                until=now + self._lease,
            )
            claimed = self._store.claim(claim)
            for item in claimed:
                held = _Held(item, executor)
                self._held[item.run.id, item.run.token] = held
                self._claimed.append(held)
            full = full or len(claimed) == limit
        return full

    # --- the one commit of a round ---

    def _advance(self, now: datetime) -> bool:
        """Deliver ends, starts, releases and renewals. Return whether an end freed a slot."""
        ending, starting = self._ended[:BATCH_MAX], self._claimed
        batch: list[tuple[_Held, AnyTransition]] = []
        for held in ending:
            assert held.finish is not None
            held.sent += 1
            batch.append((held, held.finish))
        for held in starting:
            run_id, token = held.run.id, held.run.token
            starts = self._grace is None
            batch.append(
                (held, Start(run_id=run_id, token=token) if starts else Release(run_id=run_id, token=token))
            )
        batch += self._renewals(now)
        self._send(batch, now)
        if self._renew_at is not None and now >= self._renew_at:
            self._renew_at = self._next_renewal()
        return bool(ending)

    def _send(self, batch: list[tuple[_Held, AnyTransition]], now: datetime) -> None:
        """Commit transitions and act on the answers; what is not answered stays for the next step."""
        if not batch:
            return
        try:
            answers = self._store.advance([transition for _, transition in batch])
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                _give_up(*batch[0], error)
                raise
            # One of them cannot be written, whyever: it must not keep the others' results from the ledger.
            for single in batch:
                try:
                    self._send([single], now)
                except StoreUnavailable:
                    raise
                except Exception:  # noqa: BLE001 - it stays, and the next step says it again
                    _log.exception("%s: %s cannot be written", single[0].run.id, type(single[1]).__name__)
            raise
        # Nothing below asks the store, so no answer is lost half-way.
        for (held, transition), answer in zip(batch, answers, strict=True):
            self._answered(held, transition, answer, now)

    def _renewals(self, now: datetime) -> list[tuple[_Held, AnyTransition]]:
        """Return renewals, if one is due: those due soon as well, to make few batches of many."""
        if self._renew_at is None or now < self._renew_at:
            return []
        soon, until = now + self._lease / 12, now + self._lease
        return [
            (held, Renew(run_id=held.run.id, token=held.run.token, until=until))
            for held in self._held.values()
            if held.started and held.finish is None and held.renew_at is not None and held.renew_at <= soon
        ]

    def _next_renewal(self) -> datetime | None:
        waiting = [held.renew_at for held in self._held.values() if held.started and held.finish is None]
        return min((at for at in waiting if at is not None), default=None)

    def _answered(self, held: _Held, transition: AnyTransition, answer: Advanced, now: datetime) -> None:
        taken = answer.answer is not Answer.REFUSED
        match transition:
            case Start() if taken:
                self._claimed.remove(held)
                self._begin(held, answer, now)
            case Release() if not taken:
                # Its Start had been taken, and the reply was lost. The body never began: say so, or it would
                # be found lost after a start, which on_lost="fail" does not forgive.
                self._claimed.remove(held)
                held.started = True
                self._end(held, _report(held.run, Outcome.LOST, "released before its body began"), now)
            case Renew() if taken:
                held.renew_at = now + self._lease / 3
                held.executor.renewed(held.run.id, held.run.token, self._local_now + self._lease)
                if answer.cancel_requested:
                    self._tell(held, "cancelled on request")
            case Renew():
                # Nobody renews what is lost; its result, if it comes, will be refused and said.
                held.renew_at = None
                self._tell(held, "the lease was lost")
            case Finish():
                self._ended.remove(held)
                self._forget(held)
                if taken:
                    self._count(held, transition, now)
                elif held.run.started_at is not None:
                    self._unexplained.append(held)
            case _:
                # A release, as it should be; or a start refused, for the run is somebody else's by now.
                self._claimed.remove(held)
                self._forget(held)

    def _begin(self, held: _Held, answer: Advanced, now: datetime) -> None:
        """Start the body of a run whose Start the ledger has taken."""
        held.started = True
        held.run = run = replace(held.run, started_at=now)
        held.renew_at = (run.lease_until or now) - self._lease * 2 / 3
        if self._renew_at is None or held.renew_at < self._renew_at:
            self._renew_at = held.renew_at
        if answer.cancel_requested:
            self._end(held, _report(run, Outcome.CANCELLED, "cancelled before its body began"), now)
            return
        until = self._local_now + ((run.lease_until or now) - now)
        if self._clock.now() >= until:
            # This process stood still after the Start was taken: by now the run may be somebody else's.
            self._end(held, _report(run, Outcome.LOST, LAPSED), now, began=False)
            return
        timeout = held.policy.timeout
        if timeout is not None:
            heapq.heappush(self._alarms, (now + timeout, (run.id, run.token)))
        try:
            held.executor.start(Claimed(run=run, definition=held.claimed.definition), until)
        except Exception as error:  # noqa: BLE001 - its contract forbids it; a stranger's executor may not know
            _log.exception("%s: executor %s failed to start", run.id, held.executor.kind)
            self._end(held, _report(run, Outcome.FAILED, f"{type(error).__name__}: {error}"), now)

    def _tell(self, held: _Held, why: str) -> None:
        held.executor.tell(held.run.id, held.run.token, why)

    def _forget(self, held: _Held) -> None:
        self._held.pop((held.run.id, held.run.token), None)

    # --- saying what happened ---

    def _count(self, held: _Held, finish: Finish, now: datetime) -> None:
        run = held.run
        self._metrics.count("onebeat_attempts_total", finish.outcome.value)
        if run.started_at is not None and finish.outcome is not Outcome.LOST:
            seconds = (now - run.started_at).total_seconds()
            self._metrics.observe("onebeat_run_seconds", run.schedule, seconds)
        if finish.event is not None and finish.outcome is not Outcome.SUCCEEDED:
            _log.warning(
                "%s, attempt %d: %s; %s", run.id, run.attempt, finish.outcome.value, finish.verdict.reason
            )

    def _say(self, now: datetime) -> None:
        """Say loudly which results were refused, and to whom their leases passed."""
        while self._unexplained:
            held = self._unexplained[-1]
            event = self._refusal(held, now)
            self._unexplained.pop()
            if event is not None:
                self._metrics.count("onebeat_results_refused_total")
                _log.error("%s, attempt %d: %s", held.run.id, held.run.attempt, event.reason)
                self._sayings.add(event)
        self._sayings.deliver()

    def _refusal(self, held: _Held, now: datetime) -> Event | None:
        """Return the event of a refused result; None where it had been accepted after all."""
        finish, mine = held.finish, held.run
        assert finish is not None
        if held.sent > 1 and isinstance(finish.verdict, Retry) and finish.event is not None:
            # Its reply was lost, and by now another attempt has begun: the event it left tells.
            query = EventQuery(run_id=mine.id, kinds=(finish.event.kind,))
            if any(event.data.get("token") == mine.token for event in self._store.events(query)):
                return None
        there = self._store.run(mine.id)
        succeeded = there is not None and (there.token, there.outcome) == (mine.token, Outcome.SUCCEEDED)
        if held.policy.transactional and succeeded:  # by its own transaction: we had not heard of its commit
            self._count(held, replace(finish, outcome=Outcome.SUCCEEDED, event=None), now)
            return None
        return refused_event(mine, finish.outcome, there, at=now, actor=self._holder)


def _give_up(held: _Held, transition: AnyTransition, error: Exception) -> None:
    """Put a plain failure in the place of a report that the store has refused to write too often."""
    if isinstance(transition, Finish) and held.sent >= WRITES_MAX:
        reason = f"its result could not be written: {type(error).__name__}"
        verdict = Done(state=RunState.FAILED, reason=reason)
        held.finish = Finish(
            run_id=transition.run_id,
            token=transition.token,
            outcome=Outcome.FAILED,
            verdict=verdict,
            error=reason,
        )


def _report(run: Run, outcome: Outcome, error: str) -> Report:
    return Report(run_id=run.id, token=run.token, outcome=outcome, error=error)
