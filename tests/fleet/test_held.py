"""A row that a client holds: its own schedule fires later, and no other one is any later for it."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from tests.fleet.fleet import Fleet
from tests.servers import ledgers

from onebeat.core.messages import RunQuery
from onebeat.core.model import Run
from onebeat.engine.clock import SystemClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BOTH = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
MANY = 4
LONG_S = 60


def fired(fleet: Fleet, name: str) -> list[Run]:
    return fleet.beat.store.runs(RunQuery(schedule=name, limit=10_000))[::-1]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("seconds", [0, pytest.param(LONG_S, marks=pytest.mark.long)])
def test_a_schedule_whose_row_a_client_holds_fires_after_and_every_other_one_meanwhile(
    fleet: Fleet, kind: str, seconds: int
) -> None:
    fleet.put(6)
    held, *others = fleet.names
    fleet.start(2)
    fleet.until_fired(1)

    with ledgers.connected(kind, fleet.url) as run:
        run(f"SELECT id FROM onebeat_schedules WHERE name = '{held}' FOR UPDATE")
        began_at = SystemClock().now()
        before = {name: len(fired(fleet, name)) for name in fleet.names}
        fleet.until(lambda: all(len(fired(fleet, name)) >= before[name] + MANY for name in others))
        threading.Event().wait(seconds)  # the long one is about the time itself
        let_go_at = SystemClock().now()
        of_held = [each for each in fired(fleet, held) if each.created_at > began_at + timedelta(seconds=1)]
        kept_waiting = {name: len(fired(fleet, name)) - before[name] for name in others}
    fleet.until_fired(2)
    fleet.rest()

    assert of_held == []  # nobody came past the client
    assert min(kept_waiting.values()) >= max(MANY, seconds)
    owed = [each for each in fired(fleet, held) if began_at < each.due_at < let_go_at - timedelta(seconds=1)]
    assert len(owed) >= min(kept_waiting.values()) - 2  # all of it fired, after
    assert {each.created_at >= let_go_at - timedelta(seconds=1) for each in owed[1:]} == {True}
    fleet.prove()
    assert fleet.doubled() == set()
    assert Counter(each.schedule for each in fleet.runs()).keys() == set(fleet.names)
