"""Rows 2, 5, 6, 38 and 66: what is due is decided by the mark and the store's clock, to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.seed.cluster import BODY, DAY, HOUR, MICROSECOND, MINUTE, SECOND, T0, Cluster, every

from onebeat import Definition, cron, interval
from onebeat.core import decide, edits
from onebeat.core.model import Decision, Load, Owing, Policy
from onebeat.core.triggers import build

pytestmark = pytest.mark.slow

# --- 2: equality is not "already ran" ---------------------------------------------------------------


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
def test_seed_02_an_occurrence_equal_to_now_fires_and_fires_once(cluster: Cluster, microsecond: int) -> None:
    first = T0 + HOUR + microsecond * MICROSECOND
    cluster.put("a", every(MINUTE, first), overlap="allow")
    node = cluster.node(roles=("dispatcher",))
    seen = []

    for at in (first - MICROSECOND, first, first, first + MICROSECOND, first + MINUTE - MICROSECOND):
        cluster.clock.set(at)
        node.step()
        seen.append(len(cluster.fired()))
    # The last run is at `first`, and so is the mark. A process that starts now must see nothing new in it.
    cluster.node(roles=("dispatcher",)).step()
    seen.append(len(cluster.fired()))
    cluster.clock.set(first + MINUTE)
    cluster.step()

    assert seen == [0, 1, 1, 1, 1, 1]
    assert cluster.fired() == [first, first + MINUTE]
    assert cluster.row().settled_until == first + MINUTE


@pytest.mark.parametrize("microsecond", [0, 999_999])
def test_seed_02_a_schedule_made_in_the_instant_of_an_occurrence_begins_with_the_next(
    cluster: Cluster, microsecond: int
) -> None:
    cluster.clock.set(T0 + microsecond * MICROSECOND)
    cluster.node()
    cluster.put(
        "a", every(MINUTE, cluster.now)
    )  # due at the cut: the definition before it governed, and was none
    cluster.run(MINUTE)

    assert cluster.fired() == [T0 + microsecond * MICROSECOND + MINUTE]
    cluster.prove()


# --- 5: no epsilon ----------------------------------------------------------------------------------

TRANSITIONS = [
    (
        "30 1 * * *",
        "America/New_York",
        datetime(2026, 10, 31, 12, tzinfo=UTC),
    ),  # in the hour that comes twice
    ("*/20 * * * *", "America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ("30 2 * * *", "America/New_York", datetime(2026, 3, 7, 12, tzinfo=UTC)),  # in the hour that is left out
    ("0 3 * * *", "America/New_York", datetime(2026, 3, 7, 12, tzinfo=UTC)),
    ("15 1 * * *", "Europe/London", datetime(2026, 3, 28, 12, tzinfo=UTC)),
    ("15 1 * * *", "Europe/London", datetime(2026, 10, 24, 12, tzinfo=UTC)),
    ("45 1 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 0, tzinfo=UTC)),  # half an hour comes twice
    ("59 59 23 * * *", "Africa/Cairo", datetime(2026, 4, 22, 12, tzinfo=UTC)),
]


@pytest.mark.parametrize(("expression", "zone", "begin"), TRANSITIONS)
def test_seed_05_both_sides_of_every_boundary_are_exact_through_a_change_of_the_clocks(
    cluster: Cluster, expression: str, zone: str, begin: datetime
) -> None:
    cluster.clock.set(begin)
    node = cluster.node(roles=("dispatcher",))
    cluster.put("a", cron(expression, zone=zone), overlap="allow")
    boundaries = [at.astimezone(UTC) for at in cluster.beat.preview("a", 5, after=begin)]

    for number, at in enumerate(boundaries):
        counts = []
        for near in (-MICROSECOND, 0 * SECOND, MICROSECOND):
            cluster.clock.set(at + near)
            node.step()
            counts.append(len(cluster.fired()))
        assert counts == [number, number + 1, number + 1]
    report = cluster.beat.audit()  # its matcher shares no code with the triggers

    assert report.right
    assert report.fired == len(boundaries)


def owing(policy: Policy, anchor: datetime, period: timedelta, now: datetime) -> Owing:
    definition = Definition(trigger=every(period, anchor), target=BODY, policy=policy)
    row = edits.create("a", definition, edits.Author(edit_id="e", cut_at=now)).after
    return edits.owing_of(replace(row, id=1), Load())


def fired(decision: Decision) -> list[datetime | None]:
    return [tile.run.occurrence_at for tile in decision.settlements if tile.run is not None]


@given(
    micros=st.integers(0, 86_400_000_000),
    period=st.integers(1_000, 10_000_000),
    spread=st.sampled_from([0, 1, 999_999, 60_000_000]),
    near=st.sampled_from([-1, 0, 1]),
)
def test_seed_05_no_comparison_has_an_epsilon(micros: int, period: int, spread: int, near: int) -> None:
    policy = Policy(spread=spread * MICROSECOND, grace=5 * SECOND)
    anchor = T0 + micros * MICROSECOND
    row = owing(policy, anchor, period * MICROSECOND, anchor - SECOND)
    offset = decide.offset_of("a", policy)
    first = build(row.trigger).after(row.settled_until)
    assert first is not None

    at_due = decide.settle(row, first + offset + near * MICROSECOND)
    at_grace = decide.settle(
        replace(row, settled_until=first - MICROSECOND), first + offset + 5 * SECOND + near * MICROSECOND
    )

    assert fired(at_due) == ([] if near < 0 else [first])
    late = [tile for tile in at_grace.settlements if tile.reason == "misfire"]
    assert bool(late) == (near > 0)


# --- 6: the first run is a run like any other -------------------------------------------------------


def test_seed_06_a_schedule_that_never_ran_is_decided_like_one_that_did(cluster: Cluster) -> None:
    cluster.node()
    cluster.put("old", every(MINUTE))
    cluster.run(3 * MINUTE)
    cluster.clock.set(T0 + 3 * MINUTE + 30 * SECOND)
    cluster.put("new", every(MINUTE))

    due = T0 + 4 * MINUTE
    decisions = {}
    for name in ("old", "new"):
        ((row, load),) = cluster.store.owing([name])
        # Of a row, deciding sees the same fields whether it ever ran or not: there is no "first run" in it.
        like = replace(edits.owing_of(row, load), id=1, name="x", version=1, settled_until=T0 + 3 * MINUTE)
        decisions[name] = decide.settle(like, due)
    cluster.run(MINUTE)

    assert decisions["old"] == decisions["new"]
    assert fired(decisions["new"]) == [due]
    assert cluster.fired("new") == [due]
    assert cluster.fired("old") == [T0 + i * MINUTE for i in (1, 2, 3, 4)]
    cluster.prove()


@pytest.mark.parametrize("start", [-90 * SECOND, 90 * SECOND])
def test_seed_06_a_start_in_the_past_owes_nothing_and_one_in_the_future_waits(
    cluster: Cluster, start: timedelta
) -> None:
    cluster.node()
    cluster.put("a", every(MINUTE, T0 - DAY).between(start_at=T0 + start))
    cluster.run(3 * MINUTE)

    first = 1 if start < timedelta(0) else 2
    assert cluster.fired() == [T0 + i * MINUTE for i in range(first, 4)]
    cluster.prove()


@pytest.mark.parametrize("run_now", [True, False])
def test_seed_06_running_at_once_is_asked_for_and_settles_nothing(cluster: Cluster, *, run_now: bool) -> None:
    cluster.node()
    cluster.put("a", every(MINUTE), run_now=run_now)
    cluster.run(MINUTE)

    asked = [run for run in cluster.runs() if run.key is not None]
    assert [run.id for run in asked] == (["a!created"] if run_now else [])
    assert all(run.mark_after is None and run.due_at == T0 for run in asked)
    assert cluster.fired() == [T0 + MINUTE]
    cluster.prove()


# --- 38: no drift -----------------------------------------------------------------------------------


def test_seed_38_the_kth_occurrence_is_the_anchor_and_k_periods_a_million_times() -> None:
    period = timedelta(seconds=17, microseconds=3)
    trigger = build(interval(period, anchor=T0))
    instant: datetime | None = T0
    for k in range(1, 1_000_001):
        assert instant is not None
        instant = trigger.after(instant)
        if k % 9973 == 0 or k == 1_000_000:
            assert instant == T0 + k * period
            assert trigger.after(instant - period / 3) == instant  # whenever it is asked
            assert trigger.before(instant + period / 3) == instant

    assert trigger.count(T0, T0 + 1_000_000 * period) == 1_000_000


def test_seed_38_restarts_and_late_nodes_let_an_interval_drift_by_nothing(cluster: Cluster) -> None:
    draw, period = Random(38), timedelta(seconds=100, microseconds=7)
    cluster.beat.schedules.put("a", interval(period), BODY)
    k = 0
    for _ in range(40):
        # Some 25,000 periods with nobody there, then a node that lives for one step, late within a period.
        k += draw.randrange(24_000, 26_001)
        cluster.clock.set(T0 + k * period + draw.random() * (period - SECOND))
        cluster.node(roles=("dispatcher",)).step()
        cluster.nodes[-1].crash()
        (run,) = [run for run in cluster.runs() if run.occurrence_at == T0 + k * period]
        assert run.fold is not None
        cluster.beat.runs.cancel(run.id)

    assert k > 900_000
    assert sum(run.fold.count for run in cluster.runs() if run.fold is not None) == k
    assert cluster.beat.audit().right


def test_seed_38_each_cron_text_lives_in_the_zone_that_it_names(cluster: Cluster) -> None:
    cluster.node()
    zones = ["Asia/Shanghai", "America/New_York", "Asia/Kolkata", "UTC"]
    for zone in zones:
        cluster.put(zone.replace("/", "-").replace("_", "").lower(), cron("0 9 * * *", zone=zone))
    cluster.run(2 * DAY, every=30 * MINUTE)

    for zone in zones:
        instants = cluster.fired(zone.replace("/", "-").replace("_", "").lower())
        assert len(instants) == 2
        assert [at.astimezone(ZoneInfo(zone)).hour for at in instants] == [9, 9]
    cluster.prove()


# --- 66: never early --------------------------------------------------------------------------------


def test_seed_66_nothing_ever_fires_early_whatever_the_nodes_own_clocks_say(cluster: Cluster) -> None:
    draw = Random(66)
    nodes = [cluster.node(roles=("dispatcher",), skew=draw.choice((-5, 0, 5)) * SECOND) for _ in range(3)]
    cluster.beat.schedules.put_all(
        {
            f"s{i}": Definition(
                trigger=every(draw.randrange(900_000, 9_000_000) * MICROSECOND, T0 + i * MICROSECOND),
                target=BODY,
                policy=Policy(overlap="allow", spread=draw.choice((0, 3)) * SECOND),  # type: ignore[arg-type]  # a word
            )
            for i in range(100)
        }
    )
    while cluster.now < T0 + 20 * SECOND:
        draw.choice(nodes).step()
        if draw.random() < 0.5:
            cluster.clock.set(max(cluster.now, cluster.store.due(cluster.now, 1).next_at or cluster.now))
        else:
            cluster.clock.advance(draw.randrange(50_000) * MICROSECOND)

    runs = cluster.runs(None)
    assert len(runs) > 200
    assert min(run.lateness for run in runs) == timedelta(0)
    report = cluster.beat.audit()
    assert (report.right, report.early) == (True, 0)


def test_seed_66_the_store_refuses_a_decision_that_its_clock_has_not_reached(cluster: Cluster) -> None:
    cluster.put("a", every(HOUR, T0 + HOUR))
    cluster.clock.set(T0 + HOUR - MICROSECOND)
    ((row, load),) = cluster.store.owing(["a"])

    early = decide.settle(edits.owing_of(row, load), T0 + HOUR)
    settled = cluster.store.settle(T0 + HOUR, [early])

    assert (settled.early_by, settled.won) == (MICROSECOND, ())
    assert cluster.runs() == []
    assert cluster.row() == row
