"""Runs: asked for, cancelled, tried again, looked at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import uuid4

from onebeat.app.backfill import Backfill, BackfillPlan
from onebeat.app.desk import TRIES_MAX, Desk
from onebeat.app.requesting import BATCH_MAX, Wanted, ask
from onebeat.app.turns import waits_for
from onebeat.core.definition import checked_key
from onebeat.core.errors import InvalidInput, LimitExceeded, NotFound, Refused, near_miss, shown
from onebeat.core.messages import Answer, Cancel, LogLine, RunQuery
from onebeat.core.model import (
    FINISHED,
    UNFINISHED,
    Definition,
    Event,
    Noun,
    Run,
    RunState,
    occurrence_stamp,
    run_id,
    utc,
)

Rows: TypeAlias = list[Run]
Lines: TypeAlias = list[LogLine]

RETRIES_MAX = 1000
LAST_LINES = 10
"""Lines of its log that are shown with a run; ``logs`` has all."""
RETRIABLE = frozenset(FINISHED - {RunState.SUCCEEDED, RunState.HANDED_OVER})
"""What a retry in bulk takes up unless states are named."""


class RunShown(Noun, frozen=True, kw_only=True):
    """A run, the definition it was fired under, its events (of all attempts) and the last it logged.

    ``waits`` says what a ready run of a group waits for, "" where it waits for nothing that is known.
    """

    run: Run
    definition: Definition
    events: tuple[Event, ...]
    lines: tuple[LogLine, ...] = ()
    waits: str = ""


class Runs:
    """The runs of a ledger. Found as ``beat.runs``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # --- asking for runs ---

    def request(
        self,
        name: str,
        *,
        key: str | None = None,
        at: datetime | None = None,
        forced: bool = False,
        reason: str = "",
    ) -> Run:
        """Ask for one run of a schedule, now; it settles nothing, and no occurrence is lost for it.

        The same ``key`` asked for again gives the run that there is: safe to repeat. ``at`` is the occurrence
        that the run stands for, none by default. ``forced`` queues the run where overlap would refuse it.

        Raises:
            NotFound: there is no such schedule.
            Refused: the overlap policy has no place for it; the message says what stands in the way.

        """
        standing = None if at is None else utc(at, "at")
        wanted = checked_key(key or f"now-{uuid4().hex[:12]}"), standing
        return self._request(name, wanted, forced=forced, reason=reason)

    def backfill_plan(
        self, name: str, since: datetime, until: datetime | None = None, *, rate: str | None = None
    ) -> BackfillPlan:
        """Return what ``backfill`` would do (how many, which, for how long), and do nothing."""
        return Backfill(self._desk, name, since, until).plan(rate)

    def backfill(
        self,
        name: str,
        since: datetime,
        until: datetime | None = None,
        *,
        max_running: int | None = None,
        rate: str | None = None,
        reverse: bool = False,
        reason: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Ask for a run for each past occurrence in [since, until) that has none; return how many were made.

        The oldest first, or the newest with ``reverse``; no mark moves. No more than ``max_running`` runs of
        backfills of this schedule are unfinished at once, and asking goes no faster than ``rate``, such as
        ``5/s`` or ``100/h``: so it may take long, and returns when the last one was asked for. Safe to
        repeat and to interrupt: its keys are made of the occurrences. ``progress`` is told how many more are
        done.

        Raises:
            InvalidInput: there is no occurrence, or a limit cannot be meant.
            NotFound: there is no such schedule.
            Refused: it was quarantined; Conflict: it was put anew meanwhile.

        """
        return Backfill(self._desk, name, since, until).fill(
            max_running=max_running, rate=rate, reverse=reverse, reason=reason, progress=progress
        )

    def _request(self, name: str, wanted: Wanted, *, forced: bool, reason: str) -> Run:
        """Read, admit and commit a run, unless it is there; what came too late is decided again."""
        for _ in range(TRIES_MAX):
            row, load = self._desk.found(name)
            wish = run_id(name, row.incarnation, key=wanted[0])
            if (run := self._desk.store.run(wish)) is not None:
                return run
            ask(self._desk, row, load, [wanted], forced=forced, reason=reason)
            if (run := self._desk.store.run(wish)) is not None:
                return run
        raise self._desk.never_still(name)

    def retry(self, wanted: str, *, forced: bool = False, reason: str = "") -> Run:
        """Ask for another run that stands for what a finished one stood for.

        A run has one accepted outcome for ever, so a retry is a run of its own; while one is unfinished, it
        is what is returned.

        Raises:
            NotFound: there is no such run.
            Refused: it has not ended yet, or overlap has no place for another one.

        """
        run = self._found(wanted)
        if run.state in UNFINISHED:
            raise Refused(f"{run.id} is {run.state.value}; it can be tried again when it has ended")
        row, _ = self._desk.found(run.schedule)
        stem = f"retry-{_subject(run)}"
        for number in range(1, RETRIES_MAX):
            key = f"{stem}.{number}"
            again = self._desk.store.run(run_id(row.name, row.incarnation, key=key))
            if again is not None and again.state in UNFINISHED:
                return again
            if again is None:
                asked = key, run.occurrence_at
                return self._request(row.name, asked, forced=forced, reason=reason or f"a retry of {run.id}")
        raise LimitExceeded(f"{run.id} was tried again {RETRIES_MAX} times; mend it first")

    # --- cancelling ---

    def cancel(self, wanted: str, *, reason: str = "") -> Run:
        """End a run: at once where its body has not begun, else its holder is told, and the body decides.

        Raises:
            NotFound: there is no such run.
            Refused: it has ended already.

        """
        run = self._found(wanted)
        (answer,) = self._cancel([run], reason)
        if answer is Answer.REFUSED:
            ended = self._found(wanted)
            raise Refused(f"{run.id} has ended already: it is {ended.state.value}")
        return self._found(wanted)

    def cancel_all(
        self, runs: Iterable[Run], *, reason: str = "", progress: Callable[[int], None] | None = None
    ) -> int:
        """Cancel many, BATCH_MAX in a transaction; return how many were, or are being told."""
        count = 0
        for batch in _batches(runs):
            count += sum(answer is not Answer.REFUSED for answer in self._cancel(batch, reason))
            if progress is not None:
                progress(len(batch))
        return count

    def _cancel(self, runs: Sequence[Run], reason: str) -> list[Answer]:
        steps = [
            Cancel(
                run_id=run.id,
                event=Event(
                    at=self._desk.store.now(),
                    kind="run.cancel_requested",
                    schedule_id=run.schedule_id,
                    schedule=run.schedule,
                    run_id=run.id,
                    actor=self._desk.actor,
                    reason=reason,
                ),
            )
            for run in runs
        ]
        return [advanced.answer for advanced in self._desk.store.advance(steps)]

    # --- reading ---

    def show(self, wanted: str) -> RunShown:
        """Return a run, the definition it was fired under, its events and its last lines, oldest first."""
        run = self._found(wanted)
        return RunShown(
            run=run,
            definition=self._desk.store.definition(run.schedule_id, run.number),
            events=tuple(self._desk.run_events(run.id)),
            lines=tuple(self._desk.store.log(run.id)[-LAST_LINES:]),
            waits=waits_for(self._desk.store, run),
        )

    def logs(self, wanted: str) -> Lines:
        """Return the lines that a run's body wrote, oldest first, of all attempts."""
        return self._desk.store.log(self._found(wanted).id)

    def find(
        self,
        *,
        schedule: str | None = None,
        tag: str | None = None,
        states: Iterable[RunState | str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[Run]:
        """Yield all runs for which every condition holds, newest first, read in pages."""
        before: str | None = None
        while True:
            page = self.list(
                schedule=schedule,
                tag=tag,
                states=states,
                since=since,
                until=until,
                before=before,
                limit=BATCH_MAX,
            )
            yield from page
            if len(page) < BATCH_MAX:
                return
            before = page[-1].id

    def _found(self, wanted: str) -> Run:
        run = self._desk.store.run(wanted)
        if run is not None:
            return run
        schedule = wanted.partition("@")[0].partition("!")[0].partition("~")[0]
        known = [found.id for found in self._desk.store.runs(RunQuery(schedule=schedule, limit=100))]
        raise NotFound(
            f"there is no run {shown(wanted)}{near_miss(wanted[:200], known)}; finished runs are kept as "
            "long as their schedule says (keep_runs, keep_days)"
        )

    def list(
        self,
        *,
        schedule: str | None = None,
        tag: str | None = None,
        states: Iterable[RunState | str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> Rows:
        """Return runs, newest first: of a schedule, a tag, states, due in [since, until).

        The next page begins ``before`` the last id of this one.
        """
        return self._desk.store.runs(
            RunQuery(
                schedule=schedule,
                tag=tag,
                states=None if states is None else tuple(map(_state, states)),
                since=None if since is None else utc(since, "since"),
                until=None if until is None else utc(until, "until"),
                before=before,
                limit=limit,
            )
        )


def _state(word: RunState | str) -> RunState:
    try:
        return RunState(word)
    except ValueError:
        known = [state.value for state in RunState]
        raise InvalidInput(
            f"{shown(word)} is no state of a run{near_miss(str(word), known)}; there are {', '.join(known)}"
        ) from None


def _subject(run: Run) -> str:
    """Return what a run's retries are named after: its occurrence, else the request they go back to."""
    if run.occurrence_at is not None:
        return occurrence_stamp(run.occurrence_at)
    key = run.key or ""
    return key.removeprefix("retry-").rpartition(".")[0] if key.startswith("retry-") else key


def _batches(runs: Iterable[Run]) -> Iterator[Sequence[Run]]:
    batch: list[Run] = []
    for run in runs:
        batch.append(run)
        if len(batch) == BATCH_MAX:
            yield batch
            batch = []
    if batch:
        yield batch
