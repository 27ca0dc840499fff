"""Python functions, run on threads of this process.

Safe by default: an address comes out of the store, so it may name only what this process was told to allow,
functions registered in code and modules under listed prefixes. Nothing else is imported, and what another
module merely imported (``shop.orders:os.system``) is not reached through it.
"""

import asyncio
import heapq
import importlib
import inspect
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from datetime import datetime
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias

import msgspec

from onebeat.core.codec import RESULT_BYTES_MAX, checked_json
from onebeat.core.errors import InvalidInput, TargetNotFound, near_miss, shown
from onebeat.core.messages import Claimed, Note, Report
from onebeat.core.model import Json, Outcome, Target
from onebeat.core.ports import Clock, Sharing
from onebeat.core.targets import address_of
from onebeat.engine.attempt import LAPSED
from onebeat.engine.clock import SystemClock
from onebeat.engine.current import CurrentRun, running, storable
from onebeat.engine.executors.lending import in_transaction

ERROR_CHARS_MAX = 8000
CHECKED_MAX = 10_000
DEADLINES_SPARE = 1000

Key: TypeAlias = tuple[str, int]  # run id and token: a run's next attempt may begin while this one hangs

_log = logging.getLogger("onebeat.engine")
_SCALARS = (str, int, float, bool, type(None))


class Function(NamedTuple):
    """A resolved target: what to call, and where its run goes (an index, a keyword, or nowhere)."""

    call: Callable[..., Any]
    signature: inspect.Signature | None
    run_index: int | None
    run_name: str | None
    is_async: bool

    def bound(self, target: Target, run: object, *, check: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of one call, with ``run`` put where the function wants it.

        Raises InvalidInput where they do not fit the signature, if asked to ``check``.
        """
        args = _fresh(target.args) if target.args else ()
        kwargs = _fresh(target.kwargs) if target.kwargs else {}
        if self.run_name is not None and self.run_name not in kwargs:
            if self.run_index is not None and self.run_index <= len(args):
                args = (*args[: self.run_index], run, *args[self.run_index :])
            else:
                kwargs[self.run_name] = run
        if check and self.signature is not None:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidInput(
                    f"{target.address}{self.signature} does not take what the schedule gives it, "
                    f"args {shown(list(target.args))} and kwargs {shown(target.kwargs)}: {error}; edit the "
                    "schedule's arguments or the function"
                ) from None
        return args, kwargs


class _Job:
    """One attempt on a thread."""

    __slots__ = ("claimed", "current", "key", "mine")

    def __init__(self, claimed: Claimed, current: CurrentRun) -> None:
        self.claimed = claimed
        self.current = current
        self.key: Key = (claimed.run.id, claimed.run.token)
        self.mine = False


class PythonExecutor:
    """Runs Python functions on at most ``threads`` daemon threads, made when they are first needed.

    Threads of its own, because a pool's threads are joined at exit, and a body that hangs would hold the
    process for ever. ``allow`` names what may run: functions, and prefixes of module names (``shop`` allows
    ``shop`` and ``shop.orders``). ``sharing`` lends transactions to bodies that are to have one.
    """

    kind = "python"

    def __init__(
        self,
        *,
        threads: int = 10,
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._slots = threads
        self._sharing = sharing
        self._clock: Clock = SystemClock() if clock is None else clock
        self._prefixes: tuple[str, ...] = ()
        self._functions: dict[str, Function] = {}
        self._registered: dict[str, Callable[..., Any]] = {}
        self._wake: Callable[[], None] = _nothing
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy: dict[Key, _Job] = {}  # holds a slot until the body returns
        self._open: dict[Key, _Job] = {}  # not reported yet: who takes it out of here reports it
        self._deadlines: list[tuple[datetime, Key]] = []
        self._ended: deque[Report] = deque()
        self._said: deque[CurrentRun] = deque()
        self._signalled = False
        self._checked: set[tuple[int, int]] = set()  # definitions whose arguments are known to fit
        self.allow(*allow)

    def allow(self, *what: str | Callable[..., Any]) -> None:
        """Allow functions, and modules by prefix."""
        for item in what:
            if isinstance(item, str):
                self._prefixes = (*self._prefixes, item.rstrip("."))
            else:
                self._registered[address_of(item)] = item

    def resolve(self, target: Target) -> None:
        self._function(target.address).bound(target, None, check=True)

    def refuse_async(self, target: Target) -> None:
        """Raise InvalidInput for a coroutine function, which cannot have its run's transaction."""
        if self._function(target.address).is_async:
            raise InvalidInput(
                f"{target.address} is a coroutine function, and transactional=True lends a connection that "
                "waits without awaiting; make it a plain function"
            )

    def free(self) -> int:
        return max(0, self._slots - len(self._busy))

    def start(self, claimed: Claimed, until: datetime) -> None:
        job = self._begun(claimed, until)
        if len(self._busy) > len(self._threads) and len(self._threads) < self._slots:
            thread = threading.Thread(
                target=self._work, name=f"onebeat-python-{len(self._threads) + 1}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._queue.put(job)

    def reports(self) -> list[Report]:
        self._signalled = False  # before taking: a report that comes now signals again
        return [self._ended.popleft() for _ in range(len(self._ended))]

    def notes(self) -> list[Note]:
        runs = [self._said.popleft() for _ in range(len(self._said))]
        return [note for run in runs if (note := run.take()) is not None]

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        if (job := self._busy.get((run_id, token))) is not None:
            job.current.renewed(until)

    def tell(self, run_id: str, token: int, why: str) -> None:
        if (job := self._busy.get((run_id, token))) is not None:
            job.current.tell(why)

    def overrun(self, now: datetime) -> list[Report]:
        reports = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key = heapq.heappop(self._deadlines)
            job = self._open.pop(key, None)
            if job is not None:
                timeout = job.claimed.definition.policy.timeout
                job.current.tell("timeout")
                reports.append(
                    Report(
                        run_id=key[0],
                        token=key[1],
                        outcome=Outcome.TIMED_OUT,
                        error=f"the body took longer than its timeout of {timeout} and was told to stop; "
                        "it holds its slot on this node until it returns",
                        error_type="Timeout",
                    )
                )
        return reports

    def connect(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def close(self) -> None:
        self._slots = 0
        for _ in self._threads:
            self._queue.put(None)
        self._threads = []

    def _begun(self, claimed: Claimed, until: datetime) -> _Job:
        """Count an attempt in, with its deadline."""
        job = _Job(claimed, CurrentRun(claimed, self._clock, self._said.append))
        job.current.renewed(until)
        self._busy[job.key] = self._open[job.key] = job
        timeout, started_at = claimed.definition.policy.timeout, claimed.run.started_at
        if timeout is not None and started_at is not None:
            if len(self._deadlines) > 2 * len(self._open) + DEADLINES_SPARE:
                # Most attempts end long before their timeout; their deadlines must not pile up until then.
                self._deadlines = [entry for entry in self._deadlines if entry[1] in self._open]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (started_at + timeout, job.key))
        return job

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._run(job)

    def _run(self, job: _Job) -> None:
        """Run one body to its end, whatever it is, and report it."""
        run = job.claimed.run
        if job.current.lapsed():
            report = Report(run_id=run.id, token=run.token, outcome=Outcome.LOST, error=LAPSED)
        elif job.claimed.definition.policy.transactional:
            report = in_transaction(
                self._sharing,
                job.claimed,
                job.current,
                ran=lambda: self._ran(job),
                mine=lambda: self._mine(job),
            )
        else:
            report = self._ran(job)
        self._busy.pop(job.key, None)
        if self._mine(job):
            self._ended.append(report)
        else:
            _log.warning(
                "%s, attempt %d: its body returned after it was reported timed out", run.id, run.attempt
            )
        if not self._signalled:
            self._signalled = True
            self._wake()

    def _mine(self, job: _Job) -> bool:
        """Return whether the body's thread is who reports; from then on nobody else does."""
        job.mine = job.mine or self._open.pop(job.key, None) is not None
        return job.mine

    def _ran(self, job: _Job) -> Report:
        """Run one body, and return how it ended."""
        run = job.claimed.run
        outcome, result, error, error_type = Outcome.SUCCEEDED, None, None, ""
        try:
            # A context of its own: what one body sets, the next on this thread must not find.
            result = Context().run(self._body, job)
        except BaseException as failure:  # noqa: BLE001 - sys.exit() fails a body, and costs no thread
            outcome, error, error_type = Outcome.FAILED, _told_error(failure), _error_type(failure, job)
        if job.current.heard:
            outcome = Outcome.CANCELLED
            error = error or f"the body stopped: {job.current.stop_reason}"
        return Report(
            run_id=run.id, token=run.token, outcome=outcome, result=result, error=error, error_type=error_type
        )

    def _body(self, job: _Job) -> Json:
        running.set(job.current)
        claimed = job.claimed
        target = claimed.definition.target
        fits = (claimed.run.schedule_id, claimed.run.number)
        function = self._function(target.address)
        if claimed.definition.policy.transactional:
            self.refuse_async(target)
        args, kwargs = function.bound(target, job.current, check=fits not in self._checked)
        if len(self._checked) >= CHECKED_MAX:
            self._checked.clear()  # one-offs come by the million, each with a definition of its own
        self._checked.add(fits)
        value = function.call(*args, **kwargs)
        if function.is_async:
            value = asyncio.run(value)
        if value is None or value is True or value is False:
            return value
        text = checked_json(value, RESULT_BYTES_MAX, f"the result of {target.address}")
        return msgspec.json.decode(text)  # plain data, and nobody else's object

    def _function(self, address: str) -> Function:
        function = self._functions.get(address)
        if function is None:
            function = self._functions[address] = _analysed(self._found(address))
        return function

    def _found(self, address: str) -> Callable[..., Any]:
        """Return what an address names, importing only what is allowed. Raises TargetNotFound."""
        if (registered := self._registered.get(address)) is not None:
            return registered
        module_name, _, path = address.partition(":")
        if not self._allowed(module_name):
            raise TargetNotFound(
                f"python target {shown(address)} is not allowed here: it is no registered function, and its "
                f"module is under none of the allowed prefixes {list(self._prefixes)}"
                f"{near_miss(address, self._registered)}; register the function or allow its module"
            )
        parts = path.split(".")
        if not all(part.isidentifier() and not part.startswith("__") for part in parts):
            raise TargetNotFound(f"{shown(address)} is no address of a function: write module:function")
        try:
            found: Any = importlib.import_module(module_name)
        except Exception as error:  # an import runs any code, so it raises anything
            raise TargetNotFound(
                f"module {module_name!r} of target {shown(address)} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        for part in parts:
            known = dir(found)
            found = getattr(found, part, None)
            if found is None:
                raise TargetNotFound(
                    f"there is no function {path!r} in {module_name}{near_miss(part, known)}"
                )
        # What it is called says nothing of what it is: another module's function may be reached through here.
        home = getattr(found, "__module__", None)
        if not callable(found) or not isinstance(home, str) or not self._allowed(home):
            raise TargetNotFound(
                f"{shown(address)} names {type(found).__name__} of module {home!r}, no function of an "
                "allowed module; give the address under which it was defined, or register it"
            )
        return found  # type: ignore[no-any-return]  # an attribute of a module; callable, as tested above

    def _allowed(self, module_name: str) -> bool:
        return any(module_name == prefix or module_name.startswith(prefix + ".") for prefix in self._prefixes)


class InlineExecutor(PythonExecutor):
    """Runs each body at once, on the thread that starts it: for virtual time, when nothing runs beside."""

    def __init__(
        self,
        *,
        slots: int = 1000,
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(threads=slots, allow=allow, clock=clock, sharing=sharing)

    def start(self, claimed: Claimed, until: datetime) -> None:
        self._run(self._begun(claimed, until))


def _analysed(call: Callable[..., Any]) -> Function:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # a few builtins say nothing of themselves
        return Function(call, None, None, None, False)
    run_index, run_name = None, None
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "run" or _wants_run(parameter.annotation):
            run_name = name
            run_index = None if parameter.kind is parameter.KEYWORD_ONLY else index
            break
    is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
        getattr(call, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    )
    return Function(call, signature, run_index, run_name, is_async)


def _wants_run(annotation: object) -> bool:
    # With postponed annotations it is a text; resolving that would run code of the annotated module.
    return annotation is CurrentRun or (
        isinstance(annotation, str) and annotation.rpartition(".")[2] == CurrentRun.__name__
    )


def _fresh(value: Any) -> Any:
    """Return JSON data that a body may change: the definition it comes from is shared by all runs."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_fresh(item) for item in value) if value else value
    return [_fresh(item) for item in value]


def _error_type(error: BaseException, job: _Job) -> str:
    """Return the name of the first of the error's classes that ``retry_on`` lists, else of its own class."""
    names = [
        name
        for kind in type(error).__mro__
        for name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
    ]
    wanted = job.claimed.definition.policy.retry_on
    return next((name for name in names if name in wanted), type(error).__name__)


def _told_error(error: BaseException) -> str:
    """Return the traceback, the house's own frames left out, cut in the middle where it is long."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
    except Exception:  # noqa: BLE001 - an error whose own __str__ fails is still an error
        text = type(error).__name__
    text = storable(text)
    if len(text) <= ERROR_CHARS_MAX:
        return text
    head, tail = ERROR_CHARS_MAX // 4, ERROR_CHARS_MAX // 4 * 3
    return f"{text[:head]}\n… {len(text) - head - tail} characters left out …\n{text[-tail:]}"


def _nothing() -> None:
    """Stand in for the wake-up until the service connects one."""
