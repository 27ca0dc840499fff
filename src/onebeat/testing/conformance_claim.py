"""The suite on holders: claims, what they note while they run, nodes, strays and wake-ups."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.messages import (
    Cancel,
    Finish,
    Guard,
    Hold,
    LogLine,
    Lost,
    Note,
    Park,
    Release,
    Retry,
    Stray,
)
from onebeat.core.model import Event, Outcome, Overlap, Run, RunState, Target, micros
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

PATIENCE = 30 * SECOND
"""How long a test waits for what should come at once: long, for machines that are busy."""


class ClaimSuite(Stage):
    """Every sentence of ``claim``, ``note``, ``announce``, ``record``, ``strays``, ``wait`` and ``wake``."""

    # --- claim ---

    def test_a_claim_leases_a_run_with_the_definition_that_it_was_fired_under(self, book: Book) -> None:
        row = book.create(overlap=Overlap.ALLOW)
        run = book.fire()
        book.accept(book.change(book.row(), definition=book.definition(priority=5)))
        until = book.now + HOUR

        claimed = one(book.claim(holder="node-7", until=until))

        lease = claimed.run
        assert claimed.definition == row.definition
        assert lease == replace(
            run,
            state=RunState.RUNNING,
            attempt=1,
            token=lease.token,
            holder="node-7",
            lease_until=until,
            claimed_at=book.now,
        )
        assert book.run(run) == lease

    def test_what_is_claimed_is_not_claimed_again(self, book: Book) -> None:
        book.create()
        book.fire()

        assert len(book.claim()) == 1
        assert book.claim(holder="node-2") == []

    def test_the_highest_priority_comes_first_then_the_longest_ready_then_the_id(self, book: Book) -> None:
        for name, priority in (("low", -1), ("high", 7), ("mid", 0)):
            book.create(name, overlap=Overlap.ALLOW, priority=priority)
        t = book.now
        book.request("low", "a", ready_at=t - HOUR)
        book.request("mid", "c", ready_at=t)
        book.request("mid", "b", ready_at=t)
        book.request("mid", "d", ready_at=t - SECOND)
        book.request("high", "a", ready_at=t)

        order = [book.claim(limit=1)[0].run.id for _ in range(3)] + [c.run.id for c in book.claim()]

        assert order == ["high!a", "mid!d", "mid!b", "mid!c", "low!a"]

    def test_a_claim_takes_no_more_than_its_limit(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        for key in "abc":
            book.request("a", key)

        assert book.claim(limit=0) == []
        assert len(book.claim(limit=2)) == 2
        assert len(book.claim(limit=2)) == 1

    def test_a_run_is_claimed_from_its_ready_instant_on(self, book: Book) -> None:
        book.create()
        book.request("a", "k", ready_at=book.now + MINUTE)

        book.clock.advance(MINUTE - MICROSECOND)
        assert book.claim() == []
        book.clock.advance(MICROSECOND)
        assert len(book.claim()) == 1

    def test_a_run_is_claimed_at_its_deadline_and_not_after(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        at = book.now + MINUTE
        book.request("a", "k", deadline_at=at)
        book.request("a", "late", deadline_at=at - MICROSECOND)
        book.clock.set(at)

        assert [claimed.run.id for claimed in book.claim()] == ["a!k"]

    def test_a_claim_takes_only_its_queues_and_its_targets(self, book: Book) -> None:
        for queue in ("default", "mail"):
            for address in ("m:f", "m:g"):
                target = Target(kind="python", address=address, queue=queue)
                name = f"{queue}-{address[-1]}"
                book.create(name, book.definition(target=target))
                book.fire(name)

        def claimed(*, queues: tuple[str, ...], targets: tuple[str, ...]) -> list[str]:
            return [each.run.schedule for each in book.claim(queues=queues, targets=targets)]

        assert claimed(queues=(), targets=("python:m:f",)) == []
        assert claimed(queues=("mail",), targets=()) == []
        assert claimed(queues=("mail", "other"), targets=("python:m:f", "http:m:g")) == ["mail-f"]
        everything = claimed(queues=("mail", "default"), targets=("python:m:g", "python:m:f"))
        assert sorted(everything) == ["default-f", "default-g", "mail-g"]

    def test_waiting_parked_and_sent_runs_are_not_claimed(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        parked = book.fire()
        book.advance(Park(run_id=parked.id, reason="x"))
        book.fire(state=RunState.WAITING)

        assert book.claim() == []

    def test_tokens_are_at_least_the_clock_and_grow_through_the_whole_store(self, book: Book) -> None:
        for name in ("a", "b"):
            book.create(name, overlap=Overlap.ALLOW)
        tokens = []
        for _ in range(3):
            for name in ("a", "b"):
                book.fire(name)
            tokens += [claimed.run.token for claimed in book.claim()]
        book.clock.advance(-timedelta(days=1))
        book.request("a", "back-then", ready_at=book.now)
        tokens.append(one(book.claim()).run.token)
        row = book.request("b", "guarded")
        guard = Guard(run_id=row.id, attempt=1, holder="x", until=book.now + HOUR)
        tokens.append(book.advance(guard).token)

        assert tokens[0] >= micros(book.now)
        assert sorted(set(tokens)) == tokens

    # --- note ---

    def test_progress_and_lines_are_kept_with_the_run(self, book: Book) -> None:
        book.create()
        run = book.running()
        first = LogLine(at=book.now, attempt=1, level="info", text="half of it — 半分")
        second = LogLine(at=book.now + SECOND, attempt=1, level="warning", text="")

        assert book.store.note([Note(run_id=run.id, token=run.token, progress=(1, 2), lines=(first,))]) == [
            True
        ]
        assert book.store.note([Note(run_id=run.id, token=run.token, lines=(second,))]) == [True]

        assert book.run(run) == replace(run, progress=(1, 2))
        assert book.store.log(run.id) == [first, second]

    def test_a_note_whose_token_is_not_current_keeps_nothing(self, book: Book) -> None:
        book.create(overlap=Overlap.ALLOW)
        ended, running = book.running(), book.running()
        book.finish(ended)
        line = LogLine(at=book.now, attempt=1, level="info", text="late")
        before = book.picture()

        kept = book.store.note(
            [
                Note(run_id=ended.id, token=ended.token, progress=(1, 1), lines=(line,)),
                Note(run_id=running.id, token=running.token - 1, progress=(1, 1), lines=(line,)),
                Note(run_id="unknown", token=1, lines=(line,)),
            ]
        )

        assert kept == [False, False, False]
        assert book.picture() == before

    def test_lines_of_all_attempts_read_back_oldest_first(self, book: Book) -> None:
        book.create()
        run = book.running()
        lines = [
            LogLine(at=book.now, attempt=number, level="info", text=f"try {number}") for number in (1, 2)
        ]
        book.store.note([Note(run_id=run.id, token=run.token, lines=(lines[0],))])
        verdict = Retry(at=book.now)
        book.advance(Finish(run_id=run.id, token=run.token, outcome=Outcome.FAILED, verdict=verdict))
        again = one(book.claim()).run
        book.store.note([Note(run_id=again.id, token=again.token, lines=(lines[1],))])

        assert book.store.log(run.id) == lines

    def test_a_log_that_is_too_long_ends_with_a_line_that_says_so(self, book: Book) -> None:
        book.create()
        run = book.running()
        lines = tuple(
            LogLine(at=book.now, attempt=1, level="info", text=f"{number:06d}" + "é" * 32_765)
            for number in range(40)
        )

        for begin in range(0, 40, 10):
            kept = book.store.note([Note(run_id=run.id, token=run.token, lines=lines[begin : begin + 10])])
            assert kept == [True]
        log = book.store.log(run.id)
        book.store.note([Note(run_id=run.id, token=run.token, lines=(replace(lines[0], text="x"),))])

        assert book.store.log(run.id) == log
        assert log[:-1] == list(lines[: len(log) - 1])
        size = sum(len(line.text.encode()) for line in log[:-1])
        assert LOG_BYTES_MAX - len(lines[0].text.encode()) < size <= LOG_BYTES_MAX
        assert "dropped" in log[-1].text

    # --- nodes ---

    def test_nodes_are_listed_the_most_recently_seen_first_with_the_lapsed(self, book: Book) -> None:
        lapsed = book.node("old", alive_until=book.now + SECOND)
        book.store.announce(lapsed)
        book.clock.advance(MINUTE)
        alive = book.node("new", roles=("dispatcher", "web"), stopping=True)
        book.store.announce(alive)
        assert book.store.nodes() == [alive, lapsed]

        back = book.node("old", seen_at=book.now + SECOND)
        book.store.announce(back)

        assert book.store.nodes() == [back, alive]

    def test_a_node_is_warned_of_others_alive_that_differ(self, book: Book) -> None:
        book.store.announce(book.node("gone", version="0.1", alive_until=book.now))
        book.store.announce(book.node("twin"))
        book.store.announce(book.node("other-version", version="2.0"))
        book.store.announce(book.node("older-zones", tz_version="2025.2"))

        warnings = book.store.announce(book.node("me"))

        assert len(warnings) == 2
        text = "\n".join(warnings)
        assert "other-version" in text
        assert "2.0" in text
        assert "older-zones" in text
        assert "2025.2" in text

    def test_a_node_is_told_which_setting_differs_and_both_its_values(self, book: Book) -> None:
        book.store.announce(book.node("of-a-release-before"))
        book.store.announce(book.node("twin", settings={"zone": "UTC", "lease": "30 s"}))
        book.store.announce(book.node("of-another-owner", settings={"lease": "30 s", "其他": "x"}))
        other = book.node("other", settings={"zone": "Asia/Tokyo", "lease": "30 s"})
        book.store.announce(other)

        warnings = book.store.announce(book.node("me", settings={"zone": "UTC", "lease": "30 s"}))

        assert warnings == ["node other has Asia/Tokyo as zone, this one UTC"]
        assert other in book.store.nodes()

    def test_a_run_that_no_live_node_can_resolve_is_a_stray_and_one_that_is_parked_in_vain(
        self, book: Book
    ) -> None:
        known = Target(kind="python", address="known:f")
        names = {
            "unknown-ready": TARGET,
            "known-ready": known,
            "unknown-parked": TARGET,
            "known-parked": known,
        }
        runs: dict[str, Run] = {}
        for name, target in names.items():
            book.create(name, book.definition(target=target))
            runs[name] = book.request(name, "k")
            if name.endswith("parked"):
                book.advance(Park(run_id=runs[name].id, reason="x"))
        book.store.announce(book.node("alive", targets=(known.key,)))
        book.store.announce(book.node("lapsed", targets=(TARGET.key,), alive_until=book.now))

        found = sorted(book.store.strays(book.now, 10), key=lambda stray: stray.run.id)

        assert found == [
            Stray(run=book.run(runs["known-parked"]), resolvable=True),
            Stray(run=book.run(runs["unknown-ready"]), resolvable=False),
        ]
        assert len(book.store.strays(book.now, 1)) == 1

    def test_runs_that_nobody_waits_to_claim_are_no_strays(self, book: Book) -> None:
        book.create(overlap=Overlap.QUEUE_ALL)
        book.running()
        book.fire(state=RunState.WAITING)

        assert book.store.strays(book.now, 10) == []

    def test_targets_are_those_of_schedules_and_of_unfinished_runs(self, book: Book) -> None:
        def to(address: str) -> Target:
            return Target(kind="python", address=address)

        for name in ("alive", "edited", "deleted", "ended"):
            book.create(name, book.definition(target=to(f"{name}:f")))
        book.request("edited", "k")
        book.accept(book.change(book.row("edited"), definition=book.definition(target=to("new:f"))))
        book.accept(book.deletion(book.row("deleted")))
        run = book.request("ended", "k")
        book.advance(Cancel(run_id=run.id))
        book.accept(book.deletion(book.row("ended")))

        assert book.store.targets() == ["python:alive:f", "python:edited:f", "python:new:f"]

    # --- events that stand alone ---

    def test_recorded_events_are_appended_as_they_are_given(self, book: Book) -> None:
        events = [
            Event(at=book.now, kind="step.failed", actor="node-1", reason="OSError", data={"n": [1, None]}),
            Event(at=book.now, kind="alert", schedule_id=7, schedule="a", run_id="a@x"),
        ]

        book.store.record(events)
        book.store.record(events[:1])

        found = book.events()
        assert [replace(event, id=0) for event in found] == [*events, events[0]]
        assert [event.id for event in found] == sorted({event.id for event in found})

    # --- cursors ---

    def test_a_new_cursor_begins_at_the_newest_event_and_moves_only_forward(self, book: Book) -> None:
        book.create("a")
        newest = book.events()[-1].id
        assert book.store.cursor("mail") == newest
        book.create("b")
        later = book.events()[-1].id

        assert book.store.cursor("mail") == newest
        assert book.store.cursor("mail", later) == later
        assert book.store.cursor("mail", newest) == later
        assert book.store.cursor("mail") == later

    def test_cursors_of_different_names_are_apart(self, book: Book) -> None:
        book.create("a")

        assert book.store.cursor("from-the-start", 0) == 0
        assert book.store.cursor("from-now") == book.events()[-1].id
        assert book.store.cursor("from-the-start") == 0

    # --- waiting ---

    def test_a_wait_that_is_over_returns_at_once(self, book: Book) -> None:
        book.store.wait(book.now)  # whatever came before this thread's first wait

        assert book.store.wait(book.now) is False
        assert book.store.wait(book.now - HOUR) is False

    @pytest.mark.parametrize("verb", ["put", "settle", "request", "advance", "release a hold"])
    def test_what_changed_since_the_last_wait_ends_the_next_one(self, verb: str, book: Book) -> None:
        row = book.create(overlap=Overlap.QUEUE_ALL)
        at = book.clock.advance(MINUTE)
        running = book.request("a", "running") if verb == "advance" else None
        if running is not None:
            book.claim()
            book.request("a", "next", RunState.WAITING)
        book.store.hold(Hold(since_at=at) if verb == "release a hold" else None, "h1")
        changes: dict[str, Callable[[], object]] = {
            "put": lambda: book.create("b"),
            "settle": lambda: book.settle(book.decision(row, book.fired(row, at))),
            "request": lambda: book.request("a", "k"),
            "advance": lambda: book.finish(book.run("a!running")),
            "release a hold": lambda: book.store.hold(None, "h2"),
        }
        book.store.wait(book.now)

        changes[verb]()

        assert book.store.wait(book.now + PATIENCE) is True
        assert book.store.wait(book.now) is False

    def test_a_wake_ends_the_waits_of_this_process(self, book: Book) -> None:
        book.store.wait(book.now)
        begun, woken = threading.Event(), []

        def sleeper() -> None:
            book.store.wait(book.now)
            begun.set()
            woken.append(book.store.wait(book.now + PATIENCE))

        thread = threading.Thread(target=sleeper, daemon=True)
        thread.start()
        assert begun.wait(PATIENCE.total_seconds())
        book.store.wake()
        thread.join(PATIENCE.total_seconds())

        assert woken == [True]
        assert book.store.wait(book.now + PATIENCE) is True

    def test_a_change_by_another_thread_ends_a_wait(self, book: Book) -> None:
        begun, woken = threading.Event(), []

        def sleeper() -> None:
            book.store.wait(book.now)
            begun.set()
            woken.append(book.store.wait(book.now + PATIENCE))

        thread = threading.Thread(target=sleeper, daemon=True)
        thread.start()
        assert begun.wait(PATIENCE.total_seconds())
        book.create()
        thread.join(PATIENCE.total_seconds())

        assert woken == [True]

    def test_a_wait_without_end_ends_within_a_second_or_so(self, book: Book) -> None:
        book.store.wait(book.now)
        ended: list[bool] = []

        thread = threading.Thread(target=lambda: ended.append(book.store.wait(None)), daemon=True)
        thread.start()
        thread.join(PATIENCE.total_seconds())

        assert len(ended) == 1

    def test_a_store_may_be_closed_twice(self, book: Book) -> None:
        book.create()

        book.store.close()
        book.store.close()

    # --- leases ---

    def test_a_lost_run_is_leased_again_to_somebody_else(self, book: Book) -> None:
        book.create()
        run = book.running(until=book.now + 2 * MINUTE)
        book.clock.advance(HOUR)
        book.advance(Lost(run_id=run.id, token=run.token, verdict=Retry(at=book.now, reason="lost")))

        again = one(book.claim(holder="node-2")).run

        assert (again.id, again.attempt, again.holder) == (run.id, 2, "node-2")
        assert again.token > run.token
        assert book.advance(Release(run_id=run.id, token=run.token)).state is RunState.RUNNING
