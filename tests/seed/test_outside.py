"""Rows 36, 40, 43, 78 and 79: the promise rests on no broker, no leader, no neighbour and no lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from random import Random

import pytest
from tests.seed.cluster import HOUR, MINUTE, SECOND, T0, Cluster, Play, every
from tests.seed.test_many import put_many
from tests.servers import ledgers, redis
from tests.servers.running import KINDS

from onebeat.core.errors import StoreUnsafe
from onebeat.core.messages import Answer, Done, Finish, Guard, RunQuery, Sent, Share, Start
from onebeat.core.model import Outcome, RunState, micros
from onebeat.engine.dispatcher import OVERTAKEN_EVERY, STRANGERS_AFTER
from onebeat.store.redis.address import address_of
from onebeat.store.redis.opening import open_on_clock
from onebeat.store.redis.server import Server
from onebeat.store.redis.store import RedisStore
from onebeat.store.sql import SqlStore

pytestmark = pytest.mark.slow


# --- 36: the broker ---------------------------------------------------------------------------------

RESEND = 5 * SECOND


class Broker:
    """A broker, who publishes to it, and who takes from it. It may be down, and lose messages."""

    def __init__(self, cluster: Cluster) -> None:
        self._store = cluster.store
        self.up = True
        self.loses = 0
        self.messages: list[tuple[str, int]] = []
        self.ran: list[str] = []

    def publish(self) -> None:
        """Hand over what is ready, and only then say that it was sent; in between anybody may die."""
        for run in self._store.runs(RunQuery(states=[RunState.READY])):
            if not self.up:
                return
            message = (run.id, run.attempt + 1)
            self.loses -= 1
            if self.loses < 0:
                self.messages.append(message)
            sent = Sent(run_id=run.id, attempt=message[1], resend_at=self._store.now() + RESEND)
            self._store.advance([sent])

    def deliver(self, message: tuple[str, int]) -> bool:
        """Give one message to a worker behind a guard; return whether the body ran."""
        run_id, attempt = message
        until = self._store.now() + MINUTE
        (told,) = self._store.advance([Guard(run_id=run_id, attempt=attempt, holder="w", until=until)])
        if told.answer is not Answer.ACCEPTED:
            return False
        self._store.advance([Start(run_id=run_id, token=told.token)])
        self.ran.append(run_id)
        done = Done(state=RunState.SUCCEEDED, reason="")
        end = Finish(run_id=run_id, token=told.token, outcome=Outcome.SUCCEEDED, verdict=done, result=None)
        (ended,) = self._store.advance([end])
        return ended.answer is Answer.ACCEPTED


@pytest.fixture
def broker(cluster: Cluster) -> Broker:
    cluster.node(roles=("dispatcher",))
    cluster.put("a", every(MINUTE))
    return Broker(cluster)


def test_seed_36_what_is_due_while_the_broker_is_down_is_handed_over_once_when_it_is_back(
    cluster: Cluster, broker: Broker
) -> None:
    broker.up = False
    for _ in range(5):
        cluster.run(MINUTE / 5, every=MINUTE / 5)
        broker.publish()
    assert cluster.the_run().state is RunState.READY

    broker.up = True
    broker.publish()
    broker.publish()

    (message,) = broker.messages
    assert message == ("a@20261121T120100Z", 1)
    assert broker.deliver(message)
    assert (cluster.the_run().state, cluster.the_run().attempt) == (RunState.SUCCEEDED, 1)
    assert cluster.beat.audit().right


def test_seed_36_a_message_that_comes_twice_runs_once_whenever_it_comes(
    cluster: Cluster, broker: Broker
) -> None:
    cluster.run(MINUTE, every=MINUTE)
    broker.publish()
    (message,) = broker.messages

    assert [broker.deliver(message) for _ in range(3)] == [True, False, False]
    assert broker.ran == [message[0]]
    assert cluster.states() == {RunState.SUCCEEDED: 1}


def test_seed_36_a_message_that_was_lost_is_sent_again_under_the_same_name_and_runs_once(
    cluster: Cluster, broker: Broker
) -> None:
    broker.loses = 1
    cluster.run(MINUTE, every=MINUTE)
    broker.publish()
    assert (broker.messages, cluster.states()) == ([], {RunState.SENT: 1})

    cluster.run(RESEND + OVERTAKEN_EVERY, every=SECOND)
    broker.publish()

    assert broker.messages == [("a@20261121T120100Z", 1)]
    late = broker.messages * 2  # the first one was only slow
    assert [broker.deliver(message) for message in late] == [True, False]
    assert [event.run_id for event in cluster.events("run.resend")] == [broker.messages[0][0]]
    assert cluster.beat.audit().right


# --- 40, 79: no leader, no standby ------------------------------------------------------------------


def lateness_max(cluster: Cluster) -> timedelta:
    return max(run.created_at - run.due_at for run in cluster.runs(None))


@pytest.mark.parametrize(
    ("verb", "after", "hints"), [("due", True, True), ("settle", False, False), ("settle", True, False)]
)
def test_seed_40_whoever_dies_nobody_elses_occurrences_are_later_than_a_third_of_a_second(
    cluster: Cluster, verb: str, *, after: bool, hints: bool
) -> None:
    cluster.node(roles=("worker",))
    nodes = [cluster.node(roles=("dispatcher",), share=Share(index=i, of=3)) for i in range(3)]
    put_many(cluster, 12, period=10 * SECOND)
    cluster.run(25 * SECOND, hints=hints)
    assert len({node.calls["settle"] > 0 for node in nodes}) == 1

    for node in nodes[:2]:  # one after the other, until one is left
        node.die_at(verb, after=after)
        cluster.run(20 * SECOND, hints=hints)
        assert not node.alive

    assert Counter(run.occurrence_at for run in cluster.runs(None)) == {
        T0 + i * 10 * SECOND: 12 for i in range(1, 7)
    }
    assert lateness_max(cluster) <= STRANGERS_AFTER
    assert cluster.beat.audit().right


def test_seed_79_a_node_that_stands_still_is_replaced_within_a_bound_and_goes_on_without_ending(
    cluster: Cluster,
) -> None:
    lease = 10 * SECOND
    cluster.plays["body"] = Play(lasts=6 * SECOND)
    nodes = [cluster.node(share=Share(index=i, of=3), lease=lease, slots=12) for i in range(3)]
    put_many(cluster, 12, period=10 * SECOND)
    cluster.run(13 * SECOND)
    still = max(nodes, key=lambda node: sum(e.node == node.name for e in cluster.effects))
    held = [effect for effect in cluster.effects if effect.node == still.name]
    stopped_at = cluster.now
    still.paused_until = cluster.now + MINUTE
    before = still.calls["settle"]
    cluster.run(50 * SECOND)
    again = {e.run_id: e.began_at for e in cluster.effects if e.attempt == 2}
    assert still.calls["settle"] == before
    cluster.run(MINUTE)

    assert held
    assert again.keys() == {effect.run_id for effect in held}
    assert max(again.values()) <= stopped_at + lease + OVERTAKEN_EVERY
    assert lateness_max(cluster) <= STRANGERS_AFTER
    assert nodes == cluster.nodes  # nobody ended
    assert still.calls["settle"] > before
    assert cluster.events("node.step_failed") == []
    assert cluster.beat.audit().right


# --- 43: neighbours on one server -------------------------------------------------------------------


@pytest.mark.server("redis")
@pytest.mark.of_servers
def test_seed_43_flushing_the_brokers_database_beside_it_harms_no_ledger(
    cluster_on_redis: tuple[Cluster, redis.Own],
) -> None:
    cluster, own = cluster_on_redis
    put_many(cluster, 5)
    cluster.node()
    broker = Server(address_of(f"redis://127.0.0.1:{own.port}/1"))
    for _ in range(5):
        broker.ask("RPUSH", "celery", "a message")
        cluster.run(MINUTE, every=MINUTE / 2)
        assert broker.ask("LLEN", "celery") == 1  # and the ledger touches nothing that is not its own
        broker.ask("FLUSHDB")
    broker.close()

    assert len(cluster.effects) == 25
    cluster.prove()


@pytest.mark.server("redis")
@pytest.mark.of_servers
@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_seed_43_a_server_that_may_evict_keys_is_refused_with_what_to_set(
    cluster_on_redis: tuple[Cluster, redis.Own], policy: str
) -> None:
    cluster, own = cluster_on_redis
    own.ask("CONFIG", "SET", "maxmemory-policy", policy)

    with pytest.raises(StoreUnsafe, match="set maxmemory-policy noeviction"):
        open_on_clock(own.url, cluster.clock)


@pytest.mark.of_servers
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.server(kind)) for kind in KINDS])
def test_seed_43_every_name_in_a_database_is_marked_as_ours_and_nothing_else_is_touched(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("beside") / kind
    place.mkdir()
    url = ledgers.ledger_url(kind, place)
    sql = (
        "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = current_schema()"
        if kind == "postgres"
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
    )
    cluster = Cluster(place)
    assert isinstance(cluster.store, SqlStore)
    for statement in ("CREATE TABLE runs (id INT)", "INSERT INTO runs VALUES (1), (2)"):
        cluster.store._dialect.write(lambda session, said=statement: session.run(said))
    put_many(cluster, 5)
    cluster.node()
    cluster.run(5 * MINUTE, every=MINUTE / 2)

    with ledgers.connected(kind, url) as run:
        names = {str(name) for (name,) in run(sql)}
        kept = run("SELECT id FROM runs ORDER BY id")
    assert {name for name in names if not name.startswith("onebeat_")} == {"runs"}
    assert kept == [(1,), (2,)]
    cluster.prove()
    cluster.close()


@pytest.fixture
def cluster_on_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, redis.Own]]:
    """A ledger on a server of its own, which a test may flush and set."""
    own = redis.Own()
    place = tmp_path_factory.mktemp("own") / "redis"
    place.mkdir()
    place.with_suffix(".url").write_text(own.url)
    cluster = Cluster(place)
    yield cluster, own
    cluster.close()
    own.stop()


# --- 78: nothing that could be deleted holds anything together --------------------------------------


def forget(cluster: Cluster, *, nodes: bool) -> None:
    """Let every lease lapse now, or forget every node: all that a lock or a leader could be made of."""
    now = micros(cluster.now)
    if isinstance(cluster.store, RedisStore):
        server = cluster.store._server
        ns = f"{{{server.address.namespace}}}:"
        if nodes:
            server.ask("DEL", f"{ns}nodes", *server.ask("KEYS", f"[{{]{ns[1:]}node:*"))
        for run_id in () if nodes else server.ask("ZRANGE", f"{ns}state:running", "0", "-1"):
            server.ask("HSET", f"{ns}run:{run_id}", "lease_until", str(now))
            server.ask("ZADD", f"{ns}watch", str(now), run_id)
        return
    assert isinstance(cluster.store, SqlStore)
    lapse = f"UPDATE onebeat_runs SET lease_until = {now} WHERE state = 'running'"
    statement = "DELETE FROM onebeat_nodes" if nodes else lapse
    cluster.store._dialect.write(lambda session: session.run(statement))


@pytest.mark.of_processes
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_seed_78_an_hour_in_which_leases_and_nodes_are_forgotten_at_random_loses_and_doubles_nothing(
    cluster: Cluster, seed: int
) -> None:
    draw = Random(seed)
    nodes = [cluster.node(lease=10 * SECOND) for _ in range(3)]
    cluster.plays["body"] = Play(lasts=25 * SECOND, does=lambda run: run.token)
    put_many(cluster, 2)
    end = T0 + HOUR
    while cluster.now < end:
        cluster.run(draw.randrange(10, 90) * SECOND, every=8 * SECOND)
        forget(cluster, nodes=draw.random() < 0.5)
    cluster.run(2 * MINUTE, every=8 * SECOND)

    assert cluster.nodes == nodes  # nobody ended
    assert cluster.events("node.step_failed") == []
    assert cluster.beat.audit().right
    runs = [run for run in cluster.runs(None) if run.created_at < cluster.now - MINUTE]
    fired = Counter(run.occurrence_at for run in runs)
    assert fired == {T0 + i * MINUTE: 2 for i in range(1, len(fired) + 1)}
    assert len(fired) >= 60
    assert any(run.attempt > 1 for run in runs)  # leases did lapse
    began = Counter(effect.run_id for effect in cluster.effects)
    for run in runs:
        # One accepted outcome, of the newest holder; and no more bodies than attempts.
        assert (run.state, run.result) == (RunState.SUCCEEDED, run.token)
        assert 1 <= began[run.id] <= run.attempt
