"""Runs: asked for, cancelled, tried again, looked at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import uuid4

from onebeat.app.desk import TRIES_MAX, Desk
from onebeat.core.decide import admit
from onebeat.core.definition import checked_key
from onebeat.core.errors import InvalidInput, LimitExceeded, NotFound, Refused, near_miss, shown
from onebeat.core.messages import Answer, Cancel, LogLine, Request, RunQuery
from onebeat.core.model import (
    FINISHED,
    MICROSECOND,
    UNFINISHED,
    Definition,
    Event,
    Load,
    NewRun,
    Noun,
    Run,
    RunState,
    Schedule,
    occurrence_stamp,
    run_id,
    utc,
)
from onebeat.core.triggers import build

Rows: TypeAlias = list[Run]
Lines: TypeAlias = list[LogLine]

BATCH_MAX = 500
BACKFILL_MAX = 1000
RETRIES_MAX = 1000
RETRIABLE = frozenset(FINISHED - {RunState.SUCCEEDED, RunState.HANDED_OVER})
"""What a retry in bulk takes up unless states are named."""


class RunShown(Noun, frozen=True, kw_only=True):
    """A run, the definition it was fired under, and its events: earlier attempts are among them."""

    run: Run
    definition: Definition
    events: tuple[Event, ...]


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
        wanted = [(checked_key(key or f"now-{uuid4().hex[:12]}"), standing)]
        return self._request(name, wanted, forced=forced, reason=reason)[0]

    def backfill(
        self, name: str, since: datetime, until: datetime, *, forced: bool = True, reason: str = ""
    ) -> Rows:
        """Ask for a run for each past occurrence in [since, until): oldest first, marks untouched.

        Its keys are made of the occurrences, so that asking twice gives the same runs.
        """
        row, _ = self._desk.found(name)
        since, until = utc(since, "since"), min(utc(until, "until"), self._desk.store.now())
        wanted: list[tuple[str, datetime | None]] = []
        for instant in _between(row, since, until):
            wanted.append((f"backfill-{occurrence_stamp(instant)}", instant))
            if len(wanted) > BACKFILL_MAX:
                raise LimitExceeded(
                    f"{name} has more than {BACKFILL_MAX} occurrences from {since.isoformat()} to "
                    f"{until.isoformat()}; backfill in shorter stretches"
                )
        if not wanted:
            raise InvalidInput(
                f"{name} has no past occurrence from {since.isoformat()} to {until.isoformat()}; "
                "preview it to see its instants"
            )
        return self._request(name, wanted, forced=forced, reason=reason)

    def _request(
        self, name: str, wanted: Sequence[tuple[str, datetime | None]], *, forced: bool, reason: str
    ) -> Rows:
        """Read, admit and commit runs of one schedule; those whose version moved are decided again."""
        store = self._desk.store
        row, load = self._desk.found(name)
        ids = [run_id(name, row.incarnation, key=key) for key, _ in wanted]
        for _ in range(TRIES_MAX):
            missing = [pair for pair, wish in zip(wanted, ids, strict=True) if store.run(wish) is None]
            if missing:
                self._ask(row, load, missing[:BATCH_MAX], forced=forced, reason=reason)
            runs = [store.run(wish) for wish in ids]
            found = [run for run in runs if run is not None]
            if len(found) == len(ids):
                return found
            row, load = self._desk.found(name)
        raise self._desk.never_still(name)

    def _ask(
        self,
        row: Schedule,
        load: Load,
        wanted: Sequence[tuple[str, datetime | None]],
        *,
        forced: bool,
        reason: str,
    ) -> None:
        now = self._desk.store.now()
        requests: list[Request] = []
        for number, (key, at) in enumerate(wanted):
            new = admit(row, load, key=key, now=now, occurrence_at=at, forced=forced)
            load = _with(load, new)
            requests.append(
                Request(
                    schedule_id=row.id,
                    expected_version=row.version + number,
                    run=new,
                    actor=self._desk.actor,
                    reason=reason,
                )
            )
        self._desk.store.request(requests)

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
                asked = [(key, run.occurrence_at)]
                return self._request(row.name, asked, forced=forced, reason=reason or f"a retry of {run.id}")[
                    0
                ]
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
        """Return a run, the definition it was fired under, and its events, oldest first."""
        run = self._found(wanted)
        return RunShown(
            run=run,
            definition=self._desk.store.definition(run.schedule_id, run.number),
            events=tuple(self._desk.run_events(run.id)),
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


def _between(row: Schedule, since: datetime, until: datetime) -> Iterator[datetime]:
    """Yield the occurrences in [since, until) under the definition in force."""
    trigger = build(row.definition.trigger)
    instant = trigger.after(since - MICROSECOND)
    while instant is not None and instant < until:
        yield instant
        instant = trigger.after(instant)


def _with(load: Load, new: NewRun) -> Load:
    """Return the load after one more run was admitted."""
    if new.state is RunState.READY:
        return Load(live=load.live + 1, waiting=load.waiting, last_waiting=load.last_waiting)
    return Load(live=load.live, waiting=load.waiting + 1, last_waiting=new.id)


def _batches(runs: Iterable[Run]) -> Iterator[Sequence[Run]]:
    batch: list[Run] = []
    for run in runs:
        batch.append(run)
        if len(batch) == BATCH_MAX:
            yield batch
            batch = []
    if batch:
        yield batch
