"""The other side of a process executor: a fresh interpreter that runs one body after the other.

    hello ──► run ──► began ──► notes … ──► end ──► run …
                                  ▲ told, renewed                          leave ──► it exits, atexit included

One JSON document a line, both ways, over a socket that nobody else has. The body runs on the main thread, as
in any program; a second one listens. When the other side is gone, so is this process, and all of its group.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from onebeat.core.codec import definition_from, from_data, to_data
from onebeat.core.messages import Claimed, Report
from onebeat.core.model import Run
from onebeat.engine.clock import SystemClock
from onebeat.engine.current import CurrentRun, RunLogHandler, current, running
from onebeat.engine.executors.bodies import Body
from onebeat.engine.executors.coroutines import ran
from onebeat.engine.executors.functions import Functions

READ_BYTES = 64 * 1024

inside = threading.Event()
"""Set in such a process: a module that serves when it is imported is told so, instead of serving in it."""


class Child:
    """Runs what it is told to, until it is told to leave."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lines = _lines(link)
        self._sending = threading.Lock()
        self._orders: SimpleQueue[Body | None] = SimpleQueue()
        self._body: Body | None = None
        hello = json.loads(next(self._lines))
        self._functions = Functions(hello["allow"])
        logging.getLogger().setLevel(hello["level"])
        logging.getLogger().addHandler(RunLogHandler())
        stderr = logging.StreamHandler()
        stderr.addFilter(lambda record: current() is None)  # what no run keeps is at least printed
        logging.getLogger().addHandler(stderr)

    def serve(self) -> None:
        """Run bodies on this thread, while another one listens."""
        threading.Thread(target=self._listen, name="onebeat-link", daemon=True).start()
        with asyncio.Runner() as runner:
            while (body := self._orders.get()) is not None:
                self._send(began=body.key)
                report = self._ran(body, runner)
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError, ValueError):  # a body may have closed them
                        stream.flush()
                self._send(end=to_data(report))

    def _ran(self, body: Body, runner: asyncio.Runner) -> Report:
        """Run one body, and return how it ended. One that exits takes the process with it."""
        try:
            if self._functions.at(body.target.address).is_async:
                return runner.run(ran(body, self._functions), context=Context())
            if (lapsed := body.lapsed()) is not None:
                return lapsed
            value = Context().run(self._called, body)
        except SystemExit:
            raise
        except BaseException as failure:  # noqa: BLE001 - a body fails with whatever it raises
            return body.raised(failure)
        return body.returned(value)

    def _called(self, body: Body) -> Any:
        running.set(body.current)
        function, args, kwargs = self._functions.prepared(body.claimed, body.current)
        return function.call(*args, **kwargs)

    def _listen(self) -> None:
        for line in self._lines:
            match json.loads(line):
                case {"run": run, "definition": definition, "until": until}:
                    claimed = Claimed(run=from_data(run, Run), definition=definition_from(definition))
                    self._body = Body(claimed, CurrentRun(claimed, SystemClock(), self._said))
                    self._body.current.renewed(datetime.fromisoformat(until))
                    self._orders.put(self._body)
                case {"until": until}:
                    if self._body is not None:
                        self._body.current.renewed(datetime.fromisoformat(until))
                case {"told": why}:
                    if self._body is not None:
                        self._body.current.tell(why)
                case _:  # leave
                    self._orders.put(None)
        _vanish()

    def _said(self, run: CurrentRun) -> None:
        """Carry what a body says over at once: how much of it is kept, the other side decides."""
        if (note := run.take()) is not None:
            self._send(note=to_data(note))

    def _send(self, **message: Any) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._sending:
                self._link.sendall(data)
        except OSError:
            _vanish()


def _lines(link: socket.socket) -> Iterator[bytes]:
    """Yield what comes, line by line. No buffered file: one that a thread waits in hinders the exit."""
    kept = b""
    while data := link.recv(READ_BYTES):
        *whole, kept = (kept + data).split(b"\n")
        yield from whole


def main(link: int) -> None:
    """Serve the process that has begun this one, over an inherited socket."""
    inside.set()
    os.set_inheritable(link, False)
    Child(socket.socket(fileno=link)).serve()


def _vanish() -> None:
    """End this process and all of its group, at once: nobody is left to report to."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
