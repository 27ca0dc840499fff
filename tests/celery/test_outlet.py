"""What the outlet puts on a broker is what Celery would have put there, many at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.servers import redis

from onebeat import celery_task, http
from onebeat.celery import CeleryOutlet
from onebeat.celery.library import Celery
from onebeat.celery.message import KILL_AFTER, fingerprint, message_of
from onebeat.core.errors import InvalidInput, OutletUnavailable, TargetNotFound
from onebeat.core.messages import Claimed
from onebeat.core.model import Definition, Policy, Run, RunState, Target, TriggerSpec

pytestmark = pytest.mark.server("redis")

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def claimed(target: Target, number: int = 0, *, policy: Policy | None = None, attempt: int = 0) -> Claimed:
    """Return a run that was claimed for sending."""
    run = Run(
        id=f"digest@20261122T0900{number:02}Z",
        schedule_id=1,
        schedule="digest",
        number=1,
        queue="default",
        target=target.key,
        state=RunState.SENT,
        due_at=NOW,
        ready_at=NOW,
        created_at=NOW,
        attempt=attempt,
    )
    trigger = TriggerSpec(kind="on_request")
    return Claimed(run=run, definition=Definition(trigger=trigger, target=target, policy=policy or Policy()))


@pytest.fixture
def app() -> Iterator[Any]:
    """An app whose broker is an empty database of a real Redis."""
    app = Celery("shop", broker=redis.url().replace("/0", "/9"), set_as_current=False)
    yield app
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    app.close()


def waiting(app: Any, key: str) -> list[dict[str, Any]]:
    """Return the messages under a key of the broker, the first to be taken first."""
    with app.connection_for_write() as connection:
        found = connection.default_channel.client.lrange(key, 0, -1)
    return [json.loads(text) for text in reversed(found)]


def keys(app: Any) -> set[str]:
    with app.connection_for_write() as connection:
        return {key.decode() for key in connection.default_channel.client.scan_iter()}


def test_a_message_is_what_celery_would_have_sent_and_who_it_stands_for(app: Any) -> None:
    target = celery_task("shop.digest", args=[1], kwargs={"to": "a"}, queue="mail", priority=5)
    run = claimed(target).run

    assert CeleryOutlet(app, ledger="abc").send([claimed(target)]) == [None]
    app.send_task("shop.digest", (1,), {"to": "a"}, queue="mail", priority=5, task_id=run.id)

    ours, theirs = waiting(app, "mail\x06\x163")
    own = {name: ours["headers"].pop(name) for name in list(ours["headers"]) if name.startswith("onebeat_")}
    assert own == {
        "onebeat_run": run.id,
        "onebeat_attempt": 1,
        "onebeat_due": "2026-11-22T09:00:00Z",
        "onebeat_ledger": "abc",
    }
    for message in (ours, theirs):
        message["headers"].pop("origin")
        for name in ("delivery_tag", "reply_to"):
            message["properties"].pop(name)
    assert ours == theirs
    assert json.loads(base64.b64decode(ours["body"]))[:2] == [[1], {"to": "a"}]


def test_runs_of_one_batch_keep_their_order_and_go_where_each_is_to_go(app: Any) -> None:
    mail, rest = celery_task("shop.digest", queue="mail"), celery_task("shop.close")

    batch = [claimed(rest if number % 2 else mail, number) for number in range(10)]

    assert CeleryOutlet(app).send(batch) == [None] * 10
    assert [each["headers"]["id"] for each in waiting(app, "mail")] == [each.run.id for each in batch[::2]]
    assert [each["headers"]["id"] for each in waiting(app, "celery")] == [each.run.id for each in batch[1::2]]


def test_what_an_app_says_of_its_tasks_and_routes_counts(app: Any) -> None:
    app.conf.task_routes = {"shop.close": {"queue": "orders"}}

    @app.task(name="shop.digest", queue="mail", time_limit=30, serializer="pickle")
    def send_digest() -> None: ...

    CeleryOutlet(app).send([claimed(celery_task("shop.digest")), claimed(celery_task("shop.close"))])

    (digest,) = waiting(app, "mail")
    assert (digest["content-type"], digest["headers"]["timelimit"]) == ("application/json", [30, None])
    assert len(waiting(app, "orders")) == 1


def test_an_exchange_of_the_app_is_declared_and_bound_before_anything_goes_to_it(app: Any) -> None:
    from kombu import Exchange, Queue

    app.conf.task_queues = [Queue("reports", Exchange("reports", type="topic"), routing_key="reports.#")]
    app.conf.task_default_queue = "reports"

    target = celery_task("shop.digest", exchange="reports", routing_key="reports.daily", queue="reports")

    assert CeleryOutlet(app).send([claimed(target), claimed(target, 1)]) == [None, None]
    assert len(waiting(app, "reports")) == 2


def test_a_run_that_cannot_be_sent_keeps_no_other_back(app: Any) -> None:
    app.conf.task_create_missing_queues = False

    answers = CeleryOutlet(app).send(
        [claimed(celery_task("a")), claimed(celery_task("b", queue="nowhere"), 1)]
    )

    assert answers[0] is None
    assert answers[1] is not None
    assert "nowhere" in answers[1]
    assert len(waiting(app, "celery")) == 1


@pytest.mark.slow
def test_a_broker_that_is_away_takes_nothing_and_is_found_again() -> None:
    own = redis.Own()
    outlet = CeleryOutlet(Celery("shop", broker=own.url, set_as_current=False))
    batch = [claimed(celery_task("shop.digest"), number) for number in range(3)]
    try:
        assert outlet.send(batch[:1]) == [None]
        own.kill()
        with pytest.raises(OutletUnavailable, match="takes no messages"):
            outlet.send(batch[1:])
        own.start()

        assert outlet.send(batch[1:]) == [None, None]
        outlet.close()
    finally:
        own.stop()


def test_a_timeout_bounds_an_attempt_and_an_expiry_counts_from_when_the_run_was_due() -> None:
    target = celery_task("shop.digest", expires=90, soft_time_limit=600)

    message = message_of(
        claimed(target, policy=Policy(timeout=timedelta(seconds=60)), attempt=2), NOW + timedelta(seconds=30)
    )

    assert message.content["expires"] == "2026-11-22T09:01:30+00:00"
    assert message.sending["expiration"] == 60
    assert (message.content["soft_time_limit"], message.content["time_limit"]) == (
        60,
        60 + KILL_AFTER.seconds,
    )
    assert (message.content["retries"], message.sending["headers"]["onebeat_attempt"]) == (2, 3)


def test_an_outlet_takes_celery_tasks_and_nothing_else(app: Any) -> None:
    outlet = CeleryOutlet(app)

    outlet.resolve(celery_task("nobody.here.has.it"))
    assert outlet.guarded(celery_task("a"))
    assert not outlet.guarded(celery_task("a", guarded=False))
    with pytest.raises(TargetNotFound):
        outlet.resolve(http("https://example.org"))
    with pytest.raises(InvalidInput):
        message_of(claimed(http("https://example.org")), NOW)


def test_a_fingerprint_tells_ledgers_apart_and_not_their_users() -> None:
    one = fingerprint("postgresql://a:secret@db/shop?schema=onebeat")

    assert one == fingerprint("postgresql://b@db/shop?schema=onebeat")
    assert one != fingerprint("postgresql://a:secret@db/shop?schema=other")
