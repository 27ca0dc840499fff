"""Union, intersection, except and between: sets of instants, that always answer."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.core.triggers.reading import MICROSECOND, at, backward, forward, instants

from onebeat.core.errors import InvalidTrigger
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import Trigger, anchored, build, combine, cron, interval, kind, once
from onebeat.core.triggers.instants import EARLIEST

NOW = at("2026-11-21T12:00")
NEW_YORK, LONDON, SHANGHAI = "America/New_York", "Europe/London", "Asia/Shanghai"
DAILY = cron("0 9 * * *")


def in_both_directions(spec: TriggerSpec, start: str, stop: str) -> list[datetime]:
    found = forward(spec, at(start), at(stop))
    assert backward(spec, at(start), at(stop)) == found
    assert build(spec).count(at(start) - MICROSECOND, at(stop) - MICROSECOND) == len(found)
    return found


def test_a_union_holds_each_instant_once() -> None:
    spec = DAILY | cron("0 9,10 * * *") | once(at("2026-11-21T09:30"))

    assert in_both_directions(spec, "2026-11-21", "2026-11-22T09:30") == instants(
        "2026-11-21T09:00 2026-11-21T09:30 2026-11-21T10:00 2026-11-22T09:00"
    )


def test_an_intersection_holds_what_all_parts_hold() -> None:
    spec = cron("0 9 * * *") & cron("0 * * * MON") & cron("0 9 1-7 * *")

    assert in_both_directions(spec, "2026-11-01", "2027-01-01") == instants(
        "2026-11-02T09:00 2026-12-07T09:00"
    )


def test_an_intersection_across_zones_compares_instants() -> None:
    # Nine in New York is two in London, but one in the weeks between their changes of the clock.
    spec = cron("0 9 * * *", zone=NEW_YORK) & cron("0 13 * * *", zone=LONDON)

    found = in_both_directions(spec, "2026-01-01", "2027-01-01")
    assert [found[0], found[20], found[21], found[-1]] == instants(
        "2026-03-08T13:00 2026-03-28T13:00 2026-10-25T13:00 2026-10-31T13:00"
    )
    assert len(found) == 21 + 7


def test_except_leaves_out_what_the_other_holds() -> None:
    spec = cron("0 9 * * *") - cron("* * * * SAT,SUN") - once(at("2026-11-24T09:00"))

    assert in_both_directions(spec, "2026-11-20", "2026-11-26") == instants(
        "2026-11-20T09:00 2026-11-23T09:00 2026-11-25T09:00"
    )


def test_between_includes_both_of_its_bounds() -> None:
    spec = DAILY.between(at("2026-11-21T09:00"), at("2026-11-23T09:00"))

    assert in_both_directions(spec, "2026-11-01", "2026-12-01") == instants(
        "2026-11-21T09:00 2026-11-22T09:00 2026-11-23T09:00"
    )


def test_between_may_be_open_on_either_side() -> None:
    start, end = at("2026-11-21T09:00:00.000001"), at("2026-11-23T08:59:59.999999")

    assert in_both_directions(DAILY.between(start), "2026-11-20", "2026-11-24") == instants(
        "2026-11-22T09:00 2026-11-23T09:00"
    )
    assert in_both_directions(DAILY.between(None, end), "2026-11-20", "2026-11-24") == instants(
        "2026-11-20T09:00 2026-11-21T09:00 2026-11-22T09:00"
    )
    assert in_both_directions(DAILY.between(), "2026-11-20", "2026-11-21") == instants("2026-11-20T09:00")


def test_a_zero_length_between_holds_one_instant() -> None:
    moment = at("2026-11-21T09:00")

    assert in_both_directions(DAILY.between(moment, moment), "2026-11-20", "2026-11-23") == [moment]
    assert in_both_directions(DAILY.between(NOW, NOW), "2026-11-20", "2026-11-23") == []


def test_a_between_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(InvalidTrigger, match="the start is later; swap them"):
        build(DAILY.between(NOW, NOW - MICROSECOND))


def test_combinations_nest() -> None:
    mornings = cron("0 8 * * MON-FRI") | cron("0 10 * * SAT,SUN")
    spec = (mornings - cron("* * 24-26 12 *")).between(at("2026-12-22"), at("2026-12-28"))

    assert in_both_directions(spec, "2026-12-01", "2027-02-01") == instants(
        "2026-12-22T08:00 2026-12-23T08:00 2026-12-27T10:00"
    )


def test_fractions_of_a_second_meet_whole_seconds_where_they_are_whole() -> None:
    spec = interval(seconds=0.75, anchor=at("2026-11-21")) & cron("* * * * * *")

    assert in_both_directions(spec, "2026-11-21", "2026-11-21T00:00:10") == instants(
        "2026-11-21T00:00:00 2026-11-21T00:00:03 2026-11-21T00:00:06 2026-11-21T00:00:09"
    )


def test_fractions_of_a_second_stay_in_a_union_and_a_difference() -> None:
    fast = interval(seconds=0.5, anchor=at("2026-11-21"))

    start, stop = "2026-11-21", "2026-11-21T00:00:02"
    assert in_both_directions(fast | cron("* * * * * *"), start, stop) == forward(fast, at(start), at(stop))
    assert in_both_directions(fast - cron("* * * * * *"), start, stop) == instants(
        "2026-11-21T00:00:00.500 2026-11-21T00:00:01.500"
    )


def test_dates_that_meet_in_some_decades_only_are_found() -> None:
    spec = cron("0 0 29 2 *", zone=SHANGHAI) & cron("0 0 * * MON", zone=SHANGHAI)

    found = in_both_directions(spec, "1970-01-01", "2130-01-01")
    assert [each.year for each in found] == [1988, 2016, 2044, 2072, 2112]


def test_minutes_that_meet_only_where_a_gap_pushes_them_together_are_found() -> None:
    spec = cron("15 2 * * *", zone=NEW_YORK) & cron("45 2 * * *", zone=NEW_YORK)

    assert build(spec).after(NOW) == at("2027-03-14T07:00")
    assert build(spec).before(NOW) == at("2026-03-08T07:00")


NEVER = {
    "two that never meet": cron("*/2 * * * *", zone=LONDON) & cron("1-59/2 * * * *", zone=SHANGHAI),
    "two dates": cron("0 9 1 * *") & cron("0 9 2 * *"),
    "all is excluded": cron("0 9 * * *", zone=LONDON) - cron("0 9 * * *", zone=LONDON),
    "more than all is excluded": cron("*/2 * * * *") - cron("* * * * *"),
    "the window is past the instant": once(NOW).between(NOW + MICROSECOND),
    "one part of a union": (DAILY & cron("1 9 * * *")) | DAILY,
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", NEVER.values(), ids=NEVER)
def test_what_never_comes_is_refused_when_it_is_declared(spec: TriggerSpec) -> None:
    with pytest.raises(InvalidTrigger, match="never comes, neither before nor after 2026-11-21"):
        anchored(spec, NOW)


@pytest.mark.slow
def test_what_never_comes_is_answered() -> None:
    trigger = build(cron("*/2 * * * *") & cron("1-59/2 * * * *"))

    assert trigger.after(NOW) is None
    assert trigger.before(NOW) is None
    assert trigger.count(NOW, NOW + timedelta(days=365)) == 0


def test_a_part_that_never_comes_does_not_hold_up_the_others() -> None:
    never = cron("*/2 * * * *") & cron("1-59/2 * * * *")
    spec = (never | cron("0 0 1 1 *")) - (never | once(at("2028-01-01")))

    assert in_both_directions(spec, "2026-06-01", "2031-06-01") == instants(
        "2027-01-01 2029-01-01 2030-01-01 2031-01-01"
    )


def test_searches_within_searches_cost_their_sum_and_not_their_product() -> None:
    # Were a layer searched from within the one above it, each would repeat all the steps of those below.
    spec = cron("* * * * *")
    for layer in range(7):
        spec = (spec - once(NOW + timedelta(minutes=layer))) & cron("0-59 * * * *")

    assert build(spec).after(NOW - MICROSECOND) == NOW + timedelta(minutes=7)
    assert build(spec).before(NOW + timedelta(minutes=7)) == NOW - timedelta(minutes=1)


def test_a_window_that_has_closed_is_no_reason_to_refuse() -> None:
    spec = (DAILY & cron("0 * * * *")).between(at("2020-01-01"), at("2020-02-01"))

    assert anchored(spec, NOW) == spec
    assert build(spec).after(NOW) is None


def test_intervals_that_never_meet_are_refused_when_built() -> None:
    even, odd = interval(seconds=2, anchor=NOW), interval(seconds=4, anchor=NOW + timedelta(seconds=1))

    with pytest.raises(InvalidTrigger, match="never meet"):
        build(even & odd)


@pytest.mark.parametrize(
    "fields", [{}, {"of": []}, {"of": "cron"}, {"of": [3]}, {"of": [{"kind": "cron"}]}, {"of": [], "and": 1}]
)
@pytest.mark.parametrize("name", ["union", "intersection"])
def test_parts_that_cannot_be_read_are_refused(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidTrigger):
        build(TriggerSpec(kind=name, fields=fields))


def test_a_combination_is_zoned_if_a_part_is() -> None:
    zoned = cron("0 9 * * *", zone=LONDON)

    assert not build(DAILY | once(NOW)).zoned
    for spec in (DAILY | zoned, DAILY & zoned, DAILY - zoned, zoned.between(NOW)):
        assert build(spec).zoned


# --- parts from outside ------------------------------------------------------------------------------


class Office:
    """A window of time: it holds every microsecond from 08:00 to 09:30 of every day, in UTC."""

    zoned = False
    late_start = False
    opens, closes = timedelta(hours=8), timedelta(hours=9, minutes=30)

    def after(self, t: datetime, /) -> datetime | None:
        midnight = t.replace(hour=0, minute=0, second=0, microsecond=0)
        following = max(t + MICROSECOND, midnight + self.opens)
        return following if following < midnight + self.closes else midnight + timedelta(1) + self.opens

    def before(self, t: datetime, /) -> datetime | None:
        midnight = t.replace(hour=0, minute=0, second=0, microsecond=0)
        previous = min(t, midnight + self.closes) - MICROSECOND
        return (
            previous
            if previous >= midnight + self.opens
            else midnight - timedelta(1) + self.closes - MICROSECOND
        )

    def count(self, after: datetime, until: datetime, /) -> int:
        return max(0, self._number(until) - self._number(after))

    def _number(self, until: datetime) -> int:
        """How many there are up to and with an instant, from the year 1 on."""
        days, past = divmod(until + MICROSECOND - EARLIEST, timedelta(1))
        in_day = min(max(past - self.opens, timedelta(0)), self.closes - self.opens)
        return (days * (self.closes - self.opens) + in_day) // MICROSECOND


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> TriggerSpec:
    monkeypatch.setattr("onebeat.core.triggers.registry._KINDS", {**_kinds()})

    @kind("office")
    def _build(fields: dict[str, object]) -> Trigger:
        return Office()

    return TriggerSpec(kind="office")


def _kinds() -> dict[str, object]:
    from onebeat.core.triggers import registry

    return dict(registry._KINDS)


def test_a_window_from_outside_narrows_what_comes(office: TriggerSpec) -> None:
    spec = cron("0 */3 * * *") & office

    assert in_both_directions(spec, "2026-11-21", "2026-11-23") == instants(
        "2026-11-21T09:00 2026-11-22T09:00"
    )


def test_a_window_from_outside_may_be_excluded(office: TriggerSpec) -> None:
    spec = cron("0 6-10 * * *") - office

    assert in_both_directions(spec, "2026-11-21", "2026-11-22") == instants(
        "2026-11-21T06:00 2026-11-21T07:00 2026-11-21T10:00"
    )


def test_a_window_full_of_occurrences_is_left_at_one_leap(office: TriggerSpec) -> None:
    spec = cron("* * * * * *") - office

    assert build(spec).after(at("2026-11-21T08:00:00.5")) == at("2026-11-21T09:30")
    assert build(spec).before(at("2026-11-21T09:29:59.5")) == at("2026-11-21T07:59:59")


def test_windows_that_are_combined_are_left_at_one_leap_too(office: TriggerSpec) -> None:
    half_hour = office.between(at("2026-11-21T08:30"), at("2026-11-21T09:00"))
    for windows, before, after in (
        (office & office, "2026-11-21T07:59:59", "2026-11-21T09:30"),
        (office | once(at("2026-11-21T07:00")), "2026-11-21T07:59:59", "2026-11-21T09:30"),
        (half_hour, "2026-11-21T08:29:59", "2026-11-21T09:00:01"),
    ):
        trigger = build(cron("* * * * * *") - windows)

        assert trigger.after(at("2026-11-21T08:45")) == at(after)
        assert trigger.before(at("2026-11-21T08:45")) == at(before)


def test_parts_from_outside_that_never_meet_are_given_up(
    office: TriggerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    trigger = build(cron("0 3 * * *") & office)
    monkeypatch.setattr(combine, "ROUNDS_MAX", 1_000)

    assert trigger.after(NOW) is None
    assert trigger.before(NOW) is None
