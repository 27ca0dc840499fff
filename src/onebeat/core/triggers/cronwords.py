"""A cron expression in words. What it *means* is said, not how it was written: equal meanings, equal words.

The times of day come first, for whoever reads it asks "how often" first; then the days; then the zone.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise

from onebeat.core.triggers.cronfields import Cron, has_slot, read_cron
from onebeat.core.triggers.days import DayRule
from onebeat.core.triggers.instants import DAY
from onebeat.core.triggers.registry import Fields
from onebeat.core.triggers.words import every, in_zone, listed

LISTED_MAX = 6
"""More times of day than these are not named one by one."""

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_WEEKDAYS_ZH = ("周日", "周一", "周二", "周三", "周四", "周五", "周六")
_NTH = ("last", "first", "second", "third", "fourth", "fifth")
_NTH_ZH = ("最后一个", "第一个", "第二个", "第三个", "第四个", "第五个")
_CLOCK = {
    ("gap", "shift"): ("in a gap of the clock right after it", "时钟跳过时顺延"),
    ("gap", "skip"): ("not in a gap of the clock", "时钟跳过时不执行"),
    ("fold", "first"): ("the first time where the clock goes back", "时钟回拨时取第一次"),
    ("fold", "second"): ("the second time where the clock goes back", "时钟回拨时取第二次"),
    ("fold", "both"): ("both times where the clock goes back", "时钟回拨时两次都执行"),
}


def cron_words(fields: Fields, lang: str) -> str:
    """Return the words of kind ``cron``."""
    expression, slot = fields["expression"], fields.get("slot")
    if slot is None and has_slot(expression):
        said = f"{expression},H由名称决定" if lang == "zh" else f"{expression}, where H hangs on the name"
    else:
        said = _said(expression, fields.get("days") == "all", slot, lang)
    return said + in_zone(fields.get("zone"), lang) + change_words(fields, lang)


def change_words(fields: Fields, lang: str) -> str:
    """Return what the fields ``gap`` and ``fold`` say of changes of the clock, to be said at the end."""
    said = ""
    for name in ("gap", "fold"):
        if (value := fields.get(name)) is not None:
            said += ("," if lang == "zh" else ", ") + _CLOCK[name, value][lang == "zh"]
    return said


@lru_cache(maxsize=1024)
def _said(expression: str, all_days: bool, slot: str | None, lang: str) -> str:
    read = read_cron(expression, all_days=all_days, slot=slot)
    often, daily = _times(read, lang)
    days = _days(read.days.rule, lang)
    if lang == "zh":
        days = days or ("每天" if daily else "")
        return f"{days} {often}" if days and often[0] != "每" else days + often
    days = days or ("every day" if daily else "")
    return f"{often}, {days}" if days else often


def weekday_words(weekdays: frozenset[int], lang: str) -> str:
    """Return days of the week, Sunday = 0, as people say them; an empty text for all."""
    if len(weekdays) == 7:
        return ""
    zh = lang == "zh"
    names = _WEEKDAYS_ZH if zh else _WEEKDAYS
    return _spans(_from_monday(weekdays), 7, lang, lambda day: names[day % 7], 1)


# --- times of day ---------------------------------------------------------------------------------------


def _times(read: Cron, lang: str) -> tuple[str, bool]:
    """Return how often within a day, and whether the reader has to be told that this is so every day."""
    times = [start + second for start in read.times.starts for second in read.times.seconds]
    zh = lang == "zh"
    steady = _steady(times)
    if len(times) > 3 and steady is not None:
        step, first, last = steady
        often = every(timedelta(seconds=step), lang)
        if step * len(times) == DAY:
            return _all_day(often, step, first, lang), False
        if zh:
            return f"{clock(first)}至{clock(last)} {often}", True
        return f"{often} from {clock(first)} to {clock(last)}", True
    if len(times) <= LISTED_MAX:
        shown = listed([clock(time) for time in times], lang)
        return shown if zh else f"at {shown}", True
    return _of_hours(read, lang), len(read.hours) < 24


def _steady(times: Sequence[int]) -> tuple[int, int, int] | None:
    """Return step, first and last of times that come evenly, perhaps over midnight; None of others."""
    turns = [(after - before) % DAY for before, after in zip(times, (*times[1:], times[0]), strict=True)]
    odd = max(turns)
    step = min(turns)
    if odd == step:
        return step, times[0], times[-1]
    place = turns.index(odd)
    if any(turn != step for turn in (*turns[:place], *turns[place + 1 :])):
        return None
    return step, times[(place + 1) % len(times)], times[place]


def _all_day(often: str, step: int, first: int, lang: str) -> str:
    """Return what comes evenly all day long. ``first`` is how far into the day it begins."""
    if not first:
        return often
    if step == 3600 and not first % 60:
        return f"{often}第{first // 60}分" if lang == "zh" else f"{often} at :{first // 60:02}"
    if step == 60:
        return f"{often}第{first}秒" if lang == "zh" else f"{often} at second {first}"
    return f"{clock(first)}起{often}" if lang == "zh" else f"{often} from {clock(first)}"


def _of_hours(read: Cron, lang: str) -> str:
    """Return what comes unevenly: these seconds of these minutes of these hours."""
    zh = lang == "zh"
    hours = "" if len(read.hours) == 24 else _spans(read.hours, 24, lang)
    minutes = "" if len(read.minutes) == 60 else _spans(read.minutes, 60, lang)
    seconds = "" if len(read.seconds) == 60 else _spans(read.seconds, 60, lang)
    steady = _steady([60 * minute for minute in read.minutes])
    if read.seconds == (0,) and steady and steady[0] * len(read.minutes) == 3600 and not steady[1]:
        often = every(timedelta(seconds=steady[0]), lang)
        return f"{hours}时的{often}" if zh else f"{often} of {_counted('the hour', hours)}"
    if zh:
        said = f"{hours}时" if hours else "每小时"
        said += f"的第{minutes}分" if minutes else "的每分钟"
        return said if read.seconds == (0,) else said + (f"的第{seconds}秒" if seconds else "的每秒")
    of_hours = f" of {_counted('the hour', hours)}" if hours else " of every hour"
    if read.seconds == (0,):
        return f"at {_counted('minute', minutes)}{of_hours}"
    of_minutes = f" of {_counted('minute', minutes)}" if minutes else " of every minute"
    return (f"at {_counted('second', seconds)}" if seconds else "every second") + (
        of_minutes + (of_hours if hours or minutes else "")
    )


def _counted(noun: str, numbers: str) -> str:
    return f"{noun} {numbers}" if numbers.isdigit() else f"{noun}s {numbers}"


def clock(second: int) -> str:
    """Return a second of the day as a clock shows it, without seconds where they are 0."""
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return f"{text}:{second % 60:02}" if second % 60 else text


def _spans(
    values: Sequence[int], turn: int, lang: str, name: Callable[[int], str] = str, low: int = 0
) -> str:
    """Return numbers with those that follow each other joined: ``1, 4 and 9 to 17``. They may wrap round."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    wraps = turn != 60 and len(runs) > 1 and runs[0][0] == low and runs[-1][-1] == low + turn - 1
    if wraps and len(runs[0]) + len(runs[-1]) > 2:
        runs = [*runs[1:-1], runs[-1] + runs[0]]
    said = []
    for run in runs:
        if len(run) > 2:
            said.append(f"{name(run[0])}{'至' if lang == 'zh' else ' to '}{name(run[-1])}")
        else:
            said += [name(value) for value in run]
    return listed(said, lang)


# --- days -----------------------------------------------------------------------------------------------


def _days(rule: DayRule, lang: str) -> str:
    """Return which days are meant, an empty text for all."""
    any_date, any_weekday = len(rule.days) == 31, len(rule.weekdays) == 7
    if not rule.both and (any_date or any_weekday):
        any_date = any_weekday = True
    if lang == "zh":
        return _days_zh(rule, any_date, any_weekday)
    months = "" if len(rule.months) == 12 else _spans(sorted(rule.months), 12, "en", _month, 1)
    of = f" of {months}" if months else " of the month"
    within = f" in {months}" if months and not rule.nth else ""
    dates, weekdays = f"on {_dates(rule)}{of}", _weekdays(rule, of)
    if any_date and any_weekday:
        return f"every day in {months}" if months else ""
    if any_weekday:
        return dates
    if any_date:
        return weekdays + within
    if rule.both:
        return f"{dates} if that is {weekdays.removeprefix('on ').removeprefix('every ')}"
    return f"{dates} and {weekdays}{within}"


def _dates(rule: DayRule) -> str:
    days, said = sorted(rule.days), list[str]()
    step = _step_of(days)
    if step:
        tail = "" if days[-1] + step > 31 else f" to the {_ordinal(days[-1])}"
        said.append(f"every {_ordinal(step)} day from the {_ordinal(days[0])}{tail}")
    elif days:
        said.append(_spans(days, 60, "en", lambda day: f"the {_ordinal(day)}"))
    for back in sorted(rule.from_last):
        said.append(f"the {_ordinal(back + 1)}-last day" if back else "the last day")
    for day in sorted(rule.workdays):
        said.append(f"the weekday nearest to the {_ordinal(day)}" if day else "the last weekday")
    return listed(said, "en")


def _weekdays(rule: DayRule, of: str) -> str:
    said = list[str]()
    if 0 < len(rule.weekdays) < 7:
        said.append(weekday_words(rule.weekdays, "en"))
    said += [f"the {_NTH[which]} {_WEEKDAYS[day]}" for day, which in _in_order(rule.nth)]
    if not said:
        return ""
    if rule.nth:
        return f"on {listed(said, 'en')}{of}"
    return said[0] if " to " in said[0] else f"every {said[0]}"


def _days_zh(rule: DayRule, any_date: bool, any_weekday: bool) -> str:
    months = (
        "" if len(rule.months) == 12 else _spans(sorted(rule.months), 12, "zh", lambda month: f"{month}月", 1)
    )
    both = not (any_date or any_weekday)
    # "1月1日" where there is one month, "1月、7月的1日" where there are more.
    of = (f"每年{months}" + ("的" if len(rule.months) > 1 or both else "")) if months else "每月"
    weekdays = _weekdays_zh(rule)
    each = "" if "至" in weekdays or rule.nth else "每"
    if any_date and any_weekday:
        return f"每年{months}每天" if months else ""
    if any_weekday:
        return of + _dates_zh(rule)
    if any_date:
        if months:
            return f"每年{months}的{weekdays}"
        return of + weekdays if rule.nth else each + weekdays
    joined = "且为" if rule.both else f"以及{each and '每个'}"
    return of + _dates_zh(rule) + joined + weekdays


def _dates_zh(rule: DayRule) -> str:
    days, said = sorted(rule.days), list[str]()
    step = _step_of(days)
    if step:
        tail = "" if days[-1] + step > 31 else f"至{days[-1]}日"
        said.append(f"{days[0]}日起{tail}每{step}天")
    elif days:
        said.append(_spans(days, 60, "zh", lambda day: f"{day}日"))
    said += [f"倒数第{back + 1}天" if back else "最后一天" for back in sorted(rule.from_last)]
    for day in sorted(rule.workdays):
        said.append(f"最接近{day}日的非周末日" if day else "最后一个非周末日")
    return listed(said, "zh")


def _weekdays_zh(rule: DayRule) -> str:
    said = []
    if 0 < len(rule.weekdays) < 7:
        said.append(weekday_words(rule.weekdays, "zh"))
    said += [f"{_NTH_ZH[which]}{_WEEKDAYS_ZH[day]}" for day, which in _in_order(rule.nth)]
    return listed(said, "zh")


def _from_monday(weekdays: frozenset[int]) -> list[int]:
    """Return weekdays as 1 to 7, for people begin a week on Monday when they list it."""
    return sorted(day or 7 for day in weekdays)


def _in_order(nth: frozenset[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(nth, key=lambda each: (each[1] or 6, each[0] or 7))


def _step_of(days: Sequence[int]) -> int:
    """Return the step of days that come evenly, 0 for others."""
    steps = {after - before for before, after in pairwise(days)}
    return steps.pop() if len(days) > 3 and len(steps) == 1 and 1 not in steps else 0


def _month(number: int) -> str:
    return _MONTHS[number - 1]


def _ordinal(number: int) -> str:
    if number in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
