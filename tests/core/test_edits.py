"""Edits settle first: what was due at the cut follows the old definition, what comes after the new one."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebeat.core import decide, edits
from onebeat.core.errors import InvalidInput, InvalidTrigger
from onebeat.core.messages import Edit
from onebeat.core.model import (
    Definition,
    Load,
    Overlap,
    Policy,
    Reason,
    RunState,
    Schedule,
    Target,
    TriggerSpec,
)
from onebeat.core.triggers.interval import interval, once

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
BODY = Target(kind="python", address="demo:body")
EVERY_MINUTE = interval(minutes=1, anchor=T0)
EVERY_HOUR = interval(hours=1, anchor=T0)


def by(cut_at: datetime, reason: str = "") -> edits.Author:
    return edits.Author(edit_id=f"e{cut_at:%H%M%S%f}", cut_at=cut_at, actor="ada", reason=reason)


def held(cut_at: datetime, reason: str = "") -> edits.Author:
    """Return an author who found a hold in force."""
    return msgspec.structs.replace(by(cut_at, reason), held=True)


def definition(trigger: TriggerSpec = EVERY_MINUTE, **policy: object) -> Definition:
    return Definition(trigger=trigger, target=BODY, policy=Policy(**policy))  # type: ignore[arg-type]  # by test


def created(wanted: Definition, at: datetime = T0) -> Schedule:
    return msgspec.structs.replace(edits.create("demo", wanted, by(at)).after, id=1)


def fired(edit: Edit) -> list[datetime | None]:
    return [tile.run.occurrence_at for tile in edit.settlements if tile.run is not None]


def reasons(edit: Edit) -> list[tuple[Reason | None, int]]:
    return [(tile.reason, tile.count) for tile in edit.settlements]


# --- creation ---------------------------------------------------------------------------------------


def test_what_another_scheduler_has_fired_until_then_is_settled_and_the_rest_is_owed() -> None:
    since = T0 - 3 * MINUTE
    cron_like = interval(minutes=1, anchor=T0 - HOUR)

    edit = edits.create("demo", definition(cron_like), by(T0), since=since)

    assert (edit.after.settled_until, edit.boundary_at, edit.cut_at) == (since, since, T0)
    assert edit.after.next_at == since + MINUTE
    assert edit.after.skips == ()


def test_a_period_without_an_anchor_counts_from_the_last_run_elsewhere() -> None:
    edit = edits.create("demo", definition(interval(hours=1)), by(T0), since=T0 - 20 * MINUTE)

    assert edit.after.next_at == T0 + 40 * MINUTE


def test_what_a_scheduler_ahead_of_us_has_fired_is_skipped_and_the_mark_stays_behind_the_clock() -> None:
    edit = edits.create("demo", definition(), by(T0 - 10 * MINUTE), since=T0 + MINUTE)

    assert edit.after.settled_until == T0 - 10 * MINUTE
    assert edit.after.skips == (T0, T0 + MINUTE)


def test_occurrences_that_a_spread_delays_are_skipped_where_another_scheduler_has_fired_them() -> None:
    wanted = definition(spread=timedelta(hours=1))
    edit = edits.create("demo", wanted, by(T0 + HOUR), since=T0 + 30 * MINUTE)
    offset = decide.offset_of("demo", wanted.policy)

    assert edit.after.settled_until == T0 + 30 * MINUTE - offset
    assert edit.after.skips[-1] == T0 + 30 * MINUTE


def test_nothing_before_the_cut_is_owed() -> None:
    row = created(definition(), T0 + timedelta(hours=5))

    assert row.settled_until == T0 + timedelta(hours=5)
    assert row.next_at == T0 + timedelta(hours=5, minutes=1)
    assert (row.version, row.number, row.incarnation) == (1, 1, 1)


def test_interval_without_anchor_counts_from_the_cut() -> None:
    row = created(definition(interval(minutes=7)))

    assert row.next_at == T0 + timedelta(minutes=7)
    assert row.definition.trigger.fields["anchor_at"] == "2026-11-21T12:00:00Z"


@pytest.mark.parametrize("grace", [None, HOUR])
def test_one_off_whose_instant_has_passed_fires_late(grace: timedelta | None) -> None:
    row = created(definition(once(T0 - MINUTE), grace=grace))

    decision = decide.settle(edits.owing_of(row, Load()), T0)

    assert row.next_at == T0 - MINUTE
    assert [tile.run is not None for tile in decision.settlements] == [True]


def test_one_off_beyond_its_grace_is_skipped_and_says_so() -> None:
    row = created(definition(once(T0 - HOUR), grace=MINUTE))

    (tile,) = decide.settle(edits.owing_of(row, Load()), T0).settlements

    assert tile.reason is Reason.MISFIRE


def test_run_now_is_a_request_beside_the_schedule() -> None:
    edit = edits.create("demo", definition(EVERY_HOUR), by(T0), run_now=True)

    (run,) = edit.requests
    assert (run.id, run.state, run.occurrence_at) == ("demo!created", RunState.READY, None)
    assert edit.after.next_at == T0 + HOUR


def test_run_now_of_a_re_created_schedule_waits_for_what_its_predecessor_left_running() -> None:
    tombstone = msgspec.structs.replace(created(definition()), deleted=True)

    limited = edits.create("demo", definition(), by(T0), tombstone=tombstone, run_now=True)
    unlimited = edits.create(
        "demo", definition(overlap=Overlap.ALLOW), by(T0), tombstone=tombstone, run_now=True
    )

    assert [run.state for run in limited.requests] == [RunState.WAITING]
    assert [run.state for run in unlimited.requests] == [RunState.READY]


def test_created_again_on_its_tombstone_it_is_the_next_incarnation_and_nothing_is_reused() -> None:
    row = created(definition())
    gone = edits.delete(row, Load(), by(T0 + HOUR)).after

    again = edits.create("demo", definition(), by(T0 + 2 * HOUR), tombstone=gone)

    assert (again.after.id, again.after.incarnation) == (row.id, 2)
    assert again.after.version == gone.version + 1
    assert again.expected_version == gone.version
    run = decide.settle(edits.owing_of(again.after, Load()), T0 + 2 * HOUR + MINUTE).settlements[0].run
    assert run is not None
    assert run.id == "demo~2@20261121T140100Z"


# --- edits settle first -----------------------------------------------------------------------------


def test_edit_settles_what_the_old_definition_owed_in_the_same_decision() -> None:
    row = created(definition())

    edit = edits.edit(row, Load(), definition(EVERY_HOUR), by(T0 + timedelta(minutes=1, seconds=30)))

    assert fired(edit) == [T0 + MINUTE]
    assert edit.boundary_at == edit.cut_at == edit.after.settled_until
    assert edit.after.next_at == T0 + HOUR
    assert (edit.after.version, edit.after.number) == (2, 2)


@pytest.mark.parametrize("us", [-1, 0, 1])
def test_due_at_the_cut_follows_the_old_definition_and_a_microsecond_later_the_new(us: int) -> None:
    row = created(definition(EVERY_HOUR))
    cut = T0 + HOUR + timedelta(microseconds=us)

    edit = edits.edit(row, Load(), definition(EVERY_HOUR, overlap=Overlap.ALLOW), by(cut))

    if us < 0:
        assert fired(edit) == []
        assert edit.after.next_at == T0 + HOUR
    else:
        assert fired(edit) == [T0 + HOUR]
        assert edit.after.next_at == T0 + 2 * HOUR


def test_daily_to_hourly_in_the_afternoon_does_not_fire_the_morning() -> None:
    row = created(definition(interval(days=1, anchor=T0)))

    edit = edits.edit(row, Load(), definition(EVERY_HOUR), by(T0 + timedelta(hours=5, minutes=30)))

    assert fired(edit) == []
    assert edit.after.next_at == T0 + timedelta(hours=6)


@given(
    first=st.timedeltas(timedelta(0), timedelta(minutes=10)),
    second=st.timedeltas(timedelta(0), timedelta(minutes=10)),
    old_spread=st.timedeltas(timedelta(0), timedelta(minutes=4)),
    new_spread=st.timedeltas(timedelta(0), timedelta(minutes=4)),
    paused=st.booleans(),
)
def test_edits_of_the_spread_neither_drop_nor_repeat(
    first: timedelta, second: timedelta, old_spread: timedelta, new_spread: timedelta, paused: bool
) -> None:
    policy = {"overlap": Overlap.ALLOW, "catch_up": "all", "catch_up_max": 1000}
    row = created(definition(spread=old_spread, **policy))
    if paused:
        row = edits.pause(row, Load(), by(T0)).after
    edit = edits.edit(row, Load(), definition(spread=new_spread, **policy), by(T0 + first))
    if paused:
        edit2 = edits.resume(edit.after, Load(), by(T0 + first + second))
        tiles = edit.settlements + edit2.settlements
        end = edit2.after.settled_until
    else:
        later = decide.settle(edits.owing_of(edit.after, Load()), T0 + first + second)
        tiles = edit.settlements + later.settlements
        end = max(later.settled_until, edit.after.settled_until)

    settled = [tile.last_at for tile in tiles for _ in range(tile.count)]
    due = [T0 + k * MINUTE for k in range(40)]
    expected = [t for t in due if row.settled_until < t <= end]

    assert sum(tile.count for tile in tiles) == len(expected)
    assert len(settled) == len(expected)
    assert all((tile.reason is Reason.PAUSED) is paused for tile in tiles)
    offset = decide.offset_of("demo", Policy(spread=new_spread))
    assert end >= max([t for t in due if t + offset <= T0 + first + second], default=end)


def test_a_shrinking_spread_skips_old_occurrences_that_the_new_trigger_has_not() -> None:
    spread = timedelta(minutes=37)
    row = created(definition(EVERY_MINUTE, spread=spread, overlap=Overlap.ALLOW))
    offset = decide.offset_of("demo", Policy(spread=spread))
    five = interval(minutes=5, anchor=T0)

    edit = edits.edit(row, Load(), definition(five, overlap=Overlap.ALLOW), by(T0 + 10 * MINUTE))

    assert offset > 10 * MINUTE
    jumped = [tile for tile in edit.settlements if tile.reason is Reason.EDITED]
    assert all((tile.first_at - T0) % (5 * MINUTE) for tile in jumped if tile.first_at is not None)
    assert fired(edit) == [T0 + 10 * MINUTE]
    assert edit.after.next_at == T0 + 15 * MINUTE


def test_a_run_that_an_edit_queues_says_all_that_the_same_edit_folds_into_it() -> None:
    """What was owed queues the run; what the smaller spread jumps over is folded into it."""
    queue = {"overlap": Overlap.QUEUE_ONE, "catch_up": "all"}
    row = created(definition(spread=timedelta(minutes=37), **queue))
    assert row.next_at is not None
    busy = Load(live=1)

    edit = edits.edit(row, busy, definition(**queue), by(row.next_at + 3 * MINUTE))

    (run,) = [tile.run for tile in edit.settlements if tile.run is not None]
    assert run.state is RunState.WAITING
    assert run.fold is not None
    assert run.fold.count == sum(tile.count for tile in edit.settlements) > 4
    assert run.fold.last_at == edit.settlements[-1].last_at


def test_clock_that_went_back_never_moves_the_mark_back() -> None:
    row = edits.edit(created(definition()), Load(), definition(EVERY_HOUR), by(T0 + HOUR)).after

    edit = edits.edit(row, Load(), definition(), by(T0 + MINUTE))

    assert edit.cut_at == T0 + HOUR
    assert edit.after.settled_until == row.settled_until


def test_edit_that_changes_nothing_keeps_the_number_and_still_bumps_the_version() -> None:
    row = created(definition())

    edit = edits.edit(row, Load(), row.definition, by(T0))

    assert (edit.after.number, edit.after.version) == (row.number, row.version + 1)


# --- pause, resume, delete, quarantine, skip-next ---------------------------------------------------


def test_pause_settles_what_was_owed_and_resume_skips_the_pause_as_one_range() -> None:
    paused = edits.pause(created(definition()), Load(), by(T0 + MINUTE, "lunch"))
    resumed = edits.resume(paused.after, Load(), by(T0 + HOUR))

    assert fired(paused) == [T0 + MINUTE]
    assert (paused.after.paused, paused.after.next_at) == ("lunch", None)
    assert reasons(resumed) == [(Reason.PAUSED, 59)]
    assert resumed.after.next_at == T0 + HOUR + MINUTE


def test_pausing_what_is_paused_settles_its_pause_and_fires_nothing() -> None:
    paused = edits.pause(created(definition()), Load(), by(T0)).after

    again = edits.pause(paused, Load(), by(T0 + HOUR))

    assert reasons(again) == [(Reason.PAUSED, 60)]


def test_delete_settles_first_and_cancels_what_waits() -> None:
    edit = edits.delete(created(definition()), Load(), by(T0 + MINUTE))

    assert fired(edit) == [T0 + MINUTE]
    assert edit.cancel_waiting
    assert (edit.after.deleted, edit.after.next_at) == (True, None)


def test_quarantine_leaves_the_mark_and_its_repair_meets_what_was_owed() -> None:
    row = created(definition())
    aside = edits.quarantine(row, Load(), by(T0 + HOUR, "its trigger raises")).after

    repaired = edits.edit(aside, Load(), definition(EVERY_HOUR), by(T0 + 3 * HOUR)).after
    decision = decide.settle(edits.owing_of(repaired, Load()), T0 + 3 * HOUR)

    assert (aside.settled_until, aside.next_at) == (row.settled_until, None)
    assert repaired.quarantined is None
    assert sum(tile.count for tile in decision.settlements) == 3


def test_a_definition_that_cannot_be_decided_can_be_edited_all_the_same() -> None:
    broken = msgspec.structs.replace(
        created(definition()), definition=definition(TriggerSpec(kind="nonsense"))
    )

    edit = edits.edit(broken, Load(), definition(EVERY_HOUR), by(T0 + HOUR))

    assert edit.settlements == ()
    assert edit.after.next_at == T0 + HOUR


def test_an_edit_to_a_trigger_that_cannot_be_understood_is_refused() -> None:
    with pytest.raises(InvalidTrigger):
        edits.edit(created(definition()), Load(), definition(TriggerSpec(kind="nonsense")), by(T0))


def test_skip_next_lists_one_more_each_time_and_never_moves_the_mark_ahead() -> None:
    row = created(definition())

    once_more = edits.skip_next(row, Load(), by(T0 + timedelta(seconds=10)))
    twice = edits.skip_next(once_more.after, Load(), by(T0 + timedelta(seconds=20)))

    assert once_more.after.skips == (T0 + MINUTE,)
    assert twice.after.skips == (T0 + MINUTE, T0 + 2 * MINUTE)
    assert twice.after.settled_until == T0 + timedelta(seconds=20)
    assert twice.after.next_at == T0 + MINUTE


def test_skip_next_of_a_schedule_that_has_ended_is_refused() -> None:
    row = created(definition(once(T0 + MINUTE)))

    with pytest.raises(InvalidInput, match="no further occurrence"):
        edits.skip_next(row, Load(), by(T0 + HOUR))


def test_unskip_takes_the_latest_mark_back_and_none_that_has_passed() -> None:
    row = created(definition())
    for _ in range(3):
        row = edits.skip_next(row, Load(), by(T0 + timedelta(seconds=10))).after

    once_less = edits.unskip(row, Load(), by(T0 + timedelta(seconds=90)))
    assert once_less is not None
    assert (once_less.action, once_less.after.skips) == ("schedule.skip_undone", (T0 + 2 * MINUTE,))
    assert [tile.reason for tile in once_less.settlements] == ["skip_next"]  # what was owed is still skipped
    assert once_less.after.next_at == T0 + 2 * MINUTE
    assert edits.unskip(once_less.after, Load(), by(T0 + 3 * MINUTE)) is None


# --- under a hold -----------------------------------------------------------------------------------


def test_an_edit_under_a_hold_fires_nothing_and_the_new_definition_meets_what_is_owed() -> None:
    row = created(definition())
    cut = T0 + timedelta(minutes=3, seconds=30)

    edit = edits.edit(row, Load(), definition(catch_up="all", overlap=Overlap.ALLOW), held(cut))
    released = decide.settle(edits.owing_of(edit.after, Load()), cut)

    assert edit.settlements == ()
    assert edit.boundary_at == edit.after.settled_until == T0 + MINUTE - decide.MICROSECOND
    assert edit.after.next_at == T0 + MINUTE
    assert [tile.last_at for tile in released.settlements] == [T0 + n * MINUTE for n in (1, 2, 3)]
    assert all(tile.run is not None for tile in released.settlements)


def test_an_edit_under_a_hold_does_not_make_the_new_definition_owe_what_was_before_it() -> None:
    row = created(definition(interval(days=1, anchor=T0)))
    cut = T0 + timedelta(hours=5, minutes=30)

    nothing_owed = edits.edit(row, Load(), definition(EVERY_HOUR), held(cut))
    next_day = edits.edit(row, Load(), definition(EVERY_HOUR), held(cut + 24 * HOUR))

    assert nothing_owed.after.next_at == T0 + 6 * HOUR
    assert next_day.after.next_at == T0 + 24 * HOUR


def test_a_second_edit_under_the_same_hold_leaves_the_mark_as_well() -> None:
    first = edits.edit(created(definition()), Load(), definition(EVERY_HOUR), held(T0 + 2 * HOUR))
    second = edits.edit(first.after, Load(), definition(), held(T0 + 3 * HOUR))

    assert second.settlements == ()
    assert second.boundary_at < second.after.next_at == T0 + HOUR  # type: ignore[operator]  # it has one


def test_a_shrinking_spread_under_a_hold_leaves_what_it_jumps_over_to_the_new_definition() -> None:
    row = created(definition(EVERY_MINUTE, spread=timedelta(minutes=37), overlap=Overlap.ALLOW))
    offset = decide.offset_of("demo", row.definition.policy)

    edit = edits.edit(row, Load(), definition(overlap=Overlap.ALLOW), held(T0 + 10 * MINUTE))

    assert edit.settlements == ()
    assert row.next_at is not None
    assert edit.after.next_at == row.next_at - offset


def test_a_growing_spread_under_a_hold_never_moves_the_mark_past_what_is_owed() -> None:
    row = created(definition())
    wanted = definition(spread=timedelta(minutes=37))
    offset = decide.offset_of("demo", wanted.policy)

    edit = edits.edit(row, Load(), wanted, held(T0 + 2 * MINUTE))

    assert edit.boundary_at == row.settled_until
    assert edit.after.next_at == T0 + MINUTE + offset


def test_a_pause_under_a_hold_covers_what_is_owed_as_well() -> None:
    paused = edits.pause(created(definition()), Load(), held(T0 + 5 * MINUTE))

    resumed = edits.resume(paused.after, Load(), by(T0 + HOUR))

    assert paused.settlements == ()
    assert reasons(resumed) == [(Reason.PAUSED, 60)]


def test_what_a_pause_covered_stays_skipped_though_it_ends_under_a_hold() -> None:
    paused = edits.pause(created(definition()), Load(), by(T0))

    resumed = edits.resume(paused.after, Load(), held(T0 + HOUR))

    assert reasons(resumed) == [(Reason.PAUSED, 60)]
    assert resumed.after.next_at == T0 + HOUR + MINUTE


def test_what_is_owed_when_a_schedule_is_deleted_under_a_hold_is_skipped_and_says_so() -> None:
    edit = edits.delete(created(definition()), Load(), held(T0 + HOUR))

    assert reasons(edit) == [(Reason.DELETED, 60)]
    assert edit.boundary_at == T0 + HOUR
    assert edit.cancel_waiting


def test_skip_next_under_a_hold_skips_what_is_still_to_come() -> None:
    edit = edits.skip_next(created(definition()), Load(), held(T0 + timedelta(minutes=3, seconds=30)))

    assert edit.after.skips == (T0 + 4 * MINUTE,)
    assert edit.after.next_at == T0 + MINUTE


def test_creating_under_a_hold_asks_for_its_run_and_owes_nothing() -> None:
    edit = edits.create("demo", definition(), held(T0), run_now=True)

    assert len(edit.requests) == 1
    assert not edit.fires
