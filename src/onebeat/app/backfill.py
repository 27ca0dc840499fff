"""Backfill: a run for each past occurrence that has none, with a plan first, and limits of its own.

    occurrences − those that a run stands for ─► as many as rate and max_running let through ─► request

Its keys are made of the occurrences: whoever asks for one again, or at the same time, gets the same run.
Dying anywhere leaves the runs asked for so far, and the same call asks for the rest. docs/design/015.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from onebeat.app.desk import TRIES_MAX, Desk
from onebeat.app.requesting import BATCH_MAX, Wanted, ask
from onebeat.core.errors import Conflict, InvalidInput, shown
from onebeat.core.messages import Answer, RunQuery
from onebeat.core.model import (
    MICROSECOND,
    UNFINISHED,
    Load,
    Noun,
    Overlap,
    Run,
    RunState,
    Schedule,
    occurrence_stamp,
    run_id,
    utc,
)
from onebeat.core.triggers import build
from onebeat.core.triggers.protocol import Trigger

KEY = "backfill-"
FIRST = datetime(1, 1, 2, tzinfo=UTC)
RATE = re.compile(r"(\d{1,6})/(s|m|h|d)")
RATE_MAX = 1000
"""The most runs a second that a rate may ask for."""
UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
POLL = timedelta(seconds=10)
"""When to look again although nothing was heard: a wake-up may be lost."""
PACE = timedelta(milliseconds=20)
"""The least time between two looks: other people's commits wake us too."""
AT_ONCE = timedelta(milliseconds=100)
"""How far a rate that was not used may be caught up with."""


class BackfillPlan(Noun, frozen=True, kw_only=True, omit_defaults=True, rename={"takes": "takes_s"}):
    """What a backfill would do. ``present`` of its ``occurrences`` have a run already, ``missing`` have none.

    ``takes`` is how long asking takes at the given rate, None without one. ``warnings`` are for people.
    """

    schedule: str
    since: datetime
    until: datetime
    occurrences: int
    first_at: datetime
    last_at: datetime
    present: int
    missing: int
    takes: timedelta | None = None
    warnings: tuple[str, ...] = ()


class Backfill:
    """The occurrences of one schedule in [since, until), as they are under the definition in force now.

    ``until`` is at most now. Raises NotFound, and InvalidInput where there is no occurrence.
    """

    def __init__(self, desk: Desk, name: str, since: datetime, until: datetime | None) -> None:
        self._desk = desk
        self._row, _ = desk.found(name)
        now = desk.store.now()
        self._since = max(utc(since, "since"), FIRST)
        self._until = now if until is None else min(utc(until, "until"), now)
        self._trigger: Trigger = build(self._row.definition.trigger)
        self._stem = run_id(name, self._row.incarnation, key="").removesuffix("!")
        self._begin, self._end = self._since - MICROSECOND, self._until - MICROSECOND  # (begin, end]
        self._count = self._trigger.count(self._begin, self._end) if self._begin < self._end else 0
        if not self._count:
            raise InvalidInput(
                f"{name} has no past occurrence from {self._since.isoformat()} to {self._until.isoformat()}; "
                "preview it to see its instants"
            )

    def plan(self, rate: str | None = None) -> BackfillPlan:
        """Return what ``fill`` would do, and do nothing."""
        first, last = self._trigger.after(self._begin), self._trigger.before(self._until)
        assert first is not None
        assert last is not None
        present = len(self._present())
        missing = self._count - present
        period = _period(rate)
        return BackfillPlan(
            schedule=self._row.name,
            since=self._since,
            until=self._until,
            occurrences=self._count,
            first_at=first,
            last_at=last,
            present=present,
            missing=missing,
            takes=None if period is None else period * max(0, missing - 1),
            warnings=tuple(self._warnings(missing)),
        )

    def fill(
        self,
        *,
        max_running: int | None = None,
        rate: str | None = None,
        reverse: bool = False,
        reason: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Ask for a run for each occurrence that has none; return how many were made.

        Returns when the last one was asked for; runs go on. Raises Conflict when the schedule was put anew
        meanwhile, Refused when it was deleted or quarantined.
        """
        if max_running is not None and (isinstance(max_running, bool) or max_running < 1):
            raise InvalidInput(f"max_running={max_running} would let none run; leave it out for no limit")
        pace, made = _Pace(_period(rate)), 0
        missing = self._missing(self._present(), reverse=reverse)
        ahead = list(islice(missing, BATCH_MAX))
        while ahead:
            now = self._desk.store.now()
            room = pace.lets(now)
            if room and max_running is not None:
                room = min(room, max_running - self._unfinished(max_running))
            elif not room:
                self._wait(min(now + POLL, pace.next_at(now)))
                continue
            if room <= 0:
                self._wait(now + POLL)
                continue
            batch, ahead = ahead[:room], ahead[room:]
            made += self._ask(batch, reason)
            pace.took(len(batch))
            if progress is not None:
                progress(len(batch))
            ahead = ahead or list(islice(missing, BATCH_MAX))
        return made

    def _ask(self, instants: Sequence[datetime], reason: str) -> int:
        """Ask for a batch until all of it is there; return how many were not there before."""
        left: list[Wanted] = [(f"{KEY}{occurrence_stamp(instant)}", instant) for instant in instants]
        made = tries = 0
        while left:
            row, load = self._still()
            answers = ask(self._desk, row, load, left, forced=True, reason=reason)
            made += answers.count(Answer.ACCEPTED)
            stale = [each for each, answer in zip(left, answers, strict=True) if answer is Answer.STALE]
            tries = tries + 1 if len(stale) == len(left) else 0
            if tries == TRIES_MAX:
                raise self._desk.never_still(self._row.name)
            left = stale
        return made

    def _still(self) -> tuple[Schedule, Load]:
        row, load = self._desk.found(self._row.name)
        if row.incarnation != self._row.incarnation:
            raise Conflict(
                f"{row.name} was deleted and put anew while it was backfilled, and may be another thing now; "
                "plan it again"
            )
        return row, load

    def _wait(self, until: datetime) -> None:
        began = self._desk.clock.now()
        self._desk.store.wait(until)
        took = self._desk.clock.now() - began
        if timedelta(0) <= took < PACE:  # a clock that was set back must not stop us
            threading.Event().wait((PACE - took).total_seconds())

    # --- what there is ---

    def _runs(
        self, *, since: datetime | None = None, states: tuple[RunState, ...] | None = None
    ) -> Iterator[Run]:
        """Yield the runs of this incarnation, newest first."""
        before: str | None = None
        while True:
            page = self._desk.store.runs(
                RunQuery(schedule=self._row.name, since=since, states=states, before=before, limit=BATCH_MAX)
            )
            for run in page:
                if run.id.removeprefix(self._stem)[:1] in ("@", "!"):
                    yield run
            if len(page) < BATCH_MAX:
                return
            before = page[-1].id

    def _present(self) -> set[datetime]:
        """Return the occurrences that a run stands for. None of them can be due before its instant."""
        found = {run.occurrence_at for run in self._runs(since=self._since)}
        return {at for at in found if at is not None and self._has(at)}

    def _has(self, at: datetime) -> bool:
        return self._since <= at < self._until and self._trigger.before(at + MICROSECOND) == at

    def _unfinished(self, enough: int) -> int:
        """Count unfinished runs of backfills of this schedule, this one's and others', up to ``enough``."""
        mine = (
            run for run in self._runs(states=tuple(sorted(UNFINISHED))) if (run.key or "").startswith(KEY)
        )
        return sum(1 for _ in islice(mine, enough))

    def _missing(self, present: set[datetime], *, reverse: bool) -> Iterator[datetime]:
        step, instant = (
            (self._trigger.before, self._trigger.before(self._until))
            if reverse
            else (self._trigger.after, self._trigger.after(self._begin))
        )
        while instant is not None and self._since <= instant < self._until:
            if instant not in present:
                yield instant
            instant = step(instant)

    def _warnings(self, missing: int) -> Iterator[str]:
        policy = self._row.definition.policy
        if missing > policy.keep_runs:
            yield (
                f"history keeps {policy.keep_runs:,} runs of this schedule (keep_runs), fewer than the "
                f"{missing:,} that are missing: should this be interrupted, go on with --since where it was, "
                "for its first runs may be forgotten by then"
            )
        if missing and not self._row.dormant and policy.overlap in (Overlap.SKIP, Overlap.CANCEL_RUNNING):
            what = "are skipped" if policy.overlap is Overlap.SKIP else "cancel those runs"
            yield (
                f"while runs of the backfill are unfinished, the schedule's own occurrences {what} "
                f"(overlap {policy.overlap.value}, max_running {policy.max_running})"
            )


class _Pace:
    """Lets a run through each period. What was not used is lost but for AT_ONCE: no bursts after a wait."""

    def __init__(self, period: timedelta | None) -> None:
        self._period = period
        self._next_at: datetime | None = None

    def next_at(self, now: datetime) -> datetime:
        """Return when the next one may go."""
        return now if self._next_at is None else max(now, self._next_at)

    def lets(self, now: datetime) -> int:
        """Return how many may go now."""
        if self._period is None:
            return BATCH_MAX
        first = now - max(AT_ONCE, self._period) + MICROSECOND
        self._next_at = now if self._next_at is None else max(first, self._next_at)
        return 0 if now < self._next_at else (now - self._next_at) // self._period + 1

    def took(self, count: int) -> None:
        """Count what went."""
        if self._period is not None and self._next_at is not None:
            self._next_at += count * self._period


def _period(rate: str | None) -> timedelta | None:
    """Return the time between two runs at a rate such as ``5/s`` or ``100/h``."""
    if rate is None:
        return None
    read = RATE.fullmatch(str(rate).replace(" ", ""))
    if read is None or not int(read[1]):
        raise InvalidInput(
            f"rate {shown(rate)} is none; write how many runs in what time: 5/s, 30/m, 100/h, 1000/d"
        )
    period = UNITS[read[2]] / int(read[1])
    if period < timedelta(seconds=1) / RATE_MAX:
        raise InvalidInput(
            f"rate {rate} is more than {RATE_MAX:,} a second; leave it out to ask without a pause"
        )
    return period
