"""The brokers of the tests are what they are taken for."""

from __future__ import annotations

import pytest
from kombu import Connection
from tests.servers import rabbitmq

pytestmark = pytest.mark.server("rabbitmq")


def put(url: str, queue: str, text: str) -> None:
    with (
        Connection(url, transport_options={"confirm_publish": True}) as line,
        line.SimpleQueue(queue) as waiting,
    ):
        waiting.put(text, delivery_mode="persistent")


def taken(url: str, queue: str) -> list[str]:
    with Connection(url) as line, line.SimpleQueue(queue) as waiting:
        found = []
        for _ in range(waiting.qsize()):
            message = waiting.get(timeout=20)
            message.ack()
            found.append(message.payload)
        return found


def test_virtual_hosts_do_not_see_each_other() -> None:
    with rabbitmq.vhost() as first, rabbitmq.vhost() as second:
        put(first, "letters", "mine")

        assert taken(second, "letters") == []
        assert taken(first, "letters") == ["mine"]


def test_a_virtual_host_is_gone_after_its_test() -> None:
    with rabbitmq.vhost() as url:
        put(url, "letters", "mine")
        name = url.rpartition("/")[2]
    assert name not in rabbitmq.shared().evaluate("rabbit_vhost:list_names()")


@pytest.mark.long
def test_a_killed_broker_has_its_queues_and_its_settings_when_it_starts_again() -> None:
    with rabbitmq.Own({"consumer_timeout": "1500"}) as own:
        put(own.url, "letters", "kept")

        own.kill()
        assert not rabbitmq.answers(own.url)
        own.start()

        assert taken(own.url, "letters") == ["kept"]
        assert own.evaluate("application:get_env(rabbit, consumer_timeout)") == "{ok, 1500}"
