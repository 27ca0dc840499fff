"""Rows 1, 14 and 35 again with Celery as the engine, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from random import Random

import pytest
from tests.seed import sending
from tests.seed.cluster import DAY, HOUR, MICROSECOND, MINUTE, SECOND, T0, Cluster, Play, every
from tests.seed.sending import Broker
from tests.seed.test_edits import once_at

from onebeat import Definition, celery_task
from onebeat.core.model import RunState

pytestmark = pytest.mark.slow
OLD, NEW = (celery_task("shop.note", args=[word]) for word in ("old", "new"))


@pytest.fixture
def broker(cluster: Cluster) -> Iterator[Broker]:
    cluster.plays["body"] = Play()
    broker = Broker(cluster)
    yield broker
    broker.close()


# --- 1: an edit near the instant --------------------------------------------------------------------


def test_seed_01_behind_beats_too_an_edit_near_the_instant_neither_loses_nor_doubles_it(
    cluster: Cluster, broker: Broker
) -> None:
    seed, trials = 20261122, 1000
    draw = Random(seed)
    tick = 25 * SECOND / 1000
    beats = [sending.beat(cluster, broker) for _ in range(2)]
    instants = [T0 + (10 + i / 20) * SECOND + draw.randrange(10_000) * MICROSECOND for i in range(trials)]
    cluster.beat.schedules.put_all(
        {
            f"t{i}": Definition(trigger=once_at(at) if i % 2 else every(DAY, at), target=OLD)
            for i, at in enumerate(instants)
        }
    )
    cluster.beat.schedules.put("other", every(DAY, T0 + HOUR), OLD)
    cuts: dict[int, datetime] = {}

    def edit(name: str, trial: int | None = None) -> None:
        written = cluster.beat.schedules.edit(name, target=NEW)
        if trial is not None and written.cut_at is not None:
            cuts[trial] = written.cut_at

    moments: list[tuple[datetime, float, object]] = []
    for i, at in enumerate(instants):
        offset = (-5 * SECOND, -SECOND, -MICROSECOND, 0 * SECOND, MICROSECOND, tick)[i % 6]
        change = partial(edit, f"t{i}", i) if draw.random() < 0.7 else partial(edit, "other")
        moments.append((at + offset, draw.random(), change))
        near = draw.choice((draw.randrange(-2, 3), draw.randrange(60_000)))
        moments.append((at + near * MICROSECOND, draw.random(), draw.choice(beats).step))
    for at, _, act in sorted(moments, key=lambda moment: moment[:2]):
        cluster.clock.set(max(at, cluster.now))
        act()  # type: ignore[operator]  # a step or an edit
    sending.worker(cluster, broker)
    cluster.run(SECOND)

    runs = {run.id: run for run in cluster.runs(None)}
    assert Counter(run.schedule for run in runs.values()) == {f"t{i}": 1 for i in range(trials)}, seed
    assert broker.runs() == dict.fromkeys(runs, 1)
    assert Counter(effect.run_id for effect in cluster.effects) == dict.fromkeys(runs, 1)
    for run_id, _, (word,) in broker.came:
        trial = int(runs[run_id].schedule[1:])
        assert word == ("new" if trial in cuts and cuts[trial] < instants[trial] else "old"), (seed, trial)
    cluster.prove()


# --- 14: overlap ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [("skip", [1, 4, 7]), ("queue_one", [1, 2, 3, 5, 7]), ("queue_all", [1, 2, 3, 4, 5])],
)
def test_seed_14_behind_beats_too_one_body_runs_at_once_and_each_overlap_policy_says_what_it_did(
    cluster: Cluster, broker: Broker, overlap: str, expected: list[int]
) -> None:
    for _ in range(2):
        sending.beat(cluster, broker)
        sending.worker(cluster, broker)
    cluster.plays["body"] = Play(lasts=150 * SECOND if overlap == "skip" else 110 * SECOND)
    cluster.beat.schedules.put("a", every(MINUTE), OLD, overlap=overlap)
    cluster.run(9 * MINUTE + 40 * SECOND, every=10 * SECOND)

    assert cluster.most_at_once() == 1
    assert cluster.began() == [T0 + count * MINUTE for count in expected]
    assert set(broker.runs().values()) == {1}
    if overlap == "skip":
        assert cluster.skipped() == {"overlap": 6}
    assert cluster.beat.audit().right


# --- 35: an hour with nobody there ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "grace", "overlap", "fired"),
    [("all", None, "queue_all", 60), ("latest", 600, "skip", 1), ("skip", 90, "allow", 1)],
)
def test_seed_35_behind_beats_too_every_occurrence_of_an_hour_without_them_is_handled_and_recorded(
    cluster: Cluster, broker: Broker, catch_up: str, grace: int | None, overlap: str, fired: int
) -> None:
    before = [sending.beat(cluster, broker) for _ in range(3)]
    sending.worker(cluster, broker)
    options = {"catch_up": catch_up, "grace": grace, "overlap": overlap}
    cluster.beat.schedules.put("a", every(MINUTE), OLD, **options)
    cluster.run(MINUTE, every=10 * SECOND)
    for each in before:
        each.crash()
    cluster.clock.set(T0 + MINUTE + HOUR + 16 * SECOND)
    sending.beat(cluster, broker)
    cluster.run(2 * SECOND)

    fates = Counter(cluster.skipped())
    fates["fired"] = len(cluster.fired()) - 1
    fates["folded"] = sum(run.fold.count - 1 for run in cluster.runs() if run.fold is not None)
    assert sum(fates.values()) == 60
    assert fates["misfire"] == {None: 0, 600: 50, 90: 58}[grace]
    assert fates["fired"] == fired
    assert cluster.states() == {RunState.SUCCEEDED: fired + 1}
    assert set(broker.runs().values()) == {1}
    cluster.run(2 * MINUTE, every=10 * SECOND)
    cluster.prove()
