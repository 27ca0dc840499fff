"""The servers, links and processes of one product, and a supervisor that starts again who has ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from tests.servers import pairs, redis

from chaos.peers.kinds import Kind
from chaos.wire import Wire

PROGRAMS = Path(__file__).with_name("programs")
TOP = Path(__file__).resolve().parents[2]
BACK_S = 1.0
"""How long a supervisor waits before it starts a process again."""

SERVER_DOWN_S = 2.0
END_S = 30.0


class Seat:
    """One process after another under a supervisor, and its links to the servers."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.exits = 0  # by itself
        self.kills = 0  # by the play
        self.lives: list[tuple[float, float | None]] = []
        self.wires: dict[str, Wire] = {}
        self._command = [*_with_us(), *command]
        self._environment = dict(environment)
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._back_at: float | None = 0.0

    @property
    def alive(self) -> bool:
        """Return whether there is a process that has not ended."""
        return self._process is not None and self._process.poll() is None

    def step(self, now: float) -> None:
        """See whether it has ended, and begin the next life when it is time."""
        if self._process is not None and self._process.poll() is not None:
            self._note(now, by_itself=True)
        if self._process is None and self._back_at is not None and now >= self._back_at:
            self._begin(now)

    def kill(self, now: float) -> None:
        """End this life without a word."""
        if self._process is None or self._process.poll() is not None:
            return
        self.signalled(signal.SIGKILL)
        self._process.wait(END_S)
        self._note(now, by_itself=False)

    def signalled(self, number: int) -> None:
        """Send a signal to this life, if it still is one."""
        if self._process is not None:
            self._process.send_signal(number)

    def told(self, line: str) -> bool:
        """Write a line to its input; return whether somebody was there."""
        if not self.alive:
            return False
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            return True
        return False

    def ended(self, patience_s: float) -> int:
        """Wait until this life is over; return how it ended."""
        assert self._process is not None
        return self._process.wait(patience_s)

    def close(self) -> None:
        """End it for good, politely at first: it may have something to flush."""
        self._back_at = None
        if self._process is None:
            return
        self.signalled(signal.SIGCONT)
        self.signalled(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.signalled(signal.SIGKILL)
            self._process.wait(END_S)
        self._note(time.time(), by_itself=False)
        self._back_at = None

    def _begin(self, now: float) -> None:
        with (self._folder / f"{self.name}.log").open("a") as out:
            out.write(f"--- {now:.3f} life {len(self.lives) + 1}\n")
            out.flush()
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                text=True,
            )
        self.lives.append((now, None))

    def _note(self, now: float, *, by_itself: bool) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with (self._folder / f"{self.name}.log").open("a") as out:
            how = "by itself" if by_itself else "by the play"
            out.write(f"--- {now:.3f} ended with {self._process.returncode}, {how}\n")
        self._process = None
        self._back_at = now + BACK_S
        self.lives[-1] = (self.lives[-1][0], now)
        if by_itself:
            self.exits += 1
        else:
            self.kills += 1


class Stage:
    """All that there is of one product. ``schedules`` are names with their period in seconds."""

    def __init__(self, kind: Kind, folder: Path, schedules: Mapping[str, int]) -> None:
        self.kind = kind
        self.effects = folder / "effects"
        self.servers: dict[str, pairs.Own | redis.Own] = {}
        self.seats: list[Seat] = []
        self._schedules = schedules
        self._folder = folder
        self._left = ExitStack()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    @property
    def schedulers(self) -> list[Seat]:
        """Return the seats of the first role."""
        return self.seats[: self.kind.roles[0][1]]

    def _make(self) -> None:
        self.effects.touch()
        for name in self.kind.servers:
            server = redis.Own() if name == "redis" else pairs.own(name)
            self._left.callback(server.stop)
            if isinstance(server, pairs.Own):
                server.start()
            self.servers[name] = server
        direct = {name: server.port for name, server in self.servers.items()}
        if self.kind.setup:
            subprocess.run(
                self.kind.command(self.kind.setup),
                cwd=PROGRAMS,
                env=self._environment(direct),
                check=True,
                timeout=60,
            )
        for role, count, words in self.kind.roles:
            for number in range(1, count + 1):
                name = role if count == 1 else f"{role}{number}"
                wires = {each: self._left.enter_context(closing(Wire(port))) for each, port in direct.items()}
                ports = {each: wire.port for each, wire in wires.items()}
                self.seats.append(self._seat(name, words, ports))
                self.seats[-1].wires = wires
        self.editor: Seat | None = None
        if self.kind.editor:
            self.editor = self._seat("editor", self.kind.editor, direct)

    def _seat(self, name: str, words: tuple[str, ...], ports: Mapping[str, int]) -> Seat:
        folder = self._folder / name
        folder.mkdir()
        command = [
            str(PROGRAMS / word) if word.endswith(".py") else word for word in self.kind.command(words)
        ]
        seat = Seat(name, command, self._environment(ports), folder)
        self._left.callback(seat.close)
        return seat

    def _environment(self, ports: Mapping[str, int]) -> dict[str, str]:
        bare = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        return {
            **bare,
            "PYTHONPATH": os.pathsep.join(map(str, (PROGRAMS, *(() if self.kind.lock else (TOP / "src",))))),
            "PYTHONUNBUFFERED": "1",
            "PEER_EFFECTS": str(self.effects),
            "PEER_SCHEDULES": " ".join(f"{name}={period}" for name, period in self._schedules.items()),
            **{f"PEER_{name.upper()}": str(port) for name, port in ports.items()},
            **dict(self.kind.environment),
        }

    def step(self, now: float) -> None:
        """Let the supervisor look."""
        for seat in [*self.seats, *((self.editor,) if self.editor else ())]:
            seat.step(now)

    def fired(self) -> set[str]:
        """Return the schedules that have fired at all."""
        return {line.split()[0] for line in self.effects.read_text().splitlines()}

    def close(self) -> None:
        """Leave nothing behind."""
        self._left.close()


def _with_us() -> Iterable[str]:
    """Return what makes a process end with this one, however it ends."""
    return ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
