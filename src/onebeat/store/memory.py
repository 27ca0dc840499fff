"""The reference store: every verb of the ledger in plain dictionaries, to be read as the specification.

One lock makes each verb one transaction; nothing is written before everything has been checked, so nothing
has to be rolled back. It lives and dies with its process and refuses to be pickled into another one.

The tables and the reading half are memory_reader.py; what purging forgets is memory_purge.py; and moves.py
says how a run moves, here and in every other store.
"""

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NoReturn

from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.errors import StoreError
from onebeat.core.folds import folds_beside
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Change,
    Claim,
    Claimed,
    Edit,
    Hold,
    LogLine,
    Note,
    PutAnswer,
    Request,
    Settled,
)
from onebeat.core.model import (
    UNFINISHED,
    Decision,
    Event,
    NewRun,
    Node,
    Run,
    RunState,
    Schedule,
    Settlement,
    micros,
)
from onebeat.core.ports import CUT_AGE_MAX, Clock
from onebeat.store.handshake import strange
from onebeat.store.lanes import OUT, lets_out
from onebeat.store.memory_inbox import MemoryInbox
from onebeat.store.moves import (
    DROPPED,
    REST_DROPPED,
    cancelled,
    extended,
    leased,
    marked,
    moved,
    refused,
    resent,
    too_late,
)
from onebeat.store.putting import DELETED, REPLACED, Chains, put_event, refuse_twice


class MemoryStore(MemoryInbox):
    """A Store in this process's memory. Thread-safe. Its clock is the one that it is handed."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._changed = threading.Condition(self._lock)
        self._changes = 0  # counts what may concern somebody who waits
        self._seen = threading.local()
        self._cursors: dict[str, int] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a memory store lives in one process; open a file or a server in the other one")

    def now(self) -> datetime:
        return self._clock.now()

    # --- schedules ---

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        refuse_twice([edit.after.name for edit in edits])
        with self._lock:
            now = self._clock.now()
            refusals = [self._misfit(edit, now) for edit in edits]
            self._refuse_known(
                run
                for edit, refusal in zip(edits, refusals, strict=True)
                if refusal is None
                for run in (*(tile.run for tile in edit.settlements), *edit.requests)
            )
            answers = [refusal or self._put(edit, now) for edit, refusal in zip(edits, refusals, strict=True)]
            self._notify()
            return answers

    def _misfit(self, edit: Edit, now: datetime) -> PutAnswer | None:
        """Return the answer to an edit that changes nothing; None if it shall be made."""
        if edit.id in self._edits:
            then = replace(self._edits[edit.id], answer=Answer.REPEATED)
            assert then.schedule is not None
            self._accept(edit, now, version=then.schedule.version, cut_at=then.cut_at)
            return then
        row = self._row(edit.after.name)
        # The clock may have gone back since the last cut; cuts do not.
        latest = now if row is None else max(now, row.cut_at)
        fits = edit.expected_version == (0 if row is None else row.version)
        fresh = edit.cut_at <= latest and now - edit.cut_at <= CUT_AGE_MAX
        stopped = edit.fires and self._hold is not None
        waits = self._waits(folds_beside(edit.settlements)) and self._asks(edit)
        return (
            None if fits and fresh and waits and not stopped else PutAnswer(answer=Answer.STALE, schedule=row)
        )

    def _put(self, edit: Edit, now: datetime) -> PutAnswer:
        row = self._row(edit.after.name)
        after = self._numbered(edit.after, row)
        if row is not None:
            self._settle_old(edit, row, now)
        self._rows[after.id] = after
        self._trail.setdefault(after.id, []).append(_change(edit, after, now))
        self._tell(put_event(edit, row, after, now))
        for asked in edit.requests:
            self._fire(after, asked, now)
        self._promote(after.id)
        answer = PutAnswer(answer=Answer.ACCEPTED, schedule=after, cut_at=edit.cut_at)
        self._edits[edit.id] = answer
        self._accept(edit, now, version=after.version, cut_at=edit.cut_at)
        return answer

    def _numbered(self, after: Schedule, row: Schedule | None) -> Schedule:
        """Return the row with its id, and with the definition that its number has always meant."""
        if row is None:
            self._last_id += 1
        schedule_id = self._last_id if row is None else row.id
        self._ids[after.name] = schedule_id
        kept = self._definitions.setdefault((schedule_id, after.number), after.definition)
        return replace(after, id=schedule_id, definition=kept)

    def _settle_old(self, edit: Edit, row: Schedule, now: datetime) -> None:
        """Write what the old definition owed, and cancel what the edit leaves no place for."""
        if edit.cancel_older:
            self._cancel(self._of(row.id), REPLACED, now)
        if edit.cancel_waiting:
            waiting = [run for run in self._of(row.id) if run.state is RunState.WAITING]
            self._cancel(waiting, DELETED, now)
        self._write_tiles(row, edit.settlements, now)

    def hold(self, wanted: Hold | None, edit_id: str) -> Hold | None:
        with self._lock:
            if edit_id in self._hold_edits:
                return self._hold_edits[edit_id]
            before = self._hold
            self._hold_edits[edit_id] = before
            if wanted is not None and before is None:
                self._hold = wanted
                self._tell_hold("firing.held", wanted)
            elif wanted is None and before is not None:
                self._hold = None
                self._tell_hold("firing.released", before)
            return before

    def _tell_hold(self, kind: str, hold: Hold) -> None:
        self._tell(Event(at=self._clock.now(), kind=kind, actor=hold.actor, reason=hold.reason))
        self._notify()

    # --- settling ---

    def settle(self, now: datetime, decisions: Sequence[Decision]) -> Settled:
        refuse_twice([decision.schedule_id for decision in decisions])
        with self._lock:
            clock = self._clock.now()
            if clock < now:
                return Settled(at=clock, early_by=now - clock)
            if self._hold is not None:
                return Settled(at=clock, held=True)
            won = tuple(self._wins(each) for each in decisions)
            winners = [each for each, wins in zip(decisions, won, strict=True) if wins]
            self._refuse_known(tile.run for each in winners for tile in each.settlements)
            for decision in winners:
                self._settle(decision, clock)
            self._notify()
            return Settled(at=clock, won=won)

    def _current(self, schedule_id: int, version: int) -> Schedule | None:
        """Return the row if it still has the version that was read: the whole of the compare-and-set."""
        row = self._rows.get(schedule_id)
        return row if row is not None and row.version == version else None

    def _wins(self, decision: Decision) -> bool:
        """Return whether the row is what was read, and what the decision folds into is still waiting."""
        current = self._current(decision.schedule_id, decision.version)
        return current is not None and self._waits(folds_beside(decision.settlements))

    def _waits(self, run_ids: Iterable[str]) -> bool:
        """Return whether all of these runs are there and waiting."""
        found = (self._runs.get(run_id) for run_id in run_ids)
        return all(run is not None and run.state is RunState.WAITING for run in found)

    def _settle(self, decision: Decision, now: datetime) -> None:
        row = self._rows[decision.schedule_id]
        if decision.cancel_older:
            self._cancel(self._of(row.id), REPLACED, now)
        self._write_tiles(row, decision.settlements, now)
        self._rows[row.id] = replace(
            row,
            version=row.version + 1,
            settled_until=decision.settled_until,
            next_at=decision.next_at,
            skips=row.skips if decision.skips is None else decision.skips,
        )
        self._promote(row.id)

    def _write_tiles(self, row: Schedule, settlements: Sequence[Settlement], now: datetime) -> None:
        for run_id, more in folds_beside(settlements).items():
            self._write(extended(self._runs[run_id], more))
        for tile in settlements:
            if tile.run is not None:
                self._fire(row, tile.run, now, tile)
                continue
            self._tell(
                Event(
                    at=now,
                    kind="occurrence.folded" if tile.into is not None else "occurrence.skipped",
                    schedule_id=row.id,
                    schedule=row.name,
                    run_id=tile.into,
                    reason=tile.reason.value if tile.reason is not None else "",
                    mark_before=tile.mark_before,
                    mark_after=tile.mark_after,
                    first_at=tile.first_at,
                    last_at=tile.last_at,
                    count=tile.count,
                )
            )

    def _fire(self, row: Schedule, new: NewRun, now: datetime, tile: Settlement | None = None) -> None:
        target = row.definition.target
        if tile is not None:
            self._covers[new.id] = tile.count
        run = Run(
            id=new.id,
            schedule_id=row.id,
            schedule=row.name,
            number=row.number,
            queue=target.queue,
            target=target.key,
            state=new.state,
            occurrence_at=new.occurrence_at,
            due_at=new.due_at,
            ready_at=new.ready_at,
            deadline_at=new.deadline_at,
            fold=new.fold,
            key=new.key,
            mark_before=None if tile is None else tile.mark_before,
            mark_after=None if tile is None else tile.mark_after,
            priority=row.definition.policy.priority,
            exclusive=row.definition.policy.exclusive,
            created_at=now,
        )
        self._write(run)

    def _refuse_known(self, runs: Iterable[NewRun | None]) -> None:
        """Raise before anything is written: marks and versions make a second run of one id impossible."""
        for run in runs:
            if run is not None and run.id in self._runs:
                raise StoreError(f"a run {run.id} exists already, and a run id is given once; report this")

    def _write(self, run: Run) -> None:
        self._runs[run.id] = run
        unfinished = self._unfinished.setdefault(run.schedule_id, set())
        if run.state in UNFINISHED:
            unfinished.add(run.id)
        else:
            unfinished.discard(run.id)

    def _cancel(self, runs: Iterable[Run], reason: str, now: datetime) -> None:
        for run in runs:
            self._write(cancelled(run, reason, now))

    def _promote(self, schedule_id: int) -> None:
        """Make waiting runs ready, oldest first, as far as the definition in force has slots."""
        policy = self._rows[schedule_id].definition.policy
        waiting = self._waiting(schedule_id)
        free = policy.max_running - self._live(schedule_id) if policy.limited else len(waiting)
        for run in waiting[: max(0, free)]:
            self._write(replace(run, state=RunState.READY))

    # --- runs ---

    def request(self, requests: Sequence[Request]) -> list[Answer]:
        with self._lock:
            now = self._clock.now()
            chains = Chains()
            answers = [chains.told(each, self._request(each, chains, now)) for each in requests]
            self._notify()
            return answers

    def _request(self, request: Request, chains: Chains, now: datetime) -> Answer:
        holds = chains.holds(request)
        if request.run.id in self._runs:
            self._accept(request, now, run_id=request.run.id)
            return Answer.REPEATED
        row = self._current(request.schedule_id, request.expected_version)
        if row is None or not holds or not self._asks(request):
            return Answer.STALE
        self._fire(row, request.run, now)
        self._rows[row.id] = replace(row, version=row.version + 1)
        self._tell(
            Event(
                at=now,
                kind="run.requested",
                schedule_id=row.id,
                schedule=row.name,
                run_id=request.run.id,
                actor=request.actor,
                reason=request.reason,
            )
        )
        self._promote(row.id)
        self._accept(request, now, version=row.version + 1, run_id=request.run.id)
        return Answer.ACCEPTED

    def claim(self, claim: Claim) -> list[Claimed]:
        with self._lock:
            now = self._clock.now()
            ready = [
                run
                for run in self._all_unfinished()
                if run.state is RunState.READY and run.ready_at <= now and not too_late(run, now)
            ]
            ready.sort(key=lambda run: (-run.priority, run.ready_at, run.id))
            found = [
                run
                for run in self._in_turn(ready)
                if run.queue in claim.queues and run.target in claim.targets
            ]
            return [self._take(run, claim, now) for run in found[: claim.limit]]

    def _in_turn(self, ready: Iterable[Run]) -> list[Run]:
        """Return who may go out: all without a group, and of each group that has none out the first."""
        taken = {run.exclusive for run in self._all_unfinished() if run.state in OUT}
        found = []
        for run in ready:
            if run.exclusive is None or run.exclusive not in taken:
                found.append(run)
                taken.add(run.exclusive)
        return found

    def _take(self, run: Run, claim: Claim, now: datetime) -> Claimed:
        if claim.sends:
            run = marked(run, resent(claim, run.ready_at, now))
        else:
            self._last_token = self._next_token(now)
            run = leased(run, claim.holder, claim.until, self._last_token, now)
        self._write(run)
        return Claimed(run=run, definition=self._definitions[run.schedule_id, run.number])

    def _next_token(self, now: datetime) -> int:
        return max(self._last_token + 1, micros(now))

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        with self._lock:
            now = self._clock.now()
            answers = [self._advance(step, now) for step in transitions]
            self._notify()
            return answers

    def _advance(self, step: AnyTransition, now: datetime) -> Advanced:
        before = self._runs.get(step.run_id)
        if before is None or (lets_out(before, step) and not self._in_turn([before])):
            return refused(before)
        answer, run = moved(before, step, now, self._next_token(now))
        if answer.answer is Answer.ACCEPTED:
            self._last_token = max(self._last_token, run.token)
            self._write(run)
            if step.event is not None:
                self._tell(step.event)
            if run.state not in UNFINISHED:
                self._promote(run.schedule_id)
        return answer

    def note(self, notes: Sequence[Note]) -> list[bool]:
        with self._lock:
            return [self._note(note) for note in notes]

    def _note(self, note: Note) -> bool:
        run = self._runs.get(note.run_id)
        if run is None or run.state is not RunState.RUNNING or run.token != note.token:
            return False
        if note.progress is not None:
            self._write(replace(run, progress=note.progress))
        for line in note.lines:
            self._keep(run.id, line)
        return True

    def _keep(self, run_id: str, line: LogLine) -> None:
        kept = self._lines.setdefault(run_id, [])
        if kept and kept[-1].level == DROPPED:
            return
        size = self._log_bytes.get(run_id, 0) + len(line.text.encode())
        if size > LOG_BYTES_MAX:
            line = replace(line, level=DROPPED, text=REST_DROPPED)
        self._log_bytes[run_id] = size
        kept.append(line)

    # --- the rest ---

    def announce(self, node: Node) -> list[str]:
        with self._lock:
            now = self._clock.now()
            self._nodes[node.id] = node
            return strange(node, (other for other in self.nodes() if other.alive_until > now))

    def record(self, events: Sequence[Event]) -> None:
        with self._lock:
            for event in events:
                self._tell(event)

    def cursor(self, name: str, to: int | None = None) -> int:
        with self._lock:
            stands = self._cursors.get(name, self._last_event if to is None else to)
            self._cursors[name] = max(stands, stands if to is None else to)
            return self._cursors[name]

    def _tell(self, event: Event) -> None:
        self._last_event += 1
        self._events[self._last_event] = replace(event, id=self._last_event)

    def _notify(self) -> None:
        self._changes += 1
        self._changed.notify_all()

    def wake(self) -> None:
        with self._lock:
            self._notify()

    def wait(self, until: datetime | None) -> bool:
        seconds = 1.0 if until is None else (until - self._clock.now()).total_seconds()
        with self._lock:
            seen = getattr(self._seen, "changes", 0)
            woken = self._changed.wait_for(
                lambda: self._changes > seen, min(max(seconds, 0.0), threading.TIMEOUT_MAX)
            )
            self._seen.changes = self._changes
            return woken

    def close(self) -> None:
        self.wake()


def _change(edit: Edit, after: Schedule, now: datetime) -> Change:
    return Change(
        edit_id=edit.id,
        schedule_id=after.id,
        schedule=after.name,
        incarnation=after.incarnation,
        version=after.version,
        number=after.number,
        action=edit.action,
        actor=edit.actor,
        reason=edit.reason,
        cut_at=edit.cut_at,
        boundary_at=edit.boundary_at,
        committed_at=now,
        settled_until=after.settled_until,
        definition=after.definition,
        paused=after.paused is not None,
        deleted=after.deleted,
        tz_version=after.tz_version,
    )
