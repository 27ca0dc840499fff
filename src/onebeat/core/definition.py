"""What a person writes, checked: every field of a definition, with what is wrong, why, and what to do.

``define`` makes a Definition out of the words of a program (a cron text, a function, numbers of seconds);
``checked_definition`` refuses one that cannot be meant, wherever it came from. Whether a target can be run is
not known here: that is for a process that has it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypedDict

import msgspec

from onebeat.core import foreign
from onebeat.core.codec import DOCUMENT_BYTES_MAX, to_text
from onebeat.core.errors import InvalidInput, LimitExceeded, near_miss, shown
from onebeat.core.model import (
    CatchUp,
    Definition,
    Json,
    OnLost,
    Overlap,
    Policy,
    Target,
    TriggerSpec,
    as_json,
)
from onebeat.core.ports import Sharing, Store
from onebeat.core.targets import call, checked_target
from onebeat.core.tasks import guarded
from onebeat.core.triggers import build, cron, with_zone

CENTURY = timedelta(days=36_525)
TITLE_CHARS_MAX = 200
TAGS_MAX = 20
TAG = re.compile(r"[^\s,\x00-\x1f\x7f]{1,50}")
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
RETRY_ON_MAX = 50
GROUP_CHARS_MAX = 50
GROUP = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{GROUP_CHARS_MAX - 1}}}")

Seconds = timedelta | float
"""A duration as people write it: a timedelta, or a number of seconds."""


class PolicyOptions(TypedDict, total=False):
    """The fields of a policy as keyword arguments; docs/reference/policies.md says what each does."""

    catch_up: CatchUp | str
    catch_up_max: int
    grace: Seconds | None
    overlap: Overlap | str
    max_running: int
    queue_max: int
    start_within: Seconds | None
    timeout: Seconds | None
    attempts: int
    backoff: Seconds
    backoff_max: Seconds
    retry_on: Iterable[str]
    on_lost: OnLost | str
    spread: Seconds
    priority: int
    exclusive: str | None
    alert_after: Seconds | None
    report_success: bool
    transactional: bool
    keep_runs: int
    keep_days: int


class Options(PolicyOptions, total=False):
    """What can be said of a schedule beside its trigger and its target."""

    title: str
    tags: Iterable[str]
    queue: str


class Bounds(NamedTuple):
    """The least and the most that a field may be, and why."""

    least: Any
    most: Any
    why: str


_LONG = timedelta(milliseconds=1), CENTURY
BOUNDS: dict[str, Bounds] = {
    "catch_up_max": Bounds(1, 10_000, "each is a run of its own, in one transaction"),
    "grace": Bounds(
        *_LONG, "every commit comes a little after its instant, so no grace at all fires nothing"
    ),
    "max_running": Bounds(1, 100_000, "fewer than one would never run, and overlap='allow' sets no limit"),
    "queue_max": Bounds(1, 100_000, "each waiting run is looked at when one ends"),
    "start_within": Bounds(*_LONG, "a run needs a moment to be claimed"),
    "timeout": Bounds(*_LONG, "an attempt needs a moment"),
    "attempts": Bounds(1, 1000, "the first try counts too"),
    "backoff": Bounds(timedelta(0), CENTURY, "it is a pause between attempts"),
    "backoff_max": Bounds(timedelta(0), CENTURY, "it is a pause between attempts"),
    "spread": Bounds(timedelta(0), timedelta(days=7), "it delays each occurrence by as much as that"),
    "priority": Bounds(-1000, 1000, "it only orders runs that are ready at the same time"),
    "alert_after": Bounds(*_LONG, "a run needs a moment"),
    "keep_runs": Bounds(1, 1_000_000, "the last run is the record of what happened"),
    "keep_days": Bounds(1, 36_525, "the last day is the record of what happened"),
}
"""Every policy field that has a size; docs/reference/policies.md shows them."""

_FIELDS = {field.name: field for field in msgspec.structs.fields(Policy)}
_ENUMS: dict[str, type[StrEnum]] = {"catch_up": CatchUp, "overlap": Overlap, "on_lost": OnLost}
_DURATIONS = frozenset(name for name, field in _FIELDS.items() if field.type in (timedelta, timedelta | None))
_MAY_BE_NONE = frozenset(name for name, field in _FIELDS.items() if field.default is None)


# --- durations, said in words ---------------------------------------------------------------------------


def seconds(count: float) -> timedelta:
    """Return so many seconds."""
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    """Return so many minutes."""
    return timedelta(minutes=count)


def hours(count: float) -> timedelta:
    """Return so many hours."""
    return timedelta(hours=count)


def days(count: float) -> timedelta:
    """Return so many days of 24 hours."""
    return timedelta(days=count)


# --- building -------------------------------------------------------------------------------------------


def define(
    trigger: str | TriggerSpec,
    target: str | Target | Callable[..., Any],
    options: Mapping[str, Any],
    *,
    zone: str | None = None,
    policy: Policy | None = None,
) -> Definition:
    """Return the checked definition that these words mean.

    ``zone`` is for triggers that name none; ``options`` change ``policy``, by default the documented one.
    """
    given = dict(options)
    title, tags, queue = given.pop("title", ""), given.pop("tags", ()), given.pop("queue", None)
    aim = target if isinstance(target, Target) else call(target)
    if queue is not None:
        aim = msgspec.structs.replace(aim, queue=queue)
    return checked_definition(
        Definition(
            trigger=read_trigger(trigger, zone),
            target=aim,
            policy=policy_of(given, policy),
            title=title,
            tags=tuple(dict.fromkeys([tags] if isinstance(tags, str) else tags)),
        )
    )


def read_trigger(trigger: str | TriggerSpec, zone: str | None = None) -> TriggerSpec:
    """Return a trigger: a text is a cron expression. Parts that live in a zone and name none get ``zone``."""
    if not isinstance(trigger, (str, TriggerSpec)):
        raise InvalidInput(
            f"{shown(trigger)} is no trigger; pass a cron text such as '0 9 * * MON-FRI', or interval(…), "
            "once(…), cron(…) and what | & - make of them"
        )
    spec = cron(trigger) if isinstance(trigger, str) else trigger
    return spec if zone is None else with_zone(spec, zone)


def policy_of(options: Mapping[str, Any], over: Policy | None = None) -> Policy:
    """Return ``over`` (or the defaults) with these fields changed; numbers are seconds where a field lasts.

    Raises InvalidInput for an unknown field, with the nearest, or a value of another kind.
    """
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name in foreign.FOREIGN:
            raise InvalidInput(foreign.told(name))
        if name not in _FIELDS:
            raise InvalidInput(
                f"{shown(name)} is no option of a schedule{near_miss(str(name), (*_FIELDS, *_OTHER))}; "
                f"there are {', '.join((*_FIELDS, *_OTHER))}"
            )
        changes[name] = _read(name, value)
    return msgspec.structs.replace(Policy() if over is None else over, **changes)


_OTHER = ("title", "tags", "queue")


def _read(name: str, value: Any) -> Any:
    """Return one field of a policy in its own type."""
    if value is None and name in _MAY_BE_NONE:
        return None
    if name in _ENUMS:
        return _member(name, value)
    if name in _DURATIONS:
        return _duration(name, value)
    if name == "retry_on":
        given = [value] if isinstance(value, str) else value
        return tuple(item.__name__ if isinstance(item, type) else item for item in given)
    if name == "exclusive":
        return value  # looked at with the rest of the policy
    wanted = bool if isinstance(_FIELDS[name].default, bool) else int
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise InvalidInput(f"{name}={shown(value)} is no {'yes or no' if wanted is bool else 'whole number'}")
    return value


def _member(name: str, value: Any) -> StrEnum:
    try:
        return _ENUMS[name](value)
    except ValueError:
        known = [member.value for member in _ENUMS[name]]
        raise InvalidInput(
            f"{name}={shown(value)} is none of {', '.join(known)}{near_miss(str(value), known)}"
        ) from None


def _duration(name: str, value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidInput(f"{name}={shown(value)} is no duration; pass seconds, minutes(10), or a timedelta")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise InvalidInput(f"{name}={value} seconds is longer than anything lasts") from None


# --- checking -------------------------------------------------------------------------------------------


def checked_definition(definition: Definition) -> Definition:
    """Return the definition unchanged, or raise InvalidInput for the first thing that cannot be meant."""
    build(definition.trigger)
    checked_target(definition.target)
    _check_policy(definition.policy)
    _check_words(definition.title, definition.tags)
    if definition.policy.transactional and definition.target.kind != "python":
        raise InvalidInput(
            f"transactional=True is for plain Python functions on threads, which can be handed a "
            f"connection; a target of kind {definition.target.kind} cannot"
        )
    if definition.target.kind == "celery" and not guarded(definition.target) and definition.policy.limited:
        raise InvalidInput(
            f"a task without the guard reports no end, so nobody can tell whether a run overlaps; with "
            f"guarded=False write overlap='allow' instead of {definition.policy.overlap.value!r}, or put "
            "onebeat.celery.install(app) into the Celery app"
        )
    if definition.target.kind == "celery" and not guarded(definition.target) and definition.policy.exclusive:
        raise InvalidInput(
            f"a task without the guard reports no end, so nobody can tell when the next of the group "
            f"{definition.policy.exclusive} may run; leave exclusive out, or put onebeat.celery.install(app) "
            "into the Celery app"
        )
    if definition.policy.catch_up is CatchUp.SKIP and definition.policy.grace is None:
        raise InvalidInput(
            "catch_up='skip' fires the newest occurrence only within its grace, and no grace is set, so that "
            "nothing would ever count as late; set grace, e.g. grace=minutes(10)"
        )
    size = len(to_text(definition).encode())
    if size > DOCUMENT_BYTES_MAX:
        raise LimitExceeded(f"this definition takes {size:,} bytes; at most {DOCUMENT_BYTES_MAX:,} are kept")
    return definition


def checked_sharing(policy: Policy, store: Store, *, lease: timedelta, place: str) -> None:
    """Raise InvalidInput where a policy that is transactional does not fit the store of a ledger.

    It must lend its transactions; and where nobody else can write while one is open, not even to renew a
    lease, the body must be done in time.
    """
    if not isinstance(store, Sharing):
        raise InvalidInput(
            f"transactional=True needs a ledger in a SQL database, and {place} has no transaction to lend to "
            "a body; leave it out, and make the effect know its run by run.id"
        )
    longest = lease / 3
    if store.alone and (policy.timeout is None or policy.timeout >= longest):
        raise InvalidInput(
            f"transactional=True on {place} needs a timeout shorter than {longest.total_seconds():g} s, a "
            f"third of the lease, and timeout is {_told(policy.timeout)}: while the body has the "
            "transaction, nobody else can write, not even to renew its lease"
        )


def checked_key(key: str) -> str:
    """Return the key of a request unchanged, or raise InvalidInput: it becomes part of a run's id."""
    if not KEY.fullmatch(key):
        raise InvalidInput(
            f"{shown(key)} is no request key: 1 to 100 of letters, digits, '.', '_', ':' and '-', beginning "
            "with a letter or digit"
        )
    return key


def _check_policy(policy: Policy) -> None:
    for name, bounds in BOUNDS.items():
        value = getattr(policy, name)
        if value is not None and not bounds.least <= value <= bounds.most:
            raise InvalidInput(
                f"{name}={_told(value)} is not from {_told(bounds.least)} to {_told(bounds.most)}: "
                f"{bounds.why}"
            )
    if policy.backoff_max < policy.backoff:
        raise InvalidInput(
            f"backoff_max={policy.backoff_max} is shorter than backoff={policy.backoff}, which it bounds"
        )
    names: tuple[object, ...] = policy.retry_on
    if len(names) > RETRY_ON_MAX or not all(isinstance(name, str) and 0 < len(name) <= 200 for name in names):
        raise InvalidInput(
            f"retry_on={shown(policy.retry_on)} is no list of at most {RETRY_ON_MAX} names of error types, "
            "such as 'TimeoutError'"
        )
    group: object = policy.exclusive
    if group is not None and not (isinstance(group, str) and GROUP.fullmatch(group) and group != "none"):
        raise InvalidInput(
            f"exclusive={shown(group)} is no name of a group: 1 to {GROUP_CHARS_MAX} of a-z, 0-9, '.', '_' "
            "and '-', beginning with a letter or digit, and not 'none', which takes a group away"
        )


def _check_words(title: object, tags: tuple[object, ...]) -> None:
    if not isinstance(title, str) or len(title) > TITLE_CHARS_MAX or not title.isprintable():
        raise InvalidInput(
            f"title={shown(title)} is not one line of at most {TITLE_CHARS_MAX} printable characters"
        )
    if len(tags) > TAGS_MAX:
        raise InvalidInput(f"{len(tags)} tags are more than {TAGS_MAX}; a tag is for finding, not for data")
    for tag in tags:
        if not isinstance(tag, str) or not TAG.fullmatch(tag):
            raise InvalidInput(f"{shown(tag)} is no tag: 1 to 50 characters without spaces and commas")


def _told(value: object) -> str:
    if not isinstance(value, timedelta):
        return str(value)
    return f"{value.days} days" if value and not value % timedelta(days=1) else f"{value.total_seconds():g} s"


def zone_of(spec: TriggerSpec) -> str | None:
    """Return the first zone that a trigger or one of its parts names: the one to show its instants in."""
    pending: list[Json] = [as_json(spec)]
    while pending:
        part = pending.pop(0)
        if isinstance(part, dict):
            zone = part.get("fields", {}).get("zone") if isinstance(part.get("fields"), dict) else None
            if isinstance(zone, str):
                return zone
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return None
