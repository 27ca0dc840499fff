"""What is published of the rig: the table is that of the JSON, and as much happened as is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.page import number
from chaos.result import Result, read
from chaos.table import HEAD, ONCE, table

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "the-proof.md"
PICTURE = PAGE.with_name("chaos.html")
DATA = PAGE.parent / "data" / "chaos"
STORES = ("sqlite", "postgres", "mariadb", "redis")


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [read(DATA / f"{store}.json") for store in STORES]


def test_the_published_table_is_that_of_the_data(results: list[Result]) -> None:
    lines = table(results)

    assert len(lines) == len(HEAD) + len(STORES)
    assert "\n".join(lines) in PAGE.read_text(encoding="utf-8")


def test_the_published_runs_are_right_and_as_hard_as_the_page_says(results: list[Result]) -> None:
    for result in results:
        assert result.right
        assert result.minutes >= 15
        assert result.counts["fired"] >= 100_000
        assert min(kind.count for name, kind in result.faults.items() if name != ONCE) >= 20
        assert not result.settings["sabotage"]
        assert f"`{result.command}`" in PAGE.read_text(encoding="utf-8")


def test_the_published_picture_shows_these_runs(results: list[Result]) -> None:
    picture = PICTURE.read_text(encoding="utf-8")

    for result in results:
        assert result.title in picture
        assert number(result.counts["fired"]) in picture
