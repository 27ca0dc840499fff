"""The suite on settling: due, settle, request, and the slots that they fill."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.messages import Answer, Request, ScheduleQuery, Share
from onebeat.core.model import Load, Overlap, Reason, RunState, shard_of
from onebeat.core.ports import Store
from onebeat.testing.conformance_stage import (
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    TARGET,
    Book,
    Stage,
    one,
)


class SettleSuite(Stage):
    """Every sentence of ``due``, ``broken``, ``settle`` and ``request``."""

    # --- due ---

    def test_a_row_is_due_at_its_instant_and_not_a_microsecond_before(self, book: Book) -> None:
        row = book.create()
        at = row.next_at
        assert at is not None

        assert book.store.due(at - MICROSECOND, 10).rows == ()
        assert book.store.due(at - MICROSECOND, 10).next_at == at
        assert one(book.store.due(at, 10).rows).id == row.id
        assert book.store.due(at, 10).next_at is None

    def test_due_returns_the_longest_due_first_then_by_id(self, book: Book) -> None:
        rows = {name: book.create(name) for name in ("c", "a", "b", "d")}
        late, early = book.now + HOUR, book.now + SECOND
        for name, at in (("c", late), ("a", early), ("b", late), ("d", early)):
            book.accept(book.change(rows[name], next_at=at))

        everything = [owing.name for owing in book.store.due(late, 10).rows]

        assert everything == ["a", "d", "c", "b"]
        assert [owing.name for owing in book.store.due(late, 3).rows] == ["a", "d", "c"]
        assert book.store.due(early, 10).next_at == late

    def test_due_returns_all_that_deciding_needs(self, book: Book) -> None:
        row = book.create(overlap=Overlap.QUEUE_ALL, max_running=1, grace=MINUTE)
        skip = book.now + HOUR
        row = book.accept(book.change(row, skips=(skip,)))
        live = book.fire()
        waiting = [book.fire(state=RunState.WAITING) for _ in range(2)]

        owing = one(book.store.due(book.now + HOUR, 10).rows)

        row = book.row()
        assert (owing.id, owing.name, owing.incarnation, owing.version) == (row.id, "a", 1, row.version)
        assert (owing.trigger, owing.policy) == (row.definition.trigger, row.definition.policy)
        assert (owing.settled_until, owing.next_at) == (row.settled_until, row.next_at)
        assert (owing.paused, owing.skips) == (False, (skip,))
        assert owing.load == Load(live=1, waiting=2, last_waiting=waiting[-1].id)
        assert book.run(live).state is RunState.READY

    def test_each_state_counts_in_the_load_as_it_holds_a_slot(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL, max_running=9)
        book.running()
        book.finish(book.running())
        book.fire()
        book.fire(state=RunState.READY)

        owing = one(book.store.due(book.now + HOUR, 10).rows)

        assert owing.load == Load(live=3)

    def test_dormant_rows_are_never_due(self, book: Book) -> None:
        for name, fields in (
            ("p", {"paused": "why"}),
            ("q", {"quarantined": "bad"}),
            ("d", {"deleted": True}),
        ):
            book.accept(book.change(book.create(name), next_at=None, **fields))

        due = book.store.due(book.now + HOUR, 10)

        assert (due.rows, due.next_at) == ((), None)

    def test_shares_part_the_rows_and_leave_none_out(self, book: Book) -> None:
        names = [f"s{number}" for number in range(20)]
        for name in names:
            book.create(name)
        later = book.now + HOUR

        parts = [
            {owing.name for owing in book.store.due(later, 100, Share(index=index, of=3)).rows}
            for index in range(3)
        ]

        assert parts == [{name for name in names if shard_of(name) % 3 == index} for index in range(3)]
        assert set().union(*parts) == set(names)

    def test_reading_what_is_due_changes_nothing(self, book: Book) -> None:
        book.create()
        before = book.picture()

        book.store.due(book.now + HOUR, 10)
        book.store.lost(book.now + HOUR, 10)
        book.store.broken(10)

        assert book.picture() == before

    def test_a_row_that_does_not_decode_is_named_and_stops_no_neighbour(
        self, book: Book, store: Store
    ) -> None:
        good, bad = book.create("good"), book.create("bad")
        later = book.clock.advance(HOUR)
        if not self.documents:
            # Nothing is encoded here, so nothing can fail to decode: what was put is what stands there.
            assert store.owing(["bad"])[0][0].definition is bad.definition
            assert store.broken(10) == []
            return

        self.break_row(store, "bad")

        assert [owing.name for owing in store.due(later, 10).rows] == ["good"]
        ((name, why),) = store.broken(10)
        assert name == "bad"
        assert why
        listed = {row.name: row for row in store.schedules(ScheduleQuery())}
        assert listed["good"] == good
        assert listed["bad"].quarantined
        assert (listed["bad"].id, listed["bad"].version) == (bad.id, bad.version)

    def test_a_broken_row_is_set_aside_by_an_edit_and_mended_by_another(
        self, book: Book, store: Store
    ) -> None:
        row = book.create()
        if not self.documents:
            assert store.broken(10) == []
            return
        self.break_row(store, "a")
        ((seen, _),) = store.owing(["a"])
        assert seen.quarantined

        aside = book.change(seen, action="schedule.quarantined", quarantined="does not decode", next_at=None)
        book.accept(replace(aside, boundary_at=row.settled_until))

        assert store.broken(10) == []
        ((seen, _),) = store.owing(["a"])
        mended = book.accept(book.change(seen, definition=book.definition(priority=1), quarantined=None))
        assert mended.definition.policy.priority == 1
        assert one(store.due(book.now + HOUR, 10).rows).id == row.id

    # --- settle ---

    def test_a_winner_writes_mark_run_and_next_together(self, book: Book) -> None:
        row = book.create(priority=4)
        at = book.clock.advance(MINUTE)
        late = book.clock.advance(SECOND)

        assert book.settle(book.decision(row, book.fired(row, at))) == (True,)

        after = book.row()
        assert after == replace(row, version=2, settled_until=at, next_at=at + MINUTE)
        run = one(list(map(book.run, book.states())))
        assert (run.id, run.state) == (book.new_run(row, at).id, RunState.READY)
        assert (run.occurrence_at, run.due_at, run.ready_at, run.created_at) == (at, at, at, late)
        assert (run.mark_before, run.mark_after) == (row.settled_until, at)
        assert (run.schedule_id, run.schedule, run.number) == (row.id, "a", 1)
        assert (run.queue, run.target, run.priority) == ("default", TARGET.key, 4)
        assert (run.attempt, run.token, run.outcome, run.holder) == (0, 0, None, None)
        assert run.lateness == SECOND

    def test_a_plain_fire_writes_no_event(self, book: Book) -> None:
        book.create()
        before = book.events()

        book.fire()

        assert book.events() == before

    def test_only_the_first_of_two_equal_decisions_wins(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, at))
        assert book.settle(decision) == (True,)
        before = book.picture()

        assert book.settle(decision) == (False,)

        assert book.picture() == before

    def test_a_loser_of_a_batch_writes_nothing_and_the_others_win(self, book: Book) -> None:
        rows = [book.create(name) for name in ("a", "b", "c")]
        at = book.clock.advance(MINUTE)
        decisions = [book.decision(row, book.fired(row, at)) for row in rows]
        book.accept(book.change(rows[1], paused="", next_at=None, settled_until=rows[1].settled_until))
        paused = book.row("b")

        assert book.settle(*decisions) == (True, False, True)

        assert sorted(book.states()) == [book.new_run(row, at).id for row in (rows[0], rows[2])]
        assert book.row("b") == paused

    def test_an_edit_in_between_makes_a_decision_stale(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.skipped(row, at))
        book.accept(book.change(row))
        before = book.picture()

        assert book.settle(decision) == (False,)

        assert book.picture() == before

    def test_a_decision_on_a_schedule_that_never_was_is_lost(self, book: Book) -> None:
        row = replace(book.create(), id=999)

        assert book.settle(book.decision(row)) == (False,)

    def test_a_settle_before_its_time_is_refused_whole_and_says_by_how_much(self, book: Book) -> None:
        row = book.create()
        ahead = book.now + MINUTE
        before = book.picture()

        settled = book.store.settle(ahead, [book.decision(row, book.fired(row, ahead))])

        assert (settled.early_by, settled.won, settled.held) == (MINUTE, (), False)
        assert settled.at == book.now
        assert book.picture() == before

    def test_a_settle_at_the_very_instant_is_not_early(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, at))

        early = book.store.settle(at + MICROSECOND, [decision])
        on_time = book.store.settle(at, [decision])

        assert early.early_by == MICROSECOND
        assert (on_time.at, on_time.won) == (at, (True,))

    def test_a_settle_says_what_the_clock_was_when_it_committed(self, book: Book) -> None:
        row = book.create()
        decided_at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.fired(row, decided_at))
        committed_at = book.clock.advance(MINUTE)

        settled = book.store.settle(decided_at, [decision])

        assert (settled.at, settled.won) == (committed_at, (True,))

    def test_one_schedule_twice_in_a_batch_of_decisions_is_an_error(self, book: Book) -> None:
        row = book.create()
        at = book.clock.advance(MINUTE)
        decision = book.decision(row, book.skipped(row, at))
        before = book.picture()

        with pytest.raises(ValueError, match="twice"):
            book.store.settle(at, [decision, decision])

        assert book.picture() == before

    def test_an_empty_batch_changes_nothing(self, book: Book) -> None:
        book.create()
        before = book.picture()

        assert book.settle() == ()
        assert book.store.put([]) == []
        assert book.store.request([]) == []
        assert book.store.advance([]) == []

        assert book.picture() == before

    def test_folds_and_skips_leave_one_event_a_tile_and_the_tiles_read_back(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        t0 = row.settled_until
        t1, t2, t3, t4 = (t0 + number * MINUTE for number in (10, 11, 12, 13))
        book.clock.advance(HOUR)
        run = book.new_run(row, t3)
        tiles = (
            book.skipped(row, t1, count=10),
            book.folded(run.id, t2, after=t1),
            book.fired(row, t3, after=t2, fold=book.fold(t2, t4, 3)),
            book.folded(run.id, t4, after=t3),
        )
        seen = book.events()[-1].id

        assert book.settle(book.decision(row, *tiles)) == (True,)

        events = book.events(after=seen)
        assert [event.kind for event in events] == [
            "occurrence.skipped",
            "occurrence.folded",
            "occurrence.folded",
        ]
        assert [event.reason for event in events] == [Reason.MISFIRE, Reason.FOLDED, Reason.FOLDED]
        assert [event.run_id for event in events] == [None, run.id, run.id]
        assert [(event.first_at, event.last_at) for event in events] == [(t1, t1), (t2, t2), (t4, t4)]
        assert all(event.at == book.now for event in events)
        found = book.store.tiles(row.id, t0, t4)
        marks = [(tile.mark_before, tile.mark_after) for tile in found]
        assert marks == [(t0, t1), (t1, t2), (t2, t3), (t3, t4)]
        assert [tile.count for tile in found] == [10, 1, 1, 1]
        assert [tile.fired for tile in found] == [False, False, True, False]
        assert [tile.run_id for tile in found] == [None, run.id, run.id, run.id]
        assert (found[2].occurrence_at, found[2].due_at, found[2].created_at) == (t3, t3, book.now)

    def test_a_decision_without_tiles_still_moves_the_row_on(self, book: Book) -> None:
        row = book.create()
        book.clock.advance(MINUTE)

        assert book.settle(book.decision(row, next_at=None)) == (True,)

        assert book.row() == replace(row, version=2, next_at=None)

    def test_a_decision_shortens_the_skip_list_only_when_it_says_so(self, book: Book) -> None:
        row = book.create()
        first, second = row.settled_until + MINUTE, row.settled_until + 2 * MINUTE
        row = book.accept(book.change(row, skips=(first, second), settled_until=row.settled_until))
        book.clock.advance(HOUR)

        book.settle(book.decision(row))
        assert book.row().skips == (first, second)

        book.settle(book.decision(book.row(), book.skipped(row, first), skips=(second,)))
        assert book.row().skips == (second,)

    def test_a_settlement_that_replaces_cancels_all_that_is_older(self, book: Book) -> None:
        book.create(overlap=Overlap.CANCEL_RUNNING, max_running=2)
        running = book.running()
        ready = book.fire()
        waiting = book.fire(state=RunState.WAITING)
        row = book.row()
        at = book.clock.advance(MINUTE)
        tile = book.fired(row, at, RunState.WAITING)

        assert book.settle(book.decision(row, tile, cancel_older=True)) == (True,)

        assert book.run(running).cancel_requested
        assert book.run(running).state is RunState.RUNNING
        for gone in (ready, waiting):
            assert book.run(gone).state is RunState.CANCELLED
            assert book.run(gone).finished_at == at
            assert book.run(gone).reason
        # A slot of the two is free, for only one holder has not let go: the new run has it at once.
        assert book.run(book.new_run(row, at).id).state is RunState.READY

    # --- requests ---

    def test_a_request_makes_a_run_bumps_the_version_and_moves_no_mark(self, book: Book) -> None:
        row = book.create(priority=2)
        past = row.settled_until - HOUR

        run = book.request("a", "mine", occurrence_at=past)

        assert book.row() == replace(row, version=row.version + 1)
        assert (run.id, run.key, run.state, run.occurrence_at) == ("a!mine", "mine", RunState.READY, past)
        assert (run.mark_before, run.mark_after, run.priority, run.number) == (None, None, 2, 1)
        assert book.store.tiles(row.id, past - HOUR, book.now) == []
        event = book.events("run.requested")[0]
        assert (event.run_id, event.schedule, event.at) == ("a!mine", "a", book.now)
        assert event.schedule_id == row.id

    def test_a_request_says_who_asked_and_why(self, book: Book) -> None:
        row = book.create()
        wanted = Request(
            schedule_id=row.id,
            expected_version=row.version,
            run=book.asked(row, "k"),
            actor="ada",
            reason="month end",
        )

        book.store.request([wanted])

        event = one(book.events("run.requested"))
        assert (event.actor, event.reason) == ("ada", "month end")

    def test_a_repeated_request_is_told_so_and_makes_no_second_run(self, book: Book) -> None:
        row = book.create()
        wanted = Request(schedule_id=row.id, expected_version=row.version, run=book.asked(row, "k"))
        book.store.request([wanted])
        before = book.picture()

        assert book.store.request([wanted]) == [Answer.REPEATED]
        assert book.store.request([replace(wanted, expected_version=2)]) == [Answer.REPEATED]

        assert book.picture() == before

    def test_a_request_on_an_old_version_is_stale(self, book: Book) -> None:
        row = book.create()
        book.accept(book.change(row))
        before = book.picture()
        wanted = Request(schedule_id=row.id, expected_version=row.version, run=book.asked(row, "k"))
        unknown = replace(wanted, schedule_id=999)

        assert book.store.request([wanted, unknown]) == [Answer.STALE, Answer.STALE]

        assert book.picture() == before

    def test_requests_of_one_schedule_are_taken_one_after_the_other(self, book: Book) -> None:
        row = book.create(overlap=Overlap.QUEUE_ALL)
        asked = [
            Request(schedule_id=row.id, expected_version=version, run=book.asked(row, key, state))
            for version, key, state in (
                (1, "first", RunState.READY),
                (2, "second", RunState.WAITING),
                (2, "late", RunState.WAITING),
                (3, "third", RunState.WAITING),
            )
        ]

        answers = book.store.request(asked)

        accepted, stale = Answer.ACCEPTED, Answer.STALE
        assert answers == [accepted, accepted, stale, accepted]
        assert sorted(book.states()) == ["a!first", "a!second", "a!third"]
        assert book.row().version == 4

    def test_requests_that_count_on_one_that_came_too_late_come_too_late_as_well(self, book: Book) -> None:
        row = book.create(overlap=Overlap.QUEUE_ALL)
        other = book.create("b", overlap=Overlap.QUEUE_ALL)
        asked = [
            Request(
                schedule_id=each.id,
                expected_version=each.version + number,
                run=book.asked(each, f"k{number}"),
            )
            for number in range(3)
            for each in (row, other)
        ]
        book.accept(book.change(row))  # by one: the second expects the very version that is there now
        before = book.states()

        answers = book.store.request(asked)

        assert answers[0::2] == [Answer.STALE] * 3
        assert answers[1::2] == [Answer.ACCEPTED] * 3
        assert sorted(set(book.states()) - set(before)) == ["b!k0", "b!k1", "b!k2"]

    # --- slots ---

    def test_a_limited_schedule_promotes_by_due_time_then_id(self, book: Book) -> None:
        row = book.create(overlap=Overlap.QUEUE_ALL)
        live = book.request("a", "live")
        due = {"z": timedelta(0), "m": SECOND, "b": SECOND, "a": 2 * SECOND}
        for key, lateness in due.items():
            book.request("a", key, RunState.WAITING, due_at=row.settled_until + lateness)
        promoted = []

        for _ in due:
            (claimed,) = book.claim()
            book.finish(claimed.run)
            ready = [id for id, state in book.states().items() if state is RunState.READY]
            promoted.append(one(ready))

        assert live.id not in promoted
        assert promoted == ["a!z", "a!b", "a!m", "a!a"]

    def test_what_is_promoted_keeps_the_mark_and_the_instants_of_its_fire(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        live = book.running()
        waiting = book.fire(state=RunState.WAITING)
        book.clock.advance(HOUR)

        book.finish(live)

        assert book.run(waiting) == replace(waiting, state=RunState.READY)

    def test_no_more_is_promoted_than_there_are_slots(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL, max_running=2)
        first, second = book.running(), book.running()
        for _ in range(3):
            book.fire(state=RunState.WAITING)

        book.finish(first)
        book.finish(second)

        states = list(book.states().values())
        assert states.count(RunState.READY) == 2
        assert states.count(RunState.WAITING) == 1

    def test_queues_of_other_schedules_are_left_alone(self, book: Book) -> None:
        for name in ("a", "b"):
            book.create(name, overlap=Overlap.QUEUE_ALL)
            book.fire(name)
            book.fire(name, RunState.WAITING)
        (mine, _) = book.claim()

        book.finish(mine.run)

        waiting = [id for id, state in book.states().items() if state is RunState.WAITING]
        assert [book.run(id).schedule for id in waiting] == [({"a", "b"} - {mine.run.schedule}).pop()]
