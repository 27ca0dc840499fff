"""Row 61: several brokers and queues on one ledger, and what does not go together is told."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery
from tests.celery.engine import MORE, Engine
from tests.seed.cluster import MINUTE, SECOND, Cluster, every
from tests.servers import redis

from onebeat import InvalidInput, Onebeat, celery_task
from onebeat.celery import CeleryOutlet
from onebeat.celery.message import fingerprint
from onebeat.core.messages import Claim
from onebeat.core.model import RunState
from onebeat.engine.service import Service

pytestmark = pytest.mark.slow


@pytest.fixture
def fleets(tmp_path: Path) -> Iterator[list[Engine]]:
    """Two brokers and one ledger."""
    ledger = redis.ledger_url(tmp_path)
    with ExitStack() as stack:
        made = []
        for number in ("9", "10"):
            (tmp_path / number).mkdir()
            made.append(Engine(ledger, redis.url().replace("/0", f"/{number}"), tmp_path / number))
            stack.callback(made[-1].close)
        yield made


def entry(name: str, **options: str) -> dict[str, object]:
    return {name: {"task": "shop.name", "schedule": 1.0, "options": options}}


@pytest.mark.of_servers
@pytest.mark.server("redis")
def test_seed_61_apps_of_two_brokers_and_several_queues_share_a_ledger(fleets: list[Engine]) -> None:
    for fleet, schedules in zip(
        fleets, (entry("plain") | entry("mail", queue="mail"), entry("far", queue="bulk")), strict=True
    ):
        words = ["-Q", "celery,mail"] if "mail" in schedules else ["-Q", "bulk"]
        fleet.worker("solo", conf=MORE, args=words)
        fleet.start_beat(beat_schedule=schedules, onebeat_queue=f"of-{len(words[1])}")
    here, there = fleets
    heard = [*here.hear(4), *there.hear(2)]

    ended = here.settled("plain", "mail", "far")
    heard += [*here.begun().elements(), *there.begun().elements()]

    assert Counter(heard) == Counter(run.id for run in ended)
    assert {run.state for run in ended} == {RunState.SUCCEEDED}, here.logs() + there.logs()
    assert here.beat.audit().right


@pytest.mark.of_servers
@pytest.mark.server("redis")
def test_seed_61_a_worker_of_another_ledger_says_so_and_runs_nothing(tmp_path: Path) -> None:
    broker = redis.url().replace("/0", "/9")
    theirs = f"sqlite:///{tmp_path / 'theirs.db'}"
    Onebeat(theirs).store.close()
    with ExitStack() as stack:
        ours = Engine(redis.ledger_url(tmp_path), broker, tmp_path)
        stack.callback(ours.close)
        run = ours.asked("digest", "shop.note", "here")
        other = Engine(theirs, broker, tmp_path)
        stack.callback(other.close)
        other.worker("solo")

        ours.send(run.id)
        other.heard("delivered")
        ours.app.send_task("shop.note", args=["after"])

        assert other.hear(1) == ["after"]
        assert ours.run(run.id).state is RunState.SENT
        said = f"comes from the ledger {fingerprint(ours.ledger)}, and this worker has {fingerprint(theirs)}"
        assert said in other.logs()


def test_seed_61_what_no_worker_begins_is_named(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    target = celery_task("shop.note", queue="mail")
    cluster.beat.schedules.put("digest", every(MINUTE), target, overlap="allow")
    node = cluster.node(roles=("dispatcher",))
    cluster.run(MINUTE)
    until = cluster.now + 2 * MINUTE
    cluster.store.claim(
        Claim(holder="beat", queues=("default",), targets=(target.key,), limit=9, until=until, sends=True)
    )

    cluster.run(59 * SECOND)
    early = told(cluster.beat, "sent")
    cluster.run(2 * SECOND)
    late = told(cluster.beat, "sent")
    caplog.set_level(logging.WARNING, "onebeat.engine")
    cluster.run(MINUTE)

    assert early == []
    (what,) = late
    assert what.startswith("1 runs of celery:shop.note are on their way for more than 60 s, ")
    assert "takes queue mail, with the guard, on this ledger" in what
    assert f"{node.name}: {cluster.runs('digest')[0].id} was not begun, and is sent again" in (
        caplog.messages
    )


def test_seed_61_nodes_that_send_one_queue_to_two_brokers_are_named_with_both(cluster: Cluster) -> None:
    here, there = (
        sender(cluster, broker, "default") for broker in ("redis://one.example", "redis://two.example")
    )
    apart = sender(cluster, "redis://three.example", "of-its-own")
    for service in (here, there, apart):
        service._presence.step()

    found = told(cluster.beat, "agreement")

    assert len(found) == 1
    assert found[0].startswith("the broker of celery runs in queue default differs: ")
    assert all(word in found[0] for word in ("one.example", "two.example", here.holder, there.holder))
    with pytest.raises(InvalidInput, match="would share their runs by chance"):
        cluster.beat.service((), outlets=[outlet("redis://one.example"), outlet("redis://two.example")])


def outlet(broker: str) -> CeleryOutlet:
    return CeleryOutlet(Celery("shop", broker=broker, set_as_current=False))


def sender(cluster: Cluster, broker: str, queue: str) -> Service:
    return cluster.beat.service((), outlets=[outlet(broker)], queues=[queue])


def told(app: Onebeat, about: str) -> list[str]:
    """What the doctor warns of."""
    return [each.what for each in app.doctor() if (each.level, each.about) == ("warn", about)]
