"""The suite on reading: every question of the Reader."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from msgspec.structs import replace

from onebeat.core.errors import NotFound
from onebeat.core.messages import Cancel, EventQuery, RunQuery, ScheduleQuery
from onebeat.core.model import Event, Json, Overlap, Run, RunState
from onebeat.testing.conformance_stage import (
    HOUR,
    MICROSECOND,
    MINUTE,
    SECOND,
    Book,
    Stage,
    one,
)


class ReadSuite(Stage):
    """Every sentence of ``Reader``."""

    def test_schedules_come_by_name_and_page_by_the_last_name_seen(self, book: Book) -> None:
        names = ["b", "a.1", "a-1", "a_1", "a", "c10", "c9"]
        for name in names:
            book.create(name)
        pages, after = [], ""

        while page := book.store.schedules(ScheduleQuery(after=after, limit=3)):
            pages.append([row.name for row in page])
            after = page[-1].name

        assert [len(page) for page in pages] == [3, 3, 1]
        assert [name for page in pages for name in page] == sorted(names)

    def test_schedules_are_found_by_all_conditions_at_once(self, book: Book) -> None:
        for name, owner, tags in (
            ("a", "x", ("t", "u")),
            ("b", "x", ("t",)),
            ("c", "y", ("t",)),
            ("d", "x", ()),
        ):
            edit = book.creation(name, book.definition(tags=tags))
            book.accept(replace(edit, after=replace(edit.after, owner=owner)))

        def found(**conditions: Json) -> list[str]:
            return [row.name for row in book.store.schedules(ScheduleQuery(**conditions))]

        assert found() == ["a", "b", "c", "d"]
        assert found(tag="t") == ["a", "b", "c"]
        assert found(tag="t", owner="x") == ["a", "b"]
        assert found(tag="t", owner="x", names=("b", "c", "nobody")) == ["b"]
        assert found(tag="tt") == []
        assert found(names=()) == []

    def test_owing_returns_rows_with_their_load_tombstones_too(self, book: Book) -> None:
        book.create("a", overlap=Overlap.QUEUE_ALL)
        book.fire("a")
        waiting = book.fire("a", RunState.WAITING)
        gone = book.accept(book.deletion(book.create("b")))
        book.create("free", overlap=Overlap.ALLOW)
        book.fire("free")
        book.fire("free")

        found = {row.name: (row, load) for row, load in book.store.owing(["b", "a", "never", "free"])}

        assert sorted(found) == ["a", "b", "free"]
        assert found["a"][0] == book.row("a")
        load = found["a"][1]
        assert (load.live, load.waiting, load.last_waiting) == (1, 1, waiting.id)
        assert found["b"][0] == gone
        assert found["free"][1].live == 2
        assert book.store.owing([]) == []

    def test_runs_come_newest_first_and_page_below_the_last_one_seen(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        fired = [book.fire().id for _ in range(4)]
        together = [book.asked(book.row(), key) for key in ("m", "c", "x")]
        book.accept(book.change(book.row(), requests=together))
        pages: list[list[Run]] = []
        before = None

        while page := book.store.runs(RunQuery(before=before, limit=2)):
            pages.append(page)
            before = page[-1].id

        listed = [run.id for page in pages for run in page]
        assert [len(page) for page in pages] == [2, 2, 2, 1]
        assert sorted(listed[:3]) == ["a!c", "a!m", "a!x"]
        assert listed[3:] == fired[::-1]
        assert listed == [run.id for run in book.store.runs(RunQuery())]

    def test_runs_are_found_by_all_conditions_at_once(self, book: Book) -> None:
        t = book.now
        for name in ("a", "b"):
            book.create(name, book.definition(tags=(f"tag-{name}", "both"), overlap=Overlap.ALLOW))
        for key, minutes in (("0", 0), ("1", 1), ("2", 2)):
            for name in ("a", "b"):
                book.request(name, key, due_at=t + minutes * MINUTE)
        book.advance(Cancel(run_id="a!1"))

        def found(**conditions: Json) -> list[str]:
            return sorted(run.id for run in book.store.runs(RunQuery(**conditions)))

        assert found(schedule="a") == ["a!0", "a!1", "a!2"]
        assert found(tag="tag-b") == ["b!0", "b!1", "b!2"]
        assert len(found(tag="both")) == 6
        assert found(since=t + MINUTE, until=t + 2 * MINUTE) == ["a!1", "b!1"]
        assert found(states=(RunState.CANCELLED,)) == ["a!1"]
        assert found(schedule="a", states=(RunState.READY,), since=t + MINUTE) == ["a!2"]
        assert found(states=()) == []
        assert found(schedule="never") == []

    def test_an_unknown_run_or_definition_is_not_found(self, book: Book) -> None:
        row = book.create()

        assert book.store.run("a@20000101T000000Z") is None
        assert book.store.log("a@20000101T000000Z") == []
        with pytest.raises(NotFound):
            book.store.definition(row.id, 2)

    def test_every_definition_that_was_ever_in_force_can_be_read(self, book: Book) -> None:
        row = book.create(priority=0)
        wanted = [book.definition(priority=number) for number in range(4)]

        for definition in wanted[1:]:
            book.accept(book.change(book.row(), definition=definition))

        assert [book.store.definition(row.id, number) for number in (1, 2, 3, 4)] == wanted
        assert [change.definition for change in book.store.trail(row.id)] == wanted

    def test_the_trail_tells_every_change_and_no_settlement(self, book: Book) -> None:
        row = book.create()
        book.fire()
        book.accept(book.change(book.row(), action="schedule.paused", paused="lunch", next_at=None))
        edit = book.deletion(book.row())
        deleted = book.accept(replace(edit, actor="bob", reason="obsolete"))

        first, second, third = book.store.trail(row.id)

        assert (first.action, first.version, first.paused, first.deleted) == (
            "schedule.created",
            1,
            False,
            False,
        )
        assert (second.action, second.version, second.paused) == ("schedule.paused", 3, True)
        assert (third.action, third.version, third.deleted) == ("schedule.deleted", 4, True)
        assert (third.actor, third.reason, third.edit_id) == ("bob", "obsolete", edit.id)
        assert (third.schedule_id, third.schedule, third.incarnation) == (row.id, "a", 1)
        assert (third.cut_at, third.boundary_at) == (deleted.cut_at, deleted.settled_until)

    def test_events_come_after_a_cursor_in_order_and_page(self, book: Book) -> None:
        for name in ("a", "b", "c"):
            book.create(name)
        seen: list[Event] = []
        cursor = 0

        while page := book.store.events(EventQuery(after=cursor, limit=2)):
            seen += page
            cursor = page[-1].id

        assert [event.schedule for event in seen] == ["a", "b", "c"]
        assert [event.id for event in seen] == sorted({event.id for event in seen})
        assert book.store.events(EventQuery(after=cursor)) == []
        book.create("d")
        assert one(book.store.events(EventQuery(after=cursor))).schedule == "d"

    def test_events_are_found_by_all_conditions_at_once(self, book: Book) -> None:
        for name in ("a", "b"):
            book.create(name)
            book.request(name, "k")

        def found(**conditions: Json) -> list[tuple[str, str | None]]:
            events = book.store.events(EventQuery(**conditions))
            return [(event.kind, event.schedule) for event in events]

        assert found(kinds=("run.requested",)) == [("run.requested", "a"), ("run.requested", "b")]
        assert found(schedule="b") == [("schedule.created", "b"), ("run.requested", "b")]
        assert found(run_id="a!k") == [("run.requested", "a")]
        assert found(kinds=("schedule.created",), run_id="a!k") == []
        assert found(kinds=()) == []

    def test_tiles_are_those_that_touch_the_interval(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        t = row.settled_until
        for _ in range(5):
            book.fire()

        def ends(since: datetime, until: datetime) -> list[int]:
            return [(tile.mark_after - t) // MINUTE for tile in book.store.tiles(row.id, since, until)]

        assert ends(t, t + HOUR) == [1, 2, 3, 4, 5]
        assert ends(t + MINUTE, t + 3 * MINUTE) == [2, 3]
        assert ends(t + MINUTE - MICROSECOND, t + 3 * MINUTE + MICROSECOND) == [1, 2, 3, 4]
        assert ends(t + 5 * MINUTE, t + HOUR) == []
        assert ends(t - HOUR, t) == []

    def test_tiles_trail_and_definitions_of_two_schedules_are_kept_apart(self, book: Book) -> None:
        rows = [book.create(name, priority=number) for number, name in enumerate(("a", "b"))]
        start = rows[0].settled_until
        at = book.clock.advance(MINUTE)
        book.settle(*[book.decision(row, book.skipped(row, at, count=row.id)) for row in rows])
        runs = [book.fire(row.name) for row in rows]

        for row, run in zip(rows, runs, strict=True):
            skipped, fired = book.store.tiles(row.id, start, book.now)
            assert (skipped.count, fired.run_id) == (row.id, run.id)
            assert {change.schedule for change in book.store.trail(row.id)} == {row.name}
            assert book.store.definition(row.id, 1) == row.definition

    def test_tiles_tile_across_settlements_edits_and_incarnations(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        start = row.settled_until
        book.fire()
        book.clock.advance(SECOND)
        book.accept(book.change(book.row()))
        book.fire()
        book.clock.advance(SECOND)
        book.accept(book.deletion(book.row()))
        book.clock.advance(HOUR)
        book.accept(book.rebirth(book.row()))
        book.fire()

        tiles = book.store.tiles(row.id, start, book.now)

        assert tiles[0].mark_before == start
        assert tiles[-1].mark_after == book.row().settled_until == book.now
        joints = [(left.mark_after, right.mark_before) for left, right in pairwise(tiles)]
        assert all(left == right for left, right in joints)
        assert sum(tile.count for tile in tiles) == 3

    def test_gauges_count_what_there_is(self, book: Book) -> None:
        book.create("a", overlap=Overlap.QUEUE_ALL)
        book.running("a")
        book.fire("a", RunState.WAITING)
        book.accept(book.change(book.create("p"), paused="", next_at=None))
        book.accept(book.change(book.create("q"), quarantined="bad", next_at=None))
        book.accept(book.deletion(book.create("d")))
        book.clock.advance(MINUTE)
        book.create("not-yet-due")

        counts = book.store.counts()

        assert {key for key in counts if key.startswith("runs_")} == {f"runs_{s.value}" for s in RunState}
        assert (counts["runs_running"], counts["runs_waiting"], counts["runs_ready"]) == (1, 1, 0)
        assert (counts["schedules"], counts["paused"], counts["quarantined"]) == (4, 1, 1)
        assert counts["due"] == 1

    def test_the_store_tells_the_facts_that_doctor_prints(self, book: Book) -> None:
        facts = book.store.facts()

        assert {"kind", "place", "durability", "verdict"} <= set(facts)
        assert all(facts.values())

    def test_the_stores_clock_is_aware_and_in_utc(self, book: Book) -> None:
        at = book.clock.advance(MICROSECOND)

        assert book.store.now() == at
        assert book.store.now().utcoffset() == timedelta(0)
