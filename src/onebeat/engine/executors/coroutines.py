"""Coroutine functions, many at once on one event loop that the executor owns.

    start ──► task ──► returned, or raised ──► report
                │ told: cancelled (CancelledError in the body)
                └──► the body cleans up, and returns or raises ──► CANCELLED, unless it took the cancel back

A body that swallows its cancellation and goes on keeps its slot until it returns, and one that blocks instead
of awaiting holds up all others of its node: such a function belongs on a thread.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from onebeat.core.errors import TargetNotFound
from onebeat.core.messages import Claimed, Report
from onebeat.core.model import Target
from onebeat.core.ports import Clock
from onebeat.engine.current import running
from onebeat.engine.executors.bodies import Bodies, Body
from onebeat.engine.executors.functions import Function, Functions
from onebeat.engine.executors.loop import Loop


class CoroutineExecutor(Bodies):
    """Runs at most ``coroutines`` bodies at once, on one thread. ``allow`` says which, as for threads."""

    kind = "async"
    overdue = "was cancelled; it holds its slot on this node until it returns"

    def __init__(
        self,
        *,
        coroutines: int = 1000,
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        loop: Loop | None = None,
    ) -> None:
        super().__init__(coroutines, clock)
        self._functions = Functions(allow)
        self._loop = Loop("onebeat-async") if loop is None else loop

    def resolve(self, target: Target) -> None:
        _awaitable(self._functions.resolve(target), target)

    def start(self, claimed: Claimed, until: datetime) -> None:
        body = self.begin(claimed, until)
        body.hold = self._loop.begin(
            ran(body, self._functions), lambda task: self.end(body, body.ending(task))
        )

    def stop(self, body: Body) -> None:
        body.hold.cancel()

    def close(self) -> None:
        super().close()
        self._loop.close()


async def ran(body: Body, functions: Functions) -> Report:
    """Run the coroutine function of a body to its end, and return how it ended."""
    if (lapsed := body.lapsed()) is not None:
        return lapsed
    try:
        running.set(body.current)
        function, args, kwargs = functions.prepared(body.claimed, body.current)
        _awaitable(function, body.target)
        value = await function.call(*args, **kwargs)
    except BaseException as failure:  # noqa: BLE001 - sys.exit() fails a body, and costs no loop
        _heed(body)
        return body.raised(failure)
    _heed(body)
    return body.returned(value)


def _heed(body: Body) -> None:
    """Count a cancellation as heard, unless the body took it back (``Task.uncancel``)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        body.current.still_mine()


def _awaitable(function: Function, target: Target) -> None:
    if not function.is_async:
        raise TargetNotFound(
            f"{target.address} is no coroutine function, and would hold up all others on the event loop; "
            "give its target the kind python, which runs it on a thread"
        )
