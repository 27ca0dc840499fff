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
        began_at = fleet.beat.store.now()
        before = {name: len(fired(fleet, name)) for name in fleet.names}
        threading.Event().wait(seconds)  # the long one is about the time itself
        many = max(MANY, seconds)
        fleet.until(lambda: all(len(fired(fleet, name)) >= before[name] + many for name in others))
        of_held = fired(fleet, held)
        let_go_at = fleet.beat.store.now()
    fleet.until_fired(2)
    fleet.rest()

    assert len(of_held) == before[held]  # nobody came past the client
    after = fired(fleet, held)[before[held] :]
    due = [each for each in after if began_at < each.due_at < let_go_at]
    assert len(due) >= (let_go_at - began_at) // timedelta(seconds=1) - 1  # all of it fired, after
    fleet.prove()
    assert fleet.doubled() == set()
    assert Counter(each.schedule for each in fleet.runs()).keys() == set(fleet.names)
