"""The suite on lost replies: the process lives, the ledger has changed, and the caller does not know.

Whoever did not hear the answer calls the whole verb again. For each verb that writes, taken from the port,
the second call must find everything done and change nothing.
"""

from collections.abc import Callable
from typing import Any

import pytest

from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Cancel, Entry, EntryAnswer, Hold, Note, Request, Start
from onebeat.core.model import Overlap, RunState
from onebeat.core.ports import Store
from onebeat.testing.conformance_stage import DAY, EVERYTHING, Book, Stage
from onebeat.testing.faults import WRITING_VERBS, FailNth, hooked

Call = Callable[[Store], Any]
APPENDS = {"record"}  # says so in the port


def _put(book: Book) -> Call:
    row = book.create(overlap=Overlap.QUEUE_ALL)
    at = book.clock.advance(DAY)
    edit = book.change(row, book.fired(row, at), requests=[book.asked(row, "k", RunState.WAITING)])
    return lambda store: store.put([edit])


def _hold(book: Book) -> Call:
    return lambda store: store.hold(Hold(since_at=book.now, actor="ada"), "h1")


def _settle(book: Book) -> Call:
    row = book.create()
    at = book.clock.advance(DAY)
    decision = book.decision(row, book.fired(row, at))
    return lambda store: store.settle(at, [decision])


def _request(book: Book) -> Call:
    row = book.create()
    wanted = Request(schedule_id=row.id, expected_version=row.version, run=book.asked(row, "k"))
    return lambda store: store.request([wanted])


def _answer(book: Book) -> Call:
    assert book.append is not None
    answer = EntryAnswer(entry_id=book.append(Entry(id="", kind="pause", name="a")), accepted=False)
    return lambda store: store.answer([answer])


def _claim(book: Book) -> Call:
    book.create()
    book.fire()
    wish = book.wish()
    return lambda store: store.claim(wish)


def _advance(book: Book) -> Call:
    book.create(overlap=Overlap.QUEUE_ALL)
    run = book.running()
    waiting = book.fire(state=RunState.WAITING)
    return lambda store: store.advance(
        [Start(run_id=run.id, token=run.token), Cancel(run_id=run.id), Cancel(run_id=waiting.id)]
    )


def _note(book: Book) -> Call:
    book.create()
    run = book.running()
    return lambda store: store.note([Note(run_id=run.id, token=run.token, progress=(1, 2))])


def _announce(book: Book) -> Call:
    node = book.node()
    return lambda store: store.announce(node)


def _record(book: Book) -> Call:
    book.create()
    events = book.events()
    return lambda store: store.record(events)


def _cursor(book: Book) -> Call:
    book.create()
    return lambda store: store.cursor("mail", 1)


def _purge(book: Book) -> Call:
    book.create(keep_days=1)
    book.finish(book.running())
    book.accept(book.deletion(book.row()))
    book.clock.advance(3 * DAY)
    return lambda store: store.purge(book.now, EVERYTHING)


PLAYS: dict[str, Callable[[Book], Call]] = {
    "put": _put,
    "hold": _hold,
    "settle": _settle,
    "request": _request,
    "answer": _answer,
    "claim": _claim,
    "advance": _advance,
    "note": _note,
    "announce": _announce,
    "record": _record,
    "cursor": _cursor,
    "purge": _purge,
}


class RepeatSuite(Stage):
    """A reply is lost after the commit, and the call is made again."""

    def test_every_verb_that_writes_has_its_play(self) -> None:
        assert set(PLAYS) == set(WRITING_VERBS)

    @pytest.mark.parametrize("verb", sorted(set(PLAYS) - APPENDS))
    def test_a_call_whose_reply_was_lost_may_be_made_again(self, verb: str, book: Book, store: Store) -> None:
        call = PLAYS[verb](book)
        before = book.picture()
        trouble = FailNth(verb, after=True)

        with pytest.raises(StoreUnavailable):
            call(hooked(store, trouble))
        committed = book.picture()
        call(store)

        assert trouble.fired
        assert verb == "cursor" or committed != before
        assert book.picture() == committed
