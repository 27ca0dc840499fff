"""An event loop on a thread of its own, for executors whose bodies await: the host's loop is not ours."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Going(Generic[T]):
    """A coroutine on its way on a loop, seen from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[T] | None = None

    def cancel(self) -> None:
        """Cancel it soon, unless it is being cancelled already: what it cleans up must not be disturbed."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _begin(self, coroutine: Coroutine[Any, Any, T], done: Callable[[asyncio.Task[T]], None]) -> None:
        # Kept, for the loop itself holds its tasks weakly. A context of its own: what one sets, none finds.
        self._task = self._loop.create_task(coroutine, context=Context())
        self._task.add_done_callback(done)


class Loop:
    """Begins its daemon thread with the first coroutine; ``close`` lets it end after the last one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._going: set[Going[Any]] = set()
        self._closing = False

    def begin(self, coroutine: Coroutine[Any, Any, T], done: Callable[[asyncio.Task[T]], None]) -> Going[T]:
        """Run a coroutine on the loop; call ``done`` there with its task when it has ended.

        A task that was cancelled before its first step has run nothing of its coroutine.
        """
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(self._loop,), name=self._name, daemon=True).start()
            going: Going[T] = Going(self._loop)
            self._going.add(going)
            self._loop.call_soon_threadsafe(
                going._begin, coroutine, lambda task: self._ended(going, task, done)
            )
        return going

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Call a function on the loop soon; return False where none runs, and nothing is called."""
        with self._lock:
            if self._loop is None:
                return False
            self._loop.call_soon_threadsafe(function, *args)
            return True

    def close(self) -> None:
        """Let the thread end as soon as nothing runs on it."""
        with self._lock:
            self._closing = True
            self._let_go()

    def _ended(self, going: Going[T], task: asyncio.Task[T], done: Callable[[asyncio.Task[T]], None]) -> None:
        try:
            done(task)
        finally:
            with self._lock:
                self._going.discard(going)
                self._let_go()

    def _let_go(self) -> None:
        if self._closing and not self._going and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None  # whoever comes now gets another


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in (left := asyncio.all_tasks(loop)):  # what bodies began beside themselves
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
