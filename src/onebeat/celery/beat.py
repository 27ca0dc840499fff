"""The beat: ``celery -A proj beat -S onebeat``. Celery's loop keeps the process, onebeat's parts do the work.

    Celery makes it     the settings are read: entries become definitions, problems are said
    first tick          the ledger is opened, the definitions are reconciled, dispatcher and outbox begin
    each tick           nothing, for the parts have threads of their own
    close               they wind down, and the ledger is let go of

As many beats as one likes may run at once. A tick raises for what no waiting mends (a URL that cannot be
meant), and never for a ledger or a broker that is away: Celery would end the process.
"""

import logging
import re
from typing import TYPE_CHECKING, Any

from onebeat.app import Onebeat
from onebeat.celery.entries import Entries
from onebeat.celery.library import Scheduler
from onebeat.celery.message import fingerprint
from onebeat.celery.outlet import CeleryOutlet
from onebeat.celery.settings import entries_of, front_of, owner_of, queue_of, resend_of, url_of
from onebeat.core.errors import Conflict, Refused, StoreUnavailable
from onebeat.core.model import Definition
from onebeat.core.reconcile import Step, Verb
from onebeat.engine.outbox import RESEND

if TYPE_CHECKING:
    from onebeat.engine.service import Service

TICK_S = 1.0
PAUSE_TICKS_MAX = 10
"""Between two tries to open a ledger that is away."""

_log = logging.getLogger("onebeat.celery")


class Beat(Scheduler):  # type: ignore[misc]  # Celery has no types
    """A scheduler of Celery whose process is a dispatcher and an outbox."""

    max_interval = TICK_S

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        self._front: Onebeat | None = None
        self._service: Service | None = None
        self._entries: Entries | None = None
        self._resend = RESEND
        self._starting = False
        self._failures = 0
        self._pause = 0
        super().__init__(app, *args, **kwargs)

    # --- what Celery asks for ---

    def setup_schedule(self) -> None:
        """Read the settings, and say what cannot be meant. Opens nothing."""
        self._front = front_of(self.app)
        self._resend = resend_of(self.app)
        self._entries = entries_of(self.app)
        for problem in self._entries.problems:
            _log.error("the entry %r of beat_schedule is NOT scheduled: %s", problem.entry, problem.why)
        for note in self._entries.notes:
            _log.info("%s: %s", ", ".join(note.entries), note.text)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Begin, where that has not been done; return for how many seconds Celery may sleep."""
        if self._service is None:
            if self._pause > 0:
                self._pause -= 1
            else:
                self._begin()
        return min(TICK_S, float(self.max_interval))

    def sync(self) -> None:
        """Do nothing: what has happened is in the ledger."""

    def close(self) -> None:
        """Wind down. Safe to repeat.

        Celery calls it from the handler of SIGTERM, also in the middle of a start, whose locks are held then;
        it is called again when that has been left.
        """
        if self._starting:
            return
        service, self._service = self._service, None
        front, self._front = self._front, None
        if service is not None:
            service.shutdown()
        if front is not None:
            front.close()
        super().close()

    def add(self, **kwargs: Any) -> None:
        """Refuse: what is put into a process is gone with it, and the other beats never hear of it."""
        raise Refused(
            "an entry cannot be added to one beat; put a schedule into the ledger, and all know it: "
            "Onebeat(url).schedules.put(name, trigger, celery_task('…'))"
        )

    @property
    def info(self) -> str:
        """Return the lines of Celery's banner: which ledger, and whose declarations."""
        url = url_of(self.app) or "not named: set onebeat_url"
        shown = re.sub(r":[^:/@]*@", ":**@", url.partition("?")[0])
        return f"    . ledger -> {shown}\n    . owner -> {owner_of(self.app)}"

    # --- beginning ---

    def _begin(self) -> None:
        """Reconcile and start; where the ledger is away, leave that to a later tick."""
        self._starting = True
        try:
            self._service = self._started()
        except (StoreUnavailable, Conflict) as error:
            self._failures += 1
            self._pause = min(self._failures, PAUSE_TICKS_MAX)
            _log.warning("the ledger cannot be opened, it is tried again: %s", error)
        finally:
            self._starting = False

    def _started(self) -> "Service":
        front, entries = self._front, self._entries
        assert front is not None
        assert entries is not None
        for entry in entries.entries:
            if entry.name not in front.declared:
                definition = entry.definition
                front.declare(entry.name, definition.trigger, definition.target, **_said(definition))
        service = front.service(
            ("dispatcher",),
            queues=[queue_of(self.app)],
            outlets=[CeleryOutlet(self.app, ledger=fingerprint(front.url))],
            resend=self._resend,
        )
        for step in front.diff(prune=True):
            _tell(step, front.owner, front.revision)
        service.start()
        _log.info("%d schedules of %s are declared", len(entries.entries), front.owner)
        return service


def _said(definition: Definition) -> dict[str, Any]:
    """Return what an entry says of its schedule, beside trigger and target."""
    policy, queue = definition.policy, definition.target.queue
    return {"title": definition.title, "overlap": policy.overlap, "grace": policy.grace, "queue": queue}


def _tell(step: Step, owner: str, revision: int) -> None:
    """Say where the ledger is not as the settings have it: a start adds, and changes nothing else."""
    if step.verb is Verb.CHANGE and step.changed:
        _log.warning(
            "%s is in the ledger with another %s than in the settings, and a start changes nothing; set "
            "onebeat_revision above %d, or apply them: onebeat import celery-beat -A … --apply",
            step.name,
            ", ".join(step.changed),
            revision,
        )
    elif step.verb is Verb.REMOVE:
        _log.warning(
            "%s is in the ledger as %s declared it, and in no setting any more; it goes on until it is "
            "removed: onebeat schedule delete %s",
            step.name,
            owner,
            step.name,
        )
    elif step.conflicts:
        _log.warning("%s is not as in the settings: %s", step.name, step.why)
