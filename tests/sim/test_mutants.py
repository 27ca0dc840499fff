"""The mutants: their list stays true, and the quick ones are made here, each noticed by the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from onebeat.testing import mutants

TOP = Path(__file__).resolve().parent.parent.parent
LISTED = {mutant.name: mutant for mutant in mutants.catalogue(TOP)}

QUICK = (
    "settle-without-version-compare",
    "no-fencing",
    "now-for-the-mark",
    "edit-without-settling",
    "request-without-admission",
    "no-start-mark",
)


def test_every_mutant_still_fits_in_exactly_one_place() -> None:
    found = {name: mutants.fits(mutant, TOP / "src") for name, mutant in LISTED.items()}

    assert {name: times for name, times in found.items() if times != 1} == {}


def test_no_mutant_leaves_the_source_as_it_is_or_unexplained() -> None:
    assert len(LISTED) == len(mutants.catalogue(TOP))
    assert not [mutant.name for mutant in LISTED.values() if mutant.old == mutant.new or not mutant.why]


def test_the_page_of_mutants_lists_them_all() -> None:
    page = (TOP / "docs" / "reference" / "mutants.md").read_text(encoding="utf-8")

    listed = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert listed == list(LISTED)
    assert mutants.SURVIVED not in page


def test_a_break_that_does_not_fit_is_an_error() -> None:
    astray = LISTED["no-fencing"]._replace(old="nowhere to be found")

    verdict = mutants.tried(astray, TOP)

    assert not verdict.noticed
    assert "does not fit" in verdict.trouble


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_the_simulator_notices(name: str) -> None:
    verdict = mutants.tried(LISTED[name]._replace(by="sim 60"), TOP)

    assert verdict.noticed.startswith("simulator"), verdict.trouble


@pytest.mark.slow
def test_what_fails_anyway_is_no_evidence(tmp_path: Path) -> None:
    failing = tmp_path / "test_always.py"
    failing.write_text("def test_always():\n    assert False\n", encoding="utf-8")

    verdict = mutants.tried(LISTED["no-fencing"]._replace(by=str(failing)), TOP)

    assert not verdict.noticed
    assert "no evidence" in verdict.trouble


@pytest.mark.slow
def test_a_change_that_breaks_nothing_survives() -> None:
    harmless = LISTED["no-fencing"]
    harmless = harmless._replace(new=harmless.old.rstrip("\n") + "  # the same\n", by="sim 1")

    assert mutants.tried(harmless, TOP).trouble == mutants.SURVIVED
