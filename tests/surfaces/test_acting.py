"""Acting is immediate: read, decide, commit, and again while somebody else is faster."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.surfaces.stage import HOUR, MINUTE, Town, at, close, report

from onebeat import (
    Conflict,
    InvalidInput,
    LimitExceeded,
    NotFound,
    Refused,
    TriggerSpec,
    call,
    interval,
    minutes,
    once,
    seconds,
)
from onebeat.core.definition import define
from onebeat.core.edits import quarantine
from onebeat.testing.virtual import VirtualOnebeat

HOURLY = interval(hours=1)


@pytest.fixture
def town() -> Town:
    return Town()


# --- put ------------------------------------------------------------------------------------------------


def test_a_schedule_that_is_put_is_there_when_the_call_returns(town: Town) -> None:
    written = town.app().schedules.put("a", HOURLY, close)

    assert written.changed
    assert written.cut_at == at(12)
    assert written.schedule.next_at == at(13)
    assert town.app().schedules.show("a").schedule == written.schedule


def test_a_name_that_is_taken_is_a_conflict_unless_the_caller_chose(town: Town) -> None:
    schedules = town.app().schedules
    first = schedules.put("a", HOURLY, close).schedule

    with pytest.raises(Conflict, match="if_exists"):
        schedules.put("a", interval(hours=2), close)
    assert not schedules.put("a", interval(hours=2), close, if_exists="ignore").changed
    assert schedules.show("a").schedule == first

    replaced = schedules.put("a", interval(hours=2), close, if_exists="replace")
    assert replaced.changed
    assert replaced.schedule.definition.trigger.fields["period_s"] == 7200


def test_replacing_with_the_same_changes_nothing(town: Town) -> None:
    schedules = town.app().schedules
    first = schedules.put("a", HOURLY, close).schedule

    again = schedules.put("a", HOURLY, close, if_exists="replace")

    assert (again.changed, again.schedule) == (False, first)


def test_if_exists_has_three_words(town: Town) -> None:
    with pytest.raises(InvalidInput, match="error, replace, ignore"):
        town.app().schedules.put("a", HOURLY, close, if_exists="overwrite")  # type: ignore[arg-type]  # on purpose


def test_a_put_that_loses_the_race_meets_what_is_there_then(town: Town) -> None:
    other = town.app("bob")
    beat = town.meddled("put", lambda: other.schedules.put("a", interval(hours=2), close) and None)

    with pytest.raises(Conflict, match="already"):
        beat.schedules.put("a", HOURLY, close)
    assert len(beat.schedules.trail("a")) == 1


def test_a_name_used_again_is_the_next_incarnation(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, close)
    schedules.delete("a")

    written = schedules.put("a", HOURLY, close)

    assert (written.schedule.incarnation, written.schedule.deleted) == (2, False)


def test_a_schedule_may_begin_paused_and_with_a_run(town: Town) -> None:
    beat = town.app()
    written = beat.schedules.put("a", HOURLY, close, paused=True, run_now=True, reason="not yet")

    assert (written.schedule.paused, written.schedule.next_at) == ("not yet", None)
    assert [run.id for run in beat.runs.list()] == ["a!created"]


def test_many_are_put_in_few_transactions(town: Town) -> None:
    beat = town.app()
    definitions = {f"close-{n}": define(once(in_=minutes(30)), call(close, n), {}) for n in range(1201)}
    done: list[int] = []

    written = beat.schedules.put_all(definitions, progress=done.append)

    assert [each.schedule.name for each in written] == list(definitions)
    assert done == [500, 500, 201]
    assert len(beat.schedules.list(limit=5000)) == 1201
    assert not any(each.changed for each in beat.schedules.put_all(definitions, if_exists="ignore"))


def test_many_that_meet_somebody_else_are_decided_again_alone(town: Town) -> None:
    other = town.app("bob")
    beat = town.meddled("put", lambda: other.schedules.put("b", HOURLY, close) and None)
    definitions = {name: define(HOURLY, close, {}) for name in "abc"}

    written = beat.schedules.put_all(definitions, if_exists="ignore")

    assert [each.changed for each in written] == [True, False, True]


def test_names_are_checked_before_anything_is_written(town: Town) -> None:
    beat = town.app()
    with pytest.raises(InvalidInput, match="schedule name"):
        beat.schedules.put("Täglich", HOURLY, close)
    with pytest.raises(InvalidInput, match="schedule name"):
        beat.schedules.put_all({"a": define(HOURLY, close, {}), "B": define(HOURLY, close, {})})
    assert beat.schedules.list() == []


# --- edit -----------------------------------------------------------------------------------------------


def test_an_edit_changes_what_is_given_and_keeps_the_rest(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, call(close, 1), grace=MINUTE, tags=["x"], queue="mail", title="t")

    after = schedules.edit("a", args=[2], timeout=5).schedule.definition

    assert after.target == replace(call(close, 2), queue="mail")
    assert (after.policy.grace, after.policy.timeout) == (MINUTE, seconds(5))
    assert (after.tags, after.title) == (("x",), "t")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"title": "new"}, "title", "new"),
        ({"tags": ["y", "z"]}, "tags", ("y", "z")),
        ({"tags": []}, "tags", ()),
        ({"target": report}, "target", replace(call(report, 1), queue="mail")),
        ({"target": call(report)}, "target", replace(call(report), queue="mail")),
        ({"kwargs": {"force": True}}, "target", replace(call(close, 1, force=True), queue="mail")),
        ({"queue": "fast"}, "target", replace(call(close, 1), queue="fast")),
    ],
)
def test_each_part_can_be_edited_alone(town: Town, change: dict[str, Any], field: str, value: Any) -> None:
    schedules = town.app().schedules
    before = schedules.put("a", HOURLY, call(close, 1), tags=["x"], queue="mail").schedule.definition
    if change.get("target") is report:
        change = {**change, "args": []}
        value = replace(call(report), queue="mail")

    after = schedules.edit("a", **change).schedule.definition

    assert after == replace(before, **{field: value})


def test_an_edit_of_nothing_is_refused_and_one_to_the_same_changes_nothing(town: Town) -> None:
    schedules = town.app().schedules
    before = schedules.put("a", HOURLY, close, title="t").schedule

    with pytest.raises(InvalidInput, match="nothing"):
        schedules.edit("a")
    assert schedules.edit("a", title="t").schedule == before


def test_a_limit_is_taken_away_by_none(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, close, grace=MINUTE)

    assert schedules.edit("a", grace=None).schedule.definition.policy.grace is None


def test_an_edit_that_meets_a_settling_dispatcher_is_decided_again(onebeat: VirtualOnebeat) -> None:
    onebeat.allow(report.__module__)
    onebeat.schedules.put("a", interval(minutes=1), report)
    onebeat.at("2026-11-21T12:00:30")
    for minute in range(3):
        onebeat.run_until(f"2026-11-21T12:0{minute + 1}:00")
        onebeat.schedules.edit("a", title=str(minute))

    assert onebeat.audit().right


def test_the_second_of_two_editors_gets_a_conflict_and_nothing_is_lost(town: Town) -> None:
    ada, bob = town.app("ada"), town.app("bob")
    ada.schedules.put("a", HOURLY, close)
    seen = ada.schedules.show("a").schedule.version

    bob.schedules.edit("a", title="bob's", expected_version=seen)
    with pytest.raises(Conflict, match="somebody changed it"):
        ada.schedules.edit("a", title="ada's", expected_version=seen)
    assert ada.schedules.show("a").schedule.definition.title == "bob's"


def test_an_expected_version_is_also_held_against_who_comes_between_read_and_put(town: Town) -> None:
    bob = town.app("bob")
    version = bob.schedules.put("a", HOURLY, close).schedule.version
    ada = town.meddled("put", lambda: bob.schedules.edit("a", title="bob's") and None)

    with pytest.raises(Conflict):
        ada.schedules.edit("a", title="ada's", expected_version=version)
    assert [change.actor for change in bob.schedules.trail("a")] == ["bob", "bob"]


def test_a_row_that_never_stands_still_is_given_up_without_a_trace(town: Town) -> None:
    bob = town.app("bob")
    bob.schedules.put("a", HOURLY, close)
    titles = iter(range(1000))
    ada = town.meddled("put", lambda: bob.schedules.edit("a", title=str(next(titles))) and None, times=1000)

    with pytest.raises(Conflict, match="try again"):
        ada.schedules.edit("a", max_running=2)
    assert {change.actor for change in bob.schedules.trail("a")} == {"bob"}


def test_a_cut_that_grew_old_on_the_way_is_taken_anew(town: Town) -> None:
    beat = town.meddled("put", lambda: town.clock.advance(2 * MINUTE) and None)

    written = beat.schedules.put("a", HOURLY, close)

    assert written.cut_at == at(12, 2)


def test_an_edit_brings_a_quarantined_schedule_back(town: Town) -> None:
    beat = town.app()
    row = beat.schedules.put("a", HOURLY, close).schedule
    author = beat._desk.author("bad bytes")
    town.store.put([quarantine(row, town.store.owing(["a"])[0][1], author)])
    assert "quarantined: bad bytes" in beat.schedules.show("a").warnings[0]

    assert beat.schedules.edit("a", title="mended").schedule.quarantined is None


def test_a_schedule_whose_trigger_broke_needs_a_new_one(town: Town) -> None:
    beat = town.app()
    row = beat.schedules.put("a", HOURLY, close).schedule
    broken = replace(row.definition, trigger=TriggerSpec(kind="broken"))
    town.store._rows[row.id] = replace(row, quarantined="bad bytes", definition=broken)

    with pytest.raises(Refused, match="give it a trigger"):
        beat.schedules.edit("a", title="mended")
    assert beat.why("a", at(13)).fate == "quarantined"
    assert beat.schedules.edit("a", trigger=HOURLY).schedule.quarantined is None


# --- the other acts -------------------------------------------------------------------------------------


def test_pause_resume_and_delete_are_in_force_at_once(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, close)

    assert schedules.pause("a", "lunch").schedule.paused == "lunch"
    assert not schedules.pause("a", "lunch").changed
    assert schedules.resume("a").schedule.next_at == at(13)
    assert not schedules.resume("a").changed
    assert schedules.delete("a").schedule.deleted
    with pytest.raises(NotFound, match="was deleted"):
        schedules.pause("a")


def test_skip_next_goes_on_to_the_one_after(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, close)
    schedules.skip_next("a")

    assert schedules.skip_next("a").schedule.skips == (at(13), at(14))
    assert schedules.show("a").upcoming[0] == at(15)


def test_a_mark_that_is_taken_back_lets_its_occurrence_fire(onebeat: VirtualOnebeat) -> None:
    onebeat.allow(report.__module__)
    onebeat.schedules.put("a", HOURLY, report)
    for _ in range(2):
        onebeat.schedules.skip_next("a", "a holiday")

    assert onebeat.schedules.unskip("a", "no holiday").schedule.skips == (at(13),)
    assert [run.occurrence_at for run in onebeat.run_until("2026-11-21T15:00:00")] == [at(14), at(15)]
    assert not onebeat.schedules.unskip("a").changed
    assert [change.action.rpartition(".")[2] for change in onebeat.schedules.trail("a")] == [
        "created",
        "skip_next",
        "skip_next",
        "skip_undone",
    ]
    assert onebeat.audit().right


def test_nothing_is_skipped_of_a_schedule_that_does_not_fire(town: Town) -> None:
    schedules = town.app().schedules
    schedules.put("a", HOURLY, close, paused=True)

    with pytest.raises(Refused, match="paused"):
        schedules.skip_next("a")


@pytest.mark.parametrize(
    "act", ["pause", "resume", "delete", "skip_next", "unskip", "show", "trail", "where"]
)
def test_a_name_that_is_not_there_is_told_with_the_nearest(town: Town, act: str) -> None:
    schedules = town.app().schedules
    schedules.put("daily-report", HOURLY, close)

    with pytest.raises(NotFound, match="did you mean 'daily-report'"):
        getattr(schedules, act)("dialy-report")


def test_a_hold_stops_all_firing_and_what_was_owed_meets_catch_up(onebeat: VirtualOnebeat) -> None:
    onebeat.allow(report.__module__)
    onebeat.schedules.put("a", interval(minutes=1), report)
    assert onebeat.hold("maintenance") is None
    assert onebeat.run_until("2026-11-21T12:10:00") == []

    hold = onebeat.hold("again")
    assert hold is not None
    assert hold.reason == "maintenance"
    onebeat.release()
    (run,) = onebeat.run_for(seconds(2))
    assert run.fold is not None
    assert run.fold.count == 10
    assert onebeat.release() is None


def test_an_edit_under_a_hold_fires_nothing_and_the_new_definition_meets_what_is_owed(town: Town) -> None:
    beat = town.app()
    beat.schedules.put("a", interval(minutes=1, anchor=at(12)), close)
    beat.hold("it mails everybody")
    town.clock.advance(10 * MINUTE)

    after = beat.schedules.edit("a", trigger=interval(minutes=5, anchor=at(12))).schedule

    assert after.next_at == at(12, 5)
    assert beat.runs.list() == []
    assert beat.audit().right


def test_an_edit_that_a_hold_overtakes_is_decided_again_without_firing(town: Town) -> None:
    beat = town.app()
    beat.schedules.put("a", interval(minutes=1, anchor=at(12)), close)
    town.clock.advance(10 * MINUTE)
    meddled = town.meddled("put", lambda: beat.hold("stop") and None)

    after = meddled.schedules.edit("a", title="mended").schedule

    assert after.next_at == at(12, 1)
    assert beat.runs.list() == []


def test_an_edit_that_a_release_overtakes_leaves_what_was_owed_to_the_new_definition(town: Town) -> None:
    beat = town.app()
    beat.schedules.put("a", interval(minutes=1, anchor=at(12)), close)
    beat.hold("stop")
    town.clock.advance(10 * MINUTE)
    meddled = town.meddled("put", lambda: beat.release() and None)

    after = meddled.schedules.edit("a", title="mended").schedule

    assert (after.definition.title, after.next_at) == ("mended", at(12, 1))
    assert beat.runs.list() == []


def test_what_a_person_asks_for_starts_under_a_hold(town: Town) -> None:
    beat = town.app()
    beat.hold("stop")
    beat.schedules.put("a", HOURLY, close, run_now=True, overlap="allow")

    beat.runs.request("a")

    assert len(beat.runs.list(states=["ready"])) == 2


# --- what a person should know ---------------------------------------------------------------------------


def test_arguments_that_do_not_fit_an_imported_function_are_refused(town: Town) -> None:
    with pytest.raises(InvalidInput, match="does not take"):
        town.app().schedules.put("a", HOURLY, call(close, 1, 2))


def test_a_target_that_cannot_be_reached_from_here_is_unverified_and_flagged(town: Town) -> None:
    written = town.app().schedules.put("a", HOURLY, call("shop.orders:close", 1))

    assert "unverified" in written.warnings[0]
    assert "no live node has announced python:shop.orders:close" in written.warnings[1]


def test_a_module_that_nobody_imported_is_not_imported_to_check_a_target(town: Town) -> None:
    written = town.app().schedules.put("a", HOURLY, call("this:x"))

    assert "unverified" in written.warnings[0]


def test_a_target_that_a_live_node_announced_is_not_flagged(onebeat: VirtualOnebeat) -> None:
    onebeat.declare("b", interval(hours=1), report)
    onebeat.run_for(seconds(2))

    assert onebeat.schedules.put("a", interval(hours=1), report).warnings == ()
    assert onebeat.schedules.show("a").warnings == ()


def test_a_schedule_is_shown_with_its_load_and_its_last_runs(onebeat: VirtualOnebeat) -> None:
    onebeat.allow(report.__module__)
    onebeat.schedules.put("a", interval(minutes=1), report)
    onebeat.run_until("2026-11-21T12:03:00")

    shown = onebeat.schedules.show("a")

    assert [run.due_at for run in shown.last_runs] == [at(12, 3), at(12, 2), at(12, 1)]
    assert shown.upcoming[0] == at(12, 4)
    assert shown.load.live == 0


# --- preview --------------------------------------------------------------------------------------------


def test_a_preview_is_of_a_name_a_text_or_a_trigger(town: Town) -> None:
    beat = town.app(zone="Asia/Shanghai")
    beat.schedules.put("a", "0 9 * * *", close)
    morning = at(1, day=22)

    assert beat.preview("a", 1) == [morning]
    assert beat.preview("0 9 * * *", 1) == [morning]
    assert beat.preview(interval(hours=13), 1) == [morning]
    assert beat.preview("0 9 * * *", 1)[0].isoformat() == "2026-11-22T09:00:00+08:00"
    assert beat.runs.list() == []


def test_a_preview_ends_where_the_trigger_does(town: Town) -> None:
    beat = town.app()

    assert beat.preview(once(at(13)), 5) == [at(13)]
    assert beat.preview(once(at(11)), 5) == []
    assert beat.preview(once(in_=HOUR), 5) == [at(13)]
    assert beat.preview(HOURLY, 2, after=at(20)) == [at(21), at(22)]


def test_a_preview_is_bounded_and_knows_its_input(town: Town) -> None:
    beat = town.app()
    with pytest.raises(LimitExceeded):
        beat.preview("0 9 * * *", 10_001)
    with pytest.raises(NotFound):
        beat.preview("nobody")
    with pytest.raises(InvalidInput):
        beat.preview("0 9 * *")
    with pytest.raises(InvalidInput):
        beat.preview(TriggerSpec(kind="crom"))


# --- the store ------------------------------------------------------------------------------------------


def test_an_app_can_be_closed_again_and_used_again(tmp_path: Any) -> None:
    from onebeat import Onebeat

    with Onebeat(f"sqlite:///{tmp_path}/a.db") as beat:
        beat.schedules.put("a", HOURLY, close)
    beat.close()
    assert [row.name for row in beat.schedules.list()] == ["a"]
    beat.close()


def test_the_ledger_may_be_named_until_it_is_open(town: Town) -> None:
    from onebeat import Onebeat

    beat = Onebeat("sqlite:////nowhere/at/all.db", clock=town.clock)
    beat.url = "memory://"
    assert beat.schedules.list() == []
    with pytest.raises(Refused, match="open already"):
        beat.url = "sqlite:///other.db"
