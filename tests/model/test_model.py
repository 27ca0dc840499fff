"""The model of the protocol: what it claims holds within its bounds, and not without the rules."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
from model.__main__ import page
from model.cases import BREAKS, CASES, Break, Case
from model.spin import HERE, Found, search

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "model.md"
SHORT = [case for case in CASES if not case.long]
MODELS = sorted({case.model for case in CASES})

spin = [pytest.mark.server("spin"), pytest.mark.slow]


@cache
def searched(case_name: str) -> Found:
    case = next(case for case in CASES if case.name == case_name)
    return search(case.model, case.settings, case.claim)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", [pytest.param(each, marks=spin, id=each) for each in MODELS])
def test_every_claim_holds_in_every_state_and_every_statement_is_reached(model: str) -> None:
    cases = [case for case in SHORT if case.model == model]

    found = {case.name: searched(case.name) for case in cases}

    assert {name: each.broken for name, each in found.items() if each.broken} == {}
    # A statement that nothing comes to claims nothing: each is reached within one of the bounds.
    assert frozenset.intersection(*(each.unreached for each in found.values())) == frozenset()
    told = page(PAGE).states
    assert {name: each.states for name, each in found.items()} == {
        case.name: told[case.name] for case in cases
    }


@pytest.mark.parametrize("broken", [pytest.param(each, marks=spin, id=each.name) for each in BREAKS])
def test_a_model_without_a_rule_breaks_its_claim(broken: Break) -> None:
    found = search(broken.model, broken.defines, broken.claim, short=True)

    assert found.broken == broken.fails
    assert found.trace, "nothing tells how it came to it"


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.server("spin")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.long])
def test_every_claim_holds_within_larger_bounds(case: Case) -> None:
    found = searched(case.name)

    assert found.broken == ""
    assert found.states == page(PAGE).states[case.name]


def test_every_switch_that_breaks_a_model_is_tried_and_every_claim_can_fail() -> None:
    for model in MODELS:
        text = (HERE / f"{model}.pml").read_text(encoding="utf-8")
        switches = set(re.findall(r"\bBREAK_\w+", text))
        tried = {name for each in BREAKS if each.model == model for name in each.defines}

        assert switches == {name for name in tried if name.startswith("BREAK_")}
        claims = set(re.findall(r"CLAIM\((\w+),", text)) - {"name"} | set(
            re.findall(r"^never (\w+)", text, re.MULTILINE)
        )
        assert claims - {each.fails for each in BREAKS if each.model == model} == set()


def test_the_page_lists_what_is_searched() -> None:
    told = page(PAGE)

    assert told.states.keys() == {case.name for case in CASES}
    assert told.fails == {(each.model, each.name): each.fails for each in BREAKS}


def test_what_the_page_says_a_step_stands_for_is_in_the_source() -> None:
    names = re.findall(r"`(onebeat\.[\w.]+)`", PAGE.read_text(encoding="utf-8"))

    assert len(names) >= 10
    for name in names:
        assert resolved(name) is not None, f"{name} is not in the source"


def resolved(name: str) -> object | None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            thing = getattr(thing, part, None)
        return thing
    return None
