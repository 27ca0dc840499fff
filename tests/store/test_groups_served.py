"""Groups where transactions run side by side: what one commits between two statements of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.servers import ledgers

from onebeat.core.messages import Answer, Guard, RunQuery
from onebeat.core.model import Overlap, RunState
from onebeat.store import sql_groups
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import HOUR, SECOND, Book

OUT = (RunState.SENT, RunState.RUNNING)


@pytest.fixture(
    params=[pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Book, Book]]:
    """Two nodes on connections of their own; three runs of a group are ready, and one of none."""
    url, clock = ledgers.ledger_url(request.param, tmp_path), VirtualClock(NOON)
    with ExitStack() as left:

        def node() -> Book:
            return Book(left.enter_context(closing(ledgers.opened_at(url, clock))), clock)

        one, other = node(), node()
        for name, group in (("a", "invoices"), ("b", "invoices"), ("free", None)):
            one.create(name, overlap=Overlap.ALLOW, exclusive=group)
        for number, name in enumerate(("a", "b", "a", "free")):
            one.request(name, f"k{number}", ready_at=NOON - HOUR + number * SECOND)
        yield one, other


def then(monkeypatch: pytest.MonkeyPatch, where: object, name: str, does: Callable[[], None]) -> None:
    """Do something else each time that a function has done its work, but not within what is done then."""
    original: Callable[..., Any] = getattr(where, name)
    busy = False

    def hooked(*args: Any, **more: Any) -> Any:
        nonlocal busy
        found = original(*args, **more)
        if not busy:
            busy = True
            does()
            busy = False
        return found

    monkeypatch.setattr(where, name, hooked)


def out(book: Book) -> list[str]:
    runs = book.store.runs(RunQuery(states=OUT, limit=100))
    return sorted(run.id for run in runs if run.exclusive is not None)


def test_a_claim_that_was_overtaken_after_its_look_passes_the_group_by(
    nodes: tuple[Book, Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = nodes
    taken: list[str] = []
    with monkeypatch.context() as patch:
        # The slow one has read that the group has none out; what it reads next, the quick one has changed.
        then(patch, sql_groups, "runs_out", lambda: taken.extend(c.run.id for c in quick.claim(limit=1)))
        found = [each.run.id for each in slow.claim()]

    assert taken == ["a!k0"]
    assert found == ["free!k3"]
    assert out(slow) == ["a!k0"]


def test_a_claim_passes_by_a_group_that_another_one_is_letting_a_run_out_of_and_never_waits(
    nodes: tuple[Book, Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = nodes
    found: list[str] = []
    with monkeypatch.context() as patch:
        then(patch, sql_groups, "let_out", lambda: found.extend(c.run.id for c in quick.claim()))
        taken = [each.run.id for each in slow.claim(limit=1)]

    assert (taken, found) == (["a!k0"], ["free!k3"])
    assert out(slow) == ["a!k0"]


def test_a_guard_is_refused_while_a_claim_lets_another_run_out_and_never_waits(
    nodes: tuple[Book, Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    claiming, guarding = nodes
    guard = Guard(run_id="a!k2", attempt=1, holder="engine", until=guarding.now + HOUR)
    told: list[Answer] = []
    with monkeypatch.context() as patch:
        then(patch, sql_groups, "let_out", lambda: told.append(guarding.advance(guard).answer))
        taken = [each.run.id for each in claiming.claim(limit=1)]

    assert (taken, told) == (["a!k0"], [Answer.REFUSED])
    assert out(claiming) == ["a!k0"]


def test_a_claim_passes_by_a_group_that_a_guard_is_about_to_take(
    nodes: tuple[Book, Book], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarding, claiming = nodes
    found: list[str] = []
    guard = Guard(run_id="a!k2", attempt=1, holder="engine", until=guarding.now + HOUR)
    with monkeypatch.context() as patch:
        then(patch, sql_groups.Turns, "bars", lambda: found.extend(c.run.id for c in claiming.claim()))
        told = guarding.advance(guard)

    assert told.answer is Answer.ACCEPTED
    assert found == ["free!k3"]
    assert out(guarding) == ["a!k2"]
