"""The suite on the law, A and B: a case for each scenario of the protocol that a store can get wrong.

Each was a counter-example in a model or on a real server once; the letter is its paragraph there. They are
told as interleavings: one actor reads, another one commits, the first one commits.
"""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.errors import StoreError
from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Cancel,
    Done,
    Finish,
    Guard,
    Lost,
    Release,
    Renew,
    Request,
    Resend,
    Retry,
    Sent,
    Start,
)
from onebeat.core.model import Outcome, Overlap, RunState
from onebeat.testing.conformance_stage import (
    HOUR,
    MINUTE,
    SECOND,
    Book,
    Stage,
    one,
)

BROKEN = Done(state=RunState.FAILED, reason="lost")


class LawSuite(Stage):
    """A1 to B2: the promise itself, and the batch."""

    # --- A: promises that broke on every store ---

    def test_law_a1_what_a_broker_lost_is_sent_again_under_the_same_attempt(self, book: Book) -> None:
        book.create()
        run = book.fire()
        resend_at = book.now + MINUTE
        book.advance(Sent(run_id=run.id, attempt=1, resend_at=resend_at))
        book.clock.set(resend_at)

        overdue = one(book.store.lost(book.now, 10))
        assert book.advance(Resend(run_id=overdue.run.id)).answer is Answer.ACCEPTED
        again = Sent(run_id=run.id, attempt=1, resend_at=resend_at + MINUTE)
        assert book.advance(again).answer is Answer.ACCEPTED
        guarded = book.advance(Guard(run_id=run.id, attempt=1, holder="celery", until=book.now + HOUR))

        assert guarded.answer is Answer.ACCEPTED
        assert book.finish(book.run(run)).state is RunState.SUCCEEDED

    def test_law_a1_a_sent_run_holds_its_slot_only_until_it_ends(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        sent = book.fire()
        book.advance(Sent(run_id=sent.id, attempt=1, resend_at=None))
        waiting = book.fire(state=RunState.WAITING)
        assert book.run(waiting).state is RunState.WAITING

        book.advance(Cancel(run_id=sent.id))

        assert book.run(waiting).state is RunState.READY

    def test_law_a2_a_guard_that_is_faster_than_the_mark_wins(self, book: Book) -> None:
        book.create()
        run = book.fire()

        guarded = book.advance(Guard(run_id=run.id, attempt=1, holder="celery", until=book.now + HOUR))
        marked = book.advance(Sent(run_id=run.id, attempt=1, resend_at=book.now + MINUTE))

        assert (guarded.answer, marked.answer) == (Answer.ACCEPTED, Answer.REFUSED)
        assert book.run(run).state is RunState.RUNNING
        assert book.finish(book.run(run)).answer is Answer.ACCEPTED

    def test_law_a2_an_old_message_does_not_start_a_new_attempt_inside_its_backoff(self, book: Book) -> None:
        book.create(attempts=2)
        run = book.fire()
        guard = Guard(run_id=run.id, attempt=1, holder="celery", until=book.now + HOUR)
        token = book.advance(guard).token
        backoff = Retry(at=book.now + HOUR)
        book.advance(Finish(run_id=run.id, token=token, outcome=Outcome.FAILED, verdict=backoff))

        redelivered = book.advance(guard)

        assert redelivered.answer is Answer.REFUSED
        assert book.run(run).state is RunState.READY

    def test_law_a3_a_settle_that_queued_behind_a_run_that_just_ended_promotes_it(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        running = book.running()
        at = book.clock.advance(MINUTE)
        owing = one(book.store.due(at, 1).rows)
        assert owing.load.live == 1
        row = book.row()

        book.finish(running)
        won = book.settle(book.decision(row, book.fired(row, at, RunState.WAITING)))

        assert won == (True,)
        assert book.run(book.new_run(row, at).id).state is RunState.READY

    def test_law_a3_a_request_between_read_and_commit_makes_the_settle_stale(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, at))

        book.request("a", "run-now")

        assert book.settle(decision) == (False,)
        assert book.states() == {"a!run-now": RunState.READY}

    def test_law_a3_a_settle_between_read_and_commit_makes_the_request_stale(self, book: Book) -> None:
        row = book.create()
        wanted = Request(schedule_id=row.id, expected_version=row.version, run=book.asked(row, "run-now"))

        fired = book.fire()

        assert book.store.request([wanted]) == [Answer.STALE]
        assert book.states() == {fired.id: RunState.READY}

    def test_law_a3_a_request_that_queued_behind_a_run_that_just_ended_is_promoted(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        running = book.running()
        row = book.row()
        asked = book.asked(row, "k", RunState.WAITING)

        book.finish(running)
        book.store.request([Request(schedule_id=row.id, expected_version=row.version, run=asked)])

        assert book.run("a!k").state is RunState.READY

    def test_law_a3_an_edit_that_queued_behind_a_run_that_just_ended_promotes_it(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        running = book.running()
        row = book.row()
        at = book.clock.advance(MINUTE)

        book.finish(running)
        book.accept(book.change(row, book.fired(row, at, RunState.WAITING)))

        assert book.run(book.new_run(row, at).id).state is RunState.READY

    def test_law_a4_a_renewed_lease_is_never_lost(self, book: Book) -> None:
        book.create()
        run = book.running(until=book.now + 2 * MINUTE)
        book.clock.advance(HOUR)
        overdue = one(book.store.lost(book.now, 10)).run

        book.advance(Renew(run_id=run.id, token=run.token, until=book.now + HOUR))
        lost = book.advance(Lost(run_id=overdue.id, token=overdue.token, verdict=BROKEN))

        assert lost.answer is Answer.REFUSED
        assert book.run(run).state is RunState.RUNNING
        assert book.finish(run).answer is Answer.ACCEPTED

    def test_law_a4_a_lease_ends_when_somebody_ends_it_and_not_by_itself(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        late, later = book.running(), book.running()
        book.clock.advance(2 * HOUR)

        renewed = book.advance(Renew(run_id=late.id, token=late.token, until=book.now + HOUR))

        assert renewed.answer is Answer.ACCEPTED
        assert book.finish(later).answer is Answer.ACCEPTED

    def test_law_a4_after_a_loss_nothing_of_the_old_holder_counts(self, book: Book) -> None:
        book.create(attempts=3)
        old = book.running(until=book.now + 2 * MINUTE)
        book.clock.advance(HOUR)
        book.advance(Lost(run_id=old.id, token=old.token, verdict=Retry(at=book.now)))
        new = one(book.claim(holder="node-2")).run
        steps: list[AnyTransition] = [
            Start(run_id=old.id, token=old.token),
            Renew(run_id=old.id, token=old.token, until=book.now + HOUR),
            Release(run_id=old.id, token=old.token),
            Finish(
                run_id=old.id,
                token=old.token,
                outcome=Outcome.SUCCEEDED,
                verdict=Done(state=RunState.SUCCEEDED),
            ),
            Lost(run_id=old.id, token=old.token, verdict=BROKEN),
        ]

        answers = [told.answer for told in book.store.advance(steps)]

        assert answers == [Answer.REFUSED] * 5
        assert book.run(new) == new

    def test_law_a5_marks_are_nominal_and_due_instants_are_not(self, book: Book) -> None:
        offset = 10 * SECOND
        row = book.create(spread=MINUTE)
        nominal = row.settled_until + MINUTE
        book.clock.set(nominal + offset)
        tile = book.fired(row, nominal, due_at=nominal + offset, ready_at=nominal + offset)

        book.settle(book.decision(row, tile, next_at=nominal + MINUTE + offset))

        after = book.row()
        assert (after.settled_until, after.next_at) == (nominal, nominal + MINUTE + offset)
        run = book.run(book.new_run(row, nominal).id)
        assert (run.occurrence_at, run.due_at, run.mark_after) == (nominal, nominal + offset, nominal)
        assert run.lateness == timedelta(0)
        assert book.store.due(nominal + MINUTE, 10).rows == ()
        assert len(book.store.due(nominal + MINUTE + offset, 10).rows) == 1

    def test_law_a5_an_edit_keeps_the_boundary_that_was_decided_and_not_its_cut(self, book: Book) -> None:
        row = book.create()
        cut = book.clock.advance(HOUR)
        boundary = cut - 10 * SECOND

        edit = book.change(row, settled_until=boundary)
        after = book.accept(replace(edit, boundary_at=boundary))

        change = book.store.trail(row.id)[-1]
        assert (change.cut_at, change.boundary_at) == (cut, boundary)
        assert after.settled_until == boundary
        tile = one(book.store.tiles(row.id, row.settled_until, cut))
        assert (tile.mark_before, tile.mark_after, tile.count) == (row.settled_until, boundary, 0)

    def test_law_a6_a_slow_dispatcher_cannot_settle_onto_a_successor(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        slow = book.decision(row, book.fired(row, at))
        tombstone = book.accept(book.deletion(row))
        successor = book.accept(book.rebirth(tombstone))

        assert book.settle(slow) == (False,)
        assert book.settle(book.decision(tombstone)) == (False,)

        assert book.row() == successor
        assert book.states() == {}

    def test_law_a6_a_successors_run_is_not_its_predecessors(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        book.request("a", "k")
        book.fire()
        book.accept(book.deletion(book.row()))
        book.accept(book.rebirth(book.row()))

        book.request("a", "k")
        book.fire()

        ids = list(book.states())
        assert len(ids) == len(set(ids)) == 4
        assert sum(run.startswith("a~2") for run in ids) == 2
        assert {book.run(run).schedule_id for run in ids} == {row.id}

    # --- B: the clock and the batch ---

    def test_law_b1_a_clock_that_is_a_millisecond_ahead_fires_nothing(self, book: Book) -> None:
        row = book.create()
        at = row.settled_until + MINUTE
        book.clock.set(at - SECOND / 1000)
        before = book.picture()

        settled = book.store.settle(at, [book.decision(row, book.fired(row, at))])

        assert settled.early_by == SECOND / 1000
        assert book.picture() == before

    def test_law_b2_an_id_twice_in_a_batch_is_refused_and_not_applied_once(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        at = book.clock.advance(MINUTE)
        decisions = [book.decision(row, book.fired(row, at)), book.decision(row, book.skipped(row, at))]

        with pytest.raises(ValueError, match="twice"):
            book.store.settle(at, decisions)

        assert book.states() == {}

    def test_law_b2_a_run_id_that_is_there_already_is_an_error_and_moves_no_mark(self, book: Book) -> None:
        # To leave the run out and move the mark all the same would lose an occurrence without a trace.
        row = book.create(overlap=Overlap.ALLOW)
        other = book.create("b")
        at = book.clock.advance(MINUTE)
        taken = book.request("a", "k").id
        row = book.row()
        decisions = [
            book.decision(other, book.fired(other, at)),
            book.decision(row, book.fired(row, at, id=taken)),
        ]
        before = book.picture()

        with pytest.raises(StoreError):
            book.store.settle(at, decisions)
        with pytest.raises(StoreError):
            book.store.put([book.change(other), book.change(row, book.fired(row, at, id=taken))])

        assert book.picture() == before
        assert book.settle(decisions[0]) == (True,)
