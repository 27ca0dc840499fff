"""The suite on the inbox: entries that programs outside append, and the answers to them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace

from onebeat.core.messages import Answer, Entry, EntryAnswer, Hold, Request
from onebeat.core.ports import ANSWERS_KEPT, ENTRY_CHARS_MAX, Store
from onebeat.testing.conformance_stage import HOUR, MICROSECOND, SECOND, Book, Stage, one

WORDS = Entry(id="", key="k-1", kind="pause", name="a", document='{"a": "ü"}', actor="ada", reason="because")
REFUSED = EntryAnswer(entry_id="", accepted=False, why="there is no schedule 'b'")
Write = Callable[[Entry], str]


class InboxSuite(Stage):
    """Every sentence about entries."""

    @pytest.fixture
    def write(self, store: Store) -> Write:
        """Give what a program outside does."""
        return lambda entry: self.append(store, entry)

    def test_an_entry_is_read_as_it_was_written(self, book: Book, write: Write) -> None:
        identity = write(WORDS)

        assert book.store.entries(10, waiting=True) == [replace(WORDS, id=identity)]
        assert book.store.entries(10, waiting=False) == []

    def test_entries_that_wait_come_oldest_first_and_within_the_limit(self, book: Book, write: Write) -> None:
        ids = [write(replace(WORDS, key="", name=f"s{number}")) for number in range(12)]

        assert [entry.id for entry in book.store.entries(12, waiting=True)] == ids
        assert [entry.id for entry in book.store.entries(5, waiting=True)] == ids[:5]
        assert book.store.entries(0, waiting=True) == []

    def test_what_is_not_said_is_empty(self, book: Book, write: Write) -> None:
        write(Entry(id="", kind="pause", name="a"))

        entry = one(book.store.entries(10, waiting=True))
        assert (entry.key, entry.document, entry.actor, entry.reason, entry.first) == ("", "", "", "", None)

    def test_due_tells_that_an_entry_waits_also_under_a_hold(self, book: Book, write: Write) -> None:
        before = book.store.due(book.now, 10).entries
        identity = write(WORDS)
        there = book.store.due(book.now, 10).entries
        book.store.hold(Hold(since_at=book.now), "h1")
        held = book.store.due(book.now, 10).entries
        book.store.answer([replace(REFUSED, entry_id=identity)])

        assert (before, there, held) == (False, True, True)
        assert book.store.due(book.now, 10).entries is False

    def test_an_entry_is_answered_once_and_the_answer_never_changes(self, book: Book, write: Write) -> None:
        identity = write(WORDS)
        answer = replace(REFUSED, entry_id=identity)

        assert book.store.answer([answer]) == [True]
        assert book.store.answer([replace(answer, accepted=True, why="", version=7)]) == [False]

        entry = one(book.store.entries(10, waiting=False))
        assert entry.answer == replace(answer, answered_at=book.now)
        assert (entry.id, entry.key, entry.kind, entry.name) == (identity, "k-1", "pause", "a")
        assert book.store.entries(10, waiting=True) == []

    def test_an_answer_says_version_cut_and_run(self, book: Book, write: Write) -> None:
        answer = EntryAnswer(
            entry_id=write(WORDS), accepted=True, version=7, cut_at=book.now - MICROSECOND, run_id="a!k-1"
        )

        book.store.answer([answer])

        told = one(book.store.entries(10, waiting=False)).answer
        assert told == replace(answer, answered_at=book.now)

    def test_an_answer_to_an_entry_that_is_not_there_is_false(self, book: Book, write: Write) -> None:
        identity = write(WORDS)
        wrong = [replace(REFUSED, entry_id=name) for name in ("999999", "0-1", "none of ours", "9" * 40)]

        assert book.store.answer([*wrong, replace(REFUSED, entry_id=identity)]) == [False] * 4 + [True]
        assert book.store.answer([]) == []

    def test_the_newest_answers_come_first(self, book: Book, write: Write) -> None:
        ids = [write(replace(WORDS, key="", name=f"s{number}")) for number in range(3)]
        for identity in (ids[1], ids[0], ids[2]):
            book.clock.advance(SECOND)
            book.store.answer([replace(REFUSED, entry_id=identity)])

        assert [each.id for each in book.store.entries(10, waiting=False)] == [ids[2], ids[0], ids[1]]
        assert [each.id for each in book.store.entries(1, waiting=False)] == [ids[2]]

    def test_an_entry_whose_key_was_answered_before_comes_with_that_answer(
        self, book: Book, write: Write
    ) -> None:
        first, second = write(WORDS), write(WORDS)
        unanswered = [entry.first for entry in book.store.entries(10, waiting=True)]
        book.store.answer([replace(REFUSED, entry_id=first)])

        entry = one(book.store.entries(10, waiting=True))
        assert unanswered == [None, None]
        assert (entry.id, entry.first) == (second, replace(REFUSED, entry_id=first, answered_at=book.now))

    # --- together with what is asked for ---

    def test_a_put_answers_its_entry_in_the_same_transaction(self, book: Book, write: Write) -> None:
        edit = replace(book.creation(), entry_id=write(WORDS))

        row = book.accept(edit)

        answer = one(book.store.entries(10, waiting=False)).answer
        assert answer == EntryAnswer(
            entry_id=edit.entry_id,
            accepted=True,
            version=row.version,
            cut_at=edit.cut_at,
            answered_at=book.now,
        )

    def test_a_put_for_an_entry_that_was_answered_is_stale_and_changes_nothing(
        self, book: Book, write: Write
    ) -> None:
        row = book.create()
        identity = write(WORDS)
        book.store.answer([replace(REFUSED, entry_id=identity)])
        before = book.picture()

        late = book.put(replace(book.change(row, paused="why"), entry_id=identity))
        nowhere = book.put(replace(book.change(row, paused="why"), entry_id="999999"))

        assert (late.answer, nowhere.answer) == (Answer.STALE, Answer.STALE)
        assert late.schedule == row
        assert book.picture() == before
        answer = one(book.store.entries(10, waiting=False)).answer
        assert answer is not None
        assert not answer.accepted

    def test_a_stale_put_leaves_its_entry_waiting(self, book: Book, write: Write) -> None:
        row = book.create()
        edit = replace(book.change(row, paused="why"), entry_id=write(WORDS))
        book.accept(book.change(row, paused="somebody was first"))

        assert book.put(edit).answer is Answer.STALE
        assert one(book.store.entries(10, waiting=True)).id == edit.entry_id

    def test_a_repeated_edit_answers_its_entry_with_what_was_committed_then(
        self, book: Book, write: Write
    ) -> None:
        edit = book.creation()
        row = book.accept(edit)
        then = book.now
        book.clock.advance(HOUR)
        book.accept(book.change(row, paused="later"))

        told = book.put(replace(edit, entry_id=write(WORDS)))

        assert told.answer is Answer.REPEATED
        answer = one(book.store.entries(10, waiting=False)).answer
        assert answer is not None
        assert (answer.accepted, answer.version, answer.cut_at) == (True, row.version, then)
        assert answer.answered_at == book.now

    def test_a_request_answers_its_entry_with_the_run(self, book: Book, write: Write) -> None:
        row = book.create()
        run = book.asked(row, "k-1")
        request = Request(schedule_id=row.id, expected_version=row.version, run=run, entry_id=write(WORDS))

        assert book.store.request([request]) == [Answer.ACCEPTED]

        answer = one(book.store.entries(10, waiting=False)).answer
        assert answer is not None
        assert (answer.accepted, answer.run_id, answer.version) == (True, run.id, row.version + 1)

        again = replace(request, entry_id=write(replace(WORDS, key="other")))
        assert book.store.request([again]) == [Answer.REPEATED]
        answer = book.store.entries(10, waiting=False)[0].answer
        assert answer is not None
        assert (answer.entry_id, answer.accepted, answer.run_id) == (again.entry_id, True, run.id)

    def test_a_request_for_an_entry_that_was_answered_is_stale(self, book: Book, write: Write) -> None:
        row = book.create()
        identity = write(WORDS)
        book.store.answer([replace(REFUSED, entry_id=identity)])
        request = Request(
            schedule_id=row.id,
            expected_version=row.version,
            run=book.asked(row, "k-1"),
            entry_id=identity,
        )

        assert book.store.request([request]) == [Answer.STALE]
        assert book.states() == {}

    # --- bounds ---

    def test_a_document_beyond_all_bounds_is_read_only_so_far_that_it_shows(
        self, book: Book, write: Write
    ) -> None:
        write(replace(WORDS, document="ü" * (3 * ENTRY_CHARS_MAX)))
        beside = write(replace(WORDS, key="", name="b"))

        huge, small = book.store.entries(10, waiting=True)
        assert ENTRY_CHARS_MAX < len(huge.document) < 3 * ENTRY_CHARS_MAX
        assert small.id == beside

    def test_answers_are_forgotten_after_their_time_and_their_keys_with_them(
        self, book: Book, write: Write
    ) -> None:
        old = write(WORDS)
        book.store.answer([replace(REFUSED, entry_id=old)])
        book.clock.advance(timedelta(hours=1))
        young = write(replace(WORDS, key="k-2"))
        book.store.answer([replace(REFUSED, entry_id=young)])
        waits = write(replace(WORDS, key="k-3"))

        book.clock.advance(ANSWERS_KEPT - timedelta(hours=1))
        book.store.purge(book.now, 10)
        kept = [entry.id for entry in book.store.entries(10, waiting=False)]
        book.clock.advance(MICROSECOND)
        book.store.purge(book.now, 10, 1)
        elsewhere = [entry.id for entry in book.store.entries(10, waiting=False)]
        book.store.purge(book.now, 10)

        assert kept == elsewhere == [young, old]
        assert [entry.id for entry in book.store.entries(10, waiting=False)] == [young]
        again = write(WORDS)
        assert [(each.id, each.first) for each in book.store.entries(10, waiting=True)] == [
            (waits, None),
            (again, None),
        ]
