"""Processes that lead a session of their own: how they ended, and how all of a session is killed."""

import os
import signal
from contextlib import suppress
from pathlib import Path

SEARCHES = 3


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
