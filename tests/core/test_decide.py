"""The rule of settling: a worked table first, then what holds for every schedule."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebeat.core import decide
from onebeat.core.errors import Refused
from onebeat.core.messages import Done, Retry
from onebeat.core.model import (
    CatchUp,
    Decision,
    Definition,
    Load,
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
    Target,
    TriggerSpec,
)
from onebeat.core.triggers.interval import interval
from onebeat.core.triggers.registry import build

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
PERIOD = timedelta(seconds=30)
EVERY_30_S = interval(seconds=30, anchor=T0)
BUSY = Load(live=1)


def owing(trigger: TriggerSpec = EVERY_30_S, load: Load | None = None, **policy: object) -> Owing:
    return Owing(
        id=1,
        name="demo",
        incarnation=1,
        version=7,
        trigger=trigger,
        policy=Policy(**policy),  # type: ignore[arg-type]  # the table's words are checked by the enums
        settled_until=T0,
        next_at=T0 + PERIOD,
        load=load or Load(),
    )


# --- the worked table -------------------------------------------------------------------------------


def table() -> list[tuple[str, str]]:
    text = Path(__file__).with_name("settling_table.txt").read_text()
    rows = [line.split("|") for line in text.splitlines() if not line.startswith("#")]
    return [(left.strip(), right.strip()) for left, right in rows]


def tick(instant: datetime) -> str:
    return f"T{(instant - T0) // PERIOD}"


def told(tile: Settlement) -> str:
    assert tile.first_at is not None
    assert tile.last_at is not None
    span = tick(tile.first_at) if tile.count == 1 else f"{tick(tile.first_at)}..{tick(tile.last_at)}"
    if tile.run is not None:
        assert tile.run.occurrence_at is not None
        fold = "" if tile.count == 1 else f" as {tick(tile.run.occurrence_at)}"
        return f"{span}{fold} {tile.run.state}"
    if tile.into is not None:
        stamp = datetime.strptime(tile.into, "demo@%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return f"{span} into {tick(stamp)}"
    assert tile.reason is not None
    return f"{span} {tile.reason}"


@pytest.mark.parametrize(("case", "expected"), table(), ids=lambda text: " ".join(text.split()))
def test_settling_follows_the_worked_table(case: str, expected: str) -> None:
    owed, catch_up, grace, overlap, load = case.split()
    now = T0 + int(owed) * PERIOD + timedelta(seconds=5)
    row = owing(
        load=BUSY if load == "busy" else None,
        catch_up=CatchUp(catch_up),
        grace=None if grace == "none" else timedelta(seconds=60),
        overlap=Overlap(overlap),
    )

    decision = decide.settle(row, now)

    said = [told(tile) for tile in decision.settlements] + ["cancel older"] * decision.cancel_older
    assert "; ".join(said) == expected
    assert decision.settled_until == T0 + int(owed) * PERIOD
    assert decision.next_at == T0 + (int(owed) + 1) * PERIOD
    assert decision.version == 7


# --- what holds for every schedule ------------------------------------------------------------------

policies = st.builds(
    Policy,
    catch_up=st.sampled_from(CatchUp),
    catch_up_max=st.integers(1, 6),
    grace=st.none() | st.timedeltas(timedelta(0), timedelta(minutes=10)),
    overlap=st.sampled_from(Overlap),
    max_running=st.integers(1, 4),
    queue_max=st.integers(1, 5),
    spread=st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(minutes=7)]),
    start_within=st.none() | st.just(timedelta(minutes=1)),
)
loads = st.builds(
    lambda live, waiting: Load(live=live, waiting=waiting, last_waiting="demo@w" if waiting else None),
    st.integers(0, 5),
    st.integers(0, 5),
)


@given(
    policy=policies,
    load=loads,
    paused=st.booleans(),
    slept=st.timedeltas(timedelta(0), timedelta(minutes=20)),
    skipped=st.sets(st.integers(1, 40), max_size=4),
)
def test_every_occurrence_lands_in_exactly_one_tile(
    policy: Policy, load: Load, paused: bool, slept: timedelta, skipped: set[int]
) -> None:
    skips = tuple(T0 + PERIOD * k for k in sorted(skipped))
    row = msgspec.structs.replace(owing(load=load), policy=policy, paused=paused, skips=skips)
    now = T0 + slept

    decision = decide.settle(row, now)

    assert_tiled(decision, now - decide.offset_of("demo", policy))
    runs = [tile.run for tile in decision.settlements if tile.run is not None]
    assert len({run.id for run in runs}) == len(runs)
    ready = sum(run.state is RunState.READY for run in runs)
    if policy.limited:
        assert ready == 0 or ready + load.live <= policy.max_running
    if policy.catch_up is not CatchUp.ALL:
        assert len(runs) <= 1
    assert len(runs) <= policy.catch_up_max or policy.catch_up is not CatchUp.ALL
    assert not paused or not runs
    for run in runs:
        assert run.occurrence_at not in skips
        assert run.due_at <= now
        if policy.grace is not None:
            assert now - run.due_at <= policy.grace
        folds = [t for t in decision.settlements if run.id in (t.into, t.run.id if t.run else None)]
        assert (run.fold.count if run.fold else 1) == sum(tile.count for tile in folds)


def assert_tiled(decision: Decision, until: datetime) -> None:
    """Tiles are contiguous from the old mark to the new one and hold what an enumeration finds."""
    due = {T0 + PERIOD * k for k in range(1, 60) if T0 + PERIOD * k <= until}
    mark = T0
    for tile in decision.settlements:
        assert tile.mark_before == mark
        held = {instant for instant in due if tile.mark_before < instant <= tile.mark_after}
        assert tile.count == len(held)
        assert (tile.first_at, tile.last_at) == (min(held), max(held))
        assert (tile.run is not None) + (tile.into is not None) <= 1
        assert tile.run is not None or tile.reason is not None
        mark = tile.mark_after
    assert mark == max(due, default=T0) == decision.settled_until


@given(
    policy=policies,
    cut=st.timedeltas(timedelta(0), timedelta(minutes=15)),
    more=st.timedeltas(timedelta(0), timedelta(minutes=15)),
)
def test_settling_twice_never_settles_an_occurrence_again(
    policy: Policy, cut: timedelta, more: timedelta
) -> None:
    row = msgspec.structs.replace(owing(), policy=policy)
    first = decide.settle(row, T0 + cut)
    again = msgspec.structs.replace(row, settled_until=first.settled_until)

    second = decide.settle(again, T0 + cut + more)

    tiles = first.settlements + second.settlements
    marks = [tile.mark_before for tile in tiles] + [second.settled_until]
    assert marks == sorted(set(marks)) or not tiles
    assert decide.settle(again, T0 + cut).settlements == ()


def test_a_year_asleep_costs_no_more_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    real = build(interval(seconds=1, anchor=T0))

    class Counted:
        zoned, late_start = False, False

        def after(self, t: datetime) -> datetime | None:
            calls["after"] += 1
            return real.after(t)

        def before(self, t: datetime) -> datetime | None:
            calls["before"] += 1
            return real.before(t)

        def count(self, after: datetime, until: datetime) -> int:
            calls["count"] += 1
            return real.count(after, until)

    monkeypatch.setattr(decide, "build", lambda spec: Counted())
    now = T0 + timedelta(days=365)

    decision = decide.settle(owing(catch_up=CatchUp.ALL, overlap=Overlap.ALLOW, catch_up_max=10), now)

    assert sum(tile.count for tile in decision.settlements) == 365 * 86400
    assert len(decision.settlements) == 10
    assert sum(calls.values()) < 40


def test_nothing_owed_changes_no_mark_and_corrects_a_wrong_next_at() -> None:
    row = msgspec.structs.replace(owing(), next_at=T0 + timedelta(seconds=1))

    decision = decide.settle(row, T0 + timedelta(seconds=2))

    assert decision.settlements == ()
    assert decision.settled_until == T0
    assert decision.next_at == T0 + PERIOD


@pytest.mark.parametrize(("late_us", "fires"), [(59_999_999, True), (60_000_000, True), (60_000_001, False)])
def test_grace_ends_exactly_at_grace(late_us: int, fires: bool) -> None:
    row = owing(interval(hours=1, anchor=T0), grace=timedelta(seconds=60))

    (tile,) = decide.settle(row, T0 + timedelta(hours=1, microseconds=late_us)).settlements

    assert (tile.run is not None) is fires
    assert tile.reason is (None if fires else Reason.MISFIRE)


@pytest.mark.parametrize(("live", "queued"), [(0, 1), (1, 0)])
def test_a_run_queued_by_a_decision_stands_for_what_the_same_decision_folds_into_it(
    live: int, queued: int
) -> None:
    row = owing(load=Load(live=live), overlap=Overlap.QUEUE_ONE, catch_up=CatchUp.ALL)

    tiles = decide.settle(row, T0 + 5 * PERIOD).settlements

    runs = [tile.run for tile in tiles if tile.run is not None]
    assert runs[queued].state is RunState.WAITING
    fold = runs[queued].fold
    assert fold is not None
    assert (fold.first_at, fold.last_at) == (tiles[queued].last_at, T0 + 5 * PERIOD)
    assert fold.count == 5 - queued


def test_skip_next_is_recorded_when_its_time_comes_and_leaves_the_list() -> None:
    skips = (T0 + 2 * PERIOD, T0 + 5 * PERIOD)
    row = msgspec.structs.replace(owing(), skips=skips)

    decision = decide.settle(row, T0 + 3 * PERIOD)

    assert [told(tile) for tile in decision.settlements] == ["T1 into T3", "T2 skip_next", "T3 ready"]
    assert decision.skips == (T0 + 5 * PERIOD,)
    run = decision.settlements[-1].run
    assert run is not None
    assert run.fold is not None
    assert (run.fold.first_at, run.fold.last_at, run.fold.count) == (T0 + PERIOD, T0 + 3 * PERIOD, 2)


def test_one_off_leaves_no_next() -> None:
    spec = TriggerSpec(kind="once", fields={"at": "2026-11-21T12:00:30Z"})

    decision = decide.settle(owing(spec), T0 + timedelta(minutes=1))

    assert [told(tile) for tile in decision.settlements] == ["T1 ready"]
    assert decision.next_at is None


def test_queue_one_folds_into_the_run_that_waits_already() -> None:
    row = owing(overlap=Overlap.QUEUE_ONE, load=Load(live=1, waiting=1, last_waiting="demo@w"))

    (tile,) = decide.settle(row, T0 + PERIOD).settlements

    assert (tile.into, tile.reason) == ("demo@w", Reason.FOLDED)


def test_queue_all_skips_what_its_queue_cannot_hold() -> None:
    row = owing(overlap=Overlap.QUEUE_ALL, queue_max=2, load=Load(live=1, waiting=2, last_waiting="demo@w"))

    (tile,) = decide.settle(row, T0 + PERIOD).settlements

    assert tile.reason is Reason.QUEUE_FULL


def test_offset_is_constant_within_the_spread_and_shifts_only_when_it_is_due() -> None:
    policy = Policy(spread=timedelta(minutes=5))
    offset = decide.offset_of("demo", policy)
    row = msgspec.structs.replace(owing(interval(hours=1, anchor=T0)), policy=policy)

    before = decide.settle(row, T0 + timedelta(hours=1) + offset - timedelta(microseconds=1))
    at = decide.settle(row, T0 + timedelta(hours=1) + offset)

    assert timedelta(0) < offset < policy.spread
    assert before.settlements == ()
    run = at.settlements[0].run
    assert run is not None
    assert run.occurrence_at == T0 + timedelta(hours=1)
    assert run.due_at == T0 + timedelta(hours=1) + offset


# --- requests ---------------------------------------------------------------------------------------


def schedule(**policy: object) -> Schedule:
    return Schedule(
        id=1,
        name="demo",
        definition=Definition(
            trigger=EVERY_30_S,
            target=Target(kind="python", address="demo:body"),
            policy=Policy(**policy),  # type: ignore[arg-type]  # keywords of the tests below
        ),
        settled_until=T0,
        cut_at=T0,
        created_at=T0,
    )


FULL = Load(live=1, waiting=1, last_waiting="demo@w")


@pytest.mark.parametrize(
    ("overlap", "load", "forced", "state"),
    [
        (Overlap.SKIP, Load(), False, RunState.READY),
        (Overlap.SKIP, BUSY, False, None),
        (Overlap.SKIP, BUSY, True, RunState.WAITING),
        (Overlap.QUEUE_ONE, BUSY, False, RunState.WAITING),
        (Overlap.QUEUE_ONE, FULL, False, None),
        (Overlap.QUEUE_ONE, FULL, True, RunState.WAITING),
        (Overlap.QUEUE_ALL, FULL, False, RunState.WAITING),
        (Overlap.CANCEL_RUNNING, FULL, False, RunState.WAITING),
        (Overlap.ALLOW, FULL, False, RunState.READY),
    ],
)
def test_requests_pass_admission(overlap: Overlap, load: Load, forced: bool, state: RunState | None) -> None:
    if state is None:
        with pytest.raises(Refused, match="max_running 1"):
            decide.admit(schedule(overlap=overlap), load, key="k", now=T0, forced=forced)
        return

    run = decide.admit(schedule(overlap=overlap), load, key="k", now=T0, forced=forced)

    assert (run.state, run.id, run.occurrence_at) == (state, "demo!k", None)


def test_a_paused_schedule_runs_on_request_and_a_deleted_one_does_not() -> None:
    paused = msgspec.structs.replace(schedule(), paused="lunch")
    deleted = msgspec.structs.replace(schedule(), deleted=True)

    assert decide.admit(paused, Load(), key="k", now=T0).state is RunState.READY
    with pytest.raises(Refused, match="was deleted"):
        decide.admit(deleted, Load(), key="k", now=T0)


# --- the end of an attempt --------------------------------------------------------------------------


def run(**fields: object) -> Run:
    defaults: dict[str, object] = {
        "id": "demo@20261121T120030Z",
        "schedule_id": 1,
        "schedule": "demo",
        "number": 1,
        "queue": "default",
        "target": "python:demo:body",
        "state": RunState.RUNNING,
        "due_at": T0,
        "ready_at": T0,
        "created_at": T0,
        "started_at": T0,
        "attempt": 1,
    }
    return Run(**(defaults | fields))  # type: ignore[arg-type]  # fields are named by the tests


def test_success_and_cancel_end_a_run() -> None:
    assert decide.judge(Policy(attempts=5), run(), Outcome.SUCCEEDED, "", T0) == Done(
        state=RunState.SUCCEEDED
    )
    verdict = decide.judge(Policy(attempts=5), run(), Outcome.CANCELLED, "", T0)
    assert isinstance(verdict, Done)
    assert verdict.state is RunState.CANCELLED


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.TIMED_OUT])
def test_failures_are_tried_again_until_attempts_are_used_up(outcome: Outcome) -> None:
    policy = Policy(attempts=3, backoff=timedelta(seconds=10), backoff_max=timedelta(seconds=15))

    verdicts = [decide.judge(policy, run(attempt=n), outcome, "E", T0) for n in (1, 2, 3)]

    first, second, last = verdicts
    assert isinstance(first, Retry)
    assert timedelta(seconds=5) <= first.at - T0 <= timedelta(seconds=10)
    assert isinstance(second, Retry)
    assert timedelta(seconds=7.5) <= second.at - T0 <= timedelta(seconds=15)
    assert isinstance(last, Done)
    assert last.state == outcome.value


def test_backoff_stays_bounded_and_is_the_same_on_every_node() -> None:
    policy = Policy(attempts=10_000)

    far = decide.judge(policy, run(attempt=9_000), Outcome.FAILED, "E", T0)

    assert isinstance(far, Retry)
    assert far.at - T0 <= policy.backoff_max
    assert far == decide.judge(policy, run(attempt=9_000), Outcome.FAILED, "E", T0)


def test_retry_on_lets_other_errors_end_the_run_at_once() -> None:
    policy = Policy(attempts=3, retry_on=("ConnectionError",))

    assert isinstance(decide.judge(policy, run(), Outcome.FAILED, "ConnectionError", T0), Retry)
    assert isinstance(decide.judge(policy, run(), Outcome.FAILED, "ValueError", T0), Done)
    assert isinstance(decide.judge(policy, run(), Outcome.TIMED_OUT, "", T0), Retry)


@pytest.mark.parametrize(
    ("fields", "on_lost", "expected"),
    [
        ({"started_at": None}, OnLost.FAIL, None),
        ({}, OnLost.FAIL, RunState.FAILED),
        ({}, OnLost.RETRY, None),
        ({"attempt": 10}, OnLost.RETRY, RunState.FAILED),
        ({"attempt": 10, "started_at": None}, OnLost.RETRY, None),
        ({"cancel_requested": True}, OnLost.RETRY, RunState.CANCELLED),
    ],
)
def test_lost_attempts(fields: dict[str, object], on_lost: OnLost, expected: RunState | None) -> None:
    verdict = decide.judge(Policy(on_lost=on_lost), run(**fields), Outcome.LOST, "", T0)

    if expected is None:
        assert verdict == Retry(at=T0, reason=verdict.reason)
    else:
        assert isinstance(verdict, Done)
        assert verdict.state is expected
