"""Transactions that others share: a body's effect and its run's end are one commit, whatever happens.

The body's effect is a schedule, put by the same store within the lent connection: so the play knows no SQL.
A store that has nothing to lend is not asked, and must not look as if it had.
"""

import threading

import pytest

from onebeat.core.errors import InvalidInput, OnebeatError, Refused
from onebeat.core.messages import Advanced, Answer, Cancel, Done, Finish, Renew, Request
from onebeat.core.model import Outcome, Run, RunState
from onebeat.core.ports import Loan, Sharing, Store
from onebeat.testing.conformance_stage import MINUTE, Book, Stage, one

EFFECT = "effect"


def affected(store: Store) -> bool:
    """Return whether the effect of a body is there."""
    return bool(store.owing([EFFECT]))


def affect(book: Book, sharing: Sharing, loan: Loan) -> None:
    """Do within a loan what a body is for."""
    sharing.join(loan.connection).put([book.creation(EFFECT)])


def started(book: Book) -> Run:
    """Return a run whose body may begin."""
    book.create()
    return book.running()


def success(run: Run) -> Finish:
    """Return the end of a body that returned."""
    verdict = Done(state=RunState.SUCCEEDED)
    return Finish(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=verdict)


def say(loan: Loan, sql: str) -> None:
    """Run a statement as a body would, by what all drivers have."""
    loan.connection.cursor().execute(sql)


class SharingSuite(Stage):
    """``lend`` and ``join``."""

    def shared(self, store: Store) -> Sharing | None:
        """Return the store as one that shares; None where it declares that it does not, and does not."""
        assert isinstance(store, Sharing) is self.shares
        if isinstance(store, Sharing):
            return store
        assert not any(hasattr(store, name) for name in ("lend", "join", "alone"))
        return None

    def test_a_loan_that_is_finished_commits_the_effect_and_the_end_together(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)

        with sharing.lend() as loan:
            affect(book, sharing, loan)
            assert not affected(store)
            assert book.run(run).state is RunState.RUNNING
            answer = loan.finish(success(run))

        assert answer == Advanced(answer=Answer.ACCEPTED, state=RunState.SUCCEEDED)
        assert affected(store)
        assert book.run(run).state is RunState.SUCCEEDED

    def test_a_loan_that_is_not_finished_leaves_nothing(self, book: Book, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)

        with sharing.lend() as loan:
            affect(book, sharing, loan)

        assert not affected(store)
        assert book.run(run) == run
        assert book.finish(run).answer is Answer.ACCEPTED

    def test_a_stale_token_commits_nothing_of_its_loan(self, book: Book, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)
        book.finish(run, RunState.FAILED)

        with sharing.lend() as loan:
            affect(book, sharing, loan)
            answer = loan.finish(success(run))

        assert answer.answer is Answer.REFUSED
        assert not affected(store)
        assert book.run(run).state is RunState.FAILED

    def test_a_run_whose_cancel_was_asked_for_commits_nothing_of_its_loan(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)
        book.advance(Cancel(run_id=run.id))

        with sharing.lend() as loan:
            affect(book, sharing, loan)
            answer = loan.finish(success(run))

        assert (answer.answer, answer.cancel_requested) == (Answer.REFUSED, True)
        assert not affected(store)
        assert book.run(run).state is RunState.RUNNING

    @pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
    def test_a_borrower_who_ends_the_transaction_is_found_out(
        self, book: Book, store: Store, end: str
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)

        with sharing.lend() as loan:
            affect(book, sharing, loan)
            say(loan, end)
            with pytest.raises(Refused, match="has not left the transaction"):
                loan.finish(success(run))

        assert book.run(run).state is RunState.RUNNING
        assert affected(store) == (end == "COMMIT")

    def test_an_end_that_frees_a_slot_promotes_within_its_loan(self, book: Book, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)
        waiting = book.request("a", "second", RunState.WAITING)

        with sharing.lend() as loan:
            loan.finish(success(run))

        assert book.run(waiting).state is RunState.READY

    def test_a_lease_is_renewed_beside_a_loan_unless_the_store_is_alone(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)
        until = book.now + MINUTE
        renewed: list[Advanced] = []

        def renew() -> None:
            renewed.extend(store.advance([Renew(run_id=run.id, token=run.token, until=until)]))

        other = threading.Thread(target=renew)
        with sharing.lend() as loan:
            affect(book, sharing, loan)
            other.start()
            if not sharing.alone:
                other.join()
                assert one(renewed).answer is Answer.ACCEPTED
            assert loan.finish(success(run)).answer is Answer.ACCEPTED
        other.join()

        assert one(renewed).answer is (Answer.REFUSED if sharing.alone else Answer.ACCEPTED)

    def test_the_end_of_another_connection_waits_for_the_loans_and_loses(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        run = started(book)
        lost = Finish(
            run_id=run.id, token=run.token, outcome=Outcome.LOST, verdict=Done(state=RunState.FAILED)
        )
        told: list[Advanced] = []
        other = threading.Thread(target=lambda: told.extend(store.advance([lost])))

        with sharing.lend() as loan:
            answer = sharing.join(loan.connection).advance([success(run)])[0]
            assert answer.answer is Answer.ACCEPTED  # and not committed yet: nobody knows
            other.start()
            say(loan, "COMMIT")
        other.join()

        assert one(told).answer is Answer.REFUSED
        assert book.run(run).outcome is Outcome.SUCCEEDED

    # --- join ---

    def test_what_is_joined_appears_with_the_owners_commit_and_goes_with_their_rollback(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        row = book.create("there")
        for end in ("ROLLBACK", "COMMIT"):
            with sharing.lend() as loan:
                joined = sharing.join(loan.connection)
                creation = book.creation("new")
                assert one(joined.put([creation])).answer is Answer.ACCEPTED
                asked = book.asked(row, "now")
                request = Request(schedule_id=row.id, expected_version=row.version, run=asked)
                assert joined.request([request]) == [Answer.ACCEPTED]
                assert [each.name for each, _ in joined.owing(["new"])] == ["new"]
                if not sharing.alone:
                    assert store.owing(["new"]) == []
                say(loan, end)
            there = (store.run(asked.id) is not None, bool(store.owing(["new"])))
            assert there == ((True, True) if end == "COMMIT" else (False, False))

    def test_events_of_a_joined_transaction_stop_nobody_and_come_after_those_before_its_commit(
        self, book: Book, store: Store
    ) -> None:
        if (sharing := self.shared(store)) is None:
            return
        with sharing.lend() as loan:
            sharing.join(loan.connection).put([book.creation("joined")])
            if not sharing.alone:
                book.create("meanwhile")
            say(loan, "COMMIT")
        if sharing.alone:
            book.create("meanwhile")

        store.announce(book.node())

        names = [event.schedule for event in book.events("schedule.created")]
        assert sorted(names, key=str) == ["joined", "meanwhile"]
        assert names == (["joined", "meanwhile"] if sharing.alone else ["meanwhile", "joined"])

    def test_a_verb_that_raises_within_a_transaction_leaves_it_usable(self, book: Book, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        with sharing.lend() as loan:
            joined = sharing.join(loan.connection)
            row = one(joined.put([book.creation("first")])).schedule
            assert row is not None
            twice = [book.new_run(row, book.now)] * 2
            second = book.creation("second", requests=twice)
            with pytest.raises(OnebeatError):
                joined.put([second])
            joined.put([book.creation("third")])
            say(loan, "COMMIT")

        assert [row.name for row, _ in store.owing(["first", "second", "third"])] == ["first", "third"]

    def test_a_connection_without_a_transaction_is_refused(self, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        with sharing.lend() as loan:
            say(loan, "ROLLBACK")
            with pytest.raises(InvalidInput, match="autocommit"):
                sharing.join(loan.connection)

    def test_something_else_than_a_connection_is_refused(self, store: Store) -> None:
        if (sharing := self.shared(store)) is None:
            return
        with pytest.raises(InvalidInput, match="is no connection of"):
            sharing.join(object())
