"""The suite on schedules: put, its cut and its answers; tombstones; holds."""

import pytest
from msgspec.structs import replace

from onebeat.core.messages import Answer, Due, Hold, Request, ScheduleQuery
from onebeat.core.model import Definition, Fold, Overlap, Reason, RunState, Target
from onebeat.core.ports import CUT_AGE_MAX
from onebeat.testing.conformance_stage import HOUR, MICROSECOND, MINUTE, SECOND, TARGET, Book, Stage, one


class PutSuite(Stage):
    """Every sentence of ``Ledger.put`` and ``Ledger.hold``."""

    def test_a_created_schedule_reads_back_as_it_was_put(self, book: Book) -> None:
        definition = Definition(
            trigger=book.definition().trigger,
            target=Target(kind="python", address="a:b", args=(1, "é", None), kwargs={"k": [1.5]}, queue="q"),
            policy=book.definition(overlap=Overlap.ALLOW, grace=SECOND / 4, retry_on=("OSError",)).policy,
            title="每日报告",
            tags=("x", "y"),
        )
        edit = book.creation("a", definition)
        skips = (book.now + HOUR + MICROSECOND,)
        wanted = replace(
            edit.after, skips=skips, owner="me", revision=7, applied=definition, tz_version="2026.1"
        )

        row = book.accept(replace(edit, after=wanted))

        assert row.id > 0
        assert replace(row, id=0) == wanted
        assert book.row() == row
        assert book.store.schedules(ScheduleQuery()) == [row]

    def test_ids_grow_and_every_answer_stands_where_its_edit_stood(self, book: Book) -> None:
        old = book.create("m")

        answers = book.store.put([book.creation("z"), book.change(old), book.creation("a")])

        assert [answer.answer for answer in answers] == [Answer.ACCEPTED] * 3
        rows = [answer.schedule for answer in answers]
        assert [row.name for row in rows if row] == ["z", "m", "a"]
        assert len({row.id for row in rows if row}) == 3

    def test_a_version_that_is_not_the_expected_one_is_stale_and_changes_nothing(self, book: Book) -> None:
        first = book.create()
        second = book.accept(book.change(first))
        before = book.picture()

        answer = book.put(book.change(first, paused="mine"))

        assert (answer.answer, answer.schedule) == (Answer.STALE, second)
        assert book.picture() == before

    def test_creating_over_a_row_that_is_there_is_stale(self, book: Book) -> None:
        row = book.create()
        before = book.picture()

        answer = book.put(book.creation())

        assert (answer.answer, answer.schedule) == (Answer.STALE, row)
        assert book.picture() == before

    def test_an_edit_of_a_row_that_is_not_there_is_stale(self, book: Book) -> None:
        edit = replace(book.creation(), expected_version=3)

        answer = book.put(edit)

        assert (answer.answer, answer.schedule) == (Answer.STALE, None)
        assert book.store.schedules(ScheduleQuery(deleted=True)) == []

    def test_a_loser_does_not_hold_up_the_others_of_its_batch(self, book: Book) -> None:
        old = book.create("a")
        book.accept(book.change(old))

        answers = book.store.put([book.change(old), book.creation("b")])

        assert [answer.answer for answer in answers] == [Answer.STALE, Answer.ACCEPTED]
        assert book.row("b").name == "b"

    def test_one_schedule_twice_in_a_batch_is_an_error_and_changes_nothing(self, book: Book) -> None:
        row = book.create()
        before = book.picture()

        with pytest.raises(ValueError, match="twice"):
            book.store.put([book.change(row), book.change(row)])
        with pytest.raises(ValueError, match="twice"):
            book.store.put([book.creation("b"), book.creation("b")])

        assert book.picture() == before

    def test_a_repeated_edit_answers_what_was_committed_then(self, book: Book) -> None:
        edit = book.creation()
        first = book.put(edit)
        later = book.accept(book.change(book.row(), paused="later"))
        before = book.picture()

        again = book.put(edit)

        assert again.answer is Answer.REPEATED
        assert (again.schedule, again.cut_at) == (first.schedule, first.cut_at)
        assert book.row() == later
        assert book.picture() == before

    def test_a_repeated_edit_is_known_even_when_its_cut_is_old(self, book: Book) -> None:
        edit = book.creation()
        book.put(edit)
        book.clock.advance(HOUR)

        assert book.put(edit).answer is Answer.REPEATED

    # --- the cut ---

    def test_the_answer_says_which_cut_is_in_force(self, book: Book) -> None:
        row = book.create()
        cut = book.now
        book.clock.advance(SECOND)

        answer = book.put(book.change(row, cut_at=cut))

        assert (answer.answer, answer.cut_at) == (Answer.ACCEPTED, cut)

    def test_a_cut_that_the_stores_clock_has_not_reached_is_stale(self, book: Book) -> None:
        row = book.create()
        before = book.picture()

        answer = book.put(book.change(row, cut_at=book.now + MICROSECOND))

        assert (answer.answer, answer.schedule) == (Answer.STALE, row)
        assert book.picture() == before

    def test_a_cut_may_be_as_old_as_the_limit_and_no_older(self, book: Book) -> None:
        row = book.create()
        edit = book.change(row)
        book.clock.advance(CUT_AGE_MAX + MICROSECOND)

        assert book.put(edit).answer is Answer.STALE
        book.clock.advance(-MICROSECOND)
        assert book.put(edit).answer is Answer.ACCEPTED

    def test_after_the_clock_went_back_the_last_cut_is_accepted(self, book: Book) -> None:
        row = book.create()
        book.clock.advance(-HOUR)

        assert book.put(book.change(row, cut_at=row.cut_at + MICROSECOND)).answer is Answer.STALE
        assert book.put(book.change(row, cut_at=row.cut_at)).answer is Answer.ACCEPTED

    def test_an_edit_that_folds_into_a_run_which_no_longer_waits_is_stale(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ONE)
        first = book.running()
        waiting = book.fire(state=RunState.WAITING)
        at = book.clock.advance(MINUTE)
        row = book.row()
        edit = book.change(row, book.folded(waiting.id, at, after=row.settled_until))
        book.finish(first)
        before = book.picture()

        answer = book.put(edit)

        assert (answer.answer, answer.schedule) == (Answer.STALE, row)
        assert book.picture() == before

    def test_an_edit_extends_the_waiting_run_that_it_folds_into(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ONE)
        book.running()
        waiting = book.fire(state=RunState.WAITING)
        at = book.clock.advance(MINUTE)
        row = book.row()

        book.accept(book.change(row, book.folded(waiting.id, at, after=row.settled_until)))

        assert book.run(waiting).fold == book.fold(at - MINUTE, at, 2)

    # --- what appears together ---

    def test_an_edit_writes_row_runs_events_and_trail_together(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        start = row.settled_until
        at = book.clock.advance(3 * MINUTE)
        fired = book.fired(row, start + 2 * MINUTE, after=start + MINUTE)
        assert fired.run is not None
        tiles = (
            book.skipped(row, start + MINUTE),
            fired,
            book.folded(fired.run.id, start + 2 * MINUTE + SECOND, after=start + 2 * MINUTE),
        )
        wanted = book.definition(overlap=Overlap.ALLOW, priority=3)
        edit = book.change(row, *tiles, definition=wanted, requests=[book.asked(row, "now")])

        after = book.accept(edit)

        assert after == replace(edit.after, id=row.id)
        assert sorted(book.states()) == ["a!now", book.new_run(row, start + 2 * MINUTE).id]
        skip, fold, action = book.events(after=1)
        assert (skip.kind, skip.reason, skip.count) == ("occurrence.skipped", Reason.MISFIRE, 1)
        assert (fold.kind, fold.run_id) == ("occurrence.folded", fired.run.id)
        assert (action.kind, action.actor, action.reason) == ("schedule.edited", "ada", "because")
        assert all(event.at == at and event.schedule == "a" for event in (skip, fold, action))
        assert {event.schedule_id for event in (skip, fold, action)} == {row.id}
        change = book.store.trail(row.id)[-1]
        assert (change.edit_id, change.version, change.number) == (edit.id, 2, 2)
        assert (change.cut_at, change.boundary_at, change.committed_at) == (at, at, at)
        assert (change.action, change.actor, change.reason) == ("schedule.edited", "ada", "because")
        assert (change.definition, change.settled_until) == (wanted, at)

    def test_what_was_owed_fires_under_the_old_definition_and_a_request_under_the_new(
        self, book: Book
    ) -> None:
        row = book.create(overlap=Overlap.ALLOW, priority=1)
        at = book.clock.advance(MINUTE)
        moved = Target(kind="python", address="new:home", queue="fast")
        wanted = book.definition(target=moved, overlap=Overlap.ALLOW, priority=2)

        book.accept(
            book.change(row, book.fired(row, at), definition=wanted, requests=[book.asked(row, "now")])
        )

        owed, asked = book.run(book.new_run(row, at).id), book.run("a!now")
        assert (owed.number, owed.queue, owed.target, owed.priority) == (1, "default", TARGET.key, 1)
        assert (asked.number, asked.queue, asked.target, asked.priority) == (2, "fast", moved.key, 2)
        assert book.store.definition(row.id, 1) == row.definition
        assert book.store.definition(row.id, 2) == wanted

    def test_the_stretch_up_to_the_boundary_is_a_tile_that_holds_nothing(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        start = row.settled_until
        book.clock.advance(MINUTE + SECOND)
        tile = book.fired(row, start + MINUTE)

        after = book.accept(book.change(row, tile))

        fired, rest = book.store.tiles(row.id, start, book.now)
        assert (fired.mark_before, fired.mark_after, fired.count) == (start, start + MINUTE, 1)
        assert (rest.mark_before, rest.mark_after, rest.count) == (start + MINUTE, after.settled_until, 0)
        assert not rest.fired

    def test_an_edit_that_leaves_the_mark_where_it_is_leaves_no_tile(self, book: Book) -> None:
        row = book.create()
        book.clock.advance(MINUTE)

        edit = book.change(row, settled_until=row.settled_until)
        book.accept(replace(edit, boundary_at=row.settled_until))

        assert book.store.tiles(row.id, row.settled_until - MINUTE, book.now) == []

    def test_an_edit_that_keeps_the_number_keeps_the_definition(self, book: Book) -> None:
        row = book.create()
        other = book.definition(priority=9)
        edit = book.change(row, definition=other)

        book.accept(replace(edit, after=replace(edit.after, number=row.number)))

        assert book.row().definition == row.definition
        assert book.store.definition(row.id, row.number) == row.definition

    def test_a_mark_of_an_edit_covers_what_its_fold_stands_for(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        start = row.settled_until
        book.clock.advance(HOUR)
        fold = Fold(first_at=start + MINUTE, last_at=book.now, count=60)

        book.accept(book.change(row, book.fired(row, book.now, count=60, fold=fold)))

        tile = one(book.store.tiles(row.id, start, book.now))
        assert (tile.count, tile.mark_before, tile.mark_after) == (60, start, book.now)
        assert book.run(tile.run_id or "").fold == fold

    # --- slots ---

    def test_widening_the_limit_promotes_waiting_runs_oldest_first(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        live = book.fire()
        second, third, fourth = (book.fire(state=RunState.WAITING) for _ in range(3))

        wanted = book.definition(overlap=Overlap.QUEUE_ALL, max_running=3)
        book.accept(book.change(book.row(), definition=wanted))

        ready = {id for id, state in book.states().items() if state is RunState.READY}
        assert ready == {live.id, second.id, third.id}
        assert book.run(fourth).state is RunState.WAITING

    def test_an_edit_to_allow_promotes_all_that_waited(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        for state in (RunState.READY, *[RunState.WAITING] * 3):
            book.fire(state=state)

        book.accept(book.change(book.row(), definition=book.definition(overlap=Overlap.ALLOW)))

        assert set(book.states().values()) == {RunState.READY}

    def test_an_edit_that_replaces_cancels_all_that_is_older_and_none_that_it_creates(
        self, book: Book
    ) -> None:
        book.create(overlap=Overlap.CANCEL_RUNNING)
        started = book.running()
        waiting = book.fire(state=RunState.WAITING)
        row = book.row()
        at = book.clock.advance(MINUTE)

        book.accept(book.change(row, book.fired(row, at, RunState.WAITING), cancel_older=True))

        assert book.run(started).cancel_requested
        assert book.run(waiting).state is RunState.CANCELLED
        assert book.run(waiting).reason
        assert book.run(waiting).finished_at == at
        new = one([run for run in book.states() if run not in (started.id, waiting.id)])
        assert book.run(new).state is RunState.WAITING

    # --- tombstones ---

    def test_a_delete_leaves_a_tombstone_that_is_never_due(self, book: Book) -> None:
        row = book.create()

        book.accept(book.deletion(row))

        tombstone = book.row()
        assert (tombstone.deleted, tombstone.id, tombstone.version) == (True, row.id, row.version + 1)
        assert book.store.schedules(ScheduleQuery()) == []
        assert tombstone in book.store.schedules(ScheduleQuery(deleted=True))
        book.clock.advance(HOUR)
        assert book.store.due(book.now, 10).rows == ()

    def test_a_delete_cancels_what_waits_and_leaves_what_has_a_slot(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL, max_running=2)
        running = book.running()
        ready = book.fire()
        waiting = book.fire(state=RunState.WAITING)

        book.accept(book.deletion(book.row()))

        assert book.run(waiting).state is RunState.CANCELLED
        assert book.run(waiting).reason
        assert book.run(ready) == ready
        assert book.run(running) == running
        assert book.finish(running).answer is Answer.ACCEPTED

    def test_a_name_used_again_goes_on_with_id_and_version(self, book: Book) -> None:
        row = book.create()
        book.accept(book.deletion(row))

        again = book.accept(book.rebirth(book.row()))

        assert (again.id, again.version, again.incarnation) == (row.id, 3, 2)
        assert not again.deleted
        assert [change.action for change in book.store.trail(row.id)] == [
            "schedule.created",
            "schedule.deleted",
            "schedule.created",
        ]

    def test_a_tombstone_does_not_let_a_creator_pass_who_did_not_see_it(self, book: Book) -> None:
        book.accept(book.deletion(book.create()))

        answer = book.put(book.creation())

        assert answer.answer is Answer.STALE
        assert answer.schedule == book.row()

    # --- hold ---

    def test_a_hold_stops_all_firing_and_a_release_lets_it_go_on(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, at))
        hold = Hold(since_at=at, actor="ada", reason="fire drill")

        assert book.store.hold(hold, "h1") is None
        assert book.store.held() == hold
        assert book.store.due(book.now, 10) == Due()
        before = book.picture()
        settled = book.store.settle(at, [decision])
        assert (settled.held, settled.won, settled.early_by) == (True, (), None)
        assert book.picture() == before

        assert book.store.hold(None, "h2") == hold
        assert book.store.held() is None
        assert one(book.store.due(book.now, 10).rows).id == row.id
        assert book.settle(decision) == (True,)

    def test_holding_what_is_held_or_releasing_what_is_not_changes_nothing(self, book: Book) -> None:
        first = Hold(since_at=book.now, actor="ada", reason="first")
        assert book.store.hold(None, "h0") is None
        assert book.events() == []
        book.store.hold(first, "h1")
        before = book.picture()

        assert book.store.hold(Hold(since_at=book.now, actor="bob"), "h2") == first

        assert book.picture() == before

    def test_a_repeated_hold_cannot_undo_what_came_after_it(self, book: Book) -> None:
        hold = Hold(since_at=book.now, actor="ada")
        book.store.hold(hold, "h1")
        book.store.hold(None, "h2")
        before = book.picture()

        assert book.store.hold(hold, "h1") is None
        assert book.store.hold(None, "h2") == hold

        assert book.picture() == before

    def test_holds_and_releases_leave_events_that_say_who_and_why(self, book: Book) -> None:
        book.store.hold(Hold(since_at=book.now, actor="ada", reason="fire drill"), "h1")
        book.store.hold(None, "h2")

        held, released = book.events()

        assert (held.kind, held.actor, held.reason) == ("firing.held", "ada", "fire drill")
        assert released.kind == "firing.released"

    def test_what_runs_under_a_hold_goes_on_and_ends(self, book: Book) -> None:
        book.create()
        run = book.running()

        book.store.hold(Hold(since_at=book.now), "h1")

        assert book.finish(run).answer is Answer.ACCEPTED

    def test_an_edit_that_fires_is_stale_under_a_hold_and_changes_nothing(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        edit = book.change(row, book.fired(row, at))
        book.store.hold(Hold(since_at=at), "h1")
        before = book.picture()

        answer = book.put(edit)

        assert (answer.answer, answer.schedule) == (Answer.STALE, row)
        assert book.picture() == before
        book.store.hold(None, "h2")
        assert book.put(edit).answer is Answer.ACCEPTED

    def test_an_edit_that_fires_nothing_may_be_made_under_a_hold(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        book.store.hold(Hold(since_at=at), "h1")

        left = book.accept(book.change(row, settled_until=row.settled_until, next_at=at, paused="mine"))
        skipped = book.accept(book.change(left, book.skipped(left, at)))

        assert (left.settled_until, left.next_at) == (row.settled_until, at)
        assert skipped.settled_until == at
        assert book.states() == {}

    def test_an_edit_that_fired_before_a_hold_is_still_a_repetition_under_it(self, book: Book) -> None:
        row = book.create()
        edit = book.change(row, book.fired(row, book.clock.advance(MINUTE)))
        book.accept(edit)
        book.store.hold(Hold(since_at=book.now), "h1")

        assert book.put(edit).answer is Answer.REPEATED

    def test_what_people_ask_for_starts_under_a_hold(self, book: Book) -> None:
        book.store.hold(Hold(since_at=book.now), "h1")
        edit = book.creation("a")
        asked = book.asked(edit.after, "created")

        row = book.accept(replace(edit, requests=(asked,)))
        book.request("a", "k")

        assert len(book.states(row.name)) == 2

    # --- requests of a stale row ---

    def test_a_request_against_a_tombstone_read_too_early_is_stale(self, book: Book) -> None:
        row = book.create()
        asked = Request(schedule_id=row.id, expected_version=row.version, run=book.asked(row, "k"))
        book.accept(book.deletion(row))

        assert book.store.request([asked]) == [Answer.STALE]
        assert book.states() == {}
