"""Random recurrence rules, and dateutil's opinion of them.

Where the two differ by decision (docs/reference/triggers.md says each), a rule is put to dateutil in words in
which it agrees, or is not drawn; the decisions have tests of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from dateutil import rrule as theirs

from onebeat.core.errors import InvalidTrigger
from onebeat.core.triggers import build, rrule

MONTHS = {
    "YEARLY": 150,
    "MONTHLY": 100,
    "WEEKLY": 40,
    "DAILY": 40,
    "HOURLY": 14,
    "MINUTELY": 3,
    "SECONDLY": 1,
}
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ANSWERS = 30


class BeyondError(Exception):
    """The oracle has looked far enough."""


class BoundedInfo(theirs._iterinfo):  # type: ignore[misc, name-defined, unused-ignore]  # it has no types
    """What dateutil knows of a month, with an end to its patience: what never comes takes it minutes."""

    last = (9999, 12)

    def rebuild(self, year: int, month: int) -> None:
        if (year, month) > BoundedInfo.last:
            raise BeyondError
        super().rebuild(year, month)


@dataclass(frozen=True)
class Case:
    """A rule, and the local time it starts at."""

    rule: str
    start: datetime

    def spec(self) -> Any:
        return rrule(self.rule, start=self.start, zone="UTC")

    def ours(self, number: int = ANSWERS) -> list[datetime]:
        try:
            trigger = build(self.spec())
        except InvalidTrigger as error:
            if "never comes" not in str(error):
                raise
            return []
        found, at = list[datetime](), self.start.replace(tzinfo=UTC) - timedelta(days=1)
        while len(found) < number and (following := trigger.after(at)) is not None:
            if (following.year, following.month) > self.last:
                break
            found.append(at := following)
        return found

    @property
    def last(self) -> tuple[int, int]:
        """The last month that is looked at: theirs takes minutes for a year of seconds."""
        freq = self.rule.split(";", 1)[0][5:]
        months = MONTHS[freq] + self.start.month
        return self.start.year + months // 12, 12 if freq == "YEARLY" else months % 12 + 1

    def theirs(self, number: int = ANSWERS) -> list[datetime]:
        text = self.rule
        if "BYWEEKNO" in text and not any(part in text for part in ("BYDAY", "BYMONTHDAY", "BYYEARDAY")):
            text += f";BYDAY={DAYS[self.start.weekday()]}"
        found = list[datetime]()
        BoundedInfo.last = self.last
        try:
            for each in islice(theirs.rrulestr(text, dtstart=self.start), number):
                if (each.year, each.month) > self.last:
                    break
                found.append(each.replace(tzinfo=UTC))
        except BeyondError:
            pass
        except ValueError as error:
            if "empty" not in str(error):
                raise
        return found


def cases(seed: int, number: int) -> Iterator[Case]:
    rng = random.Random(seed)
    for _ in range(number):
        yield drawn(rng)


def drawn(rng: random.Random) -> Case:
    freq = rng.choice(list(MONTHS))
    start = datetime(1970, 1, 1) + timedelta(seconds=rng.randint(0, 2**32))
    if rng.random() < 0.6:
        start = start.replace(minute=0, second=0)
    parts = [f"FREQ={freq}"]
    if rng.random() < 0.6:
        most = {"YEARLY": 5, "MONTHLY": 14, "WEEKLY": 9, "DAILY": 40, "HOURLY": 60}.get(freq, 200)
        parts.append(f"INTERVAL={rng.choice([1, 2, 3, rng.randint(1, most), rng.randint(1, most)])}")
    if rng.random() < 0.25:
        parts.append(f"WKST={rng.choice(DAYS)}")
    by = _by_parts(rng, freq)
    parts += by
    if by and rng.random() < 0.2:
        parts.append("BYSETPOS=" + _list(rng, 1, 4, signed=True))
        if freq == "WEEKLY":  # theirs does not see what lies before the start in its week
            week_start = next((DAYS.index(part[5:]) for part in parts if part.startswith("WKST")), 0)
            start -= timedelta((start.weekday() - week_start) % 7)
    dice = rng.random()
    if dice < 0.2:
        parts.append(f"COUNT={rng.randint(1, 20)}")
    elif dice < 0.35:
        until = start + timedelta(days=rng.randint(1, {"YEARLY": 4000, "MONTHLY": 1000}.get(freq, 60)))
        parts.append(f"UNTIL={until:%Y%m%dT%H%M%S}")
    return Case(";".join(parts), start)


def _by_parts(rng: random.Random, freq: str) -> list[str]:
    found = []
    if rng.random() < 0.25:
        found.append("BYMONTH=" + _list(rng, 1, 12))
    if freq != "WEEKLY" and rng.random() < 0.25:
        found.append("BYMONTHDAY=" + _list(rng, 1, 31, signed=True))
    if freq in ("YEARLY", "HOURLY", "MINUTELY", "SECONDLY") and rng.random() < 0.15:
        found.append("BYYEARDAY=" + _list(rng, 1, 366, signed=True))
    weeks = freq == "YEARLY" and rng.random() < 0.25
    if weeks:
        found.append("BYWEEKNO=" + _list(rng, 1, 51, signed=True))
    if rng.random() < 0.4:
        days = rng.sample(DAYS, rng.randint(1, 4))
        if freq in ("YEARLY", "MONTHLY") and not weeks and rng.random() < 0.5:
            most = 5 if freq == "MONTHLY" or any("BYMONTH=" in part for part in found) else 53
            days = [f"{_signed(rng, 1, most)}{day}" for day in days]
        found.append("BYDAY=" + ",".join(days))
    for name, most in (("BYHOUR", 23), ("BYMINUTE", 59), ("BYSECOND", 59)):
        if rng.random() < 0.25:
            found.append(f"{name}=" + _list(rng, 0, most))
    return found


def _signed(rng: random.Random, low: int, high: int) -> int:
    return rng.choice([1, 1, -1]) * rng.randint(low, high)


def _list(rng: random.Random, low: int, high: int, *, signed: bool = False) -> str:
    number = rng.choice([1, 1, 2, 3, 8])
    return ",".join(str(_signed(rng, low, high) if signed else rng.randint(low, high)) for _ in range(number))
