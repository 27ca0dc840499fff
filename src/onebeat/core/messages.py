"""What passes through the sockets of the house: the messages that the verbs of ports.py take and answer.

Frozen values and nothing else: they say what is wished and what became of it, and decide nothing. What a verb
does with them is its contract, in ports.py. The nouns that are kept are in model.py.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from onebeat.core.model import (
    Definition,
    Event,
    Json,
    NewRun,
    Noun,
    Outcome,
    Owing,
    Policy,
    Run,
    RunState,
    Schedule,
    Settlement,
    learn_nouns,
)

# --- what the verbs of the ledger take and answer ---------------------------------------------------


class Answer(StrEnum):
    """What became of one item of a batch."""

    ACCEPTED = "accepted"  # it changed the ledger, now
    REPEATED = "repeated"  # the very same thing had been accepted before: the reply was lost, all is well
    STALE = "stale"  # somebody else was first, or the picture was too old: read again, decide again
    REFUSED = "refused"  # never: the token is not current, or the transition is not in the set


class Due(Noun, frozen=True, kw_only=True):
    """Rows to decide, by id, and when to look again: the earliest ``next_at`` that was not yet due.

    ``entries`` says that the inbox holds an entry without an answer.
    """

    rows: tuple[Owing, ...] = ()
    next_at: datetime | None = None
    entries: bool = False


class Share(Noun, frozen=True, kw_only=True):
    """One of ``of`` equal parts of the shards: those with ``shard % of == index``. An optimisation only."""

    index: int
    of: int


class Settled(Noun, frozen=True, kw_only=True):
    """The answer of ``settle``. When refused whole, nothing changed and ``won`` is empty.

    ``at`` is the store's clock as the transaction read it, and ``early_by`` how far that is behind ``now``;
    ``held``: a hold is in force. Else ``won[i]``: decision i was committed; losers changed nothing.
    """

    at: datetime
    won: tuple[bool, ...] = ()
    early_by: timedelta | None = None
    held: bool = False


class Edit(Noun, frozen=True, kw_only=True):
    """One change of one schedule, decided: the row as it will be, and what the old definition owed.

    ``expected_version`` 0 creates a row where there is none (not even a tombstone). ``after`` is the whole
    row with its new version, mark, ``next_at`` and, when the definition changes, ``number``; its id is 0 for
    a new row, and the store gives one. ``settlements`` tile from the old mark on, and their runs are fired
    under the old definition; what is left up to ``boundary_at`` held no occurrence and is one tile of count
    0, on the event of ``action``. ``requests`` are runs asked for beside it, under the new definition.
    ``id`` makes a repetition recognisable for as long as the trail lives, which is for ever. ``entry_id`` is
    the entry of the inbox that asks for it: both happen or neither does.
    """

    id: str
    expected_version: int
    after: Schedule
    cut_at: datetime
    boundary_at: datetime
    settlements: tuple[Settlement, ...] = ()
    cancel_older: bool = False
    cancel_waiting: bool = False  # a delete: waiting runs end as cancelled
    requests: tuple[NewRun, ...] = ()
    action: str  # the event's kind: schedule.created, .edited, .paused, .resumed, .deleted, …
    actor: str = ""
    reason: str = ""
    entry_id: str = ""

    @property
    def fires(self) -> bool:
        """Whether occurrences fire with it, which a hold forbids. Runs that were asked for do not count."""
        return any(tile.run is not None for tile in self.settlements)


class PutAnswer(Noun, frozen=True, kw_only=True):
    """``schedule`` is the row as committed (accepted, repeated), or as it stands (stale; None: no row).

    ``cut_at`` is the cut in force: everything due at or before it followed the old definition, on the
    store's clock; everything after it follows the new one.
    """

    answer: Answer
    schedule: Schedule | None
    cut_at: datetime | None = None


class Request(Noun, frozen=True, kw_only=True):
    """A run that a person or program asked for, admitted by decide.admit against ``expected_version``.

    ``entry_id`` as in Edit.
    """

    schedule_id: int
    expected_version: int
    run: NewRun
    actor: str = ""
    reason: str = ""
    entry_id: str = ""


class Claim(Noun, frozen=True, kw_only=True):
    """A holder's wish for work: at most ``limit`` ready runs of these queues and target keys.

    One that ``sends`` is a publisher's: it gives no lease, and the messages go out after it. A run's
    ``resend_at`` is then as far ahead as the run has been ready for, but not before ``until`` and not after
    ``until_max`` (None: ``until``).
    """

    holder: str
    queues: tuple[str, ...]
    targets: tuple[str, ...]
    limit: int
    until: datetime
    sends: bool = False
    until_max: datetime | None = None


class Claimed(Noun, frozen=True, kw_only=True):
    """A run under a fresh lease, or sent, with the definition that it was fired under."""

    run: Run
    definition: Definition


class Overtaken(StrEnum):
    """Which instant of a run has passed."""

    LEASE = "lease"
    RESEND = "resend"
    DEADLINE = "deadline"


class Overdue(Noun, frozen=True, kw_only=True):
    """A run that time has overtaken, and the policy to judge it by."""

    run: Run
    policy: Policy
    overtaken: Overtaken


class LogLine(Noun, frozen=True, kw_only=True):
    """One line that a body wrote. ``text`` has no newline at its end; ``attempt`` tells tries apart."""

    at: datetime
    attempt: int
    level: str
    text: str


class Note(Noun, frozen=True, kw_only=True):
    """What a holder says of its run while it runs."""

    run_id: str
    token: int
    progress: tuple[int, int] | None = None
    lines: tuple[LogLine, ...] = ()


class Hold(Noun, frozen=True, kw_only=True):
    """A stop of all firing, namespace-wide: what is owed meanwhile meets catch-up after the release."""

    since_at: datetime
    actor: str = ""
    reason: str = ""


class Purged(Noun, frozen=True, kw_only=True):
    """How much was forgotten, and the schedule id to go on from (None: all were visited)."""

    runs: int = 0
    events: int = 0
    schedules: int = 0
    next_id: int | None = None


# --- the inbox --------------------------------------------------------------------------------------


class EntryAnswer(Noun, frozen=True, kw_only=True):
    """What became of an entry: accepted, or refused and why.

    ``version`` is the schedule's after it, ``cut_at`` the cut of its edit, ``run_id`` the run that it asked
    for. ``answered_at`` is given by the store.
    """

    entry_id: str
    accepted: bool
    why: str = ""
    version: int | None = None
    cut_at: datetime | None = None
    run_id: str | None = None
    answered_at: datetime | None = None


class Entry(Noun, frozen=True, kw_only=True):
    """What a program outside wishes, in its own words: nothing of it was checked by anybody.

    ``key`` is the writer's own, '' for none. ``first`` is the answer to an earlier entry of that key. Of a
    document longer than ENTRY_CHARS_MAX only so much more than that was read that its length can be told.
    """

    id: str
    key: str = ""
    kind: str = ""
    name: str = ""
    document: str = ""
    actor: str = ""
    reason: str = ""
    answer: EntryAnswer | None = None
    first: EntryAnswer | None = None


# --- transitions: the closed set of ways in which a run moves ---------------------------------------


class Done(Noun, frozen=True, kw_only=True, tag="done"):
    """Verdict: the run ends in ``state``."""

    state: RunState
    reason: str = ""


class Retry(Noun, frozen=True, kw_only=True, tag="retry"):
    """Verdict: another attempt from ``at`` on. The run keeps its slot."""

    at: datetime
    reason: str = ""


Verdict: TypeAlias = Done | Retry


class Transition(Noun, frozen=True, kw_only=True, tag=True):
    """What all transitions share: the run, and the event that is written if and only if it is accepted."""

    run_id: str
    event: Event | None = None


class Start(Transition, frozen=True, kw_only=True):
    """running, not started → running, started. The body may begin only after this was accepted.

    It meets the deadline, which is cleared: a later attempt of a run that has started never expires.
    """

    token: int


class Renew(Transition, frozen=True, kw_only=True):
    """running → running until ``until``. Accepted even late, as long as nobody has ended the lease."""

    token: int
    until: datetime


class Finish(Transition, frozen=True, kw_only=True):
    """running → the verdict. Frees the slot on Done and promotes; on Retry back to ready from ``at`` on.

    A cancel that was requested in the meantime turns a Retry into cancelled. A Done whose state is not a
    finished one is REFUSED.
    """

    token: int
    outcome: Outcome
    verdict: Verdict
    result: Json = None
    error: str | None = None


class Release(Transition, frozen=True, kw_only=True):
    """running, not started → ready, and the attempt does not count. Refused once started.

    A run whose cancel was requested ends cancelled instead.
    """

    token: int


class Lost(Transition, frozen=True, kw_only=True):
    """running → the verdict, by somebody who is not the holder.

    Accepted only if, in that same statement, the token is current **and** the lease has lapsed on the
    store's clock; a verdict on a run that had not ``started`` is refused once it has: judge again.
    A run whose cancel was requested ends cancelled whatever the verdict.
    """

    token: int
    verdict: Verdict
    started: bool = True


class Sent(Transition, frozen=True, kw_only=True):
    """ready → sent, if the run's next attempt is ``attempt``; ready again after ``resend_at``."""

    attempt: int
    resend_at: datetime | None


class Resend(Transition, frozen=True, kw_only=True):
    """sent → ready, same attempt, if ``resend_at`` has passed on the store's clock."""


class Guard(Transition, frozen=True, kw_only=True):
    """ready or sent → running under a lease, if the message's ``attempt`` is the run's next one.

    Refused past the deadline, as a claim would be: the run comes back by Resend, and expires.
    Answered with the fencing token. One that ``starts`` is the Start as well: the body may begin.
    """

    attempt: int
    holder: str
    until: datetime
    starts: bool = False


class HandOver(Transition, frozen=True, kw_only=True):
    """ready or sent → handed_over: published to an engine without a guard; the hand-over is the outcome."""

    attempt: int


class Cancel(Transition, frozen=True, kw_only=True):
    """waiting, ready, sent, parked → cancelled at once; running → flagged, and its holder is told."""


class Park(Transition, frozen=True, kw_only=True):
    """ready → parked: no live node can resolve the target. Keeps its slot."""

    reason: str


class Unpark(Transition, frozen=True, kw_only=True):
    """parked → ready."""


class Expire(Transition, frozen=True, kw_only=True):
    """waiting or ready → expired, if ``deadline_at`` has passed: it is earlier than the store's clock."""


OfHolders: TypeAlias = Start | Renew | Finish | Release | Lost
OfMessages: TypeAlias = Sent | Resend | Guard | HandOver
AnyTransition: TypeAlias = OfHolders | OfMessages | Cancel | Park | Unpark | Expire


class Advanced(Noun, frozen=True, kw_only=True):
    """The answer to one transition: the run's state after it, and the token for an accepted Guard or Renew.

    ``cancel_requested`` reaches the holder here, on the answer to its own Renew. ``run`` is what an accepted
    Guard has taken, as it is now: who stands before a body has not read it.
    """

    answer: Answer
    state: RunState | None = None
    token: int = 0
    cancel_requested: bool = False
    run: Run | None = None


# --- what the reader takes and answers --------------------------------------------------------------


class ScheduleQuery(Noun, frozen=True, kw_only=True):
    """Which schedules: all conditions hold. Pages by name: pass the last name seen as ``after``."""

    names: tuple[str, ...] | None = None
    tag: str | None = None
    owner: str | None = None
    deleted: bool = False
    after: str = ""
    limit: int = 1000


class RunQuery(Noun, frozen=True, kw_only=True):
    """Which runs: all conditions hold. Newest created first; ``before`` is the id to go on below."""

    schedule: str | None = None
    tag: str | None = None
    states: tuple[RunState, ...] | None = None
    since: datetime | None = None  # due_at >= since
    until: datetime | None = None  # due_at < until
    before: str | None = None
    limit: int = 100


class EventQuery(Noun, frozen=True, kw_only=True):
    """Which events, oldest first: ids larger than ``after``."""

    after: int = 0
    kinds: tuple[str, ...] | None = None
    schedule: str | None = None
    run_id: str | None = None
    limit: int = 1000


class Change(Noun, frozen=True, kw_only=True):
    """One entry of the trail: a definition, from its cut on, and who put it there."""

    edit_id: str
    schedule_id: int
    schedule: str
    incarnation: int
    version: int
    number: int
    action: str
    actor: str
    reason: str
    cut_at: datetime
    boundary_at: datetime
    committed_at: datetime
    settled_until: datetime
    definition: Definition
    paused: bool
    deleted: bool
    tz_version: str


class Tile(Noun, frozen=True, kw_only=True):
    """One settled interval (mark_before, mark_after], from a run row or from a settlement event."""

    mark_before: datetime
    mark_after: datetime
    count: int
    run_id: str | None = None  # the run that fired here, or into which it was folded
    fired: bool = False
    reason: str = ""
    occurrence_at: datetime | None = None
    due_at: datetime | None = None
    created_at: datetime


class Summary(Noun, frozen=True, kw_only=True):
    """What purge leaves of one schedule's day (UTC): counts, and the interval that they cover."""

    day: str
    fired: int
    folded: int
    skipped: int
    mark_before: datetime
    mark_after: datetime


class Stray(Noun, frozen=True, kw_only=True):
    """A run to park (ready, and no live node announces its target) or to unpark (now one does)."""

    run: Run
    resolvable: bool


# --- what an executor answers -----------------------------------------------------------------------


class Report(Noun, frozen=True, kw_only=True):
    """How one attempt ended, from the executor. ``error_type`` is matched against ``retry_on``.

    The policy's ``retry_on``; this one, of the kind of target, stands in where that is empty. LOST says that
    nothing of it happened: the lease had lapsed on this node before the body began, and it did not begin; or
    its transaction was not committed, as far as is known. ``committed`` is the end that is in the ledger
    already, by the body's own transaction: nothing is left to write.
    """

    run_id: str
    token: int
    outcome: Outcome
    result: Json = None
    error: str | None = None
    error_type: str = ""
    retry_on: tuple[str, ...] = ()
    committed: Finish | None = None


learn_nouns()
