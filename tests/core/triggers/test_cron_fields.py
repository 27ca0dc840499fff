"""What an expression means, and what is refused, with which words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.triggers.reading import at, forward

from onebeat.core.errors import InvalidInput, InvalidTrigger, LimitExceeded
from onebeat.core.triggers import build, cron, named

# expression, options, first day, number of days, and the occurrences: days of the month, or times of the day
DAYS = [
    ("0 0 * * *", "", "2026-02-27", 3, "27 28 1"),
    ("0 0 1,15 * *", "", "2026-02-01", 29, "1 15 1"),
    ("0 0 */10 * *", "", "2026-01-01", 31, "1 11 21 31"),
    ("0 0 5/10 * *", "", "2026-01-01", 31, "5 15 25"),
    ("0 0 5-20/10 * *", "", "2026-01-01", 31, "5 15"),
    ("0 0 30-2 * *", "", "2026-01-28", 8, "30 31 1 2"),
    ("0 0 * FEB *", "", "2026-01-30", 4, "1 2"),
    ("0 0 1 NOV-feb *", "", "2026-01-01", 365, "1 1 1 1"),
    ("0 0 1 11-2/2 *", "", "2026-01-01", 365, "1 1"),
    ("0 0 L * *", "", "2026-01-01", 90, "31 28 31"),
    ("0 0 L 2 *", "", "2028-02-01", 29, "29"),
    ("0 0 L-1 * *", "", "2026-01-01", 90, "30 27 30"),
    ("0 0 L-30 * *", "", "2026-01-01", 120, "1 1"),
    ("0 0 LW * *", "", "2026-01-01", 90, "30 27 31"),  # 31 January 2026 is a Saturday, 28 February too
    ("0 0 LW 5 *", "", "2026-05-01", 31, "29"),  # 31 May 2026 is a Sunday
    ("0 0 15W 2,3 *", "", "2026-02-01", 58, "16 16"),  # both 15ths are Sundays
    ("0 0 1W 8 *", "", "2026-08-01", 31, "3"),  # 1 August 2026 is a Saturday, and July is another month
    ("0 0 31W * *", "", "2026-05-01", 61, "29"),  # a Sunday; June has none
    ("0 0 10W,L * *", "", "2026-01-01", 31, "9 31"),
    ("0 0 * * 0", "", "2026-11-01", 10, "1 8"),
    ("0 0 * * 7", "", "2026-11-01", 10, "1 8"),
    ("0 0 * * sun", "", "2026-11-01", 10, "1 8"),
    ("0 0 * * 1", "", "2026-11-01", 10, "2 9"),
    ("0 0 * * FRI-MON", "", "2026-11-01", 9, "1 2 6 7 8 9"),
    ("0 0 * * 5-7", "", "2026-11-01", 8, "1 6 7 8"),
    ("0 0 * * 7-2", "", "2026-11-01", 7, "1 2 3"),
    ("0 0 * * 7-7", "", "2026-11-01", 7, "1"),
    ("0 0 * * 0-7", "", "2026-11-01", 7, "1 2 3 4 5 6 7"),
    ("0 0 * * 6-0", "", "2026-11-01", 8, "1 7 8"),
    ("0 0 * * 2/2", "", "2026-11-01", 7, "3 5 7"),
    ("0 0 * * 5L", "", "2026-01-01", 59, "30 27"),
    ("0 0 * * FRIL", "", "2026-01-01", 59, "30 27"),
    ("0 0 * * 7L", "", "2026-01-01", 59, "25 22"),
    ("0 0 * * MON#2", "", "2026-01-01", 59, "12 9"),
    ("0 0 * * 7#5", "", "2026-01-01", 120, "29"),  # only March has five Sundays
    ("0 0 * * MON#1,FRIL", "", "2026-01-01", 31, "5 30"),
    # Two day fields: either is enough, unless one begins with a star, or all days are asked for.
    ("0 0 13 * FRI", "", "2026-11-01", 15, "6 13"),
    ("0 0 10 * FRI", "", "2026-11-01", 15, "6 10 13"),
    ("0 0 13 * FRI", "days=all", "2026-11-01", 60, "13"),
    ("0 0 */2 * FRI", "", "2026-11-01", 30, "13 27"),
    ("0 0 13 * */5", "", "2026-11-01", 60, "13 13"),
    ("0 0 ? * FRI", "", "2026-11-01", 15, "6 13"),
    ("0 0 13 * ?", "", "2026-11-01", 30, "13"),
    ("0 0 L * FRI", "days=all", "2026-01-01", 365, "31"),
    ("0 0 29 2 *", "", "2027-01-01", 1600, "29"),
    ("@yearly", "", "2026-01-01", 366, "1 1"),
    ("@Monthly", "", "2026-01-01", 59, "1 1"),
    ("@weekly", "", "2026-11-01", 10, "1 8"),
    ("@daily", "", "2026-11-01", 2, "1 2"),
    ("@midnight", "", "2026-11-01", 2, "1 2"),
]  # fmt: skip

TIMES = [
    ("0 9 * * *", "09:00:00"),
    ("5,7 9 * * *", "09:05:00 09:07:00"),
    ("*/20 9 * * *", "09:00:00 09:20:00 09:40:00"),
    ("5/20 9 * * *", "09:05:00 09:25:00 09:45:00"),
    ("58-1 9 * * *", "09:00:00 09:01:00 09:58:00 09:59:00"),
    ("58-2/2 9 * * *", "09:00:00 09:02:00 09:58:00"),
    ("0 22-2/2 * * *", "00:00:00 02:00:00 22:00:00"),
    ("30 0 9 * * *", "09:00:30"),
    ("*/30 1,3 9 * * *", "09:01:00 09:01:30 09:03:00 09:03:30"),
    ("5,59 59 23 * * *", "23:59:05 23:59:59"),
    ("\t0   9\t* * * ", "09:00:00"),
    ("00 09 * * *", "09:00:00"),
]


def options(text: str) -> dict[str, Any]:
    return dict(part.split("=") for part in text.split())


@pytest.mark.parametrize(("expression", "given", "start", "days", "expected"), DAYS)
def test_the_days_that_an_expression_means(
    expression: str, given: str, start: str, days: int, expected: str
) -> None:
    found = forward(cron(expression, **options(given)), at(start), at(start) + timedelta(days=days))

    assert " ".join(str(each.day) for each in found) == expected


@pytest.mark.parametrize(("expression", "expected"), TIMES)
def test_the_times_that_an_expression_means(expression: str, expected: str) -> None:
    found = forward(cron(expression), at("2026-11-21"), at("2026-11-22"))

    assert " ".join(f"{each:%H:%M:%S}" for each in found) == expected


def test_hourly_means_every_hour() -> None:
    assert len(forward(cron("@hourly"), at("2026-11-21"), at("2026-11-22"))) == 24


# expression, and words that the refusal must hold: what is wrong, and what to write
REFUSED = {
    "": "0 fields; write five",
    "   ": "0 fields",
    "0 9 * *": "has 4 fields; write five",
    "0 0 9 * * * *": "seven fields; none for the year; .between(",
    "0 9 1 1 * 2026": "2026; .between(",
    "60 * * * *": "minute field; 60; the full hour is minute 0",
    "61 * * * *": "minute field; 61; 0 to 59",
    "0 24 * * *": "hour field; midnight is hour 0",
    "60 * * * * *": "second field; second 0",
    "0 0 0 * *": "day of month field; 'L'",
    "0 0 32 * *": "day of month field; 1 to 31",
    "0 0 1 0 *": "month field; January is 1",
    "0 0 1 13 *": "month field; 1 to 12, or JAN to DEC",
    "0 0 * * 8": "day of week field; 0 to 7 (0 and 7 are Sunday), or SUN to SAT",
    "99999999999999999999 * * * *": "minute field; 0 to 59",
    "5-60 * * * *": "minute field; '5-60'; 60",
    "-5 * * * *": "minute field; nothing where a value belongs",
    "5- * * * *": "minute field; nothing where a value belongs",
    "1,,2 * * * *": "minute field; nothing beside a comma",
    ",1 * * * *": "minute field; nothing beside a comma",
    "*/0 * * * *": "step of 0; at least 1",
    "*/ * * * *": "step; a whole number",
    "*/x * * * *": "'X' for a step",
    "*/5/5 * * * *": "'5/5' for a step",
    "*/-5 * * * *": "'-5' for a step",
    "*/90 * * * *": "steps by 90 over 60 values; interval()",
    "0 */25 * * *": "steps by 25 over 24 values",
    "10-20/15 * * * *": "steps by 15 over 11 values",
    "59/15 * * * *": "steps by 15 over 1 value,; write that value alone",
    "*5 * * * *": "'*5' where a value belongs",
    "*-5 * * * *": "'*' where a value belongs",
    "? 9 * * *": "'?' where a value belongs",
    "0 9 ?/2 * *": "'?' where a value belongs",
    "H-5 9 * * *": "is no slot; write 'H', 'H/15', 'H(0-29)' or 'H(0-29)/10'",
    "H(0-60) 9 * * *": "has 60, which no minute is",
    "H(30-0) 9 * * *": "has a range from 30 to 0, which is none; write 'H(0-30)'",
    "H/61 * * * *": "steps by 61 over 60 values",
    "H(0-9)/0 * * * *": "a step of 0",
    "H(0) * * * *": "is no slot",
    "H/x * * * *": "'X' for a step",
    "0 9 H(30-31) 2 *": "never comes",
    "0 9 * * MUN": "'MUN' where a value belongs; did you mean 'SUN'?",
    "0 9 * * MONDAY": "'MONDAY' where a value belongs; did you mean 'MON'?",
    "0 9 * JAM *": "did you mean 'JAN'?",
    "0 9 * * JAN": "names a month; order of the fields",
    "0 9 MON * *": "names a day of week; order of the fields",
    "0 9 L5 * *": "joins L; 'L-3'",
    "0 9 L/2 * *": "joins L",
    "0 9 1-L * *": "joins L",
    "0 9 L-0 * *": "goes back by '0'; L-1 to L-30",
    "0 9 L-31 * *": "goes back by '31'",
    "0 9 L-3W * *": "goes back by '3W'",
    "0 9 W * *": "joins W; '15W'",
    "0 9 1-15W * *": "joins W",
    "0 9 32W * *": "32; 1 to 31",
    "0 9 * * L": "L that every system; '5L'; 6 for Saturday",
    "0 9 * * L5": "L that every system; '5L'",
    "0 9 * * LMON": "'MONL'",
    "0 9 * * 1-5L": "'1-5' where a value belongs",
    "0 9 * * MON#0": "number '0'; MON#1 to MON#5",
    "0 9 * * MON#6": "number '6'; MONL",
    "0 9 * * #2": "nothing where a value belongs",
    "0 9 * * MON-FRI#2": "'MON-FRI' where a value belongs",
    "0 9 * * 8#1": "8; 0 to 7",
    "0 0 30 2 *": "never comes; month '2' has no day '30'; 'L'",
    "0 0 31 2,4,6,9,11 *": "never comes",
    "0 0 31W FEB *": "never comes",
    "0 0 L-29 2 *": "never comes",
    "@reboot": "names no instant; nodes come and go",
    "@every 5m": "interval(minutes=5)",
    "@hurly": "no macro; did you mean '@hourly'?",
    "@": "no macro",
    "CRON_TZ=Europe/Paris 0 9 * * *": "begins with a zone; zone=",
    "TZ=UTC 0 9 * * *": "begins with a zone",
    "0 9 * * *\n": "'\\n'; one line",
    "0\x009 * * *": "'\\x00'",
    "0 9 * * \x7f": "'\\x7f'",
    "0 9 * * ١": "'\\u0661'; ASCII",
    "０ 9 * * *": "'\\uff10'; ASCII",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_a_refusal_says_what_is_wrong_and_what_to_write(expression: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        cron(expression)

    for words in REFUSED[expression].split("; "):
        assert words in str(caught.value)
    assert str(caught.value).count("; ") >= 1


def test_30_february_may_be_met_by_a_weekday_instead() -> None:
    assert build(cron("0 0 30 2 MON")).after(at("2026-01-01")) == at("2026-02-02")
    with pytest.raises(InvalidTrigger, match="never comes"):
        cron("0 0 30 2 MON", days="all")


@pytest.mark.parametrize("size", [1_001, 10_000, 1_000_000])
def test_a_long_text_is_refused_unread(size: int) -> None:
    with pytest.raises(LimitExceeded, match=r"at most 1,000 are read|at most 65,536 are allowed") as caught:
        cron("1," * (size // 2) + "1 * * * *")

    assert len(str(caught.value)) < 300


def test_a_text_of_the_greatest_length_is_read() -> None:
    text = ",".join(["1"] * 496) + " * * * *"

    assert len(text) == 999
    assert build(cron(text)).after(at("2026-01-01")) == at("2026-01-01T00:01")


@pytest.mark.parametrize("value", [None, 5, b"0 9 * * *", ["0 9 * * *"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidTrigger, match="is no text; write"):
        cron(value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"days": "some"}, "days"),
        ({"gap": "jump"}, "gap"),
        ({"fold": "third"}, "fold"),
        ({"zone": "Europe/Pariss"}, "did you mean 'Europe/Paris'?"),
        ({"zone": "europe/paris"}, "did you mean 'Europe/Paris'?"),
        ({"zone": "America/New York"}, "did you mean 'America/New_York'?"),
        ({"zone": "+02:00"}, "never an offset"),
        ({"zone": 2}, "zone"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        cron("0 9 * * *", **given)

    assert words in str(caught.value)


@given(st.text(max_size=60) | st.text("0123456789*/-,?LWH#@ MONJAFEB", max_size=60))
def test_any_text_is_understood_or_refused_in_a_few_words(text: str) -> None:
    try:
        spec = cron(text)
    except InvalidInput as refusal:
        words = str(refusal)
    else:
        words = "understood: " + str(build(named(spec, "report")).after(at("2026-01-01")))

    assert 20 < len(words) < 500
