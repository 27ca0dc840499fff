"""The suite on transitions: what each move writes, and ``advance`` and ``lost`` around them."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Cancel,
    Done,
    Expire,
    Finish,
    Guard,
    Lost,
    Overtaken,
    Park,
    Release,
    Renew,
    Resend,
    Retry,
    Sent,
    Start,
    Unpark,
)
from onebeat.core.model import Event, Json, Outcome, Overlap, Run, RunState
from onebeat.testing.conformance_stage import (
    HOUR,
    MICROSECOND,
    MINUTE,
    TARGET,
    Book,
    Stage,
    one,
)
from onebeat.testing.conformance_table import in_situation

LOST = Done(state=RunState.FAILED, reason="lost")


class MoveSuite(Stage):
    """What a transition writes, and every sentence of ``advance`` and ``lost``."""

    def test_a_transition_of_an_unknown_run_is_refused(self, book: Book) -> None:
        told = book.advance(Cancel(run_id="nobody@20260101T000000Z"))

        assert told == Advanced(answer=Answer.REFUSED)

    def test_answers_stand_in_the_batchs_order_and_do_not_fail_one_another(self, book: Book) -> None:
        runs = in_situation(book, "ready", 3)

        told = book.store.advance(
            [
                Park(run_id=runs[2].id, reason="x"),
                Cancel(run_id="unknown"),
                Unpark(run_id=runs[1].id),
                Cancel(run_id=runs[0].id),
            ]
        )

        answers = [(each.answer, each.state) for each in told]
        assert answers == [
            (Answer.ACCEPTED, RunState.PARKED),
            (Answer.REFUSED, None),
            (Answer.REPEATED, RunState.READY),
            (Answer.ACCEPTED, RunState.CANCELLED),
        ]

    def test_a_batch_may_be_longer_than_a_statement_has_arguments(self, book: Book) -> None:
        run = one(in_situation(book, "claimed", 1))
        strangers = [Start(run_id=f"nobody@{number}", token=1) for number in range(40_000)]

        told = book.store.advance([*strangers, Start(run_id=run.id, token=run.token)])

        assert [index for index, each in enumerate(told) if each.answer is Answer.ACCEPTED] == [40_000]

    def test_each_end_of_a_batch_keeps_what_it_says(self, book: Book) -> None:
        runs = in_situation(book, "started", 4)
        said: list[tuple[Outcome, RunState, Json, str | None]] = [
            (Outcome.SUCCEEDED, RunState.SUCCEEDED, None, None),
            (Outcome.SUCCEEDED, RunState.SUCCEEDED, None, None),
            (Outcome.SUCCEEDED, RunState.SUCCEEDED, {"rows": 7}, None),
            (Outcome.FAILED, RunState.FAILED, None, "ValueError: 8"),
        ]

        told = book.store.advance(
            [
                Finish(
                    run_id=run.id,
                    token=run.token,
                    outcome=outcome,
                    verdict=Done(state=state),
                    result=result,
                    error=error,
                )
                for run, (outcome, state, result, error) in zip(runs, said, strict=True)
            ]
        )

        assert [(each.answer, each.state) for each in told] == [(Answer.ACCEPTED, each[1]) for each in said]
        ended = [book.run(run.id) for run in runs]
        assert [(run.outcome, run.state, run.result, run.error) for run in ended] == said
        assert {run.finished_at for run in ended} == {book.now}

    def test_several_transitions_of_one_run_are_made_in_order(self, book: Book) -> None:
        run = one(in_situation(book, "started", 1))
        eta = book.now + MINUTE

        told = book.store.advance(
            [
                Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=Retry(at=eta)),
                Sent(run_id=run.id, attempt=2, resend_at=eta + HOUR),
                Sent(run_id=run.id, attempt=2, resend_at=eta + HOUR),
            ]
        )

        assert [each.answer for each in told] == [Answer.ACCEPTED, Answer.ACCEPTED, Answer.REFUSED]
        after = book.run(run)
        assert (after.state, after.resend_at, after.attempt) == (RunState.SENT, eta + HOUR, 1)

    def test_an_event_is_written_exactly_when_its_transition_is_accepted(self, book: Book) -> None:
        run = one(in_situation(book, "claimed", 1))
        event = Event(at=book.now, kind="run.started", run_id=run.id, actor="node-1", data={"attempt": 1})
        start = Start(run_id=run.id, token=run.token, event=event)
        seen = book.events()[-1].id

        told = book.store.advance([start, start, replace(start, token=run.token - 1)])

        assert [each.answer for each in told] == [Answer.ACCEPTED, Answer.REPEATED, Answer.REFUSED]
        written = one(book.events(after=seen))
        assert replace(written, id=0) == event

    # --- what each move writes ---

    def test_a_start_marks_the_instant_and_meets_the_deadline(self, book: Book) -> None:
        run = one(in_situation(book, "claimed", 1))
        at = book.clock.advance(MINUTE)

        book.advance(Start(run_id=run.id, token=run.token))

        assert book.run(run) == replace(run, started_at=at, deadline_at=None)

    def test_a_renewal_moves_the_lease_and_answers_with_the_token(self, book: Book) -> None:
        run = one(in_situation(book, "started", 1))
        until = book.now + 3 * HOUR

        told = book.advance(Renew(run_id=run.id, token=run.token, until=until))

        assert told == Advanced(answer=Answer.ACCEPTED, state=RunState.RUNNING, token=run.token)
        assert book.run(run) == replace(run, lease_until=until)

    def test_a_finish_keeps_outcome_result_error_and_who_had_it(self, book: Book) -> None:
        run = one(in_situation(book, "started", 1))
        at = book.clock.advance(MINUTE)
        done = Done(state=RunState.FAILED, reason="attempt 1 of 1 failed")

        book.advance(
            Finish(
                run_id=run.id,
                token=run.token,
                outcome=Outcome.FAILED,
                verdict=done,
                result={"rows": [1, None, "é"]},
                error="OSError: disk full",
            )
        )

        after = book.run(run)
        assert (after.state, after.outcome, after.finished_at) == (RunState.FAILED, Outcome.FAILED, at)
        assert (after.result, after.error) == ({"rows": [1, None, "é"]}, "OSError: disk full")
        assert (after.reason, after.lease_until) == ("attempt 1 of 1 failed", None)
        assert (after.holder, after.token, after.attempt) == ("node-1", run.token, 1)
        assert (after.claimed_at, after.started_at) == (run.claimed_at, run.started_at)

    def test_a_retry_waits_in_ready_until_its_instant_and_gets_a_new_lease(self, book: Book) -> None:
        run = one(in_situation(book, "started", 1))
        at = book.now + MINUTE
        verdict = Retry(at=at, reason="attempt 1 of 3 failed")

        book.advance(Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=verdict))

        after = book.run(run)
        assert (after.state, after.ready_at, after.attempt) == (RunState.READY, at, 1)
        assert (after.lease_until, after.finished_at) == (None, None)
        assert (after.reason, after.outcome) == ("attempt 1 of 3 failed", Outcome.FAILED)
        assert book.claim() == []
        book.clock.set(at)
        again = one(book.claim(holder="node-2")).run
        assert (again.attempt, again.holder, again.outcome) == (2, "node-2", None)
        assert (again.started_at, again.error, again.reason) == (None, None, "")
        assert again.token > run.token

    def test_a_release_gives_the_attempt_back(self, book: Book) -> None:
        run = one(in_situation(book, "claimed", 1))

        book.advance(Release(run_id=run.id, token=run.token))

        after = book.run(run)
        assert (after.state, after.attempt, after.lease_until) == (RunState.READY, 0, None)
        assert after.ready_at == run.ready_at
        again = one(book.claim()).run
        assert again.attempt == 1
        assert again.token > run.token

    def test_a_guards_lease_is_a_lease_like_any_other(self, book: Book) -> None:
        sent = one(in_situation(book, "sent", 1))
        until = book.now + 2 * HOUR

        told = book.advance(Guard(run_id=sent.id, attempt=1, holder="celery@x", until=until))

        after = book.run(sent)
        assert (after.state, after.holder, after.lease_until) == (RunState.RUNNING, "celery@x", until)
        assert (after.attempt, after.resend_at, after.claimed_at) == (1, None, book.now)
        assert told.token == after.token > 0
        assert book.finish(after).answer is Answer.ACCEPTED

    def test_a_guard_that_starts_leaves_what_a_guard_and_a_start_leave(self, book: Book) -> None:
        one_move, two = in_situation(book, "sent", 2)
        until = book.now + 2 * HOUR
        guards = [Guard(run_id=run.id, attempt=1, holder="celery@x", until=until) for run in (one_move, two)]

        told = book.advance(replace(guards[0], starts=True))
        other = book.advance(guards[1])
        book.advance(Start(run_id=two.id, token=other.token))

        after = book.run(one_move)
        assert (told.run, other.run) == (
            after,
            replace(book.run(two), started_at=None, deadline_at=two.deadline_at),
        )
        assert (told.answer, told.state, told.token) == (Answer.ACCEPTED, RunState.RUNNING, after.token)
        assert (after.started_at, after.deadline_at) == (book.now, None)
        assert after == replace(book.run(two), id=after.id, key=after.key, token=after.token)
        assert book.advance(Start(run_id=after.id, token=after.token)).answer is Answer.REPEATED
        assert book.advance(Release(run_id=after.id, token=after.token)).answer is Answer.REFUSED
        assert book.finish(after).answer is Answer.ACCEPTED

    def test_guards_of_one_batch_get_growing_tokens(self, book: Book) -> None:
        sent = in_situation(book, "sent", 3)
        guards = [Guard(run_id=run.id, attempt=1, holder="x", until=book.now + HOUR) for run in sent]

        tokens = [each.token for each in book.store.advance(guards)]
        book.request("a", "later")
        tokens.append(one(book.claim()).run.token)

        assert tokens == sorted(set(tokens))
        assert [book.run(run).token for run in sent] == tokens[:3]

    def test_a_guard_that_starts_meets_the_deadline_for_good(self, book: Book) -> None:
        """A later attempt of a run that has started never expires."""
        book.create(attempts=2)
        run = book.request("a", "k", deadline_at=book.now + MINUTE)
        guard = Guard(run_id=run.id, attempt=1, holder="celery", until=book.now + HOUR, starts=True)
        token = book.advance(guard).token
        again = Retry(at=book.now)
        book.advance(Finish(run_id=run.id, token=token, outcome=Outcome.FAILED, verdict=again))
        book.clock.advance(2 * MINUTE)

        assert book.advance(Expire(run_id=run.id)).answer is Answer.REFUSED
        assert book.advance(replace(guard, attempt=2)).answer is Answer.ACCEPTED

    def test_guards_and_ends_in_one_batch_are_made_in_order(self, book: Book) -> None:
        """An end that lets a waiting run in is before the guard of that run."""
        book.create(overlap=Overlap.QUEUE_ALL)
        running = book.running()
        waiting = book.fire(state=RunState.WAITING)
        finish = Finish(
            run_id=running.id,
            token=running.token,
            outcome=Outcome.SUCCEEDED,
            verdict=Done(state=RunState.SUCCEEDED),
        )
        guard = Guard(run_id=waiting.id, attempt=1, holder="celery", until=book.now + HOUR, starts=True)

        early = book.store.advance([guard, guard])
        told = book.store.advance([finish, guard, guard])

        assert [each.answer for each in early] == [Answer.REFUSED] * 2
        assert [each.answer for each in told] == [Answer.ACCEPTED, Answer.ACCEPTED, Answer.REFUSED]
        assert book.run(waiting).started_at == book.now

    def test_a_second_message_of_one_attempt_finds_the_guard_shut(self, book: Book) -> None:
        sent = one(in_situation(book, "sent", 1))
        guard = Guard(run_id=sent.id, attempt=1, holder="celery@x", until=book.now + HOUR)

        told = book.store.advance([guard, replace(guard, holder="celery@y")])

        assert [each.answer for each in told] == [Answer.ACCEPTED, Answer.REFUSED]
        assert book.run(sent).holder == "celery@x"

    def test_a_resend_keeps_the_attempt(self, book: Book) -> None:
        sent = one(in_situation(book, "sent", 1))
        book.clock.advance(HOUR)

        book.advance(Resend(run_id=sent.id))

        after = book.run(sent)
        assert (after.state, after.attempt, after.resend_at) == (RunState.READY, 0, None)
        assert book.advance(Sent(run_id=sent.id, attempt=1, resend_at=None)).answer is Answer.ACCEPTED

    def test_what_was_sent_for_good_is_never_sent_again(self, book: Book) -> None:
        run = one(in_situation(book, "ready", 1))
        book.advance(Sent(run_id=run.id, attempt=1, resend_at=None))
        book.clock.advance(timedelta(days=365))

        assert book.advance(Resend(run_id=run.id)).answer is Answer.REFUSED
        assert book.store.lost(book.now, 10) == []

    def test_a_park_says_why_and_an_unpark_clears_it(self, book: Book) -> None:
        run = one(in_situation(book, "ready", 1))

        book.advance(Park(run_id=run.id, reason="no node knows shop.orders:close"))
        parked = book.run(run)
        book.advance(Unpark(run_id=run.id))

        assert parked == replace(run, state=RunState.PARKED, reason="no node knows shop.orders:close")
        assert book.run(run) == run

    @pytest.mark.parametrize("situation", ["expired", "handed_over", "cancelled"])
    def test_an_end_without_a_holder_says_when(self, situation: str, book: Book) -> None:
        run = one(in_situation(book, situation, 1))

        assert run.finished_at == book.now
        assert run.outcome is None

    def test_a_cancel_reaches_the_holder_on_its_next_renewal(self, book: Book) -> None:
        run = one(in_situation(book, "started", 1))
        renewal = Renew(run_id=run.id, token=run.token, until=book.now + HOUR)
        assert not book.advance(renewal).cancel_requested

        told = book.advance(Cancel(run_id=run.id))

        assert (told.answer, told.state) == (Answer.ACCEPTED, RunState.RUNNING)
        assert book.run(run) == replace(run, cancel_requested=True)
        assert book.advance(renewal).cancel_requested

    def test_a_body_that_ends_well_in_spite_of_a_cancel_has_succeeded(self, book: Book) -> None:
        run = one(in_situation(book, "flagged_started", 1))

        assert book.finish(run).state is RunState.SUCCEEDED

    def test_a_hand_over_counts_as_an_attempt(self, book: Book) -> None:
        run = one(in_situation(book, "handed_over", 1))

        assert (run.attempt, run.holder, run.lease_until) == (1, None, None)

    # --- at the very instant ---

    @pytest.mark.parametrize(
        ("situation", "make", "first"),
        [
            ("started", lambda run: Lost(run_id=run.id, token=run.token, verdict=LOST), timedelta(0)),
            ("sent", lambda run: Resend(run_id=run.id), timedelta(0)),
            ("ready", lambda run: Expire(run_id=run.id), MICROSECOND),
        ],
    )
    def test_what_the_clock_allows_it_allows_from_the_instant_on(
        self, situation: str, make: Callable[[Run], AnyTransition], first: timedelta, book: Book
    ) -> None:
        run = one(in_situation(book, situation, 1))
        book.clock.advance(HOUR + first - MICROSECOND)

        assert book.advance(make(run)).answer is Answer.REFUSED
        book.clock.advance(MICROSECOND)
        assert book.advance(make(run)).answer is Answer.ACCEPTED

    def test_a_guard_may_start_a_run_at_its_deadline_and_not_after(self, book: Book) -> None:
        for name, late, answer in (("a", timedelta(0), Answer.ACCEPTED), ("b", MICROSECOND, Answer.REFUSED)):
            book.create(name)
            run = book.request(name, "k", deadline_at=book.now + MINUTE)
            guard = Guard(run_id=run.id, attempt=1, holder="celery", until=book.now + HOUR)
            book.clock.advance(MINUTE + late)

            assert book.advance(guard).answer is answer

    # --- lost ---

    def test_lost_names_what_time_has_overtaken_the_longest_first(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW, attempts=3)
        t = book.now
        running = book.request("a", "running")
        book.claim(until=t + 3 * MINUTE)
        sent = book.request("a", "sent")
        book.advance(Sent(run_id=sent.id, attempt=1, resend_at=t + MINUTE))
        ready = book.request("a", "ready", deadline_at=t + 2 * MINUTE)
        book.request("a", "not-overtaken", deadline_at=t + HOUR)
        waiting = book.request("a", "waiting", RunState.READY, deadline_at=t + 4 * MINUTE)

        found = book.store.lost(t + HOUR, 10)

        assert [(each.run.id, each.overtaken) for each in found] == [
            (sent.id, Overtaken.RESEND),
            (ready.id, Overtaken.DEADLINE),
            (running.id, Overtaken.LEASE),
            (waiting.id, Overtaken.DEADLINE),
        ]
        assert all(each.policy.attempts == 3 for each in found)
        assert found[2].run == book.run(running)
        assert book.store.lost(t + HOUR, 2) == found[:2]

    def test_lost_looks_at_the_very_instant(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        at = book.now + MINUTE
        book.request("a", "running")
        book.claim(until=at)
        sent = book.request("a", "sent")
        book.advance(Sent(run_id=sent.id, attempt=1, resend_at=at))
        book.request("a", "ready", deadline_at=at)

        def overtaken(now: datetime) -> list[str]:
            return sorted(each.overtaken.value for each in book.store.lost(now, 10))

        # A lease and a resend end at their instant; at its deadline a run may still start.
        assert overtaken(at - MICROSECOND) == []
        assert overtaken(at) == ["lease", "resend"]
        assert overtaken(at + MICROSECOND) == ["deadline", "lease", "resend"]

    def test_lost_judges_a_run_by_the_policy_that_it_was_fired_under(self, book: Book) -> None:
        book.create(attempts=3)
        book.running()
        book.accept(book.change(book.row(), definition=book.definition(attempts=1)))

        found = one(book.store.lost(book.now + 2 * HOUR, 10))

        assert found.policy.attempts == 3

    def test_a_waiting_run_past_its_deadline_is_named_too(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        book.fire()
        waiting = book.fire(state=RunState.WAITING, deadline_at=book.now + 2 * MINUTE)

        found = one(book.store.lost(book.now + HOUR, 10))

        assert (found.run.id, found.overtaken) == (waiting.id, Overtaken.DEADLINE)

    def test_after_a_start_no_deadline_is_left_to_be_overtaken(self, book: Book) -> None:
        run = one(in_situation(book, "again", 1))
        book.clock.advance(2 * HOUR)

        assert book.store.lost(book.now, 10) == []
        assert one(book.claim(targets=(TARGET.key,))).run.id == run.id
