"""What the outlet puts on a broker is what Celery would have put there, many at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from tests.celery.messages import NOW, claimed, ids, same_as_sent_task, sent, waiting
from tests.servers import rabbitmq, redis

from onebeat import celery_task, http
from onebeat.celery import CeleryOutlet
from onebeat.celery.library import Celery
from onebeat.celery.message import KILL_AFTER, fingerprint, message_of
from onebeat.core.errors import InvalidInput, OutletUnavailable, TargetNotFound
from onebeat.core.model import Policy
from onebeat.engine.clock import SystemClock

BROKERS = [
    pytest.param("redis", marks=pytest.mark.server("redis")),
    pytest.param("rabbitmq", marks=pytest.mark.server("rabbitmq")),
]


@pytest.fixture(params=BROKERS)
def app(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An app whose broker is an empty database of Redis, or an empty virtual host of RabbitMQ: real ones."""
    with ExitStack() as stack:
        if request.param == "redis":
            url = redis.url().replace("/0", "/9")
        else:
            url = stack.enter_context(rabbitmq.vhost())
        app = Celery("shop", broker=url, set_as_current=False)
        yield app
        if request.param == "redis":
            with app.connection_for_write() as connection:
                connection.default_channel.client.flushdb()
        app.close()


OPTIONS = {
    "plain": {},
    "priority": {"queue": "mail", "priority": 5},
    "headers": {"headers": {"customer": "a", "count": 3}},
    "transient": {"delivery_mode": 1},
    "compressed": {"compression": "gzip"},
    "topic": {"queue": "reports", "routing_key": "reports.daily"},
    "said of the queue": {"queue": "reports"},
}


@pytest.mark.parametrize("said", OPTIONS)
def test_a_message_is_what_celery_would_have_sent_and_who_it_stands_for(app: Any, said: str) -> None:
    same_as_sent_task(app, **OPTIONS[said])


def test_an_expiry_is_the_brokers_to_keep_as_well(app: Any) -> None:
    due_at = SystemClock().now()
    sending = claimed(celery_task("shop.digest", expires=600), due_at=due_at)

    assert sent(app, sending) == [None]
    app.send_task("shop.digest", task_id=sending.run.id, expires=due_at + timedelta(seconds=600))

    ours, theirs = waiting(app, "celery")
    assert ours.headers["expires"] == theirs.headers["expires"]
    left = [float(each.properties["expiration"]) for each in (ours, theirs)]
    assert left[0] == pytest.approx(left[1], rel=0.2)


def test_runs_of_one_batch_keep_their_order_and_go_where_each_is_to_go(app: Any) -> None:
    mail, rest = celery_task("shop.digest", queue="mail"), celery_task("shop.close")

    batch = [claimed(rest if number % 2 else mail, number) for number in range(10)]

    assert sent(app, *batch) == [None] * 10
    assert ids(app, "mail") == [each.run.id for each in batch[::2]]
    assert ids(app, "celery") == [each.run.id for each in batch[1::2]]


def test_what_an_app_says_of_its_tasks_and_routes_counts(app: Any) -> None:
    app.conf.task_routes = {"shop.close": {"queue": "orders"}}

    @app.task(name="shop.digest", queue="mail", time_limit=30, serializer="pickle", shared=False)
    def send_digest() -> None: ...

    sent(app, claimed(celery_task("shop.digest")), claimed(celery_task("shop.close")))

    (digest,) = waiting(app, "mail")
    assert (digest.content_type, digest.headers["timelimit"]) == ("application/json", [30, None])
    assert len(ids(app, "orders")) == 1


def test_an_exchange_of_the_app_is_declared_and_bound_before_anything_goes_to_it(app: Any) -> None:
    from kombu import Exchange, Queue

    app.conf.task_queues = [Queue("reports", Exchange("reports", type="topic"), routing_key="reports.#")]
    app.conf.task_default_queue = "reports"

    target = celery_task("shop.digest", exchange="reports", routing_key="reports.daily", queue="reports")

    assert sent(app, claimed(target), claimed(target, 1)) == [None, None]
    assert len(ids(app, "reports")) == 2


def test_a_run_that_cannot_be_sent_keeps_no_other_back(app: Any) -> None:
    app.conf.task_create_missing_queues = False

    answers = sent(app, claimed(celery_task("a")), claimed(celery_task("b", queue="nowhere"), 1))

    assert answers[0] is None
    assert answers[1] is not None
    assert "nowhere" in answers[1]
    assert len(ids(app, "celery")) == 1


@pytest.mark.slow
@pytest.mark.server("redis")
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


def test_an_outlet_takes_celery_tasks_and_nothing_else() -> None:
    outlet = CeleryOutlet(Celery("shop", broker="memory://", set_as_current=False))

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
