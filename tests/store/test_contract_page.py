"""The page for those who write a store shows what is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from tests.store.test_memory import TestMemory as Memory

import onebeat.testing
from onebeat.testing.conformance import StoreSuite
from onebeat.testing.conformance_executor import ExecutorSuite
from onebeat.testing.conformance_stage import Stage

TOP = Path(__file__).resolve().parents[2]
EXECUTORS = ExecutorSuite.__module__.rpartition(".")[2]
PAGE = (TOP / "docs/reference/store-contract.md").read_text(encoding="utf-8")


def test_the_ten_lines_on_the_page_are_those_that_run() -> None:
    assert inspect.getsource(Memory).rstrip() in PAGE


def test_the_page_names_every_part_of_the_suite_and_no_other() -> None:
    folder = Path(onebeat.testing.__path__[0])
    parts = {path.stem for path in folder.glob("conformance_*.py")} - {"conformance_stage", EXECUTORS}

    assert set(re.findall(r"`(conformance_\w+)`", PAGE)) == parts
    assert {suite.__module__.rpartition(".")[2] for suite in StoreSuite.__bases__} == parts


def test_the_page_names_all_that_a_store_may_answer() -> None:
    answers = {name for name in vars(Stage) if not name.startswith("_")} - {"clock", "store", "book"}

    named = set(re.findall(r"^\| `(\w+)(?:\(.*?\))?` \|", PAGE, re.MULTILINE))
    assert {name for name in named if not name.startswith("conformance_")} == answers
