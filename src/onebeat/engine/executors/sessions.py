"""Processes that lead a session of their own: how they ended, and how all of a session is killed.

Also a program, which imports nothing but the standard library: see ``keeper``.
"""

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

SEARCHES = 3


def watched(process: "Popen[bytes]") -> tuple[IO[bytes], int]:
    """Return the output of a session's leader, which makes nobody wait, and a handle that tells of its end.

    Where this system has no such handle, the session is killed, and OSError raised.
    """
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    try:
        return process.stdout, os.pidfd_open(process.pid)
    except OSError:
        kill_session(process.pid)
        process.stdout.close()
        process.wait()
        raise


def exit_status(handle: int) -> int | None:
    """Return the exit status of a program that has ended, a signal as its negative; None: unknown."""
    try:
        found = os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return None
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def told_status(status: int) -> tuple[str, tuple[str, ...]]:
    """Return an exit status in words, and the error types that it is, the narrowest first."""
    if status >= 0:
        return f"exit status {status}", (f"exit {status}", "exit")
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"SIG{-status}"
    return f"killed by {name}", (name, "signal")


def signal_group(leader: int, number: int) -> None:
    """Send a signal to the group of a leader that is not reaped yet, if there is anybody in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def kill_session(leader: int) -> None:
    """Kill the group of a leader that is not reaped yet, and every other group of its session."""
    signal_group(leader, signal.SIGKILL)
    for _ in range(SEARCHES):  # who forks while it is looked for is found in the next round
        found = [pid for pid in _processes() if pid != leader and _session(pid) == leader]
        for pid in found:
            with suppress(OSError):
                handle = os.pidfd_open(pid)
                try:
                    if _session(pid) == leader:  # and not somebody else by now
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        if not found:
            return


def _processes() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def _session(pid: int) -> int | None:
    """Return the session of a process that is alive, None for one that is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, _, _, session = stat.rpartition(b")")[2].split()[:4]  # a program's name may hold anything
    return None if state in (b"Z", b"X") else int(session)


# --- run as a program: the keeper of a node's commands --------------------------------------------------


def keep(grace_s: float) -> None:
    """Read which leaders begin and end, until the node that writes it is gone; then end those that go on."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever stops a whole group stops the node, which stops us
    leaders: dict[int, int] = {}
    for line in sys.stdin:
        leader = int(line[1:])
        if line.startswith("+"):
            with suppress(OSError):
                leaders[leader] = os.pidfd_open(leader)
        elif leader in leaders:
            os.close(leaders.pop(leader))
    for leader, handle in leaders.items():
        if not _replaced(leader, handle):
            signal_group(leader, signal.SIGTERM)
    if leaders:
        select.select([], [], [], grace_s)
    for leader, handle in leaders.items():
        if not _replaced(leader, handle):
            kill_session(leader)


def _replaced(leader: int, handle: int) -> bool:
    """Return whether a leader has ended, and somebody else has got its number: its session has, too."""
    return bool(select.select([handle], [], [], 0)[0]) and _session(leader) is not None


if __name__ == "__main__":
    keep(float(sys.argv[1]))
