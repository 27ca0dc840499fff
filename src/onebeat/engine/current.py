"""What a body sees of its own run.

A function with a parameter named ``run``, or annotated ``CurrentRun``, is handed one; code further down asks
``current()``. What the body says (progress, lines) waits here until the worker carries it to the ledger,
within bounds: a body that logs faster than the ledger takes loses lines, and the log says how many.
"""

import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from onebeat.core.errors import Refused
from onebeat.core.messages import Claimed, LogLine, Note
from onebeat.core.model import Fold
from onebeat.core.ports import Clock
from onebeat.core.triggers.registry import build

LINE_CHARS_MAX = 8192
LINES_WAITING_MAX = 1000

_KEPT = "onebeat_kept"  # on a log record: its line is with the run already

running: ContextVar["CurrentRun | None"] = ContextVar("onebeat_current_run", default=None)


def current() -> "CurrentRun | None":
    """Return the run whose body is calling, None outside of one. Threads that it starts inherit nothing."""
    return running.get()


def storable(text: str) -> str:
    """Return ``text`` without what some database refuses: NUL, and halves of surrogate pairs.

    One such character in an exception's message would keep a whole batch of results out of the ledger.
    """
    return text.replace("\0", "␀").encode("utf-8", "replace").decode("utf-8")


class CurrentRun:
    """A run, as its body sees it. Everything may be called from any thread, and nothing here blocks."""

    __slots__ = (
        "_clock",
        "_connection",
        "_dropped",
        "_heard",
        "_lines",
        "_log",
        "_mine_until",
        "_progress",
        "_said",
        "_told",
        "_waiting",
        "attempt",
        "definition",
        "fold",
        "id",
        "key",
        "occurrence",
        "schedule",
        "token",
    )

    def __init__(self, claimed: Claimed, clock: Clock, said: Callable[["CurrentRun"], None]) -> None:
        run = claimed.run
        self.definition = claimed.definition
        self.id: str = run.id
        self.schedule: str = run.schedule
        self.attempt: int = run.attempt
        self.token: int = run.token
        self.key: str | None = run.key
        self.fold: Fold | None = run.fold
        self.occurrence: datetime = run.occurrence_at or run.due_at
        """The instant that the run stands for, in UTC; a request for none stands for its own."""
        self._clock = clock
        self._connection: Any = None
        self._said = said
        self._told: str | None = None
        self._heard = False
        self._mine_until: datetime | None = None
        self._progress: deque[tuple[int, int]] = deque(maxlen=1)
        self._lines: deque[LogLine] = deque()
        self._dropped = 0
        self._waiting = False  # in the executor's list of runs that have something to say
        self._log: RunLog | None = None

    @property
    def previous_at(self) -> datetime | None:
        """Return the occurrence before the first that the run stands for; None when there is none.

        The time after it, up to ``occurrence`` or, if later, ``fold.last_at``, is this run's business.
        """
        first = self.occurrence if self.fold is None else min(self.fold.first_at, self.occurrence)
        return build(self.definition.trigger).before(first)

    @property
    def connection(self) -> Any:
        """Return the connection whose transaction ends this run: for a body with ``transactional=True``.

        psycopg's on PostgreSQL, PyMySQL's on MariaDB and MySQL, apsw's on SQLite. What is written through it
        is committed together with the run's success, or not at all; the body itself neither commits nor
        rolls back. It is the body's alone, on the body's thread, until the body returns. Raises Refused where
        the schedule is not transactional.
        """
        if self._connection is None:
            raise Refused(
                f"{self.id} has no transaction of its own: its schedule does not say transactional=True, or "
                "its body has returned"
            )
        return self._connection

    def still_mine(self) -> bool:
        """Return whether the body should go on: not cancelled, not overrun, and its lease not lapsed.

        Cheap enough for a loop: it asks this process, not the ledger. A body that stops because of it, and
        returns, ends as cancelled where a person asked for that.
        """
        if self._told is not None:
            self._heard = True
            return False
        return not self.lapsed()

    @property
    def stop_reason(self) -> str | None:
        """Return why the body was told to stop, None while it was not."""
        return self._told

    def progress(self, done: int, total: int) -> None:
        """Say how far the body is. The newest one counts; it reaches the ledger within a second or so."""
        self._progress.append((int(done), int(total)))
        self._speak()

    @property
    def log(self) -> "RunLog":
        """Return a logger whose lines are kept with the run, at every level."""
        if self._log is None:
            self._log = RunLog(self)
        return self._log

    # --- for the executor ---

    @property
    def heard(self) -> bool:
        """Return whether the body looked after it had been told to stop."""
        return self._heard

    def lend(self, connection: Any) -> None:
        """Hand the body a connection; None takes it back."""
        self._connection = connection

    def tell(self, why: str) -> None:
        """Turn ``still_mine()`` False for good. The first reason stays."""
        if self._told is None:
            self._told = why

    def renewed(self, until: datetime) -> None:
        """Take note of when the lease lapses, on this node's clock."""
        self._mine_until = until

    def lapsed(self) -> bool:
        """Return whether the lease has lapsed, on this node's clock."""
        return self._mine_until is not None and self._clock.now() >= self._mine_until

    def keep(self, level: str, text: str) -> None:
        """Keep one line, cut to LINE_CHARS_MAX, or count it as dropped where too many wait already."""
        if len(self._lines) >= LINES_WAITING_MAX:
            self._dropped += 1
            return
        text = storable(text)
        if len(text) > LINE_CHARS_MAX:
            text = f"{text[:LINE_CHARS_MAX]}… ({len(text) - LINE_CHARS_MAX} characters more)"
        self._lines.append(
            LogLine(at=self._clock.now(), attempt=self.attempt, level=level, text=text.rstrip("\n"))
        )
        self._speak()

    def _speak(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._said(self)

    def take(self) -> Note | None:
        """Return what was said since the last call; None when nothing was."""
        self._waiting = False  # before taking: what is said from now on is announced again
        # Only as many as there are now: a body that goes on logging must not hold the worker here.
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            text = f"{dropped} lines were dropped: more than {LINES_WAITING_MAX} were waiting"
            lines.append(LogLine(at=self._clock.now(), attempt=self.attempt, level="warning", text=text))
        progress = self._progress.pop() if self._progress else None
        if not lines and progress is None:
            return None
        return Note(run_id=self.id, token=self.token, progress=progress, lines=tuple(lines))


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose every line is kept with its run, and handed on to the logger ``onebeat.run`` besides.

    Levels of the logging set-up decide what else happens with a line, never whether the run keeps it.
    """

    def __init__(self, run: CurrentRun) -> None:
        super().__init__(logging.getLogger("onebeat.run"), {})
        self._run = run

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's own name
        """Return True: the run keeps lines of every level."""
        return True

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Keep a line, then hand it on where logging is set up to take it."""
        self._run.keep(logging.getLevelName(level).lower(), _formatted(msg, args, kwargs.get("exc_info")))
        if self.logger.isEnabledFor(level):
            extra: Mapping[str, object] = kwargs.pop("extra", None) or {}
            kwargs["extra"] = {**extra, _KEPT: True, "onebeat_run_id": self._run.id}
            self.logger.log(level, msg, *args, **kwargs)


def _formatted(msg: object, args: tuple[object, ...], exc_info: object) -> str:
    text = str(msg)
    if args:
        try:
            # As logging does: a single mapping fills named places.
            text %= args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
        except (TypeError, ValueError, KeyError):
            text = f"{text} {args!r}"  # a line that cannot be formatted is a poor reason to fail a body
    if exc_info is True:
        text = f"{text}\n{traceback.format_exc().rstrip()}"
    elif isinstance(exc_info, BaseException):
        text = f"{text}\n{''.join(traceback.format_exception(exc_info)).rstrip()}"
    return text


class RunLogHandler(logging.Handler):
    """Keeps with the run whatever its body logs anywhere: add it to the root logger, or to one's own.

    Lines logged outside of a body pass by. Lines of ``run.log`` are not kept twice.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's line with the run whose body is calling."""
        run = running.get()
        if run is None or getattr(record, _KEPT, False):
            return
        try:
            run.keep(record.levelname.lower(), self.format(record))
        except Exception:  # noqa: BLE001 - the contract of logging: a handler never fails its caller
            self.handleError(record)


class RunLogFilter(logging.Filter):
    """Lets every record pass, and has it carry the run whose body says it: add it to a handler.

    ``onebeat_run_id`` is the run's id, empty outside of a body: what is collected elsewhere is found again by
    it. ``onebeat_run`` is the same for the beginning of a line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark one record."""
        run = running.get()
        record.onebeat_run_id = "" if run is None else run.id
        record.onebeat_run = "" if run is None else f"[{run.id}] "
        return True
