"""What programs outside ask for is done as an ordinary change, once, and each is told what became of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from tests.engine.lab import START, Lab, seconds

from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import Entry, EntryAnswer, Hold
from onebeat.core.model import Json, RunState, Schedule
from onebeat.engine import inbox as module
from onebeat.engine.dispatcher import POLL, Dispatcher
from onebeat.testing.faults import FailNth, hooked

EVERY_MINUTE = {"kind": "interval", "fields": {"period_s": 60, "anchor_at": "2026-11-21T12:00:00Z"}}
TARGET = {"kind": "puppet", "address": "work"}
DEFINITION = {"trigger": EVERY_MINUTE, "target": TARGET}


@pytest.fixture
def lab() -> Lab:
    return Lab()


def append(lab: Lab, kind: str, name: str = "a", key: str = "", **document: Json) -> str:
    text = json.dumps(document) if document else ""
    return lab.store.append(
        Entry(id="", key=key, kind=kind, name=name, document=text, actor="ada", reason="because")
    )


def told(lab: Lab, identity: str) -> EntryAnswer:
    """What an entry was answered."""
    answers = {entry.id: entry.answer for entry in lab.store.entries(1000, waiting=False)}
    answer = answers[identity]
    assert answer is not None
    return answer


def row(lab: Lab, name: str) -> Schedule:
    ((schedule, _),) = lab.store.owing([name])
    return schedule


def stepped(lab: Lab) -> Dispatcher:
    """A dispatcher that has done all that there was to do."""
    dispatcher = lab.node().dispatcher
    for _ in range(20):
        if dispatcher.step() > lab.now():
            return dispatcher
    raise AssertionError("it never came to an end")


# --- each kind ----------------------------------------------------------------------------------------


def test_a_put_brings_a_schedule_into_being_which_fires(lab: Lab) -> None:
    entry = append(lab, "put", definition=DEFINITION)
    dispatcher = stepped(lab)

    lab.clock.set(START + seconds(60))
    dispatcher.step()

    answer = told(lab, entry)
    assert (answer.accepted, answer.version, answer.cut_at) == (True, 1, START)
    assert [run.occurrence_at for run in lab.runs("a")] == [START + seconds(60)]
    change = lab.store.trail(row(lab, "a").id)[0]
    assert (change.actor, change.reason, change.action) == ("ada", "because", "schedule.created")


def test_an_edit_changes_what_it_says_and_leaves_the_rest(lab: Lab) -> None:
    append(lab, "put", definition={**DEFINITION, "tags": ["t"], "policy": {"grace_s": 5, "attempts": 3}})
    append(
        lab,
        "edit",
        changes={"title": "Ü", "policy": {"grace_s": None}, "target": {"queue": "mail"}},
    )
    stepped(lab)

    definition = row(lab, "a").definition
    assert (definition.title, definition.tags, definition.policy.attempts) == ("Ü", ("t",), 3)
    assert definition.policy.grace is None
    assert (definition.target.queue, definition.target.address) == ("mail", "work")


def test_pause_resume_and_delete_are_what_they_are_elsewhere(lab: Lab) -> None:
    append(lab, "put", definition=DEFINITION)
    states = []
    for kind in ("pause", "pause", "resume", "resume", "delete"):
        entry = append(lab, kind)
        stepped(lab)
        assert told(lab, entry).accepted
        now = row(lab, "a")
        states.append((now.paused, now.deleted, now.version))

    # What is as it was wished already stays as it is.
    assert states == [("because", False, 2)] * 2 + [(None, False, 3)] * 2 + [(None, True, 4)]


def test_skip_next_skips_one_and_a_request_runs_one_now(lab: Lab) -> None:
    append(lab, "put", definition=DEFINITION)
    append(lab, "skip_next")
    asked = append(lab, "request", key="nightly-7")
    dispatcher = stepped(lab)
    for minute in (1, 2):
        lab.clock.set(START + seconds(60 * minute))
        dispatcher.step()

    assert told(lab, asked).run_id == "a!nightly-7"
    ids = {run.id: run.state for run in lab.runs("a")}
    assert ids["a!nightly-7"] in (RunState.READY, RunState.PARKED)
    assert row(lab, "a").settled_until == START + seconds(120)
    assert "a@20261121T120100Z" not in ids


def test_entries_of_one_schedule_are_taken_in_their_order(lab: Lab) -> None:
    for number in range(5):
        append(lab, "put", definition={**DEFINITION, "title": str(number)}, if_exists="replace")
    stepped(lab)

    assert row(lab, "a").definition.title == "4"
    assert [change.version for change in lab.store.trail(row(lab, "a").id)] == [1, 2, 3, 4, 5]


def test_entries_are_taken_under_a_hold_and_what_they_declare_fires_after_it(lab: Lab) -> None:
    lab.store.hold(Hold(since_at=START), "h")
    entry = append(lab, "put", definition=DEFINITION)
    dispatcher = stepped(lab)
    lab.clock.set(START + seconds(60))
    dispatcher.step()

    assert told(lab, entry).accepted
    assert lab.runs("a") == []


# --- keys ---------------------------------------------------------------------------------------------


def test_the_same_key_twice_is_answered_as_the_first_and_done_once(lab: Lab) -> None:
    first = append(lab, "put", key="k", definition=DEFINITION)
    second = append(lab, "put", key="k", definition={**DEFINITION, "title": "other"})
    wrong = append(lab, "pause", "nowhere", key="w")
    again = append(lab, "pause", key="w")
    stepped(lab)
    lab.clock.advance(timedelta(seconds=59))
    third = append(lab, "delete", key="k")
    stepped(lab)

    assert [told(lab, entry).accepted for entry in (first, second, third)] == [True] * 3
    assert {told(lab, entry).version for entry in (first, second, third)} == {1}
    assert told(lab, wrong).why == told(lab, again).why != ""
    now = row(lab, "a")
    assert (now.version, now.definition.title, now.paused, now.deleted) == (1, "", None, False)


def test_two_requests_of_one_key_are_one_run(lab: Lab) -> None:
    append(lab, "put", definition=DEFINITION)
    entries = [append(lab, "request", key="once", forced=True) for _ in range(3)]
    stepped(lab)

    assert {told(lab, entry).run_id for entry in entries} == {"a!once"}
    assert [run.id for run in lab.runs("a")] == ["a!once"]


# --- refused ------------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, str, str, str]] = [
    ("pause", "repot", "", "did you mean 'report'"),
    ("puase", "report", "", "did you mean 'pause'"),
    ("", "report", "", "no kind of entry"),
    ("pause", "No Name", "", "no schedule name"),
    ("put", "report", '{"definition": {}}', "trigger"),
    ("put", "report", "{", "no JSON"),
    ("put", "report", "[]", "no JSON object"),
    ("put", "report", '{"definition": NaN}', "no number of JSON"),
    ("put", "report", "[" * 100_000, "no JSON"),
    ("put", "report", json.dumps({"definition": DEFINITION}), "there is a schedule report already"),
    ("put", "report", json.dumps({"definition": DEFINITION, "if_exist": "replace"}), "'if_exists'"),
    ("put", "report", json.dumps({"definition": {**DEFINITION, "polcy": {}}}), "'policy'"),
    ("put", "x", json.dumps({"definition": {**DEFINITION, "policy": {"grace": 5}}}), "'grace_s'"),
    ("put", "x", json.dumps({"definition": {**DEFINITION, "policy": {"attempts": 0}}}), "attempts"),
    ("put", "x", json.dumps({"definition": {**DEFINITION, "title": "x" * 400_000}}), "more than 327,680"),
    ("put", "x", json.dumps({"definition": {**DEFINITION, "trigger": {"kind": "corn"}}}), "cron"),
    ("put", "x", json.dumps({"definition": DEFINITION, "format": 99}), "upgrade the nodes"),
    ("edit", "report", "", "changes"),
    ("edit", "report", '{"changes": {}}', "the changes are empty"),
    ("edit", "report", '{"changes": {"policy": 3}}', "policy"),
    ("edit", "report", '{"changes": {"title": "\\ud800"}}', "printable"),
    ("pause", "report", '{"expected_version": 9}', "its version is 1"),
    ("pause", "report", '{"expected_version": "1"}', "expected"),
    ("request", "report", '{"at": "yesterday"}', "at"),
    ("request", "report", '{"at": "2026-11-21T09:00:00"}', "zone"),
]


@pytest.mark.parametrize(("kind", "name", "document", "why"), REFUSALS)
def test_what_cannot_be_meant_is_refused_with_what_is_wrong(
    lab: Lab, kind: str, name: str, document: str, why: str
) -> None:
    append(lab, "put", "report", definition=DEFINITION)
    stepped(lab)
    entry = lab.store.append(Entry(id="", kind=kind, name=name, document=document))
    beside = append(lab, "put", "beside", definition=DEFINITION)
    stepped(lab)

    answer = told(lab, entry)
    assert not answer.accepted
    assert why in answer.why
    assert told(lab, beside).accepted
    assert row(lab, "report").version == 1


def test_a_poison_entry_is_refused_alone_whatever_it_makes_the_code_raise(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act_of(entry: Entry) -> module.Act:
        if entry.name == "poison":
            raise ZeroDivisionError("what \ud800 is this")
        return genuine(entry)

    genuine = module.act_of
    monkeypatch.setattr(module, "act_of", act_of)
    poison = append(lab, "put", "poison", definition=DEFINITION)
    beside = append(lab, "put", "beside", definition=DEFINITION)
    stepped(lab)

    assert told(lab, beside).accepted
    assert told(lab, poison).why == "it cannot be done: ZeroDivisionError: what ? is this"


def test_what_the_store_cannot_keep_is_refused_and_its_batch_is_done(lab: Lab) -> None:
    class Choosy:
        def __getattr__(self, name: str) -> object:
            return getattr(lab.store, name)

        def put(self, edits: list[object]) -> object:
            if any(edit.after.name == "poison" for edit in edits):
                raise ValueError("a text that no table takes")
            return lab.store.put(edits)

    poison = append(lab, "put", "poison", definition=DEFINITION)
    beside = [append(lab, "put", f"b{number}", definition=DEFINITION) for number in range(3)]
    Dispatcher(Choosy(), lab.clock, holder="d").step()

    assert [told(lab, entry).accepted for entry in beside] == [True] * 3
    assert "a text that no table takes" in told(lab, poison).why


# --- dying, and two at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["put", "request", "answer"])
@pytest.mark.parametrize("after", [False, True])
def test_a_dispatcher_that_dies_anywhere_leaves_nothing_undone_and_nothing_twice(
    lab: Lab, verb: str, *, after: bool
) -> None:
    put = append(lab, "put", definition=DEFINITION)
    asked = append(lab, "request", key="once")
    skip = append(lab, "skip_next")
    wrong = append(lab, "pause", "nowhere")
    hook = FailNth(verb, 1, after=after)
    dying = Dispatcher(hooked(lab.store, hook), lab.clock, holder="dying")
    with contextlib.suppress(StoreUnavailable):
        while lab.store.entries(1, waiting=True):
            dying.step()
    assert hook.fired
    stepped(lab)

    assert [told(lab, entry).accepted for entry in (put, asked, skip, wrong)] == [True, True, True, False]
    assert [run.id for run in lab.runs("a")] == ["a!once"]
    assert len(row(lab, "a").skips) == 1


def test_two_dispatchers_at_once_are_harmless(lab: Lab) -> None:
    entry = append(lab, "put", definition=DEFINITION)
    other = lab.node("n2").dispatcher

    class Between:
        """A store in which another dispatcher does the same just before this one commits."""

        def __getattr__(self, name: str) -> Callable[..., object]:
            if name == "put":
                other.step()
            return getattr(lab.store, name)

    Dispatcher(Between(), lab.clock, holder="n1").step()

    answer = told(lab, entry)
    assert (answer.accepted, answer.version) == (True, 1)
    assert row(lab, "a").version == 1


def test_trouble_with_the_inbox_keeps_nothing_from_being_settled(lab: Lab) -> None:
    lab.put("due")
    append(lab, "pause", "due")

    class Torn:
        def __getattr__(self, name: str) -> object:
            if name == "entries":
                raise RuntimeError("no inbox here")
            return getattr(lab.store, name)

    dispatcher = Dispatcher(Torn(), lab.clock, holder="d")
    dispatcher.step()
    lab.clock.set(START + seconds(60))
    dispatcher.step()

    assert len(lab.runs("due")) == 1


def test_an_entry_is_taken_within_the_poll_with_every_hint_dropped(lab: Lab) -> None:
    dispatcher = stepped(lab)
    wake_at = dispatcher.step()
    lab.clock.advance(seconds(0.001))
    entry = append(lab, "put", definition=DEFINITION)
    while lab.store.entries(10, waiting=True):
        lab.clock.set(wake_at)
        wake_at = dispatcher.step()

    answered_at = told(lab, entry).answered_at
    assert answered_at is not None
    assert answered_at - START <= POLL + seconds(0.001)
