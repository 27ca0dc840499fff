"""Calendars of days: public holidays, workdays, and dates of one's own. They hold every microsecond of a day.

Combine them with what says the time: ``cron("0 9 * * *") & workdays("CN")``. Which days are holidays is data
of core/publicdays.py; how days become instants is spans.py's business.
"""

from collections.abc import Iterable
from datetime import date

import msgspec

from onebeat.core.errors import InvalidTrigger, LimitExceeded, shown
from onebeat.core.model import TriggerSpec
from onebeat.core.publicdays import (
    FIRST_YEAR,
    LAST_YEAR,
    announced_until,
    checked_country,
    public_days,
    weekend_of,
)
from onebeat.core.triggers.registry import Fields, build, kind, read_fields
from onebeat.core.triggers.spans import DayPattern, SpanTrigger, Stretch, span_trigger
from onebeat.core.triggers.words import in_zone, listed

DATES_MAX = 1_000
"""The most dates that one calendar may name."""

DATES_FROM, DATES_TO = 1970, 2199
"""The years that a date of one's own may lie in."""

DATES_SAID = 4
"""More dates than these are counted, not said."""

MONDAY_TO_FRIDAY = frozenset({1, 2, 3, 4, 5})


class HolidaysFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``holidays``."""

    country: str
    subdivision: str | None = None
    zone: str | None = None


class WorkdaysFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``workdays``. ``also`` is worked and ``less`` is free, whatever the country says."""

    country: str | None = None
    subdivision: str | None = None
    zone: str | None = None
    also: list[str] = []
    less: list[str] = []


class DatesFields(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of kind ``dates``."""

    dates: list[str]
    zone: str | None = None


def holidays(country: str, *, subdivision: str | None = None, zone: str | None = None) -> TriggerSpec:
    """Return the calendar of a country's public holidays: every microsecond of each, in ``zone``.

    ``country`` is written as in ISO 3166 (``DE``), ``subdivision`` as in ISO 3166-2 (``BY``). Days off in
    exchange for a worked weekend are among them, ordinary weekends are not. Needs ``onebeat[calendars]``.

    Raises:
        InvalidTrigger: nobody has a calendar of that country or subdivision; the nearest is named.
        MissingExtra: the library of calendars is not installed.

    """
    return _declared("holidays", {"country": country, "subdivision": subdivision, "zone": zone})


def workdays(
    country: str | None = None,
    *,
    subdivision: str | None = None,
    zone: str | None = None,
    also: Iterable[str | date] = (),
    less: Iterable[str | date] = (),
) -> TriggerSpec:
    """Return the calendar of working days: every microsecond of each, in ``zone``.

    Those are the days of the country's working week (mostly Monday to Friday) less its public holidays, and
    the weekends that it works in exchange. ``also`` and ``less`` are a company's own: days that are worked
    and days that are free, whatever the country says. Without a country, Monday to Friday.

    Raises:
        InvalidTrigger: nobody has a calendar of that country, or a date is none.
        MissingExtra: a country was named, and the library of calendars is not installed.

    """
    fields = {"country": country, "subdivision": subdivision, "zone": zone}
    return _declared("workdays", {**fields, "also": _texts(also) or None, "less": _texts(less) or None})


def dates(*days: str | date, zone: str | None = None) -> TriggerSpec:
    """Return the calendar of these dates: every microsecond of each, in ``zone``.

    Raises InvalidTrigger for what is no date, LimitExceeded for more than 1,000 of them.
    """
    return _declared("dates", {"dates": _texts(days), "zone": zone})


def _declared(kind_name: str, fields: Fields) -> TriggerSpec:
    spec = TriggerSpec(
        kind=kind_name, fields={name: value for name, value in fields.items() if value is not None}
    )
    build(spec)
    return spec


def _texts(days: Iterable[str | date]) -> list[str]:
    given = [days] if isinstance(days, str) else list(days)
    return sorted({day.isoformat() if type(day) is date else str(day) for day in given})


def _dates(texts: list[str]) -> frozenset[date]:
    if len(texts) > DATES_MAX:
        raise LimitExceeded(
            f"a calendar of {len(texts):,} dates is too long to be read by anybody; at most {DATES_MAX:,} "
            "are allowed; join several calendars with '|'"
        )
    return frozenset(_date(text) for text in texts)


def _date(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise InvalidTrigger(f"{shown(text, 40)} is no date; write year, month and day, as in '2026-12-24'")
    if not DATES_FROM <= day.year <= DATES_TO:
        raise InvalidTrigger(
            f"the date {text} lies outside of the years {DATES_FROM} to {DATES_TO}; check its year"
        )
    return day


def _checked(country: str | None, subdivision: str | None) -> None:
    if country is not None:
        checked_country(country, subdivision)
    elif subdivision is not None:
        raise InvalidTrigger(
            f"subdivision {shown(subdivision, 40)} belongs to no country; name the country too"
        )


def _by_year(days: frozenset[date]) -> dict[int, set[date]]:
    found: dict[int, set[date]] = {}
    for day in days:
        found.setdefault(day.year, set()).add(day)
    return found


# --- the kinds ------------------------------------------------------------------------------------------


def _ends(fields: Fields) -> date | None:
    country = fields.get("country")
    return None if country is None else announced_until(country)


def _where(fields: Fields) -> str:
    parts = [fields["country"], fields.get("subdivision")]
    return "-".join(part for part in parts if part is not None)


def _some_dates(texts: list[str], lang: str) -> str:
    if len(texts) <= DATES_SAID:
        return listed(texts, lang)
    first, last = texts[0], texts[-1]
    if lang == "zh":
        return f"{first}至{last}之间的{len(texts)}个日期"
    return f"{len(texts)} dates from {first} to {last}"


def _holidays_words(fields: Fields, lang: str) -> str:
    said = f"{_where(fields)}的法定节假日" if lang == "zh" else f"public holidays of {_where(fields)}"
    return said + in_zone(fields.get("zone"), lang)


@kind("holidays", shape=HolidaysFields, zoned=True, words=_holidays_words, ends=_ends)
def _build_holidays(fields: Fields) -> SpanTrigger:
    given = read_fields("holidays", fields, HolidaysFields)
    _checked(given.country, given.subdivision)

    def odd(year: int) -> frozenset[date]:
        return public_days(given.country, given.subdivision, year).free

    return span_trigger(Stretch(DayPattern(frozenset(), odd, FIRST_YEAR, LAST_YEAR)), given.zone)


def _workdays_words(fields: Fields, lang: str) -> str:
    zh = lang == "zh"
    if fields.get("country") is None:
        said = "周一至周五" if zh else "Monday to Friday"
    else:
        said = f"{_where(fields)}的工作日" if zh else f"workdays of {_where(fields)}"
    for name, english, chinese in (("also", " and ", ",另加"), ("less", " less ", ",减去")):
        if fields.get(name):
            said += (chinese if zh else english) + _some_dates(fields[name], lang)
    return said + in_zone(fields.get("zone"), lang)


@kind("workdays", shape=WorkdaysFields, zoned=True, words=_workdays_words, ends=_ends)
def _build_workdays(fields: Fields) -> SpanTrigger:
    given = read_fields("workdays", fields, WorkdaysFields)
    country, subdivision = given.country, given.subdivision
    _checked(country, subdivision)
    also, less = _dates(given.also), _dates(given.less)
    if both := sorted(also & less):
        raise InvalidTrigger(f"{both[0]} is in also= and in less=; keep it in one of them")
    week = MONDAY_TO_FRIDAY
    if country is not None:
        week = frozenset(range(7)) - {(day + 1) % 7 for day in weekend_of(country)}
    also_of, less_of = _by_year(also), _by_year(less)

    def odd(year: int) -> set[date]:
        free, made_up = set[date](), set[date]()
        if country is not None:
            said = public_days(country, subdivision, year)
            free, made_up = set(said.free), set(said.made_up)
        worked = (made_up | also_of.get(year, set())) - less_of.get(year, set())
        free = (free - made_up | less_of.get(year, set())) - also_of.get(year, set())
        return {day for day in worked if day.isoweekday() % 7 not in week} | {
            day for day in free if day.isoweekday() % 7 in week
        }

    years = [*also_of, *less_of]
    if country is not None:
        years += [FIRST_YEAR, LAST_YEAR]
    first, last = min(years, default=1), max(years, default=0)
    return span_trigger(Stretch(DayPattern(week, odd, first, last)), given.zone)


def _dates_words(fields: Fields, lang: str) -> str:
    return _some_dates(fields["dates"], lang) + in_zone(fields.get("zone"), lang)


@kind("dates", shape=DatesFields, zoned=True, words=_dates_words)
def _build_dates(fields: Fields) -> SpanTrigger:
    given = read_fields("dates", fields, DatesFields)
    days = _by_year(_dates(given.dates))
    if not days:
        raise InvalidTrigger("a calendar of no dates at all is not meant; name one at least")

    def odd(year: int) -> set[date]:
        return days.get(year, set())

    return span_trigger(Stretch(DayPattern(frozenset(), odd, min(days), max(days))), given.zone)
