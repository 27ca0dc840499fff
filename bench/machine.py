"""The machine under a benchmark: what it is, what a durable write costs, and whether it may be used."""

import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

VERSIONS = ("apsw", "psycopg", "pymysql", "redis", "msgspec", "tzdata", "croniter", "celery", "kombu", "amqp")
NOT_DURABLE = {"tmpfs", "ramfs", "overlayfs-on-tmpfs"}


def file_system(place: Path) -> str:
    """Return the type of the file system under ``place``, from the longest mount point above it."""
    target = str(place.resolve())
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        mount, name = line.split()[1:3]
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, name
    return kind


def refuse_memory(place: Path) -> None:
    """Exit when ``place`` is on a file system that lives in memory: fsync means nothing there."""
    kind = file_system(place)
    if kind in NOT_DURABLE:
        sys.exit(
            f"{place} is on {kind}, which keeps nothing: a durable write costs nothing there, so every "
            "figure would be a lie; choose a folder on a disk with --place"
        )


def fsync_ms(place: Path, writes: int = 200) -> float:
    """Return the median cost in ms of appending 4 KiB and making it durable."""
    path = place / "fsync.probe"
    costs = []
    with path.open("wb", buffering=0) as probe:
        for _ in range(writes):
            begun = time.perf_counter()
            probe.write(b"x" * 4096)
            os.fdatasync(probe.fileno())
            costs.append((time.perf_counter() - begun) * 1000)
    path.unlink()
    return statistics.median(costs)


def described(place: Path) -> dict[str, object]:
    """Return what a reader needs to judge the figures: machine, versions, file system, cost of fsync."""
    cpu = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
        "commit": head.stdout.strip(),
        "file_system": file_system(place),
        "fsync_ms_median": round(fsync_ms(place), 3),
        "load_before": os.getloadavg()[0],
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
