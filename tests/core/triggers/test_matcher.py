"""The matcher of the audit and the triggers, which share no code, agree."""

from __future__ import annotations

import ast
import inspect
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.triggers.reading import MICROSECOND, at, forward, instants
from tests.core.triggers.test_properties import INSTANTS, SPECS, crons, near_a_change

from onebeat.core import matcher
from onebeat.core.errors import InvalidTrigger
from onebeat.core.matcher import matches
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import build, cron, interval, once


def agree(spec: TriggerSpec, start: datetime, end: datetime) -> None:
    found = list(matches(spec, start, end))

    assert found == forward(spec, start + MICROSECOND, end + MICROSECOND)
    assert len(found) == build(spec).count(start, end)


@pytest.mark.slow
@settings(max_examples=30)
@given(crons(), INSTANTS, st.integers(0, 10_000))
def test_they_agree_near_changes_of_the_clock(spec: TriggerSpec, t: datetime, index: int) -> None:
    start = near_a_change(spec, t, index) + timedelta(hours=12)

    agree(spec, start, start + timedelta(hours=30))


@pytest.mark.slow
@settings(max_examples=40)
@given(SPECS, INSTANTS)
def test_they_agree_on_combinations(spec: TriggerSpec, t: datetime) -> None:
    agree(spec, t, t + timedelta(hours=30))


@pytest.mark.long
@settings(max_examples=3_000)
@given(crons(), INSTANTS, st.integers(0, 10_000))
def test_they_agree_near_very_many_changes_of_the_clock(spec: TriggerSpec, t: datetime, index: int) -> None:
    start = near_a_change(spec, t, index)

    agree(spec, start, start + timedelta(hours=50))


HALF = at("2018-10-01T00:00:00.5")
MONTHS = [
    cron("0 9 * * *", zone="Pacific/Apia") & cron("0 * * * *", zone="Pacific/Apia"),
    cron("@weekly", zone="America/Sao_Paulo"),
    (cron("0 0 L * FRI#2", zone="Asia/Tehran", gap="skip") | once(HALF)).between(at("2018-02-01")),
    interval(hours=7, anchor=HALF) - interval(hours=21, anchor=HALF),
]


@pytest.mark.parametrize("spec", MONTHS)
def test_they_agree_over_months(spec: TriggerSpec) -> None:
    agree(spec, at("2011-12-20"), at("2012-01-10"))
    agree(spec, at("2018-10-10"), at("2018-12-10"))


DAYS = [
    "0 9 LW * *",
    "0 9 1W,15W,31W * *",
    "0 9 L,L-3 2-9/2 *",
    "0 9 28-3 * *",
    "0 9 * * FRIL,2#2,7#5",
    "0 9 * nov-FEB 5-7",
    "0 9 1,L * sat-MON",
    "0 9 ? * 0-7/7",
    "5 0 9 */3 * 1/2",
    "@monthly",
]


@pytest.mark.parametrize("expression", DAYS)
def test_they_agree_on_every_way_to_name_a_day(expression: str) -> None:
    agree(cron(expression), at("2027-12-31"), at("2028-05-01"))
    agree(cron(expression, days="all"), at("2027-02-01"), at("2027-03-01"))


def test_the_interval_is_open_at_its_start_and_closed_at_its_end() -> None:
    spec = cron("0 9 * * *")

    assert list(matches(spec, at("2026-11-21T09:00"), at("2026-11-23T09:00"))) == instants(
        "2026-11-22T09:00 2026-11-23T09:00"
    )
    assert list(matches(spec, at("2026-11-21T09:00"), at("2026-11-21T09:00"))) == []


@pytest.mark.parametrize(
    "spec",
    [
        TriggerSpec(kind="solar", fields={"at": "dawn"}),
        interval(hours=1),
        once(in_=timedelta(1)),
        TriggerSpec(kind="x"),
    ],
)
def test_what_cannot_be_checked_is_refused(spec: TriggerSpec) -> None:
    with pytest.raises(InvalidTrigger, match="cannot be checked"):
        list(matches(spec, at("2026-11-21"), at("2026-11-22")))


def test_it_shares_no_code_with_the_triggers() -> None:
    tree = ast.parse(inspect.getsource(matcher))

    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any("triggers" in (module or "") for module in imported)
    assert imported & {"onebeat.core.errors", "onebeat.core.model"}
