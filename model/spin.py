"""What drives SPIN: a model with its settings becomes a C program, the program searches all states.

SPIN comes from this machine or, unpacked into .cache and not installed, from Debian's package; the C compiler
has to be there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.servers.binaries import found, unpacked

HERE = Path(__file__).resolve().parent
DEPTH_MAX = 200_000
MEMORY_MB_MAX = 4096

NAMED = re.compile(r"text of failed assertion:.*\|\|\((\w+)==0\)")
STORED = re.compile(r"^\s*(\d+) states, stored", re.MULTILINE)
DEPTH = re.compile(r"depth reached (\d+), errors: (\d+)")
MEMORY = re.compile(r"([\d.]+)\s+total actual memory usage")
UNREACHED = re.compile(r'^\t[\w.]+:(\d+), state \d+, "(.*)"$')
SAID = re.compile(r"^ +(?!\d+:|proc |spin:|[\w.\[\]]+ = )(\S.*)$")


class Missing(RuntimeError):
    """SPIN or a C compiler is not on this machine."""


class Found(NamedTuple):
    """What a search came to. ``broken`` is the claim that fails, empty where none does."""

    states: int
    depth: int
    memory_mb: float
    broken: str
    trace: tuple[str, ...]
    unreached: frozenset[tuple[str, int, str]]
    """Statements that no execution comes to: process, line, text. Ends of processes are not among them."""


@cache
def program() -> str:
    """Return the path of SPIN. Raises Missing when it can be neither found nor fetched."""
    here = found("spin", [])
    if here is not None:
        return str(here)
    try:
        root = unpacked("spin", Path(tempfile.mkdtemp(prefix="onebeat-spin-")))
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"no spin: {error}; leave the model out with --without spin") from error
    return str(root / "usr" / "bin" / "spin")


@cache
def compiler() -> str:
    """Return the path of a C compiler; SPIN calls it too, as its preprocessor. Raises Missing."""
    for name in ("gcc", "cc"):
        path = shutil.which(name)
        if path is not None:
            return path
    raise Missing(
        "no C compiler, and SPIN makes C of a model: install gcc, or leave it out with --without spin"
    )


def search(
    model: str,
    settings: Mapping[str, int | str],
    claim: str = "",
    *,
    short: bool = False,
    shortest: bool = False,
) -> Found:
    """Search every state of a model; stop at the first claim that fails.

    ``claim`` names what no execution may do in which no process is stopped for ever; without one it is the
    assertions that are looked at, and whether anybody is stuck. A ``short`` search is not worth optimising
    for. ``shortest`` looks for the shortest trace that breaks a claim. Raises RuntimeError when the search
    did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="onebeat-model-") as folder:
        place = Path(folder)
        shutil.copy(HERE / f"{model}.pml", place)
        defined = [f"-D{name}={value}" for name, value in settings.items()]
        _run([program(), f"-P{compiler()} -E -x c", "-a", *defined, f"{model}.pml"], place)
        kind = ["-DNFAIR=3"] if claim else ["-DSAFETY", "-DNOFAIR"]
        if shortest:
            kind.append("-DREACH")
        limits = [f"-DMEMLIM={MEMORY_MB_MAX}"]
        _run([compiler(), "-O0" if short else "-O2", "-w", *kind, *limits, "-o", "pan", "pan.c"], place)
        said = _run(
            [
                "./pan",
                f"-m{DEPTH_MAX}",
                *(["-a", "-f", "-N", claim] if claim else []),
                *(["-i"] if shortest else []),
            ],
            place,
        )
        return _read(said, _trace(place, model, defined), claim)


def _trace(place: Path, model: str, defined: list[str]) -> str:
    if not (place / f"{model}.pml.trail").exists():
        return ""
    return _run([program(), f"-P{compiler()} -E -x c", "-t", *defined, f"{model}.pml"], place)


def _read(said: str, trace: str, claim: str) -> Found:
    states, reached, memory = STORED.search(said), DEPTH.search(said), MEMORY.search(said)
    if states is None or reached is None or memory is None:
        raise RuntimeError(f"the search did not come to its end:\n{said[:2000]}")
    whole = "Search not completed" not in said and "max search depth too small" not in said
    if not whole and not int(reached[2]):
        raise RuntimeError(f"the search left something out:\n{said[:2000]}")
    broken = ""
    if int(reached[2]):
        named = NAMED.search(trace)
        broken = named[1] if named else claim if "acceptance cycle" in said else said.splitlines()[0]
    return Found(
        states=int(states[1]),
        depth=int(reached[1]),
        memory_mb=float(memory[1]),
        broken=broken,
        trace=tuple(match[1] for line in trace.splitlines() if (match := SAID.match(line))),
        unreached=frozenset(_unreached(said)),
    )


def _unreached(said: str) -> list[tuple[str, int, str]]:
    found: list[tuple[str, int, str]] = []
    process = ""
    for line in said.splitlines():
        if line.startswith("unreached in "):
            process = line.split()[-1]
        match = UNREACHED.match(line)
        if match and match[2] != "-end-":
            found.append((process, int(match[1]), match[2]))
    return found


def _run(command: list[str], place: Path) -> str:
    """Run a program in a folder; return all that it says."""
    done = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode and command[0] != "./pan":
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[:4000]}")
    return done.stdout
