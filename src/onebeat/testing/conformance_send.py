"""The suite on claims that send: who publishes a run, and what becomes of it until a guard takes it."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Answer,
    Cancel,
    Expire,
    Guard,
    HandOver,
    Hold,
    Overtaken,
    Resend,
)
from onebeat.core.model import Overlap, Run, RunState, Target
from onebeat.testing.conformance_stage import HOUR, MICROSECOND, MINUTE, SECOND, Book, Stage, one
from onebeat.testing.conformance_table import in_situation


def sent(book: Book, run: Run, **fields: object) -> Run:
    """Claim everything for sending until a minute from now, and return that run."""
    claimed = book.claim(sends=True, until=book.now + MINUTE, **fields)
    assert run.id in [each.run.id for each in claimed]
    return book.run(run)


def guard(book: Book, run: Run, attempt: int = 1) -> Guard:
    """Return what a guard says when the message of an attempt arrives."""
    return Guard(run_id=run.id, attempt=attempt, holder="engine@x", until=book.now + HOUR)


class SendSuite(Stage):
    """What ``claim`` says of a claim that sends, and the way of such a run from there."""

    @pytest.mark.parametrize(
        ("ready", "again"),
        [(0, MINUTE), (30, MINUTE), (61, 61 * SECOND), (300, 5 * MINUTE), (3600, 10 * MINUTE)],
    )
    def test_copies_come_the_rarer_the_longer_a_run_waits(
        self, ready: int, again: timedelta, book: Book
    ) -> None:
        t = book.now
        book.create()
        book.request("a", "k", ready_at=t - ready * SECOND)

        run = one(book.claim(sends=True, until=t + MINUTE, until_max=t + 10 * MINUTE)).run

        assert run.resend_at == t + again
        assert book.run(run) == run

    @pytest.mark.parametrize("situation", ["ready", "again"])
    def test_a_claim_that_sends_marks_a_run_and_gives_no_lease(self, situation: str, book: Book) -> None:
        run = one(in_situation(book, situation, 1))
        until = book.now + MINUTE

        claimed = one(book.claim(holder="node-7", sends=True, until=until))

        assert claimed.run == replace(run, state=RunState.SENT, resend_at=until)
        assert claimed.definition == book.row().definition
        assert book.run(run) == claimed.run

    def test_what_one_claim_sends_no_other_has(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        run = book.fire()
        sent(book, run)

        assert book.claim(sends=True, holder="node-2") == []
        assert book.claim(holder="node-2") == []

        leased = book.fire()
        assert one(book.claim()).run.id == leased.id
        assert book.claim(sends=True, holder="node-2") == []

    def test_a_claim_that_sends_chooses_as_any_claim_does(self, book: Book) -> None:
        for name, priority in (("low", -1), ("high", 7), ("mid", 0)):
            book.create(name, overlap=Overlap.ALLOW, priority=priority)
        mail = Target(kind="python", address="m:mail", queue="mail")
        book.create("mail", book.definition(target=mail))
        t = book.now
        book.request("mail", "other-queue")
        book.request("low", "a", ready_at=t - HOUR)
        book.request("mid", "c", deadline_at=t)
        book.request("mid", "b")
        book.request("mid", "late", deadline_at=t - MICROSECOND)
        book.request("mid", "early", ready_at=t + MICROSECOND)
        book.request("mid", "d", ready_at=t - SECOND)
        book.request("high", "a")

        assert book.claim(sends=True, limit=0) == []
        first = [book.claim(sends=True, limit=1)[0].run.id for _ in range(2)]
        rest = [each.run.id for each in book.claim(sends=True)]

        assert first + rest == ["high!a", "mid!d", "mid!b", "mid!c", "low!a"]

    def test_a_run_that_was_sent_is_taken_by_its_guard_once(self, book: Book) -> None:
        book.create()
        run = sent(book, book.fire())

        told = book.store.advance([guard(book, run), guard(book, run)])

        assert [each.answer for each in told] == [Answer.ACCEPTED, Answer.REFUSED]
        after = book.run(run)
        assert (after.state, after.attempt, after.resend_at) == (RunState.RUNNING, 1, None)
        assert after.token == told[0].token > 0
        assert book.finish(after).answer is Answer.ACCEPTED

    def test_a_publisher_that_dies_before_its_message_only_delays_the_run(self, book: Book) -> None:
        book.create()
        run = sent(book, book.fire())
        book.clock.advance(MINUTE - MICROSECOND)
        assert book.store.lost(book.now, 10) == []
        assert book.advance(Resend(run_id=run.id)).answer is Answer.REFUSED
        book.clock.advance(MICROSECOND)

        overdue = one(book.store.lost(book.now, 10))
        assert (overdue.run.id, overdue.overtaken) == (run.id, Overtaken.RESEND)
        assert book.advance(Resend(run_id=run.id)).answer is Answer.ACCEPTED
        again = sent(book, run, holder="node-2")

        assert (again.attempt, again.resend_at) == (0, book.now + MINUTE)
        assert book.advance(guard(book, again)).answer is Answer.ACCEPTED

    def test_a_message_that_was_sent_twice_starts_one_attempt(self, book: Book) -> None:
        book.create(attempts=3)
        run = sent(book, book.fire())
        book.clock.advance(MINUTE)
        book.advance(Resend(run_id=run.id))
        sent(book, run)

        first, copy = book.advance(guard(book, run)), book.advance(guard(book, run))
        book.finish(book.run(run))
        late = book.advance(guard(book, run))

        answers = [each.answer for each in (first, copy, late)]
        assert answers == [Answer.ACCEPTED, Answer.REFUSED, Answer.REFUSED]

    def test_a_cancel_ends_a_sent_run_at_once_and_its_message_is_in_vain(self, book: Book) -> None:
        book.create()
        run = sent(book, book.fire())

        assert book.advance(Cancel(run_id=run.id)).state is RunState.CANCELLED
        assert book.advance(guard(book, run)).answer is Answer.REFUSED
        book.clock.advance(HOUR)
        assert book.store.lost(book.now, 10) == []

    def test_under_a_hold_what_is_ready_is_sent_all_the_same(self, book: Book) -> None:
        book.create()
        run = book.fire()
        book.store.hold(Hold(since_at=book.now), "h1")

        assert sent(book, run).state is RunState.SENT
        assert book.advance(guard(book, run)).answer is Answer.ACCEPTED

    def test_a_sent_run_whose_deadline_passes_comes_back_and_expires(self, book: Book) -> None:
        book.create()
        run = sent(book, book.request("a", "k", deadline_at=book.now + SECOND))
        book.clock.advance(MINUTE)

        late = book.advance(guard(book, run))
        back = book.advance(Resend(run_id=run.id))

        assert (late.answer, back.state) == (Answer.REFUSED, RunState.READY)
        assert book.claim(sends=True) == []
        book.clock.advance(MICROSECOND)
        assert one(book.store.lost(book.now, 10)).overtaken is Overtaken.DEADLINE
        assert book.advance(Expire(run_id=run.id)).state is RunState.EXPIRED

    def test_a_hand_over_of_a_sent_run_ends_it_and_lets_in_who_waits(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        run = book.fire()
        waiting = book.fire(state=RunState.WAITING)
        sent(book, run)
        assert book.run(waiting).state is RunState.WAITING

        told = book.advance(HandOver(run_id=run.id, attempt=1))

        assert (told.answer, told.state) == (Answer.ACCEPTED, RunState.HANDED_OVER)
        after = book.run(run)
        assert (after.attempt, after.resend_at, after.finished_at) == (1, None, book.now)
        assert book.run(waiting).state is RunState.READY
        assert book.advance(HandOver(run_id=run.id, attempt=1)).answer is Answer.REFUSED
