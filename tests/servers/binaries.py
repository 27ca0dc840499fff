"""Where the servers' programs come from: this machine, or Debian's packages, unpacked into a folder of ours.

Nothing is installed: any user may do it, and nothing outside of the checkout changes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / ".cache" / "servers"


def found(name: str, folders: Sequence[str]) -> Path | None:
    """Return a program of this machine: on the PATH, or where Debian keeps what it does not put there."""
    on_path = shutil.which(name)
    places = [Path(on_path).resolve()] if on_path else []
    for folder in folders:
        places += sorted(Path("/").glob(f"{folder}/{name}"), reverse=True)
    return next((place for place in places if place.exists()), None)


def unpacked(package: str, run: Path) -> Path:
    """Return the folder that holds a package of Debian and what it needs, for the servers of a run.

    Where they may not look into this checkout, as another user, the run gets a copy.
    """
    root = fetched(package)
    if os.getuid() == 0 and not all(folder.stat().st_mode & 0o001 for folder in root.parents):
        return Path(shutil.copytree(root, run / package, symlinks=True))
    return root


def fetched(package: str) -> Path:
    """Return the folder of this checkout that holds a package and what it needs; it is fetched once."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError(
            f"no {package} on this machine, and no apt-get to fetch it with: install it, point at a server "
            "by its URL, or leave it out with --without"
        )
    root = CACHE / package
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _fetch(package, CACHE / f"{package}.work")
            (CACHE / f"{package}.work" / "root").rename(root)
            shutil.rmtree(CACHE / f"{package}.work")
    return root


def libraries_of(root: Path) -> None:
    """Let programs that are started from here on find the libraries of an unpacked package."""
    folders = sorted({str(found.parent) for found in root.glob("**/*.so*")})
    os.environ["LD_LIBRARY_PATH"] = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])


def _fetch(package: str, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (work / folder).mkdir(parents=True)
    (work / "status").write_text("")
    options = {
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Log": work,
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True, capture_output=True)
    plan = subprocess.run(
        [*apt, "install", "-s", "--no-install-recommends", package],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = {line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst ")}
    have = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted -= {line.split()[0] for line in have.stdout.splitlines() if line.endswith(" ii ")}
    subprocess.run(
        [*apt, "download", *sorted(wanted | {package})], cwd=work / "debs", check=True, capture_output=True
    )
    for deb in (work / "debs").iterdir():
        subprocess.run(["dpkg-deb", "-x", deb, work / "root"], check=True, env={**os.environ, "LC_ALL": "C"})
