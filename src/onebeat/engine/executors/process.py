"""Python functions in processes of their own, which stay warm, and can be killed.

    start ──► an idle process, else a new one ──► run ──► began ──► end ──► idle again
                 │ it died before it began: another     │ told: LOOK for still_mine() ──► SIGTERM to its group
                 └──► three deaths: failed              └ timeout: SIGTERM at once ──► GRACE ──► SIGKILL

Each is a fresh interpreter, the leader of a session, and what it forked is killed with it; it ends with this
process, however that ends. One thread serves them all. No pickle: JSON goes over a socket that nobody else
has. docs/design/013-ways-to-run.md
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from onebeat.core.codec import from_data, to_data, to_text
from onebeat.core.errors import TargetNotFound
from onebeat.core.messages import Claimed, Note, Report
from onebeat.core.model import Outcome, Target, instant_text
from onebeat.core.ports import Clock
from onebeat.engine.clock import SystemClock
from onebeat.engine.executors.bodies import Bodies, Body
from onebeat.engine.executors.functions import Functions
from onebeat.engine.executors.keeper import Keeper
from onebeat.engine.executors.loop import Loop
from onebeat.engine.executors.output import Output
from onebeat.engine.executors.sessions import exit_status, kill_session, signal_group, told_status, watched

LOOK = timedelta(seconds=10)
GRACE = timedelta(seconds=5)
BEGINNINGS = 3
LINE_BYTES_MAX = 32 * 1024 * 1024
READ_BYTES = 64 * 1024
READS = 16
LINGER = 1.0
UNKNOWN = ("its exit status is unknown", ("ExitStatusUnknown",))
BOOT = (
    "import sys; link = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; del sys.argv[1:]; "
    "from onebeat.engine.executors.child import main; main(link)"
)

_log = logging.getLogger("onebeat.engine")


class ProcessExecutor(Bodies):
    """Runs Python functions in at most ``processes`` processes, made when they are first needed.

    ``allow`` names what may run, as for threads; a function is found by its module, which is imported anew. A
    body that was told to stop has ``look`` to do so by itself, and from SIGTERM to SIGKILL ``grace``.
    """

    kind = "process"
    overdue = "was sent SIGTERM; what is left of its process is killed a little later"

    def __init__(
        self,
        *,
        processes: int = 1,
        allow: Iterable[str | Callable[..., Any]] = (),
        clock: Clock | None = None,
        look: timedelta = LOOK,
        grace: timedelta = GRACE,
    ) -> None:
        super().__init__(processes, clock)
        self._functions = Functions(allow)
        self._look, self._grace = look.total_seconds(), grace.total_seconds()
        self._loop = Loop("onebeat-process")
        self._keeper = Keeper(grace)  # on the loop alone, as all below
        self._processes: set[_Process] = set()
        self._idle: list[_Process] = []  # the one that was busy last is taken first

    def resolve(self, target: Target) -> None:
        if "<locals>" in target.address:
            raise TargetNotFound(
                f"{target.address} is a function inside another one, which no other process can import; move "
                "it to the top of its module"
            )
        self._functions.resolve(target)

    def start(self, claimed: Claimed, until: datetime) -> None:
        body = self.begin(claimed, until)
        ran = self._reported(body, self._here(until))
        self._loop.begin(ran, lambda task: self.end(body, task.result()))

    def stop(self, body: Body) -> None:
        self._loop.call(self._stop, body)

    def renewed(self, run_id: str, token: int, until: datetime) -> None:
        super().renewed(run_id, token, until)
        if (body := self.body(run_id, token)) is not None:
            self._loop.call(self._renew, body, self._here(until))

    def notes(self) -> list[Note]:
        notes = super().notes()
        self._loop.call(self._looked)
        return notes

    def close(self) -> None:
        super().close()
        self._loop.call(self._leave)
        self._loop.close()

    def _here(self, until: datetime) -> datetime:
        """Return an instant of this node's clock on the machine's, which is what a process has."""
        return SystemClock().now() + (until - self.clock.now())

    # --- on the loop ---

    async def _reported(self, body: Body, until: datetime) -> Report:
        try:
            return body.lapsed() or await self._ran(body, until)
        except BaseException as failure:  # noqa: BLE001 - whatever it was, an attempt ends with a report
            return body.raised(failure)

    async def _ran(self, body: Body, until: datetime) -> Report:
        self._functions.at(body.target.address)  # what may run is decided here, not over there
        died = None
        for _ in range(BEGINNINGS):
            process = body.hold = self._idle.pop() if self._idle else await self._begun()
            told = body.current.stop_reason is not None  # before there was a process to tell it to
            report = body.halted() if told else await process.run(body, until)
            self._rest(process)
            if report is not None:
                return report
            died = process.died(body, "before the body began")
        assert died is not None
        return died

    def _rest(self, process: "_Process") -> None:
        """Keep a process for the next body, or let it go."""
        if process.stopped:
            process.kill()  # its body has ended, and the signal may yet reach what comes after
        elif not process.exited.is_set():
            self._idle.append(process)
        if not self.slots:
            self._leave()

    async def _begun(self) -> "_Process":
        process = _Process(self._functions.modules)
        await process.connect()
        self._keeper.begun(process.pid)
        self._processes.add(process)
        self._loop.begin(self._watch(process), asyncio.Task.result)
        return process

    async def _watch(self, process: "_Process") -> None:
        """Clear up behind a process once it has ended, and its last body has been reported."""
        await process.exited.wait()
        if process in self._idle:
            self._idle.remove(process)
        async with process.busy:
            self._processes.discard(process)
            self._keeper.ended(process.pid)
            process.clear()
        if not self.slots:
            self._leave()

    def _stop(self, body: Body) -> None:
        process: _Process | None = body.hold
        if process is not None and process.body is body:
            why = body.current.stop_reason or ""
            process.stop(why, 0.0 if why == "timeout" else self._look, self._grace)

    def _renew(self, body: Body, until: datetime) -> None:
        process: _Process | None = body.hold
        if process is not None and process.body is body:
            process.send(until=instant_text(until))

    def _looked(self) -> None:
        for process in self._processes:
            process.looked()

    def _leave(self) -> None:
        while self._idle:
            self._idle.pop().leave(self._grace)
        for process in self._processes:
            if process.stopped:  # its grace ends with this node
                process.kill()
        if not self._processes:
            self._keeper.close()


class _Process:
    """One process, from its start to its end, seen from the loop. It runs one body at a time."""

    def __init__(self, modules: Iterable[str]) -> None:
        self.body: Body | None = None
        self.stopped = False
        self.exited, self.busy = asyncio.Event(), asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._output = Output()
        self._timers: list[asyncio.TimerHandle] = []
        self._modules = tuple(modules)
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, str(theirs.fileno()), *map(str, sys.path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        try:
            self._pipe, self._handle = watched(self._process)
        except OSError:
            self._link.close()
            raise

    @property
    def pid(self) -> int:
        """Return its number, which nobody else gets before ``clear``."""
        return self._process.pid

    async def connect(self) -> None:
        """Greet it. Nobody waits for it to be up: what it is sent lies there until it is."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._link, limit=LINE_BYTES_MAX)
        self._loop.add_reader(self._pipe, self._read)
        self._loop.add_reader(self._handle, self._ended)
        self.send(allow=self._modules, level=logging.getLogger().level)

    def send(self, **message: Any) -> None:
        """Send one message, if there is anybody to get it."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def run(self, body: Body, until: datetime) -> Report | None:
        """Return how a body ended; None where the process died before it began."""
        async with self.busy:
            self.body, self._output, began = body, Output(), False
            run, definition = body.claimed.run, body.claimed.definition
            self.send(run=to_data(run), definition=to_text(definition), until=instant_text(until))
            try:
                while (message := await self._heard()) is not None:
                    match message:
                        case {"began": [run.id, run.token]}:
                            began = True
                        case {"note": note}:
                            self._keep(body, from_data(note, Note))
                        case {"end": report}:
                            return from_data(report, Report)
                        case _:
                            pass
                await self.exited.wait()
                return self.died(body, "before the body returned") if began else None
            finally:
                self._read()
                self._say(self._output.end())
                self.body = None
                self._forget_timers()

    def died(self, body: Body, when: str) -> Report:
        """Return the report of a body whose process ended under it."""
        if self.stopped:
            return body.halted()
        told, names = told_status(status) if (status := exit_status(self._handle)) is not None else UNKNOWN
        wanted = body.claimed.definition.policy.retry_on
        return body.report(
            Outcome.FAILED,
            error=f"its process ended {when}: {told}\n{self._output.tail}".rstrip(),
            error_type=next((name for name in names if name in wanted), names[0]),
        )

    # --- stopping it ---

    def stop(self, why: str, look: float, grace: float) -> None:
        """Tell its body to stop; after ``look`` ask it to end, after ``grace`` kill it. Safe to repeat."""
        self.send(told=why)
        if not self._timers:
            self._timers.append(self._loop.call_later(look, self._end, grace))

    def leave(self, grace: float) -> None:
        """Let it end by itself, now that it is idle; kill it after ``grace``."""
        self.send(leave=True)
        self._timers.append(self._loop.call_later(grace, self.kill))

    def kill(self) -> None:
        """Kill it and all that it forked."""
        if not self.exited.is_set():
            kill_session(self._process.pid)

    def _end(self, grace: float) -> None:
        if not self.exited.is_set():
            self.stopped = True
            signal_group(self._process.pid, signal.SIGTERM)
            self._timers.append(self._loop.call_later(grace, self.kill))

    # --- what it says ---

    def looked(self) -> None:
        """Learn that the worker has taken the lines that there were."""
        self._say(self._output.looked())

    async def _heard(self) -> Any:
        """Return its next message, None once there are no more."""
        try:
            line = await self._reader.readline()
        except (OSError, ValueError):  # it was cut off, or says more in one line than anything may
            self.kill()
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _keep(self, body: Body, note: Note) -> None:
        if (note.run_id, note.token) != body.key:
            return  # a thread that an earlier body left behind
        for line in note.lines:
            body.current.keep(line.level, line.text)
        if note.progress is not None:
            body.current.progress(*note.progress)

    def _read(self) -> None:
        """Read what it printed, as much as there is, or a good deal of it."""
        with suppress(OSError):
            for _ in range(READS):
                data = self._pipe.read(READ_BYTES)
                if not data:
                    if data is not None:
                        self._loop.remove_reader(self._pipe)
                    return
                self._say(self._output.take(data))

    def _say(self, entries: list[str]) -> None:
        for entry in entries:
            if self.body is not None:
                self.body.current.keep("info", entry)
            else:
                _log.info("process %d, between two bodies: %s", self._process.pid, entry)

    def _ended(self) -> None:
        # Not reaped yet: as long as it is a zombie, nobody else gets its number, which its session has, too.
        self._loop.remove_reader(self._handle)
        kill_session(self._process.pid)
        self.exited.set()
        # What it forked may hold the socket, from a session of its own: then its end is not heard there.
        self._timers.append(self._loop.call_later(LINGER, self._writer.transport.abort))

    def _forget_timers(self) -> None:
        while self._timers:
            self._timers.pop().cancel()

    def clear(self) -> None:
        """Let go of all that there is of an ended process, its number last."""
        self._forget_timers()
        self._writer.transport.abort()
        self._loop.remove_reader(self._pipe)
        self._pipe.close()
        os.close(self._handle)
        self._process.poll()
