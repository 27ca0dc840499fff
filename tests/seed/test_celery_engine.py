"""Rows 1, 13, 14 and 80 again with Celery as the engine: real beats, a real broker, real workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.celery.engine import MORE, Engine
from tests.seed.cluster import url_of
from tests.seed.processes import children, let_go
from tests.servers import redis

from onebeat import Onebeat, celery_task, interval, once
from onebeat.core.messages import EventQuery
from onebeat.core.model import RunState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
NAME = celery_task("shop.name")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Three beats and two workers."""
    folder = tmp_path_factory.mktemp("engine")
    engine = Engine(redis.ledger_url(folder), redis.url().replace("/0", "/12"), folder)
    for _ in range(3):
        engine.start_beat()
    for _ in range(2):
        engine.worker("threads", lease=12, conf=MORE)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: Engine) -> Engine:
    """The fleet, with nothing said and nobody let go of."""
    shared.outside.delete("said", "delivered", "release")
    return shared


def delivered(engine: Engine) -> Counter[str]:
    """How many messages came for each run, but for those that were sent again."""
    again = engine.store.events(EventQuery(kinds=("run.resend",)))
    return Counter(engine.unsaid("delivered")) - Counter(str(event.run_id) for event in again)


@pytest.mark.of_servers
@pytest.mark.server("redis")
def test_seed_01_before_a_real_fleet_too_an_edit_near_the_instant_changes_nothing(engine: Engine) -> None:
    begin = engine.store.now() + timedelta(seconds=1.5)
    instants = {f"t{number}": begin + timedelta(seconds=0.2 * number) for number in range(8)}
    for name, at in instants.items():
        engine.beat.schedules.put(name, once(at=at), NAME, overlap="allow")
    for name, at in instants.items():
        count = 0
        while engine.store.now() <= at + timedelta(milliseconds=20):  # without a pause, up to it and beyond
            engine.beat.schedules.edit(name, title=f"edit {(count := count + 1)}")

    engine.wait_for(lambda: all(engine.runs(name) for name in instants))
    ended = engine.settled(*instants)

    assert Counter(run.schedule for run in ended) == dict.fromkeys(instants, 1)
    assert {run.schedule: run.occurrence_at for run in ended} == instants
    assert engine.begun() == {run.id: 1 for run in ended}, engine.logs()
    assert delivered(engine) == {run.id: 1 for run in ended}, engine.logs()
    assert engine.beat.audit(list(instants)).right


@pytest.mark.of_servers
@pytest.mark.server("redis")
def test_seed_13_of_three_beats_one_sends_each_run_and_one_body_runs(engine: Engine) -> None:
    names = [f"each-{number}" for number in range(20)]
    for name in names:
        engine.beat.schedules.put(name, interval(seconds=1), NAME, overlap="allow")
    engine.wait_for(lambda: all(len(engine.runs(name)) >= 3 for name in names))

    ended = engine.settled(*names)

    assert {run.state for run in ended} == {RunState.SUCCEEDED}
    assert engine.begun() == {run.id: 1 for run in ended}, engine.logs()
    assert delivered(engine) == {run.id: 1 for run in ended}, engine.logs()
    assert engine.beat.audit(names).right


@pytest.mark.of_servers
@pytest.mark.server("redis")
@pytest.mark.parametrize("overlap", ["skip", "queue_all", "cancel_running"])
def test_seed_14_on_a_real_fleet_too_one_body_runs_at_once(engine: Engine, overlap: str) -> None:
    name = f"long-{overlap.replace('_', '-')}"
    engine.beat.schedules.put(name, interval(seconds=1), celery_task("shop.spans"), overlap=overlap)
    words = engine.hear(1)

    def others() -> bool:
        """Whether two more have come due while the first one ran, and the policy has dealt with them."""
        states = Counter(run.state for run in engine.runs(name))
        match overlap:
            case "skip":
                return skipped(engine, name).get("overlap", 0) >= 2
            case "queue_all":
                return states[RunState.WAITING] >= 2
            case _:
                return states[RunState.CANCELLED] >= 2

    engine.wait_for(others)
    engine.beat.schedules.pause(name)
    while any(run.state in (RunState.WAITING, RunState.READY) for run in engine.runs(name)):
        engine.release()
        words += engine.hear(1)
    engine.release()
    ended = engine.settled(name)
    words += [word.split()[0] for word in engine.unsaid("said")]

    begun = sum(run.attempt for run in ended)
    assert words == ["begin", "end"] * begun
    assert {run.state for run in ended} <= {RunState.SUCCEEDED, RunState.CANCELLED}
    assert skipped(engine, name).keys() <= {"overlap", "paused"}
    assert engine.beat.audit([name]).right


def skipped(engine: Engine, name: str) -> Counter[str]:
    """How many occurrences were skipped, by reason."""
    counts: Counter[str] = Counter()
    for event in engine.store.events(EventQuery(kinds=("occurrence.skipped",), schedule=name)):
        counts[event.reason] += event.count or 0
    return counts


@pytest.mark.of_processes
def test_seed_80_fifty_beats_that_start_at_one_time_add_once_and_then_change_nothing(place: Path) -> None:
    with Onebeat(url_of(place)) as front:
        front.schedules.put("dynamic", interval(days=1), NAME, overlap="allow")

        def picture() -> tuple[object, ...]:
            rows = [(row.name, row.owner, row.version, row.definition) for row in front.schedules.list()]
            return rows, front.store.events(EventQuery(kinds=("schedule.created", "schedule.edited")))

        ((dynamic,), _) = picture()
        with children("beats", place, 5, "10") as started:
            counts = let_go(started)
            added = picture()
            again = let_go(started)

        assert counts == again == [[6] * 10] * 5
        assert picture() == added
        rows, events = added
        assert dynamic in rows
        assert len(events) == len(rows) == 6
