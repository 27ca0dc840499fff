"""Where a SQLite ledger may live: on a disk of this machine, and under one kernel.

SQLite's clock is each host's own and its locks hold on one kernel only. So shares are refused whatever one
says, and the file remembers which boot of which machine uses it: containers on one kernel share it freely.
"""

import ctypes
import os
from pathlib import Path

from onebeat.core.errors import StoreUnsafe

FIXED = (3, 51, 3)
"""From this version on several processes may share a WAL file; before it, checkpoints can corrupt it."""

FOREIGN = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x01021997: "9p",
    0x00C36400: "Ceph",
    0x65735546: "FUSE",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x5346414F: "AFS",
    0x73757245: "Coda",
    0x564C: "NCP",
    0x786F4256: "VirtualBox shared folder",
    0xBACBACBC: "VMware shared folder",
}
"""statfs(2) magic numbers of file systems that another machine may serve, or write to as well."""

IN_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def file_system(folder: Path) -> int:
    """Return the magic number of the file system under a folder, 0 where the system does not tell."""
    statfs = getattr(ctypes.CDLL(None), "statfs", None)
    told = ctypes.create_string_buffer(512)
    if statfs is None or os.uname().sysname != "Linux" or statfs(os.fsencode(folder), told) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(told).value & 0xFFFFFFFF


def refuse_foreign(folder: Path) -> None:
    """Raise StoreUnsafe for a folder on a file system that other machines may reach."""
    name = FOREIGN.get(file_system(folder))
    if name is not None:
        raise StoreUnsafe(
            f"{folder} is on {name}, which other machines may write to: SQLite's locks and clock hold on "
            "one machine only, so occurrences could fire twice there, and nothing overrides this refusal; "
            "put the file on a local disk, or use a database server"
        )


def boot_id() -> str:
    """Return which boot of which machine this is, "" where the system does not tell."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def fixed(version: str) -> bool:
    """Return whether this SQLite can share a WAL file among processes safely."""
    return tuple(int(part) for part in version.split(".")[:3]) >= FIXED
