"""A RabbitMQ for the tests: Debian's packages, with a name service of its own, on 127.0.0.1 alone.

The run has one that all share, each test in a virtual host of its own: `with vhost() as url`. A test that
kills its broker has an `Own`. Nothing of it is the machine's: no cookie at home, no name at port 4369.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.servers import binaries
from tests.servers.running import SERVERS, Place

PACKAGE = "rabbitmq-server"
START_S = 300.0  # the tests that wait for it are bounded themselves
GREETING = b"AMQP\x00\x00\x09\x01"
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Below what the system gives to those who connect: a broker that starts again finds its ports free.
PORTS = range(15_000, 32_000)
QUIET = {
    "vm_memory_high_watermark.absolute": "512MB",
    "disk_free_limit.absolute": "1MB",
    "log.file": "false",
    "log.console": "true",
    "log.console.level": "info",
}
# No shell, one thread for Erlang's processes, and none that spins while there is nothing to do.
VM = "-noinput -s rabbit boot -boot start_sasl -start_epmd false +W w +S 1:1 +A 4 +B i"
VM += " +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
VM += " -kernel prevent_overlapping_partitions false -syslog logger [] -syslog syslog_error_logger false"
# The name service has no parent but the broker, and ends with it, however that ends.
WITH_NAMES = 'setpriv --pdeathsig KILL "$0" -port "$ERL_EPMD_PORT" -address 127.0.0.1 & exec "$@"'


@dataclass(frozen=True)
class Node:
    """A broker as it is started and spoken to."""

    folder: str
    port: int
    names: int  # the port of Erlang's name service
    control: int  # the port by which another program of Erlang speaks to it
    cookie: str

    @property
    def url(self) -> str:
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def command(self, programs: Path, settings: Mapping[str, str]) -> list[str]:
        """Write its settings; return what starts it."""
        folder = Path(self.folder)
        lines = {"listeners.tcp.1": f"127.0.0.1:{self.port}", **QUIET, **settings}
        (folder / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        (folder / "plugins").write_text("[].\n")
        erlang, emulator, home = places(programs)
        told = {
            "PATH": os.defpath,
            "HOME": folder,
            "LC_ALL": "C",
            "LD_LIBRARY_PATH": ":".join(str(each) for each in programs.glob("usr/lib/*-linux-gnu*")),
            "ROOTDIR": erlang,
            "BINDIR": emulator,
            "EMU": "beam",
            "PROGNAME": "erl",
            # Where a part of Erlang is this machine's, the rest is among what was unpacked.
            "ERL_LIBS": f"{home / 'plugins'}:{programs / 'usr/lib/erlang/lib'}",
            "ERL_EPMD_PORT": self.names,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_HOME": home,
            "RABBITMQ_NODENAME": "rabbit@localhost",
            "RABBITMQ_BASE": folder,
            "RABBITMQ_MNESIA_BASE": folder / "data",
            "RABBITMQ_LOG_BASE": folder / "logs",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": folder / "none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_PLUGINS_DIR": home / "plugins",
            "RABBITMQ_DIST_PORT": self.control,
        }
        started = ["env", "-i", *(f"{name}={value}" for name, value in told.items())]
        started += ["sh", "-c", WITH_NAMES, str(emulator / "epmd")]
        return [*started, str(emulator / "erlexec"), "-setcookie", self.cookie, *VM.split()]

    def evaluate(self, expression: str) -> str:
        """Return what an expression of Erlang is in the broker: what rabbitmqctl does in seconds."""
        erlang, _, _ = places(binaries.fetched(PACKAGE))
        words = [str(erlang / "bin/erl_call"), "-address", f"127.0.0.1:{self.control}"]
        words += ["-h", f"c{secrets.token_hex(6)}"]  # of two by one name, one is sent away
        done = subprocess.run(
            [*words, "-timeout", "60", "-c", self.cookie, "-e"],
            input=f"{expression}.\n",
            env={"PATH": os.defpath, "HOME": self.folder},
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout.startswith("{ok,"):
            raise RuntimeError(f"the broker does not do {expression}: {done.stdout} {done.stderr}")
        return done.stdout.removeprefix("{ok,").removesuffix("}").strip()


def new(folder: Path) -> Node:
    """Return a broker that is not there yet, in a folder that is."""
    port, names, control = free_ports(3)
    return Node(str(folder), port, names, control, secrets.token_hex(8))


def free_ports(count: int) -> list[int]:
    found: set[int] = set()
    draw = random.SystemRandom()
    while len(found) < count:
        port = draw.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.add(port)
    return list(found)


@cache
def places(programs: Path) -> tuple[Path, Path, Path]:
    """Return where Erlang is, its emulator and RabbitMQ: each unpacked, or this machine's."""
    found = []
    for pattern in ("usr/lib/erlang", "usr/lib/erlang/erts-*/bin", "usr/lib/rabbitmq/lib/rabbitmq_server-*"):
        found += [*programs.glob(pattern), *Path("/").glob(pattern)][:1]
    erlang, emulator, home = found
    return erlang, emulator, home


# --- the one of the run -------------------------------------------------------------------------------------


def command(place: Path) -> tuple[list[str], str]:
    """Return what starts the run's own, and its URL."""
    here, folder = Place(place), place / "home"
    here.make(folder)
    node = new(folder)
    started = node.command(binaries.unpacked(PACKAGE, place.parent), {})
    (place / "node").write_text(json.dumps(asdict(node)))
    return started, node.url


def answers(url: str) -> bool:
    """Return whether it speaks: it opens its port when it is ready."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((str(parts.hostname), int(parts.port or 5672)), timeout=5) as line:
            line.sendall(GREETING)
            return bool(line.recv(1))
    except OSError:
        return False


def shared() -> Node:
    """Return the one that all tests of this run share; it starts with the first."""
    SERVERS.url("rabbitmq")
    assert SERVERS.folder is not None
    return Node(**json.loads((SERVERS.folder / "rabbitmq" / "node").read_text()))


@contextmanager
def vhost() -> Iterator[str]:
    """Give the URL of a virtual host of the run's own; it is gone afterwards, with all that is in it."""
    node, name = shared(), f"test-{secrets.token_hex(6)}"
    add_vhost(node, name)
    try:
        yield node.url_of(name)
    finally:
        node.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"test">>)')


def add_vhost(node: Node, name: str) -> None:
    node.evaluate(f'ok = rabbit_vhost:add(<<"{name}">>, <<"test">>)')
    everything = '<<".*">>, <<".*">>, <<".*">>'
    node.evaluate(
        f"ok = rabbit_auth_backend_internal:set_permissions("
        f'<<"guest">>, <<"{name}">>, {everything}, <<"test">>)'
    )


# --- one of a test's own ------------------------------------------------------------------------------------


class Own:
    """A broker that may be stopped, killed and started again on the data and the port that it had.

    ``settings`` are lines of rabbitmq.conf: `Own({"consumer_timeout": "1000"})`.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="onebeat-rabbitmq-", dir=MEMORY_DISK))
        self.node = new(self.folder)
        self.settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def url(self) -> str:
        return self.node.url

    def evaluate(self, expression: str) -> str:
        """Return what an expression of Erlang is in it."""
        return self.node.evaluate(expression)

    def start(self) -> None:
        """Start it, on the data that is there, and wait until it answers."""
        started = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *self.node.command(binaries.fetched(PACKAGE), self.settings),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                started, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise

    def _wait(self) -> None:
        assert self._process is not None
        nap = threading.Event()
        for _ in range(int(START_S / 0.05)):
            if answers(self.url):
                return
            if self._process.poll() is not None:
                break
            nap.wait(0.05)  # it tells nobody when it is ready
        raise RuntimeError(f"no RabbitMQ:\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def pause(self) -> None:
        """Have it stand still, and return when it does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it without a word, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Have it say farewell to who is connected, and take no connection until ``come_back``."""
        self.evaluate("rabbit_maintenance:drain()")

    def come_back(self) -> None:
        """Take connections again. Much cheaper than to start it again."""
        self.evaluate("rabbit_maintenance:revive()")

    def stop(self) -> None:
        """Kill it, and remove what it left."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Own:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
