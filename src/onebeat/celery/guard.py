"""What stands before the body of every task of a Celery app: a run begins once, and its end is recorded.

    message ─► Guard ─► body ─► judged ─► Finish
                 │ refused: a copy, an older attempt, cancelled      Retry: the next attempt, from its ETA on
                 └─ Ignore, and the message is acknowledged

A message that no guard was promised for is none of its business: one without our headers, or one that a body
made with the headers that it got. What Celery does with the result is left as it is.
"""

import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from os import getpid
from typing import Any, NoReturn

from msgspec.structs import replace

from onebeat.celery.ends import End, Ends
from onebeat.celery.keeper import Held, Keeper
from onebeat.celery.ledger import Ledgers
from onebeat.celery.library import Ignore, Retry, SoftTimeLimitExceeded, signals
from onebeat.celery.message import ATTEMPT, LEDGER, RUN
from onebeat.core.errors import OnebeatError, Refused, StoreUnavailable
from onebeat.core.messages import Claimed, Finish, Guard, Report
from onebeat.core.messages import Retry as Again
from onebeat.core.model import Event, Outcome, Run
from onebeat.core.ports import Clock
from onebeat.core.targets import outside_name
from onebeat.engine.attempt import attempt_event, ended
from onebeat.engine.clock import SystemClock
from onebeat.engine.current import CurrentRun, running
from onebeat.engine.executors.bodies import Body, plain, told
from onebeat.engine.metrics import Metrics

NOTES_EVERY_S = 1.0

_log = logging.getLogger("onebeat.celery")


class _Attempt:
    """One body that was let through, from its Start to its Finish."""

    __slots__ = ("body", "key", "retry", "said")

    def __init__(self, claimed: Claimed, clock: Clock) -> None:
        self.said = threading.Event()
        self.body = Body(claimed, CurrentRun(claimed, clock, lambda _: self.said.set()))
        self.key = self.body.key
        self.retry: tuple[datetime, str] | None = None

    @property
    def run(self) -> Run:
        return self.body.claimed.run


class Installed:
    """The guard of one app. ``metrics`` are those of this process."""

    def __init__(self, app: Any, url: str | None, open_: bool, lease: timedelta) -> None:
        self.metrics = Metrics()
        self._app = app
        self._open = open_
        self._lease = lease
        self._clock: Clock = SystemClock()
        self._ledgers = Ledgers(app, url, self._clock)
        self._keeper = Keeper(self._ledgers, self._clock, lease, self._kill)
        refused = partial(self.metrics.count, "onebeat_results_refused_total")
        self._ends = Ends(self._ledgers, self._clock, self._keeper, refused)
        self._pool: Any = None
        self._speaking: set[_Attempt] = set()
        self._speaker: tuple[int, threading.Event] | None = None
        self._hook()

    def _hook(self) -> None:
        app = self._app
        app.on_after_finalize.connect(self._guard_all, weak=False)
        if app.finalized:
            self._guard_all()
        for name in ("_task_from_fun", "register_task"):
            setattr(app, name, self._registering(getattr(app, name)))
        signals.worker_init.connect(self._begun, weak=False)
        signals.task_postrun.connect(self._after, weak=False)
        signals.task_revoked.connect(self._revoked, weak=False)
        for leaving in (signals.worker_process_shutdown, signals.worker_shutdown):
            leaving.connect(self._leave, weak=False)

    def _registering(self, register: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(register)
        def registered(*args: Any, **kwargs: Any) -> Any:
            task = register(*args, **kwargs)
            self._guard(task)
            return task

        return registered

    def _guard_all(self, **_: Any) -> None:
        for task in list(self._app.tasks.values()):
            self._guard(task)

    def _guard(self, task: Any) -> None:
        """Have the guard asked before a body, and by ``retry``: on the class, where Celery looks."""
        kind = type(task)
        if "onebeat_guarded" in kind.__dict__:
            return
        before, retry, installed = kind.before_start, kind.retry, self

        @wraps(before)
        def before_start(self: Any, task_id: str, args: Any, kwargs: Any) -> Any:
            installed.before(self)
            return before(self, task_id, args, kwargs)

        @wraps(retry)
        def retried(self: Any, *args: Any, **kwargs: Any) -> Any:
            attempt = _of(self.request)
            if attempt is None:
                return retry(self, *args, **kwargs)
            return installed.retry(self, attempt, *args, **kwargs)

        kind.before_start, kind.retry, kind.onebeat_guarded = before_start, retried, True

    # --- the worker ---

    def _begun(self, sender: Any = None, **_: Any) -> None:
        if sender is None or sender.app is not self._app:
            return
        self._pool = sender
        self._ledgers.forking = "prefork" in str(getattr(sender.pool_cls, "__module__", sender.pool_cls))
        try:
            self._ledgers.tried()
        except OnebeatError as error:
            _log.error("the ledger cannot be opened now; runs are dealt with when it can: %s", error)
        self._keeper.begin()

    def _leave(self, **_: Any) -> None:
        """Let a process go when the ends of its bodies are in the ledger, or could be of no use any more."""
        self._ends.drain(self._lease.total_seconds())

    def _kill(self, held: Held) -> None:
        """End the body of a child, as a revocation with ``terminate`` would."""
        from onebeat.celery.library import worker_state  # noqa: PLC0415 - only workers have it

        for request in list(worker_state.active_requests):
            if request.id == held.task_id and request.worker_pid == held.pid:
                request.terminate(self._pool.pool, signal="TERM")

    def _revoked(
        self, request: Any = None, terminated: bool = False, expired: bool = False, **_: Any
    ) -> None:
        run_id, attempt = _meant(request)
        if run_id is None:
            return
        if terminated:
            self._keeper.terminated(run_id)
        else:
            self._keeper.revoked(run_id, attempt, _holder(request), expired=bool(expired))

    # --- before the body ---

    def before(self, task: Any) -> None:
        """Let a body begin, or raise Ignore."""
        request = task.request
        run_id, number = _meant(request)
        if run_id is None or request.called_directly or request.is_eager or _of(request) is not None:
            return
        try:
            attempt = self._taken(task, run_id, number)
        except StoreUnavailable as error:
            if not self._open:
                raise Ignore(
                    f"{run_id}: the ledger does not answer, and sends it again later: {error}"
                ) from error
            self._unfenced(request, run_id, error)
            return
        request.onebeat_attempt = attempt
        running.set(attempt.body.current)

    def _taken(self, task: Any, run_id: str, number: int) -> _Attempt:
        """Take the run for this process, or raise Ignore."""
        request, store = task.request, self._ledgers.store()
        began, until = self._clock.now(), self._ledgers.now(store) + self._lease
        guard = Guard(run_id=run_id, attempt=number, holder=_holder(request), until=until, starts=True)
        (told,) = store.advance([guard])
        run = told.run
        if run is None:
            self._refuse(request, run_id, number, store.run(run_id))
        attempt = _Attempt(Claimed(run=run, definition=self._ledgers.definition(store, run)), self._clock)
        current = attempt.body.current
        current.renewed(began + self._lease)
        if current.lapsed():
            raise Ignore(f"{run_id}: its lease had lapsed before its body began")
        self._hold(task, attempt, began)
        return attempt

    def _hold(self, task: Any, attempt: _Attempt, began: datetime) -> None:
        request, current = task.request, attempt.body.current
        hard, soft = request.timelimit or (None, None)
        hard = hard or task.time_limit or self._app.conf.task_time_limit
        held = Held(
            attempt.key,
            request.id,
            getpid(),
            began + self._lease / 3,
            None if not soft else began + timedelta(seconds=soft),
            None if not hard else began + timedelta(seconds=hard),
        )

        def told(what: str, value: Any) -> None:
            if what == "renewed":
                current.renewed(value)
            else:
                current.tell(value)

        self._keeper.hold(held, told)
        self._speak(attempt)

    def _refuse(self, request: Any, run_id: str, number: int, run: Run | None) -> NoReturn:
        """Raise Ignore for a message that nothing is to be run for; loudly where it is of another ledger."""
        theirs = request.get(LEDGER)
        if run is None and theirs and theirs != self._ledgers.fingerprint:
            # Two URLs of one ledger may differ: a copy of what is known here must not fail its task.
            raise OnebeatError(
                f"{run_id}, attempt {number}, comes from the ledger {theirs}, and this worker has "
                f"{self._ledgers.fingerprint}: name the same ledger in both, or use another broker"
            )
        why = "is not in the ledger" if run is None else f"is {run.state.value} at attempt {run.attempt}"
        raise Ignore(f"{run_id}: a message for attempt {number}, and the run {why}: nothing is run for it")

    def _unfenced(self, request: Any, run_id: str, error: Exception) -> None:
        self.metrics.count("onebeat_unfenced_total")
        reason = f"its body was run without a lease, for the ledger did not answer: {error}"
        _log.error("%s: %s", run_id, reason)
        event = Event(
            at=self._clock.now(), kind="run.unfenced", run_id=run_id, actor=_holder(request), reason=reason
        )
        self._keeper.begin()
        self._keeper.record(event)

    # --- in the body ---

    def retry(
        self,
        task: Any,
        attempt: _Attempt,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Raise Celery's Retry; the ledger keeps when, and a message goes out then. Nothing is sent now."""
        if args is not None or kwargs is not None or options:
            said = [name for name, given in (("args", args), ("kwargs", kwargs)) if given is not None]
            raise Refused(
                f"{attempt.run.id}: retry({', '.join([*said, *options])}=…) would be another task than the "
                "schedule says, and the ledger could not repeat it; retry without, or send that task yourself"
            )
        if not throw:
            raise Refused(
                f"{attempt.run.id}: retry(throw=False) would go on after the attempt has ended; leave it out"
            )
        retries = task.request.retries + 1
        if max_retries is not None:
            task.override_max_retries = max_retries
        most = task.max_retries if max_retries is None else max_retries
        if most is not None and retries > most:
            if exc is not None:
                raise exc
            raise task.MaxRetriesExceededError(
                f"{task.name}[{task.request.id}] has been retried {most} times",
                task_args=task.request.args,
                task_kwargs=task.request.kwargs,
            )
        if not eta and countdown is None:
            countdown = task.default_retry_delay
        now = self._clock.now()
        if eta is None:
            at = now + timedelta(seconds=float(countdown or 0))
        else:
            at = eta.astimezone(UTC) if eta.tzinfo else eta.replace(tzinfo=self._app.timezone).astimezone(UTC)
        attempt.retry = (
            at,
            "the task asked for a retry" if exc is None else f"retry after {type(exc).__name__}",
        )
        raise Retry(exc=exc, when=eta or countdown)

    def _speak(self, attempt: _Attempt) -> None:
        """Have progress and lines of a body carried to the ledger while it runs."""
        self._speaking.add(attempt)
        if self._speaker is not None and self._speaker[0] == getpid():
            return
        stop = threading.Event()
        self._speaker = (getpid(), stop)
        threading.Thread(target=self._carry, args=(stop,), name="onebeat-notes", daemon=True).start()

    def _carry(self, stop: threading.Event) -> None:
        while not stop.wait(NOTES_EVERY_S):
            for attempt in list(self._speaking):
                if attempt.said.is_set():
                    self._note(attempt)

    def _note(self, attempt: _Attempt) -> None:
        attempt.said.clear()
        note = attempt.body.current.take()
        if note is not None:
            try:
                self._ledgers.store().note([note])
            except Exception:  # noqa: BLE001 - lines that cannot be kept must not keep results back
                _log.warning("%s: progress and lines cannot be kept", attempt.run.id, exc_info=True)

    # --- after the body ---

    def _after(self, sender: Any = None, retval: Any = None, state: str | None = None, **_: Any) -> None:
        attempt = _of(sender.request)
        if attempt is None:
            return
        running.set(None)
        self._speaking.discard(attempt)
        self._note(attempt)
        if state is None and self._keeper.elsewhere:
            return  # this child was told to end: why, the keeper knows, which judges it when it is gone
        report = self._report(attempt, state, retval)
        if report.outcome is Outcome.CANCELLED and attempt.body.current.stop_reason == "timeout":
            report = replace(report, outcome=Outcome.TIMED_OUT, error_type="Timeout")
        self._finish(attempt, report)

    def _report(self, attempt: _Attempt, state: str | None, retval: Any) -> Report:
        """Return how the body ended, of what Celery calls it."""
        body = attempt.body
        match state:
            case "SUCCESS":
                try:
                    plain(retval, f"the result of {body.target.address}")
                except Exception as error:  # noqa: BLE001 - Celery takes more than JSON, and the body has succeeded
                    _log.warning("%s: its result is not kept in the ledger: %s", attempt.run.id, error)
                    retval = None
                return body.returned(retval)
            case "RETRY" if attempt.retry is not None:
                cause = getattr(retval, "exc", None)
                why = attempt.retry[1] if cause is None else told(cause)
                return body.report(Outcome.FAILED, error=why, error_type=type(cause).__name__)
            case "IGNORED":
                return body.returned(None)
            case None if _out_of_time(sys.exception()):
                why = "the body took longer than its time limit"
                return body.report(Outcome.TIMED_OUT, error=why, error_type="Timeout")
            case None:
                return body.report(Outcome.LOST, error="its process was told to end")
            case _:
                return _failed(body, state, retval)

    def _finish(self, attempt: _Attempt, report: Report) -> None:
        run, now = attempt.run, self._clock.now()
        actor = run.holder or ""
        if attempt.retry is not None and report.outcome is Outcome.FAILED:
            verdict = Again(at=attempt.retry[0], reason=attempt.retry[1])
            event = attempt_event(run, report.outcome, verdict, error=report.error, at=now, actor=actor)
            finish = Finish(
                run_id=run.id,
                token=run.token,
                outcome=report.outcome,
                verdict=verdict,
                error=report.error,
                event=event,
            )
        else:
            finish = ended(attempt.body.claimed.definition.policy, run, report, at=now, actor=actor)
        self.metrics.count("onebeat_attempts_total", finish.outcome.value)
        self._ends.owe(End(run, finish))


def _failed(body: Body, state: str, retval: Any) -> Report:
    """Return the report of a body that raised, or that Celery rejected."""
    if isinstance(retval, SoftTimeLimitExceeded):
        why = f"the body took longer than its soft time limit\n{told(retval)}"
        return body.report(Outcome.TIMED_OUT, error=why, error_type="Timeout")
    if isinstance(retval, BaseException):
        return body.raised(retval)
    return body.report(Outcome.FAILED, error=str(retval), error_type=state.title())


def _meant(request: Any) -> tuple[str | None, int]:
    """Return the run and the attempt that a message is to begin behind a guard, or None for the run.

    A task that a body starts, or is replaced by, may carry its headers on; it has another id, or says so.
    """
    run_id, attempt = request.get(RUN), request.get(ATTEMPT)
    if run_id is None or attempt is None or request.get("replaced_task_nesting"):
        return None, 0
    return (str(run_id), int(attempt)) if request.id == outside_name(str(run_id)) else (None, 0)


def _out_of_time(error: BaseException | None) -> bool:
    """Return whether a green thread was ended by its limit: by an exception of its library's own."""
    kind = type(error)
    return kind.__name__ == "Timeout" and kind.__module__.partition(".")[0] in ("gevent", "eventlet")


def _of(request: Any) -> _Attempt | None:
    """Return the attempt that a request was let through as."""
    found = getattr(request, "onebeat_attempt", None)
    return found if isinstance(found, _Attempt) else None


def _holder(request: Any) -> str:
    return str(request.get("hostname") or "celery")
