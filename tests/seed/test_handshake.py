"""Row 44: nodes that do not go together are named, or refused, and none of them fires twice."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.seed.cluster import BODY, DAY, HOUR, MINUTE, T0, Cluster, every, ledger_at
from tests.servers.running import KINDS, SERVERS

from onebeat import Onebeat
from onebeat.core.codec import FORMAT
from onebeat.core.errors import SchemaMismatch
from onebeat.core.messages import Share
from onebeat.engine.service import Service
from onebeat.store.redis.store import RedisStore
from onebeat.store.sql import SqlStore

pytestmark = pytest.mark.slow


def started(cluster: Cluster, zone: str, shares: int, *also: str, revision: int = 0) -> Service:
    """A node of the shop, as it is configured on one machine."""
    app = Onebeat(store=cluster.store, clock=cluster.clock, owner="shop", zone=zone, revision=revision)
    for name in ("report", *also):
        app.declare(name, "0 13 * * *", BODY, title="at one")
    return app.service(roles=("dispatcher",), share=Share(index=0, of=shares))


def a_day(cluster: Cluster, services: list[Service]) -> None:
    """Let a day pass by the hour; the nodes meet each hour in another order."""
    for hour in range(24):
        for service in services[:: 1 if hour % 2 else -1]:
            for part in service._parts:
                part._step()
        cluster.step()
        cluster.clock.advance(HOUR)


def told(app: Onebeat, about: str) -> list[str]:
    """What the doctor warns of."""
    return [each.what for each in app.doctor() if (each.level, each.about) == ("warn", about)]


def test_seed_44_nodes_with_other_settings_are_named_with_both_values_and_none_doubles(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "onebeat.engine")
    here = started(cluster, "UTC", 2)
    there = started(cluster, "Asia/Tokyo", 3, "more")
    cluster.node(roles=("worker",))

    a_day(cluster, [here, there])

    said = [record.getMessage() for record in caplog.records]
    for words in (
        f"{there.holder}: node {here.holder} has UTC as the zone of shop, this one Asia/Tokyo",
        f"{here.holder}: node {there.holder} has Asia/Tokyo as the zone of shop, this one UTC",
        f"{there.holder}: node {here.holder} has 2 as the number of shares, this one 3",
    ):
        assert said.count(words) == 1, said
    assert sum(f"node {here.holder} has 1 schedules (" in each for each in said) == 1
    for service in (here, there):
        service._presence.step()
    found = told(cluster.beat, "agreement")
    assert len(found) == 3
    assert any("the zone of shop differs: " in each for each in found)
    assert all(here.holder in each and there.holder in each for each in found)
    # Whoever came first has said when; both dispatchers settle it, and it fires once.
    assert cluster.fired("report") == [T0 + HOUR]
    assert cluster.fired("more") == [datetime(2026, 11, 22, 4, tzinfo=UTC)]
    cluster.prove()


def test_seed_44_nodes_that_agree_or_that_need_not_agree_are_not_named(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "onebeat.engine")
    other = Onebeat(store=cluster.store, clock=cluster.clock, owner="bank", zone="Asia/Tokyo")
    other.declare("interest", every(DAY), BODY)
    bank = other.service(roles=("worker",), queues=("bank",), lease=timedelta(minutes=5))
    nodes = [started(cluster, "UTC", 2), started(cluster, "UTC", 2), bank]
    nodes.append(started(cluster, "UTC", 2, "new", revision=1))  # the release that is being rolled out
    for service in nodes * 2:
        service._presence.step()

    assert len(cluster.store.nodes()) == 4
    assert caplog.messages == []
    assert told(cluster.beat, "agreement") == []
    assert told(other, "agreement") == []


@pytest.mark.of_processes
def test_seed_44_a_node_that_does_not_know_the_ledgers_format_is_refused_and_changes_nothing(
    cluster: Cluster,
) -> None:
    cluster.put("a", every(MINUTE))
    before = cluster.row("a")
    if isinstance(cluster.store, RedisStore):
        server = cluster.store._server
        server.ask("HSET", f"{{{server.address.namespace}}}:meta", "format", str(FORMAT + 1))
    else:
        assert isinstance(cluster.store, SqlStore)
        raised = "UPDATE onebeat_meta SET value = ? WHERE name = 'format'"
        cluster.store._dialect.write(lambda session: session.run(raised, (FORMAT + 1,)))

    with pytest.raises(SchemaMismatch, match="upgrade this node"):
        ledger_at(cluster.place, cluster.clock)

    assert cluster.row("a") == before


@pytest.mark.of_servers
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in KINDS])
def test_seed_44_another_ledger_of_the_same_server_is_named_while_nodes_serve_it(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    places: list[Path] = [tmp_path_factory.mktemp(name) / kind for name in ("one", "two")]
    for place in places:
        place.mkdir()
    with closing(Cluster(places[0])) as one, closing(Cluster(places[1])) as two:
        name = SERVERS.ledger(kind, places[1])
        seen = f"{name} is another ledger on this server, with 2 live nodes"
        for cluster in (one, two):
            cluster.put("a", every(MINUTE), overlap="allow")
            cluster.node()
            cluster.step()
        assert not any(what.startswith(f"{name} ") for what in told(two.beat, "neighbours"))  # its own
        two.node()
        two.step()
        assert any(what.startswith(seen) for what in told(one.beat, "neighbours"))

        one.run(MINUTE)  # and nobody serves the other one meanwhile: its nodes have lapsed

        assert not any(what.startswith(f"{name} ") for what in told(one.beat, "neighbours"))
        assert (len(one.fired("a")), len(two.fired("a"))) == (1, 0)
