"""The window checker: a largest possible matching, and each planted fault under its own name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebeat.testing.windows import Matched, matched

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BOUND = 3 * SECOND


def at(*seconds: float) -> list[datetime]:
    return [T0 + second * SECOND for second in seconds]


DUE = at(0, 10, 20, 30)
RIGHT = at(0.1, 10.2, 20.3, 33)


def counts(found: Matched) -> tuple[int, int, int, int]:
    return len(found.pairs), len(found.missed), len(found.doubled), len(found.phantom)


def test_a_firing_in_each_window_is_all_right() -> None:
    found = matched(DUE, RIGHT[::-1], BOUND)

    assert counts(found) == (4, 0, 0, 0)
    assert found.lateness == [0.1 * SECOND, 0.2 * SECOND, 0.3 * SECOND, 3 * SECOND]


@pytest.mark.parametrize(
    ("fired", "which", "instants"),
    [
        (at(0.1, 20.3, 33), "missed", at(10)),
        (at(0.1, 10.2, 20.3), "missed", at(30)),
        (at(0.1, 10.2, 10.2, 20.3, 33), "doubled", at(10.2)),
        (at(0.1, 10.2, 15, 20.3, 33), "phantom", at(15)),
        (at(-0.001, 0.1, 10.2, 20.3, 33), "phantom", at(-0.001)),
        (at(0.1, 10.2, 20.3, 33, 33.1), "phantom", at(33.1)),
    ],
)
def test_a_planted_fault_is_found_and_only_that(
    fired: list[datetime], which: str, instants: list[datetime]
) -> None:
    found = matched(DUE, fired, BOUND)

    others = {"missed", "doubled", "phantom"} - {which}
    assert getattr(found, which) == instants
    assert not [other for other in others if getattr(found, other)]


def test_an_early_firing_is_a_phantom_and_what_it_was_for_was_missed() -> None:
    found = matched(DUE, at(0.1, 9.999, 20.3, 33), BOUND)

    assert (found.missed, found.phantom) == (at(10), at(9.999))


def test_a_firing_past_the_bound_serves_nobody() -> None:
    found = matched(DUE, at(0.1, 13.001, 20.3, 33), BOUND)

    assert (found.missed, found.phantom) == (at(10), at(13.001))


def test_windows_that_overlap_are_served_by_who_closes_first() -> None:
    # Were 1.5 given to the window of 1, the one of 0 would close unserved, though two firings are there.
    found = matched(at(0, 1), at(1.5, 3.5), 2.5 * SECOND)

    assert found.pairs == [(T0, T0 + 1.5 * SECOND), (T0 + SECOND, T0 + 3.5 * SECOND)]


def largest(due: tuple[int, ...], fired: tuple[int, ...], bound: int) -> int:
    """The size of a largest matching, by trying them all."""

    @cache
    def best(window: int, left: frozenset[int]) -> int:
        if window == len(due):
            return 0
        tries = [place for place in left if due[window] <= fired[place] <= due[window] + bound]
        return max([best(window + 1, left), *(1 + best(window + 1, left - {place}) for place in tries)])

    return best(0, frozenset(range(len(fired))))


FEW = st.lists(st.integers(0, 12), max_size=6)


@given(due=FEW, fired=FEW, bound=st.integers(0, 6))
def test_as_many_are_matched_as_can_be(due: list[int], fired: list[int], bound: int) -> None:
    found = matched(at(*due), at(*fired), bound * SECOND)

    windows = [(start, start + bound * SECOND) for start in at(*due)]
    assert len(found.pairs) == largest(tuple(due), tuple(fired), bound)
    assert all(start <= firing <= start + bound * SECOND for start, firing in found.pairs)
    assert sorted([start for start, _ in found.pairs] + found.missed) == at(*sorted(due))
    assert sorted([f for _, f in found.pairs] + found.doubled + found.phantom) == at(*sorted(fired))
    assert all(any(low <= firing <= high for low, high in windows) for firing in found.doubled)
    assert not any(any(low <= firing <= high for low, high in windows) for firing in found.phantom)
