"""Transactions that cross on a real server, statement by statement, keep every invariant."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.running import SERVERS

from onebeat.store.dialects.mysql_session import MysqlSession
from onebeat.store.dialects.postgres_session import PostgresSession
from onebeat.testing import stepper
from onebeat.testing.stepper_servers import Server, server_at

pytestmark = pytest.mark.timeout(600)  # beside many others a second of it takes many

BOTH = [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in ("postgres", "mariadb")]
SEEDS, A_FEW = 24, 8
NUMBER = re.compile(r"\d+")


@pytest.fixture(scope="module", params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str) -> Iterator[Server]:
    with server_at(SERVERS.url(kind), f"onebeat_step_{os.getpid()}") as made:
        yield made


def lived(server: Server, seeds: range) -> list[stepper.Stepping]:
    """Live through seeds until one of them breaks something."""
    done: list[stepper.Stepping] = []
    for seed in seeds:
        done.append(stepper.stepped(seed, server))
        if done[-1].broken is not None:
            break
    return done


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, A_FEW))
def test_no_invariant_breaks_where_transactions_cross(server: Server, first: int) -> None:
    done = lived(server, range(first, first + A_FEW))

    assert (done[-1].seed, done[-1].broken) == (first + A_FEW - 1, None)
    assert sum(each.waited for each in done) > A_FEW
    assert sum(each.faults.total() for each in done) > A_FEW


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 4000, 100))
def test_no_invariant_breaks_in_four_thousand_seeds(server: Server, first: int) -> None:
    done = lived(server, range(first, first + 100))

    faults = sum((each.faults for each in done), Counter[str]())
    assert (done[-1].seed, done[-1].broken) == (first + 99, None)
    assert not [kind for kind in stepper.KINDS if not faults[kind]]


@pytest.mark.slow
def test_a_seed_is_one_interleaving(server: Server) -> None:
    told: list[list[str]] = [[], []]
    for lines in told:
        stepper.stepped(3, server, lines.append)

    told = [[NUMBER.sub("#", line)[:60] for line in lines] for lines in told]  # ids go on from seed to seed
    assert len(told[0]) > 200
    assert told[0] == told[1]


@pytest.mark.slow
def test_a_lock_that_holds_nothing_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(self: Any, sql: str, keys: Any) -> Any:
        return self.rows(sql.replace("{keys}", f"({', '.join('?' * len(keys))})"), keys) if keys else []

    for session in (PostgresSession, MysqlSession):
        monkeypatch.setattr(session, "free", looked)

    done = lived(server, range(SEEDS))

    assert done[-1].broken is not None


@pytest.mark.slow
def test_the_command_ends_with_0_and_a_summary(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = stepper.main(
        ["--store", SERVERS.url(kind), "--seeds", "1", "--first-seed", "5", "--rounds", "2"]
    )

    out = capsys.readouterr().out
    assert status == 0
    assert "violations: 0" in out
    assert all(kind in out for kind in stepper.KINDS)
