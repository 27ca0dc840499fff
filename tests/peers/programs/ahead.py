"""When a schedule of Celery comes, by its own ``is_due`` on a clock of ours: asked as its beat asks."""

from datetime import datetime, timedelta
from typing import Any

TICK = timedelta(microseconds=1)


def fires(schedule: Any, start: datetime, until: datetime, most: int, zone: Any) -> list[str]:
    """Return the instants at which a beat that is never late sends, after a last run at the start."""
    clock = last = start
    found: list[str] = []
    schedule.nowfun = lambda: clock.astimezone(zone)
    while len(found) < most and clock <= until:
        due, wait = schedule.is_due(last.astimezone(zone))
        if due:
            found.append(clock.isoformat())
            last = clock
        if wait is None:
            break
        clock += max(timedelta(seconds=wait), TICK)
    return found
