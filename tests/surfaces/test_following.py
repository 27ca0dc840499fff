"""Handlers of events are called at least once, in order, and go on where they stopped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.surfaces.stage import Town, close

from onebeat import Event, InvalidInput, interval
from onebeat.app.following import TRIES_MAX, Follower
from onebeat.core.messages import EventQuery
from onebeat.core.model import Node
from onebeat.store.memory import MemoryStore


@pytest.fixture
def town() -> Town:
    return Town()


def event(kind: str = "run.failed", schedule: str | None = None) -> Event:
    return Event(at=Town().clock.now(), kind=kind, schedule=schedule)


class Listener:
    """A handler that remembers, and fails when it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.heard: list[Event] = []
        self.fails = fails

    def __call__(self, event: Event) -> None:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("not now")
        self.heard.append(event)

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.heard]


def follower(handler: Callable[[Event], None], *kinds: str, tag: str | None = None) -> Follower:
    return Follower("tell", kinds, tag, handler)


def test_a_new_handler_hears_what_happens_from_now_on(town: Town) -> None:
    town.store.record([event()])
    heard = Listener()
    follows = follower(heard, "run.failed")

    follows.step(town.store, "n1")
    town.store.record([event(), event("run.parked"), event()])
    follows.step(town.store, "n1")

    assert heard.ids == [2, 4]


def test_a_handler_goes_on_where_it_stopped(town: Town) -> None:
    first, second = Listener(), Listener()
    follower(first).step(town.store, "n1")
    town.store.record([event(), event()])
    follower(first).step(town.store, "n1")
    town.store.record([event()])

    follower(second).step(town.store, "n2")

    assert (first.ids, second.ids) == ([1, 2], [3])


def test_a_handler_whose_node_dies_after_it_was_called_is_called_again(town: Town) -> None:
    # At least once: the cursor moves only after the handler returned.
    follower(Listener()).step(town.store, "n1")
    town.store.record([event()])

    class Dies(Listener):
        def __call__(self, event: Event) -> None:
            super().__call__(event)
            raise KeyboardInterrupt

    first, second = Dies(), Listener()
    with pytest.raises(KeyboardInterrupt):
        follower(first).step(town.store, "n1")
    follower(second).step(town.store, "n2")

    assert (first.ids, second.ids) == ([1], [1])


def test_a_failing_handler_is_called_again_and_later_each_time(town: Town) -> None:
    heard = Listener(fails=3)
    follows = follower(heard)
    follows.step(town.store, "n1")
    town.store.record([event(), event()])

    pauses = []
    for _ in range(3):
        pauses.append((follows.step(town.store, "n1") - town.clock.now()).total_seconds())
        assert heard.ids == []
    follows.step(town.store, "n1")

    assert heard.ids == [1, 2]
    assert pauses == [1.0, 2.0, 4.0]


def test_an_event_that_always_fails_is_passed_over_and_said(town: Town) -> None:
    heard = Listener(fails=TRIES_MAX)
    follows = follower(heard, "run.failed")
    follows.step(town.store, "n1")
    town.store.record([event(), event()])

    for _ in range(TRIES_MAX):
        follows.step(town.store, "n1")

    assert heard.ids == [2]
    (said,) = town.store.events(EventQuery(kinds=("handler.given_up",)))
    assert said.data == {"event": 1, "kind": "run.failed", "tries": TRIES_MAX}
    assert "tell: RuntimeError: not now" in said.reason


def test_a_tag_keeps_to_events_of_its_schedules(town: Town) -> None:
    app = town.app()
    app.schedules.put("a", interval(hours=1), close, tags=["billing"])
    app.schedules.put("b", interval(hours=1), close)
    heard = Listener()
    follows = follower(heard, tag="billing")
    follows.step(town.store, "n1")

    app.schedules.pause("a")
    app.schedules.pause("b")
    town.store.record([event()])
    app.schedules.delete("a")
    follows.step(town.store, "n1")

    assert [each.kind for each in heard.heard] == ["schedule.paused", "schedule.deleted"]


def alive(store: MemoryStore, town: Town, name: str, follows: Follower, seconds: float = 30) -> None:
    now = town.clock.now()
    store.announce(
        Node(
            id=name,
            host="h",
            pid=1,
            roles=("dispatcher", follows.role),
            started_at=now,
            seen_at=now,
            alive_until=now + timedelta(seconds=seconds),
        )
    )


def test_of_several_nodes_one_calls_the_handler_while_it_lives(town: Town) -> None:
    one, two = Listener(), Listener()
    first, second = follower(one), follower(two)
    alive(town.store, town, "n1", first)
    alive(town.store, town, "n2", second, seconds=90)
    for each, name in ((first, "n1"), (second, "n2")):
        each.step(town.store, name)
    town.store.record([event()])
    for each, name in ((first, "n1"), (second, "n2")):
        each.step(town.store, name)
    assert (one.ids, two.ids) == ([1], [])

    town.clock.advance(timedelta(seconds=31))
    town.store.record([event()])
    second.step(town.store, "n2")
    assert two.ids == [2]


def test_a_node_that_comes_back_reads_the_cursor_anew(town: Town) -> None:
    one, two = Listener(), Listener()
    first, second = follower(one), follower(two)
    first.step(town.store, "n2")
    town.store.record([event()])
    first.step(town.store, "n2")
    alive(town.store, town, "n1", second)
    first.step(town.store, "n2")  # stands by from here on
    town.store.record([event()])
    second.step(town.store, "n1")
    town.clock.advance(timedelta(seconds=31))
    first.step(town.store, "n2")

    assert (one.ids, two.ids) == ([1], [2])


def test_more_than_a_page_is_worked_off_at_once(town: Town) -> None:
    heard = Listener()
    follows = follower(heard)
    follows.step(town.store, "n1")
    town.store.record([event() for _ in range(250)])

    while follows.step(town.store, "n1") == town.clock.now():
        pass

    assert heard.ids == list(range(1, 251))


def test_a_kind_that_there_is_not_is_refused_with_the_nearest(town: Town) -> None:
    with pytest.raises(InvalidInput, match=r"did you mean 'run\.failed'"):
        town.app().on("run.faild")


def test_a_handler_without_a_name_needs_one(town: Town) -> None:
    with pytest.raises(InvalidInput, match="name="):
        town.app().on("run.failed")(Listener())
    town.app().on("run.failed", name="listener")(Listener())


def test_a_node_announces_the_handlers_that_it_serves(town: Town) -> None:
    app = town.app()

    @app.on("run.failed", name="pager")
    def tell(event: Event) -> None:
        pass

    app.service(("dispatcher",)).shutdown()
    assert app.nodes.list()[0].roles == ("dispatcher", "on:pager")
