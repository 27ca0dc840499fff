"""The tables of policies and limits say what the code does, all of it."""

from __future__ import annotations

import importlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onebeat.core.definition import BOUNDS
from onebeat.core.model import CatchUp, OnLost, Overlap, Policy

DOCS = Path(__file__).resolve().parent.parent / "docs" / "reference"
FIELDS = {field.name: field for field in msgspec.structs.fields(Policy)}


def rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page, the headings left out."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("|") and not line.startswith("|---")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table if "`" in line or "–" in line
    ]


POLICIES = {row[0].strip("`"): row for row in rows("policies.md")}
LIMITS = {row[0]: row for row in rows("limits.md")}


def as_written(value: Any) -> str:
    """A default as the table writes it."""
    if value is None:
        return "none"
    if value == ():
        return "empty"
    if isinstance(value, bool):
        return "`yes`" if value else "`no`"
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():g}`"
    return f"`{value}`"


def bound_as_written(value: Any) -> str:
    if not isinstance(value, timedelta):
        return f"{value:,}"
    return f"{value.days:,} days" if value >= timedelta(days=1) else f"{value.total_seconds():g}"


def test_the_table_has_each_policy_once_and_in_order() -> None:
    assert list(POLICIES) == list(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_default_and_bounds_of_a_policy_are_those_of_the_code(name: str) -> None:
    _, default, _, least, most, _ = POLICIES[name]

    assert default == as_written(FIELDS[name].default)
    if name in BOUNDS:
        assert [least, most] == [bound_as_written(BOUNDS[name].least), bound_as_written(BOUNDS[name].most)]
    else:
        assert [least, most] == ["–", "–"]


@pytest.mark.parametrize("name", FIELDS)
def test_a_policy_that_lasts_is_in_seconds(name: str) -> None:
    lasts = FIELDS[name].type in {timedelta, timedelta | None}

    assert (POLICIES[name][2] == "seconds") == lasts


@pytest.mark.parametrize(
    ("name", "members"), [("catch_up", CatchUp), ("overlap", Overlap), ("on_lost", OnLost)]
)
def test_a_choice_names_all_that_can_be_chosen(name: str, members: Any) -> None:
    assert {f"`{member.value}`" for member in members} <= set(re.findall(r"`\w+`", POLICIES[name][5]))


@pytest.mark.parametrize("limit", [name for name, row in LIMITS.items() if row[3] != "–"])
def test_a_limit_is_as_large_as_in_the_code(limit: str) -> None:
    _, value, _, names = LIMITS[limit]
    for name in re.findall(r"`([\w.]+)`", names):
        module, constant = name.rsplit(".", 1)
        found = getattr(importlib.import_module(module), constant)
        written = f"{found.total_seconds():g} s" if name.endswith("PERIOD_MIN") else bound_as_written(found)
        assert written in value, f"{name} is {written}"
