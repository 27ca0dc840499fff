"""The page about the seed table is true: every row is there, and every test and mutant that it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from onebeat.testing import mutants

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "reference" / "seed-table.md"
LATER = {11, 28, 30, 46, 50, 63, 64, 67}
"""Rows whose part of the product is not there yet. A row may leave this list, and none may join it."""


class Line(NamedTuple):
    """One row of the page."""

    row: int
    claim: str
    tests: list[str]
    mutant: str


def page() -> Iterator[Line]:
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in text.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].isdigit():
            yield Line(int(cells[0]), cells[1], re.findall(r"`(\w+)`", cells[2]), cells[3].strip("`"))


PLAYED = {
    "of_processes": "not in memory",
    "of_the_file": "on SQLite alone",
    "of_servers": "on servers alone, those that it is about",
}


def played() -> dict[str, list[int]]:
    """Where the page says that rows are played that are not played everywhere."""
    lines = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    found = {cells[1].strip().partition(":")[0]: cells[2] for cells in lines if len(cells) == 4}
    return {
        mark: [int(row) for row in re.findall(r"\d+", found.get(words, ""))] for mark, words in PLAYED.items()
    }


class Function(NamedTuple):
    """One test: its row, its name, and its marks, with those of its file."""

    row: int
    name: str
    marks: str


def functions() -> Iterator[Function]:
    """The tests that there are, in the order of the files."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        marks = [ast.unparse(each) for each in tree.body if isinstance(each, ast.Assign)]
        of_file = " ".join(text for text in marks if text.startswith("pytestmark"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (match := re.match(r"test_seed_(\d\d)_", node.name)):
                own = " ".join(map(ast.unparse, node.decorator_list))
                yield Function(int(match[1]), node.name, f"{of_file} {own}")


def marked(mark: str) -> list[int]:
    """The rows of which a test has a mark."""
    by = re.compile(rf"pytest\.mark\.{mark}\b")
    return sorted({each.row for each in functions() if by.search(each.marks)})


def written() -> dict[int, list[str]]:
    """The names of the tests that there are, by row."""
    found: dict[int, list[str]] = {}
    for each in functions():
        found.setdefault(each.row, []).append(each.name)
    return found


PROVEN = [line for line in page() if line.row not in LATER]


def test_the_page_has_every_row_once_in_order() -> None:
    assert [line.row for line in page()] == list(range(1, 83))


def test_every_row_names_all_its_tests_and_no_others() -> None:
    assert {line.row: line.tests for line in PROVEN} == written()


def test_the_page_says_which_rows_are_not_played_everywhere() -> None:
    assert played() == {mark: marked(mark) for mark in PLAYED}


def test_every_row_without_tests_says_for_what_it_waits() -> None:
    for line in page():
        assert line.claim.startswith("later: ") == (line.row in LATER), line
        assert bool(line.tests) == (line.row not in LATER), line


def test_every_mutant_that_is_named_can_be_made() -> None:
    known = {mutant.name: mutant for mutant in mutants.catalogue(TOP)}

    assert [line.mutant for line in PROVEN if line.mutant not in known] == []
    assert {line.mutant: mutants.fits(known[line.mutant], TOP / "src") for line in PROVEN} == {
        line.mutant: 1 for line in PROVEN
    }


@pytest.mark.long
@pytest.mark.parametrize("line", PROVEN, ids=lambda line: f"row-{line.row:02}")
def test_each_row_fails_under_its_mutant(line: Line) -> None:
    known = {mutant.name: mutant for mutant in mutants.catalogue(TOP)}
    by = f"tests/seed -k seed_{line.row:02}_"

    verdict = mutants.tried(known[line.mutant]._replace(by=by), TOP)

    assert verdict.noticed, (line.mutant, verdict.trouble)
