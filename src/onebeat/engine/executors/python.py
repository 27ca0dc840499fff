"""Python functions, run on threads of this process."""

import threading
from collections.abc import Callable, Iterable
from contextvars import Context
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from onebeat.core.messages import Claimed, Report
from onebeat.core.model import Target
from onebeat.core.ports import Clock, Sharing
from onebeat.engine.current import running
from onebeat.engine.executors.bodies import Bodies, Body
from onebeat.engine.executors.coroutines import ran
from onebeat.engine.executors.functions import Functions
from onebeat.engine.executors.lending import in_transaction
from onebeat.engine.executors.loop import Loop


class PythonExecutor(Bodies):
    """Runs Python functions on at most ``threads`` daemon threads, made when they are first needed.

    Threads of its own, because a pool's threads are joined at exit, and a body that hangs would hold the
    process for ever. ``allow`` names what may run: functions, and prefixes of module names (``shop`` allows
    ``shop`` and ``shop.orders``). ``sharing`` lends transactions to bodies that are to have one. A coroutine
    function takes a thread too, and runs on ``loop``, all of them on one, so that they can share connections.
    """

    kind = "python"

    def __init__(
        self,
        *,
        threads: int = 10,
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        sharing: Sharing | None = None,
        loop: Loop | None = None,
    ) -> None:
        super().__init__(threads, clock)
        self._loop = Loop("onebeat-awaited") if loop is None else loop
        self._sharing = sharing
        self._functions = Functions(allow)
        self._queue: SimpleQueue[Body | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def allow(self, *what: str | Callable[..., Any]) -> None:
        """Allow functions, and modules by prefix."""
        self._functions.allow(*what)

    def register(self, address: str, function: Callable[..., Any]) -> None:
        """Have an address name this function here, whatever it named before."""
        self._functions.register(address, function)

    def resolve(self, target: Target) -> None:
        self._functions.resolve(target)

    def start(self, claimed: Claimed, until: datetime) -> None:
        body = self.begin(claimed, until)
        if self.taken > len(self._threads) and len(self._threads) < self.slots:
            thread = threading.Thread(
                target=self._work, name=f"onebeat-python-{len(self._threads) + 1}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._queue.put(body)

    def stop(self, body: Body) -> None:
        if body.hold is not None:
            body.hold.cancel()

    def close(self) -> None:
        super().close()
        self._loop.close()
        for _ in self._threads:
            self._queue.put(None)
        self._threads = []

    def _work(self) -> None:
        while (body := self._queue.get()) is not None:
            self.run(body)

    def run(self, body: Body) -> None:
        """Run one body to its end on the thread that calls, whatever it is, and report it."""
        if (lapsed := body.lapsed()) is not None:
            report = lapsed
        elif _transactional(body):
            report = in_transaction(
                self._sharing,
                body.claimed,
                body.current,
                ran=lambda: self._ran(body),
                mine=lambda: self.mine(body),
            )
        else:
            report = self._ran(body)
        self.end(body, report)

    def _ran(self, body: Body) -> Report:
        """Run one body, and return how it ended."""
        try:
            if self._functions.at(body.target.address).is_async and not _transactional(body):
                return self._awaited(body)
            # A context of its own: what one body sets, the next on this thread must not find.
            value = Context().run(self._called, body)
        except BaseException as failure:  # noqa: BLE001 - sys.exit() fails a body, and costs no thread
            return body.raised(failure)
        return body.returned(value)

    def _called(self, body: Body) -> Any:
        running.set(body.current)
        function, args, kwargs = self._functions.prepared(body.claimed, body.current)
        if _transactional(body):
            function.refuse_async(body.target)
        return function.call(*args, **kwargs)

    def _awaited(self, body: Body) -> Report:
        """Have a coroutine function run on the loop, where it can be cancelled, and wait for its end."""
        ended: SimpleQueue[Report] = SimpleQueue()
        body.hold = self._loop.begin(ran(body, self._functions), lambda task: ended.put(body.ending(task)))
        if body.current.stop_reason is not None:  # told before there was anything to cancel
            body.hold.cancel()
        return ended.get()


class InlineExecutor(PythonExecutor):
    """Runs each body at once, on the thread that starts it: for virtual time, when nothing runs beside.

    ``kind`` is the kind of target that it stands for: whatever runs a Python function elsewhere.
    """

    def __init__(
        self,
        *,
        slots: int = 1000,
        kind: str = "python",
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(threads=slots, allow=allow, clock=clock, sharing=sharing)
        self.kind = kind

    def start(self, claimed: Claimed, until: datetime) -> None:
        self.run(self.begin(claimed, until))
        self._loop.close()  # no thread is left behind between two bodies


def _transactional(body: Body) -> bool:
    return body.claimed.definition.policy.transactional
