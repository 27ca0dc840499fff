"""What can be said of a Celery task as the target of a run: options of ``apply_async`` that are data.

Needs no Celery: a schedule of one is written and checked by programs that have none. Refused is what the
ledger could not keep (callbacks, connections), what it says itself (when, and under which id), and what would
have a worker read more than JSON. Imports the errors and the nouns alone.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypedDict

from onebeat.core.errors import InvalidInput, near_miss, shown
from onebeat.core.model import Json, Target

HEADERS_MAX = 100
TEXT_CHARS_MAX = 255
"""Of a queue, a routing key, an exchange: AMQP's own limit."""

OUR_HEADERS = "onebeat_"
SAID = ("kwargs", "options", "guarded")
"""What a target of kind celery has beside its address and its positional arguments."""

_COMPRESSION = re.compile(r"[a-z0-9][a-z0-9/+._-]{0,49}")


class TaskOptions(TypedDict, total=False):
    """The options of Celery's ``apply_async`` that a schedule can keep."""

    queue: str
    routing_key: str
    exchange: str
    priority: int
    headers: Mapping[str, str | int | float | bool | None]
    expires: float | timedelta
    serializer: str
    compression: str
    time_limit: float
    soft_time_limit: float
    ignore_result: bool
    delivery_mode: int | str
    shadow: str


_WHEN = "the schedule says when a run is due, and no message waits in a worker's memory for it"
_ID = "the run's id is the task's id, the same in every attempt, so that one is never taken for another"
_CALLBACK = (
    "a callback is code of your app, which a ledger does not keep; call it from the task, or act on the "
    "event of the run (beat.on)"
)
_OBJECT = "it is an object of one process, and a schedule is data that any node can send"
_AGAIN = "a message that the broker did not take is sent again by onebeat, until it is there"
_GROUPED = "a run is a task of its own, and of no group or chain; start those from the task"
REFUSED: dict[str, str] = {
    **dict.fromkeys(("eta", "countdown"), _WHEN),
    "task_id": _ID,
    **dict.fromkeys(("link", "link_error"), _CALLBACK),
    **dict.fromkeys(("connection", "producer", "publisher", "router", "route_name", "declare"), _OBJECT),
    **dict.fromkeys(("retry", "retry_policy"), _AGAIN),
    **dict.fromkeys(("chain", "chord", "group_id", "group_index", "parent_id", "root_id"), _GROUPED),
    "args": "arguments stand beside the options: celery_task(name, args=[…])",
    "kwargs": "arguments stand beside the options: celery_task(name, kwargs={…})",
}
"""Options of ``apply_async`` that a schedule cannot have, each with the reason."""


def said_of_task(kwargs: object, guarded: object, options: Mapping[str, Any]) -> dict[str, Json]:
    """Return what a target keeps beside address and arguments: only what was said."""
    plain = dict(options)
    if isinstance(plain.get("expires"), timedelta):
        plain["expires"] = plain["expires"].total_seconds()
    if isinstance(plain.get("headers"), Mapping):
        plain["headers"] = dict(plain["headers"])
    found: dict[str, Json] = {}
    if kwargs:
        found["kwargs"] = dict(kwargs) if isinstance(kwargs, Mapping) else kwargs
    if plain:
        found["options"] = plain
    if guarded is not True:
        found["guarded"] = guarded
    return found


def check_task(target: Target) -> None:
    """Raise InvalidInput for a Celery target that cannot be meant."""
    for name in target.kwargs:
        if name not in SAID:
            raise InvalidInput(
                f"{shown(name)} is nothing that can be said of a Celery task{near_miss(name, SAID)}; there "
                f"are {', '.join(SAID)}, and options of apply_async stand in options"
            )
    _check_table(target.kwargs.get("kwargs", {}), "kwargs")
    if target.kwargs.get("guarded", True) not in (True, False):
        raise InvalidInput(f"guarded={shown(target.kwargs['guarded'])} is no yes or no")
    options = target.kwargs.get("options", {})
    _check_table(options, "options")
    for name, value in options.items():
        if name in REFUSED:
            raise InvalidInput(f"{name}={shown(value)} cannot be said of a scheduled task: {REFUSED[name]}")
        if name not in _CHECKS:
            raise InvalidInput(
                f"{shown(name)} is no option of a Celery task{near_miss(name, _CHECKS)}; there are "
                f"{', '.join(_CHECKS)}"
            )
        _CHECKS[name](name, value)


def guarded(target: Target) -> bool:
    """Return whether workers are expected to have the guard, so that the run ends with its task."""
    return target.kwargs.get("guarded", True) is True


def _check_table(given: Json, name: str) -> None:
    if not isinstance(given, dict):
        raise InvalidInput(f"{name}={shown(given)} is no mapping of names to values")


def _check_text(name: str, value: Json) -> None:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.encode()) <= TEXT_CHARS_MAX:
        raise InvalidInput(f"{name}={shown(value)} is no name: a text of 1 to {TEXT_CHARS_MAX} bytes")


def _check_priority(name: str, value: Json) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise InvalidInput(f"{name}={shown(value)} is no number from 0 to 255, which is what brokers know")


def _check_headers(name: str, value: Json) -> None:
    _check_table(value, name)
    if len(value) > HEADERS_MAX:
        raise InvalidInput(f"{len(value)} headers are more than {HEADERS_MAX}; pass data as arguments")
    for key, each in value.items():
        _check_text("the name of a header", key)
        if key.lower().startswith(OUR_HEADERS):
            raise InvalidInput(
                f"headers: {key} is given by onebeat, which names all its headers so; rename it"
            )
        if each is not None and not isinstance(each, (str, int, float, bool)):
            raise InvalidInput(
                f"headers: {key} is {shown(each)}; a header is a text, a number, true or false"
            )


def _check_seconds(name: str, value: Json) -> None:
    if _number(value) is None or value < 0:
        raise InvalidInput(
            f"{name}={shown(value)} is no number of seconds from 0 on; it counts from when a run is due"
        )


def _check_limit(name: str, value: Json) -> None:
    if _number(value) is None or value <= 0:
        raise InvalidInput(f"{name}={shown(value)} is no number of seconds above 0")


def _number(value: Json) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


def _check_serializer(name: str, value: Json) -> None:
    if value != "json":
        raise InvalidInput(
            f"{name}={shown(value)}: arguments are JSON in the ledger and in the message; no pickle is ever "
            "read from a store, and none is sent. Leave it out"
        )


def _check_compression(name: str, value: Json) -> None:
    if not isinstance(value, str) or not _COMPRESSION.fullmatch(value):
        raise InvalidInput(f"{name}={shown(value)} is no name of a compression such as 'gzip'")


def _check_yes_or_no(name: str, value: Json) -> None:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}={shown(value)} is no yes or no")


def _check_delivery(name: str, value: Json) -> None:
    if isinstance(value, bool) or value not in (1, 2, "transient", "persistent"):
        raise InvalidInput(f"{name}={shown(value)} is none of 1 or 'transient', 2 or 'persistent'")


_CHECKS: dict[str, Callable[[str, Json], None]] = {
    **dict.fromkeys(("queue", "routing_key", "exchange"), _check_text),
    "priority": _check_priority,
    "headers": _check_headers,
    "expires": _check_seconds,
    "serializer": _check_serializer,
    "compression": _check_compression,
    **dict.fromkeys(("time_limit", "soft_time_limit"), _check_limit),
    "ignore_result": _check_yes_or_no,
    "delivery_mode": _check_delivery,
    "shadow": _check_text,
}
assert _CHECKS.keys() == TaskOptions.__annotations__.keys()
