"""Rows 32 and 53: real nodes in real time, that come and go, and to whom everything happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.faults.kinds import for_store
from tests.chaos.plays import played
from tests.fleet.fleet import Fleet
from tests.servers import ledgers, redis

pytestmark = [pytest.mark.slow, pytest.mark.of_servers, pytest.mark.timeout(1200)]

FEW, MANY = 4, 20


def on(*now: str) -> list[object]:
    """Name all servers; the ones that are not for ``now`` are left to `make test-long`."""
    return [
        pytest.param(kind, marks=[pytest.mark.server(kind), *([] if kind in now else [pytest.mark.long])])
        for kind in ("postgres", "mariadb", "redis")
    ]


# --- 32: from one node to many and back ---------------------------------------------------------------


def come_and_go(url: str, place: Path, most: int, *, between: int) -> None:
    """Go from one node to many and back to one, each of them another one than before, while all fires.

    With many, after each of them is another one, and with one again so many occurrences fire.
    """
    fleet = Fleet(url, place)
    try:
        fleet.put(5)
        fleet.start()
        fleet.until_fired(1)
        fleet.start(most - 1, wait=False)
        fleet.until_fired(between)
        for node in fleet.nodes[: most // 2]:  # a rolling restart: a new one, then an old one less
            fleet.start(wait=False)
            fleet.stop(node)
        fleet.until_fired(between)
        fleet.stop(*fleet.nodes[1:])
        fleet.until_fired(between)
        fleet.rest()
        fleet.prove()
        assert fleet.doubled() == set()
    finally:
        fleet.close()


@pytest.mark.parametrize("kind", on("postgres"))
def test_seed_32_from_one_node_to_some_and_back_nothing_is_missed_and_nothing_doubled(
    kind: str, tmp_path: Path
) -> None:
    come_and_go(ledger(kind, tmp_path), tmp_path, FEW, between=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", on())
def test_seed_32_from_one_node_to_twenty_and_back_nothing_is_missed_and_nothing_doubled(
    kind: str, tmp_path: Path
) -> None:
    come_and_go(ledger(kind, tmp_path), tmp_path, MANY, between=20)  # a minute, for all of it


def ledger(kind: str, place: Path) -> str:
    return redis.ledger_url(place) if kind == "redis" else ledgers.ledger_url(kind, place)


# --- 53: everything that happens to real machines ----------------------------------------------------


@pytest.mark.parametrize("kind", on("redis"))
@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.long)])
def test_seed_53_killed_stopped_cut_off_and_failed_over_nodes_miss_nothing_and_double_nothing(
    kind: str, rounds: int, tmp_path: Path
) -> None:
    play = played(tmp_path, kind, list(for_store(kind)), rounds=rounds, edits_s=40.0)

    assert play.result.findings == []
    assert play.result.right
    assert play.result.counts["must"] > 200
    assert set(play.result.faults) == {fault.kind for fault in for_store(kind)}
