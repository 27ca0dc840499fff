"""What a person writes is refused with what, why and what to do; what can be meant is understood."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from onebeat.core.codec import from_text, to_text
from onebeat.core.definition import (
    BOUNDS,
    Options,
    PolicyOptions,
    checked_definition,
    checked_key,
    days,
    define,
    hours,
    minutes,
    policy_of,
    read_trigger,
    seconds,
    zone_of,
)
from onebeat.core.errors import InvalidInput, InvalidTrigger, LimitExceeded
from onebeat.core.model import CatchUp, Definition, Overlap, Policy, Target, TriggerSpec
from onebeat.core.targets import call, checked_target
from onebeat.core.triggers import cron, interval, once

POLICY = {field.name: field for field in msgspec.structs.fields(Policy)}


def body(days: int, *, tag: str = "") -> None:
    """Stand in for a person's function."""


def defined(**options: Any) -> Definition:
    return define("0 9 * * *", "shop.reports:send", options)


# --- policies -------------------------------------------------------------------------------------------


def test_every_policy_field_can_be_said_and_no_other() -> None:
    assert PolicyOptions.__annotations__.keys() == POLICY.keys()
    assert Options.__annotations__.keys() == POLICY.keys() | {"title", "tags", "queue"}


def test_every_sized_policy_field_has_bounds_that_hold_its_default() -> None:
    sized = {name for name, field in POLICY.items() if field.type in (int, timedelta, timedelta | None)}

    assert BOUNDS.keys() == sized
    for name, bounds in BOUNDS.items():
        default = POLICY[name].default
        assert default is None or bounds.least <= default <= bounds.most, name


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_a_policy_beyond_its_bounds_is_refused_and_at_them_accepted(name: str) -> None:
    bounds = BOUNDS[name]
    step: Any = timedelta(microseconds=1) if isinstance(bounds.least, timedelta) else 1
    beside = (
        {"backoff_max": bounds.most} if name == "backoff" else {"backoff": 0} if name == "backoff_max" else {}
    )

    for value in (bounds.least, bounds.most):
        defined(**{**beside, name: value})
    for value in (bounds.least - step, bounds.most + step):
        with pytest.raises(InvalidInput, match=name):
            defined(**{**beside, name: value})


def test_a_number_is_seconds_where_a_field_lasts() -> None:
    assert defined(grace=90).policy.grace == timedelta(seconds=90)
    assert defined(timeout=0.25).policy.timeout == timedelta(milliseconds=250)
    assert defined(grace=minutes(10)).policy.grace == timedelta(minutes=10)


def test_words_become_members_of_their_closed_set() -> None:
    policy = defined(overlap="queue_one", catch_up=CatchUp.ALL).policy

    assert policy.overlap is Overlap.QUEUE_ONE
    assert policy.catch_up is CatchUp.ALL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlapp": "skip"}, "did you mean 'overlap'"),
        ({"catch_up": "lates"}, "did you mean 'latest'"),
        ({"catch_up": "skip"}, "set grace"),
        ({"max_running": True}, "no whole number"),
        ({"max_running": "3"}, "no whole number"),
        ({"attempts": 2.0}, "no whole number"),
        ({"report_success": 1}, "no yes or no"),
        ({"timeout": "3"}, "no duration"),
        ({"timeout": float("inf")}, "longer than anything"),
        ({"timeout": float("nan")}, "longer than anything"),
        ({"backoff": None}, "no duration"),
        ({"backoff": 10, "backoff_max": 5}, "shorter than backoff"),
        ({"retry_on": [""]}, "retry_on"),
        ({"retry_on": ["x" * 201]}, "retry_on"),
        ({"retry_on": [7]}, "retry_on"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"tags": ["a b"]}, "no tag"),
        ({"tags": ["a,b"]}, "no tag"),
        ({"tags": [""]}, "no tag"),
        ({"tags": [str(n) for n in range(21)]}, "21 tags"),
        ({"queue": "Mail"}, "no queue name"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_do(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        defined(**options)


def test_an_error_type_may_be_given_as_the_class() -> None:
    assert defined(retry_on=[TimeoutError, "shop.Busy"]).policy.retry_on == ("TimeoutError", "shop.Busy")


def test_one_tag_and_one_error_type_need_no_list() -> None:
    definition = defined(tags="billing", retry_on="TimeoutError")

    assert definition.tags == ("billing",)
    assert definition.policy.retry_on == ("TimeoutError",)


def test_none_takes_a_limit_away() -> None:
    before = Policy(grace=minutes(1), timeout=minutes(1))

    assert policy_of({"grace": None}, before) == Policy(timeout=minutes(1))


def test_titles_hold_any_script() -> None:
    assert defined(title="每日报告 – Tagesbericht").title == "每日报告 – Tagesbericht"


# --- triggers -------------------------------------------------------------------------------------------


def test_a_text_is_a_cron_expression_in_the_apps_zone() -> None:
    assert read_trigger("0 9 * * *", "Asia/Shanghai") == cron("0 9 * * *", zone="Asia/Shanghai")


def test_a_zone_that_was_named_stays() -> None:
    spec = cron("0 9 * * *", zone="Europe/London") | cron("0 8 * * *")

    read = read_trigger(spec, "Asia/Shanghai")

    assert read == cron("0 9 * * *", zone="Europe/London") | cron("0 8 * * *", zone="Asia/Shanghai")


def test_the_zone_to_show_instants_in_is_the_first_that_is_named() -> None:
    assert zone_of(interval(minutes=1)) is None
    assert zone_of(interval(minutes=1) | cron("0 9 * * *", zone="Asia/Shanghai")) == "Asia/Shanghai"


def test_what_is_no_trigger_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no trigger"):
        read_trigger(60)  # type: ignore[arg-type]  # a person without a type checker
    with pytest.raises(InvalidTrigger):
        read_trigger("0 9 * *")
    with pytest.raises(InvalidTrigger, match="kind"):
        checked_definition(Definition(trigger=TriggerSpec(kind="crom"), target=call("a:b")))


# --- targets --------------------------------------------------------------------------------------------


def test_a_function_is_called_by_its_address() -> None:
    target = call(body, 7, tag="x")

    assert target == Target(kind="python", address=f"{__name__}:body", args=(7,), kwargs={"tag": "x"})
    assert target.key == f"python:{__name__}:body"


def test_arguments_are_json_from_the_beginning() -> None:
    # Else a declaration with a tuple would differ from what comes back out of a store, at every start.
    target = call("shop:close", (1, 2), deep={"a": (3,)})

    assert target.args == ([1, 2],)
    assert target.kwargs == {"deep": {"a": [3]}}
    assert from_text(to_text(target), Target) == target


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", lambda: 1])
def test_arguments_that_are_no_json_are_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        call("shop:close", value)


def test_arguments_beyond_their_limit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="limit"):
        call("shop:close", "x" * 300_000)


def test_a_lambda_has_no_address() -> None:
    with pytest.raises(InvalidInput, match="def"):
        call(lambda: None)


@pytest.mark.parametrize(
    "address", ["", "shop", "shop:", ":close", "shop close:x", "shop:close()", "shop:a\nb"]
)
def test_an_address_that_names_no_function_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput):
        call(address)


def test_a_target_of_another_kind_only_needs_an_address() -> None:
    assert checked_target(Target(kind="k8s_job", address="nightly/backup:2"))
    with pytest.raises(InvalidInput, match="kind of target"):
        checked_target(Target(kind="HTTP!", address="x"))


@pytest.mark.parametrize("key", ["", " ", "a b", "a/b", "a!b", "a@b", "x" * 101, ".x"])
def test_a_request_key_fits_into_a_run_id(key: str) -> None:
    with pytest.raises(InvalidInput, match="request key"):
        checked_key(key)


def test_a_definition_as_a_whole_has_a_limit() -> None:
    spec = cron("0 9 * * *")
    for _ in range(3):
        spec = spec | interval(minutes=1)
    definition = Definition(trigger=spec, target=Target(kind="x", address="y", args=("z" * 250_000,)))

    checked_definition(definition)
    with pytest.raises(LimitExceeded):
        checked_definition(
            msgspec.structs.replace(
                definition,
                trigger=TriggerSpec(
                    kind="union",
                    fields={"of": [{"kind": "once", "fields": {"at": "2026-01-01T00:00:00Z"}}] * 101},
                ),
            )
        )


def test_durations_are_said_in_words() -> None:
    assert (seconds(90), minutes(1.5), hours(2), days(1)) == (
        timedelta(seconds=90),
        timedelta(seconds=90),
        timedelta(hours=2),
        timedelta(hours=24),
    )


def test_a_one_off_in_a_while_can_be_defined() -> None:
    assert define(once(in_=minutes(30)), body, {}).trigger.kind == "once"
