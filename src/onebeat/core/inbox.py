"""What programs in other languages write into the inbox, read strictly: an act, or why it is none.

An entry is a kind, the name of a schedule and a JSON document in the words that exports and the API have. A
word that nobody knows is refused with the nearest that somebody does, never passed over: it may have carried
the meaning.
"""

import json
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar, assert_never

import msgspec

from onebeat.core import acts, edits
from onebeat.core.acts import Decide, DecidePresent, IfExists
from onebeat.core.codec import DOCUMENT_BYTES_MAX, FORMAT, from_data, to_data
from onebeat.core.decide import admit
from onebeat.core.definition import checked_definition, checked_key
from onebeat.core.errors import InvalidInput, LimitExceeded, near_miss, shown
from onebeat.core.messages import Entry
from onebeat.core.model import (
    Definition,
    Json,
    Load,
    NewRun,
    Noun,
    Policy,
    Schedule,
    Target,
    checked_name,
    learn_nouns,
    run_id,
    utc,
)

D = TypeVar("D", bound="Words")


class Kind(StrEnum):
    """What an entry may ask for."""

    PUT = "put"
    EDIT = "edit"
    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"
    SKIP_NEXT = "skip_next"
    REQUEST = "request"


class Words(Noun, frozen=True, kw_only=True):
    """What every document may say; pausing, resuming, deleting and skipping take no more."""

    format: int = FORMAT
    expected_version: int | None = None


class PutWords(Words, frozen=True, kw_only=True):
    """A schedule that shall be there. ``definition`` is one of those in an export."""

    definition: dict[str, Any]
    if_exists: IfExists = "error"
    paused: bool = False
    run_now: bool = False


class EditWords(Words, frozen=True, kw_only=True):
    """What shall be different: parts of a definition. A part of a policy or target leaves the rest of it."""

    changes: dict[str, Any]


class RequestWords(Words, frozen=True, kw_only=True):
    """A run that is asked for. ``at`` is the occurrence that it stands for."""

    at: datetime | None = None
    forced: bool = False


class Act(NamedTuple):
    """An entry, understood: either a decision about a schedule, or a request for a run of it."""

    name: str
    edit_id: str
    expected_version: int | None
    decide: Decide | None
    decide_present: DecidePresent | None
    request: RequestWords | None

    def new_run(self, row: Schedule, load: Load, entry: Entry, now: datetime) -> NewRun:
        """Return the run that is asked for. Raises Refused where overlap has no place for it."""
        assert self.request is not None
        at, forced = self.request.at, self.request.forced
        return admit(row, load, key=request_key(entry), now=now, occurrence_at=at, forced=forced)

    def run_id(self, row: Schedule, entry: Entry) -> str:
        """Return the id of the run that is asked for."""
        return run_id(row.name, row.incarnation, key=request_key(entry))


def request_key(entry: Entry) -> str:
    """Return the key of the run that an entry asks for: the writer's, else one made of the entry's id."""
    return entry.key or f"inbox-{entry.id}"


def act_of(entry: Entry) -> Act:
    """Return what an entry asks for. Raises InvalidInput, saying what is wrong with it."""
    if entry.kind not in set(Kind):
        kinds = [kind.value for kind in Kind]
        raise InvalidInput(
            f"{shown(entry.kind)} is no kind of entry{near_miss(entry.kind[:100], kinds)}; there are "
            f"{', '.join(kinds)}"
        )
    name = checked_name(entry.name)
    if entry.key:
        checked_key(entry.key)
    data = _data(entry)
    decide: Decide | None = None
    present: DecidePresent | None = None
    request: RequestWords | None = None
    words: Words
    match Kind(entry.kind):
        case Kind.PUT:
            words = put = _words(data, PutWords)
            definition = _definition(put.definition)
            decide = acts.creation(name, definition, put.if_exists, paused=put.paused, run_now=put.run_now)
        case Kind.EDIT:
            words = edit = _words(data, EditWords)
            present = acts.change(
                partial(_edited, changes=_changes(edit.changes)), mends="trigger" in edit.changes
            )
        case Kind.PAUSE:
            words, present = _words(data, Words), acts.pause
        case Kind.RESUME:
            words, present = _words(data, Words), acts.resume
        case Kind.DELETE:
            words, present = _words(data, Words), edits.delete
        case Kind.SKIP_NEXT:
            words, present = _words(data, Words), acts.skip_next
        case Kind.REQUEST:
            words = request = _words(data, RequestWords)
            if request.at is not None:
                request = msgspec.structs.replace(request, at=utc(request.at, "at"))
        case _ as never:
            assert_never(never)
    # A key is never written with a '#', so that the two can never be one.
    edit_id = f"inbox/{entry.key}" if entry.key else f"inbox/#{entry.id}"
    return Act(name, edit_id, words.expected_version, decide, present, request)


def _data(entry: Entry) -> dict[str, Json]:
    text = entry.document
    if len(text) > DOCUMENT_BYTES_MAX or len(text.encode("utf-8", "replace")) > DOCUMENT_BYTES_MAX:
        raise LimitExceeded(
            f"the document takes more than {DOCUMENT_BYTES_MAX:,} bytes; keep large data elsewhere and pass "
            "a reference to it"
        )
    try:
        data = json.loads(text or "{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the document {shown(text)} is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput(f"the document {shown(text)} is no JSON object; write '{{…}}', or leave it empty")
    written = data.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise InvalidInput(
            f"the document has format {written}, and this onebeat reads up to {FORMAT}; upgrade the nodes"
        )
    return data


def _no_number(text: str) -> Json:
    raise ValueError(f"{text} is no number of JSON")


def _words(data: dict[str, Json], kind: type[D]) -> D:
    """Return a document as its kind of entry has it, every word known."""
    _refuse_unknown(data, [field.encode_name for field in msgspec.structs.fields(kind)], "the document")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the document does not fit its kind: {error}; given: {shown(data)}") from None


def _refuse_unknown(data: Json, known: Collection[str], where: str) -> None:
    if not isinstance(data, dict):
        return  # what it should be is said by whoever reads it
    for word in data:
        if word not in known:
            raise InvalidInput(
                f"{where} says {shown(word)}, which nobody knows{near_miss(str(word)[:100], known)}; there "
                f"are {', '.join(known)}"
            )


_PARTS = tuple(field.encode_name for field in msgspec.structs.fields(Definition))
_POLICY = tuple(field.encode_name for field in msgspec.structs.fields(Policy))
_TARGET = tuple(field.encode_name for field in msgspec.structs.fields(Target))


def _changes(data: dict[str, Json]) -> dict[str, Json]:
    """Return parts of a definition, every word of them known."""
    _refuse_unknown(data, _PARTS, "the definition")
    _refuse_unknown(data.get("policy"), _POLICY, "the policy")
    _refuse_unknown(data.get("target"), _TARGET, "the target")
    return data


def _definition(data: dict[str, Json]) -> Definition:
    return checked_definition(from_data(_changes(data), Definition))


def _edited(before: Definition, changes: dict[str, Json]) -> Definition:
    if not changes:
        raise InvalidInput('the changes are empty; say what shall be different, e.g. {"title": "…"}')
    data = to_data(before)
    for part in ("policy", "target"):
        if isinstance(changes.get(part), dict):
            changes = {**changes, part: {**data.get(part, {}), **changes[part]}}
    return _definition({**data, **changes})


learn_nouns()
