"""Row 26: the server dies for good, and its replica takes over, with whatever it had by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from tests.fleet.fleet import Fleet, fleets
from tests.servers.pairs import PAIRS, Pair

from onebeat.core.model import RunState

pytestmark = [pytest.mark.slow, pytest.mark.of_servers, pytest.mark.timeout(1200)]


def on(*kinds: str, long: tuple[str, ...] = ()) -> list[object]:
    """Name servers; those that are ``long`` are left to `make test-long`."""
    return [
        pytest.param(kind, marks=[pytest.mark.server(kind), *([pytest.mark.long] if kind in long else [])])
        for kind in kinds
    ]


@pytest.fixture
def pairs() -> Iterator[Callable[..., Pair]]:
    """Give what makes a pair of servers; none of them is left behind."""
    with ExitStack() as left:

        def one_more(kind: str, *, in_step: bool = False) -> Pair:
            return left.enter_context(closing(PAIRS[kind](in_step=in_step)))

        yield one_more


@pytest.fixture
def fleet_on(tmp_path: Path) -> Iterator[Callable[[str], Fleet]]:
    yield from fleets(tmp_path)


@pytest.mark.parametrize("kind", on("postgres", "mariadb", "redis", long=("mariadb",)))
def test_seed_26_after_a_fail_over_only_what_had_not_been_replicated_fires_again(
    kind: str, pairs: Callable[..., Pair], fleet_on: Callable[[str], Fleet]
) -> None:
    pair = pairs(kind)
    fleet = fleet_on(pair.url(pair.nodes.port))
    fleet.put(4)
    fleet.start(2, lease=10)
    fleet.until_fired(2)
    pair.catch_up()
    pair.wire.cut()  # from here on the replica knows nothing more
    fleet.until_fired(2)
    fleet.beat.schedules.put("acknowledged-and-lost", "0 0 1 1 *", "tests.fleet.node:effect")

    pair.nodes.cut()
    pair.kill()
    known = pair.done()
    pair.promote()
    first_life = fleet.effects()
    before = {each.run_id for each in first_life}
    pair.nodes.mend(pair.replica_port)
    fleet.until_fired(2)
    fleet.rest()

    report = fleet.beat.audit()
    assert (report.right, report.gaps, report.extras) == (True, 0, 0)
    assert {run.state for run in fleet.runs()} == {RunState.SUCCEEDED}
    assert {run.id for run in fleet.runs()} == {each.run_id for each in fleet.effects()}
    # Done again in the world, under the same id, is what was done and not replicated; and nothing else.
    second_life = fleet.effects()[len(first_life) :]
    again = before & {each.run_id for each in second_life}
    assert again <= before - known
    assert len(again) >= len(fleet.names)
    # A token of the second life is larger than each of the first: what it fences stays fenced.
    newest = {each.run_id: each.token for each in sorted(first_life, key=lambda each: each.token)}
    assert all(each.token > newest[each.run_id] for each in second_life if each.run_id in again)
    assert [row.name for row in fleet.beat.schedules.list()] == fleet.names


@pytest.mark.parametrize("kind", on("postgres", "mariadb", long=("mariadb",)))
def test_seed_26_where_the_replica_is_synchronous_a_fail_over_loses_and_doubles_nothing(
    kind: str, pairs: Callable[..., Pair], fleet_on: Callable[[str], Fleet]
) -> None:
    pair = pairs(kind, in_step=True)
    fleet = fleet_on(pair.url_of_both())
    fleet.put(4)
    fleet.start(2)
    fleet.until_fired(3)
    fleet.beat.schedules.put("acknowledged", "0 0 1 1 *", "tests.fleet.node:effect")

    pair.kill()  # in the middle of whatever it does
    pair.nodes.cut()
    pair.promote()
    pair.nodes.mend(pair.replica_port)
    fleet.until_fired(2)
    fleet.rest()

    fleet.prove()
    assert fleet.doubled() == set()
    assert [row.name for row in fleet.beat.schedules.list()] == ["acknowledged", *fleet.names]
