"""Runs that are to be sent, and what of them is found on a broker."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from onebeat import celery_task
from onebeat.celery import CeleryOutlet
from onebeat.core.messages import Claimed
from onebeat.core.model import Definition, Policy, Run, RunState, Target, TriggerSpec

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def claimed(
    target: Target,
    number: int = 0,
    *,
    policy: Policy | None = None,
    attempt: int = 0,
    due_at: datetime = NOW,
) -> Claimed:
    """Return a run that was claimed for sending."""
    run = Run(
        id=f"digest@20261122T0900{number:02}Z",
        schedule_id=1,
        schedule="digest",
        number=1,
        queue="default",
        target=target.key,
        state=RunState.SENT,
        due_at=due_at,
        ready_at=NOW,
        created_at=NOW,
        attempt=attempt,
    )
    trigger = TriggerSpec(kind="on_request")
    return Claimed(run=run, definition=Definition(trigger=trigger, target=target, policy=policy or Policy()))


def waiting(app: Any, queue: str) -> list[Any]:
    """Take the messages off a queue of the broker, in the order in which a worker would."""
    with app.connection_for_read() as connection:
        channel, found = connection.default_channel, []
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(channel.message_to_python(message))
        return found


def sent(app: Any, *batch: Claimed, **options: Any) -> list[str | None]:
    """Send a batch by an outlet of its own."""
    with closing(CeleryOutlet(app, **options)) as outlet:
        return outlet.send(batch)


def ids(app: Any, queue: str) -> list[str]:
    return [message.headers["id"] for message in waiting(app, queue)]


def whole(message: Any) -> dict[str, Any]:
    """Return all of a message but what is another each time."""
    properties = {
        name: value
        for name, value in message.properties.items()
        if name not in {"delivery_tag", "reply_to", "application_headers"}
    }
    passing = {"delivery_tag", "message_count"}
    return {
        "headers": {name: value for name, value in message.headers.items() if name != "origin"},
        "properties": properties,
        "delivery": {name: value for name, value in message.delivery_info.items() if name not in passing},
        "content": (message.content_type, message.content_encoding, message.payload),
    }


def same_as_sent_task(app: Any, **options: Any) -> None:
    """Compare the whole of a message of ours with the one that Celery sends for the same."""
    declare(app)
    target = celery_task("shop.digest", args=[1], kwargs={"to": "a"}, **options)
    run = claimed(target).run

    assert sent(app, claimed(target), ledger="abc") == [None]
    app.send_task("shop.digest", (1,), {"to": "a"}, task_id=run.id, **options)

    ours, theirs = (whole(each) for queue in QUEUES for each in waiting(app, queue))
    own = {name: ours["headers"].pop(name) for name in list(ours["headers"]) if name.startswith("onebeat_")}
    assert own == {
        "onebeat_run": run.id,
        "onebeat_attempt": 1,
        "onebeat_due": "2026-11-22T09:00:00Z",
        "onebeat_ledger": "abc",
    }
    assert ours == theirs
    assert ours["content"][2][:2] == [[1], {"to": "a"}]


QUEUES = ("celery", "mail", "reports", "news-a")


def declare(app: Any) -> None:
    """Have the app say what its queues are, and the broker know of them, as workers would have it."""
    from kombu import Exchange, Queue

    app.conf.task_queues = [
        Queue("celery", Exchange("celery"), routing_key="celery"),
        Queue("mail", Exchange("mail"), routing_key="mail", max_priority=9),
        Queue("reports", Exchange("reports", type="topic"), routing_key="reports.#"),
        Queue("news-a", Exchange("news", type="fanout"), routing_key=""),
    ]
    with app.connection_for_write() as connection:
        for queue in app.conf.task_queues:
            queue(connection.default_channel).declare()
