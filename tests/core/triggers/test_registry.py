"""Specs become evaluators: the same one for equal specs, and none for what cannot be understood."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from tests.core.triggers.reading import at

from onebeat.core.errors import InvalidTrigger, LimitExceeded
from onebeat.core.model import TriggerSpec, as_json
from onebeat.core.triggers import Kind, Trigger, anchored, build, cron, interval, once, registry, with_zone

CUT = at("2026-11-21T04:20")


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two kinds from outside: one that works, and one that cannot be loaded."""
    installed = EntryPoints(
        [
            EntryPoint("noon", f"{__name__}:NOON", registry.GROUP),
            EntryPoint("ruin", "no_such_package.anywhere:KIND", registry.GROUP),
            EntryPoint("fake", "json:dumps", registry.GROUP),
        ]
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: installed.select(group=group))
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    registry._built.cache_clear()
    yield
    registry._built.cache_clear()


NOON = Kind(build=lambda fields: build(cron("0 12 * * *", zone=fields.get("zone"))), zoned=True)


def test_equal_specs_share_one_evaluator() -> None:
    one = TriggerSpec(kind="cron", fields={"expression": "0 9 * * *", "zone": "Europe/Paris"})
    other = TriggerSpec(kind="cron", fields={"zone": "Europe/Paris", "expression": "0 9 * * *"})

    assert build(one) is build(other)
    assert build(one) is not build(cron("0 9 * * *"))


def test_the_cache_of_evaluators_is_bounded() -> None:
    assert 0 < (registry._built.cache_info().maxsize or 0) < 10_000


def test_every_kind_of_the_house_is_a_trigger() -> None:
    daily = cron("0 9 * * *")
    for spec in (
        daily,
        interval(hours=1),
        once(CUT),
        daily | daily,
        daily & daily,
        daily - once(CUT),
        daily.between(),
    ):
        assert isinstance(build(spec), Trigger)


def test_constructors_write_no_field_that_says_nothing() -> None:
    assert cron(" 0 9 * * * ").fields == {"expression": "0 9 * * *"}
    assert cron("0 9 * * *", days="all", gap="skip", fold="both", zone="UTC").fields == {
        "expression": "0 9 * * *",
        "days": "all",
        "gap": "skip",
        "fold": "both",
        "zone": "UTC",
    }


def test_an_unknown_kind_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InvalidTrigger, match=r"'cronn' is no kind of trigger.*did you mean 'cron'"):
        build(TriggerSpec(kind="cronn", fields={"expression": "0 9 * * *"}))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TriggerSpec(kind="cron"), "expression"),
        (TriggerSpec(kind="cron", fields={"expresion": "0 9 * * *"}), "did you mean 'expression'?"),
        (TriggerSpec(kind="cron", fields={"expression": 5}), "Expected `str`"),
        (TriggerSpec(kind="once", fields={"at": "tomorrow"}), "Invalid RFC3339"),
        (TriggerSpec(kind="interval", fields={"period_s": 1, "x" * 999: 1}), "has no field 'xxx"),
        (
            TriggerSpec(kind="between", fields={"of": {"kind": "cron", "fields": [], "more": 1}}),
            "is no trigger",
        ),
        (TriggerSpec(kind="cron", fields={"expression": {1, 2}}), "Expected `str`"),
        (TriggerSpec(kind="cron", fields={"expression": object()}), "is not plain JSON"),
        (TriggerSpec(kind="x" * 50_000), "is no kind of trigger"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused_in_a_few_words(spec: TriggerSpec, words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        build(spec)

    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def nested(depth: int) -> TriggerSpec:
    spec = cron("0 9 * * *")
    for _ in range(depth - 1):
        spec = TriggerSpec(kind="between", fields={"of": as_json(spec)})
    return spec


def test_limits_of_a_spec_are_stated_and_held() -> None:
    assert build(nested(16)).after(CUT) == at("2026-11-21T09:00")
    wide = TriggerSpec(
        kind="union", fields={"of": [as_json(cron(f"{n % 60} {n // 60} * * *")) for n in range(99)]}
    )
    assert build(wide).after(CUT) == at("2026-11-22T00:00")

    for spec in (
        nested(17),
        nested(20_000),
        TriggerSpec(kind="union", fields={"of": [as_json(cron("0 9 * * *"))] * 100}),
        TriggerSpec(kind="union", fields={"of": ["x" * 70_000]}),
    ):
        for use in (build, lambda spec: anchored(spec, CUT)):
            with pytest.raises(LimitExceeded):
                use(spec)
    for depth in (17, 20_000):
        with pytest.raises(LimitExceeded):
            with_zone(nested(depth), "UTC")


def test_what_is_relative_is_resolved_at_every_depth() -> None:
    spec = (interval(hours=1) | once(in_=timedelta(minutes=1))).between(CUT) - once(CUT)

    assert build(anchored(spec, CUT)).after(CUT) == CUT + timedelta(minutes=1)
    assert anchored(spec, CUT).fields["of"]["fields"]["of"]["fields"]["of"] == [
        {"kind": "interval", "fields": {"period_s": 3600, "anchor_at": "2026-11-21T04:20:00Z"}},
        {"kind": "once", "fields": {"at": "2026-11-21T04:21:00Z"}},
    ]


def test_a_spec_with_nothing_relative_is_left_as_it_is() -> None:
    spec = cron("0 9 * * *") & cron("0 9 * * MON")

    assert anchored(spec, CUT) is spec


def test_a_zone_is_filled_in_where_none_is_named() -> None:
    spec = (cron("0 9 * * *") | cron("0 9 * * *", zone="Europe/Paris")) - interval(days=2, anchor=CUT)

    filled = with_zone(spec, "Asia/Shanghai")

    assert [part["fields"]["zone"] for part in filled.fields["of"]["fields"]["of"]] == [
        "Asia/Shanghai",
        "Europe/Paris",
    ]
    assert "zone" not in filled.fields["without"]["fields"]
    assert with_zone(filled, "UTC") == filled
    assert "zone" not in spec.fields["of"]["fields"]["of"][0]["fields"]


def test_only_a_zone_whose_rules_may_change_makes_a_trigger_zoned() -> None:
    assert not build(cron("0 9 * * *")).zoned
    assert not build(cron("0 9 * * *", zone="Etc/UTC")).zoned
    assert build(cron("0 9 * * *", zone="Asia/Shanghai")).zoned


@pytest.mark.usefixtures("outside")
def test_a_kind_from_outside_is_found_by_its_entry_point() -> None:
    spec = with_zone(TriggerSpec(kind="noon"), "Asia/Shanghai")

    assert build(spec).after(CUT) == at("2026-11-22T04:00")
    assert build(spec | once(CUT)).before(at("2026-11-22")) == CUT


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ruin", "cannot be loaded: No module named 'no_such_package'"),
        ("fake", "json:dumps, which is no trigger Kind"),
        ("nooon", "did you mean 'noon'?"),
    ],
)
def test_a_kind_from_outside_that_is_broken_is_refused(name: str, words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        build(TriggerSpec(kind=name))

    assert words in str(caught.value)


@pytest.mark.parametrize("cut", [CUT.replace(tzinfo=None)])
def test_a_cut_without_a_zone_is_refused(cut: Any) -> None:
    with pytest.raises(ValueError, match=r"cut=.*has no zone"):
        anchored(interval(hours=1), cut)
