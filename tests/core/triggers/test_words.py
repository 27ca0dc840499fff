"""Triggers in words: a table of cron expressions in two languages, and the other kinds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.triggers.reading import at
from tests.core.triggers.test_properties import crons

from onebeat.core.errors import InvalidInput
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers import (
    Kind,
    anchored,
    calendar_interval,
    cron,
    interval,
    on_request,
    once,
    registry,
    solar,
    words,
)

TABLE = [
    tuple(cell.strip() for cell in line.split(" | "))
    for line in Path(__file__).with_name("words_table.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
DAILY = cron("0 9 * * *", zone="Asia/Shanghai")


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize(("expression", "english", "chinese"), TABLE)
def test_a_cron_expression_says_itself(expression: str, english: str, chinese: str) -> None:
    assert words(cron(expression)) == f"{english}, UTC"
    assert words(cron(expression), "zh") == f"{chinese}(UTC)"


def test_two_texts_that_mean_the_same_are_said_alike() -> None:
    for one, other in (("0 9 * * 1-5", "0 9 * * MON,TUE,WED,THU,FRI"), ("@hourly", "0 0-23 * * *")):
        assert words(cron(one)) == words(cron(other))


@pytest.mark.parametrize(
    ("spec", "english", "chinese"),
    [
        (
            cron("0 9 * * MON-FRI", zone="Asia/Shanghai"),
            "at 09:00, Monday to Friday, Asia/Shanghai",
            "周一至周五 09:00(Asia/Shanghai)",
        ),
        (
            cron("0 9 13 * FRI", days="all"),
            "at 09:00, on the 13th of the month if that is Friday, UTC",
            "每月13日且为周五 09:00(UTC)",
        ),
        (
            cron("30 2 * * *", gap="skip", fold="both"),
            "at 02:30, every day, UTC, not in a gap of the clock, both times where the clock goes back",
            "每天 02:30(UTC),时钟跳过时不执行,时钟回拨时两次都执行",
        ),
        (on_request(), "when asked for", "仅在请求时"),
        (
            calendar_interval(months=1, at="09:00", start="2026-01-31", zone="Asia/Shanghai"),
            "every month from 2026-01-31 on, at 09:00, Asia/Shanghai",
            "从2026-01-31起每月 09:00(Asia/Shanghai)",
        ),
        (
            calendar_interval(years=1, weeks=2, month_end="skip", gap="skip"),
            "every 1 year 2 weeks from the day of its declaration on, at 00:00, not in months without that "
            "day, UTC, not in a gap of the clock",
            "从声明之日起每1年2周 00:00,跳过没有该日的月份(UTC),时钟跳过时不执行",
        ),
        (
            calendar_interval(days=10),
            "every 10 days from the day of its declaration on, at 00:00, UTC",
            "从声明之日起每10天 00:00(UTC)",
        ),
        (solar("sunset", 59.91, -10.75), "at sunset, 59.91° N 10.75° W", "日落(北纬59.91°,西经10.75°)"),
        (solar("dawn_civil", -34, 151.2), "at civil dawn, 34° S 151.2° E", "民用晨光始(南纬34°,东经151.2°)"),
        (interval(minutes=10), "every 10 minutes", "每10分钟"),
        (interval(hours=1), "every hour", "每小时"),
        (interval(days=1), "every 24 hours", "每24小时"),
        (interval(days=2, minutes=1), "every 2 days 1 minute", "每2天1分钟"),
        (interval(seconds=1.5), "every 1.5 seconds", "每1.5秒"),
        (anchored(interval(minutes=90), at("2026-01-01")), "every 1 hour 30 minutes", "每1小时30分钟"),
        (once(at("2027-01-01T09:00")), "once at 2027-01-01T09:00:00Z", "仅一次:2027-01-01T09:00:00Z"),
        (once(in_=timedelta(minutes=1)), "once, 1 minute after the declaration", "仅一次:声明后1分钟"),
        (
            DAILY | interval(hours=7),
            "at 09:00, every day, Asia/Shanghai; or every 7 hours",
            "每天 09:00(Asia/Shanghai);或 每7小时",
        ),
        (
            DAILY & cron("* * * * MON"),
            "at 09:00, every day, Asia/Shanghai; only in: every minute, every Monday, UTC",
            "每天 09:00(Asia/Shanghai);仅限:每周一每分钟(UTC)",
        ),
        (
            DAILY - (interval(hours=7) | once(at("2027-01-01"))),
            "at 09:00, every day, Asia/Shanghai; except: (every 7 hours; or once at 2027-01-01T00:00:00Z)",
            "每天 09:00(Asia/Shanghai);除外:(每7小时;或 仅一次:2027-01-01T00:00:00Z)",
        ),
        (
            interval(hours=7).between(at("2027-01-01"), at("2028-01-01")),
            "every 7 hours; from 2027-01-01T00:00:00Z on; until 2028-01-01T00:00:00Z",
            "每7小时;从2027-01-01T00:00:00Z起;到2028-01-01T00:00:00Z为止",
        ),
    ],
)
def test_every_kind_says_itself_in_both_languages(spec: TriggerSpec, english: str, chinese: str) -> None:
    assert words(spec) == english
    assert words(spec, "zh") == chinese


def test_a_kind_from_outside_says_itself_and_without_words_is_shown_as_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(fields: dict[str, Any], lang: str) -> str:
        return f"{lang}: {fields['at']}"

    def no_builder(fields: dict[str, Any]) -> Any:
        raise AssertionError("words need no evaluator")

    monkeypatch.setitem(registry._KINDS, "tide", Kind(build=no_builder, words=said))
    monkeypatch.setitem(registry._KINDS, "mute", Kind(build=no_builder))

    assert words(TriggerSpec(kind="tide", fields={"at": "high"}), "zh") == "zh: high"
    assert words(TriggerSpec(kind="mute", fields={"b": 1, "a": "ü"})) == 'mute {"a":"ü","b":1}'


@pytest.mark.parametrize(
    "spec",
    [
        TriggerSpec(kind="nobody", fields={"at": 1}),
        TriggerSpec(kind="cron", fields={"expression": "0 9 * *"}),
        TriggerSpec(kind="interval", fields={}),
        TriggerSpec(kind="union", fields={"of": [1]}),
    ],
)
def test_what_nobody_understands_is_shown_and_never_an_error(spec: TriggerSpec) -> None:
    assert words(spec).startswith(f"{spec.kind} {{")


@pytest.mark.slow
@given(crons(), st.sampled_from(["en", "zh"]))
def test_every_cron_expression_has_words_in_both_languages(spec: TriggerSpec, lang: str) -> None:
    said = words(spec, lang)

    assert "{" not in said
    assert "  " not in said
    assert said.isascii() == (lang == "en")
    assert not said.startswith((",", " ")), said


def test_another_language_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(InvalidInput, match=r"'zh-CN' is no language.*did you mean 'zh'"):
        words(DAILY, "zh-CN")
