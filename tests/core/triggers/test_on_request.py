"""What runs only when it is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from onebeat import InvalidTrigger, Onebeat, RunState, TriggerSpec, cron, on_request
from onebeat.core.triggers import build
from onebeat.testing.clock import VirtualClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_it_never_comes_and_never_came() -> None:
    trigger = build(on_request())

    assert trigger.after(NOON) is trigger.before(NOON) is None
    assert trigger.count(NOON, NOON + timedelta(days=36_500)) == 0


def test_it_has_no_fields() -> None:
    with pytest.raises(InvalidTrigger, match="on_request"):
        build(TriggerSpec(kind="on_request", fields={"at": "noon"}))


def test_added_to_others_it_changes_nothing() -> None:
    nine = cron("0 9 * * *", zone="UTC")

    assert build(nine | on_request()).after(NOON) == build(nine).after(NOON)
    assert build(nine - on_request()).before(NOON) == build(nine).before(NOON)


def test_its_schedule_runs_when_asked_and_the_ledger_is_right() -> None:
    clock = VirtualClock(NOON)
    with Onebeat("memory://", zone="UTC", clock=clock) as beat:
        written = beat.schedules.put("repair", on_request(), "shop.prices:repair")
        clock.advance(timedelta(days=400))
        run = beat.runs.request("repair", key="event-17")

        assert written.schedule.next_at is None
        assert (run.id, run.state) == ("repair!event-17", RunState.READY)
        assert beat.audit(["repair"]).right
        assert beat.schedules.show("repair").upcoming == ()
