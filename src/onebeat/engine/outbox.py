"""The outbox: runs whose bodies others execute leave this node as messages.

    claim for sending ──► Outlet.send ──► the broker has it ──► no guard there: HandOver
      (sent, until resend_at)   │ │
                                │ └ not taken: an event; the run comes back when resend_at has passed
                                └ no answer: kept here and sent again, with a longer pause each time,
                                  and let go when resend_at is near

Marked first, sent after. A node that dies in between only delays its runs until their ``resend_at``, when any
node sends them again; and nobody has a lease on them meanwhile that a guard could not pass. A message may go
out twice: it names run and attempt, and one guard gets through.

``step()`` waits for the broker and for nothing else. It may raise what the store raises: what was not said to
the ledger is kept, and said by the next step.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from onebeat.core.errors import OutletUnavailable
from onebeat.core.messages import Claim, Claimed, HandOver
from onebeat.core.ports import Clock, Outlet, Store
from onebeat.engine.attempt import run_event
from onebeat.engine.current import storable
from onebeat.engine.metrics import Metrics
from onebeat.engine.presence import Presence
from onebeat.engine.repertoire import Repertoire
from onebeat.engine.sayings import Sayings

RESEND = timedelta(seconds=60)
RESEND_MAX = timedelta(minutes=10)
"""When a message that no guard has answered is sent again: RESEND after the first time, and then each time
after as long again as the run has been ready, so that a queue that stands still does not fill with copies."""
SPARE = timedelta(seconds=5)
"""How long before its ``resend_at`` a run is let go that could not be sent."""
PAUSE = timedelta(seconds=0.1)
PAUSE_MAX = timedelta(seconds=5)
POLL = timedelta(seconds=1)
"""How long nobody looks where nothing is heard. Of what becomes ready with time alone, a retry, nobody hears:
its attempt ended somewhere else."""
BATCH_MIN = 100
BATCH_MAX = 1000
ROUNDS_MAX = 100
REASON_CHARS_MAX = 500

_log = logging.getLogger("onebeat.engine")


class Outbox:
    """Sends what is ready for one outlet, in batches that grow while there is more.

    ``targets`` are tried at once; those that the ledger names on a thread ``aside``, where time is real.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        outlet: Outlet,
        presence: Presence,
        *,
        queues: Sequence[str] = ("default",),
        targets: Sequence[str] = (),
        resend: timedelta = RESEND,
        resend_max: timedelta = RESEND_MAX,
        poll: timedelta = POLL,
        aside: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._outlet = outlet
        self._presence = presence
        self._holder = presence.holder
        self._queues = tuple(queues)
        self._resend = resend
        self._resend_max = resend_max
        self._poll = poll
        self._metrics = Metrics() if metrics is None else metrics
        self._batch: list[Claimed] = []  # marked, and the broker has not answered for them yet
        self._handed: list[HandOver] = []  # the broker has them, and the ledger does not know yet
        self._sayings = Sayings(store)
        self._size = BATCH_MIN
        self._failures = 0
        self._again_at: datetime | None = None
        self._repertoire = Repertoire(self._holder, {outlet.kind: outlet}, offered=targets, aside=aside)
        self._last_now: datetime | None = None
        self._grace: timedelta | None = None
        self._stop_at: datetime | None = None

    def stop(self, grace: timedelta) -> None:
        """Claim nothing new from the next step on; let go of what could not be sent within ``grace``."""
        self._grace = grace if self._grace is None else min(grace, self._grace)

    @property
    def done(self) -> bool:
        """Return whether it was stopped and has nothing left to send or to say."""
        return self._grace is not None and not (self._batch or self._handed or self._sayings)

    def step(self) -> datetime:
        """Send all that can be sent now; return when to be called again at the latest."""
        now = self._now()
        announced_at = self._known(now)
        for _ in range(ROUNDS_MAX):  # then the caller may look whether to stop
            if not self._round(now):
                break
            now = self._now()
        else:
            return now
        wakes = [now + self._poll, announced_at]
        wakes += [at for at in (self._again_at, self._stop_at) if at is not None and at > now]
        return min(wakes)

    def _now(self) -> datetime:
        """Read the store's clock. If it was set back, forget what was planned on it: it may be hours away."""
        now = self._store.now()
        if self._last_now is not None and now < self._last_now:
            self._repertoire.set_back()
            self._again_at = None
            if self._stop_at is not None:
                self._stop_at -= self._last_now - now
        self._last_now = now
        if self._grace is not None and self._stop_at is None:
            self._stop_at = now + self._grace
        return now

    def _known(self, now: datetime) -> datetime:
        """Learn which targets are asked for, try to resolve them, announce; return when to do so again."""
        stopping = self._grace is not None
        learn_at = None if stopping else self._repertoire.keep_up(self._store, now)
        keys = () if stopping else self._repertoire.all()
        announce_at = self._presence.announce(now, keys, stopping=stopping, part=self._outlet.kind)
        return announce_at if learn_at is None else min(announce_at, learn_at)

    def _round(self, now: datetime) -> bool:
        """Say, claim, send. Return whether there may be more to send at once."""
        self._say()
        self._let_go(now)
        if self._batch and self._again_at is not None and now < self._again_at:
            return False
        more = bool(self._batch) or self._claim(now)  # after a while without the broker others are ready, too
        if not self._batch:
            return False
        self._send(now)
        self._say()
        return more and not self._batch

    def _claim(self, now: datetime) -> bool:
        """Mark what is ready as sent. Return whether as much was found as was asked for."""
        keys = self._repertoire.of(self._outlet.kind)
        if self._grace is not None or not keys:
            return False
        claim = Claim(
            holder=self._holder,
            queues=self._queues,
            targets=keys,
            limit=self._size,
            until=now + self._resend,
            sends=True,
            until_max=now + self._resend_max,
        )
        self._batch = self._store.claim(claim)
        full = len(self._batch) == self._size
        self._size = min(2 * self._size, BATCH_MAX) if full else BATCH_MIN
        return full

    def _let_go(self, now: datetime) -> None:
        """Forget runs that others may soon send, and on the way out what there is no time for."""
        over = self._stop_at is not None and now >= self._stop_at
        kept = [] if over else [each for each in self._batch if not _due_back(each, now + SPARE)]
        if len(kept) < len(self._batch):
            lost = len(self._batch) - len(kept)
            _log.warning("%s lets go of %d runs that it could not send; they come back", self._holder, lost)
        self._batch = kept

    # --- sending ---

    def _send(self, now: datetime) -> None:
        """Send the batch; keep it where the broker does not answer."""
        began = self._clock.now()
        try:
            answers = self._outlet.send(self._batch)
        except OutletUnavailable as error:
            self._failed(error, now)
        except Exception as error:  # noqa: BLE001 - its contract names one error; a stranger may not know
            _log.exception("%s: outlet %s failed to send", self._holder, self._outlet.kind)
            self._singly(error, now)
        else:
            batch, self._batch = self._batch, []
            self._answered(batch, answers, now + max(self._clock.now() - began, timedelta(0)))

    def _singly(self, error: Exception, now: datetime) -> None:
        """Send one by one what an outlet could not send together: one of them shall not keep the rest."""
        batch, self._batch = self._batch, []
        for number, each in enumerate(batch):
            try:
                answers = self._outlet.send([each]) if len(batch) > 1 else [_told(error)]
            except OutletUnavailable as away:
                self._batch = batch[number:]
                self._failed(away, now)
                return
            except Exception as alone:  # noqa: BLE001 - as above; now it is known whose fault it is
                answers = [_told(alone)]
            self._answered([each], answers, now)

    def _answered(self, batch: Sequence[Claimed], answers: Sequence[str | None], now: datetime) -> None:
        """Count what the broker has, and remember what the ledger must be told."""
        self._failures, self._again_at = 0, None
        taken = 0
        for claimed, why in zip(batch, answers, strict=True):
            run = claimed.run
            if why is not None:
                self._unsent(claimed, why, now)
                continue
            taken += 1
            self._metrics.observe(
                "onebeat_sent_seconds", run.schedule, max(0.0, (now - run.ready_at).total_seconds())
            )
            if not self._outlet.guarded(claimed.definition.target):
                self._handed.append(HandOver(run_id=run.id, attempt=run.attempt + 1))
        if taken:
            self._metrics.count("onebeat_sent_total", self._outlet.kind, amount=taken)

    def _unsent(self, claimed: Claimed, why: str, now: datetime) -> None:
        run = claimed.run
        self._metrics.count("onebeat_send_failures_total", self._outlet.kind)
        _log.warning("%s cannot be sent: %s", run.id, why)
        self._sayings.add(
            run_event(
                "run.unsent",
                run,
                at=now,
                actor=self._holder,
                reason=storable(why)[:REASON_CHARS_MAX],
                data={"attempt": run.attempt + 1},
            )
        )

    def _failed(self, error: OutletUnavailable, now: datetime) -> None:
        self._metrics.count("onebeat_send_failures_total", self._outlet.kind)
        pause = min(PAUSE * 2 ** min(self._failures, 10), PAUSE_MAX)
        self._failures += 1
        self._again_at = now + pause
        level = logging.WARNING if self._failures == 1 else logging.INFO
        _log.log(level, "%s, outlet %s: %s", self._holder, self._outlet.kind, error)

    # --- saying ---

    def _say(self) -> None:
        """Tell the ledger what was handed over, and what could not be sent."""
        if self._handed:
            # Repeated after a reply was lost it is refused, and that is as good: the run has ended.
            self._store.advance(self._handed)
            self._handed = []
        self._sayings.deliver()


def _due_back(claimed: Claimed, now: datetime) -> bool:
    return claimed.run.resend_at is not None and claimed.run.resend_at <= now


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
