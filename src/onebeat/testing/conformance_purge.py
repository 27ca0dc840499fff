"""The suite on forgetting: ``purge``, and what it leaves."""

import pytest
from msgspec.structs import replace

from onebeat.core.messages import Answer, LogLine, Note, Purged, ScheduleQuery, Tile
from onebeat.core.model import Event, Overlap, Run, RunState, Schedule
from onebeat.testing.conformance_stage import (
    DAY,
    EVERYTHING,
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    Book,
    Stage,
    one,
)


class PurgeSuite(Stage):
    """Every sentence of ``purge``, ``summaries`` and ``provable_from``."""

    def finished(self, book: Book, count: int, name: str = "a") -> list[Run]:
        """Return ``count`` runs of a schedule, each fired and ended in its own minute."""
        runs = []
        for _ in range(count):
            run = book.running(name)
            book.finish(run)
            runs.append(book.run(run))
        return runs

    def purge(self, book: Book, limit: int = EVERYTHING) -> Purged:
        """Purge now, all schedules."""
        return book.store.purge(book.now, limit)

    def tiles(self, book: Book, row: Schedule) -> list[Tile]:
        """Return all tiles of a schedule."""
        return book.store.tiles(row.id, row.created_at - DAY, book.now)

    def test_what_is_within_its_history_stays(self, book: Book) -> None:
        book.create(keep_runs=3, keep_days=30)
        self.finished(book, 3)
        before = book.picture()

        assert self.purge(book) == Purged()

        assert book.picture() == before

    def test_the_newest_runs_stay_and_the_older_ones_go_with_their_lines_and_events(self, book: Book) -> None:
        row = book.create(keep_runs=2)
        first = book.running()
        line = LogLine(at=book.now, attempt=1, level="info", text="hello")
        book.store.note([Note(run_id=first.id, token=first.token, lines=(line,))])
        book.store.record([Event(at=book.now, kind="run.retried", schedule_id=row.id, run_id=first.id)])
        book.finish(first)
        second, third, fourth = self.finished(book, 3)

        purged = self.purge(book)

        assert (purged.runs, purged.events, purged.schedules, purged.next_id) == (2, 0, 0, None)
        assert sorted(book.states()) == sorted([third.id, fourth.id])
        assert book.store.run(second.id) is None
        assert book.store.log(first.id) == []
        assert book.events("run.retried") == []
        assert [tile.run_id for tile in self.tiles(book, row)] == [third.id, fourth.id]

    def test_runs_that_ended_too_long_ago_go(self, book: Book) -> None:
        book.create(keep_days=7)
        old, young = self.finished(book, 2)
        assert old.finished_at is not None

        book.store.purge(old.finished_at + 7 * DAY, EVERYTHING)
        assert len(book.states()) == 2
        book.store.purge(old.finished_at + 7 * DAY + MICROSECOND, EVERYTHING)
        assert list(book.states()) == [young.id]

    def test_unfinished_runs_never_go(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL, max_running=2, keep_runs=0, keep_days=0)
        running = book.running()
        ready = book.fire()
        waiting = book.fire(state=RunState.WAITING)
        before = book.picture()
        book.clock.advance(1000 * DAY)

        assert self.purge(book) == Purged()

        assert book.picture() == before
        assert set(book.states()) == {running.id, ready.id, waiting.id}

    def test_the_trail_the_mark_and_the_row_never_go(self, book: Book) -> None:
        row = book.create(keep_runs=0, keep_days=1)
        self.finished(book, 3)
        row = book.row()
        trail = book.store.trail(row.id)
        book.clock.advance(1000 * DAY)

        self.purge(book)

        assert book.states() == {}
        assert book.row() == row
        assert book.store.trail(row.id) == trail
        assert book.store.definition(row.id, 1) == row.definition

    def test_old_skips_and_folds_go_and_edits_stay(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW, keep_days=1)
        at = book.clock.advance(MINUTE)
        book.settle(book.decision(row, book.skipped(row, at, count=5)))
        book.clock.advance(SECOND)
        book.accept(book.change(book.row()))
        book.clock.advance(2 * DAY)

        purged = self.purge(book)

        assert (purged.runs, purged.events) == (0, 1)
        assert book.events("occurrence.skipped") == []
        assert [event.kind for event in book.events()] == ["schedule.created", "schedule.edited"]

    def test_each_day_leaves_one_summary_that_counts_what_went(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW, keep_runs=0, keep_days=1)
        t0 = row.settled_until  # noon
        t1, t2, t3, t4 = t0 + HOUR, t0 + 2 * HOUR, t0 + 3 * HOUR, t0 + DAY
        book.clock.set(t4)
        run, other = book.new_run(row, t2), book.new_run(row, t4)
        tiles = (
            book.skipped(row, t1, count=7),
            book.fired(row, t2, after=t1, count=3, fold=book.fold(t1, t3, 5)),
            book.folded(run.id, t3, after=t2, count=2),
            book.fired(row, t4, after=t3),
        )
        book.settle(book.decision(row, *tiles))
        for claimed in book.claim():
            book.finish(claimed.run)
        book.clock.advance(2 * DAY)

        self.purge(book)

        assert other.id not in book.states()
        first, second = book.store.summaries(row.id)
        assert (first.day, second.day) == ("2026-11-21", "2026-11-22")
        assert (first.fired, first.folded, first.skipped) == (1, 2 + 2, 7)
        assert (first.mark_before, first.mark_after) == (t0, t3)
        assert (second.fired, second.folded, second.skipped) == (1, 0, 0)
        assert (second.mark_before, second.mark_after) == (t3, t4)
        assert book.store.provable_from(row.id) == t4

    def test_summaries_of_one_day_add_up_over_many_purges(self, book: Book) -> None:
        row = book.create(keep_runs=1)
        start = row.settled_until
        for _ in range(4):
            self.finished(book, 2)
            self.purge(book)

        day = one(book.store.summaries(row.id))

        assert (day.fired, day.folded, day.skipped) == (7, 0, 0)
        assert (day.mark_before, day.mark_after) == (start, start + 7 * MINUTE)

    def test_a_request_goes_without_a_trace_in_the_summaries(self, book: Book) -> None:
        row = book.create(keep_runs=0)
        book.request("a", "k")
        book.finish(one(book.claim()).run)
        book.clock.advance(SECOND)

        assert self.purge(book).runs == 1

        assert book.store.summaries(row.id) == []
        assert book.store.provable_from(row.id) == row.settled_until

    def test_proof_begins_at_the_first_mark_and_moves_with_what_is_forgotten(self, book: Book) -> None:
        row = book.create(keep_runs=1)
        first = row.settled_until
        assert book.store.provable_from(row.id) == first
        runs = self.finished(book, 3)
        assert book.store.provable_from(row.id) == first

        self.purge(book)

        assert book.store.provable_from(row.id) == runs[1].mark_after

    def test_a_purge_stops_at_its_limit_and_says_where_to_go_on(self, book: Book) -> None:
        rows = [book.create(name, keep_runs=1) for name in ("a", "b")]
        for row in rows:
            self.finished(book, 5, row.name)
        steps, from_id = [], 0

        while True:
            purged = book.store.purge(book.now, 3, from_id)
            assert purged.runs + purged.events + purged.schedules <= 3
            steps.append(purged.runs)
            if purged.next_id is None:
                break
            from_id = purged.next_id

        assert sum(steps) == 8
        assert len(book.states()) == 2
        assert [book.run(run).schedule for run in book.states()] in (["a", "b"], ["b", "a"])

    def test_a_purge_begins_with_the_oldest_be_it_a_run_or_a_skip(self, book: Book) -> None:
        book.create(keep_days=1)
        first = book.running()
        book.finish(first)
        row = book.row()
        at = book.clock.advance(MINUTE)
        book.settle(book.decision(row, book.skipped(row, at)))
        book.finish(book.running())
        book.clock.advance(2 * DAY)

        gone = [book.store.purge(book.now, 1) for _ in range(3)]

        assert [(each.runs, each.events) for each in gone] == [(1, 0), (0, 1), (1, 0)]
        assert all(each.next_id == row.id for each in gone)
        assert book.store.purge(book.now, 1) == Purged()

    def test_a_purge_of_nothing_forgets_nothing(self, book: Book) -> None:
        row = book.create(keep_runs=0)
        self.finished(book, 1)
        before = book.picture()

        assert book.store.purge(book.now, 0) == Purged(next_id=row.id)

        assert book.picture() == before

    def test_runs_that_have_not_ended_crowd_nobody_out(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW, keep_runs=1)
        ended = one(self.finished(book, 1))
        for _ in range(3):
            book.fire()

        assert self.purge(book) == Purged()

        assert book.run(ended) == ended

    def test_a_purge_leaves_out_the_schedules_before_its_start(self, book: Book) -> None:
        first, second = (book.create(name, keep_runs=0) for name in ("a", "b"))
        for row in (first, second):
            self.finished(book, 1, row.name)
        book.clock.advance(SECOND)

        book.store.purge(book.now, EVERYTHING, second.id)

        assert [book.run(run).schedule for run in book.states()] == ["a"]

    # --- rows that leave ---

    def buried(self, book: Book, name: str = "a") -> Schedule:
        """Return a row as it was when it was deleted; since then it was purged."""
        book.create(name, keep_days=1)
        self.finished(book, 1, name)
        tombstone = book.accept(book.deletion(book.row(name)))
        book.clock.advance(2 * DAY)
        purged = book.store.purge(book.now, EVERYTHING)
        assert (purged.runs, purged.schedules) == (1, 1)
        return tombstone

    def test_a_tombstone_stays_as_long_as_its_history(self, book: Book) -> None:
        book.create(keep_days=1)
        self.finished(book, 1)
        tombstone = book.accept(book.deletion(book.row()))

        assert self.purge(book) == Purged()

        assert book.row() == tombstone
        assert tombstone in book.store.schedules(ScheduleQuery(deleted=True))

    def test_a_tombstone_without_history_stays_for_as_many_days_as_a_history_would(self, book: Book) -> None:
        tombstone = book.accept(book.deletion(book.create(keep_days=1)))

        book.clock.advance(DAY)
        assert self.purge(book) == Purged()
        assert tombstone in book.store.schedules(ScheduleQuery(deleted=True))
        book.clock.advance(MICROSECOND)
        assert self.purge(book) == Purged(schedules=1)

        assert book.store.schedules(ScheduleQuery(deleted=True)) == []

    def test_a_tombstone_with_unfinished_runs_stays(self, book: Book) -> None:
        book.create(keep_days=1)
        book.running()
        tombstone = book.accept(book.deletion(book.row()))
        book.clock.advance(1000 * DAY)

        assert self.purge(book).schedules == 0

        assert book.row() == tombstone

    def test_a_purged_tombstone_leaves_the_table_and_is_answered_from_the_trail(self, book: Book) -> None:
        tombstone = self.buried(book)

        assert book.store.schedules(ScheduleQuery(deleted=True)) == []
        row = book.row()
        assert row.deleted
        assert (row.id, row.name, row.incarnation) == (tombstone.id, "a", 1)
        assert (row.version, row.settled_until) == (tombstone.version + 1, tombstone.settled_until)
        assert book.store.trail(row.id)[-1].action == "schedule.purged"
        assert book.store.due(book.now, 10).rows == ()

    def test_a_purged_tombstone_goes_on_where_the_last_incarnation_ended(self, book: Book) -> None:
        book.accept(book.deletion(book.create(keep_days=1)))
        edit = book.rebirth(book.row())
        book.accept(replace(edit, after=replace(edit.after, tz_version="2026.1", owner="me", revision=7)))
        last = book.accept(book.deletion(book.row()))
        book.clock.advance(2 * DAY)

        assert self.purge(book).schedules == 1

        row = book.row()
        assert (row.incarnation, row.number, row.tz_version) == (2, last.number, "2026.1")
        assert (row.owner, row.revision) == ("me", 7)
        assert (row.definition, row.cut_at) == (last.definition, last.cut_at)

    def test_a_purged_name_starts_nothing_again(self, book: Book) -> None:
        tombstone = self.buried(book)

        assert book.put(book.creation()).answer is Answer.STALE
        other = book.create("other")
        again = book.accept(book.rebirth(book.row()))

        assert other.id != tombstone.id
        assert (again.id, again.incarnation) == (tombstone.id, 2)
        assert again.version > tombstone.version
        assert book.store.schedules(ScheduleQuery(names=("a",))) == [again]
        assert book.put(book.change(tombstone)).answer is Answer.STALE

    def test_an_ended_one_off_goes_with_its_history_and_never_comes_back_to_fire(self, book: Book) -> None:
        once = book.definition(kind="once", keep_days=1)
        row = book.create("ping", once)
        at = book.clock.advance(MINUTE)
        book.settle(book.decision(row, book.fired(row, at), next_at=None))
        book.finish(one(book.claim()).run)
        assert self.purge(book) == Purged()
        book.clock.advance(2 * DAY)

        purged = self.purge(book)

        assert (purged.runs, purged.schedules) == (1, 1)
        row = book.row("ping")
        assert (row.deleted, row.settled_until) == (True, at)
        assert book.put(book.creation("ping", once)).answer is Answer.STALE

    def test_an_ended_one_off_that_somebody_declares_stays_without_its_history(self, book: Book) -> None:
        edit = book.creation("ping", book.definition(kind="once", keep_days=1))
        row = book.accept(replace(edit, after=replace(edit.after, owner="me", revision=7)))
        at = book.clock.advance(MINUTE)
        book.settle(book.decision(row, book.fired(row, at), next_at=None))
        book.finish(one(book.claim()).run)
        book.clock.advance(2 * DAY)

        purged = self.purge(book)

        assert (purged.runs, purged.schedules) == (1, 0)
        row = book.row("ping")
        assert (row.deleted, row.owner, row.revision, row.settled_until) == (False, "me", 7, at)

    @pytest.mark.parametrize("paused", [None, "by hand"])
    def test_a_one_off_that_has_not_ended_stays(self, paused: str | None, book: Book) -> None:
        once = book.definition(kind="once", keep_days=1)
        row = book.create("ping", once)
        if paused is not None:
            row = book.accept(book.change(row, paused=paused, next_at=None))
        book.clock.advance(2 * DAY)

        assert self.purge(book).schedules == 0

        assert book.row("ping") == row

    def test_a_schedule_that_is_no_one_off_stays_when_it_has_ended(self, book: Book) -> None:
        row = book.accept(book.change(book.create(keep_days=1), next_at=None))
        book.clock.advance(2 * DAY)

        assert self.purge(book).schedules == 0

        assert book.row() == row

    def test_the_ids_of_what_was_forgotten_are_not_given_again(self, book: Book) -> None:
        buried = self.buried(book)
        top = book.events()[-1].id

        assert book.create("b").id > buried.id
        assert book.events()[-1].id > top
