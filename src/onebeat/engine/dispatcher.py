"""The dispatcher: settles what is due, and takes care of what time has overtaken.

    due ──► decide.settle, each row alone ──► settle ──► won: counted │ lost: silence │ early: later
                      │ raises
                      ▼
               quarantined, alone, with the reason

Then, each at its own pace: runs overtaken by time (lost leases, unanswered hand-overs, passed deadlines),
runs that no live node can run (parked, and back), rows that do not decode (quarantined), purging, and rows
whose next instant was computed with other data about zones and calendars (rebasing.py). What
``due`` tells of the inbox in passing is done by inbox.py.

``step()`` never waits and never sleeps. Any number of dispatchers may run: each commit is a compare-and-set,
and who loses reads again. Wake-ups are hints; with every one of them lost, ``POLL`` bounds what is late.
"""

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import assert_never

from onebeat.core import edits
from onebeat.core.decide import judge, settle
from onebeat.core.errors import MissingExtra, StoreUnavailable
from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Expire,
    Lost,
    Overdue,
    Overtaken,
    Park,
    Resend,
    Settled,
    Share,
    Unpark,
)
from onebeat.core.model import MICROSECOND, Decision, Event, Outcome, Owing, Run, instant_text
from onebeat.core.ports import Clock, Store
from onebeat.core.triggers.registry import build
from onebeat.engine.attempt import attempt_event, run_event
from onebeat.engine.current import storable
from onebeat.engine.inbox import Inbox
from onebeat.engine.metrics import Metrics
from onebeat.engine.rebasing import Rebasing

BATCH_MAX = 1000
CHORE_MAX = 200
"""Rows that a chore takes at a time: while it commits, nothing else is settled, and what is due is late."""

AT_ONCE = timedelta(0)
ROUNDS_MAX = 20
POLL = timedelta(seconds=10)
"""How long nobody looks, where every word of a change is lost. A wake-up, or an instant that is known, comes
first; the store of a node that waits has its own ways to notice (``Ledger.wait``)."""
HELD_AGAIN = timedelta(milliseconds=5)
HELD_AGAIN_MAX = timedelta(milliseconds=160)
STRANGERS_AFTER = timedelta(milliseconds=300)
OVERTAKEN_EVERY = timedelta(seconds=1)
"""How late a run that time has overtaken is taken care of. As with the other chores: nobody looks more often,
and a step that something else has woken looks if it is time."""
LOOK_AHEAD = timedelta(seconds=10)
"""Who looks for overdue runs sees what will be overdue until the next look, and comes back in time for it."""
STRAYS_EVERY = timedelta(seconds=2)
ZONES_EVERY = timedelta(seconds=20)
PARK_AFTER = timedelta(seconds=10)
BROKEN_EVERY = timedelta(seconds=30)
PURGE_EVERY = timedelta(minutes=10)
PURGE_PAUSE = timedelta(milliseconds=200)
REASON_CHARS_MAX = 500

_log = logging.getLogger("onebeat.engine")


class Dispatcher:
    """Settles schedules, in batches as large as what is due, up to BATCH_MAX.

    ``share`` makes it serve its own shards at once and all others STRANGERS_AFTER later: less double work
    among many dispatchers, and a dead one's shards are served without anybody noticing that it died. ``data``
    names what this process knows of zones and calendars: where it is new to the ledger, see rebasing.py.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        holder: str,
        share: Share | None = None,
        tz_version: str = "",
        data: str = "",
        poll: timedelta = POLL,
        batch_max: int = BATCH_MAX,
        metrics: Metrics | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._holder = holder
        self._poll = poll
        self._batch_max = batch_max
        self._chore_max = min(batch_max, CHORE_MAX)
        self._metrics = Metrics() if metrics is None else metrics
        self._passes: list[tuple[Share | None, timedelta]] = [(share, timedelta(0))]
        if share is not None:
            self._passes.append((None, STRANGERS_AFTER))
        self._inbox = Inbox(store, holder=holder, tz_version=tz_version, metrics=self._metrics)
        self._entries = False  # whether the inbox held an entry when it was last asked what is due
        self._tz_version = tz_version
        self._outdated_by: str | None = None  # newer zone data that another dispatcher has
        self._stuck: set[int] = (
            set()
        )  # rows that can neither be decided here nor set aside: they fill no limit
        self._left: set[str] = set()  # of them those that others may decide, as far as it was said
        self._held_again = HELD_AGAIN
        self._last_now: datetime | None = None
        self._looked_at = clock.now()  # on the store's clock, from the first look on
        self._began_at: datetime | None = None
        self._overdue_at: datetime | None = None  # when the next run will be overdue, if it is soon
        self._purge_from = 0
        self._purge_at: datetime | None = None
        self._chores: list[tuple[Callable[[datetime], timedelta], datetime | None]] = [
            (self._overtaken, None),
            (self._zones, None),
            (self._strays, None),
            (self._broken, None),
            (self._purge, None),
            (Rebasing(store, data, self._chore_max).step, None),
        ]

    def step(self) -> datetime:
        """Do all that is due, then what housekeeping is; return when to be called again at the latest."""
        if self._last_now is None:
            self._zones(self._store.now())  # before the first settle: it is about what this node may settle
        wakes = [self._settle_all(share, patience) for share, patience in self._passes]
        now = self._looked_at  # nothing has taken long since
        if self._last_now is not None and now < self._last_now:
            # The store's clock was set back: what was planned on it may be hours away.
            self._chores = [(chore, None) for chore, _ in self._chores]
            self._began_at = self._purge_at = self._overdue_at = None
        self._last_now = now
        for index, (chore, at) in enumerate(self._chores):
            if at is None or now >= at:
                # The next time is set first: a chore that raises must not keep the others from their turn.
                self._chores[index] = (chore, now + OVERTAKEN_EVERY)
                self._chores[index] = (chore, now + chore(now))
        if self._entries:
            wakes.append(now + self._take_in())
        # No chore wakes the node only to find nothing: what is known to come, or left over, does.
        coming = [at for _, at in self._chores if at is not None and at < now + OVERTAKEN_EVERY]
        return min(*wakes, now + self._poll, self._overdue_at or now + self._poll, *coming)

    def _take_in(self) -> timedelta:
        """Do what programs outside asked for; return how long until there may be more to do."""
        try:
            return self._inbox.step()
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - what comes from outside must not keep anything from being settled
            _log.exception("%s: the inbox cannot be read", self._holder)
            return self._poll

    # --- settling ---

    def _settle_all(self, share: Share | None, patience: timedelta) -> datetime:
        """Settle all that is due; return when to look again."""
        now = self._looked_at = self._store.now()
        for _ in range(ROUNDS_MAX):
            began = self._clock.now()
            due = self._store.due(now - patience, self._batch_max + len(self._stuck), share)
            self._entries = due.entries
            rows = {row.id: row for row in due.rows if row.id not in self._stuck}
            if self._outdated_by is not None:
                rows = {row_id: row for row_id, row in rows.items() if not _zoned(row)}
            if not rows:
                self._held_again = HELD_AGAIN
                return now + self._poll if due.next_at is None else due.next_at + patience
            decisions, bad = self._decided(rows.values(), now)
            settled, refused = self._committed(now, decisions)
            if settled.early_by is not None:
                return now + settled.early_by
            if settled.held:
                return now + self._poll
            won = self._counted(rows, decisions, settled, now + (self._clock.now() - began))
            if bad or refused:
                self._set_aside([(rows[row_id].name, why) for row_id, why in (bad | refused).items()])
            elif not won:
                # Others hold or have just settled all of them: a breath, and a longer one each time.
                again, self._held_again = self._held_again, min(self._held_again * 2, HELD_AGAIN_MAX)
                return now + again
            decided_at, now = now, settled.at
            self._looked_at = now
            if won == len(due.rows) < self._batch_max:
                # Every row that was due is settled, so when the next one is due needs no further question.
                self._held_again = HELD_AGAIN
                following = [decision.next_at for decision in decisions] + [due.next_at]
                wake_at = min((at for at in following if at is not None), default=now + self._poll)
                if wake_at > decided_at - patience:
                    return wake_at + patience  # it may be due by now: the next step takes it, and others
        return now

    def _decided(self, rows: Iterable[Owing], now: datetime) -> tuple[list[Decision], dict[int, str]]:
        """Decide each row alone; return the decisions, and why others could not be decided."""
        decisions: list[Decision] = []
        bad: dict[int, str] = {}
        left: list[tuple[Owing, MissingExtra]] = []
        for row in rows:
            try:
                decisions.append(settle(row, now))
            except MemoryError:
                raise  # this node's trouble, not the row's
            except MissingExtra as error:
                left.append((row, error))  # this node's too: another one has the library
            except Exception as error:  # noqa: BLE001 - a trigger is anybody's code; its neighbours go on
                bad[row.id] = f"it cannot be decided: {_told(error)}"
        if left:
            self._leave(left, now)
        return decisions, bad

    def _leave(self, rows: Sequence[tuple[Owing, MissingExtra]], now: datetime) -> None:
        """Leave rows to dispatchers that have what it takes to decide them; say so, once for each."""
        self._stuck.update(row.id for row, _ in rows)
        said = [(row, error) for row, error in rows if row.name not in self._left]
        self._left.update(row.name for row, _ in said)
        for row, error in said[:1]:
            _log.error(
                "%s: %s and %d others cannot be decided: %s", self._holder, row.name, len(said) - 1, error
            )
        self._store.record(
            [
                Event(
                    at=now,
                    kind="node.step_failed",
                    schedule_id=row.id,
                    schedule=row.name,
                    actor=self._holder,
                    reason=f"left to other dispatchers: {error}",
                )
                for row, error in said
            ]
        )

    def _committed(self, now: datetime, decisions: list[Decision]) -> tuple[Settled, dict[int, str]]:
        """Commit; where the store refuses a batch with an error, find the rows that are to blame.

        A row is blamed only if it fails once more after a neighbour of the same batch could be committed: an
        error that meets every row is the store's, or ours, as is one that passes, and setting schedules aside
        would make it worse.
        """
        if not decisions:
            return Settled(at=now), {}
        try:
            return self._store.settle(now, decisions), {}
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(decisions) == 1:
                raise
            return self._committed_singly(now, decisions, error)

    def _committed_singly(
        self, now: datetime, decisions: list[Decision], error: Exception
    ) -> tuple[Settled, dict[int, str]]:
        """Commit one by one, twice, what failed together; raise ``error`` where nothing could be."""
        at = now
        won: dict[int, bool] = {}
        refused: dict[int, str] = {}
        for again in (False, True):
            for decision in [each for each in decisions if each.schedule_id not in won]:
                try:
                    settled = self._store.settle(now, [decision])
                except StoreUnavailable:
                    raise
                except Exception as alone:  # noqa: BLE001 - it is raised again where all of them fail
                    refused[decision.schedule_id] = f"it cannot be settled: {_told(alone)}"
                    continue
                if settled.early_by is not None or settled.held:
                    return settled, {}
                at = settled.at
                won[decision.schedule_id] = settled.won[0]
                refused.pop(decision.schedule_id, None)
            if not again and len(refused) == len(decisions):
                raise error from None
        return Settled(at=at, won=tuple(won.get(each.schedule_id, False) for each in decisions)), refused

    def _counted(
        self, rows: Mapping[int, Owing], decisions: list[Decision], settled: Settled, now: datetime
    ) -> int:
        """Count the winners; losers change nothing and say nothing."""
        fates: Counter[tuple[str, str]] = Counter()
        for decision, won in zip(decisions, settled.won, strict=True):
            if not won:
                continue
            for tile in decision.settlements:
                folded = tile.count
                if tile.run is not None:
                    folded -= 1
                    fates["fired", ""] += 1
                    late = (now - tile.run.due_at).total_seconds()
                    self._metrics.observe("onebeat_lateness_seconds", rows[decision.schedule_id].name, late)
                if tile.run is not None or tile.into is not None:
                    fates["folded", ""] += folded
                else:
                    fates["skipped", "" if tile.reason is None else tile.reason.value] += tile.count
        for (fate, reason), count in fates.items():
            if count:
                self._metrics.count("onebeat_occurrences_settled_total", fate, reason, amount=count)
        wins = sum(settled.won)
        if wins < len(decisions):
            self._metrics.count("onebeat_decisions_stale_total", amount=len(decisions) - wins)
        return wins

    # --- setting aside ---

    def _set_aside(self, offenders: Sequence[tuple[str, str]]) -> None:
        """Quarantine schedules, each alone, through an ordinary edit with the reason."""
        reasons = dict(offenders)
        for schedule, load in self._store.owing(list(reasons)):
            reason = reasons[schedule.name][:REASON_CHARS_MAX]
            author = edits.Author(
                # The same for every dispatcher that sees this row: the second one's is a repetition.
                edit_id=f"quarantine/{schedule.id}/{schedule.version}",
                cut_at=self._store.now(),
                actor=self._holder,
                reason=reason,
                tz_version=schedule.tz_version,
            )
            try:
                answer = self._store.put([edits.quarantine(schedule, load, author)])[0].answer
            except StoreUnavailable:
                raise
            except Exception:  # noqa: BLE001 - it must neither stop the others nor fill every limit
                _log.exception("%s: %s cannot be set aside", self._holder, schedule.name)
                self._stuck.add(schedule.id)
                continue
            if answer is Answer.ACCEPTED:
                self._metrics.count("onebeat_quarantined_total")
                _log.error("%s: schedule %s is quarantined: %s", self._holder, schedule.name, reason)

    # --- housekeeping: each chore returns how long until its next turn ---

    def _overtaken(self, now: datetime) -> timedelta:
        """Take lost attempts over, send again what got no answer, expire what did not start in time."""
        self._overdue_at = None
        coming = self._store.lost(now + LOOK_AHEAD, self._chore_max)
        overdue = [item for item in coming if _overtaken_at(item) <= now]
        later = [_overtaken_at(item) for item in coming[len(overdue) :]]
        self._overdue_at = max(now + OVERTAKEN_EVERY, min(later)) if later else None
        if not overdue:
            return OVERTAKEN_EVERY
        answers = self._store.advance([self._remedy(item, now) for item in overdue])
        pairs = zip(overdue, answers, strict=True)
        taken = [item for item, answer in pairs if answer.answer is Answer.ACCEPTED]
        lost = [item.run for item in taken if item.overtaken is Overtaken.LEASE]
        self._metrics.count("onebeat_takeovers_total", amount=len(lost))
        self._say(logging.WARNING, [(f"was lost by {run.holder}", run.id) for run in lost])
        sent = [item.run.id for item in taken if item.overtaken is Overtaken.RESEND]
        self._say(logging.WARNING, [("was not begun, and is sent again", run_id) for run_id in sent])
        return AT_ONCE if taken and len(overdue) == self._chore_max else OVERTAKEN_EVERY

    def _remedy(self, item: Overdue, now: datetime) -> AnyTransition:
        run = item.run
        match item.overtaken:
            case Overtaken.LEASE:
                verdict = judge(item.policy, run, Outcome.LOST, "", now)
                lapsed = "" if run.lease_until is None else instant_text(run.lease_until)
                event = attempt_event(
                    run,
                    Outcome.LOST,
                    verdict,
                    error=f"no word from {run.holder} until its lease lapsed at {lapsed}",
                    at=now,
                    actor=self._holder,
                )
                started = run.started_at is not None
                return Lost(run_id=run.id, token=run.token, verdict=verdict, started=started, event=event)
            case Overtaken.RESEND:
                why = "nobody began it after it was handed over; it is handed over again"
                return Resend(run_id=run.id, event=self._event("run.resend", run, now, why))
            case Overtaken.DEADLINE:
                why = "no attempt had started by its deadline"
                return Expire(run_id=run.id, event=self._event("run.expired", run, now, why))
            case _:
                assert_never(item.overtaken)

    def _zones(self, now: datetime) -> timedelta:
        """Leave zoned schedules to dispatchers with newer zone data, as long as one is alive.

        By older rules the occurrence that they have just settled may come again, an hour later.
        """
        newer = [
            node.tz_version
            for node in self._store.nodes()
            if "dispatcher" in node.roles and node.alive_until > now and not node.stopping
        ]
        newest = max(newer, default="")
        if self._tz_version and newest > self._tz_version:
            if self._outdated_by != newest:
                _log.warning(
                    "%s settles no schedule in a time zone: its zone data is %s, another dispatcher has %s; "
                    "upgrade the package tzdata here",
                    self._holder,
                    self._tz_version,
                    newest,
                )
            self._outdated_by = newest
        else:
            self._outdated_by = None
        return ZONES_EVERY

    def _strays(self, now: datetime) -> timedelta:
        """Park runs that no live node can run, and take them back when one can.

        Not before PARK_AFTER, and not before this dispatcher has lived that long: workers that start beside
        it need a moment to say what they can run.
        """
        self._began_at = self._began_at or now
        patient_until = now - PARK_AFTER
        moves: list[AnyTransition] = []
        strays = self._store.strays(now, self._chore_max)
        for stray in strays:
            run = stray.run
            if stray.resolvable:
                why = f"a live node runs {run.target} now"
                moves.append(Unpark(run_id=run.id, event=self._event("run.unparked", run, now, why)))
            elif run.ready_at <= patient_until and self._began_at <= patient_until:
                why = f"no live node can run {run.target}"
                moves.append(Park(run_id=run.id, reason=why, event=self._event("run.parked", run, now, why)))
        if not moves:
            return STRAYS_EVERY
        moved = [
            move
            for move, answer in zip(moves, self._store.advance(moves), strict=True)
            if answer.answer is Answer.ACCEPTED
        ]
        parked = [(f"is parked: {move.reason}", move.run_id) for move in moved if isinstance(move, Park)]
        self._metrics.count("onebeat_parked_total", amount=len(parked))
        self._say(logging.ERROR, parked)
        return AT_ONCE if moved and len(strays) == self._chore_max else STRAYS_EVERY

    def _broken(self, now: datetime) -> timedelta:
        """Set aside rows whose documents do not decode; and give those that could not be another try."""
        self._stuck.clear()
        self._set_aside(
            [
                (name, f"its stored documents do not decode: {what}")
                for name, what in self._store.broken(self._chore_max)
            ]
        )
        return BROKEN_EVERY

    def _purge(self, now: datetime) -> timedelta:
        """Forget a little of what is beyond each schedule's history."""
        if self._purge_at is None:
            # Nodes that start together take their turns apart; a hash, so that a replay is the same.
            self._purge_at = now + PURGE_EVERY * (zlib.crc32(self._holder.encode()) / 2**32)
        if now < self._purge_at:
            return self._purge_at - now
        purged = self._store.purge(now, self._chore_max, self._purge_from)
        self._purge_from = purged.next_id or 0
        pause = PURGE_EVERY if purged.next_id is None else PURGE_PAUSE
        self._purge_at = now + pause
        return pause

    def _say(self, level: int, happened: Sequence[tuple[str, str]]) -> None:
        """Log what happened to runs: a line for each kind of thing. The events have each run."""
        for what, count in Counter(what for what, _ in happened).items():
            run_id = next(run_id for this, run_id in happened if this == what)
            others = f" (and {count - 1} others)" if count > 1 else ""
            _log.log(level, "%s: %s%s %s", self._holder, run_id, others, what)

    def _event(self, kind: str, run: Run, now: datetime, why: str) -> Event:
        return run_event(kind, run, at=now, actor=self._holder, reason=why)


def _overtaken_at(item: Overdue) -> datetime:
    """Return from when on a run is overdue: the end of its lease or hand-over, or past its deadline."""
    run = item.run
    match item.overtaken:
        case Overtaken.LEASE:
            at = run.lease_until
        case Overtaken.RESEND:
            at = run.resend_at
        case Overtaken.DEADLINE:
            at = None if run.deadline_at is None else run.deadline_at + MICROSECOND
        case _:
            assert_never(item.overtaken)
    return edits.FIRST_INSTANT if at is None else at


def _zoned(row: Owing) -> bool:
    try:
        return build(row.trigger).zoned
    except Exception:  # noqa: BLE001 - deciding it will raise the same, and say so
        return False


def _told(error: Exception) -> str:
    return storable(f"{type(error).__name__}: {error}")
