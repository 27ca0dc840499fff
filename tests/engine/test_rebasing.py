"""New data about zones and calendars: every row is computed anew, nothing is late and nothing fires twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from tests.engine.lab import START, Flaky, Lab, seconds

from onebeat.core.errors import MissingExtra
from onebeat.core.messages import Hold
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import registry
from onebeat.core.triggers.interval import IntervalTrigger, interval
from onebeat.core.triggers.registry import Kind
from onebeat.engine.dispatcher import Dispatcher

HOUR = timedelta(hours=1)
GOVERNED = TriggerSpec(kind="governed")


class Governed:
    """What a government says: every four hours; since the news, every hour."""

    zoned = True
    late_start = False
    every = 4 * HOUR
    missing = False

    def _rule(self) -> IntervalTrigger:
        if self.missing:
            raise MissingExtra("the gazette is not installed; pip install 'onebeat[gazette]'")
        found = registry.build(interval(self.every, anchor=START))
        assert isinstance(found, IntervalTrigger)
        return found

    def after(self, t: datetime) -> datetime | None:
        return self._rule().after(t)

    def before(self, t: datetime) -> datetime | None:
        return self._rule().before(t)

    def count(self, after: datetime, until: datetime) -> int:
        return self._rule().count(after, until)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    governed = Governed()
    monkeypatch.setitem(registry._KINDS, "governed", Kind(build=lambda fields: governed))
    monkeypatch.setattr(Governed, "every", 4 * HOUR)
    monkeypatch.setattr(Governed, "missing", False)
    lab = Lab()
    for name in ("a", "b", "c"):
        lab.put(name, GOVERNED)
    lab.put("plain", interval(HOUR, anchor=START))
    return lab


def dispatcher(lab: Lab, data: str, store: Flaky | None = None) -> Dispatcher:
    return Dispatcher(store or Flaky(lab.store), lab.clock, holder=data, data=data)  # type: ignore[arg-type] -- it stands in for a store, and is none by type


def walked(lab: Lab, node: Dispatcher) -> None:
    """Have a node do all of its first walk: no time has to pass for it but the pause between pages."""
    for _ in range(10):
        node.step()
        lab.clock.advance(seconds(1))


def next_at(lab: Lab, name: str) -> datetime | None:
    return lab.store.owing([name])[0][0].next_at


def test_an_occurrence_that_new_data_brings_is_on_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    walked(lab, dispatcher(lab, "2026a"))
    assert next_at(lab, "a") == START + 4 * HOUR
    monkeypatch.setattr(Governed, "every", HOUR)

    node = dispatcher(lab, "2026b")
    walked(lab, node)
    lab.clock.set(START + HOUR)
    node.step()

    assert {name: next_at(lab, name) for name in ("a", "b", "c")} == dict.fromkeys("abc", START + 2 * HOUR)
    assert [run.lateness for run in lab.runs("a")] == [timedelta(0)]


def test_without_new_data_nothing_is_walked_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    walked(lab, dispatcher(lab, "2026a"))
    before = lab.store.owing(["a", "b", "c", "plain"])
    monkeypatch.setattr(Governed, "every", HOUR)

    seen = Flaky(lab.store)
    walked(lab, dispatcher(lab, "2026a", seen))

    assert "schedules" not in seen.calls
    assert lab.store.owing(["a", "b", "c", "plain"]) == before


def test_rows_that_new_data_does_not_move_keep_their_version(lab: Lab) -> None:
    before = lab.store.owing(["a", "b", "c", "plain"])

    walked(lab, dispatcher(lab, "2026a"))

    assert lab.store.owing(["a", "b", "c", "plain"]) == before


def test_a_walk_that_was_cut_off_is_done_by_whoever_starts_next(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Governed, "every", HOUR)
    monkeypatch.setattr("onebeat.engine.dispatcher.CHORE_MAX", 1)
    dispatcher(lab, "2026b").step()  # one page, and its process dies
    assert [next_at(lab, name) for name in "abc"].count(START + HOUR) == 1

    walked(lab, dispatcher(lab, "2026b"))

    assert [next_at(lab, name) for name in "abc"].count(START + HOUR) == 3


def test_under_a_hold_the_walk_waits(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Governed, "every", HOUR)
    lab.store.hold(Hold(since_at=lab.now()), "held")
    node = dispatcher(lab, "2026b")
    node.step()
    assert next_at(lab, "a") == START + 4 * HOUR

    lab.store.hold(None, "released")
    lab.clock.advance(seconds(11))
    node.step()

    assert next_at(lab, "a") == START + HOUR


def test_what_came_due_by_new_data_before_it_was_known_fires_now_and_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked(lab, dispatcher(lab, "2026a"))
    monkeypatch.setattr(Governed, "every", HOUR)
    lab.clock.set(START + 2.5 * HOUR)

    walked(lab, dispatcher(lab, "2026b"))

    (run,) = lab.runs("a")
    assert (run.occurrence_at, run.fold and run.fold.count) == (START + 2 * HOUR, 2)


# --- a library that is not here ---------------------------------------------------------------------------


def test_a_schedule_whose_library_is_missing_here_is_left_to_others_and_said_so_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = lab.node("without").dispatcher
    lab.clock.set(START + 4 * HOUR)
    monkeypatch.setattr(Governed, "missing", True)
    for _ in range(100):
        node.step()
        lab.clock.advance(seconds(1))

    rows = [row for row, _ in lab.store.owing(["a", "b", "c"])]
    assert [row.quarantined for row in rows] == [None] * 3
    assert lab.runs("plain")
    said = lab.events("node.step_failed")
    assert sorted(event.schedule or "" for event in said) == ["a", "b", "c"]
    assert "onebeat[gazette]" in said[0].reason

    monkeypatch.setattr(Governed, "missing", False)
    lab.node("with").dispatcher.step()
    assert [len(lab.runs(name)) for name in "abc"] == [1, 1, 1]
