"""A recurrence rule in words: how often, on which days, at what times, from when to when, in which zone."""

from collections.abc import Callable, Iterable

from onebeat.core.triggers.cronwords import change_words, clock
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.registry import Fields
from onebeat.core.triggers.rrulefields import BELOW_DAYS, Rule, Time, read_rule, read_time
from onebeat.core.triggers.words import each, in_zone, listed

LISTED_MAX = 6
"""More times of day than these are not said one by one."""

_UNITS = {
    "YEARLY": ("year", "年"),
    "MONTHLY": ("month", "个月"),
    "WEEKLY": ("week", "周"),
    "DAILY": ("day", "天"),
    "HOURLY": ("hour", "个小时"),
    "MINUTELY": ("minute", "分钟"),
    "SECONDLY": ("second", "秒"),
}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DAYS_ZH = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")


def rrule_words(fields: Fields, lang: str) -> str:
    """Return the words of kind ``rrule``."""
    zh, rule = lang == "zh", read_rule(fields["rule"])
    start = None if fields.get("start") is None else read_time(fields["start"], "start")
    parts = [each(rule.interval, *_UNITS[rule.freq], lang), *_days(rule, lang), *_times(rule, start, lang)]
    if rule.positions:
        places = _said(rule.positions, lang, _place_zh if zh else _place)
        parts.append(f"取其中{places}" if zh else f"of these {places}")
    if rule.freq in ("WEEKLY", "YEARLY") and rule.week_start:
        begins = (_DAYS_ZH if zh else _DAYS)[rule.week_start]
        parts.append(f"每周从{begins}开始" if zh else f"weeks beginning on {begins}")
    said = (",".join if zh else ", ".join)(parts + _bounds(rule, start, fields, lang))
    return said + in_zone(fields.get("zone"), lang) + change_words(fields, lang)


def _days(rule: Rule, lang: str) -> list[str]:
    zh = lang == "zh"
    said = []
    if rule.months:
        months = _said(rule.months, lang, lambda month: f"{month}月" if zh else _MONTHS[month - 1])
        said.append(months if zh else f"in {months}")
    if rule.weeks:
        weeks = _said(rule.weeks, lang, lambda week: _place_zh(week, "周") if zh else _place(week))
        said.append(weeks if zh else f"in {weeks} week of the year")
    if rule.year_days:
        days = _said(rule.year_days, lang, lambda day: _place_zh(day, "天") if zh else _place(day))
        said.append(f"一年的{days}" if zh else f"on {days} day of the year")
    if rule.month_days:
        days = _said(rule.month_days, lang, _date_zh if zh else _place)
        said.append(days if zh else f"on {days} day of the month")
    if rule.weekdays:
        names = _DAYS_ZH if zh else _DAYS
        terms = sorted(rule.weekdays, key=lambda term: (term[1] != 0, term[1] < 0, abs(term[1]), term[0]))
        days = listed([_weekday(names[day], which, lang) for day, which in terms], lang)
        said.append(days if zh else f"on {days}")
    return said


def _weekday(name: str, which: int, lang: str) -> str:
    if which == 0:
        return name
    return _place_zh(which, "个") + name if lang == "zh" else f"{_place(which)} {name}"


def _times(rule: Rule, start: Time | None, lang: str) -> list[str]:
    """Return the times of day, where there are few; else the hours, minutes and seconds that are named."""
    zh, below = lang == "zh", rule.freq in BELOW_DAYS
    if not below and (start is not None or (rule.hours and rule.minutes and rule.seconds)):
        second = 0 if start is None else start.second % DAY
        times = [
            3600 * hour + 60 * minute + each_second
            for hour in rule.hours or (second // 3600,)
            for minute in rule.minutes or (second // 60 % 60,)
            for each_second in rule.seconds or (second % 60,)
        ]
        utc = start is not None and start.utc and not (rule.hours and rule.minutes)
        if len(times) <= LISTED_MAX and not utc:
            said = listed([clock(time) for time in times], lang)
            return [said if zh else f"at {said}"]
    named = (("hour", "时", rule.hours), ("minute", "分", rule.minutes), ("second", "秒", rule.seconds))
    parts = [
        f"第{_said(values, lang, str)}{sign}" if zh else f"{name} {_said(values, lang, str)}"
        for name, sign, values in named
        if values
    ]
    if zh:
        return ["".join(parts)] if parts else []
    return [f"at {', '.join(parts)}"] if parts else []


def _bounds(rule: Rule, start: Time | None, fields: Fields, lang: str) -> list[str]:
    zh, said = lang == "zh", []
    if start is not None:
        said.append(f"从{start.text()}起" if zh else f"from {start.text()} on")
    if rule.count is not None:
        said.append(f"共{rule.count}次" if zh else f"{rule.count} time{'s' * (rule.count != 1)}")
    if rule.until is not None:
        said.append(f"到{rule.until.text()}为止" if zh else f"until {rule.until.text()}")
    for name, words, words_zh in (("rdates", "added", "另加"), ("exdates", "left out", "除去")):
        number = len(fields.get(name) or ())
        if number:
            said.append(f"{words_zh}{number}个时间" if zh else f"{number} time{'s' * (number != 1)} {words}")
    return said


def _said(numbers: Iterable[int], lang: str, name: Callable[[int], str]) -> str:
    """Return numbers in the order of people: from the start, then from the end."""
    return listed([name(number) for number in sorted(numbers, key=lambda each: (each < 0, abs(each)))], lang)


def _place(number: int) -> str:
    """Return ``the 3rd``, ``the last``, ``the 2nd last``."""
    if number == -1:
        return "the last"
    size = abs(number)
    ending = "th" if size % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(size % 10, "th")
    return f"the {size}{ending}{' last' if number < 0 else ''}"


def _place_zh(number: int, unit: str = "个") -> str:
    if number == -1:
        return f"最后一{unit}"
    return f"倒数第{-number}{unit}" if number < 0 else f"第{number}{unit}"


def _date_zh(number: int) -> str:
    return f"{number}日" if number > 0 else _place_zh(number, "天")
