"""Which days are public holidays, and which weekends are worked instead: data of the library ``holidays``.

The only place that imports it. What is true of a day is decided by whoever asks: the triggers of
core/triggers and the audit's matcher share this data and nothing else. May import errors.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING

from onebeat.core.errors import InvalidTrigger, MissingExtra, near_miss, shown

if TYPE_CHECKING:
    from holidays import HolidayBase

FIRST_YEAR = 2000
"""Earlier years have no public holidays here."""

LAST_YEAR = 2099
"""Later years have no public holidays here: nobody computes them."""

ANNOUNCED = frozenset({"AZ", "BY", "CN", "HU", "KG", "KZ", "LV", "MM", "RU", "UZ", "VN"})
"""Countries whose government says year by year which weekends are worked so that other days are free."""


@dataclass(frozen=True, slots=True)
class PublicDays:
    """One year of a country: days that are free by law or by exchange, and weekends that are worked."""

    free: frozenset[date]
    made_up: frozenset[date]


def calendar_version() -> str | None:
    """Return the release of the library, e.g. ``0.108``; None where it is not installed."""
    try:
        return metadata.version("holidays")
    except metadata.PackageNotFoundError:
        return None


def checked_country(country: str, subdivision: str | None) -> None:
    """Raise InvalidTrigger, naming the nearest, for a country or subdivision without a known calendar."""
    known = _library().list_supported_countries(include_aliases=False)
    if country not in known:
        near = near_miss(country[:20].upper(), known)
        raise InvalidTrigger(
            f"{shown(country, 40)} is no country whose holidays are known; countries are written as in "
            f"ISO 3166, such as 'DE' or 'CN'{near}"
        )
    if subdivision is not None and subdivision not in known[country]:
        parts = known[country]
        what = f"those of {country} are {', '.join(parts)}" if parts else f"{country} has none that differ"
        near = near_miss(subdivision[:20].upper(), parts)
        raise InvalidTrigger(
            f"{shown(subdivision, 40)} is no subdivision of {country} with holidays of its own; {what}{near}"
        )


@lru_cache(maxsize=4096)
def public_days(country: str, subdivision: str | None, year: int) -> PublicDays:
    """Return the public holidays of a year, and the weekends that are worked in exchange."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return PublicDays(frozenset(), frozenset())
    # A holiday may be observed, and a weekend made up for, in the year before or after its own.
    found = _calendar(country, subdivision, (year - 1, year, year + 1))
    return PublicDays(
        free=frozenset(day for day in found if day.year == year),
        made_up=frozenset(day for day in found.weekend_workdays if day.year == year),
    )


@cache
def weekend_of(country: str) -> frozenset[int]:
    """Return the days of the week that are free there, Monday = 0: mostly Saturday and Sunday."""
    return frozenset(_calendar(country, None, ()).weekend)


@cache
def announced_until(country: str) -> date | None:
    """Return the last day of the years that the government has announced, as far as the library knows.

    None for a country whose holidays follow from its law alone, so that they are known for ever.
    """
    if country not in ANNOUNCED:
        return None
    years = [day.year for day in _calendar(country, None, tuple(range(2020, 2040))).weekend_workdays]
    return date(max(years), 12, 31) if years else None


def _calendar(country: str, subdivision: str | None, years: tuple[int, ...]) -> "HolidayBase":
    found: HolidayBase = _library().country_holidays(
        country, subdiv=subdivision, years=years, expand=False, language=None
    )
    return found


def _library() -> ModuleType:
    try:
        import holidays  # noqa: PLC0415 - it is an extra, and slow to load
    except ImportError as error:
        raise MissingExtra(
            "calendars of public holidays need the library holidays, which is not installed; "
            "pip install 'onebeat[calendars]', on every node"
        ) from error
    return holidays
