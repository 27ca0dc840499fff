"""The judge of the demo sees what is wrong, and says nothing of what is right."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onebeat.demo.expect import SECOND, Every, Expectation
from onebeat.demo.outside import Line
from onebeat.demo.picture import Change, Deed, Ending, Held, Picture, Run, Tile
from onebeat.demo.verdict import Case, Verdict, judge, percentile

S = SECOND
JUDGES = ("expect", "ledger", "outside", "picture", "verdict")
EVERY = Every(period=S, anchor=0)


def run(n: int, **rest: Any) -> Run:
    fields = {
        "id": f"a@{n}",
        "state": "succeeded",
        "due": n * S,
        "created": n * S + 1000,
        "occurrence": n * S,
        "token": 100 + n,
    }
    return Run(schedule="a", **{**fields, **rest})


def fired(n: int, **rest: Any) -> Tile:
    fields = {"before": (n - 1) * S, "after": n * S, "count": 1, "run": f"a@{n}", "occurrence": n * S}
    return Tile(schedule="a", fired=True, **{**fields, **rest})


def skipped(first: int, last: int, reason: str, count: int | None = None) -> Tile:
    number = last - first + 1 if count is None else count
    return Tile(schedule="a", before=(first - 1) * S, after=last * S, count=number, reason=reason)


def line(n: int, what: str = "begin", attempt: int = 1, **rest: Any) -> Line:
    fields = {"at": n * S + 2000 + (what != "begin"), "token": 100 + n, "pid": 1, "run": f"a@{n}"}
    return Line(schedule="a", occurrence=n * S, what=what, attempt=attempt, **{**fields, **rest})


def created(expectation: Expectation = EVERY, at: int = S // 2) -> tuple[Change, Deed]:
    change = Change("a", version=1, action="schedule.created", cut=at)
    return change, Deed("a", "schedule.created", at - 10, at + 10, expectation)


def healthy(upto: int = 5, **policy: Any) -> Case:
    """A schedule of every second, of which five occurrences fired, ran and left their lines."""
    change, deed = created()
    picture = Picture(
        tiles=[fired(n) for n in range(1, upto + 1)],
        runs=[run(n) for n in range(1, upto + 1)],
        changes=[change],
        marks={"a": upto * S},
    )
    lines = [each for n in range(1, upto + 1) for each in (line(n), line(n, "end"))]
    return Case(
        picture=picture,
        lines=lines,
        deeds=[deed],
        policies={"a": {"catch_up": "all", "overlap": "allow", **policy}},
        closed=upto * S + S // 2,
        tolerance=S,
    )


def seen(case: Case, **changes: Any) -> Verdict:
    return judge(replace(case, picture=replace(case.picture, **changes)))


def test_a_healthy_ledger_is_praised_and_counted() -> None:
    verdict = judge(healthy())

    assert verdict.ok
    assert not verdict.problems
    assert (verdict.expected, verdict.fired, verdict.effects, verdict.owed) == (5, 5, 5, 0)
    assert verdict.late == [1000] * 5


def test_a_lost_run_row_is_a_gap_and_an_effect_without_a_run() -> None:
    case = healthy()
    verdict = seen(case, tiles=case.picture.tiles[1:], runs=case.picture.runs[1:])

    assert not verdict.ok
    assert verdict.missed == 1
    assert len(verdict.problems) == 2  # the mark and the outside file both say so


def test_two_tiles_over_one_occurrence_are_doubled() -> None:
    case = healthy()
    again = fired(3, before=S, run="a@3!copy")

    assert seen(case, tiles=[*case.picture.tiles, replace(again, count=2)]).doubled >= 1


def test_two_runs_of_one_occurrence_are_doubled() -> None:
    case = healthy()

    assert seen(case, runs=[*case.picture.runs, run(3, id="a@3-copy", token=0, state="failed")]).doubled == 1


def test_a_request_for_an_occurrence_is_no_double() -> None:
    case = healthy()
    asked = run(3, id="a!key", requested=True, token=7)
    verdict = judge(
        replace(
            case,
            picture=replace(case.picture, runs=[*case.picture.runs, asked]),
            lines=[*case.lines, line(3, run="a!key", token=7)],
        )
    )

    assert verdict.ok
    assert verdict.requested == 1


def test_an_effect_twice_under_one_attempt_is_doubled() -> None:
    case = healthy()

    assert judge(replace(case, lines=[*case.lines, line(2)])).doubled == 1


def test_an_effect_repeated_after_a_lost_attempt_is_explained_and_counted_apart() -> None:
    case = healthy()
    runs = [replace(each, attempt=2, token=999) if each.id == "a@2" else each for each in case.picture.runs]
    lines = [*case.lines, line(2, attempt=2, token=999)]
    lost = [Ending("a@2", 1, "lost", at=4 * S)]

    explained = judge(replace(case, lines=lines, picture=replace(case.picture, runs=runs, endings=lost)))
    unexplained = judge(replace(case, lines=lines, picture=replace(case.picture, runs=runs)))

    assert explained.ok
    assert (explained.again_lost, explained.takeovers, explained.doubled) == (1, 1, 0)
    assert unexplained.doubled == 1


def test_a_run_that_must_not_run_again_and_does_is_doubled() -> None:
    case = healthy(on_lost="fail")
    runs = [replace(each, attempt=2, token=999) if each.id == "a@2" else each for each in case.picture.runs]
    lost = [Ending("a@2", 1, "lost", at=4 * S)]
    again = [*case.lines, line(2, attempt=2, token=999)]
    unbegun = [replace(each, attempt=2, token=999) if each.run == "a@2" else each for each in case.lines]
    picture = replace(case.picture, runs=runs, endings=lost)

    assert judge(replace(case, lines=again, picture=picture)).doubled == 1
    assert judge(replace(case, lines=unbegun, picture=picture)).ok  # lost before its body began


def test_the_accepted_outcome_must_carry_the_token_of_a_body_that_ran() -> None:
    case = healthy()
    runs = [replace(each, token=5) if each.id == "a@2" else each for each in case.picture.runs]

    assert seen(case, runs=runs).missed == 1


def test_an_occurrence_that_nobody_expected_is_doubled() -> None:
    case = healthy()
    extra = replace(fired(5), before=5 * S, after=5 * S + 100, occurrence=5 * S + 100, run="a@x")

    assert seen(case, tiles=[*case.picture.tiles, extra]).doubled >= 1


def test_a_tile_that_claims_too_many_is_noticed() -> None:
    case = healthy(catch_up="latest")
    tiles = [*case.picture.tiles[:3], skipped(4, 5, "folded", count=3)]

    assert seen(case, tiles=tiles, runs=case.picture.runs[:3]).doubled == 1


def test_a_fold_covers_what_it_stands_for() -> None:
    case = healthy(catch_up="latest")
    tiles = [fired(1), fired(5, before=S, count=4)]
    verdict = judge(
        replace(
            case,
            picture=replace(case.picture, tiles=tiles, runs=[run(1), run(5)]),
            lines=[line(1), line(5)],
        )
    )

    assert verdict.ok
    assert (verdict.fired, verdict.folded) == (2, 3)


@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("folded", {"catch_up": "latest"}),
        ("folded", {"catch_up": "earliest"}),
        ("folded", {"overlap": "queue_one"}),
        ("catch_up", {"catch_up": "skip"}),
        ("misfire", {"grace": 1.0}),
        ("overlap", {"overlap": "skip"}),
        ("replaced", {"overlap": "cancel_running"}),
    ],
)
def test_a_reason_is_believed_only_where_the_policy_has_it(reason: str, policy: dict[str, Any]) -> None:
    allowed, strict = healthy(**policy), healthy()
    change = {
        "tiles": [*allowed.picture.tiles[:3], skipped(4, 5, reason)],
        "runs": allowed.picture.runs[:3],
    }
    lines = [each for each in allowed.lines if each.occurrence <= 3 * S]

    assert seen(replace(allowed, lines=lines), **change).ok
    assert seen(replace(strict, lines=lines), **change).other == 2


def test_what_fell_due_in_the_last_instant_may_still_be_owed() -> None:
    case = healthy()
    last = {"tiles": case.picture.tiles[:4], "runs": case.picture.runs[:4], "marks": {"a": 4 * S}}
    lines = case.lines[:8]

    assert seen(replace(case, lines=lines), **last).owed == 1
    assert seen(replace(case, lines=lines), **last).ok
    assert seen(replace(case, lines=lines, tolerance=S // 4), **last).missed == 1


def test_an_occurrence_that_the_mark_has_passed_is_not_owed_but_missed() -> None:
    case = healthy()

    assert seen(case, tiles=case.picture.tiles[:4], marks={"a": 5 * S}).missed == 1


def test_an_edit_governs_what_is_due_after_its_cut() -> None:
    case = healthy()
    slower = Every(period=5 * S, anchor=0)
    edit = Change("a", version=7, action="schedule.edited", cut=2 * S + 1)
    deed = Deed("a", "schedule.edited", 2 * S, 2 * S + 10, slower)
    picture = replace(
        case.picture,
        tiles=[fired(1), fired(2), fired(5, before=2 * S)],
        runs=[run(1), run(2), run(5)],
        changes=[*case.picture.changes, edit],
    )
    lines = [line(1), line(2), line(5)]

    assert judge(replace(case, picture=picture, lines=lines, deeds=[*case.deeds, deed])).ok
    assert judge(replace(case, picture=picture, lines=lines, deeds=case.deeds)).other == 1


def test_a_cut_outside_of_the_two_looks_at_the_clock_is_noticed() -> None:
    case = healthy()

    assert seen(case, changes=[replace(case.picture.changes[0], cut=S // 3)]).other == 1


def test_a_change_that_nobody_made_is_noticed() -> None:
    case = healthy()
    strange = Change("a", version=3, action="schedule.quarantined", cut=3 * S)

    assert seen(case, changes=[*case.picture.changes, strange]).other == 1


def test_a_paused_schedule_has_occurrences_and_fires_none() -> None:
    case = healthy()
    deeds = [*case.deeds, Deed("a", "schedule.paused", 2 * S, 3 * S)]
    deeds += [Deed("a", "schedule.resumed", 4 * S, 5 * S)]
    trail = [
        *case.picture.changes,
        Change("a", 4, "schedule.paused", 2 * S + 1),
        Change("a", 5, "schedule.resumed", 4 * S + 1),
    ]
    tiles = [fired(1), fired(2), skipped(3, 4, "paused"), fired(5)]
    runs = [run(1), run(2), run(5)]
    paused = replace(case, deeds=deeds, lines=[line(1), line(2), line(5)])

    assert seen(paused, tiles=tiles, runs=runs, changes=trail).ok
    assert not seen(replace(case, deeds=deeds), changes=trail).ok


def test_bodies_beyond_the_limit_are_noticed_and_a_lost_one_ends_when_it_is_found_lost() -> None:
    case = healthy(overlap="queue_all")
    lines = [each for each in case.lines if each.run != "a@2"]
    slow = [*lines, line(2), line(2, "end", at=3 * S + 2001)]  # the third begins at 3 s and 2 ms
    again = [*lines, line(2), line(2, attempt=2, at=6 * S, token=9)]
    retried = [replace(each, attempt=2, token=9) if each.id == "a@2" else each for each in case.picture.runs]

    def lost(at: int) -> Verdict:
        picture = replace(case.picture, endings=[Ending("a@2", 1, "lost", at=at)], runs=retried)
        return judge(replace(case, lines=again, picture=picture))

    assert judge(replace(case, lines=slow)).other == 1
    assert lost(3 * S + 2000).ok
    assert lost(3 * S + 2001).other == 1


def test_an_early_fire_is_noticed() -> None:
    case = healthy()
    runs = [replace(each, created=each.due - 1) if each.id == "a@4" else each for each in case.picture.runs]

    assert seen(case, runs=runs).other == 1


def test_what_was_held_back_is_not_counted_as_late() -> None:
    case = replace(healthy(), held=[Held(3 * S - 1, 3 * S + 1)])
    verdict = judge(case)

    assert verdict.ok
    assert verdict.caught_up == 2  # the hold began less than a second after the second occurrence
    assert len(verdict.late) == 3


def test_a_run_left_unfinished_or_ended_badly_is_noticed() -> None:
    case = healthy()
    left = [replace(each, state="running") if each.id == "a@4" else each for each in case.picture.runs]
    failed = [replace(each, state="failed") if each.id == "a@4" else each for each in case.picture.runs]

    assert seen(case, runs=left).other == 1
    assert seen(case, runs=failed).other == 1


def test_percentiles_of_a_hundred_values_and_of_none() -> None:
    assert percentile(range(100), 0.5) == 50
    assert percentile(range(100), 0.99) == 99
    assert percentile([], 0.5) == 0


def test_the_judges_share_no_code_with_the_product() -> None:
    # Else a mistake of the product could excuse itself.
    for name in JUDGES:
        spec = importlib.util.find_spec(f"onebeat.demo.{name}")
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        ]
        ours = [module for module in modules if module is not None and module.startswith("onebeat")]
        assert all(module.startswith("onebeat.demo.") for module in ours), f"{name} imports {ours}"
