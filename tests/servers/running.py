"""The servers of one test run: each is started when the first test asks for it, and shared by all workers.

The run's own process names a folder; whoever comes first starts a server there, under a lock, and leaves its
URL for the others. A guard ends it with the run. A developer who has a server names it instead:
ONEBEAT_TEST_POSTGRES_URL and so on, and MYSQL_URL for MySQL.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

KINDS = ("postgres", "mariadb")
START_S = 100.0
GUARD = Path(__file__).with_name("guard.py")


class Place:
    """A folder for a server, owned by whom it runs as: servers refuse to be root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o755, exist_ok=True)
        self.user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def make(self, folder: Path) -> None:
        """Make a folder in it, for the same user."""
        folder.mkdir()
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    def run(self, command: Sequence[str], **more: str) -> None:
        """Run a program to its end, as the server's user; ``text`` goes to it."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=environment(self.path),
            input=more.get("text", ""),
            capture_output=True,
            text=True,
            user=self.user.pw_uid if self.user else None,
            group=self.user.pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")

    def guarded(self, pid: int, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program for as long as a process lives; return its guard."""
        with (self.path / "log").open("wb") as log:
            user = (str(self.user.pw_uid), str(self.user.pw_gid)) if self.user else ("-1", "-1")
            guard = subprocess.Popen(
                [sys.executable, str(GUARD), str(pid), *user, *command],
                cwd=self.path,
                env=environment(self.path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return guard

    def free_port(self) -> int:
        """Return a port that nobody has just now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin"
    kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    return {"PATH": path, "HOME": str(home), "LC_ALL": "C", **kept}


def given_url(kind: str) -> str | None:
    """Return the URL of a server that a developer has; MYSQL_URL is for the tests that are MariaDB's else.

    Never of a broker: the tests make virtual hosts, and have the broker do what no client can ask for.
    """
    if kind not in KINDS:
        return None
    short = os.environ.get("MYSQL_URL") if kind == "mariadb" else None
    return short or os.environ.get(f"ONEBEAT_TEST_{kind.upper()}_URL") or None


class Servers:
    """The servers of this run, as one of its processes sees them."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.owner = 0  # the process of the run
        self._urls: dict[str, str] = {}
        self._made: dict[str, list[str]] = {}
        self._guards: list[subprocess.Popen[bytes]] = []

    def own(self) -> None:
        """Be the run's own process: name the folder, and end at the end what was started there."""
        self.folder = Path(tempfile.mkdtemp(prefix="onebeat-servers-"))
        self.folder.chmod(0o755)
        self.owner = os.getpid()

    def join(self, folder: str, owner: int) -> None:
        """Be one of its workers."""
        self.folder, self.owner = Path(folder), owner

    def url(self, kind: str) -> str:
        """Return the URL of a server, which is started if nobody has done it."""
        given = given_url(kind)
        if given is not None:
            return given
        if kind not in self._urls:
            self._urls[kind] = self._started(kind)
        return self._urls[kind]

    def ledger(self, kind: str, place: Path) -> str:
        """Return the name of a schema or database for a place, the same each time."""
        name = f"t{os.getpid()}_{zlib.crc32(str(place).encode()):x}"
        made = self._made.setdefault(kind, [])
        if name not in made:
            made.append(name)
        return name

    def leave(self) -> None:
        """Remove what this process made on servers that are not ours; stop ours, if the run is."""
        for kind, names in self._made.items():
            if given_url(kind) is not None:
                importlib.import_module(f"tests.servers.{kind}").forget(self.url(kind), names)
        self._made.clear()
        if self.folder is None or os.getpid() != self.owner:
            return
        for told in self.folder.glob("*/guard"):
            with suppress(ProcessLookupError):
                guard = os.pidfd_open(int(told.read_text()))
                signal.pidfd_send_signal(guard, signal.SIGTERM)
                select.select([guard], [], [], START_S)
                os.close(guard)
        for child in self._guards:
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def _started(self, kind: str) -> str:
        assert self.folder is not None, "no test run is going on"
        place = self.folder / kind
        with (self.folder / f"{kind}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            told = place / "url"
            if told.exists():
                return told.read_text()
            server = importlib.import_module(f"tests.servers.{kind}")
            here = Place(place)
            command, url = server.command(place)
            guard = here.guarded(self.owner, command)
            self._guards.append(guard)
            (place / "guard").write_text(str(guard.pid))
            nap = threading.Event()
            for _ in range(int(START_S / 0.05)):
                if server.answers(url):
                    told.write_text(url)
                    return str(url)
                nap.wait(0.05)  # a server that begins tells nobody
            raise RuntimeError(f"{kind} did not start:\n{(place / 'log').read_text(errors='replace')}")


SERVERS = Servers()
