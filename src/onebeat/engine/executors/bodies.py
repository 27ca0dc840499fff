"""What every executor does with its bodies, whatever runs them: slots, deadlines, reports made once, notes.

    begin ──► body ──► end: the slot is free ──► still open: reported, and the worker woken
                │                            └─► reported before (timed out): dropped, and said in the log
                └─ overrun, or told: ``stop``, for an executor that can stop a body

An executor is a subclass that says ``resolve`` and ``start``, and ``stop`` where it can. ``end`` and ``mine``
may be called on any thread; all else is the worker's. docs/design/013-ways-to-run.md
"""

import heapq
import logging
import traceback
from asyncio import CancelledError, Task
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from onebeat.core.codec import RESULT_BYTES_MAX, checked_json
from onebeat.core.messages import Claimed, Note, Report
from onebeat.core.model import Json, Outcome, Target
from onebeat.core.ports import Clock
from onebeat.engine.attempt import LAPSED
from onebeat.engine.clock import SystemClock
from onebeat.engine.current import CurrentRun, storable

ERROR_CHARS_MAX = 8000
DEADLINES_SPARE = 1000

Key: TypeAlias = tuple[str, int]  # run id and token: a run's next attempt may begin while this one hangs
T = TypeVar("T")

_log = logging.getLogger("onebeat.engine")
_HOUSE = str(Path(__file__).parent)


class Body:
    """One attempt whose body runs here, or is about to. It makes the reports of its own end."""

    __slots__ = ("claimed", "current", "hold", "key", "reported")

    def __init__(self, claimed: Claimed, current: CurrentRun) -> None:
        self.claimed = claimed
        self.current = current
        self.key: Key = (claimed.run.id, claimed.run.token)
        self.hold: Any = None
        """What its executor stops it by, where it can."""
        self.reported = False
        """Whether the thread that ran the body has taken the right to report it."""

    @property
    def target(self) -> Target:
        """Return what it runs."""
        return self.claimed.definition.target

    def report(
        self, outcome: Outcome, *, result: Json = None, error: str | None = None, error_type: str = ""
    ) -> Report:
        """Return the report of this end, word for word, but for a text that is too long to be kept."""
        return Report(
            run_id=self.key[0],
            token=self.key[1],
            outcome=outcome,
            result=result,
            error=error if error is None else bounded(error),
            error_type=error_type,
        )

    def returned(self, value: object) -> Report:
        """Return the report of a body that came to its end. A result that cannot be kept is a failure."""
        try:
            result = plain(value, f"the result of {self.target.address}")
        except Exception as refused:  # noqa: BLE001 - whatever it returned, an attempt ends with a report
            return self.raised(refused)
        if self.current.heard:
            return self.report(Outcome.CANCELLED, result=result, error=self._halted())
        return self.report(Outcome.SUCCEEDED, result=result)

    def raised(self, failure: BaseException) -> Report:
        """Return the report of a body that raised: with its traceback, and what ``retry_on`` asks about."""
        if self.current.heard and isinstance(failure, CancelledError):
            return self.halted()
        outcome = Outcome.CANCELLED if self.current.heard else Outcome.FAILED
        error_type = named(failure, self.claimed.definition.policy.retry_on)
        return self.report(outcome, error=told(failure), error_type=error_type)

    def halted(self) -> Report:
        """Return the report of a body that was stopped because it had been told to stop."""
        return self.report(Outcome.CANCELLED, error=self._halted())

    def ending(self, task: Task[Report]) -> Report:
        """Return what a task reports that has ended, also where it was cancelled before its first step."""
        if task.cancelled():
            return self.halted()
        failure = task.exception()
        return task.result() if failure is None else self.raised(failure)

    def lapsed(self) -> Report | None:
        """Return the report of a body that may not begin any more; None where it may."""
        return self.report(Outcome.LOST, error=LAPSED) if self.current.lapsed() else None

    def _halted(self) -> str:
        return f"the body stopped: {self.current.stop_reason}"


class Bodies:
    """An executor but for what it runs and how: ``slots`` bodies at once, each reported once.

    Subclasses say ``resolve`` and ``start``. ``overdue`` ends the sentence of an attempt past its timeout.
    """

    kind: str
    overdue = "was told to stop; it holds its slot on this node until it returns"

    def __init__(self, slots: int, clock: Clock | None = None) -> None:
        self.slots = slots
        self.clock: Clock = SystemClock() if clock is None else clock
        self._wake: Callable[[], None] = _nothing
        self._busy: dict[Key, Body] = {}  # holds a slot until the body returns
        self._open: dict[Key, Body] = {}  # not reported yet: who takes it out of here reports it
        self._deadlines: list[tuple[datetime, Key]] = []
        self._ended: deque[Report] = deque()
        self._said: deque[CurrentRun] = deque()
        self._signalled = False

    # --- what the worker asks of every executor ---

    def resolve(self, target: Target) -> None:
        raise NotImplementedError("say what may be run here")

    def start(self, claimed: Claimed, until: datetime) -> None:
        raise NotImplementedError("begin() it, run it, and end() it")

    def free(self) -> int:
        return max(0, self.slots - len(self._busy))

    def reports(self) -> list[Report]:
        self._signalled = False  # before taking: a report that comes now signals again
        return _taken(self._ended)

    def notes(self) -> list[Note]:
        return [note for run in _taken(self._said) if (note := run.take()) is not None]

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        if (body := self.body(run_id, token)) is not None:
            body.current.renewed(until)

    def tell(self, run_id: str, token: int, why: str) -> None:
        if (body := self.body(run_id, token)) is not None:
            body.current.tell(why)
            self.stop(body)

    def overrun(self, now: datetime) -> list[Report]:
        reports = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key = heapq.heappop(self._deadlines)
            body = self._open.pop(key, None)
            if body is not None:
                timeout = body.claimed.definition.policy.timeout
                body.current.tell("timeout")
                self.stop(body)
                error = f"the body took longer than its timeout of {timeout} and {self.overdue}"
                reports.append(body.report(Outcome.TIMED_OUT, error=error, error_type="Timeout"))
        return reports

    def connect(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def close(self) -> None:
        self.slots = 0

    # --- what an executor does with a body ---

    @property
    def taken(self) -> int:
        """Return how many bodies hold a slot."""
        return len(self._busy)

    def body(self, run_id: str, token: int) -> Body | None:
        """Return the body of an attempt that holds a slot, None where it has returned."""
        return self._busy.get((run_id, token))

    def begin(self, claimed: Claimed, until: datetime) -> Body:
        """Count an attempt in, with its deadline. Whoever calls this calls ``end``, however it ends."""
        body = Body(claimed, CurrentRun(claimed, self.clock, self._said.append))
        body.current.renewed(until)
        self._busy[body.key] = self._open[body.key] = body
        timeout, started_at = claimed.definition.policy.timeout, claimed.run.started_at
        if timeout is not None and started_at is not None:
            if len(self._deadlines) > 2 * len(self._open) + DEADLINES_SPARE:
                # Most attempts end long before their timeout; their deadlines must not pile up until then.
                self._deadlines = [entry for entry in self._deadlines if entry[1] in self._open]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (started_at + timeout, body.key))
        return body

    def mine(self, body: Body) -> bool:
        """Return whether the caller, who ran the body, is who reports it; from then on nobody else does."""
        body.reported = body.reported or self._open.pop(body.key, None) is not None
        return body.reported

    def end(self, body: Body, report: Report) -> None:
        """Free the slot of a body that has returned, and report its end unless that was done before."""
        self._busy.pop(body.key, None)
        if self.mine(body):
            self._ended.append(report)
        else:
            _log.warning(
                "%s, attempt %d: its body returned after it was reported timed out",
                body.key[0],
                body.claimed.run.attempt,
            )
        if not self._signalled:
            self._signalled = True
            self._wake()

    def stop(self, body: Body) -> None:
        """Stop a body that has just been told to stop. By default it is left to look for itself.

        Called by the worker, so it must not wait; and again, perhaps, for a body that is stopping already.
        """


def plain(value: object, what: str) -> Json:
    """Return a result as plain data, and nobody else's object. Raises InvalidInput for what is no JSON."""
    if value is None or value is True or value is False:
        return value
    data: Json = msgspec.json.decode(checked_json(value, RESULT_BYTES_MAX, what))
    return data


def named(error: BaseException, wanted: tuple[str, ...]) -> str:
    """Return the name of the first of the error's classes that ``retry_on`` lists, else of its own class."""
    names = [
        name
        for kind in type(error).__mro__
        for name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
    ]
    return next((name for name in names if name in wanted), type(error).__name__)


def told(error: BaseException) -> str:
    """Return the traceback, the house's own frames left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HOUSE):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except Exception:  # noqa: BLE001 - an error whose own __str__ fails is still an error
        return type(error).__name__


def bounded(text: str) -> str:
    """Return a text that can be stored, cut in the middle where it is long."""
    text = storable(text)
    if len(text) <= ERROR_CHARS_MAX:
        return text
    head, tail = ERROR_CHARS_MAX // 4, ERROR_CHARS_MAX // 4 * 3
    return f"{text[:head]}\n… {len(text) - head - tail} characters left out …\n{text[-tail:]}"


def _taken(queue: deque[T]) -> list[T]:
    """Take what is there now, and not what comes meanwhile."""
    taken: list[T] = []
    with suppress(IndexError):  # somebody else may be taking, too
        taken.extend(queue.popleft() for _ in range(len(queue)))
    return taken


def _nothing() -> None:
    """Stand in for the wake-up until the service connects one."""
