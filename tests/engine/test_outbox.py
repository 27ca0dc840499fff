"""The outbox: what is ready goes out, once, whatever the broker and the store are doing. On virtual time."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.engine.lab import Flaky, Lab, Puppet, seconds
from tests.engine.post import UNGUARDED, Post

from onebeat.core import edits
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Done, Finish, Guard, Retry
from onebeat.core.model import Definition, Outcome, Overlap, Policy, RunState, Target
from onebeat.core.triggers.on_request import on_request
from onebeat.engine.dispatcher import Dispatcher
from onebeat.engine.metrics import Metrics
from onebeat.engine.outbox import BATCH_MAX, BATCH_MIN, PAUSE, PAUSE_MAX, POLL, RESEND, SPARE, Outbox
from onebeat.engine.presence import Presence
from onebeat.engine.worker import Worker

HOUR = timedelta(hours=1)


class Office:
    """A node with an outbox and a dispatcher, and the post that it sends by."""

    def __init__(self, lab: Lab, name: str = "n1", **options: Any) -> None:
        self.lab = lab
        self.store = Flaky(lab.store)
        self.post = Post()
        self.metrics = Metrics()
        self.presence = Presence(self.store, lab.clock, holder=name, roles=("dispatcher", "outbox"))
        self.outbox = Outbox(self.store, lab.clock, self.post, self.presence, metrics=self.metrics, **options)
        self.dispatcher = Dispatcher(self.store, lab.clock, holder=name)

    def ask(self, *keys: str, name: str = "letter", address: str = "a", **policy: Any) -> list[str]:
        """Ask for runs of a schedule that has no occurrences, which is made where it is not there."""
        if not self.lab.store.owing([name]):
            definition = Definition(
                trigger=on_request(),
                target=Target(kind="post", address=address),
                policy=Policy(**{"overlap": Overlap.ALLOW, **policy}),
            )
            self.lab.store.put([edits.create(name, definition, self.lab.author())])
        return [self.lab.request(name, key) for key in keys]

    def sent(self) -> list[str]:
        return [run_id for run_id, _ in self.post.got]

    def pass_time(self, span: timedelta, step: float = 1.0) -> None:
        until = self.lab.now() + span
        while self.lab.now() < until:
            self.lab.clock.set(min(self.lab.now() + seconds(step), until))
            self.dispatcher.step()
            self.outbox.step()


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def office(lab: Lab) -> Office:
    return Office(lab)


def test_what_is_ready_goes_out_as_the_attempt_that_it_is_for(office: Office, lab: Lab) -> None:
    (run_id,) = office.ask("k")
    lab.clock.advance(seconds(3))

    office.outbox.step()

    assert office.post.got == [(run_id, 1)]
    run = lab.run(run_id)
    assert (run.state, run.resend_at) == (RunState.SENT, lab.now() + RESEND)
    assert (run.attempt, run.token, run.holder) == (0, 0, None)
    assert office.metrics.value("onebeat_sent_total", "post") == 1
    assert office.metrics.value("onebeat_sent_seconds", "letter") == 1
    assert 'onebeat_sent_seconds_sum{schedule="letter"} 3.0' in office.metrics.text()


def test_of_many_outboxes_one_sends(office: Office, lab: Lab) -> None:
    others = [Office(lab, f"n{number}") for number in range(2, 5)]
    ids = office.ask(*"abcdef")

    for each in (office, *others):
        each.outbox.step()

    assert sorted(run_id for each in (office, *others) for run_id in each.sent()) == ids


def test_a_node_sends_for_its_own_queues_alone(lab: Lab) -> None:
    office = Office(lab, queues=("mail",))
    office.ask("k")

    office.outbox.step()

    assert office.post.tries == []


def test_batches_grow_while_there_is_more_and_have_a_bound(office: Office) -> None:
    ids = office.ask(*(f"k{number:04}" for number in range(2500)))

    office.outbox.step()

    assert office.sent() == ids
    assert office.post.tries == [BATCH_MIN, 200, 400, 800, BATCH_MAX]


def test_while_the_broker_is_away_a_batch_is_kept_and_the_pauses_grow(office: Office, lab: Lab) -> None:
    ids = office.ask("a", "b")
    office.post.away = True
    tries: list[datetime] = []

    wake_at = office.outbox.step()
    late = office.ask("c")
    while lab.now() < wake_at < lab.run(ids[0]).due_at + seconds(30):
        before = len(office.post.tries)
        lab.clock.set(wake_at)
        wake_at = office.outbox.step()
        if len(office.post.tries) > before:
            tries.append(lab.now())

    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[:3] == [2 * PAUSE, 4 * PAUSE, 8 * PAUSE]
    assert max(pauses) == PAUSE_MAX
    assert set(office.post.tries) == {2}
    assert lab.run(late[0]).state is RunState.READY
    assert office.metrics.value("onebeat_send_failures_total", "post") == len(office.post.tries)

    office.post.away = False
    lab.clock.advance(PAUSE_MAX)
    office.outbox.step()

    assert office.sent() == ids + late


def test_a_broker_that_is_away_is_not_asked_because_something_else_woke_us(office: Office, lab: Lab) -> None:
    office.ask("a")
    office.post.away = True
    office.outbox.step()

    office.outbox.step()

    assert office.post.tries == [1]


def test_what_could_not_be_sent_is_let_go_before_it_comes_back_and_any_node_sends_it(lab: Lab) -> None:
    closed, open_ = Office(lab, "n1"), Office(lab, "n2")
    (run_id,) = closed.ask("a")
    closed.post.away = True

    closed.pass_time(RESEND - SPARE)
    tries = len(closed.post.tries)
    closed.pass_time(SPARE - seconds(1))
    assert len(closed.post.tries) == tries
    lab.clock.advance(seconds(2))
    open_.dispatcher.step()
    open_.outbox.step()

    assert open_.post.got == [(run_id, 1)]
    assert [event.run_id for event in lab.events("run.resend")] == [run_id]


def test_a_node_that_dies_between_the_mark_and_the_message_only_delays(lab: Lab) -> None:
    dead, alive = Office(lab, "n1"), Office(lab, "n2")
    (run_id,) = dead.ask("a")
    dead.store.fail("claim", after=True)
    with pytest.raises(StoreUnavailable):
        dead.outbox.step()

    alive.pass_time(RESEND - seconds(1))
    assert alive.sent() == []
    alive.pass_time(seconds(3))

    assert alive.post.got == [(run_id, 1)]


def test_a_message_that_is_not_taken_is_said_and_keeps_no_other_back(office: Office, lab: Lab) -> None:
    bad, good = office.ask("bad", "good")
    office.post.refused.add(bad)

    office.outbox.step()

    assert office.sent() == [good]
    (event,) = lab.events("run.unsent")
    assert (event.run_id, event.reason, event.actor) == (bad, "no such address", "n1")
    assert event.data == {"attempt": 1}
    assert lab.run(bad).state is RunState.SENT
    assert office.metrics.value("onebeat_send_failures_total", "post") == 1

    office.post.refused.clear()
    office.pass_time(RESEND + seconds(2))

    assert bad in office.sent()
    assert len(lab.events("run.unsent")) == 1


def test_an_outlet_that_breaks_its_contract_loses_one_message_and_not_the_batch(
    office: Office, lab: Lab
) -> None:
    first, bad, last = office.ask("a", "b", "c")
    office.post.cursed.add(bad)

    office.outbox.step()

    assert office.sent() == [first, last]
    (event,) = lab.events("run.unsent")
    assert (event.run_id, event.reason) == (bad, "KeyError: 'cursed'")


def test_without_a_guard_the_hand_over_ends_a_run_and_lets_in_the_next(office: Office, lab: Lab) -> None:
    first, second = office.ask("a", "b", address=UNGUARDED, overlap=Overlap.QUEUE_ALL)
    assert lab.run(second).state is RunState.WAITING

    office.outbox.step()
    office.outbox.step()

    assert office.sent() == [first, second]
    assert lab.states("letter") == [RunState.HANDED_OVER, RunState.HANDED_OVER]
    assert lab.run(first).attempt == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_hand_over_that_the_store_did_not_answer_is_said_again_and_not_sent_again(
    after: bool, office: Office, lab: Lab
) -> None:
    (run_id,) = office.ask("a", address=UNGUARDED)
    office.store.fail("advance", after=after)

    with pytest.raises(StoreUnavailable):
        office.outbox.step()
    office.outbox.step()

    assert office.post.got == [(run_id, 1)]
    assert lab.run(run_id).state is RunState.HANDED_OVER


def test_an_event_that_the_store_did_not_take_is_said_by_the_next_step(office: Office, lab: Lab) -> None:
    (bad,) = office.ask("bad")
    office.post.refused.add(bad)
    office.store.fail("record")

    with pytest.raises(StoreUnavailable):
        office.outbox.step()
    office.outbox.step()

    assert [event.run_id for event in lab.events("run.unsent")] == [bad]


def test_the_next_attempt_goes_out_when_it_is_due(office: Office, lab: Lab) -> None:
    (run_id,) = office.ask("a", attempts=2)
    office.outbox.step()
    guard = Guard(run_id=run_id, attempt=1, holder="fleet", until=lab.now() + HOUR)
    (told,) = lab.store.advance([guard])
    again = Retry(at=lab.now() + seconds(10))
    lab.store.advance([Finish(run_id=run_id, token=told.token, outcome=Outcome.FAILED, verdict=again)])

    wake_at = office.outbox.step()
    assert wake_at <= lab.now() + POLL
    office.pass_time(seconds(9))
    assert len(office.post.got) == 1
    office.pass_time(POLL)

    assert office.post.got == [(run_id, 1), (run_id, 2)]


def test_a_queue_that_stands_for_an_hour_gets_a_handful_of_copies(office: Office) -> None:
    office.ask("a")

    office.outbox.step()
    office.pass_time(HOUR, step=5)

    assert 8 <= len(office.post.got) <= 12


def test_what_has_ended_is_not_sent_again(office: Office, lab: Lab) -> None:
    (run_id,) = office.ask("a")
    office.outbox.step()
    guard = Guard(run_id=run_id, attempt=1, holder="fleet", until=lab.now() + HOUR)
    (told,) = lab.store.advance([guard])
    done = Done(state=RunState.SUCCEEDED)
    lab.store.advance([Finish(run_id=run_id, token=told.token, outcome=Outcome.SUCCEEDED, verdict=done)])

    office.pass_time(5 * RESEND, step=5)

    assert len(office.post.got) == 1


def test_a_node_announces_what_it_runs_and_what_it_sends_together(lab: Lab) -> None:
    office = Office(lab)
    office.ask("a")
    lab.put("local")
    worker = Worker(office.store, lab.clock, [Puppet()], office.presence)

    for _ in range(2):
        worker.step()
        office.outbox.step()

    (node,) = lab.store.nodes()
    assert set(node.targets) == {"puppet:body", "post:a"}
    announced = office.store.calls.count("announce")
    worker.step()
    office.outbox.step()
    assert office.store.calls.count("announce") == announced
    office.pass_time(seconds(15))
    assert lab.events("run.parked") == []


def test_a_stopped_outbox_claims_nothing_new_and_sends_what_it_has(office: Office, lab: Lab) -> None:
    (first,) = office.ask("a")
    office.post.away = True
    office.outbox.step()
    late = office.ask("b")

    office.outbox.stop(seconds(10))
    lab.clock.advance(seconds(1))
    office.outbox.step()
    assert not office.outbox.done
    office.post.away = False
    lab.clock.advance(PAUSE_MAX)
    office.outbox.step()

    assert office.outbox.done
    assert office.sent() == [first]
    assert lab.run(late[0]).state is RunState.READY
    assert lab.store.nodes()[0].stopping


def test_a_stopped_outbox_leaves_to_others_what_it_cannot_send_within_the_grace(
    office: Office, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    (run_id,) = office.ask("a")
    office.post.away = True
    office.outbox.step()

    office.outbox.stop(seconds(3))
    office.outbox.step()
    with caplog.at_level(logging.WARNING):
        office.pass_time(seconds(4))

    assert office.outbox.done
    assert "lets go of 1 runs" in caplog.text
    assert lab.run(run_id).state is RunState.SENT


def test_a_clock_that_is_set_back_does_not_keep_messages_for_hours(office: Office, lab: Lab) -> None:
    (run_id,) = office.ask("a")
    office.post.away = True
    office.outbox.step()
    office.post.away = False

    lab.clock.advance(-timedelta(minutes=30))
    office.outbox.step()

    assert office.sent() == [run_id]
