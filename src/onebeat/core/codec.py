"""The one JSON form of every noun: database cells, REST bodies, exports and ``--json`` all pass here.

Instants are RFC 3339 in UTC, durations are numbers of seconds under names that end in ``_s``, enums are their
lower-case words, and a field at its default may be left out. Keys are sorted, so equal nouns have equal text.
``FORMAT`` stands beside every stored or exported document; a reader refuses a larger one instead of guessing.
"""

from datetime import timedelta
from functools import lru_cache
from typing import TypeVar

import msgspec

from onebeat.core.errors import BrokenDocument, InvalidInput, shown
from onebeat.core.model import Definition, Json, Noun, Policy, Schedule, TriggerSpec

FORMAT = 1
DOCUMENT_BYTES_MAX = 320 * 1024
ARGUMENTS_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 64 * 1024
LOG_BYTES_MAX = 1024 * 1024

N = TypeVar("N", bound=Noun)

_DURATIONS = frozenset(
    field.encode_name
    for field in msgspec.structs.fields(Policy)
    if field.type in (timedelta, timedelta | None)
)
_POLICY_WITHIN: dict[type[Noun], dict[str, type[Noun]]] = {
    Definition: {"policy": Policy},
    Schedule: {"definition": Definition, "applied": Definition},
}


def to_data(noun: object) -> Json:
    """Return the plain JSON data of a noun, or of a list or mapping of nouns."""
    return _seconds(msgspec.to_builtins(noun, builtin_types=(timedelta,), order="sorted"))


def to_text(noun: object) -> str:
    """Return the canonical JSON text of a noun: sorted keys, no spaces; equal nouns give equal text."""
    return msgspec.json.encode(to_data(noun), order="sorted").decode()


def from_data(data: Json, kind: type[N]) -> N:
    """Return the noun that plain JSON data describes. Raises InvalidInput naming the place and the value."""
    try:
        return msgspec.convert(_timedeltas(data, kind), kind, builtin_types=(timedelta,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidInput(f"this is no {kind.__name__.lower()}: {error}; given: {shown(data)}") from error


def from_text(text: str | bytes, kind: type[N]) -> N:
    """Return the noun that a stored text describes. Raises BrokenDocument: the text was ours once."""
    try:
        return from_data(msgspec.json.decode(text), kind)
    except (msgspec.DecodeError, InvalidInput, UnicodeDecodeError) as error:
        raise BrokenDocument(f"a stored {kind.__name__.lower()} does not decode: {error}") from error


@lru_cache(maxsize=4096)
def trigger_from(text: str) -> TriggerSpec:
    """Return the trigger of a stored cell; equal texts share one object, and so one evaluator."""
    return from_text(text, TriggerSpec)


@lru_cache(maxsize=4096)
def policy_from(text: str) -> Policy:
    """Return the policy of a stored cell; equal texts share one object."""
    return from_text(text, Policy)


@lru_cache(maxsize=1024)
def definition_from(text: str) -> Definition:
    """Return the definition of a stored cell; equal texts share one object."""
    return from_text(text, Definition)


def checked_json(value: object, limit: int, what: str) -> str:
    """Return ``value`` as JSON text of at most ``limit`` bytes; raise InvalidInput saying what it is instead.

    Only what JSON can say passes: no pickle, no silent ``str()`` of an object.
    """
    try:
        text = msgspec.json.encode(value, enc_hook=_refuse)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            f"{what} {shown(value)} is not JSON: {error}; pass plain numbers, texts, lists and mappings"
        ) from error
    if len(text) > limit:
        raise InvalidInput(
            f"{what} takes {len(text)} bytes of JSON, more than the limit of {limit}; "
            "keep large data elsewhere and pass a reference to it"
        )
    return text.decode()


def _refuse(value: object) -> Json:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _seconds(data: Json) -> Json:
    if isinstance(data, timedelta):
        seconds = data.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if isinstance(data, dict):
        return {key: _seconds(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_seconds(value) for value in data]
    return data


def _timedeltas(data: Json, kind: type[Noun]) -> Json:
    """Turn seconds into timedeltas where a policy stands; elsewhere arguments may use the same names."""
    if not isinstance(data, dict):
        return data
    if kind is Policy:
        return {key: _duration(value) if key in _DURATIONS else value for key, value in data.items()}
    inner = _POLICY_WITHIN.get(kind, {})
    return {key: _timedeltas(value, inner[key]) if key in inner else value for key, value in data.items()}


def _duration(value: Json) -> Json:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    return timedelta(seconds=value) if numeric else value
