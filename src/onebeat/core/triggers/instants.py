"""The edge between datetimes and the integers that triggers count in.

Inside this room an instant is a whole number of seconds or microseconds since 1970-01-01T00:00Z; a datetime
is made once, for the answer. Integers know no year 9999, so what lies beyond it is turned into None here.
"""

from datetime import UTC, datetime, timedelta

from onebeat.core.model import EPOCH, utc

DAY = 86_400
SECOND = 1_000_000
MICROSECOND = timedelta(microseconds=1)

FULL_DAY = (1 << DAY) - 1  # a day as a bit set, one bit a second: all of it

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)
SECOND_MIN = -62_135_596_800  # 0001-01-01T00:00:00Z
SECOND_MAX = 253_402_300_799  # 9999-12-31T23:59:59Z


def _since_epoch(t: datetime) -> timedelta:
    try:
        return t - EPOCH
    except TypeError:
        return utc(t) - EPOCH  # a naive datetime: this raises, and says why


def second_after(t: datetime) -> int:
    """Return the first whole second strictly later than ``t``."""
    passed = _since_epoch(t)
    return passed.days * DAY + passed.seconds + 1


def second_before(t: datetime) -> int:
    """Return the last whole second strictly earlier than ``t``."""
    passed = _since_epoch(t)
    return passed.days * DAY + passed.seconds - (passed.microseconds == 0)


def at_second(second: int | None) -> datetime | None:
    """Return the instant of a whole second; None for None, and outside the years 1 to 9999."""
    if second is None or not SECOND_MIN <= second <= SECOND_MAX:
        return None
    return EPOCH + timedelta(0, second)


def microsecond_of(t: datetime) -> int:
    """Return whole microseconds since the epoch."""
    passed = _since_epoch(t)
    return (passed.days * DAY + passed.seconds) * SECOND + passed.microseconds


def at_microsecond(micros: int) -> datetime | None:
    """Return the instant of a count of microseconds, or None outside the years 1 to 9999."""
    if not SECOND_MIN <= micros // SECOND <= SECOND_MAX:
        return None
    return EPOCH + timedelta(0, 0, micros)
