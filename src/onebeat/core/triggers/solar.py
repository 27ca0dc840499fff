"""Solar: dawn, sunrise, noon, sunset and dusk at a place, in whole minutes as almanacs print them.

An occurrence belongs to a day of the place. Those of the morning lie between midnight and noon as the sun
has it, those of the evening between noon and midnight; on a day on which the sun does not pass the altitude,
there is none. sun.py says where the sun stands; that is all that is known here, so zones do not matter.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from onebeat.core.errors import InvalidTrigger, near_miss, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.triggers.instants import (
    DAY,
    SECOND_MAX,
    SECOND_MIN,
    at_second,
    second_after,
    second_before,
)
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.sun import Place, sine_cosine

LATITUDE_MAX = 89.5
"""The farthest from the equator, in degrees: about the poles the sun has no days."""

DAYS_WITHOUT_MAX = 400
"""Days without an occurrence after which none is looked for; no polar day or night is half as long."""

SolarEvent = Literal[
    "dawn_astronomical",
    "dawn_nautical",
    "dawn_civil",
    "sunrise",
    "solar_noon",
    "sunset",
    "dusk_civil",
    "dusk_nautical",
    "dusk_astronomical",
]

# The altitude of the sun's centre: refraction, and half of the sun, lift its upper edge by 50 minutes of arc.
_HORIZON = -50.0 / 60.0
_ALTITUDES: Final[dict[str, float]] = {
    "dawn_astronomical": -18.0,
    "dawn_nautical": -12.0,
    "dawn_civil": -6.0,
    "sunrise": _HORIZON,
    "solar_noon": 0.0,
    "sunset": _HORIZON,
    "dusk_civil": -6.0,
    "dusk_nautical": -12.0,
    "dusk_astronomical": -18.0,
}
_WORDS: Final[dict[str, str]] = {
    "dawn_astronomical": "astronomical dawn",
    "dawn_nautical": "nautical dawn",
    "dawn_civil": "civil dawn",
    "sunrise": "sunrise",
    "solar_noon": "solar noon",
    "sunset": "sunset",
    "dusk_civil": "civil dusk",
    "dusk_nautical": "nautical dusk",
    "dusk_astronomical": "astronomical dusk",
}
_WORDS_ZH: Final[dict[str, str]] = {
    "dawn_astronomical": "天文晨光始",
    "dawn_nautical": "航海晨光始",
    "dawn_civil": "民用晨光始",
    "sunrise": "日出",
    "solar_noon": "太阳中天",
    "sunset": "日落",
    "dusk_civil": "民用昏影终",
    "dusk_nautical": "航海昏影终",
    "dusk_astronomical": "天文昏影终",
}
_SINES = {name: sine_cosine(altitude)[0] for name, altitude in _ALTITUDES.items()}
_MORNING = frozenset({"dawn_astronomical", "dawn_nautical", "dawn_civil", "sunrise"})
_OBLIQUITY_MAX = 23.75  # in the year 1; it shrinks from then on to the year 9999


class SolarFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of kind ``solar``: degrees, north and east positive."""

    event: str
    latitude: float
    longitude: float


def solar(event: SolarEvent, latitude: float, longitude: float) -> TriggerSpec:
    """Return the trigger of dawn, sunrise, noon, sunset or dusk at a place, in degrees north and east.

    It comes in whole minutes, at most once in a day of the place, and not at all on a day on which the sun
    does not pass the altitude: polar day, polar night, and the white nights of summer for dawn and dusk.

    Raises:
        InvalidTrigger: there is no such event or no such place, or it lies beyond 89.5 degrees.

    """
    spec = TriggerSpec(kind="solar", fields={"event": event, "latitude": latitude, "longitude": longitude})
    build(spec)
    return spec


class _Where(NamedTuple):
    """An event at a place: what days are remembered by."""

    event: str
    latitude: float
    longitude: float

    @property
    def lag(self) -> int:
        """How many seconds later than at longitude 0 the mean noon comes, or earlier where negative."""
        return -int(self.longitude * 240.0)

    def day(self, second: int) -> int:
        """Return the day of the place, by mean time, that a second lies in."""
        return (second - self.lag) // DAY


@dataclass(frozen=True, slots=True)
class SolarTrigger:
    """The minutes of one event at one place."""

    where: _Where
    zoned: bool = False
    late_start: bool = False
    gridded: bool = True
    whole: bool = True

    def after(self, t: datetime, /) -> datetime | None:
        """Return the first occurrence strictly later than ``t``, None after 400 days without one."""
        return at_second(self._following(second_after(t)))

    def before(self, t: datetime, /) -> datetime | None:
        """Return the last occurrence strictly earlier than ``t``, None before 400 days without one."""
        last = second_before(t)
        first = self.where.day(last) + 1
        for day in range(first, first - DAYS_WITHOUT_MAX, -1):
            found = _minute_of(self.where, day)
            if found is not None and found <= last:
                return at_second(found)
        return None

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return the number of occurrences in (after, until]; where days lack one, each day is looked at."""
        start = max(second_after(after), SECOND_MIN)
        stop = min(second_after(until), SECOND_MAX + 1)
        first, last = self.where.day(start) + 2, self.where.day(stop) - 2
        if last <= first:
            return self._number(start, stop)
        edges = self._number(start, _edge(self.where, first)) + self._number(_edge(self.where, last), stop)
        if _comes_daily(self.where):
            return edges + last - first
        return edges + sum(_span(self.where, day) is not None for day in range(first, last))

    def bits(self, day: int) -> int:
        """Return the occurrences of a UTC day as a bit set, one bit a second."""
        found, start = 0, day * DAY
        for each in range(self.where.day(start) - 1, self.where.day(start) + 3):
            minute = _minute_of(self.where, each)
            if minute is not None and 0 <= minute - start < DAY:
                found |= 1 << (minute - start)
        return found

    def _following(self, second: int) -> int | None:
        first = self.where.day(second) - 1
        for day in range(first, first + DAYS_WITHOUT_MAX):
            found = _minute_of(self.where, day)
            if found is not None and found >= second:
                return found
        return None

    def _number(self, start: int, stop: int) -> int:
        """Return how many there are in [start, stop), one by one."""
        days = range(self.where.day(start) - 1, self.where.day(stop) + 2)
        found = (_minute_of(self.where, day) for day in days)
        return sum(minute is not None and start <= minute < stop for minute in found)


def _edge(where: _Where, day: int) -> int:
    """Return a second between the occurrence of a day of the place and that of the day before."""
    quarter = 0 if where.event == "solar_noon" else -DAY // 4 if where.event in _MORNING else DAY // 4
    return day * DAY + where.lag + quarter


def _comes_daily(where: _Where) -> bool:
    """Whether the sun passes the altitude on every day of every year."""
    altitude = _ALTITUDES[where.event]
    return where.event == "solar_noon" or abs(where.latitude) + _OBLIQUITY_MAX - altitude < 90.0


# --- one day -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _place(latitude: float, longitude: float) -> Place:
    return Place(latitude, longitude)


@lru_cache(maxsize=16_384)
def _minute_of(where: _Where, day: int) -> int | None:
    """Return the second at which the minute of a day begins, or None: the sun does not pass the altitude."""
    span = _span(where, day)
    return None if span is None else 60 * _first(where, *span)


def _span(where: _Where, day: int) -> tuple[int, int] | None:
    """Return a minute before the event of a day and one at or after it, or None.

    Mean noon and midnight do almost always. Where the sun only grazes the altitude, its own are looked for.
    """
    noon = day * DAY + where.lag + DAY // 2
    if where.event == "solar_noon":
        return (noon - 3_600) // 60, (noon + 3_600) // 60
    for middle in (noon, None):
        highest = middle or 60 * _first(
            where._replace(event="solar_noon"), (noon - 3_600) // 60, (noon + 3_600) // 60
        )
        begin = highest - DAY // 2 if where.event in _MORNING else highest
        low, high = begin // 60, (begin + DAY // 2) // 60
        if not _passed(where, low) and _passed(where, high):
            return low, high
    return None


def _first(where: _Where, low: int, high: int) -> int:
    """Return the first minute after ``low`` by which the event has come; by ``high`` it has."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _passed(where, middle) else (middle, high)
    return high


def _passed(where: _Where, minute: int) -> bool:
    """Whether the event has come by the middle of a minute: minutes are rounded, as in almanacs."""
    height, west = _place(where.latitude, where.longitude).look(60 * minute + 30)
    if where.event == "solar_noon":
        return west >= 0.0
    wanted = _SINES[where.event]
    return height >= wanted if where.event in _MORNING else height < wanted


def _solar_words(fields: Fields, lang: str) -> str:
    event, (latitude, longitude) = fields["event"], (fields["latitude"], fields["longitude"])
    if lang == "zh":
        north, east = "南" if latitude < 0 else "北", "西" if longitude < 0 else "东"
        return f"{_WORDS_ZH[event]}({north}纬{abs(latitude):g}°,{east}经{abs(longitude):g}°)"
    north, east = "S" if latitude < 0 else "N", "W" if longitude < 0 else "E"
    return f"at {_WORDS[event]}, {abs(latitude):g}° {north} {abs(longitude):g}° {east}"


@kind("solar", shape=SolarFields, words=_solar_words)
def _build(fields: Fields) -> SolarTrigger:
    given = read_fields("solar", fields, SolarFields)
    if given.event not in _ALTITUDES:
        raise InvalidTrigger(
            f"{shown(given.event, 40)} is no event of the sun; there are {', '.join(_ALTITUDES)}"
            f"{near_miss(given.event[:40], _ALTITUDES)}"
        )
    if not -LATITUDE_MAX <= given.latitude <= LATITUDE_MAX:
        raise InvalidTrigger(
            f"latitude {given.latitude} is no place with days: it is degrees north of the equator, "
            f"-{LATITUDE_MAX} to {LATITUDE_MAX}, for about the poles the sun does not rise and set by the day"
        )
    if not -180.0 <= given.longitude <= 180.0:
        raise InvalidTrigger(
            f"longitude {given.longitude} is no place: it is degrees east of Greenwich, -180 to 180; "
            "places in the west are negative"
        )
    return SolarTrigger(_Where(given.event, given.latitude, given.longitude))
