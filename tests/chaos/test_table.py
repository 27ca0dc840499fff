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
FLEETS = ("celery-redis", "celery-amqp")


@pytest.fixture(scope="module")
def nodes() -> list[Result]:
    return [read(DATA / f"{store}.json") for store in STORES]


@pytest.fixture(scope="module")
def fleets() -> list[Result]:
    return [read(DATA / f"{fleet}.json") for fleet in FLEETS]


def test_the_published_tables_are_those_of_the_data(nodes: list[Result], fleets: list[Result]) -> None:
    for results, names in ((nodes, STORES), (fleets, FLEETS)):
        lines = table(results)

        assert len(lines) == len(HEAD) + len(names)
        assert "\n".join(lines) in PAGE.read_text(encoding="utf-8")


def test_the_published_runs_are_right_and_can_be_repeated(nodes: list[Result], fleets: list[Result]) -> None:
    for result in (*nodes, *fleets):
        assert result.right
        assert not result.settings["sabotage"]
        assert f"`{result.command}`" in PAGE.read_text(encoding="utf-8")


def test_the_published_runs_are_as_hard_as_the_page_says(nodes: list[Result], fleets: list[Result]) -> None:
    for results, minutes, fired, of_a_kind in ((nodes, 15, 100_000, 20), (fleets, 10, 8_000, 8)):
        for result in results:
            assert result.minutes >= minutes
            assert result.counts["fired"] >= fired
            assert min(kind.count for name, kind in result.faults.items() if name != ONCE) >= of_a_kind


def test_the_published_picture_shows_these_runs(nodes: list[Result], fleets: list[Result]) -> None:
    picture = PICTURE.read_text(encoding="utf-8")

    for result in (*nodes, *fleets):
        assert result.title in picture
        assert number(result.counts["fired"]) in picture
