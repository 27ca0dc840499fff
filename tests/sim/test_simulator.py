"""The simulator itself: it repeats, it troubles, it notices, and it does not trust what it checks."""

from __future__ import annotations

import ast
import shlex
from collections import Counter
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from onebeat.core.messages import Answer, RunQuery
from onebeat.core.model import RunState
from onebeat.store.memory import MemoryStore
from onebeat.testing import simulator
from onebeat.testing.clock import NOON
from onebeat.testing.faults import LEDGER_VERBS, WRITING_VERBS
from onebeat.testing.sim_draw import ACTS, FLEET, KINDS, MILD, NAMES, UNGUARDED, Plan
from onebeat.testing.sim_shrink import INDISPENSABLE, Shrinking
from onebeat.testing.sim_summary import Survived
from onebeat.testing.sim_world import SILENT, TELLING, WRITING, World

LAB = Path(simulator.__file__).parent
SEEDS = 40


@pytest.mark.slow
def test_no_invariant_breaks_though_every_kind_of_fault_happens() -> None:
    lived = [simulator.survive(seed, MemoryStore) for seed in range(SEEDS)]

    faults = sum((each.faults for each in lived), Counter[str]())
    hard = [sum(n for kind, n in each.faults.items() if kind not in MILD) for each in lived]
    assert not [(each.seed, each.broken) for each in lived if each.broken is not None]
    assert set(faults) == set(KINDS)
    assert not [kind for kind in KINDS if not faults[kind]]
    assert median(each.settled for each in lived) >= 200
    assert median(hard) >= 5


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 10_000, 100))
def test_no_invariant_breaks_in_ten_thousand_worlds(first: int) -> None:
    lived = [simulator.survive(seed, MemoryStore) for seed in range(first, first + 100)]

    assert not [(each.seed, each.broken) for each in lived if each.broken is not None]


@pytest.mark.slow
def test_a_seed_is_the_whole_world() -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        simulator.survive(7, MemoryStore, lines.append)

    assert len(told[0]) > 1000
    assert told[0] == told[1]


@pytest.mark.slow
def test_what_is_left_out_does_not_happen_and_shifts_nothing_before_it_would_have() -> None:
    for seed in range(6, 36):  # one whose world has such a crash, and not at once
        whole: list[str] = []
        simulator.survive(seed, MemoryStore, whole.append)
        crash = next((index for index, line in enumerate(whole) if ": crash after " in line), 0)
        if crash > 100:
            break
    else:
        pytest.fail("no world of thirty has such a crash")
    cut: list[str] = []

    lived = simulator.survive(seed, MemoryStore, cut.append, Plan(without=frozenset({"crash after commit"})))

    assert cut[:crash] == whole[:crash]
    assert not [line for line in cut if ": crash after " in line]
    assert not lived.faults["crash after commit"]


@pytest.mark.slow
def test_calls_are_made_twice_and_arrive_late_and_the_second_answer_says_so() -> None:
    twice: list[tuple[str, Any, Any, Any]] = []
    for seed in range(SEEDS):
        world = World(seed, MemoryStore)
        saw, answers = world.watch.saw, dict[int, tuple[Any, Any]]()

        def noted(verb: str, args: Any, answer: Any, at: Any, saw: Any = saw, answers: Any = answers) -> None:
            if id(args) in answers:
                twice.append((verb, args, answers[id(args)][1], answer))
            answers[id(args)] = args, answer  # the arguments are kept, so that their id stays theirs
            saw(verb, args, answer, at)

        world.watch.saw = noted  # type: ignore[method-assign]  # to listen in
        simulator.live(world)

    puts = [
        (a.answer, b.answer)
        for verb, _, one, two in twice
        if verb == "put"
        for a, b in zip(one, two, strict=True)
    ]
    won = [any(two.won) for verb, _, one, two in twice if verb == "settle" and one.won and all(one.won)]
    assert (Answer.ACCEPTED, Answer.REPEATED) in puts
    assert len(won) > 10
    assert not any(won)
    assert {verb for verb, *_ in twice} >= {"put", "settle", "claim", "advance", "announce"}


@pytest.mark.slow
def test_node_hours_are_the_lives_of_dispatchers_and_workers() -> None:
    crashes = frozenset(kind for kind in KINDS if kind.startswith("crash"))
    whole, unhurt = World(3, MemoryStore), World(3, MemoryStore, plan=Plan(without=crashes))
    for world in (whole, unhurt):
        simulator.live(world)

    nodes = unhurt.pace.dispatchers + unhurt.pace.workers
    assert unhurt.node_hours() == pytest.approx(nodes * ((unhurt.time - NOON) / timedelta(hours=1)), rel=0.01)
    assert 0 < whole.node_hours() < nodes * ((whole.time - NOON) / timedelta(hours=1))


@pytest.mark.slow
def test_dense_worlds_and_calm_ones_are_lived_through() -> None:
    lived = [simulator.survive(seed, MemoryStore) for seed in range(12)]

    calm = [each for each in lived if each.calm]
    assert 0 < len(calm) < len(lived) / 2
    assert min(each.node_hours for each in calm) > 1 > max(each.node_hours for each in lived if not each.calm)


@pytest.mark.slow
def test_a_fleet_executes_what_it_is_sent_and_a_broker_loses_doubles_and_delays_messages() -> None:
    world = next(world for seed in range(100) if (world := World(seed, MemoryStore)).fleet)

    simulator.live(world)

    nodes = {effect.node.rstrip("0123456789.") for effect in world.watch.seen.effects.values()}
    runs = [run for run in world.store.runs(RunQuery(limit=10_000)) if run.target.startswith(FLEET)]
    handed_over = {run.target for run in runs if run.state is RunState.HANDED_OVER}
    assert nodes == {"fleet", "worker"}
    assert sum(run.state is RunState.SUCCEEDED for run in runs) > 10
    assert handed_over <= {f"{FLEET}:{UNGUARDED}"}
    assert min(world.faults[kind] for kind in ("message lost", "message copied", "message late")) > 0


@pytest.fixture
def any_version_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def any_version(store: MemoryStore, schedule_id: int, version: int) -> object:
        return store._rows.get(schedule_id)

    monkeypatch.setattr(MemoryStore, "_current", any_version)


def told(replay: str) -> list[str]:
    """Return the arguments in a line that repeats a world."""
    return shlex.split(replay.removeprefix("replay: onebeat-sim "))


@pytest.mark.slow
@pytest.mark.usefixtures("any_version_wins")
def test_a_failing_seed_prints_one_line_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    status = simulator.main(["--seeds", "20", "--shrink", "0"])

    replay = [line for line in capsys.readouterr().out.splitlines() if line.startswith("replay: ")]
    assert status == 1
    assert len(replay) == 1
    status = simulator.main(told(replay[0]))
    assert status == 1
    assert replay[0] in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("any_version_wins")
def test_a_failing_seed_is_cut_down_to_a_smaller_world_that_fails_in_the_same_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    simulator.main(["--seeds", "20", "--keep-going", "--shrink", "0"])
    out = capsys.readouterr().out
    replay = next(line for line in out.splitlines() if line.startswith("replay: "))

    status = simulator.main([*told(replay), "--shrink", "60"])

    *_, sentence, line = (out := capsys.readouterr().out)[: out.index("\n1 seeds")].splitlines()
    seed = int(told(replay)[1])
    whole = simulator.survive(seed, MemoryStore)
    small = simulator.survive(seed, MemoryStore, plan=simulator.planned(told(line)))
    assert status == 1
    assert whole.broken is not None
    assert small.broken == sentence
    assert small.way == whole.way
    assert len(small.plan.without) > 5
    assert small.faults.total() < whole.faults.total()
    assert small.calls <= whole.calls
    assert simulator.main(told(line)) == 1
    assert sentence in capsys.readouterr().out


def test_shrinking_ends_after_as_many_tries_as_are_allowed() -> None:
    first = simulator.survive(1, MemoryStore)._replace(broken="I1 (all): of them", broke_at_s=1e6)
    tried: list[Plan] = []

    def never(plan: Plan) -> Survived:
        tried.append(plan)
        return first._replace(broken=None)

    small = Shrinking(first, never, 5, lambda _done, _of: None).search()

    assert small is first
    assert len(tried) == 5


def test_shrinking_leaves_out_all_that_does_not_matter_and_nothing_else() -> None:
    first = simulator.survive(1, MemoryStore)._replace(broken="I1 (all): of them", broke_at_s=12.5)

    def breaks(plan: Plan) -> Survived:
        matters = {"delete", "s3", "editor0", "crash after commit"} & plan.without
        return first._replace(plan=plan, until_s=plan.until or 50.0, broken=None if matters else first.broken)

    small = Shrinking(first, breaks, 200, lambda _done, _of: None).search()

    left = {*ACTS, *NAMES, *small.nodes} - small.plan.without
    assert left == {"delete", "s3", "editor0", *(name for name in small.nodes if name in INDISPENSABLE)}
    assert {kind for kind in first.faults if kind not in small.plan.without} == {
        "crash after commit",
        "edit conflict",
    }
    assert small.plan.until == 13


def test_what_is_to_be_left_out_has_to_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        simulator.main(["--without", "pause in a stepp"])

    assert "pause in a stepp: nothing in a world is called so" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_without_violations_ends_with_0_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    status = simulator.main(["--seeds", "2", "--first-seed", "5"])

    out = capsys.readouterr().out
    assert status == 0
    assert "violations: 0" in out
    assert all(kind in out for kind in KINDS)
    assert "node-hours a minute of one core" in out


def test_the_checkers_share_no_code_with_what_they_check() -> None:
    allowed = {f"onebeat.core.{name}" for name in ("errors", "messages", "model", "ports")}
    judges = [
        LAB / f"{name}.py" for name in ("evidence", "sums", "history", "owed", "keyed", "windows", "oracle")
    ]
    for path in [*LAB.glob("checker*.py"), *judges]:
        imported = {
            node.module or ""
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
        }
        ours = {module for module in imported if module.startswith("onebeat.")}
        assert not {module for module in ours - allowed if not module.startswith("onebeat.testing.")}, (
            path.name
        )


def test_every_verb_of_the_port_is_troubled_or_known_to_be_silent() -> None:
    assert set(LEDGER_VERBS) >= SILENT
    assert set(WRITING_VERBS) == WRITING
    assert set(TELLING) <= WRITING
