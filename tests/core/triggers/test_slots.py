"""H in cron: slots that hang on the name of a schedule and on nothing else."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.core.triggers.reading import at, forward
from tests.core.triggers.test_matcher import agree

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.reconcile import resolves
from onebeat.core.triggers import anchored, build, cron, interval, named, words
from onebeat.core.triggers.cronfields import read_cron

DAY = at("2026-11-23")


def minutes_of(expression: str, slot: str) -> tuple[int, ...]:
    return read_cron(expression, slot=slot).minutes


# Never change this table: schedules would move at the next upgrade.
SLOTS = {
    "report": (4, 11, 12, 8),
    "daily-report": (46, 16, 10, 8),
    "a": (54, 9, 19, 1),
    "close-order-17": (8, 8, 3, 6),
}


@pytest.mark.parametrize(("name", "values"), SLOTS.items())
def test_a_slot_never_changes(name: str, values: tuple[int, ...]) -> None:
    read = read_cron("H H H H H", slot=name)
    rule = read.days.rule

    assert (read.minutes, read.hours) == ((values[0],), (values[1],))
    assert (rule.days, rule.months) == ({values[2]}, {values[3]})


def test_many_names_spread_evenly() -> None:
    names = [f"tenant-{number}" for number in range(6_000)]
    reads = [read_cron("H H * * *", slot=name) for name in names]
    minutes = Counter(read.minutes[0] for read in reads)
    pairs = Counter((read.minutes[0] % 24, read.hours[0]) for read in reads)

    assert len(minutes) == 60
    assert 55 <= min(minutes.values()) <= max(minutes.values()) <= 150
    assert len(pairs) > 570  # of 576: minutes and hours do not go together


@pytest.mark.parametrize(
    ("expression", "low", "high", "step"),
    [
        ("H * * * *", 0, 59, 60),
        ("H/15 * * * *", 0, 59, 15),
        ("H(10-29) * * * *", 10, 29, 20),
        ("H(0-29)/10 * * * *", 0, 29, 10),
        ("H/7 * * * *", 0, 59, 7),
        ("H(5-5) * * * *", 5, 5, 1),
    ],
)
@given(st.text(min_size=1))
def test_a_slot_lies_in_its_range_and_keeps_its_step(
    expression: str, low: int, high: int, step: int, name: str
) -> None:
    found = minutes_of(expression, name)

    assert low <= found[0] < low + step
    assert found == tuple(range(found[0], high + 1, step))


@given(st.text(min_size=1))
def test_a_bare_slot_comes_in_every_month_and_week(name: str) -> None:
    assert len(forward(cron("0 0 H * *", slot=name), at("2026-01-01"), at("2027-01-01"))) == 12
    assert 52 <= len(forward(cron("0 0 * * H", slot=name), at("2026-01-01"), at("2027-01-01"))) <= 53


def test_slots_of_one_field_share_their_number() -> None:
    for name in SLOTS:
        first, second = minutes_of("H(0-29),H(30-59) * * * *", name)
        assert second == first + 30


def test_names_of_days_and_months_are_no_slots() -> None:
    assert read_cron("0 9 * MAR THU") == read_cron("0 9 * 3 4")
    (day,) = read_cron("0 9 * * H(mon-fri)", slot="report").days.rule.weekdays
    assert 1 <= day <= 5


def test_a_slot_is_filled_in_with_a_name_and_stays() -> None:
    spec = (cron("H 9 * * *") | interval(hours=1)) - cron("* * * * SUN")
    one = named(spec, "report")

    assert one == (cron("H 9 * * *", slot="report") | interval(hours=1)) - cron("* * * * SUN")
    assert named(one, "other") == one
    assert named(cron("0 9 * * *"), "report") == cron("0 9 * * *")


def test_a_declaration_without_a_slot_is_the_same_as_the_row_with_one() -> None:
    declared = cron("H 9 * * *") & cron("* * * * MON-FRI")
    row = anchored(named(declared, "report"), DAY)

    assert resolves(declared, row)
    assert not resolves(cron("H 10 * * *") & cron("* * * * MON-FRI"), row)
    assert not resolves(cron("H 9 * * *", slot="other") & cron("* * * * MON-FRI"), row)
    assert not resolves(cron("0 9 * * *"), named(cron("H 9 * * *"), "report"))


def test_without_a_name_a_slot_holds_nothing_and_says_what_it_hangs_on() -> None:
    trigger = build(cron("H 9 * * *"))

    for ask in (trigger.after, trigger.before, lambda t: trigger.count(t, t + timedelta(1))):
        with pytest.raises(InvalidTrigger, match=r"hangs on the name of its schedule.*slot='report'"):
            ask(DAY)


def test_a_slot_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="there is no H in it"):
        cron("0 9 * * THU", slot="report")


FIELD = st.sampled_from(["H", "H/3", "*", "*/2", "H(2-5)", "H(1-6)/2", "3", "H(1-2),5", "2,H(4-6)"])


@st.composite
def slotted(draw: st.DrawFn) -> TriggerSpec:
    fields = [draw(FIELD) for _ in range(5)]
    fields[4] = draw(st.sampled_from(["*", "H", "H(MON-FRI)", "H/2", "THU"]))
    fields[3] = draw(st.sampled_from(["*", "*", "H", "H(NOV-DEC)"]))
    second = draw(st.sampled_from([[], ["H"], ["H/20"]]))
    expression = " ".join([*second, *fields])
    assume(re.search(r"\bH\b", expression))  # a slot without one is refused, and THU has none
    return cron(expression, slot=draw(st.text(min_size=1, max_size=20)))


@pytest.mark.slow
@settings(max_examples=60)
@given(slotted(), st.integers(0, 364))
def test_the_matcher_agrees_on_slots(spec: TriggerSpec, day: int) -> None:
    start = at("2026-01-01") + timedelta(days=day)

    agree(spec, start, start + timedelta(days=2))


def test_a_slot_says_itself_in_both_languages() -> None:
    spec = cron("H 9 * * MON-FRI", zone="Asia/Shanghai")
    (minute,) = minutes_of("H * * * *", "report")

    assert words(spec) == "H 9 * * MON-FRI, where H hangs on the name, Asia/Shanghai"
    assert words(spec, "zh") == "H 9 * * MON-FRI,H由名称决定(Asia/Shanghai)"
    assert words(named(spec, "report")) == f"at 09:{minute:02}, Monday to Friday, Asia/Shanghai"
    assert words(named(spec, "report"), "zh") == f"周一至周五 09:{minute:02}(Asia/Shanghai)"
