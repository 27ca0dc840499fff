"""Rows and nouns: runs, and the events and tiles beside them. See rows.py."""

from datetime import datetime

import msgspec

from onebeat.core.messages import Done, Finish, Tile
from onebeat.core.model import (
    LIVE,
    Event,
    Fold,
    Json,
    NewRun,
    Outcome,
    Run,
    RunState,
    Settlement,
)
from onebeat.store.dialects.protocol import Cell, Row
from onebeat.store.lanes import Lane
from onebeat.store.rows import instant_of, instant_or_none, json_of, json_text, micros_of, micros_or_none

LIVE_SLOT = "live"
WAITING_SLOT = "waiting"
STATES = {state.value: state for state in RunState}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SLOTS: dict[RunState, str] = dict.fromkeys(LIVE, LIVE_SLOT) | {RunState.WAITING: WAITING_SLOT}


def slot_of(state: RunState) -> str | None:
    """Return which seat of its schedule a run in this state has."""
    return _SLOTS.get(state)


NEW_RUN_COLUMNS = """id, schedule_id, schedule, number, definition_id, target_id, priority, state, slot,
    watch_at, due_at, ready_at, created_at, occurrence_at, deadline_at, mark_before, mark_after, count,
    fold_first_at, fold_last_at, fold_count, "key\""""


def new_run_cells(
    new: NewRun, fired: tuple[Cell, ...], created_at: int, tile: Settlement | None
) -> tuple[Cell, ...]:
    """Return the cells of NEW_RUN_COLUMNS; ``fired`` are those from schedule_id to priority."""
    deadline = None if new.deadline_at is None else micros_of(new.deadline_at)
    fold = new.fold
    due_at, due = new.due_at, micros_of(new.due_at)

    def spelled(instant: datetime) -> int:  # mostly it is one and the same
        return due if instant is due_at else micros_of(instant)

    return (
        new.id,
        *fired,
        new.state.value,
        _SLOTS.get(new.state),
        deadline,
        due,
        spelled(new.ready_at),
        created_at,
        None if new.occurrence_at is None else spelled(new.occurrence_at),
        deadline,
        None if tile is None else micros_of(tile.mark_before),
        None if tile is None else spelled(tile.mark_after),
        None if tile is None else tile.count,
        None if fold is None else micros_of(fold.first_at),
        None if fold is None else micros_of(fold.last_at),
        None if fold is None else fold.count,
        new.key,
    )


RUN_COLUMNS = """r.id, r.schedule_id, r.schedule, r.number, r.definition_id, r.target_id, r.priority, r.state,
    r.due_at, r.ready_at, r.created_at, r.occurrence_at, r.deadline_at, r.mark_before, r.mark_after,
    r.fold_first_at, r.fold_last_at, r.fold_count, r.key, r.reason, r.attempt, r.token, r.holder,
    r.lease_until, r.resend_at, r.cancel_requested, r.claimed_at, r.started_at, r.finished_at, r.outcome,
    r.error, r.result, r.progress_done, r.progress_total, r.seq"""
RUN_SEQ, RUN_DEFINITION, RUN_TARGET, RUN_PRIORITY, RUN_READY_AT = 34, 4, 5, 6, 9
"""Where these, the row's own number first, stand in RUN_COLUMNS."""


def run_of(row: Row, lane: Lane) -> Run:
    """Return the run of RUN_COLUMNS; its lane stands in onebeat_targets."""
    (run_id, schedule_id, schedule, number, _, _, priority, state, due_at, ready_at, created_at) = row[:11]
    (occurrence_at, deadline_at, mark_before, mark_after, fold_first_at, fold_last_at, fold_count) = row[
        11:18
    ]
    (key, reason, attempt, token, holder, lease_until, resend_at, cancel_requested) = row[18:26]
    (claimed_at, started_at, finished_at, outcome, error, result_text, done, total) = row[26:34]
    result: Json = None
    if result_text is not None:
        try:
            result = json_of(result_text)
        except msgspec.MsgspecError as unreadable:
            error = f"its stored result does not decode: {unreadable}"
    fold = None
    if fold_count is not None:
        fold = Fold(first_at=instant_of(fold_first_at), last_at=instant_of(fold_last_at), count=fold_count)
    return Run(
        id=run_id,
        schedule_id=schedule_id,
        schedule=schedule,
        number=number,
        queue=lane.queue,
        target=lane.target,
        priority=priority,
        exclusive=lane.exclusive,
        state=STATES[state],
        due_at=instant_of(due_at),
        ready_at=instant_of(ready_at),
        created_at=instant_of(created_at),
        occurrence_at=None if occurrence_at is None else instant_of(occurrence_at),
        deadline_at=None if deadline_at is None else instant_of(deadline_at),
        mark_before=None if mark_before is None else instant_of(mark_before),
        mark_after=None if mark_after is None else instant_of(mark_after),
        fold=fold,
        key=key,
        reason=reason,
        attempt=attempt,
        token=token,
        holder=holder,
        lease_until=None if lease_until is None else instant_of(lease_until),
        resend_at=None if resend_at is None else instant_of(resend_at),
        cancel_requested=bool(cancel_requested),
        claimed_at=None if claimed_at is None else instant_of(claimed_at),
        started_at=None if started_at is None else instant_of(started_at),
        finished_at=None if finished_at is None else instant_of(finished_at),
        outcome=None if outcome is None else _OUTCOMES[outcome],
        error=error,
        result=result,
        progress=None if done is None else (done, total),
    )


MOVED_COLUMNS = """seq, state, slot, watch_at, reason, ready_at, deadline_at, resend_at, attempt, token,
    holder, lease_until, cancel_requested, claimed_at, started_at, finished_at, outcome, error, result,
    progress_done, progress_total"""


def moved_cells(seq: int, run: Run) -> tuple[Cell, ...]:
    """Return the cells of MOVED_COLUMNS: all that a transition may change."""
    done, total = (None, None) if run.progress is None else run.progress
    return (
        seq,
        run.state.value,
        slot_of(run.state),
        micros_or_none(watch_of(run)),
        run.reason,
        micros_of(run.ready_at),
        micros_or_none(run.deadline_at),
        micros_or_none(run.resend_at),
        run.attempt,
        run.token,
        run.holder,
        micros_or_none(run.lease_until),
        int(run.cancel_requested),
        micros_or_none(run.claimed_at),
        micros_or_none(run.started_at),
        micros_or_none(run.finished_at),
        None if run.outcome is None else run.outcome.value,
        run.error,
        json_text(run.result),
        done,
        total,
    )


def end_cells(step: Finish, verdict: Done) -> tuple[Cell, ...]:
    """Return what an end writes: state, reason, outcome, error, result."""
    return (verdict.state.value, verdict.reason, step.outcome.value, step.error, json_text(step.result))


HELD_COLUMNS = "seq, watch_at, lease_until, deadline_at, cancel_requested, started_at"


def held_cells(seq: int, run: Run) -> tuple[Cell, ...]:
    """Return the cells of HELD_COLUMNS: what may change while a holder keeps a run."""
    lease = micros_or_none(run.lease_until)
    return (
        seq,
        lease,
        lease,
        micros_or_none(run.deadline_at),
        int(run.cancel_requested),
        micros_or_none(run.started_at),
    )


def watch_of(run: Run) -> datetime | None:
    """Return when time overtakes a run: its lease, its hand-over or its deadline, as its state says."""
    match run.state:
        case RunState.RUNNING:
            return run.lease_until
        case RunState.SENT:
            return run.resend_at
        case RunState.WAITING | RunState.READY:
            return run.deadline_at
        case _:
            return None


# --- events and tiles -------------------------------------------------------------------------------

EVENT_COLUMNS = """at, kind, schedule_id, schedule, run_id, actor, reason, mark_before, mark_after, first_at,
    last_at, count, data"""


def event_cells(event: Event) -> tuple[Cell, ...]:
    """Return the cells of EVENT_COLUMNS."""
    return (
        micros_of(event.at),
        event.kind,
        event.schedule_id,
        event.schedule,
        event.run_id,
        event.actor,
        event.reason,
        micros_or_none(event.mark_before),
        micros_or_none(event.mark_after),
        micros_or_none(event.first_at),
        micros_or_none(event.last_at),
        event.count,
        json_text(event.data) if event.data else None,
    )


def event_of(row: Row) -> Event:
    """Return the event of ``id`` and EVENT_COLUMNS."""
    try:
        data = json_of(row[13]) or {}
    except msgspec.MsgspecError as error:
        data = {"undecodable": str(error)}
    return Event(
        id=row[0],
        at=instant_of(row[1]),
        kind=row[2],
        schedule_id=row[3],
        schedule=row[4],
        run_id=row[5],
        actor=row[6],
        reason=row[7],
        mark_before=instant_or_none(row[8]),
        mark_after=instant_or_none(row[9]),
        first_at=instant_or_none(row[10]),
        last_at=instant_or_none(row[11]),
        count=row[12],
        data=data,
    )


def event_tile_of(event: Event) -> Tile:
    """Return the tile of a settlement event, or of a change that settled up to its boundary."""
    assert event.mark_before is not None
    assert event.mark_after is not None
    return Tile(
        mark_before=event.mark_before,
        mark_after=event.mark_after,
        count=event.count or 0,
        run_id=event.run_id,
        reason=event.reason if event.count else event.kind,
        created_at=event.at,
    )


def run_tile_of(row: Row) -> Tile:
    """Return the tile of a run: id, mark_before, mark_after, count, occurrence_at, due_at, created_at."""
    return Tile(
        run_id=row[0],
        mark_before=instant_of(row[1]),
        mark_after=instant_of(row[2]),
        count=row[3],
        fired=True,
        occurrence_at=instant_or_none(row[4]),
        due_at=instant_of(row[5]),
        created_at=instant_of(row[6]),
    )
