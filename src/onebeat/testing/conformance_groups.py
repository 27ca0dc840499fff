"""The suite on groups: of the runs of one group, of whatever schedules, at most one is out at a time."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Cancel,
    Claimed,
    Done,
    Finish,
    Guard,
    HandOver,
    Lost,
    Park,
    Release,
    Resend,
    Retry,
    RunQuery,
    Sent,
)
from onebeat.core.model import Json, NewRun, Outcome, Overlap, Run, RunState, Target
from onebeat.core.ports import Store
from onebeat.testing.clock import NOON, VirtualClock
from onebeat.testing.conformance_stage import (
    EVERYTHING,
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    TARGET,
    Book,
    Stage,
    one,
)

MAIL = Target(kind="python", address="shop.mail:send", queue="mail")
EVERYWHERE = {"queues": ("default", "mail"), "targets": (TARGET.key, MAIL.key)}
CLAIMERS = 8
CONTESTED = 25  # runs of each of three schedules
PATIENCE_S = 100.0


def grouped(book: Book, *names: str, group: str = "invoices", **policy: Json) -> None:
    """Create schedules of one group, without any limit of their own."""
    for name in names:
        book.create(name, overlap=Overlap.ALLOW, exclusive=group, **policy)


def ids(claimed: list[Claimed]) -> list[str]:
    """Return the runs that were claimed."""
    return [each.run.id for each in claimed]


def guard(run: Run, book: Book) -> Guard:
    """Return what a guard says when the message of a run's first attempt arrives."""
    return Guard(run_id=run.id, attempt=1, holder="engine@x", until=book.now + HOUR, starts=True)


def finish(run: Run, book: Book, verdict: Done | Retry) -> Finish:
    """Return the end of an attempt."""
    return Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=verdict)


FAILED = Done(state=RunState.FAILED)


class GroupSuite(Stage):
    """What ``claim`` and ``advance`` say of groups."""

    def test_one_run_of_a_group_is_out_and_the_others_stay_ready(self, book: Book) -> None:
        grouped(book, "a", "b")
        for name, key in (("a", "1"), ("b", "2"), ("a", "3")):
            book.request(name, key)

        assert ids(book.claim()) == ["a!1"]
        assert book.claim(holder="node-2") == []
        assert book.claim(holder="node-2", sends=True) == []
        assert book.states() == {
            "a!1": RunState.RUNNING,
            "b!2": RunState.READY,
            "a!3": RunState.READY,
        }

    def test_a_run_says_which_group_it_is_of(self, book: Book) -> None:
        grouped(book, "a")
        book.create("b")

        assert book.request("a", "1").exclusive == "invoices"
        assert book.request("b", "1").exclusive is None
        told = {each.run.id: each for each in book.claim()}
        assert told["a!1"].run.exclusive == "invoices"
        assert told["a!1"].run.queue == "default"
        assert told["a!1"].definition.policy.exclusive == "invoices"
        assert book.row("a").definition.policy.exclusive == "invoices"

    def test_the_runs_of_a_group_go_out_in_the_order_of_claiming(self, book: Book) -> None:
        t = book.now
        grouped(book, "a", "b")
        grouped(book, "urgent", priority=3)
        book.request("a", "3", ready_at=t)
        book.request("b", "2", ready_at=t)
        book.request("b", "1", ready_at=t - SECOND)
        book.request("urgent", "4", ready_at=t)

        order = []
        while claimed := book.claim():
            order += ids(claimed)
            book.finish(one(claimed).run)

        assert order == ["urgent!4", "b!1", "a!3", "b!2"]

    def test_a_claim_has_one_of_each_group_and_all_that_have_none(self, book: Book) -> None:
        t = book.now
        grouped(book, "a", "b")
        grouped(book, "c", group="mails")
        book.create("free", overlap=Overlap.ALLOW)
        book.create("high", overlap=Overlap.ALLOW, priority=1)
        for seconds, (name, key) in enumerate(
            [("free", "1"), ("b", "1"), ("a", "1"), ("c", "1"), ("free", "2"), ("c", "2"), ("high", "1")]
        ):
            book.request(name, key, ready_at=t - MINUTE + seconds * SECOND)

        assert ids(book.claim(limit=3)) == ["high!1", "free!1", "b!1"]
        assert ids(book.claim()) == ["c!1", "free!2"]

    def test_a_group_reaches_over_queues_and_targets(self, book: Book) -> None:
        grouped(book, "a")
        book.create("m", book.definition(target=MAIL, overlap=Overlap.ALLOW, exclusive="invoices"))
        book.request("a", "1", ready_at=book.now - SECOND)
        book.request("m", "2")

        assert ids(book.claim()) == ["a!1"]
        assert book.claim(**EVERYWHERE) == []
        book.finish(book.run("a!1"))
        assert ids(book.claim(**EVERYWHERE)) == ["m!2"]

    @pytest.mark.parametrize("priority", [0, 5])
    def test_nobody_has_a_run_before_its_turn_though_the_first_is_for_others(
        self, priority: int, book: Book
    ) -> None:
        # Else whoever is quick would have the group for ever, and who serves another queue never.
        grouped(book, "a")
        other = book.definition(target=MAIL, overlap=Overlap.ALLOW, exclusive="invoices", priority=priority)
        book.create("m", other)
        book.request("m", "1", ready_at=book.now - SECOND)
        book.request("a", "2", ready_at=book.now - SECOND if priority else book.now)

        assert book.claim() == []
        assert ids(book.claim(**EVERYWHERE)) == ["m!1"]
        book.finish(book.run("m!1"))
        assert ids(book.claim()) == ["a!2"]

    @pytest.mark.parametrize("sends", [False, True])
    def test_a_run_that_cannot_go_out_yet_or_any_more_keeps_no_place(self, sends: bool, book: Book) -> None:
        t = book.now
        grouped(book, "a", priority=1)
        grouped(book, "b")
        book.request("a", "later", ready_at=t + MICROSECOND)
        book.request("a", "late", ready_at=t - HOUR, deadline_at=t - MICROSECOND)
        parked = book.request("a", "parked", ready_at=t - HOUR)
        book.advance(Park(run_id=parked.id, reason="nobody can"))
        book.request("b", "1")

        assert ids(book.claim(sends=sends)) == ["b!1"]

    def test_a_run_whose_definition_does_not_decode_keeps_no_place(self, store: Store, book: Book) -> None:
        grouped(book, "broken", "b", "c")
        book.request("broken", "1", ready_at=book.now - 2 * SECOND)
        book.request("b", "2", ready_at=book.now - SECOND)
        book.request("c", "3")
        if not self.documents:
            # Nothing is encoded here, so nothing can fail to decode: the first one goes out.
            assert ids(book.claim()) == ["broken!1"]
            return
        self.break_row(store, "broken")

        assert ids(book.claim(sends=True, until=book.now + MINUTE)) == ["b!2"]
        book.advance(Cancel(run_id="b!2"))
        assert ids(book.claim()) == ["c!3"]

    @pytest.mark.parametrize("way", ["done", "retry", "lost", "lost-for-good", "release"])
    def test_a_leased_run_frees_its_group_when_it_ends_or_is_ready_again(self, way: str, book: Book) -> None:
        grouped(book, "a", "b")
        book.request("a", "1", ready_at=book.now - SECOND)
        book.request("b", "2")
        run = one(book.claim(until=book.now + MINUTE)).run
        book.clock.advance(2 * MINUTE)
        again = Retry(at=book.now + HOUR)
        steps: dict[str, AnyTransition] = {
            "done": finish(run, book, FAILED),
            "retry": finish(run, book, again),
            "lost": Lost(run_id=run.id, token=run.token, verdict=again),
            "lost-for-good": Lost(run_id=run.id, token=run.token, verdict=FAILED),
            "release": Release(run_id=run.id, token=run.token),
        }
        assert book.claim() == []

        assert book.advance(steps[way]).answer is Answer.ACCEPTED

        # What was released became ready when it did, and that is before the other one.
        assert ids(book.claim()) == (["a!1"] if way == "release" else ["b!2"])

    @pytest.mark.parametrize("way", ["cancel", "hand-over", "resend"])
    def test_a_sent_run_has_its_group_until_it_ends_or_comes_back(self, way: str, book: Book) -> None:
        grouped(book, "a", "b")
        book.request("a", "1", ready_at=book.now - SECOND)
        book.request("b", "2")
        run = one(book.claim(sends=True, until=book.now + MINUTE)).run
        book.clock.advance(2 * MINUTE)
        steps: dict[str, AnyTransition] = {
            "cancel": Cancel(run_id=run.id),
            "hand-over": HandOver(run_id=run.id, attempt=1),
            "resend": Resend(run_id=run.id),
        }
        assert book.claim() == []

        assert book.advance(steps[way]).answer is Answer.ACCEPTED

        assert ids(book.claim()) == (["a!1"] if way == "resend" else ["b!2"])

    def test_a_cancel_that_a_holder_has_not_heard_of_frees_nothing(self, book: Book) -> None:
        grouped(book, "a", "b")
        book.request("a", "1", ready_at=book.now - SECOND)
        book.request("b", "2")
        run = one(book.claim()).run

        book.advance(Cancel(run_id=run.id))

        assert book.claim() == []
        book.finish(run, RunState.CANCELLED)
        assert ids(book.claim()) == ["b!2"]

    def test_a_guard_takes_the_run_that_was_sent_and_its_group_stays_taken(self, book: Book) -> None:
        grouped(book, "a", "b")
        book.request("a", "1", ready_at=book.now - SECOND)
        book.request("b", "2")
        run = one(book.claim(sends=True, until=book.now + MINUTE)).run

        assert book.advance(guard(run, book)).answer is Answer.ACCEPTED

        assert book.claim() == []
        book.finish(book.run(run))
        assert ids(book.claim()) == ["b!2"]

    @pytest.mark.parametrize("how", ["guard", "sent"])
    def test_what_lets_a_ready_run_out_is_refused_while_its_group_has_another_out(
        self, how: str, book: Book
    ) -> None:
        # A message that comes late finds its run ready again, and another one of its group at work.
        grouped(book, "a", "b")
        late = book.request("a", "1", ready_at=book.now)
        book.request("b", "2", ready_at=book.now - SECOND)
        other = one(book.claim()).run
        again = book.now + MINUTE
        step = guard(late, book) if how == "guard" else Sent(run_id=late.id, attempt=1, resend_at=again)
        before = book.picture()

        told = book.advance(step)

        assert (told.answer, told.state, told.token) == (Answer.REFUSED, RunState.READY, 0)
        assert book.picture() == before
        book.finish(other)
        assert book.advance(step).answer is Answer.ACCEPTED
        assert book.run(late).state in (RunState.RUNNING, RunState.SENT)
        book.request("b", "3")
        assert book.claim() == []

    def test_in_one_batch_of_transitions_each_finds_the_group_as_those_before_it_left_it(
        self, book: Book
    ) -> None:
        grouped(book, "a", "b", "c")
        runs = [book.request(name, "1", ready_at=book.now) for name in "abc"]
        first = one(book.claim()).run

        told = book.store.advance(
            [
                guard(runs[1], book),
                finish(first, book, FAILED),
                guard(runs[1], book),
                guard(runs[2], book),
            ]
        )

        refused, accepted = Answer.REFUSED, Answer.ACCEPTED
        assert [each.answer for each in told] == [refused, accepted, accepted, refused]
        assert [book.run(run).state for run in runs] == [RunState.FAILED, RunState.RUNNING, RunState.READY]

    def test_a_run_that_a_batch_brings_back_may_go_out_in_the_same_one(self, book: Book) -> None:
        grouped(book, "a", "b")
        book.request("a", "1", ready_at=book.now - SECOND)
        late = book.request("b", "2")
        run = one(book.claim(sends=True, until=book.now + MINUTE)).run
        book.clock.advance(2 * MINUTE)

        told = book.store.advance([Resend(run_id=run.id), guard(late, book), guard(run, book)])

        accepted, refused = Answer.ACCEPTED, Answer.REFUSED
        assert [each.answer for each in told] == [accepted, accepted, refused]
        assert book.advance(guard(run, book)).answer is refused
        book.finish(book.run(late))
        again = book.store.advance([guard(run, book), Cancel(run_id=run.id)])
        assert [each.answer for each in again] == [accepted, accepted]
        assert book.claim() == []

    def test_a_run_keeps_the_group_that_it_was_fired_under(self, book: Book) -> None:
        grouped(book, "a", "b")
        old = book.request("a", "1", ready_at=book.now - MINUTE)
        row = book.row("a")
        moved = replace(row.definition, policy=replace(row.definition.policy, exclusive="mails"))
        book.accept(book.change(row, definition=moved))
        new = book.request("a", "2", ready_at=book.now - SECOND)
        book.request("b", "3")

        assert (book.run(old).exclusive, new.exclusive) == ("invoices", "mails")
        assert ids(book.claim()) == ["a!1", "a!2"]
        book.finish(book.run(new))
        assert book.claim() == []
        book.finish(book.run(old))
        assert ids(book.claim()) == ["b!3"]

    def test_the_limit_of_a_schedule_holds_beside_its_group(self, book: Book) -> None:
        book.create("a", overlap=Overlap.QUEUE_ALL, exclusive="invoices")
        grouped(book, "b")
        first = book.fire("a")
        book.fire("a", RunState.WAITING)
        book.request("b", "1")

        assert ids(book.claim()) == [first.id]
        book.finish(book.run(first))
        assert book.states("a") == {first.id: RunState.SUCCEEDED} | {
            run_id: RunState.READY for run_id in book.states("a") if run_id != first.id
        }
        assert len(book.claim()) == 1
        assert book.claim() == []

    def test_a_run_that_was_purged_keeps_no_group(self, book: Book) -> None:
        grouped(book, "a", "b", keep_days=1)
        book.request("a", "1")
        book.finish(one(book.claim()).run)
        book.clock.advance(timedelta(days=3))
        book.store.purge(book.now, EVERYTHING)
        book.request("b", "2")

        assert book.store.run("a!1") is None
        assert ids(book.claim()) == ["b!2"]

    def test_the_end_of_a_run_wakes_who_waits_for_its_group(self, book: Book, tmp_path: Path) -> None:
        other = self.opener(tmp_path)(book.clock) if self.processes else book.store
        grouped(book, "a", "b")
        book.request("a", "1")
        book.request("b", "2")
        run = one(book.claim()).run
        while other.wait(book.now + SECOND / 2):
            pass  # what was before, and was told of late

        book.finish(run)

        assert other.wait(book.now + PATIENCE_S * SECOND)
        if other is not book.store:
            other.close()

    def test_race_of_many_claimers_never_two_have_a_run_of_one_group(self, tmp_path: Path) -> None:
        clock = VirtualClock(NOON)
        store = self.make_store(clock, tmp_path)
        book = Book(store, clock)
        for name, definition in (
            ("a", book.definition(overlap=Overlap.ALLOW, exclusive="invoices")),
            ("m", book.definition(target=MAIL, overlap=Overlap.ALLOW, exclusive="invoices")),
            ("free", book.definition(overlap=Overlap.ALLOW)),
        ):
            edit = book.creation(name, definition)
            asked: list[NewRun] = [book.asked(edit.after, f"{number:03}") for number in range(CONTESTED)]
            book.accept(replace(edit, requests=tuple(asked)))

        crowd = _Crowd(CONTESTED * 3)
        stores = [self.opener(tmp_path)(clock) if self.processes else store for _ in range(CLAIMERS)]
        crowd.play(stores, clock)

        assert crowd.errors == []
        assert crowd.most == 1
        states = {run.state for run in store.runs(RunQuery(limit=EVERYTHING))}
        assert states == {RunState.SUCCEEDED}
        grouped_runs = [run_id for run_id in crowd.ended if not run_id.startswith("free")]
        assert sorted(set(grouped_runs)) == sorted(grouped_runs)
        assert grouped_runs == sorted(grouped_runs)  # and each in its turn: all were ready at one instant
        for each in {id(each): each for each in (store, *stores)}.values():
            each.close()


class _Crowd:
    """Claimers of one ledger, each on a thread and a store of its own, who look how many are inside."""

    def __init__(self, runs: int) -> None:
        self.errors: list[BaseException] = []
        self.ended: list[str] = []
        self.most = 0
        self._inside = 0
        self._runs = runs
        self._lock = threading.Lock()

    def play(self, stores: list[Store], clock: VirtualClock) -> None:
        """Claim and end until all runs have ended."""
        barrier = threading.Barrier(len(stores))
        threads = [
            threading.Thread(target=self._claim, args=(number, Book(each, clock), barrier), daemon=True)
            for number, each in enumerate(stores)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a claimer did not come to an end"

    def _claim(self, number: int, book: Book, barrier: threading.Barrier) -> None:
        try:
            barrier.wait(PATIENCE_S)
            while len(self.ended) < self._runs and not self.errors:
                served = EVERYWHERE if number % 2 else {}
                for run in [each.run for each in book.claim(holder=f"node-{number}", limit=3, **served)]:
                    self._work(run, book)
        except BaseException as error:  # noqa: BLE001 - told by the thread that looks
            self.errors.append(error)

    def _work(self, run: Run, book: Book) -> None:
        inside = 0 if run.exclusive is None else 1
        with self._lock:
            self._inside += inside
            self.most = max(self.most, self._inside)
        with self._lock:
            self._inside -= inside
            self.ended.append(run.id)
        assert book.finish(run).answer is Answer.ACCEPTED
