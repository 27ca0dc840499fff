"""The suite on the law, C and R: a case for each choice of the protocol that a store can get wrong."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from onebeat.core.messages import (
    Answer,
    AnyTransition,
    Cancel,
    Done,
    Expire,
    Finish,
    HandOver,
    Lost,
    Park,
    Release,
    Renew,
    Retry,
    Sent,
    Start,
    Unpark,
)
from onebeat.core.model import Outcome, Overlap, Reason, Run, RunState
from onebeat.testing.conformance_stage import (
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    Book,
    Stage,
    one,
)

BROKEN = Done(state=RunState.FAILED, reason="lost")
FREES: dict[str, Callable[[Run], AnyTransition]] = {
    "a finish": lambda run: Finish(
        run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=Done(state=RunState.SUCCEEDED)
    ),
    "a loss": lambda run: Lost(run_id=run.id, token=run.token, verdict=BROKEN),
    "a cancel": lambda run: Cancel(run_id=run.id),
    "a release after a cancel": lambda run: Release(run_id=run.id, token=run.token),
    "a passed deadline": lambda run: Expire(run_id=run.id),
    "a hand-over": lambda run: HandOver(run_id=run.id, attempt=1),
}
HOLDS = ("ready", "sent", "claimed", "started", "parked", "in backoff")


class ChoiceSuite(Stage):
    """C1 to C14, R1: what had two readings once."""

    # --- C: what had two readings ---

    def test_law_c1_an_edit_and_a_settle_of_one_instant_never_both_govern_it(self, book: Book) -> None:
        for name, edit_first in (("edit-first", True), ("settle-first", False)):
            row = book.create(name)
            at = book.clock.advance(MINUTE)
            settle = book.decision(row, book.fired(row, at))
            edit = book.change(row, book.fired(row, at), definition=book.definition(priority=1))

            if edit_first:
                assert book.put(edit).answer is Answer.ACCEPTED
                assert book.settle(settle) == (False,)
            else:
                assert book.settle(settle) == (True,)
                assert book.put(edit).answer is Answer.STALE

            assert list(book.states(name)) == [book.new_run(row, at).id]

    def test_law_c1_an_edit_that_changes_nothing_bumps_the_version_all_the_same(self, book: Book) -> None:
        row = book.accept(book.change(book.create(), paused="", next_at=None))
        slow = book.change(row, paused=None)

        again = book.accept(book.change(row, paused="", next_at=None))

        assert again.version == row.version + 1
        assert book.put(slow).answer is Answer.STALE

    def test_law_c1_the_clock_at_commit_is_kept_beside_the_cut(self, book: Book) -> None:
        row = book.create()
        cut = book.now
        edit = book.change(row)
        commit = book.clock.advance(SECOND / 2)

        book.accept(edit)

        change = book.store.trail(row.id)[-1]
        assert (change.cut_at, change.committed_at) == (cut, commit)

    def test_law_c2_a_skip_in_the_list_does_not_move_the_mark(self, book: Book) -> None:
        row = book.create()
        skip = row.settled_until + HOUR

        listed = book.accept(book.change(row, skips=(skip,), settled_until=row.settled_until))

        assert (listed.settled_until, listed.skips) == (row.settled_until, (skip,))
        at = book.clock.advance(MINUTE)
        assert book.settle(book.decision(listed, book.fired(listed, at))) == (True,)
        assert book.row().skips == (skip,)

    def test_law_c3_a_finish_whose_answer_was_lost_is_repeated_and_not_refused(self, book: Book) -> None:
        book.create()
        run = book.running()
        assert book.finish(run).answer is Answer.ACCEPTED
        before = book.picture()

        assert book.finish(run).answer is Answer.REPEATED
        assert book.finish(run, RunState.FAILED).answer is Answer.REFUSED

        assert book.picture() == before

    def test_law_c3_a_repeated_finish_promotes_nobody_a_second_time(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        run = book.running()
        for _ in range(2):
            book.fire(state=RunState.WAITING)
        book.finish(run)

        book.finish(run)

        assert sorted(book.states().values()) == [RunState.READY, RunState.SUCCEEDED, RunState.WAITING]

    def test_law_c4_the_start_mark_tells_whether_a_body_may_have_run(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        claimed, started = book.running(), book.running()
        assert book.advance(Start(run_id=started.id, token=started.token)).answer is Answer.ACCEPTED
        book.clock.advance(2 * HOUR)

        overdue = {each.run.id: each.run.started_at for each in book.store.lost(book.now, 10)}

        assert overdue[claimed.id] is None
        assert overdue[started.id] is not None
        released = [
            book.advance(Release(run_id=run.id, token=run.token)).answer for run in (claimed, started)
        ]
        assert released == [Answer.ACCEPTED, Answer.REFUSED]

    def test_law_c4_a_start_makes_a_verdict_on_what_had_not_started_void(self, book: Book) -> None:
        # Its body may have begun since it was judged: with on_lost="fail" it must not begin a second time.
        book.create()
        run = book.running()
        book.clock.advance(2 * HOUR)
        overdue = one(book.store.lost(book.now, 10)).run
        again = Lost(run_id=run.id, token=run.token, verdict=Retry(at=book.now), started=False)
        assert overdue.started_at is None
        assert book.advance(Start(run_id=run.id, token=run.token)).answer is Answer.ACCEPTED

        lost = book.advance(again)

        assert lost.answer is Answer.REFUSED
        assert book.run(run).state is RunState.RUNNING
        assert book.advance(replace(again, verdict=BROKEN, started=True)).answer is Answer.ACCEPTED

    def test_law_c4_a_run_that_failed_for_being_lost_is_never_claimed_again(self, book: Book) -> None:
        book.create()
        run = book.running()
        book.advance(Start(run_id=run.id, token=run.token))
        book.clock.advance(2 * HOUR)

        book.advance(Lost(run_id=run.id, token=run.token, verdict=BROKEN))

        after = book.run(run)
        assert (after.state, after.outcome) == (RunState.FAILED, Outcome.LOST)
        assert book.claim() == []
        assert book.finish(run).answer is Answer.REFUSED

    @pytest.mark.parametrize("how", HOLDS)
    def test_law_c5_what_is_unfinished_holds_its_slot(self, how: str, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        run = book.fire()
        steps: dict[str, Callable[[Run], AnyTransition]] = {
            "sent": lambda run: Sent(run_id=run.id, attempt=1, resend_at=None),
            "started": lambda run: Start(run_id=run.id, token=run.token),
            "parked": lambda run: Park(run_id=run.id, reason="x"),
            "in backoff": lambda run: Finish(
                run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=Retry(at=book.now + HOUR)
            ),
        }
        if how in ("claimed", "started", "in backoff"):
            run = one(book.claim()).run
        if how in steps:
            assert book.advance(steps[how](run)).answer is Answer.ACCEPTED

        waiting = book.fire(state=RunState.WAITING)

        assert book.run(waiting).state is RunState.WAITING
        load = one(book.store.due(book.now + HOUR, 10).rows).load
        assert (load.live, load.waiting, load.last_waiting) == (1, 1, waiting.id)

    @pytest.mark.parametrize("how", FREES)
    def test_law_c5_whatever_frees_a_slot_promotes_in_the_same_step(self, how: str, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        run = book.fire(deadline_at=book.now + HOUR)
        waiting = [book.fire(state=RunState.WAITING) for _ in range(2)]
        if how in ("a finish", "a loss", "a release after a cancel"):
            run = one(book.claim(until=book.now + HOUR)).run
        if how == "a release after a cancel":
            book.advance(Cancel(run_id=run.id))
        book.clock.advance(2 * HOUR)
        version = book.row().version

        assert book.advance(FREES[how](run)).answer is Answer.ACCEPTED

        assert book.run(waiting[0]).state is RunState.READY
        assert book.run(waiting[1]).state is RunState.WAITING
        assert book.row().version == version

    def test_law_c5_a_retry_keeps_its_slot_and_promotes_nobody(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        run = book.running()
        waiting = book.fire(state=RunState.WAITING)

        verdict = Retry(at=book.now)
        book.advance(Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=verdict))

        assert book.run(waiting).state is RunState.WAITING

    def test_law_c5_a_replacement_flags_what_was_claimed_since_it_was_decided(self, book: Book) -> None:
        book.create(overlap=Overlap.CANCEL_RUNNING)
        ready = book.fire()
        row = book.row()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, at, RunState.WAITING), cancel_older=True)

        claimed = one(book.claim()).run
        assert book.settle(decision) == (True,)

        assert book.run(ready) == replace(claimed, cancel_requested=True)
        new = book.new_run(row, at).id
        assert book.run(new).state is RunState.WAITING
        book.advance(
            Finish(run_id=ready.id, token=claimed.token, outcome=Outcome.FAILED, verdict=Retry(at=book.now))
        )
        assert book.run(ready).state is RunState.CANCELLED
        assert book.run(new).state is RunState.READY

    def test_law_c5_a_flagged_run_that_is_lost_ends_cancelled(self, book: Book) -> None:
        book.create()
        run = book.running()
        book.advance(Cancel(run_id=run.id))
        book.clock.advance(2 * HOUR)

        book.advance(Lost(run_id=run.id, token=run.token, verdict=Retry(at=book.now)))

        after = book.run(run)
        assert (after.state, after.outcome) == (RunState.CANCELLED, Outcome.LOST)
        assert after.finished_at == book.now

    def test_law_c5_later_occurrences_extend_what_a_waiting_run_stands_for(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ONE)
        book.running()
        waiting = book.fire(state=RunState.WAITING)
        first = book.now
        for count in (1, 60):
            at = book.clock.advance(count * MINUTE)
            row = book.row()
            tile = book.folded(waiting.id, at, after=row.settled_until, count=count)
            assert book.settle(book.decision(row, tile)) == (True,)

        after = book.run(waiting)

        assert after == replace(waiting, fold=book.fold(first, book.now, 62))
        tiles = book.store.tiles(waiting.schedule_id, first, book.now)
        assert [(tile.run_id, tile.count) for tile in tiles] == [(waiting.id, 1), (waiting.id, 60)]

    def test_law_c5_what_was_asked_for_and_waits_stands_for_what_is_folded_into_it(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ONE)
        book.running()
        now = book.request("a", "now", RunState.WAITING)
        at = book.clock.advance(MINUTE)
        row = book.row()

        assert book.settle(book.decision(row, book.folded(now.id, at, after=row.settled_until))) == (True,)

        assert book.run(now).fold == book.fold(at, at, 1)

    @pytest.mark.parametrize("how", ["promoted", "cancelled", "never there"])
    def test_law_c5_what_folds_into_a_run_that_no_longer_waits_loses(self, how: str, book: Book) -> None:
        book.create("b")
        book.create(overlap=Overlap.QUEUE_ONE)
        first = book.running()
        waiting = book.fire(state=RunState.WAITING)
        at = book.clock.advance(MINUTE)
        row, other = book.row(), book.row("b")
        into = "a@never" if how == "never there" else waiting.id
        decision = book.decision(row, book.folded(into, at, after=row.settled_until))
        if how == "promoted":
            book.finish(first)
        elif how == "cancelled":
            book.advance(Cancel(run_id=waiting.id))
        before = book.run(waiting), book.row(), book.events()

        assert book.settle(decision, book.decision(other)) == (False, True)

        assert (book.run(waiting), book.row(), book.events()) == before

    def test_law_c6_tokens_grow_across_the_runs_of_a_schedule(self, book: Book) -> None:
        book.create()
        zombie = book.running(until=book.now + 2 * MINUTE)
        book.clock.advance(HOUR)
        book.advance(Lost(run_id=zombie.id, token=zombie.token, verdict=BROKEN))
        book.clock.advance(-2 * HOUR)

        book.request("a", "next", ready_at=book.now)
        successor = one(book.claim()).run

        assert successor.id != zombie.id
        assert successor.token > zombie.token

    def test_law_c10_each_settlement_keeps_both_its_marks(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        start = row.settled_until
        book.fire()
        at = book.clock.advance(MINUTE)
        book.settle(book.decision(book.row(), book.skipped(book.row(), at, count=4)))
        book.fire()

        tiles = book.store.tiles(row.id, start, book.now)

        marks = [(tile.mark_before, tile.mark_after, tile.count, tile.fired) for tile in tiles]
        assert marks == [
            (start, start + MINUTE, 1, True),
            (start + MINUTE, start + 2 * MINUTE, 4, False),
            (start + 2 * MINUTE, start + 3 * MINUTE, 1, True),
        ]
        assert tiles[1].reason == Reason.MISFIRE

    def test_law_c11_a_backfill_moves_no_mark_and_leaves_no_tile(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        settled = book.fire()
        row = book.row()
        tiles = book.store.tiles(row.id, row.settled_until - HOUR, book.now)

        stands_for = book.request("a", "backfill-1", occurrence_at=settled.occurrence_at)

        assert stands_for.id != settled.id
        assert (stands_for.mark_before, stands_for.mark_after) == (None, None)
        after = book.row()
        assert (after.settled_until, after.next_at) == (row.settled_until, row.next_at)
        assert book.store.tiles(row.id, row.settled_until - HOUR, book.now) == tiles

    def test_law_c12_new_zone_data_moves_what_comes_next_and_not_the_mark(self, book: Book) -> None:
        row = book.create()
        rebased = book.change(
            row,
            action="schedule.rebased",
            settled_until=row.settled_until,
            next_at=book.now + HOUR,
            tz_version="2026.2",
        )

        after = book.accept(rebased)

        assert (after.tz_version, after.next_at) == ("2026.2", book.now + HOUR)
        assert (after.settled_until, after.number) == (row.settled_until, row.number)
        assert [change.tz_version for change in book.store.trail(row.id)] == ["", "2026.2"]

    def test_law_c14_a_pause_leaves_runs_alone_and_a_resume_settles_one_range(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        running = book.running()
        waiting = book.fire(state=RunState.WAITING)
        paused = book.accept(book.change(book.row(), action="schedule.paused", paused="", next_at=None))
        assert book.run(waiting) == waiting
        at = book.clock.advance(HOUR)
        assert book.store.due(at, 10).rows == ()

        book.finish(running)
        tile = replace(book.skipped(paused, at, count=60), reason=Reason.PAUSED)
        resumed = book.accept(book.change(paused, tile, action="schedule.resumed", paused=None))

        assert book.run(waiting).state is RunState.READY
        event = one(book.events("occurrence.skipped"))
        assert (event.reason, event.count, event.mark_after) == ("paused", 60, at)
        assert resumed.next_at == at + MINUTE

    def test_law_c14_a_thousand_rows_set_aside_fill_no_limit(self, book: Book) -> None:
        rows = [
            answer.schedule for answer in book.store.put([book.creation(f"bad-{n:04}") for n in range(1000)])
        ]
        good = book.create("good")
        book.store.put([book.change(row, quarantined="bad", next_at=None) for row in rows if row is not None])
        book.clock.advance(HOUR)

        assert [owing.id for owing in book.store.due(book.now, 5).rows] == [good.id]

    # --- R: who bumps and who does not ---

    def test_law_r1_creators_bump_and_finishers_do_not(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL, attempts=2)

        def version() -> int:
            return book.row().version

        seen = [version()]
        book.fire()
        seen.append(version())
        book.request("a", "k", RunState.WAITING)
        seen.append(version())
        book.accept(book.change(book.row()))
        seen.append(version())
        assert seen == [1, 2, 3, 4]

        run = one(book.claim()).run
        book.advance(Start(run_id=run.id, token=run.token))
        book.advance(Renew(run_id=run.id, token=run.token, until=book.now + HOUR))
        book.finish(run)
        promoted = book.run("a!k")
        assert promoted.state is RunState.READY
        book.advance(Park(run_id=promoted.id, reason="x"))
        book.advance(Unpark(run_id=promoted.id))
        book.advance(Cancel(run_id=promoted.id))
        assert version() == 4

    def test_law_r1_a_schedule_that_allows_overlap_never_queues(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        for _ in range(3):
            book.running()

        assert one(book.store.due(book.now + HOUR, 10).rows).load.waiting == 0
        assert set(book.states().values()) == {RunState.RUNNING}

    def test_law_r1_the_limit_holds_over_every_order_of_ends(self, book: Book) -> None:
        limit = 2
        book.create(overlap=Overlap.QUEUE_ALL, max_running=limit)
        for number in range(8):
            book.fire(state=RunState.READY if number < limit else RunState.WAITING)
        live = {RunState.READY, RunState.RUNNING}
        left = 8

        while left:
            states = list(book.states().values())
            assert sum(state in live for state in states) == min(limit, left)
            claimed = book.claim()[-1].run if left % 2 else book.claim(limit=1)[0].run
            assert book.finish(claimed).answer is Answer.ACCEPTED
            for other in [run for run, state in book.states().items() if state is RunState.RUNNING]:
                run = book.run(other)
                assert book.advance(Release(run_id=run.id, token=run.token)).answer is Answer.ACCEPTED
            left -= 1

        assert set(book.states().values()) == {RunState.SUCCEEDED}

    def test_law_i1_what_was_settled_stays_settled_when_the_clock_goes_back(self, book: Book) -> None:
        row = book.create()
        fired = book.fire()
        book.clock.advance(-HOUR)

        assert book.store.due(book.now, 10).rows == ()
        assert book.row().settled_until == fired.occurrence_at
        assert fired.occurrence_at is not None
        early = book.store.settle(fired.occurrence_at - MICROSECOND, [book.decision(row)])
        assert early.early_by is not None
