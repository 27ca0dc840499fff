"""The outlet on RabbitMQ: what None stands for the broker has, and what it refuses keeps no other back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kombu import Exchange, Queue
from tests.celery.messages import claimed, ids, same_as_sent_task, sent
from tests.servers import rabbitmq

from onebeat import celery_task
from onebeat.celery import CeleryOutlet, outlet
from onebeat.celery.library import Celery, signals
from onebeat.core.errors import OutletUnavailable
from onebeat.core.messages import Claimed

pytestmark = pytest.mark.server("rabbitmq")


def app_at(url: str) -> Any:
    return Celery("shop", broker=url, set_as_current=False)


@pytest.fixture
def app() -> Iterator[Any]:
    """An app whose broker is an empty virtual host."""
    with rabbitmq.vhost() as url, closing(app_at(url)) as app:
        yield app


def digests(count: int, **options: Any) -> list[Claimed]:
    return [claimed(celery_task("shop.digest", **options), number) for number in range(count)]


def test_a_message_to_a_fanout_exchange_is_what_celery_would_have_sent(app: Any) -> None:
    same_as_sent_task(app, exchange="news", routing_key="any")


# --- what is refused ------------------------------------------------------------------------------------


def test_a_full_queue_refuses_its_own_and_keeps_no_other_back(app: Any) -> None:
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    app.conf.task_queues = [Queue("mail", Exchange("mail"), routing_key="mail", queue_arguments=full)]
    mail = [claimed(celery_task("shop.digest", queue="mail"), number) for number in range(4)]
    rest = claimed(celery_task("shop.close"), 4)

    answers = sent(app, *mail, rest)

    assert answers[:2] == [None, None]
    assert all("refused" in (answer or "") for answer in answers[2:4])
    assert answers[4] is None
    assert ids(app, "mail") == [each.run.id for each in mail[:2]]
    assert ids(app, "celery") == [rest.run.id]


def test_an_exchange_that_is_not_there_keeps_no_other_back(app: Any) -> None:
    """The broker takes the channel away for it, and says so later."""
    nowhere = celery_task("shop.digest", exchange="nowhere", routing_key="any")
    batch = [claimed(nowhere if number == 1 else celery_task("shop.close"), number) for number in range(3)]

    answers = sent(app, *batch)

    assert [answers[0], answers[2]] == [None, None]
    assert "no exchange 'nowhere'" in (answers[1] or "")
    assert set(ids(app, "celery")) == {batch[0].run.id, batch[2].run.id}


def test_a_queue_that_is_another_one_on_the_broker_keeps_no_other_back(app: Any) -> None:
    with app.connection_for_write() as connection:
        Queue("mail", durable=False)(connection.default_channel).declare()
    mail = claimed(celery_task("shop.digest", queue="mail"), 1)

    answers = sent(app, claimed(celery_task("shop.close")), mail)

    assert answers[0] is None
    assert "PreconditionFailed" in (answers[1] or "")
    assert len(ids(app, "celery")) >= 1


def test_a_message_that_no_queue_is_bound_for_is_not_taken(app: Any) -> None:
    with app.connection_for_write() as connection:
        Exchange("news", type="fanout")(connection.default_channel).declare()
    news = claimed(celery_task("shop.digest", exchange="news", routing_key="any"), 1)

    answers = sent(app, claimed(celery_task("shop.close")), news)

    assert answers[0] is None
    assert "no queue is bound" in (answers[1] or "")
    assert len(ids(app, "celery")) == 1


def test_a_queue_that_was_deleted_is_declared_again(app: Any) -> None:
    with closing(CeleryOutlet(app)) as way:
        assert way.send(digests(1)) == [None]
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete("celery")

        assert way.send(digests(2)) == [None, None]

    assert len(ids(app, "celery")) == 2


def test_who_is_told_that_a_task_was_sent_may_be_nobody(app: Any) -> None:
    app.conf.task_send_sent_event = True

    assert sent(app, *digests(2)) == [None, None]
    assert len(ids(app, "celery")) == 2


# --- a broker that goes, and comes back -----------------------------------------------------------------


def test_a_connection_that_the_server_closed_meanwhile_is_made_again(app: Any) -> None:
    name = app.conf.broker_url.rpartition("/")[2]
    with closing(CeleryOutlet(app)) as way:
        assert way.send(digests(1)) == [None]
        lines = "[{pid, Pid}, {vhost, Name}] <- rabbit_networking:connection_info_all([pid, vhost])"
        rabbitmq.shared().evaluate(
            f'[rabbit_networking:close_connection(Pid, "idle") || {lines}, Name =:= <<"{name}">>]'
        )

        assert way.send(digests(2)) == [None, None]

    assert len(ids(app, "celery")) == 3


@pytest.fixture(scope="module")
def own() -> Iterator[rabbitmq.Own]:
    with rabbitmq.Own() as broker:
        yield broker


@pytest.fixture
def apart(own: rabbitmq.Own) -> Iterator[Any]:
    """An app whose broker is a server that a test may kill."""
    with closing(app_at(own.url)) as app:
        yield app
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete("celery")


WHOLE_SERVER = [pytest.mark.slow, pytest.mark.timeout(400)]


class TestApart:
    """Tests that are hard on the whole server, one after the other."""

    pytestmark = WHOLE_SERVER

    def test_a_broker_killed_amid_a_batch_has_what_it_took_and_takes_the_rest(
        self, own: rabbitmq.Own, apart: Any
    ) -> None:
        taken, rest = digests(40)[:20], digests(40)[20:]
        seen: list[str] = []

        def kill_at_the_tenth(headers: dict[str, Any], **_: Any) -> None:
            seen.append(headers["id"])
            if len(seen) == 10:
                own.kill()

        with closing(CeleryOutlet(apart)) as way:
            assert way.send(taken) == [None] * 20
            signals.before_task_publish.connect(kill_at_the_tenth)
            try:
                with pytest.raises(OutletUnavailable):
                    way.send(rest)
            finally:
                signals.before_task_publish.disconnect(kill_at_the_tenth)
                own.start()

            assert way.send(rest) == [None] * 20

        found = ids(apart, "celery")
        assert found[:20] == [each.run.id for each in taken]
        assert set(found[20:]) == {each.run.id for each in rest}

    def test_a_broker_short_of_memory_is_not_sent_the_same_again_and_again(
        self, own: rabbitmq.Own, apart: Any
    ) -> None:
        alarm = "{resource_limit, memory, node()}"
        batch = [claimed(celery_task("shop.digest", args=["x" * 20_000]), number) for number in range(100)]
        with closing(CeleryOutlet(apart)) as way:
            assert way.send(batch[:1]) == [None]
            own.evaluate(f"rabbit_alarm:set_alarm({{{alarm}, []}})")
            try:
                for _ in range(20):
                    with pytest.raises(OutletUnavailable, match="short of memory"):
                        way.send(batch)
            finally:
                own.evaluate(f"rabbit_alarm:clear_alarm({alarm})")

            until_taken(way, batch)

        assert 101 <= len(ids(apart, "celery")) <= 201

    def test_a_broker_that_is_silent_is_waited_for_so_long_and_no_longer(
        self, own: rabbitmq.Own, apart: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outlet, "CONFIRM_S", 2.0)
        with closing(CeleryOutlet(apart)) as way:
            until_taken(way, digests(1))
            own.pause()
            try:
                with pytest.raises(OutletUnavailable, match="timed out"):
                    way.send(digests(3))
            finally:
                own.go_on()

            until_taken(way, digests(3))

        assert len(ids(apart, "celery")) >= 4


def until_taken(way: CeleryOutlet, batch: list[Claimed]) -> None:
    """Send a batch as an outbox does, until the broker takes it."""
    for _ in range(600):
        try:
            assert way.send(batch) == [None] * len(batch)
        except OutletUnavailable:
            threading.Event().wait(0.1)  # what the broker says to who is blocked, the outlet reads when asked
        else:
            return
    raise AssertionError("it never took them")
