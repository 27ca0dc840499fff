"""The service: parts that go on whatever happens, and an end in order. On real threads, in real time."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.engine import bodies
from tests.engine.lab import Flaky, seconds
from tests.engine.post import Post

from onebeat.core import edits
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import EventQuery, RunQuery
from onebeat.core.model import Definition, RunState, Target, TriggerSpec
from onebeat.core.triggers.interval import interval, once
from onebeat.engine.clock import SystemClock
from onebeat.engine.executors.python import PythonExecutor
from onebeat.engine.service import Service
from onebeat.store.memory import MemoryStore

pytestmark = pytest.mark.slow  # a real poll is a second long

HERE = "tests.engine.bodies"
PATIENCE = 20.0


class Serving:
    """A service on a memory store in real time, with what a test needs to see."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.memory = MemoryStore(self.clock)
        self.store = Flaky(self.memory)
        self.services: list[Service] = []

    def service(self, **options: Any) -> Service:
        options.setdefault("executors", [PythonExecutor(threads=4, allow=[HERE])])
        options.setdefault("grace", seconds(10))
        service = Service(self.store, self.clock, holder=f"n{len(self.services)}", **options)
        self.services.append(service)
        return service

    def put(
        self, name: str, body: str, trigger: TriggerSpec | None = None, *, target: Target | None = None
    ) -> None:
        now = self.clock.now()
        python = Target(kind="python", address=f"{HERE}:{body}")
        definition = Definition(trigger=trigger or once(now), target=target or python)
        self.memory.put([edits.create(name, definition, edits.Author(edit_id=f"put-{name}", cut_at=now))])

    def states(self, name: str) -> list[RunState]:
        return [run.state for run in self.memory.runs(RunQuery(schedule=name))]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait, woken by the store itself, until something holds."""
        deadline = self.clock.now() + timedelta(seconds=PATIENCE)
        while not true():
            assert self.clock.now() < deadline, "it did not come to pass"
            self.memory.wait(self.clock.now() + timedelta(seconds=0.05))


@pytest.fixture
def serving() -> Iterator[Serving]:
    for event in (bodies.entered, bodies.leave, bodies.looked):
        event.clear()
    serving = Serving()
    yield serving
    bodies.leave.set()
    for service in serving.services:
        service.shutdown()


def test_a_service_settles_runs_and_ends_in_order(serving: Serving) -> None:
    service = serving.service()
    service.start()
    serving.put("a", "nothing")
    serving.until(lambda: serving.states("a") == [RunState.SUCCEEDED])

    assert service.alive
    assert service.shutdown()
    assert not service.alive
    (node,) = serving.memory.nodes()
    assert node.stopping
    assert node.alive_until <= serving.clock.now()
    assert node.roles == ("dispatcher", "worker")


def test_a_report_wakes_the_worker_without_waiting_for_the_poll(serving: Serving) -> None:
    serving.service().start()
    serving.put("warm", "nothing")
    serving.until(lambda: serving.states("warm") == [RunState.SUCCEEDED])
    began = serving.clock.now()
    for n in range(10):
        serving.put(f"s{n}", "nothing")
        serving.until(lambda n=n: serving.states(f"s{n}") == [RunState.SUCCEEDED])

    assert serving.clock.now() - began < seconds(5)  # ten polls, had hints been lost on the way


@pytest.mark.parametrize("roles", [("dispatcher",), ("dispatcher", "worker")])
def test_a_service_sends_by_its_outlets_and_closes_them(serving: Serving, roles: tuple[str, ...]) -> None:
    post = Post()
    post.told = serving.memory.wake
    service = serving.service(roles=roles, outlets=[post])
    service.start()
    serving.put("a", "nothing", target=Target(kind="post", address="a"))
    serving.until(lambda: len(post.got) == 1)

    (node,) = serving.memory.nodes()
    assert "post:a" in node.targets
    assert node.roles == (*roles, "outbox")
    assert serving.states("a") == [RunState.SENT]
    assert service.shutdown()
    assert post.closed


def test_a_service_sends_what_its_outbox_has_before_it_ends(serving: Serving) -> None:
    post = Post()
    post.away, post.told = True, serving.memory.wake
    service = serving.service(outlets=[post])
    service.start()
    serving.put("a", "nothing", target=Target(kind="post", address="a"))
    serving.until(lambda: len(post.tries) > 0)
    service.stop()

    post.away = False

    assert service.shutdown()
    assert len(post.got) == 1


@pytest.mark.parametrize("roles", [("dispatcher",), ("worker",)])
def test_seed_34_roles_run_apart(serving: Serving, roles: tuple[str, ...]) -> None:
    serving.put("a", "nothing")
    service = serving.service(roles=roles)
    service.start()
    if roles == ("dispatcher",):
        serving.until(lambda: serving.states("a") == [RunState.READY])
    serving.until(lambda: bool(serving.memory.nodes()))

    assert serving.memory.nodes()[0].roles == roles
    other = "worker" if roles == ("dispatcher",) else "dispatcher"
    serving.service(roles=(other,)).start()
    serving.until(lambda: serving.states("a") == [RunState.SUCCEEDED])


@pytest.mark.parametrize(
    ("verb", "part"), [("due", "dispatcher"), ("claim", "worker"), ("runs", "alerts"), ("lost", "dispatcher")]
)
def test_a_step_that_fails_is_said_and_goes_on(
    serving: Serving, verb: str, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    serving.store.fail(verb, times=2, error=RuntimeError("a bug of ours"))
    service = serving.service()
    service.start()
    serving.put("a", "nothing")
    serving.until(lambda: serving.states("a") == [RunState.SUCCEEDED])
    serving.until(lambda: service.metrics.value("onebeat_step_failures_total", part) == 2)

    assert service.alive
    events = serving.memory.events(EventQuery(kinds=("node.step_failed",)))
    assert [event.reason for event in events] == [f"{part}: RuntimeError: a bug of ours"]  # once in a minute
    assert "a step failed" in caplog.text


def test_a_store_that_does_not_answer_is_waited_for(serving: Serving) -> None:
    for verb in ("due", "claim", "now"):
        serving.store.fail(verb, times=3)
    service = serving.service()
    service.start()
    serving.put("a", "nothing")

    serving.until(lambda: serving.states("a") == [RunState.SUCCEEDED])

    assert service.alive
    assert serving.memory.events(EventQuery(kinds=("node.step_failed",))) == []
    serving.until(lambda: all(part.failures == 0 for part in service._parts))  # the next one waits little


def test_failures_back_off_within_bounds_and_nodes_apart(serving: Serving) -> None:
    first, second = serving.service(), serving.service()
    waits: dict[Service, list[float]] = {first: [], second: []}
    for service, waited in waits.items():
        part = service._parts[0]
        for part.failures in range(1, 20):
            waited.append(service.failed(part, StoreUnavailable("gone")))

    assert all(0 < wait <= 5 for waited in waits.values() for wait in waited)
    assert waits[first][0] <= 0.1 < waits[first][-1]
    assert waits[first] != waits[second]


def test_an_event_that_cannot_be_recorded_ends_nothing(serving: Serving) -> None:
    serving.store.fail("due", error=RuntimeError("a bug of ours"))
    serving.store.fail("record", error=RuntimeError("and another"))
    service = serving.service()
    service.start()
    serving.put("a", "nothing")

    serving.until(lambda: serving.states("a") == [RunState.SUCCEEDED])

    assert service.alive


def runs_until_terminated(service: Service, terminate: Callable[[], None]) -> bool:
    """Serve in the main thread, stopped by the signal that another thread sends."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: service.stop())
    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        return service.run()
    finally:
        signal.signal(signal.SIGTERM, before)
        thread.join(PATIENCE)


def test_seed_25_sigterm_lets_bodies_finish_and_claims_nothing_new(serving: Serving) -> None:
    service = serving.service()
    serving.put("long", "hangs")
    began = threading.Event()

    def terminate() -> None:
        assert bodies.entered.wait(PATIENCE)
        os.kill(os.getpid(), signal.SIGTERM)
        serving.until(lambda: serving.memory.nodes()[0].stopping)
        serving.put("late", "nothing")
        began.set()
        bodies.leave.set()

    assert runs_until_terminated(service, terminate)

    assert began.is_set()
    assert serving.states("long") == [RunState.SUCCEEDED]
    assert serving.states("late") in ([], [RunState.READY])


def test_a_signal_that_does_not_wake_the_main_thread_ends_it_all_the_same(serving: Serving) -> None:
    """One that comes just as it goes to sleep interrupts nothing; nor does one that another thread gets."""
    service = serving.service()
    main = threading.get_ident()

    def terminate() -> None:
        serving.until(lambda: sys._current_frames()[main].f_code is Service.run.__code__)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    assert runs_until_terminated(service, terminate)


def test_what_outlasts_the_grace_is_released_and_the_service_says_so(serving: Serving) -> None:
    service = serving.service(grace=seconds(0))
    service.start()
    serving.put("long", "hangs")
    assert bodies.entered.wait(PATIENCE)

    assert service.shutdown()  # reported, though not finished

    assert serving.states("long") == [RunState.READY]
    (event,) = serving.memory.events(EventQuery(kinds=("attempt.lost",)))
    assert "did not end within the grace" in event.data["error"]


def test_stopping_before_anything_began_is_no_mistake(serving: Serving) -> None:
    service = serving.service()
    service.stop()

    assert service.run()
    assert service.shutdown()


def test_seed_29_a_coroutine_on_an_interval_runs_once_a_tick_on_many_nodes(serving: Serving) -> None:
    executors = [[PythonExecutor(threads=2, allow=[HERE])] for _ in range(3)]
    for executor in executors:
        serving.service(executors=executor).start()
    now = serving.clock.now()
    definition = Definition(
        trigger=interval(seconds=0.05, anchor=now),
        target=Target(kind="python", address=f"{HERE}:coroutine", args=(17,)),
    )
    serving.memory.put([edits.create("tick", definition, edits.Author(edit_id="e", cut_at=now))])

    serving.until(lambda: serving.states("tick").count(RunState.SUCCEEDED) >= 10)

    runs = serving.memory.runs(RunQuery(schedule="tick"))
    assert len({run.occurrence_at for run in runs}) == len(runs)
    assert all(run.attempt <= 1 for run in runs)
