"""Other schedulers, for tests that need the real thing: programs of ours in environments that have them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.peers import environments

PROGRAMS = Path(__file__).with_name("programs")
TOP = Path(__file__).parents[2]
ANSWER_S = 300


@cache
def python(name: str) -> str:
    """Return the interpreter that has a peer. One process makes its environment, and others wait for it."""
    environments.CACHE.mkdir(parents=True, exist_ok=True)
    with (environments.CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return str(environments.python(name))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables under which a program of a peer runs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(PROGRAMS)} | dict(more)


def answered(name: str, program: str, *words: str, more: Mapping[str, str] | None = None) -> Any:
    """Run a program to its end in the environment of a peer, and return what it says, which is JSON."""
    command = [python(name), str(PROGRAMS / f"{program}.py"), *words]
    done = subprocess.run(
        command, env=environment(more or {}), capture_output=True, timeout=ANSWER_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)
