"""Calendar intervals, recurrence rules and the sun, from the declaration to the audit."""

from __future__ import annotations

from typing import Any

import pytest

from onebeat import calendar_interval, rrule, solar


@pytest.mark.onebeat(zone="Europe/Oslo")
def test_they_fire_are_settled_once_and_are_audited(onebeat: Any) -> None:
    fired: dict[str, list[str]] = {"months": [], "rule": [], "sun": []}

    @onebeat.scheduled(calendar_interval(days=10, at="09:00"), name="months")
    def months(run: Any) -> None:
        fired["months"].append(f"{run.occurrence:%m-%d %H:%M}")

    @onebeat.scheduled(rrule("FREQ=WEEKLY;BYDAY=MO;BYHOUR=9;BYMINUTE=0;BYSECOND=0"), name="rule")
    def rule(run: Any) -> None:
        fired["rule"].append(f"{run.occurrence:%m-%d %H:%M}")

    @onebeat.scheduled(solar("sunset", 59.91, 10.75), name="sun")
    def sun(run: Any) -> None:
        fired["sun"].append(f"{run.occurrence:%m-%d %H:%M}")

    onebeat.run_until("2026-12-12T00:00")

    assert fired["months"] == ["12-01 08:00", "12-11 08:00"]
    assert fired["rule"] == ["11-23 08:00", "11-30 08:00", "12-07 08:00"]
    assert len(fired["sun"]) == 21
    assert fired["sun"][1] == "11-22 14:34"
    proofs = {each.schedule: each for each in onebeat.audit().schedules}
    assert {name: each.proof for name, each in proofs.items()} == {
        "months": "rows",
        "rule": "rows",
        "sun": "tiles",
    }
    assert all(each.right for each in proofs.values())
