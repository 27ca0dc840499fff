"""Trouble on demand comes when it was asked for, and at no other moment."""

from __future__ import annotations

import pytest

from onebeat.core.errors import StoreUnavailable
from onebeat.core.ports import Ledger
from onebeat.store.memory import MemoryStore
from onebeat.testing.clock import VirtualClock
from onebeat.testing.faults import LEDGER_VERBS, QUIET_VERBS, WRITING_VERBS, FailNth, Moment, hooked


def test_the_verbs_are_those_of_the_port() -> None:
    assert {"now", "put", "settle", "claim", "advance", "purge", "close"} <= set(LEDGER_VERBS)
    assert all(hasattr(Ledger, verb) for verb in LEDGER_VERBS)
    assert set(LEDGER_VERBS) > QUIET_VERBS
    assert set(WRITING_VERBS) == set(LEDGER_VERBS) - QUIET_VERBS


@pytest.mark.parametrize("after", [False, True])
def test_a_failure_comes_at_the_call_that_was_named_and_once(after: bool) -> None:
    trouble = FailNth("cursor", 2, after=after)
    store = hooked(MemoryStore(VirtualClock()), trouble)

    store.cursor("name", 1)
    with pytest.raises(StoreUnavailable):
        store.cursor("name", 2)

    assert trouble.fired
    assert store.cursor("name") == (2 if after else 1)


def test_a_failure_that_does_not_come_is_not_claimed() -> None:
    trouble = FailNth("put", 2)
    store = hooked(MemoryStore(VirtualClock()), trouble)

    store.put([])

    assert not trouble.fired


def test_a_verb_that_the_ledger_has_not_cannot_fail() -> None:
    with pytest.raises(ValueError, match="no verb"):
        FailNth("puts")


def test_a_hook_sees_each_call_before_and_after_and_no_reads() -> None:
    seen: list[Moment] = []
    store = hooked(MemoryStore(VirtualClock()), seen.append)

    store.put([])
    store.put([])
    store.nodes()
    store.due(store.now(), 1)

    verbs = [(moment.verb, moment.after, moment.number) for moment in seen]
    assert verbs == [
        ("put", False, 1),
        ("put", True, 1),
        ("put", False, 2),
        ("put", True, 2),
        ("now", False, 1),
        ("now", True, 1),
        ("due", False, 1),
        ("due", True, 1),
    ]
