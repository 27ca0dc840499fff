"""The keyed checker: it finds nothing in a right history, and each planted fault, and only that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from onebeat.core.errors import InvalidInput
from onebeat.core.model import TriggerSpec
from onebeat.testing.history import Effect, Fault, Limits, Operation
from onebeat.testing.keyed import KINDS, Bounds, Judged, judge

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
END = T0 + timedelta(seconds=100)
LIMITED = Limits(max_running=2, overlap="queue_all", catch_up_max=10_000)
FREE = Limits(catch_up_max=10_000)
CRON = TriggerSpec(kind="cron", fields={"expression": "*/2 * * * * *"})


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def every(period: float, anchor: float = 0) -> TriggerSpec:
    fields = {"period_s": period, "anchor_at": at(anchor).isoformat()}
    return TriggerSpec(kind="interval", fields=fields)


class World:
    """What was asked and what was seen, as it would be if all went well."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.effects: list[Effect] = []
        self.faults: list[Fault] = []
        self.tokens = 0

    def asks(
        self, schedule: str, action: Any, second: float, answer: Any = "ok", took: float = 0.2, **more: Any
    ) -> None:
        number = len(self.operations)
        answered = {name: more.pop(name) for name in ("cut", "skips") if name in more}
        invoke = Operation(
            number=number, schedule=schedule, action=action, phase="invoke", at=at(second), **more
        )
        self.operations.append(invoke)
        if answer is not None:
            self.operations.append(
                replace(invoke, phase=answer, at=at(second + took), trigger=None, **answered)
            )

    def runs(self, schedule: str, second: float, *, life: int = 1, lasts: float = 0.1, **more: Any) -> str:
        incarnation = "" if life == 1 else f"~{life}"
        self.tokens += 1
        began = Effect(
            phase="began",
            run_id=f"{schedule}{incarnation}@{second:g}",
            schedule=schedule,
            occurrence_at=at(second),
            at=at(second + 0.01),
            token=self.tokens,
            node="one",
        )
        began = replace(began, **more)
        ended = replace(began, phase="ended", outcome="succeeded", at=began.at + timedelta(seconds=lasts))
        accepted = replace(ended, phase="accepted", state="succeeded", at=ended.at + timedelta(seconds=0.005))
        self.effects += [began, ended, accepted]
        return began.run_id

    def judged(self, **bounds: Any) -> Judged:
        given = {"recovery": timedelta(seconds=5)} | bounds
        return judge(self.operations, self.effects, self.faults, END, Bounds(**given))

    def found(self) -> dict[str, int]:
        return dict(self.judged().found)

    # --- what a planter needs ---

    def effect(self, run_id: str, phase: str = "began") -> Effect:
        return next(each for each in self.effects if (each.run_id, each.phase) == (run_id, phase))

    def swap(self, old: Effect, *new: Effect) -> None:
        place = self.effects.index(old)
        self.effects[place : place + 1] = new

    def forget(self, run_id: str) -> None:
        self.effects = [each for each in self.effects if each.run_id != run_id]


def right() -> World:
    """Schedules of several kinds, each put at -1, and edits of one, as seen when all is well."""
    world = World()
    world.asks("cron", "put", -1, trigger=CRON, limits=FREE)
    for second in range(0, 101, 2):
        world.runs("cron", second)
    world.asks("limited", "put", -1, trigger=every(1), limits=LIMITED)
    for second in range(101):
        world.runs("limited", second, lasts=1.5)
    once = replace(FREE, on_lost="fail", attempts=2)
    world.asks("at-most-once", "put", -1, trigger=every(5), limits=once)
    for second in range(0, 101, 5):
        world.runs("at-most-once", second)
    world.asks("folding", "put", -1, trigger=every(5), limits=replace(FREE, catch_up="latest"))
    for second in (*range(0, 21, 5), 40, *range(45, 101, 5)):
        fold: dict[str, Any] = {"first_at": at(25), "last_at": at(40), "count": 4} if second == 40 else {}
        world.runs("folding", second, **fold)
    # Edited: paused from 10.1 to 20.1, every 3 s from 40.1, deleted at 50.1, another life from 70.1.
    world.asks("edited", "put", -1, trigger=every(2), limits=FREE)
    world.asks("edited", "pause", 10, cut=at(10.1))
    world.asks("edited", "resume", 20, cut=at(20.1))
    world.asks("edited", "put", 40, trigger=every(3), limits=FREE, cut=at(40.1))
    world.asks("edited", "delete", 50, cut=at(50.1))
    world.asks("edited", "put", 70, trigger=every(2), limits=FREE, cut=at(70.1))
    world.asks("edited", "skip", 90, skips=(at(92),), cut=at(90.1))
    for second in (*range(0, 11, 2), *range(22, 41, 2), *range(42, 51, 3)):
        world.runs("edited", second)
    for second in (*range(72, 91, 2), *range(94, 101, 2)):
        world.runs("edited", second, life=2)
    world.asks("edited", "request", 30, run_id="edited!a")
    world.runs("edited", 30.3, run_id="edited!a", occurrence_at=None)
    for second in range(0, 101, 2):
        sunk = Effect(phase="counted", run_id=f"cron@{second}", schedule="cron", at=END)
        world.effects.append(sunk)
    return world


def test_a_right_history_has_no_findings_and_every_firing_is_counted() -> None:
    judged = right().judged()

    assert judged.findings == []
    assert judged.right
    assert judged.counts["fired"] == 51 + 101 + 21 + 18 + (6 + 10 + 3) + (10 + 4)
    assert judged.counts["folded"] == 3
    assert judged.counts["must"] == 48 + 21 + 96 + 20 + (6 + 10 + 3) + (10 + 1) - 1
    assert judged.counts["requests"] == 1
    assert judged.counts["repeated_bodies"] == 0
    assert len(judged.lateness) == judged.counts["fired"]


def drop(world: World) -> None:
    world.forget("cron@20")


def drop_the_first_of_a_definition(world: World) -> None:
    world.forget("edited@42")


def drop_within_a_fold(world: World) -> None:
    fold = world.effect("folding@40")
    world.swap(fold, replace(fold, first_at=at(30), count=3))


def drop_a_request(world: World) -> None:
    world.forget("edited!a")


def double_in_another_run(world: World) -> None:
    world.runs("cron", 20, run_id="cron@20-again")


def double_across_lives(world: World) -> None:
    world.runs("edited", 48, life=2)


def double_in_a_fold(world: World) -> None:
    world.runs("folding", 30)


def early(world: World) -> None:
    began = world.effect("cron@20")
    world.swap(began, replace(began, at=at(19.999)))


def into_the_deleted_span(world: World) -> None:
    world.runs("edited", 60)


def into_the_pause(world: World) -> None:
    world.runs("edited", 12)


def under_the_old_definition(world: World) -> None:
    world.runs("edited", 44)


def what_was_skipped(world: World) -> None:
    world.runs("edited", 92, life=2)


def off_the_grid(world: World) -> None:
    world.runs("limited", 20.5, lasts=0.01)


def unasked(world: World) -> None:
    world.runs("edited", 33, run_id="edited!b", occurrence_at=None)


def of_nobody(world: World) -> None:
    world.runs("stranger", 33)


def lie_about_a_delete(world: World) -> None:
    for second in range(51, 70, 3):
        world.runs("edited", second)


def lie_about_a_put(world: World) -> None:
    world.asks("silent", "put", 10, trigger=every(10), limits=FREE)


def under_the_same_token(world: World) -> None:
    began = world.effect("cron@20")
    world.effects.append(replace(began, at=began.at + timedelta(seconds=1), attempt=2))


def under_an_old_token(world: World) -> None:
    began = world.effect("cron@20")
    world.effects.append(replace(began, at=began.at + timedelta(seconds=1), token=-1, attempt=0))


def the_same_attempt_again(world: World) -> None:
    began = world.effect("cron@20")
    world.forget("cron@20")
    world.effects += [began, replace(began, at=began.at + timedelta(seconds=4), token=1000)]
    world.effects.append(Effect(phase="counted", run_id="cron@20", schedule="cron", at=END))


def again_though_lost_fails(world: World) -> None:
    began = world.effect("at-most-once@20")
    world.forget("at-most-once@20")
    world.effects += [began, replace(began, at=began.at + timedelta(seconds=4), token=1000, attempt=2)]


def two_ends(world: World) -> None:
    accepted = world.effect("cron@20", "accepted")
    world.effects.append(replace(accepted, token=-1, state="failed"))
    world.effects.append(replace(accepted, phase="refused", token=-2))
    world.effects = [
        each for each in world.effects if each.run_id != "cron@20" or each.phase in {"accepted", "counted"}
    ]
    world.effects.append(replace(accepted, phase="began", at=at(20.01), token=-1))


def after_the_end(world: World) -> None:
    began = world.effect("cron@20")
    world.effects.append(replace(began, at=began.at + timedelta(seconds=4), token=1000, attempt=2))


def accepted_from_who_had_lost_it(world: World) -> None:
    began, ended, accepted = (world.effect("cron@20", phase) for phase in ("began", "ended", "accepted"))
    world.swap(ended, replace(ended, at=at(25)))
    world.swap(accepted, replace(accepted, at=at(25.1), state="running"))
    world.effects.append(replace(began, at=at(24), token=1000, attempt=2))
    for phase, second in (("ended", 26.0), ("accepted", 26.1)):
        world.effects.append(
            replace(accepted, phase=phase, at=at(second), token=1000, attempt=2, state="succeeded")
        )


def still_its_own_when_another_had_begun(world: World) -> None:
    began, ended, accepted = (world.effect("cron@20", phase) for phase in ("began", "ended", "accepted"))
    world.swap(ended, replace(ended, at=at(25), mine=True))
    world.swap(accepted, replace(accepted, phase="refused", at=at(25.1), state="succeeded"))
    world.effects.append(replace(began, at=at(24), token=1000, attempt=2))
    for phase, second in (("ended", 24.5), ("accepted", 24.6)):
        world.effects.append(replace(accepted, phase=phase, at=at(second), token=1000, attempt=2))


def beyond_the_limit(world: World) -> None:
    ended, accepted = (world.effect("limited@20", phase) for phase in ("ended", "accepted"))
    world.swap(ended, replace(ended, at=at(22.5)))
    world.swap(accepted, replace(accepted, at=at(22.6)))


def twice_in_the_sink(world: World) -> None:
    counted = world.effect("cron@20", "counted")
    world.swap(counted, replace(counted, count=2))


def not_in_the_sink(world: World) -> None:
    world.effects.remove(world.effect("cron@20", "counted"))


def cut_before_the_call(world: World) -> None:
    answer = next(each for each in world.operations if each.action == "pause" and each.phase == "ok")
    world.operations[world.operations.index(answer)] = replace(answer, cut=at(9.9))


PLANTED: list[tuple[Callable[[World], None], dict[str, int]]] = [
    (drop, {"missing": 1}),
    (drop_the_first_of_a_definition, {"missing": 1}),
    (drop_within_a_fold, {"missing": 1}),
    (drop_a_request, {"missing": 1}),
    (double_in_another_run, {"doubled": 1, "sink": 1}),
    (double_across_lives, {"doubled": 1}),
    (double_in_a_fold, {"doubled": 1}),
    (early, {"early": 1}),
    (into_the_deleted_span, {"phantom": 1}),
    (into_the_pause, {"phantom": 1}),
    (under_the_old_definition, {"phantom": 1}),
    (what_was_skipped, {"phantom": 1}),
    (off_the_grid, {"phantom": 1}),
    (unasked, {"phantom": 1}),
    (of_nobody, {"phantom": 1}),
    (lie_about_a_delete, {"phantom": 7}),
    (lie_about_a_put, {"missing": 8}),
    (under_the_same_token, {"same lease": 1}),
    (under_an_old_token, {"overtaken": 1}),
    (still_its_own_when_another_had_begun, {"two holders": 1}),
    (the_same_attempt_again, {"attempt": 1}),
    (again_though_lost_fails, {"again": 1}),
    (two_ends, {"two ends": 1}),
    (after_the_end, {"after the end": 1}),
    (accepted_from_who_had_lost_it, {"stale end": 1}),
    (beyond_the_limit, {"overlap": 1}),
    (twice_in_the_sink, {"sink": 1}),
    (not_in_the_sink, {"sink": 1}),
    (cut_before_the_call, {"cut": 1}),
]


@pytest.mark.parametrize(("plant", "findings"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_found_and_only_that(
    plant: Callable[[World], None], findings: dict[str, int]
) -> None:
    world = right()

    plant(world)

    assert world.found() == findings


def test_every_kind_of_finding_has_been_planted() -> None:
    assert {kind for _, findings in PLANTED for kind in findings} == set(KINDS)


def test_where_leases_are_taken_from_holders_two_may_hold_one() -> None:
    world = right()
    still_its_own_when_another_had_begun(world)

    assert not world.judged(holders=False).found


def test_who_knows_that_it_holds_the_run_no_more_is_no_holder() -> None:
    world = right()
    still_its_own_when_another_had_begun(world)
    ended = world.effect("cron@20", "ended")
    world.swap(ended, replace(ended, mine=False))

    assert not world.found()


def test_a_body_that_began_again_is_counted_apart_where_nothing_had_been_done() -> None:
    world = right()
    still_its_own_when_another_had_begun(world)
    calm = world.judged(holders=False).counts
    world.faults.append(Fault(number=99, kind="killed", target="one", began_at=at(22), ended_at=at(23)))
    hurt = world.judged(holders=False).counts

    assert (calm["repeated_bodies"], calm["unprovoked_bodies"]) == (1, 1)
    assert (hurt["repeated_bodies"], hurt["unprovoked_bodies"]) == (1, 0)


# --- what is not certain ------------------------------------------------------------------------------


def asked(*calls: tuple[Any, ...], **more: Any) -> World:
    """Put a schedule of every 2 s at -1, then make these calls."""
    world = World()
    world.asks("one", "put", -1, trigger=every(2), limits=FREE)
    for action, second, answer, took in calls:
        world.asks("one", action, second, answer, took, **more)
    return world


def must_and_may(world: World) -> tuple[list[float], list[float]]:
    """Derive by firing: what must fire is missed without a body, what may not is a phantom with one."""
    must = [(each.at - T0).total_seconds() for each in world.judged().findings if each.kind == "missing"]
    for second in range(0, 101, 2):
        world.runs("one", second)
    phantom = {(each.at - T0).total_seconds() for each in world.judged().findings if each.kind == "phantom"}
    return must, [float(second) for second in range(0, 101, 2) if second not in phantom]


OWED = [float(second) for second in range(0, 95, 2)]
ALL = [float(second) for second in range(0, 101, 2)]


def outside(low: float, high: float, seconds: list[float] = OWED) -> list[float]:
    """The occurrences that are not in (low, high]."""
    return [second for second in seconds if not low < second <= high]


@pytest.mark.parametrize("answer", ["unknown", None])
def test_after_a_change_that_nobody_answered_everything_may_and_nothing_must(answer: str | None) -> None:
    must, may = must_and_may(asked(("pause", 11, answer, 1)))

    assert must == outside(11, 100)
    assert may == ALL


def test_between_a_call_and_its_answer_either_may_hold() -> None:
    must, may = must_and_may(asked(("pause", 11, "ok", 4)))

    assert must == outside(11, 100)
    assert may == outside(15, 100, ALL)


def test_a_cut_that_is_told_leaves_no_doubt() -> None:
    must, may = must_and_may(asked(("pause", 11, "ok", 4), cut=at(13)))

    assert must == outside(13, 100)
    assert may == outside(13, 100, ALL)


def test_what_the_store_refused_changes_nothing() -> None:
    must, may = must_and_may(asked(("delete", 11, "fail", 4)))

    assert must == outside(11, 15)
    assert may == ALL


def test_a_later_answer_ends_the_doubt_about_an_earlier_call() -> None:
    world = asked(("delete", 11, "unknown", 1), ("put", 21, "ok", 1), trigger=every(2), limits=FREE)
    must, may = must_and_may(world)

    assert must == outside(11, 22)
    assert may == ALL


def test_a_doubt_that_has_ended_does_not_come_back_with_the_next_call() -> None:
    world = asked(("delete", 11, "unknown", 1), ("put", 21, "ok", 1), trigger=every(2), limits=FREE)
    world.asks("one", "resume", 31, "ok", 4)
    must, may = must_and_may(world)

    assert must == outside(11, 22)
    assert may == ALL


def test_a_doubt_about_a_pause_outlives_a_change_that_leaves_pauses_alone() -> None:
    world = asked(("pause", 11, "unknown", 1), ("put", 21, "ok", 1), trigger=every(2), limits=FREE)
    must, may = must_and_may(world)

    assert must == outside(11, 100)
    assert may == ALL


def test_a_pause_that_is_acknowledged_proves_that_the_delete_before_it_did_not_happen() -> None:
    must, may = must_and_may(
        asked(("delete", 11, "unknown", 1), ("pause", 21, "ok", 1), ("resume", 31, "ok", 1))
    )

    assert must == outside(11, 32)
    assert may == outside(22, 31, ALL)


def test_calls_of_two_editors_that_overlap_may_have_come_in_either_order() -> None:
    must, may = must_and_may(asked(("pause", 11, "ok", 4), ("resume", 12, "ok", 4)))

    assert must == outside(11, 100)
    assert may == ALL


def test_cuts_of_calls_that_overlap_do_not_say_which_came_first() -> None:
    must, may = must_and_may(asked(("pause", 11, "ok", 4), ("resume", 12, "ok", 4), cut=at(13)))

    assert must == outside(11, 100)
    assert may == ALL


def test_many_calls_that_nobody_answered_are_judged_at_once() -> None:
    silent = [
        (action, 11 + n / 10, "unknown", 0.05) for n in range(20) for action in ("put", "pause", "delete")
    ]
    must, may = must_and_may(asked(*silent, trigger=every(2), limits=FREE))

    assert must == outside(11, 100)
    assert may == ALL


def test_a_skip_that_nobody_answered_makes_its_next_occurrence_uncertain() -> None:
    must, may = must_and_may(asked(("skip", 11, "unknown", 1), ("resume", 15, "ok", 1)))

    assert must == outside(11, 18)
    assert may == ALL


def test_a_spread_that_nobody_outside_knows_makes_what_is_near_an_edit_uncertain() -> None:
    world = World()
    spread = replace(FREE, spread_s=4.0)
    world.asks("one", "put", -1, trigger=every(2), limits=spread)
    world.asks("one", "pause", 21, cut=at(21.1))
    must, may = must_and_may(world)

    assert must == [float(second) for second in range(0, 18, 2)]
    assert may == outside(21, 100, ALL)


def test_a_spread_may_move_what_came_before_a_schedule_was_put_behind_that() -> None:
    world = World()
    world.asks("one", "put", 3, trigger=every(2), limits=replace(FREE, spread_s=4.0), cut=at(3.1))
    must, may = must_and_may(world)

    assert must == [float(second) for second in range(4, 92, 2)]
    assert may == ALL


@pytest.mark.parametrize(
    "limits",
    [
        replace(FREE, overlap="skip", max_running=1),
        replace(FREE, overlap="cancel_running", max_running=1),
        replace(FREE, grace_s=3.0),
        replace(FREE, start_within_s=3.0),
        replace(FREE, catch_up="skip"),
    ],
)
def test_where_a_policy_may_skip_nothing_is_certain(limits: Limits) -> None:
    world = World()
    world.asks("one", "put", -1, trigger=every(2), limits=limits)

    assert must_and_may(world) == ([], ALL)


def test_what_waited_for_a_slot_when_its_schedule_was_deleted_need_not_have_run() -> None:
    world = World()
    world.asks("one", "put", -1, trigger=every(2), limits=LIMITED)
    world.asks("one", "delete", 21, cut=at(21.1))

    assert must_and_may(world) == ([], outside(21, 100, ALL))


def test_what_came_too_late_to_be_recovered_is_not_yet_missing() -> None:
    world = right()
    world.forget("cron@98")

    assert world.judged().counts["must"] == right().judged().counts["must"]
    assert world.found() == {}
    assert dict(world.judged(recovery=timedelta(seconds=2)).found) == {"missing": 1}


def test_an_onlooker_who_stayed_longer_knows_what_is_missing_to_the_end() -> None:
    world = right()
    world.forget("cron@98")

    stayed = judge(world.operations, world.effects, [], END, over=END + timedelta(minutes=1))

    assert dict(stayed.found) == {"missing": 1}


def test_a_body_that_may_begin_once_at_most_may_have_died_in_a_fault() -> None:
    world = right()
    world.forget("at-most-once@20")
    assert world.found() == {"missing": 1}

    world.faults.append(Fault(number=1, kind="kill", target="one", began_at=at(20), ended_at=at(20.1)))

    judged = world.judged()
    assert judged.right
    assert judged.counts["at_most_once"] == 1


def test_a_second_body_after_a_lease_that_lapsed_is_counted_and_right() -> None:
    world = right()
    ended, accepted = (world.effect("cron@20", phase) for phase in ("ended", "accepted"))
    world.effects.remove(accepted)
    world.effects.remove(ended)
    began = world.effect("cron@20")
    world.effects.append(replace(began, at=began.at + timedelta(seconds=4), token=1000, attempt=2))

    judged = world.judged()
    assert judged.right
    assert judged.counts["repeated_bodies"] == 1


def test_a_body_that_is_tried_again_because_it_failed_is_no_repetition() -> None:
    world = right()
    for phase in ("ended", "accepted"):
        said = world.effect("at-most-once@20", phase)
        world.swap(said, replace(said, outcome="failed", state="waiting" if phase == "accepted" else None))
    began = world.effect("at-most-once@20")
    world.effects.append(replace(began, at=began.at + timedelta(seconds=4), token=1000, attempt=2))

    judged = world.judged()
    assert judged.right
    assert (judged.counts["retried_bodies"], judged.counts["repeated_bodies"]) == (1, 0)


def test_a_stopped_body_that_begins_after_its_lease_is_no_finding_but_counted() -> None:
    world = right()
    under_an_old_token(world)
    world.faults.append(Fault(number=1, kind="stop", target="one", began_at=at(20.1), ended_at=at(21)))

    judged = world.judged()
    assert judged.right
    assert judged.counts["overtaken"] == 1


def test_a_body_that_outlived_its_lease_holds_no_slot() -> None:
    world = right()
    ended, accepted = (world.effect("limited@20", phase) for phase in ("ended", "accepted"))
    world.swap(ended, replace(ended, at=at(29)))
    world.swap(accepted, replace(accepted, at=at(29.1), phase="refused", state=None))

    assert world.found() == {}


def test_a_cron_expression_that_the_oracle_cannot_read_as_ours_is_refused() -> None:
    world = World()
    days = TriggerSpec(kind="cron", fields={"expression": "0 9 13 * FRI", "days": "all"})
    world.asks("one", "put", -1, trigger=days, limits=FREE)

    with pytest.raises(InvalidInput, match="days"):
        world.judged()


# --- any history --------------------------------------------------------------------------------------


class Deed(NamedTuple):
    """One call: what is asked, how long it takes, where in that it takes effect, what its editor learns."""

    action: str
    period: int
    pause_s: float
    took_s: float
    share: float
    told: str  # ok, with its cut, unknown though done, unknown and not done, done late, fail


DEEDS = st.builds(
    Deed,
    action=st.sampled_from(["put", "put", "pause", "resume", "delete"]),
    period=st.integers(1, 4),
    pause_s=st.floats(0.1, 9),
    took_s=st.floats(0.1, 5),
    share=st.floats(0.01, 0.99),
    told=st.sampled_from(["ok", "ok", "cut", "cut", "done", "not done", "late", "fail"]),
)


def lived(deeds: list[Deed]) -> tuple[World, dict[float, str]]:
    """Live through calls as a right ledger would. Beside the world: the runs that fired, by occurrence."""
    world, now, period, paused = World(), 0.0, 0, False
    changes: list[tuple[float, int, bool]] = []
    for deed in deeds:
        begin, end = now + deed.pause_s, now + deed.pause_s + deed.took_s
        now = end
        effect = begin + deed.share * deed.took_s
        told = deed.told
        if told == "late":  # after its editor gave up, and before the next call
            effect = now = end + deed.took_s
        if deed.action != "put" and not period:
            told = "fail"
        words: dict[str, Any] = {}
        if deed.action == "put":
            words = {"trigger": every(deed.period), "limits": FREE}
        answer = {"ok": "ok", "cut": "ok", "fail": "fail"}.get(told, "unknown")
        cut = {"cut": at(effect)} if told == "cut" else {}
        world.asks("one", deed.action, begin, answer, end - begin, **words, **cut)
        if told in {"fail", "not done"}:
            continue
        match deed.action:
            case "put":
                period, paused = deed.period, paused and period > 0
            case "delete":
                period, paused = 0, False
            case _:
                paused = deed.action == "pause"
        changes.append((effect, period, paused))
    fired = {}
    for (since, period, paused), (until, _, _) in pairwise([*changes, (100.0, 0, False)]):
        if period and not paused:
            for second in range(0, 101, period):
                if since < second <= until:
                    fired[float(second)] = world.runs("one", second)
    return world, fired


@given(st.lists(DEEDS, max_size=12))
def test_no_history_of_a_right_ledger_is_called_wrong(deeds: list[Deed]) -> None:
    world, _ = lived(deeds)

    assert world.judged().findings == []


@given(st.lists(DEEDS, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_what_a_wrong_ledger_does_is_found_wherever_nothing_is_in_doubt(deeds: list[Deed], rng: Any) -> None:
    sure = [deed._replace(told="cut") for deed in deeds]
    world, fired = lived(sure)
    silent = sorted({float(second) for second in range(100)} - fired.keys())

    if wrong := [second for second in silent if second > 0]:
        world.runs("one", rng.choice(wrong))
        assert world.found() == {"phantom": 1}
    if owed := [second for second in fired if second <= 95]:
        world, _ = lived(sure)
        world.forget(fired[rng.choice(owed)])
        assert world.found() == {"missing": 1}
