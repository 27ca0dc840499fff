"""The suite on transitions: the whole table, every situation against every step.

The table is written here a second time, by hand, so that a store is compared with what was meant and not
with its own code. What the table does not name is refused and leaves the run as it was.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Cancel,
    Done,
    Expire,
    Finish,
    Guard,
    HandOver,
    Lost,
    Park,
    Release,
    Renew,
    Resend,
    Retry,
    Sent,
    Start,
    Unpark,
)
from onebeat.core.model import Outcome, Overlap, Run, RunState
from onebeat.testing.conformance_stage import (
    EVERYTHING,
    HOUR,
    MINUTE,
    SECOND,
    Book,
    Stage,
    one,
)

FAILED = Done(state=RunState.FAILED, reason="it broke")
AGAIN = Outcome.FAILED
RUNNING = ("claimed", "started", "flagged", "flagged_started")
AT_ONCE = ("waiting", "ready", "again", "sent", "parked")


Make = Callable[[Run, datetime], AnyTransition]


class Step(NamedTuple):
    """One column of the table: the transition to try, and what it makes of each situation that it fits."""

    make: Make
    fits: Mapping[str, str] = MappingProxyType({})  # situation -> state after it, or "=" for repeated
    later: bool = False  # tried two hours on, when every lease, resend and deadline has passed


def _all(situations: tuple[str, ...], after: str) -> dict[str, str]:
    return dict.fromkeys(situations, after)


def _finish(outcome: Outcome, verdict: Done | Retry, behind: int = 0) -> Make:
    return lambda run, now: Finish(run_id=run.id, token=run.token - behind, outcome=outcome, verdict=verdict)


def _retry(now: datetime) -> Retry:
    return Retry(at=now + MINUTE, reason="once more")


STEPS: dict[str, Step] = {
    "start": Step(
        lambda run, now: Start(run_id=run.id, token=run.token),
        {"claimed": "running", "flagged": "running", "started": "=", "flagged_started": "="},
    ),
    "start with an old token": Step(lambda run, now: Start(run_id=run.id, token=run.token - 1)),
    "renew": Step(
        lambda run, now: Renew(run_id=run.id, token=run.token, until=now + HOUR), _all(RUNNING, "running")
    ),
    "renew late": Step(
        lambda run, now: Renew(run_id=run.id, token=run.token, until=now + HOUR),
        _all(RUNNING, "running"),
        later=True,
    ),
    "renew with an old token": Step(
        lambda run, now: Renew(run_id=run.id, token=run.token - 1, until=now + HOUR)
    ),
    "finish": Step(_finish(Outcome.FAILED, FAILED), {**_all(RUNNING, "failed"), "again": "=", "failed": "="}),
    "finish late": Step(
        _finish(Outcome.SUCCEEDED, Done(state=RunState.SUCCEEDED)),
        {**_all(RUNNING, "succeeded"), "succeeded": "=", "in_spite": "="},
        later=True,
    ),
    "finish to be tried again": Step(
        lambda run, now: Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=_retry(now)),
        {
            "claimed": "ready",
            "started": "ready",
            "flagged": "cancelled",
            "flagged_started": "cancelled",
            "again": "=",
            "failed": "=",
        },
    ),
    "finish with an old token": Step(_finish(Outcome.FAILED, FAILED, behind=1)),
    "finish into an unfinished state": Step(_finish(Outcome.CANCELLED, Done(state=RunState.READY))),
    "release": Step(
        lambda run, now: Release(run_id=run.id, token=run.token), {"claimed": "ready", "flagged": "cancelled"}
    ),
    "release with an old token": Step(lambda run, now: Release(run_id=run.id, token=run.token - 1)),
    "lose before the lease has lapsed": Step(
        lambda run, now: Lost(run_id=run.id, token=run.token, verdict=FAILED)
    ),
    "lose": Step(
        lambda run, now: Lost(run_id=run.id, token=run.token, verdict=FAILED),
        {"claimed": "failed", "started": "failed", "flagged": "cancelled", "flagged_started": "cancelled"},
        later=True,
    ),
    "lose to be tried again": Step(
        lambda run, now: Lost(run_id=run.id, token=run.token, verdict=_retry(now)),
        {"claimed": "ready", "started": "ready", "flagged": "cancelled", "flagged_started": "cancelled"},
        later=True,
    ),
    "lose with an old token": Step(
        lambda run, now: Lost(run_id=run.id, token=run.token - 1, verdict=FAILED), later=True
    ),
    "lose into an unfinished state": Step(
        lambda run, now: Lost(run_id=run.id, token=run.token, verdict=Done(state=RunState.PARKED)), later=True
    ),
    "send": Step(
        lambda run, now: Sent(run_id=run.id, attempt=run.attempt + 1, resend_at=now + HOUR),
        _all(("ready", "again"), "sent"),
    ),
    "send an old attempt": Step(lambda run, now: Sent(run_id=run.id, attempt=run.attempt, resend_at=None)),
    "resend too early": Step(lambda run, now: Resend(run_id=run.id)),
    "resend": Step(lambda run, now: Resend(run_id=run.id), {"sent": "ready"}, later=True),
    "guard": Step(
        lambda run, now: Guard(run_id=run.id, attempt=run.attempt + 1, holder="celery", until=now + HOUR),
        _all(("ready", "again", "sent"), "running"),
    ),
    "guard and start": Step(
        lambda run, now: Guard(
            run_id=run.id, attempt=run.attempt + 1, holder="celery", until=now + HOUR, starts=True
        ),
        _all(("ready", "again", "sent"), "running"),
    ),
    "guard past the deadline": Step(
        lambda run, now: Guard(run_id=run.id, attempt=run.attempt + 1, holder="celery", until=now + HOUR),
        {"again": "running"},
        later=True,
    ),
    "guard an old attempt": Step(
        lambda run, now: Guard(run_id=run.id, attempt=run.attempt, holder="celery", until=now + HOUR)
    ),
    "guard a later attempt": Step(
        lambda run, now: Guard(run_id=run.id, attempt=run.attempt + 2, holder="celery", until=now + HOUR)
    ),
    "hand over": Step(
        lambda run, now: HandOver(run_id=run.id, attempt=run.attempt + 1),
        _all(("ready", "again", "sent"), "handed_over"),
    ),
    "hand over an old attempt": Step(lambda run, now: HandOver(run_id=run.id, attempt=run.attempt)),
    "cancel": Step(
        lambda run, now: Cancel(run_id=run.id),
        {
            **_all(AT_ONCE, "cancelled"),
            "claimed": "running",
            "started": "running",
            "flagged": "=",
            "flagged_started": "=",
            "cancelled": "=",
        },
    ),
    "park": Step(
        lambda run, now: Park(run_id=run.id, reason="nobody knows it"),
        {**_all(("ready", "again"), "parked"), "parked": "="},
    ),
    "unpark": Step(lambda run, now: Unpark(run_id=run.id), {"parked": "ready", "ready": "=", "again": "="}),
    "expire too early": Step(lambda run, now: Expire(run_id=run.id)),
    "expire": Step(lambda run, now: Expire(run_id=run.id), _all(("waiting", "ready"), "expired"), later=True),
}


def _start(run: Run, ahead: datetime) -> AnyTransition:
    return Start(run_id=run.id, token=run.token)


def _cancel(run: Run, ahead: datetime) -> AnyTransition:
    return Cancel(run_id=run.id)


def _fail_once(run: Run, ahead: datetime) -> AnyTransition:
    verdict = Retry(at=run.ready_at)
    return Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=verdict)


def _end(state: RunState) -> Make:
    return _finish(Outcome(state.value), Done(state=state))


WAYS: dict[str, tuple[bool, tuple[Make, ...]]] = {
    "waiting": (False, ()),
    "ready": (False, ()),
    "again": (True, (_start, _fail_once)),
    "sent": (False, (lambda run, ahead: Sent(run_id=run.id, attempt=1, resend_at=ahead),)),
    "claimed": (True, ()),
    "started": (True, (_start,)),
    "flagged": (True, (_cancel,)),
    "flagged_started": (True, (_start, _cancel)),
    "parked": (False, (lambda run, ahead: Park(run_id=run.id, reason="nobody"),)),
    "succeeded": (True, (_start, _end(RunState.SUCCEEDED))),
    "in_spite": (True, (_start, _cancel, _end(RunState.SUCCEEDED))),
    "failed": (True, (_start, _end(RunState.FAILED))),
    "cancelled": (False, (_cancel,)),
    "timed_out": (True, (_start, _end(RunState.TIMED_OUT))),
    "expired": (False, (lambda run, ahead: Expire(run_id=run.id),)),
    "handed_over": (False, (lambda run, ahead: HandOver(run_id=run.id, attempt=1),)),
}
"""The ways into every situation: whether the run is claimed, and the transitions after that.

A situation is a state of a run, and where one state hides several, each of them: ``again`` is ready for its
second attempt, ``claimed`` runs but has not started, ``flagged`` is claimed with a cancel requested, and
``in_spite`` has succeeded in spite of one.
"""


def in_situation(book: Book, situation: str, count: int) -> list[Run]:
    """Return ``count`` runs in a situation, all of one schedule; leases and deadlines end in an hour."""
    waits = situation == "waiting"
    claimed, way = WAYS[situation]
    creation = book.creation("a", book.definition(overlap=Overlap.QUEUE_ALL if waits else Overlap.ALLOW))
    ahead = book.now + HOUR
    deadline = book.now - SECOND if situation == "expired" else ahead
    state = RunState.WAITING if waits else RunState.READY
    asked = [book.asked(creation.after, f"k{number}", state, deadline_at=deadline) for number in range(count)]
    in_the_way = [book.asked(creation.after, "in-the-way")] if waits else []
    book.accept(replace(creation, requests=(*in_the_way, *asked)))
    if claimed:
        assert len(book.claim(until=ahead, limit=EVERYTHING)) == count
    for step in way:
        told = book.store.advance([step(book.run(run.id), ahead) for run in asked])
        assert {each.answer for each in told} == {Answer.ACCEPTED}
    return [book.run(run.id) for run in asked]


class TableSuite(Stage):
    """Every docstring of a transition: what it fits, and that it fits nothing else."""

    @pytest.mark.parametrize("situation", WAYS)
    def test_the_whole_table_of_transitions_from(self, situation: str, book: Book) -> None:
        order = sorted(STEPS.items(), key=lambda step: step[1].later)
        runs = in_situation(book, situation, len(order))
        wrong: dict[str, object] = {}
        later = book.now + 2 * HOUR

        for run, (name, step) in zip(runs, order, strict=True):
            if step.later:
                book.clock.set(later)
            told = book.advance(step.make(run, book.now))
            after = book.run(run)
            expected = step.fits.get(situation)
            if expected in (None, "="):
                answer = Answer.REFUSED if expected is None else Answer.REPEATED
                fine = (told.answer, told.state, told.token, after) == (answer, run.state, 0, run)
            else:
                answers = (told.answer, told.state, after.state)
                fine = answers == (Answer.ACCEPTED, RunState(expected), RunState(expected))
            if not fine:
                wrong[name] = (expected or "refused", told, run, after)

        assert wrong == {}

    def test_the_table_meets_every_transition_and_every_state(self, book: Book) -> None:
        run = one(in_situation(book, "ready", 1))

        kinds = {type(step.make(run, book.now)) for step in STEPS.values()}

        assert kinds == set(AnyTransition.__args__)
        mapped = {"again": "ready", "in_spite": "succeeded"} | dict.fromkeys(RUNNING, "running")
        assert {mapped.get(name, name) for name in WAYS} == {state.value for state in RunState}
