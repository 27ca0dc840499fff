"""A run as a Celery message: its headers, what of the options goes where, and which ledger it comes from."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from onebeat.core.errors import InvalidInput
from onebeat.core.messages import Claimed
from onebeat.core.model import Json, instant_text
from onebeat.core.targets import outside_name
from onebeat.core.tasks import guarded

RUN = "onebeat_run"
ATTEMPT = "onebeat_attempt"
"""Only where a guard is to begin that attempt: without it, a guard lets a message pass."""
DUE = "onebeat_due"
LEDGER = "onebeat_ledger"

KILL_AFTER = timedelta(seconds=10)
"""How long a body has to end after its policy's timeout, before its process is killed."""


class Message(NamedTuple):
    """What goes to Celery: the task's name and arguments, what is in the message, how it is sent."""

    name: str
    args: tuple[Json, ...]
    kwargs: dict[str, Json]
    content: dict[str, Any]
    sending: dict[str, Any]


_CONTENT = ("time_limit", "soft_time_limit", "ignore_result", "shadow")
"""Options that are fields of the message; the others say how it is sent."""


def message_of(
    claimed: Claimed, now: datetime, *, defaults: Mapping[str, Any] | None = None, ledger: str = ""
) -> Message:
    """Return the message of a run that was claimed for sending. ``defaults`` are the task's own options.

    Its attempt is the run's next one. Raises InvalidInput for a target that is no Celery task.
    """
    run, definition = claimed.run, claimed.definition
    target = definition.target
    if target.kind != "celery":
        raise InvalidInput(f"{run.id} is of a {target.kind} target, which is no Celery task")
    options = {**(defaults or {}), **target.kwargs.get("options", {})}
    expires = options.pop("expires", None)
    content = {name: options.pop(name) for name in _CONTENT if name in options}
    content["task_id"] = outside_name(run.id)
    content["retries"] = run.attempt
    if definition.policy.timeout is not None:
        # Said of the schedule, it is the bound of an attempt; Celery's own limits may only be tighter.
        for name, limit in (
            ("soft_time_limit", definition.policy.timeout),
            ("time_limit", definition.policy.timeout + KILL_AFTER),
        ):
            content[name] = min(limit.total_seconds(), content.get(name) or limit.total_seconds())
    if expires is not None:
        expires_at = run.due_at + timedelta(seconds=expires)
        content["expires"] = expires_at.isoformat()
        options["expiration"] = max(0.0, (expires_at - now).total_seconds())
    options["serializer"] = "json"
    options["headers"] = {
        **(options.get("headers") or {}),
        RUN: run.id,
        **({ATTEMPT: run.attempt + 1} if guarded(target) else {}),
        DUE: instant_text(run.due_at),
        LEDGER: ledger,
    }
    return Message(target.address, target.args, target.kwargs.get("kwargs", {}), content, options)


def fingerprint(url: str) -> str:
    """Return what tells one ledger from another: a hash of its URL without whom it is opened as.

    Two URLs of one ledger may differ (a host by its name, or by its address), so that it explains, and never
    decides alone.
    """
    parts = urlsplit(url)
    place = f"{parts.scheme}//{parts.netloc.rpartition('@')[2]}{parts.path}?{parts.query}"
    return hashlib.sha256(place.encode()).hexdigest()[:12]
