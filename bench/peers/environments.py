"""An environment for each peer: they cannot share one. Made on demand, by the lock of that peer.

A lock is made again with `uv pip compile --universal --python-version 3.11 --generate-hashes --no-header
NAME.in -o NAME.txt`, in the folder of the locks.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

LOCKS = Path(__file__).with_name("locks")
TOP = Path(__file__).resolve().parents[2]
CACHE = TOP / ".cache" / "peers"


def python(name: str) -> Path:
    """Return the interpreter that has a peer; its environment is made if it is not there as the lock says."""
    lock, folder = LOCKS / f"{name}.txt", CACHE / name
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = folder / "lock.sha256"
    if not stamp.exists() or stamp.read_text() != digest:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"… an environment for {name}", file=sys.stderr, flush=True)
        subprocess.run([_uv(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
        into = ["--python", str(folder / "bin" / "python"), "--requirement", str(lock)]
        subprocess.run([_uv(), "pip", "install", "--quiet", "--require-hashes", *into], check=True)
        stamp.write_text(digest)
    return folder / "bin" / "python"


def pinned(name: str) -> list[str]:
    """Return what a peer's lock is made for, with the versions that were chosen on purpose."""
    return (LOCKS / f"{name}.in").read_text().split()


def _uv() -> str:
    """Return uv: the one that `make` brings, else this machine's."""
    ours = TOP / ".tools" / "bin" / "uv"
    found = str(ours) if ours.exists() else shutil.which("uv")
    if found is None:
        raise SystemExit("the peers are installed with uv: `make check` brings it")
    return found
