"""Ours against two other evaluators, on random expressions, zones and instants."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests.core.triggers.oracles import CLASSES, Case, cases, explain_croniter, explain_cronsim
from tests.core.triggers.reading import at

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "wall-time.md"
SEED = 20261121


def differences(seed: int, number: int) -> list[tuple[str, Case]]:
    """Print how many cases fell into each class; return those that fell into none."""
    found, seen = list[tuple[str, Case]](), Counter[str]()
    for case in cases(seed, number):
        for name, explain in (("cronsim", explain_cronsim), ("croniter", explain_croniter)):
            verdict = explain(case)
            seen[f"{name}: {verdict}"] += 1
            if verdict is None:
                found.append((name, case))
            else:
                assert set(verdict.split(" + ")) <= set(CLASSES[name])
    print(f"seed {seed}")
    for line, times in sorted(seen.items()):
        print(f"{times:8,} {line}")
    return found


NEW_YORK = "America/New_York"
EXAMPLES = {
    "cronsim": {
        "same": ("0 9 * * MON-FRI", NEW_YORK, "2026-03-07T00:00"),
        "equal-bounds": ("0 4-4/1 * * *", "UTC", "2026-03-07T00:00"),
        "sunday-step": ("0 9 * * 4/3", "UTC", "2026-03-07T00:00"),
        "six-fields": ("0 30 1 * * *", NEW_YORK, "2026-10-31T12:00"),
        "midnight-gap": ("* 0 * * SUN", "America/Sao_Paulo", "2018-11-03T12:00"),
        "lost-place": ("*/22 7 * * SAT,SUN", "Australia/Lord_Howe", "2014-04-04T16:05:01"),
        "lost-fold": ("57,6 0/1 * * *", "Australia/Melbourne", "2018-03-31T16:33:28"),
        "stands-still": ("21 * * * 0-2,0,3-5/3", "America/St_Johns", "1990-10-27T17:05:41"),
    },
    "croniter": {
        "same": ("0 9 * * MON-FRI", NEW_YORK, "2026-03-07T00:00"),
        "equal-bounds": ("37-37 * * * *", "UTC", "2026-03-07T00:00"),
        "day-rule": ("0 0 */2 * MON", "UTC", "2026-03-07T00:00"),
        "fold-twice": ("30 1 * * *", NEW_YORK, "2026-10-31T12:00"),
        "fold-once": ("*/24 2 * * *", "Asia/Hong_Kong", "1972-10-20T20:41:54"),
        "gap-shift": ("0 */2 * * *", NEW_YORK, "2026-03-08T00:00"),
        "gap-second": ("45 13/27 6,11,0 * * *", "Pacific/Kwajalein", "1993-08-21T11:42:12"),
    },
}


@pytest.mark.parametrize(
    ("name", "verdict"), [(name, verdict) for name, verdicts in CLASSES.items() for verdict in verdicts]
)
def test_every_class_has_an_example(name: str, verdict: str) -> None:
    expression, zone, start = EXAMPLES[name][verdict]
    explain = {"cronsim": explain_cronsim, "croniter": explain_croniter}[name]

    assert explain(Case(expression, zone, at(start))) == verdict


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_every_difference_from_other_evaluators_is_explained(part: int) -> None:
    assert not differences(SEED + part, 500)


@pytest.mark.long
@pytest.mark.parametrize("part", range(20))
def test_every_difference_in_100_000_cases_is_explained(part: int) -> None:
    assert not differences(SEED + 1000 + part, 5_000)


@pytest.mark.parametrize(
    "name", sorted({each for classes in CLASSES.values() for each in classes} - {"same"})
)
def test_every_class_of_difference_is_told_in_the_docs(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
