"""The nouns. Frozen, typed, without behaviour beyond their own arithmetic.

Instants are aware datetimes in UTC and end in ``_at``; durations are timedeltas, and become seconds with
the suffix ``_s`` in JSON (codec.py). "Never" is None. The words are those of docs/glossary.md.
"""

import re
import zlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from onebeat.core.errors import InvalidInput, shown

Json: TypeAlias = Any  # what json.loads returns; arguments and results are never anything else
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Noun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What every noun is: frozen, strict about unknown fields, and never in a cycle that needs collecting."""


def learn_nouns() -> None:
    """Have msgspec 0.22 look at every noun, at import: threads that race to be the first would crash."""
    for noun in Noun.__subclasses__():
        msgspec.json.Decoder(noun)


# --- policies: closed sets, matched exhaustively in decide.py ---------------------------------------


class CatchUp(StrEnum):
    """Which of several owed occurrences fire."""

    ALL = "all"  # oldest first; at most catch_up_max runs, the last one folds the rest
    LATEST = "latest"  # the newest; the older are folded into it
    EARLIEST = "earliest"  # the oldest; the newer are folded into it
    SKIP = "skip"  # the newest, when within grace; the older are skipped


class Overlap(StrEnum):
    """What becomes of an occurrence while ``max_running`` runs of its schedule are unfinished."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    QUEUE_ALL = "queue_all"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


class OnLost(StrEnum):
    """What becomes of a run whose attempt ended without a report, after its body had started."""

    RETRY = "retry"
    FAIL = "fail"


class RunState(StrEnum):
    """The life of a run. A run in a LIVE state holds one of its schedule's slots."""

    WAITING = "waiting"  # in the overlap queue: holds no slot
    READY = "ready"  # may be claimed from ready_at on (a retry's backoff keeps its slot)
    SENT = "sent"  # handed to an external engine; ready again at resend_at
    RUNNING = "running"  # under a lease
    PARKED = "parked"  # no live node can resolve the target
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"  # its start deadline passed
    HANDED_OVER = "handed_over"  # an engine without a guard: the hand-over is the outcome


LIVE = frozenset({RunState.READY, RunState.SENT, RunState.RUNNING, RunState.PARKED})
UNFINISHED = LIVE | {RunState.WAITING}
FINISHED = frozenset(RunState) - UNFINISHED


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


class Reason(StrEnum):
    """Why an occurrence was settled without a run of its own."""

    PAUSED = "paused"
    MISFIRE = "misfire"
    CATCH_UP = "catch_up"
    OVERLAP = "overlap"
    QUEUE_FULL = "queue_full"
    REPLACED = "replaced"  # cancel_running: a newer occurrence of the same settlement took its place
    SKIP_NEXT = "skip_next"
    EDITED = "edited"  # an edit of the spread jumped over it, and the new definition has it not
    DELETED = "deleted"  # owed under a hold when the schedule was deleted: nothing is left that could meet it
    FOLDED = "folded"


class TriggerSpec(Noun, frozen=True, kw_only=True):
    """A "when" as data: a kind of the open set in core/triggers and its fields, both plain JSON.

    Combine with ``|`` (union), ``&`` (intersection) and ``-`` (except); bound with ``between``.
    """

    kind: str
    fields: dict[str, Json] = {}

    def __or__(self, other: "TriggerSpec") -> "TriggerSpec":
        return _combined("union", self, other)

    def __and__(self, other: "TriggerSpec") -> "TriggerSpec":
        return _combined("intersection", self, other)

    def __sub__(self, other: "TriggerSpec") -> "TriggerSpec":
        return TriggerSpec(kind="except", fields={"of": as_json(self), "without": as_json(other)})

    def between(self, start_at: datetime | None = None, end_at: datetime | None = None) -> "TriggerSpec":
        """Keep only the occurrences in [start_at, end_at]. Either bound may be open; both must be aware."""
        given = {"start_at": start_at, "end_at": end_at}.items()
        bounds = {name: instant_text(utc(bound, name)) for name, bound in given if bound is not None}
        return TriggerSpec(kind="between", fields={"of": as_json(self)} | bounds)

    def within(self, window: "TriggerSpec") -> "TriggerSpec":
        """Keep only the occurrences in a window or a calendar: the same as ``self & window``."""
        return self & window

    def outside(self, window: "TriggerSpec") -> "TriggerSpec":
        """Leave out the occurrences in a window or a calendar: the same as ``self - window``."""
        return self - window


def as_json(spec: TriggerSpec) -> Json:
    """Return a trigger spec in the plain form in which it nests inside another."""
    return {"kind": spec.kind, "fields": spec.fields}


def _combined(kind: str, left: TriggerSpec, right: TriggerSpec) -> TriggerSpec:
    one, other = (part.fields["of"] if part.kind == kind else [as_json(part)] for part in (left, right))
    return TriggerSpec(kind=kind, fields={"of": [*one, *other]})


class Target(Noun, frozen=True, kw_only=True):
    """What a run does: the kind of executor, the address that it understands, JSON arguments.

    ``queue`` is the lane that workers subscribe to. ``unverified`` in a listing means that no live node
    which announces the target has checked the arguments yet.
    """

    kind: str
    address: str
    args: tuple[Json, ...] = ()
    kwargs: dict[str, Json] = {}
    queue: str = "default"

    @property
    def key(self) -> str:
        """``kind:address``, the name under which nodes announce that they can run it."""
        return f"{self.kind}:{self.address}"


class Policy(
    Noun,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "grace": "grace_s",
        "start_within": "start_within_s",
        "timeout": "timeout_s",
        "backoff": "backoff_s",
        "backoff_max": "backoff_max_s",
        "spread": "spread_s",
        "alert_after": "alert_after_s",
    },
):
    """How a schedule behaves when things are late, overlap or fail. The defaults are the documented ones."""

    catch_up: CatchUp = CatchUp.LATEST
    catch_up_max: int = 100
    grace: timedelta | None = None
    overlap: Overlap = Overlap.SKIP
    max_running: int = 1
    queue_max: int = 1000
    start_within: timedelta | None = None
    timeout: timedelta | None = None
    attempts: int = 1
    backoff: timedelta = timedelta(seconds=10)
    backoff_max: timedelta = timedelta(hours=1)
    retry_on: tuple[str, ...] = ()
    on_lost: OnLost = OnLost.RETRY
    spread: timedelta = timedelta(0)
    priority: int = 0
    exclusive: str | None = None  # a group: of its runs, of whatever schedules, one at a time is out
    alert_after: timedelta | None = None  # a run unfinished this long after it was due is an event
    report_success: bool = False
    transactional: bool = False  # the body gets the transaction in which its run ends
    keep_runs: int = 1000
    keep_days: int = 30

    @property
    def limited(self) -> bool:
        """Whether overlap counts: everything but ``allow``."""
        return self.overlap is not Overlap.ALLOW


class Definition(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """What a person or program wants: one trigger, one target, one policy, and how to find it again."""

    trigger: TriggerSpec
    target: Target
    policy: Policy = Policy()
    title: str = ""
    tags: tuple[str, ...] = ()


class Schedule(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """A named, versioned row: a definition and where the ledger stands with it.

    ``settled_until`` is nominal and never goes back. ``next_at`` is when the next occurrence is due (its
    instant plus the schedule's offset), a cache: None while paused, quarantined, deleted or ended.
    ``number`` counts definitions: run rows refer to the one they were fired under.
    """

    id: int
    name: str
    incarnation: int = 1
    version: int = 1
    number: int = 1
    definition: Definition
    settled_until: datetime
    next_at: datetime | None = None
    cut_at: datetime
    paused: str | None = None  # the reason given, "" when none was
    quarantined: str | None = None
    deleted: bool = False
    skips: tuple[datetime, ...] = ()
    owner: str = ""
    revision: int = 0
    applied: Definition | None = None  # as last declared by the owner: the third leg of reconciling
    tz_version: str = ""
    created_at: datetime

    @property
    def dormant(self) -> bool:
        """Whether occurrences are owed but not decided: paused, set aside, or gone."""
        return self.paused is not None or self.quarantined is not None or self.deleted


# --- runs -------------------------------------------------------------------------------------------


class Fold(Noun, frozen=True, kw_only=True):
    """The occurrences that one run stands for, its own included: ``count``, from first to last.

    A run that stands for its own alone has no fold; one that was asked for may have no occurrence of its own.
    """

    first_at: datetime
    last_at: datetime
    count: int

    def joined(self, other: "Fold") -> "Fold":
        """Return what a run stands for that stands for both."""
        first_at, last_at = min(self.first_at, other.first_at), max(self.last_at, other.last_at)
        return Fold(first_at=first_at, last_at=last_at, count=self.count + other.count)


class NewRun(Noun, frozen=True, kw_only=True):
    """A run about to be created by a settlement or a request. The store adds what only it knows."""

    id: str
    state: RunState  # ready or waiting
    due_at: datetime
    ready_at: datetime
    occurrence_at: datetime | None = None
    fold: Fold | None = None
    deadline_at: datetime | None = None
    key: str | None = None


class Run(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """The durable record of work owed for an occurrence or a request: one row, from fire to outcome.

    ``mark_before`` and ``mark_after`` are the settled interval (before, after] that this run covers; both
    are None for a request, which settles nothing. ``attempt`` counts leases that led to a start or a loss;
    ``token`` fences the current lease. Times of the current attempt only: earlier ones are events.
    """

    id: str
    schedule_id: int
    schedule: str
    number: int  # of the definition it was fired under
    queue: str
    target: str  # Target.key
    state: RunState
    reason: str = ""
    occurrence_at: datetime | None = None
    due_at: datetime
    ready_at: datetime
    deadline_at: datetime | None = None
    resend_at: datetime | None = None
    fold: Fold | None = None
    key: str | None = None
    mark_before: datetime | None = None
    mark_after: datetime | None = None
    priority: int = 0
    exclusive: str | None = None  # its group, as of the definition that it was fired under
    attempt: int = 0
    token: int = 0
    holder: str | None = None
    lease_until: datetime | None = None
    cancel_requested: bool = False
    created_at: datetime
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    error: str | None = None
    result: Json = None
    progress: tuple[int, int] | None = None

    @property
    def lateness(self) -> timedelta:
        """Fire instant − due instant, on the store's clock. Never negative for a settled occurrence."""
        return self.created_at - self.due_at


# --- settling ---------------------------------------------------------------------------------------


class Load(Noun, frozen=True, kw_only=True):
    """How busy a schedule is, counted from its run rows at the instant of reading."""

    live: int = 0
    waiting: int = 0
    last_waiting: str | None = None  # id of the youngest waiting run


class Owing(Noun, frozen=True, kw_only=True):
    """The light columns of a schedule: all that deciding needs, and nothing else."""

    id: int
    name: str
    incarnation: int
    version: int
    trigger: TriggerSpec
    policy: Policy
    settled_until: datetime
    next_at: datetime | None
    paused: bool = False
    skips: tuple[datetime, ...] = ()
    load: Load = Load()


class Settlement(Noun, frozen=True, kw_only=True):
    """One tile of the ledger: what became of the occurrences in (mark_before, mark_after].

    Exactly one of three: ``run`` (fired; its fold has all that is folded into it beside it), ``into`` (folded
    into a run that is made beside it, or that waits already), or neither (skipped). ``count`` is how many
    occurrences the tile holds, the fired one included; ``first_at`` and ``last_at`` are their bounds, None
    when it holds none.
    """

    mark_before: datetime
    mark_after: datetime
    count: int
    first_at: datetime | None = None
    last_at: datetime | None = None
    run: NewRun | None = None
    into: str | None = None
    reason: Reason | None = None


class Decision(Noun, frozen=True, kw_only=True):
    """All that one settling changes, ready for a compare-and-set on ``version``.

    The tiles of ``settlements`` are contiguous from the old mark to ``settled_until``.
    """

    schedule_id: int
    version: int
    settled_until: datetime
    next_at: datetime | None
    settlements: tuple[Settlement, ...]
    cancel_older: bool = False
    skips: tuple[datetime, ...] | None = None  # the list that remains, None when it did not change


class Event(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """An immutable record of what leaves no run of its own, or of what a person changed.

    ``id`` is the cursor: it grows with the commit order of the store. Settlement events carry the tile.
    """

    id: int = 0
    at: datetime
    kind: str
    schedule_id: int | None = None
    schedule: str | None = None
    run_id: str | None = None
    actor: str = ""
    reason: str = ""
    mark_before: datetime | None = None
    mark_after: datetime | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None
    count: int | None = None
    data: dict[str, Json] = {}


class Node(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """A process with roles, as it announces itself. ``id`` is the holder in its leases."""

    id: str
    host: str
    pid: int
    roles: tuple[str, ...]
    queues: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()  # keys that it has resolved and will run
    version: str = ""
    tz_version: str = ""
    started_at: datetime
    seen_at: datetime
    alive_until: datetime
    stopping: bool = False
    settings: dict[str, str] = {}  # what all nodes of a ledger should agree on, in words


# --- names and small arithmetic ---------------------------------------------------------------------


def checked_name(name: str) -> str:
    """Return a schedule's name unchanged, or raise InvalidInput saying which rule it breaks."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{shown(name)} is no schedule name: names are 1 to 100 of a-z, 0-9, '.', '_' and '-', and begin "
            "with a letter or digit, so that they can stand in run ids, URLs and file names; "
            "put other scripts and capitals into title="
        )
    return name


@lru_cache(maxsize=1024)  # what is due at one moment shares a few instants
def occurrence_stamp(instant: datetime) -> str:
    """Return ``20261121T010000Z`` of a UTC instant, with microseconds only where they are not 0."""
    text = instant.isoformat()  # slicing it costs a third of strftime, and years before 1000 keep four digits
    fraction = text[19:26] if instant.microsecond else ""
    return f"{text[:4]}{text[5:7]}{text[8:13]}{text[14:16]}{text[17:19]}{fraction}Z"


def run_id(
    name: str, incarnation: int, *, occurrence_at: datetime | None = None, key: str | None = None
) -> str:
    """Return the readable, deterministic id of a run: ``name@stamp``, ``name~2@stamp``, ``name!key``."""
    stem = name if incarnation == 1 else f"{name}~{incarnation}"
    if key is not None:
        return f"{stem}!{key}"
    assert occurrence_at is not None
    return f"{stem}@{occurrence_stamp(occurrence_at)}"


def utc(instant: datetime, name: str = "instant") -> datetime:
    """Return an aware instant in UTC; a naive one is refused, because it names no instant."""
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidInput(
            f"{name}={instant.isoformat()} has no zone, so it names no instant; "
            "pass an aware datetime, e.g. datetime(2026, 11, 21, 9, tzinfo=ZoneInfo('Asia/Shanghai'))"
        )
    return instant.astimezone(UTC)


def instant_text(instant: datetime) -> str:
    """Return RFC 3339 in UTC with ``Z``, microseconds only where they are not 0."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def micros(instant: datetime) -> int:
    """Return whole microseconds since 1970-01-01T00:00Z: the form in which stores keep instants."""
    return (instant - EPOCH) // MICROSECOND


def from_micros(count: int) -> datetime:
    """Return the instant ``count`` microseconds after 1970-01-01T00:00Z."""
    return EPOCH + timedelta(microseconds=count)


def shard_of(name: str) -> int:
    """Return the 16-bit shard of a schedule: a hash of its name, the same on every node for ever."""
    return zlib.crc32(name.encode()) & 0xFFFF
