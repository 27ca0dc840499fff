"""When something was being done to a system under test, by the lines of those who did it."""

from bisect import bisect_right
from collections.abc import Iterable

from onebeat.testing.history import Fault
from onebeat.testing.sums import micros


class Trouble:
    """When faults were in force."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        spans = sorted(
            (micros(fault.began_at), micros(fault.ended_at) if fault.ended_at is not None else 1 << 62)
            for fault in {fault.number: fault for fault in faults}.values()
        )
        self.spans: list[tuple[int, int]] = []
        for low, high in spans:
            if self.spans and low <= self.spans[-1][1]:
                self.spans[-1] = self.spans[-1][0], max(high, self.spans[-1][1])
            else:
                self.spans.append((low, high))
        self._lows = [low for low, _ in self.spans]

    def within(self, low: int, high: int) -> bool:
        """Return whether some fault was in force at some instant in [low, high]."""
        place = bisect_right(self._lows, high) - 1
        return place >= 0 and self.spans[place][1] >= low
