"""Rows 14, 20, 21, 22, 33 and 35: overlap, catch-up and grace, decided in the store and recorded there."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from tests.seed.cluster import DAY, HOUR, MICROSECOND, MINUTE, SECOND, T0, Cluster, Play, every

from onebeat.core.errors import InvalidInput
from onebeat.core.manifest import read_manifest
from onebeat.core.model import RunState
from onebeat.engine.dispatcher import Dispatcher

pytestmark = pytest.mark.slow


def minutes(*counts: int) -> list[object]:
    return [T0 + count * MINUTE for count in counts]


# --- 14: overlap across the cluster -----------------------------------------------------------------


def test_seed_14_skip_leaves_out_what_comes_while_one_runs_and_says_why(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.node()
    cluster.plays["body"] = Play(lasts=150 * SECOND)
    cluster.put("a", every(MINUTE), overlap="skip")
    cluster.run(9 * MINUTE + 40 * SECOND, every=10 * SECOND)

    assert cluster.began() == minutes(1, 4, 7)
    assert cluster.skipped() == {"overlap": 6}
    assert cluster.most_at_once() == 1
    assert all(event.at >= event.last_at for event in cluster.events("occurrence.skipped") if event.last_at)
    cluster.prove()


@pytest.mark.parametrize(("overlap", "expected"), [("queue_one", [1, 2, 4, 6]), ("queue_all", [1, 2, 3, 4])])
def test_seed_14_queued_runs_begin_one_after_the_other(
    cluster: Cluster, overlap: str, expected: list[int]
) -> None:
    for _ in range(3):
        cluster.node()
    cluster.plays["body"] = Play(lasts=130 * SECOND)
    cluster.put("a", every(MINUTE), overlap=overlap)
    cluster.run(9 * MINUTE, every=10 * SECOND)

    assert cluster.began() == minutes(*expected)
    assert cluster.most_at_once() == 1
    gaps = [(e.ended_at, f.began_at) for e, f in zip(cluster.effects, cluster.effects[1:], strict=False)]
    assert all(ended_at == began_at for ended_at, began_at in gaps)  # nobody waits for a free slot
    if overlap == "queue_one":
        # What waits stands for what came after it.
        assert sum(event.count or 0 for event in cluster.events("occurrence.folded")) == 4
    assert cluster.beat.audit().right


def test_seed_14_replacing_ends_the_old_run_before_the_new_one_begins(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.node()
    cluster.plays["body"] = Play(lasts=150 * SECOND, listens=True)
    cluster.put("a", every(MINUTE), overlap="cancel_running")
    cluster.run(4 * MINUTE + 30 * SECOND, every=10 * SECOND)

    assert cluster.began() == minutes(1, 2, 3, 4)
    assert cluster.most_at_once() == 1
    assert cluster.states() == {RunState.CANCELLED: 3, RunState.RUNNING: 1}
    assert cluster.beat.audit().right


@pytest.mark.parametrize("most", [2, 3])
def test_seed_14_a_larger_limit_holds_across_the_cluster_too(cluster: Cluster, most: int) -> None:
    for _ in range(4):
        cluster.node(slots=1)
    cluster.plays["body"] = Play(lasts=10 * MINUTE)
    cluster.put("a", every(MINUTE), overlap="queue_all", max_running=most)
    cluster.run(8 * MINUTE, every=10 * SECOND)

    assert cluster.most_at_once() == most
    assert cluster.states() == {RunState.RUNNING: most, RunState.WAITING: 8 - most}
    assert len({effect.node for effect in cluster.effects}) > 1


# --- 20: what others call it -------------------------------------------------------------------------

FOREIGN = """
[schedules.a]
every = "1m"
target = { kind = "seed", address = "body" }
max_instances = 2
misfire_grace_time = 20
coalesce = false
"""


def test_seed_20_a_manifest_takes_foreign_words_and_the_limit_holds_across_the_cluster(
    cluster: Cluster,
) -> None:
    for _ in range(3):
        cluster.node(slots=1)
    cluster.plays["body"] = Play(lasts=10 * MINUTE)
    read = read_manifest(FOREIGN, "shop.toml")
    cluster.beat.apply(definitions=read.definitions)
    cluster.run(5 * MINUTE + 30 * SECOND, every=10 * SECOND)

    assert cluster.most_at_once() == 2
    assert cluster.skipped() == {"overlap": 3}
    assert [note.rpartition("write ")[2] for note in read.notes] == ["max_running", "grace", "catch_up"]
    policy = cluster.beat.schedules.show("a").schedule.definition.policy
    assert (policy.grace, policy.catch_up) == (20 * SECOND, "all")


def test_seed_20_in_code_a_foreign_word_is_an_error_that_says_ours(cluster: Cluster) -> None:
    with pytest.raises(InvalidInput, match=r"APScheduler's word for max_running .* write max_running"):
        cluster.put("a", every(MINUTE), max_instances=2)
    assert cluster.beat.schedules.list() == []


# --- 21: catch-up -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "fires"),
    [("all", range(1, 11)), ("latest", [10]), ("earliest", [1]), ("skip", [])],
)
def test_seed_21_after_ten_missed_each_policy_fires_its_own_and_records_the_rest(
    cluster: Cluster, catch_up: str, fires: list[int]
) -> None:
    grace = 20 * SECOND if catch_up == "skip" else None
    cluster.put("a", every(MINUTE), catch_up=catch_up, grace=grace, overlap="allow")
    cluster.clock.set(T0 + 10 * MINUTE + 30 * SECOND)
    cluster.node()
    cluster.run(SECOND)

    assert cluster.fired() == minutes(*fires)
    folds = [(run.fold.first_at, run.fold.last_at, run.fold.count) for run in cluster.runs() if run.fold]
    assert folds == ([(*minutes(1, 10), 10)] if catch_up in ("latest", "earliest") else [])
    assert cluster.skipped() == ({"misfire": 10} if catch_up == "skip" else {})
    assert sum(tile.count for tile in cluster.tiles()) == 10  # none of them without a record
    cluster.prove()


def test_seed_21_skip_fires_the_newest_while_it_is_within_grace(cluster: Cluster) -> None:
    cluster.put("a", every(MINUTE), catch_up="skip", grace=40 * SECOND, overlap="allow")
    cluster.clock.set(T0 + 10 * MINUTE + 30 * SECOND)
    cluster.node()
    cluster.run(SECOND)

    assert cluster.fired() == minutes(10)
    assert cluster.skipped() == {"misfire": 9}
    cluster.prove()


# --- 22: grace --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("late", "fires"), [(-MICROSECOND, True), (0 * SECOND, True), (MICROSECOND, False)])
def test_seed_22_grace_is_exact_and_a_misfire_tells_its_lateness(
    cluster: Cluster, late: timedelta, fires: bool
) -> None:
    cluster.put("a", every(HOUR, T0 + HOUR), grace=7 * SECOND)
    cluster.clock.set(T0 + HOUR + 7 * SECOND + late)
    cluster.node().step()

    assert cluster.fired() == ([T0 + HOUR] if fires else [])
    misfires = cluster.events("occurrence.skipped")
    assert [(event.reason, event.count) for event in misfires] == ([] if fires else [("misfire", 1)])
    for event in misfires:
        assert event.last_at is not None
        assert event.at - event.last_at == 7 * SECOND + MICROSECOND


def test_seed_22_by_default_no_occurrence_is_ever_too_late(cluster: Cluster) -> None:
    cluster.put("a", every(DAY * 7))
    cluster.clock.advance(DAY * 365)
    cluster.node()
    cluster.run(SECOND)

    (run,) = cluster.runs()
    assert (run.state, run.occurrence_at) == (RunState.SUCCEEDED, T0 + DAY * 364)
    assert run.fold is not None
    assert run.fold.count == 52
    cluster.prove()


# --- 33: nothing of it lives in a process -----------------------------------------------------------


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "queue_all"])
def test_seed_33_policies_hold_though_every_step_is_made_by_a_process_that_was_just_born(
    cluster: Cluster, overlap: str
) -> None:
    worker = cluster.node(roles=("worker",))
    cluster.plays["body"] = Play(lasts=150 * SECOND)
    cluster.put("a", every(MINUTE), overlap=overlap)
    for number in range(18):
        cluster.run(30 * SECOND)
        newborn = cluster.node(roles=("dispatcher",))
        twin = cluster.node(roles=("dispatcher",))
        for _ in range(2):
            newborn.step()
            twin.step()
        newborn.crash()
        twin.crash()
        assert cluster.now == T0 + (number + 1) * 30 * SECOND
    worker.step()

    assert cluster.most_at_once() == 1
    if overlap == "skip":
        assert cluster.began() == minutes(1, 4, 7)
        assert cluster.skipped() == {"overlap": 6}
    assert sum(tile.count for tile in cluster.tiles()) == 9
    assert cluster.beat.audit().right


def test_seed_33_a_dispatcher_remembers_no_schedule_that_it_has_settled(cluster: Cluster) -> None:
    cluster.put("a", every(MINUTE), overlap="allow")
    dispatcher = Dispatcher(cluster.store, cluster.clock, holder="d")
    cluster.clock.advance(MINUTE)
    dispatcher.step()
    cluster.edit(trigger=every(10 * SECOND))
    cluster.put("b", every(10 * SECOND), overlap="allow")
    cluster.clock.advance(10 * SECOND)
    dispatcher.step()

    assert cluster.fired("a") == [T0 + MINUTE, T0 + 70 * SECOND]
    assert cluster.fired("b") == [T0 + 70 * SECOND]


# --- 35: an hour with nobody there ------------------------------------------------------------------


@pytest.mark.parametrize("overlap", ["skip", "queue_all", "allow"])
@pytest.mark.parametrize(
    ("catch_up", "grace"),
    [("all", None), ("latest", None), ("latest", 600), ("earliest", None), ("skip", 90)],
)
def test_seed_35_every_occurrence_of_an_hour_without_nodes_is_handled_and_recorded(
    cluster: Cluster, catch_up: str, grace: int | None, overlap: str
) -> None:
    before = [cluster.node() for _ in range(3)]
    cluster.put("a", every(MINUTE), catch_up=catch_up, grace=grace, overlap=overlap)
    cluster.run(MINUTE)
    for node in before:
        node.crash()
    cluster.clock.set(T0 + MINUTE + HOUR + 16 * SECOND)
    cluster.node()
    cluster.run(SECOND)

    misfires = {None: 0, 600: 50, 90: 58}[grace]  # 10 of 60 are at most 10 minutes late, 2 at most 90 s
    fates = Counter(cluster.skipped())
    fates["fired"] = len(cluster.fired()) - 1
    fates["folded"] = sum(run.fold.count - 1 for run in cluster.runs() if run.fold is not None)
    assert sum(fates.values()) == 60
    assert fates["misfire"] == misfires
    assert fates["fired"] == {"all": 1 if overlap == "skip" else 60}.get(catch_up, 1)
    assert cluster.fired()[0] == T0 + MINUTE
    cluster.run(2 * MINUTE, every=MINUTE / 6)  # and what comes then begins where the hour ended
    cluster.prove()
