"""A server for the ledger: a program of this machine's, on a free port, in a folder of ours.

Nothing is installed, and a server that runs already is not touched. What makes it outlive a crash is left
switched on: it is here to be killed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.cluster.processes import Process

FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "usr/sbin",
    "usr/local/mysql/bin",
    "opt/homebrew/bin",
)
"""Where the packages of servers keep what they do not put on the PATH."""


class NoServer(Exception):
    """There is no program for that, or it does not start; the message says what to do."""


@dataclass(frozen=True)
class Kind:
    """How one kind of server is made and started."""

    programs: tuple[str, ...]
    package: str
    make: Callable[[Path, Path], list[list[str]]]
    start: Callable[[Path, Path, int], list[str]]
    url: str
    ends_on: signal.Signals = signal.SIGTERM


def _postgres_make(program: Path, data: Path) -> list[list[str]]:
    how = ("-U", "onebeat", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions")
    return [[str(program.with_name("initdb")), "-D", str(data), *how]]


def _postgres_start(program: Path, data: Path, port: int) -> list[str]:
    where = ("-p", str(port), "-k", str(data), "-c", "listen_addresses=127.0.0.1")
    return [str(program), "-D", str(data), *where]


def _mariadb_make(program: Path, data: Path) -> list[list[str]]:
    script = found(("mariadb-install-db", "mysql_install_db"))
    if script is None:
        raise NoServer("there is mariadbd, but no mariadb-install-db beside it: install mariadb-server whole")
    (data.parent / "first.sql").write_text(
        "CREATE DATABASE IF NOT EXISTS onebeat CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n"
    )
    how = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
    return [[str(script), "--no-defaults", f"--datadir={data}", f"--basedir={program.parents[1]}", *how]]


def _mariadb_start(program: Path, data: Path, port: int) -> list[str]:
    where = [
        f"--port={port}",
        "--bind-address=127.0.0.1",
        f"--socket={data / 'socket'}",
        "--skip-name-resolve",
    ]
    first = f"--init-file={data.parent / 'first.sql'}"
    return [str(program), "--no-defaults", f"--datadir={data}", f"--tmpdir={data}", first, *where]


def _redis_start(program: Path, data: Path, port: int) -> list[str]:
    kept = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    return [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), *kept]


KINDS = {
    "postgres": Kind(
        ("postgres",),
        "postgresql",
        _postgres_make,
        _postgres_start,
        "postgresql://onebeat@127.0.0.1:{port}/postgres",
        signal.SIGINT,
    ),
    "mariadb": Kind(
        ("mariadbd", "mysqld"),
        "mariadb-server",
        _mariadb_make,
        _mariadb_start,
        "mariadb://root@127.0.0.1:{port}/onebeat",
    ),
    "redis": Kind(
        ("redis-server", "valkey-server"),
        "redis-server",
        lambda _program, _data: [],
        _redis_start,
        "redis://127.0.0.1:{port}/0",
    ),
}


def server(kind: str, folder: Path, log: Path) -> tuple[Process, str]:
    """Make a server in a folder that all may enter; return it unstarted, with the URL of a ledger on it.

    Raises NoServer where this machine has no program for it.
    """
    how = KINDS[kind]
    program = found(how.programs)
    if program is None:
        others = " or ".join(f"--store {other}" for other in KINDS if found(KINDS[other].programs))
        take = f"take {others}, which it has, " if others else ""
        raise NoServer(
            f"this machine has no {how.programs[0]}: install it (Debian, Ubuntu: apt-get install "
            f"{how.package}), {take}or name a server of yours with --url"
        )
    user = _user()
    home = folder / kind
    data = home / "data"
    for made in (home, data):
        made.mkdir(mode=0o700)
        if user is not None:
            os.chown(made, user, -1)
    for command in how.make(program, data):
        _run(command, home, user)
    port = _free_port()
    command = how.start(program, data, port)
    process = Process(kind, command, log, folder=home, user=user, ends_on=how.ends_on)
    return process, how.url.format(port=port)


def found(names: Sequence[str]) -> Path | None:
    """Return a program of this machine, the first of these names."""
    for name in names:
        on_path = shutil.which(name)
        if on_path is not None:
            # By its own name where that matters: the file behind Redis's answers to several.
            real = Path(on_path).resolve()
            return real if real.name == name else Path(on_path)
        for folder in FOLDERS:
            for place in sorted(Path("/").glob(f"{folder}/{name}"), reverse=True):
                return place
    return None


def _user() -> int | None:
    """Return whom a server runs as: servers refuse to be root."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else None


def _run(command: list[str], folder: Path, user: int | None) -> None:
    environment = {**os.environ, "HOME": str(folder), "LC_ALL": "C"}
    groups: list[int] | None = None if user is None else []
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        user=user,
        extra_groups=groups,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NoServer(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
