"""A rule on a clock: the evaluator of the kinds that mean local seconds, beside cron, which has its own."""

from dataclasses import dataclass
from datetime import datetime

from onebeat.core.triggers.instants import DAY, SECOND_MAX, at_second, second_after, second_before
from onebeat.core.triggers.walltime import WallClock, WallRule

# Names of the one zone whose rules no parliament can change.
UNIVERSAL = frozenset({"UTC", "Etc/UTC"})


@dataclass(frozen=True, slots=True)
class WallTrigger:
    """The occurrences of a WallRule on a WallClock, up to the second ``last``. Whole seconds, all of them."""

    rule: WallRule
    clock: WallClock
    last: int = SECOND_MAX
    late_start: bool = False
    gridded: bool = True
    whole: bool = True

    @property
    def zoned(self) -> bool:
        """Whether the zone is one whose rules may change."""
        return self.clock.name not in UNIVERSAL

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``."""
        found = self.clock.after(self.rule, second_after(t))
        return at_second(found) if found is not None and found <= self.last else None

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``."""
        return at_second(self.clock.before(self.rule, min(second_before(t), self.last)))

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]; costs microseconds a change of the clock."""
        return self.clock.number(self.rule, second_after(after), min(second_after(until), self.last + 1))

    def bits(self, day: int) -> int:
        """Return the occurrences of a UTC day as a bit set, one bit a second."""
        found = self.clock.bits(self.rule, day)
        kept = self.last + 1 - day * DAY
        return found if kept >= DAY else found & (1 << max(0, kept)) - 1
