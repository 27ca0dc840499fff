"""The rule of settling, whole: a row and an instant in, a decision out.

Nothing here reads a clock, a store or a random number, so a decision can be made anywhere, twice, and
compared. The owed occurrences are those in (``settled_until``, now − offset]; they pass, in this order:

1. paused                         → skipped, as one range;
2. later than ``grace``           → skipped (misfire), as one range;
3. listed in ``skips``            → skipped (skip_next), one by one;
4. ``catch_up`` of the rest       → groups, each of one occurrence that would fire and those it stands for;
5. ``overlap`` for each group     → a ready run, a waiting run, folded into a waiting run, or skipped.

Every step leaves tiles (Settlement), contiguous from the old mark to the new one. The policies are closed
sets, matched exhaustively; a new member fails the type check here and nowhere else. Work is bounded by
``catch_up_max`` and the skip list, never by how long the schedule slept: ranges are counted in closed form.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple, assert_never

from msgspec.structs import replace

from onebeat.core.errors import Refused
from onebeat.core.folds import folds_of
from onebeat.core.messages import Done, Retry, Verdict
from onebeat.core.model import (
    MICROSECOND,
    CatchUp,
    Decision,
    Load,
    NewRun,
    OnLost,
    Outcome,
    Overlap,
    Owing,
    Policy,
    Reason,
    Run,
    RunState,
    Schedule,
    Settlement,
    run_id,
)
from onebeat.core.triggers.protocol import Trigger
from onebeat.core.triggers.registry import build

LOST_ATTEMPTS_MAX = 10
"""A run that was lost this often takes its holders down with it: it fails instead of going round for ever."""

NO_OFFSET = timedelta(0)


class Span(NamedTuple):
    """Consecutive occurrences of one trigger, or one occurrence, with the reason if they will not fire."""

    first: datetime
    last: datetime
    size: int
    group: int = -1  # index of the group they belong to; -1: none, and ``reason`` says why
    reason: Reason | None = None


class Tiled(NamedTuple):
    """What a stretch of time came to: its tiles, its last settled occurrence, and the load after it."""

    settlements: tuple[Settlement, ...] = ()
    load: Load = Load()
    cancel_older: bool = False
    following: datetime | None = None  # the first occurrence after them, where it was seen on the way


def offset_of(name: str, policy: Policy) -> timedelta:
    """Return the schedule's constant place within its ``spread``: instant + offset is when it is due."""
    if not policy.spread:
        return NO_OFFSET
    slot = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
    return MICROSECOND * (slot % (policy.spread // MICROSECOND))


def due_after(
    trigger: Trigger, mark: datetime, offset: timedelta, seen: datetime | None = None
) -> datetime | None:
    """Return when the first occurrence after ``mark`` is due, None when none comes before year 10000.

    ``seen`` is that occurrence, where it is known already.
    """
    following = seen or trigger.after(mark)
    if following is None:
        return None
    try:
        return following + offset
    except OverflowError:
        return None


def settle(owing: Owing, now: datetime) -> Decision:
    """Decide everything that a schedule owes at ``now``. Nothing owed gives a decision without tiles.

    Raises what the trigger raises: the caller quarantines this schedule and goes on with the others.
    """
    trigger = build(owing.trigger)
    offset = offset_of(owing.name, owing.policy)
    tiled = tile(owing, trigger, offset, now)
    mark = tiled.settlements[-1].mark_after if tiled.settlements else owing.settled_until
    skips = tuple(skip for skip in owing.skips if skip > mark) if owing.skips else ()
    return Decision(
        schedule_id=owing.id,
        version=owing.version,
        settled_until=mark,
        next_at=None if owing.paused else due_after(trigger, mark, offset, tiled.following),
        settlements=tiled.settlements,
        cancel_older=tiled.cancel_older,
        skips=skips if skips != owing.skips else None,
    )


def tile(
    owing: Owing,
    trigger: Trigger,
    offset: timedelta,
    now: datetime,
    excluded: Sequence[tuple[datetime, Reason]] = (),
) -> Tiled:
    """Tile (``settled_until``, now − offset]: steps 1 to 5 of the rule.

    ``excluded`` are occurrences, ascending, that shall not fire, each with the reason.
    """
    until = now - offset
    first = trigger.after(owing.settled_until)
    if first is None or first > until:
        return Tiled(load=owing.load, following=first)
    spans: list[Span] = []
    if owing.paused:
        last = _last(trigger, until, first)
        spans.append(Span(first, last, trigger.count(owing.settled_until, last), reason=Reason.PAUSED))
        return _written(owing, offset, spans, [])
    grace = owing.policy.grace
    mark = owing.settled_until
    if grace is not None and first < until - grace:
        late = _last(trigger, until - grace - MICROSECOND, first)
        spans.append(Span(first, late, trigger.count(mark, late), reason=Reason.MISFIRE))
        mark, first = late, trigger.after(late)
    barred: list[tuple[datetime, Reason]] = []
    if owing.skips or excluded:
        barred = sorted([*((skip, Reason.SKIP_NEXT) for skip in owing.skips), *excluded])
    rest, following = _rest(trigger, mark, first, until, barred)
    grouped, groups = _grouped(trigger, owing.policy, rest)
    return _written(owing, offset, spans + grouped, groups, following)


def _last(trigger: Trigger, until: datetime, known: datetime) -> datetime:
    """Return the last occurrence at or before ``until``, where ``known`` is one of them."""
    return trigger.before(until + MICROSECOND) or known


def _rest(
    trigger: Trigger,
    mark: datetime,
    first: datetime | None,
    until: datetime,
    barred: Sequence[tuple[datetime, Reason]],
) -> tuple[list[Span], datetime | None]:
    """Return the occurrences in (mark, until] as spans, each barred one as a span of its own.

    ``first`` is the first occurrence after ``mark``. Beside the spans comes the one after them, if seen.
    """
    spans: list[Span] = []
    for instant, reason in barred:
        if mark < instant <= until and trigger.before(instant + MICROSECOND) == instant:
            spans += _between(trigger, mark, first, instant - MICROSECOND)[0]
            spans.append(Span(instant, instant, 1, reason=reason))
            mark, first = instant, trigger.after(instant)
    rest, following = _between(trigger, mark, first, until)
    return spans + rest, following


def _between(
    trigger: Trigger, mark: datetime, first: datetime | None, until: datetime
) -> tuple[list[Span], datetime | None]:
    """Return the occurrences in (mark, until] as one span, or as none, and the one after them, if seen."""
    if first is None or first > until:
        return [], first
    second = trigger.after(first)
    if second is None or second > until:
        return [Span(first, first, 1)], second
    last = _last(trigger, until, second)
    return [Span(first, last, 2 if last == second else trigger.count(mark, last))], None


# --- step 4: which of several fire ------------------------------------------------------------------


def _grouped(trigger: Trigger, policy: Policy, spans: list[Span]) -> tuple[list[Span], list[datetime]]:
    """Return the spans with their group filled in, and for each group the occurrence that would fire."""
    if len(spans) == 1 and spans[0].size == 1 and spans[0].reason is None:
        only = spans[0].first  # by far the commonest: every catch-up treats a single one alike
        return [Span(only, only, 1, 0)], [only]
    open_spans = [span for span in spans if span.reason is None]
    if not open_spans:
        return spans, []
    newest = open_spans[-1].last
    match policy.catch_up:
        case CatchUp.LATEST:
            return [_in_group(span, 0) for span in spans], [newest]
        case CatchUp.EARLIEST:
            return [_in_group(span, 0) for span in spans], [open_spans[0].first]
        case CatchUp.SKIP:
            parts = [part for span in spans for part in _split_last(trigger, span, newest)]
            return [
                span
                if span.reason is not None
                else span._replace(group=0)
                if span.last == newest
                else span._replace(reason=Reason.CATCH_UP)
                for span in parts
            ], [newest]
        case CatchUp.ALL:
            return _all_grouped(trigger, policy.catch_up_max, spans, newest)
        case _:
            assert_never(policy.catch_up)


def _in_group(span: Span, group: int) -> Span:
    return span if span.reason is not None else span._replace(group=group)


def _split_last(trigger: Trigger, span: Span, newest: datetime) -> list[Span]:
    """Return the span with ``newest`` cut off as a span of its own, where it is the end of a longer one."""
    if span.reason is not None or span.last != newest or span.size == 1:
        return [span]
    earlier = trigger.before(newest) or span.first
    return [Span(span.first, earlier, span.size - 1), Span(newest, newest, 1)]


def _all_grouped(
    trigger: Trigger, most: int, spans: list[Span], newest: datetime
) -> tuple[list[Span], list[datetime]]:
    """Give each occurrence its own group, oldest first; the ``most``-th is the newest, folding the rest."""
    out: list[Span] = []
    groups: list[datetime] = []
    for span in spans:
        if span.reason is not None:
            out.append(span)
            continue
        instant, left = span.first, span.size
        while left and len(groups) < most - 1:
            out.append(Span(instant, instant, 1, group=len(groups)))
            groups.append(instant)
            left -= 1
            if left:
                instant = trigger.after(instant) or span.last
        if left:
            out.append(Span(instant, span.last, left, group=most - 1))
    if any(span.group == most - 1 for span in out) and len(groups) < most:
        groups.append(newest)
    return out, groups


# --- step 5: overlap, and the writing of tiles ------------------------------------------------------


class Fate(NamedTuple):
    """What overlap makes of one group: a run in ``state``, folded ``into`` a run, or skipped (``reason``)."""

    state: RunState | None = None
    into: str | None = None
    reason: Reason | None = None


FIRES = Fate(RunState.READY)


def _written(
    owing: Owing,
    offset: timedelta,
    spans: list[Span],
    groups: list[datetime],
    following: datetime | None = None,
) -> Tiled:
    """Return the tiles of all spans, in order, after each group has met overlap."""
    ids = [run_id(owing.name, owing.incarnation, occurrence_at=instant) for instant in groups]
    fates, load, cancel_older = _fates(owing.policy, owing.load, ids)
    tiles: list[Settlement] = []
    mark = owing.settled_until
    for span in spans:
        run, into, reason = None, None, span.reason
        if span.group >= 0:
            fate, fired = fates[span.group], groups[span.group]
            reason = fate.reason
            if fate.state is None:
                into = fate.into
            elif span.first <= fired <= span.last:
                run = _new_run(owing.policy, ids[span.group], fate.state, fired, offset)
            else:
                into = ids[span.group]
        tiles.append(
            Settlement(
                mark_before=mark,
                mark_after=span.last,
                count=span.size,
                first_at=span.first,
                last_at=span.last,
                run=run,
                into=into,
                reason=Reason.FOLDED if into is not None else reason,
            )
        )
        mark = span.last
    return Tiled(folded(tiles), load, cancel_older, following)


def folded(tiles: Sequence[Settlement]) -> tuple[Settlement, ...]:
    """Return the tiles with each run's fold: all of them that it stands for, its own occurrence included."""
    if len(tiles) == 1 and tiles[0].count == 1:
        return tuple(tiles)
    folds = folds_of(tiles)
    return tuple(
        tile
        if tile.run is None or folds[tile.run.id].count == 1
        else replace(tile, run=replace(tile.run, fold=folds[tile.run.id]))
        for tile in tiles
    )


def _new_run(policy: Policy, identity: str, state: RunState, instant: datetime, offset: timedelta) -> NewRun:
    due_at = instant + offset if offset else instant
    return NewRun(
        id=identity,
        state=state,
        due_at=due_at,
        ready_at=due_at,
        occurrence_at=instant,
        deadline_at=None if policy.start_within is None else due_at + policy.start_within,
    )


def _fates(policy: Policy, load: Load, ids: list[str]) -> tuple[list[Fate], Load, bool]:
    """Return each group's fate in order, the load after them, and whether older runs shall be cancelled."""
    fates: list[Fate] = []
    live, waiting, last_waiting = load.live, load.waiting, load.last_waiting
    overlap = policy.overlap
    cancel_older = False
    if overlap is Overlap.CANCEL_RUNNING:
        replaced = max(0, len(ids) - policy.max_running)
        cancel_older = live + waiting + len(ids) - replaced > policy.max_running
        fates += [Fate(reason=Reason.REPLACED)] * replaced
    for identity in ids[len(fates) :]:
        free = live < policy.max_running and not waiting
        match overlap:
            case Overlap.SKIP:
                fate = FIRES if free else Fate(reason=Reason.OVERLAP)
            case Overlap.ALLOW:
                fate = FIRES
            case Overlap.QUEUE_ONE:
                if free or not waiting:
                    fate = Fate(RunState.READY if free else RunState.WAITING)
                else:
                    fate = Fate(into=last_waiting)
            case Overlap.QUEUE_ALL:
                if free or waiting < policy.queue_max:
                    fate = Fate(RunState.READY if free else RunState.WAITING)
                else:
                    fate = Fate(reason=Reason.QUEUE_FULL)
            case Overlap.CANCEL_RUNNING:
                fate = Fate(RunState.WAITING if cancel_older else RunState.READY)
            case _:
                assert_never(overlap)
        if fate.state is RunState.READY:
            live += 1
        elif fate.state is RunState.WAITING:
            waiting, last_waiting = waiting + 1, identity
        fates.append(fate)
    return fates, Load(live=live, waiting=waiting, last_waiting=last_waiting), cancel_older


# --- requests ---------------------------------------------------------------------------------------


def admit(
    schedule: Schedule,
    load: Load,
    *,
    key: str,
    now: datetime,
    occurrence_at: datetime | None = None,
    forced: bool = False,
) -> NewRun:
    """Return the run that a request makes, ready or waiting. A request never moves a mark.

    ``forced`` queues where the policy would refuse; it never exceeds ``max_running``.
    Raises Refused, saying why, when the policy has no place for it.
    """
    policy = schedule.definition.policy
    if schedule.deleted or schedule.quarantined is not None:
        what = "was deleted" if schedule.deleted else f"is quarantined: {schedule.quarantined}"
        raise Refused(f"{schedule.name} {what}; put a definition first, then ask for a run")
    free = load.live < policy.max_running and not load.waiting
    match policy.overlap:
        case Overlap.ALLOW:
            free, room = True, True
        case Overlap.SKIP:
            room = False
        case Overlap.QUEUE_ONE:
            room = not load.waiting
        case Overlap.QUEUE_ALL | Overlap.CANCEL_RUNNING:
            room = load.waiting < policy.queue_max
        case _:
            assert_never(policy.overlap)
    if not (free or room or forced):
        raise Refused(
            f"{schedule.name} has {load.live} unfinished and {load.waiting} waiting runs, and its overlap "
            f"policy is {policy.overlap.value} with max_running {policy.max_running}; "
            "wait, cancel one, or ask again with forced to queue behind them"
        )
    return NewRun(
        id=run_id(schedule.name, schedule.incarnation, key=key),
        state=RunState.READY if free else RunState.WAITING,
        due_at=now,
        ready_at=now,
        occurrence_at=occurrence_at,
        deadline_at=None if policy.start_within is None else now + policy.start_within,
        key=key,
    )


# --- the end of an attempt --------------------------------------------------------------------------


def judge(policy: Policy, run: Run, outcome: Outcome, error_type: str, now: datetime) -> Verdict:
    """Conclude an attempt: the run is done, or is tried again at an instant. The run keeps its slot then."""
    match outcome:
        case Outcome.SUCCEEDED:
            return Done(state=RunState.SUCCEEDED)
        case Outcome.CANCELLED:
            return Done(state=RunState.CANCELLED, reason="cancelled while it ran")
        case Outcome.FAILED | Outcome.TIMED_OUT:
            state = RunState.FAILED if outcome is Outcome.FAILED else RunState.TIMED_OUT
            if run.attempt >= policy.attempts:
                return Done(state=state, reason=f"attempt {run.attempt} of {policy.attempts} {outcome.value}")
            if policy.retry_on and outcome is Outcome.FAILED and error_type not in policy.retry_on:
                return Done(state=state, reason=f"{error_type or 'this error'} is not in retry_on")
            return _again(policy, run, outcome, now)
        case Outcome.LOST:
            if run.cancel_requested:
                return Done(state=RunState.CANCELLED, reason="cancelled; its holder was lost")
            if run.started_at is None:
                return Retry(at=now, reason="lost before it started")
            if policy.on_lost is OnLost.FAIL:
                return Done(state=RunState.FAILED, reason="lost after it started, and on_lost is fail")
            if run.attempt >= max(policy.attempts, LOST_ATTEMPTS_MAX):
                return Done(state=RunState.FAILED, reason=f"lost on attempt {run.attempt}: it is given up")
            return Retry(at=now, reason=f"attempt {run.attempt} was lost")
        case _:
            assert_never(outcome)


def _again(policy: Policy, run: Run, outcome: Outcome, now: datetime) -> Retry:
    """Retry after backoff · 2^(attempt − 1), at most backoff_max, of which a hash takes up to half away."""
    doubled = policy.backoff.total_seconds() * 2.0 ** min(run.attempt - 1, 60)
    longest = min(doubled, policy.backoff_max.total_seconds())
    digest = blake2b(f"{run.id}#{run.attempt}".encode(), digest_size=4).digest()
    share = 0.5 + int.from_bytes(digest, "big") / 2**33
    return Retry(
        at=now + timedelta(seconds=longest * share),
        reason=f"attempt {run.attempt} of {policy.attempts} {outcome.value}",
    )
