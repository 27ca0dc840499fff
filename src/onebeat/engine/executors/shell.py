"""Commands, run as processes of their own: a list of words, no shell between, off until switched on.

    Popen ──► its program ends ──► LINGER for others that still write ──► what is left is killed ──► reported
      │              ▲
      └─ told ──► SIGTERM to its group ──► GRACE ──► SIGKILL to its session

Every process of a command is in a session of its own, and ends with it. One that has made a session of its
own (a daemon) is out of reach: it is left alone, and nothing here waits for it. One thread serves all
commands. docs/design/014-shell-and-http.md
"""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from onebeat.core.errors import OnebeatError, TargetNotFound, near_miss, shown
from onebeat.core.messages import Claimed, Note, Report
from onebeat.core.model import Json, Outcome, Target, instant_text
from onebeat.core.ports import Clock
from onebeat.core.targets import checked_target
from onebeat.engine.current import storable
from onebeat.engine.executors.bodies import Bodies, Body, Key, named
from onebeat.engine.executors.keeper import Keeper
from onebeat.engine.executors.loop import Loop
from onebeat.engine.executors.output import Output
from onebeat.engine.executors.references import References
from onebeat.engine.executors.sessions import (
    exit_status,
    kill_session,
    signal_group,
    told_status,
    watched,
)

GRACE = timedelta(seconds=5)
LINGER = timedelta(seconds=2)
CLOSE_S = 2.0
READ_BYTES = 64 * 1024
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""The node's own variables that a command gets. Others may hold a secret: the ledger's URL, for one."""


class ShellExecutor(Bodies):
    """Runs commands, ``slots`` at once, where ``on`` says that this node may. ``environ`` is the node's."""

    kind = "shell"
    overdue = f"was sent SIGTERM; what is left of it is killed after {GRACE.total_seconds():g} s"

    def __init__(
        self,
        *,
        slots: int = 10,
        on: bool = False,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(slots, clock)
        self._on = on
        self._environ = dict(os.environ if environ is None else environ)
        self._loop = Loop("onebeat-shell")
        self._commands: dict[Key, _Command] = {}  # on the loop alone, and so is the keeper
        self._keeper = Keeper(GRACE)
        self._closed = False

    def resolve(self, target: Target) -> None:
        checked_target(target)
        self._program(target.address)

    def start(self, claimed: Claimed, until: datetime) -> None:
        body = self.begin(claimed, until)
        self._loop.begin(self._reported(body), lambda task: self.end(body, task.result()))

    def stop(self, body: Body) -> None:
        self._loop.call(self._stop, body.key)

    def notes(self) -> list[Note]:
        notes = super().notes()
        if self._commands:
            self._loop.call(self._looked)
        return notes

    def close(self) -> None:
        super().close()
        left = threading.Event()
        if self._loop.call(self._leave, left):
            left.wait(CLOSE_S)  # the process may end right after this, and with it the loop's thread
        self._loop.close()

    # --- on the loop ---

    async def _reported(self, body: Body) -> Report:
        try:
            return body.lapsed() or await self._ran(body)
        except BaseException as failure:  # noqa: BLE001 - whatever it was, an attempt ends with a report
            return _failed(body, failure)

    async def _ran(self, body: Body) -> Report:
        if body.current.stop_reason is not None:
            return body.halted()
        target = checked_target(body.target)  # it comes out of the store
        try:
            references = References(self._environ)
            variables = self._variables(body, references)
            command = _Command(body, self._program(target.address), variables, references, self._keeper)
        except ProcessLookupError:  # it has begun, ended, and been reaped
            return _unknown(body)
        self._commands[body.key] = command
        try:
            return await command.ended()
        finally:
            del self._commands[body.key]
            if self._closed and not self._commands:
                self._keeper.close()

    def _stop(self, key: Key) -> None:
        if (command := self._commands.get(key)) is not None:
            command.stop()

    def _looked(self) -> None:
        for command in self._commands.values():
            command.looked()

    def _leave(self, left: threading.Event) -> None:
        self._closed = True
        for command in self._commands.values():
            if command.stopped:  # its grace ends with this node
                command.kill()
        if not self._commands:
            self._keeper.close()
        left.set()

    # --- what is run ---

    def _program(self, address: str) -> str:
        """Return the path of a program. Raises TargetNotFound where it is not here, or may not run."""
        if not self._on:
            raise TargetNotFound(
                f"the command {shown(address)} may not run here: commands are switched off; `onebeat serve "
                "--shell`, or ONEBEAT_SHELL=1, has a node run what schedules name"
            )
        path = self._environ.get("PATH", os.defpath)
        if (found := shutil.which(address, path=path)) is not None:
            return found
        if address.startswith("/"):
            what = "may not be run" if Path(address).exists() else "is not there"
            raise TargetNotFound(f"the program {shown(address)} {what}")
        raise TargetNotFound(
            f"there is no program {shown(address)} on this node's PATH {path}"
            f"{near_miss(address, _programs(path))}; install it, or write its absolute path"
        )

    def _variables(self, body: Body, references: References) -> dict[str, str]:
        run = body.current
        passed = {name: self._environ[name] for name in PASSED_ON if name in self._environ}
        given = {
            name: references.fill(value, f"the variable {name}") if value.startswith("env:") else value
            for name, value in body.target.kwargs.get("env", {}).items()
        }
        return {
            **passed,
            **given,
            "ONEBEAT_RUN_ID": run.id,
            "ONEBEAT_SCHEDULE": run.schedule,
            "ONEBEAT_OCCURRENCE": instant_text(run.occurrence),
            "ONEBEAT_ATTEMPT": str(run.attempt),
            "ONEBEAT_TOKEN": str(run.token),
        }


class _Command:
    """One command from its start to its end. On the loop's thread."""

    def __init__(
        self, body: Body, program: str, variables: Mapping[str, str], references: References, keeper: Keeper
    ) -> None:
        self._body = body
        self._references = references
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._output = Output()
        self._exited, self._silent = asyncio.Event(), asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.stopped = False
        given = body.target.kwargs
        with _input(given.get("input")) as read:
            self._process = subprocess.Popen(
                [body.target.address, *body.target.args],
                executable=program,
                env=dict(variables),
                cwd=given.get("cwd"),
                stdin=read,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        self._pipe, self._handle = watched(self._process)
        keeper.begun(self._process.pid)
        self._loop.add_reader(self._pipe, self._read)
        self._loop.add_reader(self._handle, self._leader_ended)

    async def ended(self) -> Report:
        """Wait for the end of the command, and clear up behind it."""
        try:
            await self._exited.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER.total_seconds()):
                    await self._silent.wait()
            return self._report()
        finally:
            self._clear()

    def stop(self) -> None:
        """Ask all of it to end; kill it after GRACE. Safe to repeat."""
        if self.stopped or self._exited.is_set():
            return
        self.stopped = True
        signal_group(self._process.pid, signal.SIGTERM)
        self._timer = self._loop.call_later(GRACE.total_seconds(), self.kill)

    def kill(self) -> None:
        """Kill every process of its session."""
        kill_session(self._process.pid)

    def looked(self) -> None:
        """Learn that the worker has taken the lines that there were."""
        self._keep(self._output.looked())

    def _read(self) -> None:
        try:
            data = self._pipe.read(READ_BYTES)
        except OSError:
            data = b""
        if data:
            self._keep(self._output.take(data))
        elif data is not None:
            self._loop.remove_reader(self._pipe)
            self._silent.set()

    def _leader_ended(self) -> None:
        self._loop.remove_reader(self._handle)
        self._exited.set()

    def _keep(self, entries: list[str]) -> None:
        for entry in entries:
            self._body.current.keep("info", self._references.mask(entry))

    def _report(self) -> Report:
        # Not reaped yet: as long as it is a zombie, nobody else gets its number, which its session has, too.
        status = exit_status(self._handle)
        lingers = not self._silent.is_set()
        if lingers or self.stopped:
            self.kill()
        else:
            signal_group(self._process.pid, signal.SIGKILL)
        self._keep(self._output.end())
        if lingers:
            self._body.current.keep(
                "warning",
                f"its program has ended, and something that it left still held its output "
                f"{LINGER.total_seconds():g} s later; what could be found of it was killed",
            )
        tail = storable(self._references.mask(self._output.tail))
        if self.stopped:
            return self._body.halted()
        if status is None:
            return _unknown(self._body)
        result: Json = {"exit_status": status, "tail": tail}
        if status == 0:
            return self._body.report(Outcome.SUCCEEDED, result=result)
        error, names = told_status(status)
        wanted = self._body.claimed.definition.policy.retry_on
        return self._body.report(
            Outcome.FAILED,
            result=result,
            error=f"{error}\n{tail}".rstrip(),
            error_type=next((name for name in names if name in wanted), names[0]),
        )

    def _clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._pipe)
        self._loop.remove_reader(self._handle)
        self._pipe.close()  # who still writes gets SIGPIPE
        os.close(self._handle)
        self._keeper.ended(self._process.pid)
        self._process.poll()  # it has ended: this reaps it


def _input(text: str | None) -> AbstractContextManager[IO[bytes]]:
    """Return what a command reads: a file in memory, for a pipe would have to be filled while it runs."""
    if text is None:
        return Path(os.devnull).open("rb")
    file = os.fdopen(os.memfd_create("onebeat-input"), "w+b")
    file.write(text.encode())
    file.seek(0)
    return file


def _failed(body: Body, failure: BaseException) -> Report:
    """Return the report of a command that could not be begun, in a sentence where that says it all."""
    if not isinstance(failure, OnebeatError | OSError):
        return body.raised(failure)
    error_type = named(failure, body.claimed.definition.policy.retry_on)
    return body.report(Outcome.FAILED, error=f"not begun: {failure}", error_type=error_type)


def _unknown(body: Body) -> Report:
    error = "its exit status is unknown: another part of this process waits for children that are not its own"
    return body.report(Outcome.FAILED, error=error, error_type="ExitStatusUnknown")


def _programs(path: str) -> list[str]:
    """Return what there is on a PATH."""
    found: list[str] = []
    for folder in path.split(os.pathsep):
        with suppress(OSError):
            found += [entry.name for entry in Path(folder or ".").iterdir()]
    return found
