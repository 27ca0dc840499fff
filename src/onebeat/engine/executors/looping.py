"""An event loop on a thread of its own, for executors that wait for much at once.

It begins with the first task, and ends with the last one after ``close``. Daemon, as every thread that may
wait for somebody else's end: it must not hold the process.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

_log = logging.getLogger("onebeat.engine")


class LoopThread:
    """Runs coroutines on its thread. ``run``, ``call`` and ``close`` are for all other threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._closing = False

    def run(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Begin a coroutine function on the loop, in a context of its own."""
        with self._lock:
            self._begun().call_soon_threadsafe(self._start, function, args)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop. Nothing is called where no loop has begun, or it has ended."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *args)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """End with the last task, after ``last``. Safe to repeat."""
        self._last = last
        self.call(self._leave)

    def _begun(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._closing = False
            threading.Thread(target=self._serve, args=(self._loop,), name=self._name, daemon=True).start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _start(self, function: Callable[..., Coroutine[Any, Any, None]], args: tuple[Any, ...]) -> None:
        task = asyncio.get_running_loop().create_task(function(*args), context=Context())
        self._tasks.add(task)  # a loop keeps its tasks by weak references alone
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: a task failed, and reported nothing", self._name, exc_info=error)
        if self._closing:
            self._leave()

    def _leave(self) -> None:
        self._closing = True
        if self._tasks:
            return
        if self._last is not None:
            last, self._last = self._last, None
            self._start(last, ())  # its end brings us here again
            return
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
