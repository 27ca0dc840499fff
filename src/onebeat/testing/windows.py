"""The window checker: for systems that do not say which occurrence a firing is for.

An occurrence that is due opens a window, [due, due + bound]. Each window wants one firing in it, and each
firing is used once. Going through the firings by time, and giving each to the open window that closes first,
matches as many as can be matched at all: no firing that could serve two is given to the patient one while the
other closes.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple


class Matched(NamedTuple):
    """What became of windows and firings: each is in one of the four lists, in order."""

    pairs: list[tuple[datetime, datetime]]  # due instant, firing
    missed: list[datetime]  # due instants with no firing left for them
    doubled: list[datetime]  # firings in some window, which another firing had served
    phantom: list[datetime]  # firings in no window at all: early, or of nothing

    @property
    def lateness(self) -> list[timedelta]:
        """Return how late each matched firing came, in the order of the firings."""
        return [fired - due for due, fired in self.pairs]


def matched(due: Sequence[datetime], fired: Sequence[datetime], bound: timedelta) -> Matched:
    """Return a largest possible matching of firings to windows. In any order; O((n + m) log (n + m)) time."""
    result = Matched([], [], [], [])
    windows = deque(sorted(due))
    open_windows: deque[datetime] = deque()  # all last equally long, so the first that opened closes first
    latest: datetime | None = None  # the last window that has opened: where it has closed, all have
    for firing in sorted(fired):
        while windows and windows[0] <= firing:
            latest = windows.popleft()
            open_windows.append(latest)
        while open_windows and open_windows[0] + bound < firing:
            result.missed.append(open_windows.popleft())
        if open_windows:
            result.pairs.append((open_windows.popleft(), firing))
        elif latest is not None and firing <= latest + bound:
            result.doubled.append(firing)
        else:
            result.phantom.append(firing)
    result.missed.extend(open_windows)
    result.missed.extend(windows)
    return result
