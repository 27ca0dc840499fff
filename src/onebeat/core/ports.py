"""The sockets of the house, each with its whole contract.

*Ledger* is where truth changes: every verb is batched, is one transaction, and tells the truth about what
it changed. *Reader* answers questions and changes nothing. *Executor* runs bodies, *Outlet* sends them away.
*Clock* is the only way to ask for the time. A docstring here is law; ``onebeat.testing.conformance`` enforces
it on every store. What the verbs take and answer is in messages.py, and is as much law.

All three writing actors do the same three beats: read rows with their versions; decide with a pure function
(decide.py); commit with a compare-and-set. A loser changes nothing and reads again.

    due ──► decide.settle ──► settle          one transaction: tiles, runs, events, mark, next_at
    claim ─► body ─► decide.judge ─► advance  one transaction: outcome, the slot freed, a waiter promoted
    owing ─► decide.edit ───► put             one transaction: what the old definition owed, the new one

Order, everywhere: schedules by id, then runs by id; lock first, look in a later statement; after any
database error roll back and repeat the whole verb.

**The overlap rule (R1):** whatever *adds* live or waiting work to a limited schedule bumps its version
(settle, put, request). Whatever *frees* a slot (advance) takes the schedule's row lock, does not bump, and
promotes waiting runs in the same transaction; a settle, a put and a request promote too. Live runs are
counted from the run rows. Schedules with ``overlap=allow`` pay nothing.

"The store's clock" is the database server's; a store without one (memory, a file) uses the Clock that it is
handed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Change,
    Claim,
    Claimed,
    Due,
    Edit,
    Entry,
    EntryAnswer,
    EventQuery,
    Finish,
    Hold,
    LogLine,
    Note,
    Overdue,
    Purged,
    PutAnswer,
    Report,
    Request,
    RunQuery,
    ScheduleQuery,
    Settled,
    Share,
    Stray,
    Summary,
    Tile,
)
from onebeat.core.model import (
    Decision,
    Definition,
    Event,
    Load,
    Node,
    Run,
    Schedule,
    Target,
)

LEASE = timedelta(seconds=30)
"""How long nodes are promised a run unless told otherwise; a transactional schedule on SQLite is judged by it
when it is written."""

CUT_AGE_MAX = timedelta(seconds=1)
"""An edit whose cut is older than this when it commits is stale: the promise "due after the cut follows the
new definition" would reach too far into the past."""

ANSWERS_KEPT = timedelta(days=7)
"""For how long the answer to an entry of the inbox is kept, and its key known, after it was given."""

ENTRY_CHARS_MAX = 400_000
"""How much of an entry's document is read: more than any that could be accepted."""


# --- where truth is kept ----------------------------------------------------------------------------


class Ledger(Protocol):
    """Where truth changes. Every verb is one transaction; a batch verb's items do not fail one another."""

    def now(self) -> datetime:
        """Return the store's clock, aware, in UTC. Due-ness, cuts and leases are judged by it."""

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        """Write schedules, each with all that its change settles. One transaction a batch.

        For each edit, in id order: the row must have ``expected_version`` (0: no row of that name); the cut
        must be at or before the store's clock (or the row's last cut, if the clock went back) and younger
        than CUT_AGE_MAX; no hold is in force if it ``fires``; what it folds into waits, as in ``settle``,
        and is extended; then the row, the settlements' runs and events,
        the requests, the trail entry and the event of ``action`` appear together. Waiting runs are promoted
        into slots that the change frees.
        An edit id that the trail already holds is REPEATED and returns what was committed then; anything
        else that does not fit is STALE and changes nothing. Answers come in the batch's order. A batch with
        the same schedule twice raises ValueError.
        An ``entry_id`` answers that entry accepted, in the same transaction (of a REPEATED edit with what was
        committed then); where the entry is answered already, or is not there, the edit is STALE.
        """

    def hold(self, wanted: Hold | None, edit_id: str) -> Hold | None:
        """Stop all firing, or (None) let it go on; return what was in force before. Writes an event.

        Holding what is held, or releasing what is not, changes nothing, as does an ``edit_id`` seen before,
        which returns what it returned then. Settles already committed stand. What people ask for starts all
        the same. The events are ``firing.held`` and ``firing.released``.
        """

    def due(self, now: datetime, limit: int, share: Share | None = None) -> Due:
        """Return at most ``limit`` rows with ``next_at`` <= ``now``, the longest due first; then by id.

        Reads only. Dormant rows are never due; a row whose documents do not decode is returned by
        ``broken`` and not here. Under a hold the answer has no rows and no ``next_at``.
        """

    def broken(self, limit: int) -> list[tuple[str, str]]:
        """Return (schedule name, what is wrong) of rows with a ``next_at`` whose documents do not decode.

        Reading never deletes or rewrites such a row; quarantining it is an edit that a dispatcher makes. An
        edit that leaves ``number`` as it is leaves the row's documents as they are, however broken.
        """

    def settle(self, now: datetime, decisions: Sequence[Decision]) -> Settled:
        """Commit decisions, each by compare-and-set on its version. One transaction a batch.

        Refused whole as early when the store's clock has not reached ``now``, and as held under a hold.
        For each winner appear together: version + 1, the mark, ``next_at``, its runs, one event for each
        folded or skipped tile (``occurrence.folded`` with the run's id, ``occurrence.skipped``), the
        cancellation of older unfinished runs where asked (waiting, ready, parked and sent at once, running by
        flag), then promotion: the waiting run that was due first, then by id, as far as there are slots. A
        decision that folds into a run which is not its own loses unless that run is waiting, and extends its
        ``fold`` (Fold.joined; with its own occurrence alone where it had none). A row that another
        transaction holds is lost, not waited for. A schedule id twice in a batch raises ValueError. Losers
        change nothing: read again. A winner's run id that exists already raises StoreError and nothing of the
        batch is written (as in ``put``): try its decisions one by one.
        """

    def request(self, requests: Sequence[Request]) -> list[Answer]:
        """Create runs that were asked for. Bumps each schedule's version; never moves a mark.

        REPEATED when a run of that id exists already, STALE when the version is not the expected one.
        Requests of one schedule in a batch are taken in order, each against the version that the one before
        left: one that counts on another which was not accepted is STALE, whatever the version is by now. Each
        accepted one leaves the event ``run.requested``; waiting runs are promoted. An ``entry_id`` is
        answered as in ``put``.
        """

    def answer(self, answers: Sequence[EntryAnswer]) -> list[bool]:
        """Answer entries of the inbox. One transaction a batch; an answer is given once and never changes.

        False where the entry is answered already, or is not there: nothing was written for it.
        """

    def claim(self, claim: Claim) -> list[Claimed]:
        """Lease at most ``limit`` ready runs to a holder: highest priority, then longest ready, then id.

        Only runs with ``ready_at`` <= the store's clock, no deadline earlier than it, a queue of ``queues``
        and a target of ``targets``. Each gets attempt + 1 and a fencing token that is larger than every token
        given before in this store, and at least the store's clock in µs. Two claims never return one run.
        A claim that ``sends`` leases nothing: its runs are sent, each with a ``resend_at`` within the claim's
        bounds, and keep attempt, token and holder as they were.
        Of the runs of one group (``exclusive``) at most one is out at a time, that is sent or running. So a
        claim leaves the runs of a group that has one out; of any other group it may have the first alone, in
        the order above, of all that are ready by now, whatever their queues and targets, and can be read.
        """

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        """Move runs, each by compare-and-set. One transaction a batch; answers in the batch's order.

        A run may stand several times in a batch: its transitions are made in order. A transition whose
        state, token, attempt or clock test fails is REFUSED and changes nothing;
        Finish with the same token and outcome as are there already is REPEATED, as are Start, Cancel, Park
        and Unpark where the run is already there. Unknown runs are REFUSED, and so is what would let a ready
        run out (Guard, Sent) while its group has another one out, or is just about to.
        """

    def lost(self, now: datetime, limit: int) -> list[Overdue]:
        """Return at most ``limit`` runs that time has overtaken at ``now``, the longest overdue first.

        Reads only: judge each, then ``advance`` with Lost, Resend or Expire, which test again.
        """

    def note(self, notes: Sequence[Note]) -> list[bool]:
        """Keep progress and log lines. False where the token is not current: nothing was kept for it.

        A run keeps at most 1 MiB of lines; beyond, one last line says that the rest was dropped.
        """

    def announce(self, node: Node) -> list[str]:
        """Write a node's row; return warnings about others alive.

        They have another version, older zone data, or another value of a setting that both announce.
        """

    def record(self, events: Sequence[Event]) -> None:
        """Append events that accompany no other change: a step that failed, an alert, a result refused.

        One transaction. A repetition appends again: who must not say a thing twice reads first.
        """

    def cursor(self, name: str, to: int | None = None) -> int:
        """Return how far a named reader of events has come: the id of the last event it has dealt with.

        ``to`` moves it first; a smaller one changes nothing, for a cursor never goes back. A name not seen
        before begins at ``to``, or else at the newest event: what happened earlier is not its business.
        Cursors outlive purging. One transaction.
        """

    def purge(self, now: datetime, limit: int, from_id: int = 0) -> Purged:
        """Forget finished runs, their lines and settlement events beyond each schedule's history.

        Beyond: finished longer ago than ``keep_days``, or followed by ``keep_runs`` finished runs created
        later; a settlement event goes when a run created with it would. At most ``limit`` runs, settlement
        events and schedules, oldest first, schedules from ``from_id`` on in id order; a run's lines and own
        events go with it. Never unfinished runs, the trail, or a mark. Leaves one summary row per schedule
        and day (UTC, of the tile's end) and moves ``provable_from``. A tombstone that old, or an ended
        one-off that has no owner, goes with its last history, leaving ``schedule.purged`` in the trail with
        one version more: from there it is still answered as a tombstone of its owner and revision (``owing``,
        ``put``), so that no name, id or version starts again. One that has an owner stays: a declaration
        would bring it back, and it would fire again. From the first schedule on (``from_id`` 0) it also
        forgets entries of the inbox that were answered longer than ANSWERS_KEPT ago, at most ``limit``, the
        longest ago first.
        """

    def wait(self, until: datetime | None) -> bool:
        """Block until ``until``, or until something may have changed; True when woken early.

        What changed, or called ``wake``, since this thread's last wait counts: it returns at once, so nothing
        falls between looking and waiting. A hint only: a lost wake-up costs lateness, never an occurrence.
        None waits for a wake-up alone, at most one second.
        """

    def wake(self) -> None:
        """End the waits of this process now."""

    def close(self) -> None:
        """Let go of connections. Safe to repeat; nothing else may be called after."""


class Reader(Protocol):
    """Questions about the ledger. Reads only; each answer is one consistent picture."""

    def schedules(self, query: ScheduleQuery) -> list[Schedule]:
        """Return schedules by name. A row that does not decode comes back quarantined, never left out."""

    def owing(self, names: Sequence[str]) -> list[tuple[Schedule, Load]]:
        """Return these schedules with their load: the reading beat of an edit.

        Tombstones are included, also those whose row was purged; names never used are left out.
        """

    def run(self, run_id: str) -> Run | None:
        """Return one run."""

    def runs(self, query: RunQuery) -> list[Run]:
        """Return runs, the newest first."""

    def definition(self, schedule_id: int, number: int) -> Definition:
        """Return the definition that a run was fired under."""

    def log(self, run_id: str) -> list[LogLine]:
        """Return the lines of a run, oldest first, of all attempts."""

    def events(self, query: EventQuery) -> list[Event]:
        """Return events after a cursor. An event that commits later never has a smaller id."""

    def trail(self, schedule_id: int) -> list[Change]:
        """Return every change of a schedule, oldest first."""

    def tiles(self, schedule_id: int, since: datetime, until: datetime) -> list[Tile]:
        """Return the tiles that touch (since, until], in order; an edit that settled nothing has one too."""

    def summaries(self, schedule_id: int) -> list[Summary]:
        """Return what purge left, by day."""

    def provable_from(self, schedule_id: int) -> datetime:
        """Return the mark before which tiles may have been purged; the first mark if none were."""

    def nodes(self) -> list[Node]:
        """Return nodes, the most recently seen first, including those whose announcement has lapsed."""

    def targets(self) -> list[str]:
        """Return the target keys of live schedules and unfinished runs: what workers try to resolve."""

    def entries(self, limit: int, *, waiting: bool) -> list[Entry]:
        """Return entries of the inbox: those without an answer, the oldest first, or the newest answered.

        An entry that cannot be read comes back with the parts that can: it never hides its neighbours.
        """

    def strays(self, now: datetime, limit: int) -> list[Stray]:
        """Return runs to park or unpark, judged by the nodes whose announcement is alive at ``now``."""

    def held(self) -> Hold | None:
        """Return the hold in force."""

    def counts(self) -> dict[str, int]:
        """Return gauges: ``runs_<state>`` for each state, and of schedules those named below.

        ``schedules`` (tombstones are none), ``paused``, ``quarantined``, ``due``.
        """

    def facts(self) -> dict[str, str]:
        """Return what doctor prints: at least ``kind``, ``place``, ``durability`` and ``verdict``."""


class Store(Ledger, Reader, Protocol):
    """Both halves on one set of connections."""


class Loan(Protocol):
    """One open transaction of the ledger's own database, lent to a body. For one thread."""

    connection: Any
    """The open connection, as its driver knows it. Whoever has it neither commits nor rolls back."""

    def finish(self, finish: Finish) -> Advanced:
        """End a run in this transaction, and commit all of it.

        Commits only what is ACCEPTED, and is answered REFUSED, with ``cancel_requested``, where a cancel was
        asked for; what is not committed is rolled back. Raises Refused when the transaction is not the one
        that was lent: its borrower has ended it. Raises StoreUnavailable when the database gave it up, or
        nobody knows whether the commit was done: then an end with the same token, sent by ``advance``, waits
        for the truth, and is REFUSED if it was.
        """


@runtime_checkable
class Neighbouring(Store, Protocol):
    """A store that may see other ledgers beside its own. One that cannot has none of this."""

    def neighbours(self) -> dict[str, int]:
        """Return other ledgers on the same server that have live nodes: where they are, and how many nodes.

        As far as this user may look, and of many the newest; each is a ledger of its own, and knows nothing
        of this one.
        """


@runtime_checkable
class Sharing(Store, Protocol):
    """A store whose transactions others can share. One that cannot has none of this, and is not asked."""

    @property
    def alone(self) -> bool:
        """Return whether nobody else can write while a lent transaction is open, not even a renewal."""

    def lend(self) -> AbstractContextManager[Loan]:
        """Begin a transaction for a body: READ COMMITTED, on a connection that nobody else uses.

        What was not finished is rolled back at the end. Raises StoreUnavailable.
        """

    def join(self, connection: object) -> Store:
        """Return the same ledger within the open transaction of a connection, which its owner commits.

        Each verb is a savepoint there: what raises leaves nothing, and nothing is done again. Its answers
        hold if the owner commits; events of it may become visible only a while later. Raises InvalidInput for
        a connection whose transaction would not keep the promise: another driver's, another database's, in
        autocommit, or above READ COMMITTED.
        """

    def committed(self) -> None:
        """Tell those who wait, here and elsewhere, that the owner of a transaction has committed it."""


# --- the engine's sockets ---------------------------------------------------------------------------


class Clock(Protocol):
    """The only way to ask for the time."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""


@runtime_checkable
class Executor(Protocol):
    """Runs bodies of one kind of target. Never blocks its caller."""

    kind: str

    def resolve(self, target: Target) -> None:
        """Raise TargetNotFound unless this process can and may run the target; then check its arguments.

        Raises InvalidInput where the arguments do not fit, when the target itself can be run. May be called
        on a thread of its own, and may take its time.
        """

    def free(self) -> int:
        """Return how many more bodies may start now. A body past its timeout counts until it returns."""

    def start(self, claimed: Claimed, until: datetime) -> None:
        """Begin the body of a started run. Its end arrives in ``reports``; nothing is raised for it.

        The lease lapses at ``until`` on this node's clock; ``renewed`` moves it. A body that has not begun by
        then must not begin, for somebody else's may: its end is LOST, which no body that began reports.
        """

    def reports(self) -> list[Report]:
        """Return the attempts that ended since the last call, each once."""

    def notes(self) -> list[Note]:
        """Return the progress and the lines of bodies since the last call, those of ended ones included."""

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        """Learn when the lease lapses, on this node's clock: past ``until`` ``still_mine()`` is False."""

    def tell(self, run_id: str, token: int, why: str) -> None:
        """Tell a body to stop: ``still_mine()`` turns False. A body that does not look goes on."""

    def overrun(self, now: datetime) -> list[Report]:
        """Return attempts that passed their timeout at ``now``, each once, after telling them.

        What such a body returns later is dropped: the attempt has been reported.
        """

    def connect(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when a report is there, from any thread. A hint: the report waits anyway."""

    def close(self) -> None:
        """Start nothing more and let go of idle threads and connections. Bodies that still run go on."""


class Outlet(Protocol):
    """The way by which runs of one kind of target leave as messages, for workers that are not ours."""

    kind: str

    @property
    def place(self) -> str:
        """Return where messages go, without credentials. Nodes that send a queue to several are named."""

    def resolve(self, target: Target) -> None:
        """Raise TargetNotFound or InvalidInput for what it cannot send, as an executor does."""

    def guarded(self, target: Target) -> bool:
        """Return whether a guard meets the message. Without one, a run ends when its message is there."""

    def send(self, batch: Sequence[Claimed]) -> list[str | None]:
        """Send a message for each; return for each None once the broker has it, or why it was not taken.

        The message names the run and the attempt that it is for, ``run.attempt + 1``. Called by one thread,
        and may take its time. One that was not taken keeps no other back. Raises OutletUnavailable while
        the broker does not answer: each of the batch may have gone or not, and all are sent again.
        """

    def close(self) -> None:
        """Let go of connections. Safe to repeat."""


class Notifier(Protocol):
    """Hands an event to people: mail, webhook, chat."""

    def notify(self, events: Sequence[Event]) -> None:
        """Deliver, or raise: the cursor moves on only after a return."""
