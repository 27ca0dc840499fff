"""Declarations against the ledger, three ways: a worked table first, then each rule alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from onebeat.core.edits import Author, Declared, create, delete, edit
from onebeat.core.model import Definition, Load, Policy, Schedule, Target, TriggerSpec
from onebeat.core.reconcile import AT_START, Mode, Step, Verb, reconcile, resolves
from onebeat.core.triggers import anchored, cron, interval, once

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
APPLY = Mode(edits=True, removes=True)
PRUNE = Mode(edits=True, removes=True, prune=True)
FORCE = Mode(edits=True, removes=True, force=True)


def definition(trigger: TriggerSpec | None = None, **fields: Any) -> Definition:
    target = Target(kind="python", address=fields.pop("address", "shop:close"), args=fields.pop("args", ()))
    title = fields.pop("title", "")
    spec = cron("0 9 * * *", zone="UTC") if trigger is None else trigger
    return Definition(trigger=spec, target=target, title=title, policy=Policy(**fields))


def author(after: timedelta = timedelta(0)) -> Author:
    return Author(edit_id="e", cut_at=NOW + after)


def declared(wanted: Definition, *, owner: str = "app", revision: int = 1, name: str = "a") -> Schedule:
    """The row as an apply of ``wanted`` leaves it."""
    edit_ = create(name, wanted, author(), declared=Declared(owner=owner, revision=revision, applied=wanted))
    return replace(edit_.after, id=1)


def changed(row: Schedule, after: Definition) -> Schedule:
    """The row after a person's edit."""
    return edit(row, Load(), after, author(timedelta(minutes=1))).after


def step(
    wanted: Definition | None,
    row: Schedule | None,
    *,
    revision: int = 1,
    mode: Mode = APPLY,
    owner: str = "app",
) -> Step:
    """Reconcile one name and return its step."""
    (found,) = reconcile(
        {} if wanted is None else {"a": wanted},
        {} if row is None else {"a": row},
        owner=owner,
        revision=revision,
        mode=mode,
    )
    return found


# --- the three ways -------------------------------------------------------------------------------------

OLD, NEW, MINE = 1, 2, 3


@pytest.mark.parametrize(
    ("applied", "wanted", "present", "forced", "verb", "value"),
    [
        (OLD, OLD, OLD, False, Verb.KEEP, OLD),
        (OLD, OLD, MINE, False, Verb.KEEP, MINE),  # a person changed it, the declaration did not move
        (OLD, NEW, OLD, False, Verb.CHANGE, NEW),
        (OLD, NEW, NEW, False, Verb.STAMP, NEW),  # both came to the same
        (OLD, NEW, MINE, False, Verb.STAMP, MINE),  # both moved: the person wins
        (OLD, OLD, MINE, True, Verb.CHANGE, OLD),
        (OLD, NEW, MINE, True, Verb.CHANGE, NEW),
        (OLD, OLD, OLD, True, Verb.KEEP, OLD),
    ],
)
def test_each_field_is_reconciled_three_ways(
    applied: int, wanted: int, present: int, forced: bool, verb: Verb, value: int
) -> None:
    row = declared(definition(max_running=applied))
    if present != applied:
        row = changed(row, definition(max_running=present))

    found = step(definition(max_running=wanted), row, mode=FORCE if forced else APPLY)

    assert found.verb is verb
    after = row.definition if found.definition is None else found.definition
    assert after.policy.max_running == value
    assert found.changed == (("max_running",) if verb is Verb.CHANGE else ())
    both_moved = (applied, wanted, present, forced) == (OLD, NEW, MINE, False)
    assert found.conflicts == (("max_running",) if both_moved else ())


def test_a_persons_change_of_one_field_leaves_the_others_to_the_declaration() -> None:
    row = changed(declared(definition(title="a")), definition(title="a", max_running=5))

    found = step(definition(title="b"), row)

    assert found.definition == definition(title="b", max_running=5)
    assert found.changed == ("title",)


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("trigger", definition(), definition(cron("0 8 * * *", zone="UTC"))),
        ("target", definition(), definition(address="shop:open")),
        ("target", definition(args=(1,)), definition(args=(2,))),
        ("queue", definition(), replace(definition(), target=replace(definition().target, queue="mail"))),
        ("title", definition(), definition(title="x")),
        ("tags", definition(), replace(definition(), tags=("x",))),
        ("grace", definition(), definition(grace=timedelta(minutes=1))),
    ],
)
def test_every_part_of_a_definition_is_a_field(field: str, before: Definition, after: Definition) -> None:
    found = step(after, declared(before))

    assert found.changed == (field,)
    assert found.definition == after


def test_a_conflict_that_was_recorded_does_not_come_again() -> None:
    row = changed(declared(definition(max_running=OLD)), definition(max_running=MINE))
    first = step(definition(max_running=NEW), row)
    assert first.verb is Verb.STAMP
    assert first.definition is not None
    stamped = edit(
        row,
        Load(),
        first.definition,
        author(timedelta(minutes=2)),
        declared=Declared(owner="app", revision=1, applied=definition(max_running=NEW)),
    ).after

    again = step(definition(max_running=NEW), stamped)

    assert again.verb is Verb.KEEP
    assert again.conflicts == ()
    assert stamped.definition.policy.max_running == MINE


# --- relative triggers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trigger",
    [
        interval(minutes=1),
        once(in_=timedelta(minutes=30)),
        interval(minutes=1) | cron("0 9 * * *", zone="UTC"),
        (interval(minutes=1) | interval(minutes=7)) - cron("0 9 * * *", zone="UTC"),
    ],
)
def test_a_trigger_whose_instants_were_fixed_is_still_the_declared_one(trigger: TriggerSpec) -> None:
    row = declared(definition(trigger))
    assert row.definition.trigger != trigger

    assert resolves(trigger, row.definition.trigger)
    assert step(definition(trigger), row).verb is Verb.KEEP


def test_an_interval_keeps_its_anchor_when_something_else_is_declared_anew() -> None:
    row = declared(definition(interval(minutes=1)))

    found = step(definition(interval(minutes=1), max_running=2), row)

    assert found.definition is not None
    assert found.definition.trigger == row.definition.trigger
    assert found.changed == ("max_running",)


@pytest.mark.parametrize(
    ("declared_as", "there"),
    [
        (interval(minutes=1), interval(minutes=2)),
        (interval(minutes=1, anchor=NOW), interval(minutes=1, anchor=NOW + timedelta(seconds=1))),
        (interval(minutes=1), cron("* * * * *", zone="UTC")),
        (interval(minutes=1) | once(NOW), interval(minutes=1) | once(NOW + timedelta(days=1))),
        (interval(minutes=1) | once(NOW), (interval(minutes=1) | once(NOW)) | cron("* * * * *", zone="UTC")),
        (cron("0 9 * * *", zone="UTC"), cron("0 9 * * *", zone="Asia/Shanghai")),
    ],
)
def test_another_trigger_is_not_taken_for_the_declared_one(
    declared_as: TriggerSpec, there: TriggerSpec
) -> None:
    assert not resolves(declared_as, anchored(there, NOW))


# --- owners ---------------------------------------------------------------------------------------------


def test_what_is_not_there_is_created() -> None:
    assert step(definition(), None, mode=AT_START).verb is Verb.CREATE


@pytest.mark.parametrize("owner", ["", "another"])
def test_a_declaration_touches_only_what_carries_its_tag(owner: str) -> None:
    row = declared(definition(max_running=1), owner=owner)

    found = step(definition(max_running=2), row, revision=9)

    assert found.verb is Verb.KEEP
    assert found.conflicts == ("max_running",)
    assert "force" in found.why


def test_force_adopts_what_was_made_by_hand() -> None:
    row = declared(definition(max_running=1), owner="")

    assert step(definition(max_running=2), row, mode=FORCE).verb is Verb.CHANGE
    assert step(definition(max_running=1), row, mode=FORCE).verb is Verb.STAMP


def test_anothers_schedules_are_not_even_mentioned() -> None:
    theirs = declared(definition(), owner="another")

    assert reconcile({}, {"a": theirs}, owner="app", revision=9, mode=PRUNE) == []


# --- revisions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [AT_START, APPLY, PRUNE, FORCE])
def test_a_lower_revision_changes_nothing(mode: Mode) -> None:
    row = declared(definition(max_running=1), revision=5)

    assert step(definition(max_running=2), row, revision=4, mode=mode).verb is Verb.KEEP
    assert step(None, row, revision=4, mode=mode).verb is Verb.KEEP


def test_a_start_adds_and_changes_nothing_of_its_own_revision() -> None:
    row = declared(definition(max_running=1))

    assert step(definition(max_running=2), row, mode=AT_START).verb is Verb.KEEP


def test_a_start_of_a_higher_revision_changes() -> None:
    row = declared(definition(max_running=1))

    assert step(definition(max_running=2), row, revision=2, mode=AT_START).verb is Verb.CHANGE


def test_a_higher_revision_stamps_what_did_not_change() -> None:
    # Else a node of the revision before would not know that it is the older one.
    row = declared(definition())

    assert step(definition(), row, revision=2, mode=AT_START).verb is Verb.STAMP


# --- removing -------------------------------------------------------------------------------------------


def test_a_start_removes_nothing() -> None:
    assert step(None, declared(definition()), revision=9, mode=AT_START).verb is Verb.KEEP


def test_removal_needs_a_higher_revision_or_prune() -> None:
    row = declared(definition())

    assert step(None, row, mode=APPLY).verb is Verb.KEEP
    assert step(None, row, mode=PRUNE).verb is Verb.REMOVE
    assert step(None, row, revision=2, mode=APPLY).verb is Verb.REMOVE


def test_what_a_person_deleted_stays_away_until_a_higher_revision_or_force() -> None:
    gone = delete(declared(definition()), Load(), author(timedelta(minutes=1))).after

    assert step(definition(), gone, mode=AT_START).verb is Verb.KEEP
    assert step(definition(), gone, mode=APPLY).verb is Verb.KEEP
    assert step(definition(), gone, revision=2, mode=AT_START).verb is Verb.CREATE
    assert step(definition(), gone, mode=FORCE).verb is Verb.CREATE


def test_an_older_node_does_not_bring_back_what_a_newer_one_removed() -> None:
    row = declared(definition(), revision=1)
    gone = delete(replace(row, revision=2), Load(), author(timedelta(minutes=1))).after

    assert step(definition(), gone, revision=1, mode=AT_START).verb is Verb.KEEP
    assert step(definition(), gone, revision=2, mode=APPLY).verb is Verb.KEEP
    assert step(definition(), gone, revision=3, mode=APPLY).verb is Verb.CREATE


def test_a_name_that_another_owner_left_is_free() -> None:
    gone = delete(declared(definition(), owner="another"), Load(), author(timedelta(minutes=1))).after

    assert step(definition(), gone, mode=AT_START).verb is Verb.CREATE


def test_a_tombstone_that_is_declared_no_more_needs_no_step() -> None:
    gone = delete(declared(definition()), Load(), author(timedelta(minutes=1))).after

    assert reconcile({}, {"a": gone}, owner="app", revision=9, mode=PRUNE) == []


# --- quarantined ----------------------------------------------------------------------------------------


def test_applying_brings_a_quarantined_schedule_back_and_a_start_does_not() -> None:
    row = replace(declared(definition(max_running=1)), quarantined="bad bytes")

    assert step(definition(max_running=1), row, mode=AT_START).verb is Verb.KEEP
    found = step(definition(max_running=1), row, mode=APPLY)
    assert (found.verb, found.changed) == (Verb.CHANGE, ())
    assert "bad bytes" in found.why


def test_the_trigger_of_a_quarantined_schedule_is_declared_anew_and_the_rest_stays_a_persons() -> None:
    row = changed(declared(definition(max_running=1)), definition(max_running=5))
    broken = replace(
        row,
        quarantined="bad bytes",
        definition=replace(row.definition, trigger=TriggerSpec(kind="broken")),
    )

    found = step(definition(max_running=1), broken, mode=APPLY)

    assert found.definition == definition(max_running=5)
