"""Which seconds of the day a cron expression means, and how they and the days make a WallRule.

The minutes that are meant are one sorted list of at most 1,440 seconds of the day; the seconds within a
minute are another of at most 60. A single second within the minute (all five-field expressions) is added to
the first list and needs no second look.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

from onebeat.core.triggers.days import DaySet
from onebeat.core.triggers.instants import DAY

# One object for each minute of the day, shared by all lists.
_MINUTES = tuple(range(0, DAY, 60))


class Times:
    """A set of seconds of the day: every hour × minute × second that is named. Immutable."""

    __slots__ = ("bits", "first", "last", "number", "seconds", "starts")

    def __init__(self, hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> None:
        lift = seconds[0] if len(seconds) == 1 else 0
        starts = [_MINUTES[60 * hour + minute] for hour in hours for minute in minutes]
        self.starts = [start + lift for start in starts] if lift else starts
        self.seconds = tuple(second - lift for second in seconds)
        self.first = self.starts[0] + self.seconds[0]
        self.last = self.starts[-1] + self.seconds[-1]
        self.number = len(self.starts) * len(self.seconds)
        minute = sum(1 << second for second in seconds)
        hour = sum(minute << 60 * each for each in minutes)
        self.bits = sum(hour << 3600 * each for each in hours)

    def following(self, second: int) -> int:
        """Return the first one at or after ``second``, or -1."""
        starts, seconds = self.starts, self.seconds
        if len(seconds) == 1:
            place = bisect_left(starts, second)
            return starts[place] if place < len(starts) else -1
        place = bisect_right(starts, second)
        if place and second - starts[place - 1] <= seconds[-1]:
            start = starts[place - 1]
            return start + seconds[bisect_left(seconds, second - start)]
        return starts[place] + seconds[0] if place < len(starts) else -1

    def preceding(self, second: int) -> int:
        """Return the last one at or before ``second``, or -1."""
        place = bisect_right(self.starts, second)
        if not place:
            return -1
        start = self.starts[place - 1]
        within = bisect_right(self.seconds, second - start)
        if within:
            return start + self.seconds[within - 1]
        return self.starts[place - 2] + self.seconds[-1] if place > 1 else -1

    def number_before(self, second: int) -> int:
        """Return how many there are before ``second``."""
        place = bisect_left(self.starts, second)
        if not place:
            return 0
        within = bisect_left(self.seconds, second - self.starts[place - 1])
        return (place - 1) * len(self.seconds) + within


@lru_cache(maxsize=512)
def times_of_day(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> Times:
    """Return the one Times of these fields: most schedules share a few."""
    return Times(hours, minutes, seconds)


@dataclass(frozen=True, slots=True)
class Calendar:
    """The local seconds that a cron expression means: its times of day, on its days. A WallRule."""

    days: DaySet
    times: Times

    def following(self, local: int) -> int:
        """Return the first one at or after ``local``."""
        day, second = divmod(local, DAY)
        found = day if self.days.every else self.days.following(day)
        if found == day:
            time = self.times.following(second)
            if time >= 0:
                return local - second + time
            found = day + 1 if self.days.every else self.days.following(day + 1)
        return found * DAY + self.times.first

    def preceding(self, local: int) -> int:
        """Return the last one at or before ``local``."""
        day, second = divmod(local, DAY)
        found = day if self.days.every else self.days.preceding(day)
        if found == day:
            time = self.times.preceding(second)
            if time >= 0:
                return local - second + time
            found = day - 1 if self.days.every else self.days.preceding(day - 1)
        return found * DAY + self.times.last

    def number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop)."""
        return self._number_before(stop) - self._number_before(start)

    def bits(self, start: int, stop: int) -> int:
        """Return those in [start, stop) as a bit set."""
        found = 0
        for day in range(start // DAY, (stop - 1) // DAY + 1):
            if day in self.days:
                skip = day * DAY - start
                found |= self.times.bits << skip if skip >= 0 else self.times.bits >> -skip
        return found & ((1 << (stop - start)) - 1)

    def _number_before(self, local: int) -> int:
        day, second = divmod(local, DAY)
        number = self.days.number_before(day) * self.times.number
        return number + self.times.number_before(second) if second and day in self.days else number
