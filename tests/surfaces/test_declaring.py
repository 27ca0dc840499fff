"""Declaring touches no store; applying reconciles, whoever else is at it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from tests.surfaces.stage import DAY, HOUR, Town, close, fail, report

from onebeat import Conflict, InvalidInput, Onebeat, StoreUnavailable, call, cron, interval, minutes, once
from onebeat.core.decide import settle
from onebeat.core.model import Schedule
from onebeat.core.reconcile import Verb

DECLARES_200 = """
import sys
from onebeat import Onebeat, interval, minutes
beat = Onebeat("sqlite:////nowhere/at/all/onebeat.db")
for number in range(200):
    @beat.scheduled(interval(minutes=number + 1), name=f"body-{number}", grace=minutes(1), tags=["x"])
    def body(run):
        pass
@beat.on("run.failed")
def tell(event):
    pass
assert len(beat.declared) == 200
assert beat.preview("body-7", 3)
loaded = {"apsw", "onebeat.store.sql", "onebeat.engine.service"} & set(sys.modules)
assert not loaded, loaded
print("declared")
"""


@pytest.fixture
def town() -> Town:
    return Town()


def verbs(steps: Any) -> dict[str, str]:
    return {step.name: step.verb.value for step in steps}


def row(beat: Onebeat, name: str) -> Schedule:
    return beat.schedules.show(name).schedule


# --- declaring ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_200_declarations_import_with_the_store_down() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DECLARES_200], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "declared\n", done.stderr


def test_the_first_use_of_a_store_that_is_down_says_so() -> None:
    beat = Onebeat("sqlite:////nowhere/at/all/onebeat.db")

    with pytest.raises(StoreUnavailable, match="/nowhere/at/all"):
        beat.schedules.list()


def test_a_decorated_function_is_still_itself(town: Town) -> None:
    assert town.app().scheduled("0 9 * * *")(close) is close


def test_a_schedule_is_named_like_its_function_with_dashes(town: Town) -> None:
    beat = town.app()

    @beat.scheduled("0 9 * * *")
    def send_Daily_report_() -> None:  # noqa: N802 - a name that needs mending is the point
        pass

    assert list(beat.declared) == ["send-daily-report"]


def test_the_zone_of_the_app_fills_in(town: Town) -> None:
    beat = town.app(zone="Asia/Shanghai")
    beat.declare("a", "0 9 * * *", close)

    assert beat.declared["a"].trigger == cron("0 9 * * *", zone="Asia/Shanghai")


def test_the_same_declaration_twice_is_one_and_another_of_its_name_an_error(town: Town) -> None:
    beat = town.app()
    beat.declare("a", "0 9 * * *", close)
    beat.declare("a", "0 9 * * *", close)

    with pytest.raises(InvalidInput, match="declared twice"):
        beat.declare("a", "0 10 * * *", close)


def test_arguments_that_do_not_fit_are_refused_when_they_are_declared(town: Town) -> None:
    with pytest.raises(InvalidInput, match="does not take"):
        town.app().scheduled("0 9 * * *", args=(1, 2, 3))(close)


@pytest.mark.parametrize("revision", [-1, 1.5, "3", True, 2**53])
def test_a_revision_is_a_number_that_grows(town: Town, revision: Any) -> None:
    with pytest.raises(InvalidInput, match="revision"):
        town.app(revision=revision)


def test_an_unknown_zone_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="Asia/Shanghai"):
        Onebeat(zone="Asia/Shanghay")


def test_an_owner_is_a_name() -> None:
    with pytest.raises(InvalidInput):
        Onebeat(owner="My App")


# --- applying -------------------------------------------------------------------------------------------


def test_applying_creates_what_is_not_there_and_then_changes_nothing(town: Town) -> None:
    beat = town.app()
    beat.declare("a", interval(minutes=5), close)
    beat.declare("b", "0 9 * * *", report)

    assert verbs(beat.diff()) == {"a": "create", "b": "create"}
    assert beat.schedules.list() == []
    assert verbs(beat.apply().steps) == {"a": "create", "b": "create"}
    version = row(beat, "a").version
    assert verbs(beat.apply().steps) == {"a": "keep", "b": "keep"}
    assert row(beat, "a").version == version


def test_a_field_that_a_person_changed_wins_until_forced(town: Town) -> None:
    beat = town.app()
    beat.declare("a", interval(minutes=5), close, title="from code", grace=minutes(1))
    beat.apply()
    beat.schedules.edit("a", title="from ada")
    newer = town.app()
    newer.declare("a", interval(minutes=5), close, title="new code", grace=minutes(2))

    (step,) = newer.apply().steps
    assert (step.changed, step.conflicts) == (("grace",), ("title",))
    assert row(beat, "a").definition.title == "from ada"

    newer.apply(force=True)
    assert row(beat, "a").definition.title == "new code"


def test_a_start_changes_nothing_of_its_own_revision_and_a_higher_one_does(town: Town) -> None:
    old = town.app(revision=1)
    old.declare("a", interval(minutes=5), close)
    old.service(("dispatcher",))
    changed = town.app(revision=1)
    changed.declare("a", interval(minutes=7), close)
    changed.service(("dispatcher",))
    assert row(old, "a").definition.trigger.fields["period_s"] == 300

    newer = town.app(revision=2)
    newer.declare("a", interval(minutes=7), close)
    newer.service(("dispatcher",))
    old.service(("dispatcher",))
    assert row(old, "a").definition.trigger.fields["period_s"] == 420
    assert row(old, "a").revision == 2


def test_prune_removes_what_is_declared_no_more_and_only_that(town: Town) -> None:
    beat = town.app()
    beat.declare("a", interval(minutes=5), close)
    beat.declare("b", interval(minutes=5), close)
    beat.apply()
    beat.schedules.put("by-hand", interval(minutes=5), close)
    later = town.app()
    later.declare("a", interval(minutes=5), close)

    assert verbs(later.apply().steps) == {"a": "keep", "b": "keep"}
    assert verbs(later.apply(prune=True).steps) == {"a": "keep", "b": "remove"}
    assert [found.name for found in beat.schedules.list()] == ["a", "by-hand"]


def test_what_a_person_deleted_stays_deleted_through_every_start(town: Town) -> None:
    beat = town.app(revision=3)
    beat.declare("a", interval(minutes=5), close)
    beat.apply()
    written = beat.schedules.delete("a")
    assert "brings it back" in written.warnings[0]

    beat.service(("dispatcher",))
    assert beat.schedules.list() == []

    beat.apply(revision=4)
    assert row(beat, "a").incarnation == 2


def test_what_a_person_deleted_stays_deleted_when_its_history_is_forgotten(town: Town) -> None:
    beat = town.app(revision=3)
    beat.declare("a", interval(minutes=5), close, keep_days=1)
    beat.apply()
    beat.schedules.delete("a")
    town.clock.advance(3 * DAY)
    assert beat.store.purge(town.clock.now(), 100).schedules == 1

    beat.service(("dispatcher",))
    assert beat.schedules.list() == []

    beat.apply(revision=4)
    assert row(beat, "a").incarnation == 2


def test_a_declared_one_off_that_has_fired_is_not_brought_back_to_fire_again(town: Town) -> None:
    beat = town.app(revision=3)
    beat.declare("move-the-archive", once(in_=minutes(5)), close, keep_days=1)
    beat.apply()
    town.clock.advance(HOUR)
    (due,) = beat.store.due(town.clock.now(), 10).rows
    assert beat.store.settle(town.clock.now(), [settle(due, town.clock.now())]).won == (True,)
    (run,) = beat.runs.list()
    beat.runs.cancel(run.id)
    town.clock.advance(3 * DAY)
    assert beat.store.purge(town.clock.now(), 100).runs == 1

    newer = town.app(revision=4)
    newer.declare("move-the-archive", once(in_=minutes(5)), close, keep_days=1)
    newer.service(("dispatcher",))
    town.clock.advance(HOUR)

    assert beat.store.due(town.clock.now(), 10).rows == ()
    assert row(beat, "move-the-archive").next_at is None


def test_whoever_came_in_between_is_read_and_decided_again(town: Town) -> None:
    other = town.app("bob")
    other.declare("a", interval(minutes=5), close)
    other.declare("b", interval(minutes=5), close)
    beat = town.meddled("put", lambda: other.apply() and None)
    beat.declare("a", interval(minutes=5), close)
    beat.declare("b", interval(minutes=5), close)
    beat.declare("c", interval(minutes=5), close)

    applied = beat.apply()

    assert verbs(applied.steps) == {"a": "keep", "b": "keep", "c": "create"}
    assert [len(beat.schedules.trail(name)) for name in "abc"] == [1, 1, 1]


def test_applying_against_somebody_who_never_stops_gives_up_and_says_so(town: Town) -> None:
    other = town.app("bob")
    other.schedules.put("a", interval(minutes=5), close)
    titles = iter(range(1000))
    beat = town.meddled(
        "put", lambda: other.schedules.edit("a", title=str(next(titles))) and None, times=1000
    )
    beat.declare("a", interval(minutes=7), close)

    with pytest.raises(Conflict, match="apply again"):
        beat.apply(force=True)


def test_applying_more_than_a_batch_applies_all(town: Town) -> None:
    beat = town.app()
    for number in range(1203):
        beat.declare(f"s{number:04}", once(in_=HOUR), close)

    applied = beat.apply()

    assert len(applied.changes) == 1203
    assert {step.verb for step in applied.steps} == {Verb.CREATE}
    assert verbs(town.app().apply(prune=True).steps) == {f"s{n:04}": "remove" for n in range(1203)}


def test_an_exported_definition_can_stand_for_a_declaration(town: Town) -> None:
    beat = town.app()
    beat.schedules.put("a", interval(minutes=5), close, tags=["x"])
    exported = beat.schedules.definitions(tag="x")
    elsewhere = Town()

    elsewhere.app().apply(definitions=exported)

    assert elsewhere.app().schedules.definitions() == exported


def test_a_target_that_no_live_node_announced_is_named_when_it_is_applied(town: Town) -> None:
    beat = town.app()
    beat.declare("a", interval(minutes=5), call("shop.orders:close"))

    (warning,) = beat.apply().warnings

    assert "python:shop.orders:close" in warning


def test_the_trail_says_who_applied_and_what_was_declared(town: Town) -> None:
    beat = town.app("carol", revision=7)
    beat.declare("a", interval(minutes=5), fail)
    beat.apply()

    (change,) = beat.schedules.trail("a")
    assert (change.actor, change.reason) == ("carol", "declared by app at revision 7")
