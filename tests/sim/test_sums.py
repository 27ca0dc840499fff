"""The sums that the checkers rely on, held against instants written out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from onebeat.core.model import TriggerSpec, as_json
from onebeat.testing.sums import expected

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVERY_SECOND = TriggerSpec(kind="interval", fields={"period_s": 1, "anchor_at": "2026-11-21T12:00:00Z"})
EVERY_OTHER = TriggerSpec(kind="interval", fields={"period_s": 2, "anchor_at": "2026-11-21T12:00:00Z"})


def at(*seconds: float) -> list[datetime]:
    return [T0 + second * SECOND for second in seconds]


def test_an_interval_begins_at_its_anchor_and_keeps_its_period() -> None:
    half = TriggerSpec(kind="interval", fields={"period_s": 0.5, "anchor_at": "2026-11-21T12:00:00Z"})

    assert expected(half, T0 - 5 * SECOND, T0 + SECOND) == at(0, 0.5, 1)


def test_the_lower_bound_is_left_out_and_the_upper_one_is_in() -> None:
    assert expected(EVERY_SECOND, T0, T0 + 2 * SECOND) == at(1, 2)


def test_a_cron_of_seconds_names_seconds_of_each_minute() -> None:
    listed = TriggerSpec(kind="cron", fields={"expression": "50,7 * * * * *"})
    stepped = TriggerSpec(kind="cron", fields={"expression": "*/20 * * * * *"})

    assert expected(listed, T0, T0 + 68 * SECOND) == at(7, 50, 67)
    assert expected(stepped, T0 - SECOND, T0 + 60 * SECOND) == at(0, 20, 40, 60)


def test_combinations_follow_from_their_parts() -> None:
    odd = TriggerSpec(kind="except", fields={"of": as_json(EVERY_SECOND), "without": as_json(EVERY_OTHER)})
    both = TriggerSpec(kind="union", fields={"of": [as_json(EVERY_OTHER), as_json(EVERY_SECOND)]})
    fields = {
        "of": as_json(EVERY_SECOND),
        "start_at": "2026-11-21T12:00:02Z",
        "end_at": "2026-11-21T12:00:03Z",
    }
    bounded = TriggerSpec(kind="between", fields=fields)

    assert expected(odd, T0, T0 + 4 * SECOND) == at(1, 3)
    assert expected(both, T0, T0 + 3 * SECOND) == at(1, 2, 3)
    assert expected(bounded, T0, T0 + 9 * SECOND) == at(2, 3)


def test_a_one_off_comes_once() -> None:
    once = TriggerSpec(kind="once", fields={"at": "2026-11-21T12:00:02Z"})

    assert expected(once, T0, T0 + 9 * SECOND) == at(2)
    assert expected(once, T0 + 2 * SECOND, T0 + 9 * SECOND) == []


@pytest.mark.parametrize(
    "spec",
    [
        TriggerSpec(kind="cron", fields={"expression": "0 9 * * *"}),
        TriggerSpec(kind="cron", fields={"expression": "0 0 9 * * MON"}),
        TriggerSpec(kind="solar", fields={}),
    ],
)
def test_what_has_no_sum_is_refused_and_not_guessed(spec: TriggerSpec) -> None:
    with pytest.raises(ValueError, match="nobody has written the sum"):
        expected(spec, T0, T0 + SECOND)
