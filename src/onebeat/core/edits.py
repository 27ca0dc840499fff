"""Every change of a schedule, decided: create, edit, pause, resume, delete, quarantine, skip-next.

An edit carries its *cut*: what was due at or before it follows the old definition, what is due after it
follows the new one. So each change first settles what the old definition owed at the cut, with the same rule
as a dispatcher, and then moves the mark to the *boundary*, max(mark, cut − new offset). A shrinking offset
jumps over old occurrences that were not due yet: they are settled here too, fired if the new definition has
them as well, else skipped (edited).

Under a hold nothing may fire, and whoever stopped everything in order to mend a schedule wants the mended
one to meet what is owed. So the boundary of a change under a hold lies right before the first occurrence that
is owed: the new definition has the rest, and meets it with its own catch-up after the release. A delete has
no successor: what is owed then is skipped (deleted). What a pause covers is settled as ever, firing nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec

from onebeat.core.decide import Tiled, admit, due_after, folded, offset_of, tile
from onebeat.core.errors import InvalidInput, LimitExceeded
from onebeat.core.messages import Edit
from onebeat.core.model import (
    MICROSECOND,
    Definition,
    Load,
    NewRun,
    Noun,
    Owing,
    Reason,
    RunState,
    Schedule,
)
from onebeat.core.triggers.protocol import Trigger
from onebeat.core.triggers.registry import anchored, build, named

SKIPS_MAX = 100
JUMPED_MAX = 100_000
FIRST_INSTANT = datetime.min.replace(tzinfo=UTC)


class Author(Noun, frozen=True, kw_only=True):
    """Who changes a schedule, when by the store's clock, and why. ``edit_id`` makes a repetition harmless.

    ``held`` says that a hold was in force, looked for after the clock had been read for the cut: what had
    not been settled at the cut is under it.
    """

    edit_id: str
    cut_at: datetime
    actor: str = ""
    reason: str = ""
    tz_version: str = ""
    held: bool = False


class Declared(Noun, frozen=True, kw_only=True):
    """The owner's side of a row: whose it is, at which revision, and as it was last declared."""

    owner: str = ""
    revision: int = 0
    applied: Definition | None = None


UNDECLARED = Declared()
T = TypeVar("T", bound=Noun)


def owing_of(schedule: Schedule, load: Load) -> Owing:
    """Return the light columns of a whole row."""
    return Owing(
        id=schedule.id,
        name=schedule.name,
        incarnation=schedule.incarnation,
        version=schedule.version,
        trigger=schedule.definition.trigger,
        policy=schedule.definition.policy,
        settled_until=schedule.settled_until,
        next_at=schedule.next_at,
        paused=schedule.paused is not None,
        skips=schedule.skips,
        load=load,
    )


def create(
    name: str,
    definition: Definition,
    author: Author,
    *,
    tombstone: Schedule | None = None,
    declared: Declared = UNDECLARED,
    paused: str | None = None,
    since: datetime | None = None,
    run_now: bool = False,
) -> Edit:
    """Return the edit that brings a schedule into being: nothing before the cut is owed.

    A one-off whose instant has passed fires at once, late, subject to its grace. On a tombstone the row,
    its id and its version go on, as the next incarnation. ``run_now`` asks for one run beside the schedule.

    ``since`` is up to when another scheduler has fired it: as if it had been created then, with what has come
    due meanwhile owed. Where that clock was ahead of ours, what comes until ``since`` is skipped.
    """
    cut = author.cut_at if tombstone is None else max(author.cut_at, tombstone.cut_at)
    definition = _resolved(name, definition, cut if since is None else since)
    trigger = build(definition.trigger)
    mark = (cut if since is None else min(since, cut)) - offset_of(name, definition.policy)
    if trigger.late_start:
        only = trigger.after(FIRST_INSTANT if since is None else since)
        mark = mark if only is None else min(mark, only - MICROSECOND)
    if tombstone is not None:
        mark = max(mark, tombstone.settled_until)
    row = Schedule(
        id=0 if tombstone is None else tombstone.id,
        name=name,
        incarnation=1 if tombstone is None else tombstone.incarnation + 1,
        version=1 if tombstone is None else tombstone.version + 1,
        number=1 if tombstone is None else tombstone.number + 1,
        definition=definition,
        settled_until=mark,
        next_at=None if paused is not None else due_after(trigger, mark, offset_of(name, definition.policy)),
        cut_at=cut,
        paused=paused,
        skips=() if since is None else _fired(trigger, mark, since),
        owner=declared.owner,
        revision=declared.revision,
        applied=declared.applied,
        tz_version=author.tz_version,
        created_at=cut,
    )
    requests: tuple[NewRun, ...] = ()
    if run_now:
        asked = admit(row, Load(), key="created", now=cut)
        if tombstone is not None and definition.policy.limited:
            # Runs of an older incarnation may hold every slot: it waits, and put promotes it if one is free.
            asked = _replace(asked, state=RunState.WAITING)
        requests = (asked,)
    return Edit(
        id=author.edit_id,
        expected_version=0 if tombstone is None else tombstone.version,
        after=row,
        cut_at=cut,
        boundary_at=mark,
        requests=requests,
        action="schedule.created",
        actor=author.actor,
        reason=author.reason,
    )


def _fired(trigger: Trigger, mark: datetime, since: datetime) -> tuple[datetime, ...]:
    """Return what comes after the mark, and another scheduler has fired already."""
    found: list[datetime] = []
    following = trigger.after(mark) if mark < since else None
    while following is not None and following <= since and len(found) < SKIPS_MAX:
        found.append(following)
        following = trigger.after(following)
    return tuple(found)


def edit(
    schedule: Schedule,
    load: Load,
    definition: Definition,
    author: Author,
    *,
    declared: Declared | None = None,
    action: str = "schedule.edited",
) -> Edit:
    """Return the edit to another definition; it also brings a quarantined schedule back.

    What a quarantined schedule owed cannot be decided under the old definition: the mark stays, and the new
    one meets it with its own catch-up.
    """
    cut = max(author.cut_at, schedule.cut_at)
    resolved = _resolved(schedule.name, definition, cut)
    after = _replace(schedule, definition=resolved, quarantined=None, tz_version=author.tz_version)
    if declared is not None:
        after = _replace(after, owner=declared.owner, revision=declared.revision, applied=declared.applied)
    return _changed(schedule, load, after, author, action)


def pause(schedule: Schedule, load: Load, author: Author) -> Edit:
    """Return the edit that pauses: from the cut on, occurrences are skipped (paused). Runs go on."""
    return _changed(schedule, load, _replace(schedule, paused=author.reason), author, "schedule.paused")


def resume(schedule: Schedule, load: Load, author: Author) -> Edit:
    """Return the edit that ends a pause: its occurrences are settled as skipped, in one range."""
    return _changed(schedule, load, _replace(schedule, paused=None), author, "schedule.resumed")


def delete(schedule: Schedule, load: Load, author: Author) -> Edit:
    """Return the edit that leaves a tombstone: waiting runs are cancelled, ready and running ones go on."""
    after = _replace(schedule, deleted=True, skips=(), applied=None)
    changed = _changed(schedule, load, after, author, "schedule.deleted")
    return _replace(changed, cancel_waiting=True)


def quarantine(schedule: Schedule, load: Load, author: Author) -> Edit:
    """Return the edit that sets a schedule aside, with the author's reason. The mark stays where it is."""
    after = _replace(schedule, quarantined=author.reason)
    return _unsettled(schedule, after, author, "schedule.quarantined")


def skip_next(schedule: Schedule, load: Load, author: Author) -> Edit:
    """Return the edit that lists the next occurrence not yet listed, to be skipped when it comes.

    Raises InvalidInput when none comes, or when the list is full.
    """
    changed = _changed(schedule, load, schedule, author, "schedule.skip_next")
    trigger = build(schedule.definition.trigger)
    # Under a hold the boundary stays behind; what is to be skipped is still ahead.
    ahead = changed.cut_at - offset_of(schedule.name, schedule.definition.policy)
    following = trigger.after(max(changed.boundary_at, ahead))
    while following is not None and following in changed.after.skips:
        following = trigger.after(following)
    if following is None:
        raise InvalidInput(f"{schedule.name} has no further occurrence to skip")
    if len(changed.after.skips) >= SKIPS_MAX:
        raise InvalidInput(
            f"{schedule.name} already skips its next {SKIPS_MAX} occurrences, which is the limit; "
            "pause it instead"
        )
    skips = tuple(sorted((*changed.after.skips, following)))
    return _replace(changed, after=_replace(changed.after, skips=skips))


def unskip(schedule: Schedule, load: Load, author: Author) -> Edit | None:
    """Return the edit that takes the latest mark of skip_next back, None where none is left at the cut."""
    changed = _changed(schedule, load, schedule, author, "schedule.skip_undone")
    if not changed.after.skips:
        return None
    return _replace(changed, after=_replace(changed.after, skips=changed.after.skips[:-1]))


def _changed(schedule: Schedule, load: Load, after: Schedule, author: Author, action: str) -> Edit:
    """Settle under the old row up to the cut, as far as a hold lets it; stand the new row on the boundary."""
    cut = max(author.cut_at, schedule.cut_at)
    old_offset = offset_of(schedule.name, schedule.definition.policy)
    offset = offset_of(schedule.name, after.definition.policy)
    owing = owing_of(schedule, load)
    held = author.held and schedule.paused is None
    done, until = Tiled(), cut - offset
    if schedule.quarantined is not None or schedule.deleted:
        return _unsettled(schedule, after, author, action)
    try:
        trigger = build(schedule.definition.trigger)
        if not held:
            done = tile(owing, trigger, old_offset, cut)
        elif after.deleted:
            done = _dropped(owing, trigger, old_offset, cut)
        elif (first := trigger.after(schedule.settled_until)) is not None:
            until = min(until, first - MICROSECOND)
    except Exception:  # noqa: BLE001 - whatever a broken trigger raises, what it owes waits for the new one
        return _unsettled(schedule, after, author, action)
    mark = _mark(schedule, done)
    if offset < old_offset and not held:
        excluded = _jumped(
            trigger, build(after.definition.trigger), max(mark, cut - old_offset), cut - offset
        )
        rest = _replace(owing, policy=after.definition.policy, settled_until=mark, load=done.load)
        more = tile(rest, trigger, offset, cut, excluded)
        both = folded(done.settlements + more.settlements)
        done = Tiled(both, more.load, done.cancel_older or more.cancel_older)
    boundary = max(_mark(schedule, done), until)
    return _edit(schedule, after, author, action, cut=cut, boundary=boundary, done=done)


def _dropped(owing: Owing, trigger: Trigger, offset: timedelta, cut: datetime) -> Tiled:
    """Return what is owed at the cut as one range that nothing will fire any more."""
    owed = tile(_replace(owing, paused=True), trigger, offset, cut)
    return Tiled(tuple(_replace(each, reason=Reason.DELETED) for each in owed.settlements), owed.load)


def _mark(schedule: Schedule, done: Tiled) -> datetime:
    return done.settlements[-1].mark_after if done.settlements else schedule.settled_until


def _unsettled(schedule: Schedule, after: Schedule, author: Author, action: str) -> Edit:
    cut = max(author.cut_at, schedule.cut_at)
    return _edit(schedule, after, author, action, cut=cut, boundary=schedule.settled_until, done=Tiled())


def _edit(
    schedule: Schedule,
    after: Schedule,
    author: Author,
    action: str,
    *,
    cut: datetime,
    boundary: datetime,
    done: Tiled,
) -> Edit:
    definition = after.definition
    next_at = None
    if not after.dormant:
        next_at = due_after(build(definition.trigger), boundary, offset_of(schedule.name, definition.policy))
    row = _replace(
        after,
        version=schedule.version + 1,
        number=schedule.number + (definition != schedule.definition),
        settled_until=boundary,
        next_at=next_at,
        cut_at=cut,
        skips=tuple(skip for skip in after.skips if skip > boundary),
    )
    return Edit(
        id=author.edit_id,
        expected_version=schedule.version,
        after=row,
        cut_at=cut,
        boundary_at=boundary,
        settlements=done.settlements,
        cancel_older=done.cancel_older,
        action=action,
        actor=author.actor,
        reason=author.reason,
    )


def _jumped(old: Trigger, new: Trigger, mark: datetime, until: datetime) -> list[tuple[datetime, Reason]]:
    """Return the old occurrences in (mark, until] that the new trigger has not."""
    if old is new:
        return []
    excluded: list[tuple[datetime, Reason]] = []
    instant = old.after(mark)
    while instant is not None and instant <= until:
        if len(excluded) == JUMPED_MAX:
            raise LimitExceeded(
                f"this edit moves the schedule across more than {JUMPED_MAX} of its old occurrences, "
                "and each would need a record; pause it, edit and resume, or shrink the spread by steps"
            )
        if new.before(instant + MICROSECOND) != instant:
            excluded.append((instant, Reason.EDITED))
        instant = old.after(instant)
    return excluded


def _resolved(name: str, definition: Definition, cut: datetime) -> Definition:
    """Return the definition with what was relative ("in 30 minutes", no anchor, H) fixed at the cut."""
    return _replace(definition, trigger=anchored(named(definition.trigger, name), cut))


def _replace(noun: T, **changes: object) -> T:
    return msgspec.structs.replace(noun, **changes)
