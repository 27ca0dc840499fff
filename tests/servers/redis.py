"""A Redis server of our own for the tests: on a free port, in a temporary folder, gone with the process.

`ONEBEAT_TEST_REDIS_URL` names a server that somebody has; then none is started, and only keys of namespaces
that begin with `test-` are touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers import binaries
from tests.servers.running import SERVERS

from onebeat.core.errors import StoreError, StoreUnavailable
from onebeat.store.redis.address import address_of
from onebeat.store.redis.opening import erase_ledger
from onebeat.store.redis.server import Server

BINARIES = ("redis-server", "valkey-server")
CLUSTER_BUS = 10_000  # how far above its own the second port of a cluster's node is
# A crash of the machine is not what is tested here, and a disk would be most of the time.
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
SAFE = {"appendonly": "yes", "appendfsync": "always", "save": ""}


class Own:
    """A server process. ``settings`` are those of its configuration, beside what keeps it to itself."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="onebeat-redis-", dir=MEMORY_DISK))
        self.port = free_port()
        self._settings = {**SAFE, **{name.replace("_", "-"): value for name, value in settings.items()}}
        self.prepare()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def plain_url(self) -> str:
        """Return the URL of this very process, whatever it watches."""
        return self.url

    def prepare(self) -> None:
        """Write what it needs before it starts."""

    def command(self) -> list[str]:
        """Return what starts it."""
        command = [binary(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        for name, value in self._settings.items():
            command += [f"--{name}", *(value.split() or [""])]
        return command

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it answers."""
        command = self.command()
        if shutil.which("setpriv"):  # however the tests end, it ends with them
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not self._loaded():
                threading.Event().wait(0.02)  # it tells nobody when it has read what it had
        except StoreError as error:
            self.kill()
            raise RuntimeError((self.folder / "log").read_text(errors="replace")) from error

    def _loaded(self) -> bool:
        assert self._process is not None
        lives = self._process.poll() is None
        try:
            self.ask("PING")  # tries for some seconds
        except StoreUnavailable:
            if not lives:
                raise
            return False
        return True

    def ask(self, *command: str) -> Any:
        """Send one command on a connection of its own."""
        server = Server(address_of(self.plain_url))
        try:
            return server.ask(*command)
        finally:
            server.close()

    def kill(self) -> None:
        """Kill it without a word, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Kill it, and remove what it left."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Encrypted(Own):
    """A server that is spoken to by TLS, with a certificate that nobody else has signed."""

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0?ca={self.folder / 'cert.pem'}"

    def prepare(self) -> None:
        key, cert = str(self.folder / "key.pem"), str(self.folder / "cert.pem")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
        subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
        self._settings |= {"tls-port": str(self.port), "tls-key-file": key, "tls-cert-file": cert}
        self._settings |= {"tls-ca-cert-file": cert, "tls-auth-clients": "no"}

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("--port") + 1] = "0"
        return command


class Sentinel(Own):
    """Who watches a master, and makes its replica the master when it is gone."""

    def __init__(self, master: Own) -> None:
        self._master = master
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/mymaster/0"

    @property
    def plain_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1",
            "sentinel down-after-milliseconds mymaster 300",
            "sentinel failover-timeout mymaster 2000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines))

    def command(self) -> list[str]:
        return [binary(), str(self.folder / "sentinel.conf"), "--sentinel"]


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port + CLUSTER_BUS < 65536:
            return port


@cache
def binary(place: Path | None = None) -> str:
    """Return the server's program: this machine's, or that of Debian's package, unpacked.

    A copy, where one is needed, goes to a place, or with the other servers of the run.
    """
    for name in BINARIES:
        here = shutil.which(name)  # by this name: the file behind it answers to several
        if here is not None:
            return here
    root = binaries.unpacked(BINARIES[0], place or Path(tempfile.mkdtemp(dir=SERVERS.folder)))
    binaries.libraries_of(root)
    return str(root / "usr/bin" / BINARIES[0])


_shared: list[Own] = []
_ledgers: set[str] = set()  # those that this process has named


def url() -> str:
    """Return the URL of the server that all tests of this process share; it starts with the first."""
    given = os.environ.get("ONEBEAT_TEST_REDIS_URL")
    if given:
        return given
    if not _shared:
        _shared.append(Own())
    return _shared[0].url


def stop() -> None:
    """Remove what this process made on a server that is not ours; stop ours, if it was started."""
    while _ledgers and os.environ.get("ONEBEAT_TEST_REDIS_URL"):
        erase_ledger(_ledgers.pop())
    while _shared:
        _shared.pop().stop()


def ledger_url(place: Path) -> str:
    """Return the URL of a ledger of its own for a place."""
    name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    address = f"{url()}?namespace=test-{name}"
    _ledgers.add(address)
    return address
