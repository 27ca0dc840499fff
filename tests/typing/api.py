"""How the public names are meant to be used, as mypy --strict reads it. Never run: only checked.

A line that a user may write must pass; one that is wrong carries an ignore that names the error, and mypy
says so when it is no error any more.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import assert_type

from onebeat import (
    CurrentRun,
    Definition,
    Event,
    Onebeat,
    Run,
    RunState,
    Schedule,
    Target,
    TriggerSpec,
    calendar_interval,
    call,
    celery_task,
    cron,
    current,
    dates,
    days,
    holidays,
    hours,
    http,
    interval,
    minutes,
    once,
    process,
    rrule,
    seconds,
    shell,
    solar,
    to_rrule,
    window,
    workdays,
)
from onebeat.app.schedules import Shown

beat = Onebeat("sqlite:///shop.db", zone="Asia/Shanghai", owner="shop", revision=42, modules=["shop"])
Onebeat(zone=8)  # type: ignore[arg-type]  # a zone is a name, never an offset


# --- declaring ------------------------------------------------------------------------------------------


@beat.scheduled("0 9 * * MON-FRI", overlap="skip", catch_up="latest", grace=minutes(10))
def send_daily_report(run: CurrentRun) -> None:
    assert_type(run.occurrence, datetime)
    assert_type(run.previous_at, datetime | None)
    assert_type(run.still_mine(), bool)
    run.progress(1, 10)
    run.log.info("on it")


@beat.scheduled(interval(minutes=2), name="poll", args=[1], kwargs={"deep": True}, attempts=3, timeout=90)
async def poll(number: int, *, deep: bool) -> dict[str, int]:
    return {"number": number}


# A decorated function is still itself, so the rest of the program may call it.
itself: Callable[[CurrentRun], None] = send_daily_report

beat.declare("digest", cron("0 9 * * *") | once(datetime(2026, 11, 21, tzinfo=UTC)), call("shop.mail:digest"))
beat.declare("digest", "0 9 * * *", "shop.mail:digest", queue="mail", tags=["mail"], title="摘要")
beat.declare("digest", "0 9 * * *", send_daily_report, spread=timedelta(minutes=5), on_lost="fail")
beat.declare("digest", "0 9 * * *", "shop.mail:digest", overlapp="skip")  # type: ignore[call-arg]  # a typo
beat.declare("digest", "0 9 * * *", "shop.mail:digest", max_running="1")  # type: ignore[arg-type]  # a number
beat.declare("digest", 60, "shop.mail:digest")  # type: ignore[arg-type]  # interval(minutes=1) is meant


@beat.on("run.failed", "run.timed_out", tag="billing")
def tell(event: Event) -> None:
    assert_type(event.kind, str)
    assert_type(event.schedule, str | None)


# --- acting ---------------------------------------------------------------------------------------------

written = beat.schedules.put(
    "close-17", once(in_=minutes(30)), call("shop.orders:close", 17), if_exists="ignore"
)
assert_type(written.schedule, Schedule)
assert_type(written.warnings, tuple[str, ...])
beat.schedules.put("x", once(in_=hours(1)), "shop:x", if_exists="overwrite")  # type: ignore[arg-type]  # no such word
assert_type(beat.schedules.edit("close-17", grace=None, timeout=seconds(5)).schedule.definition, Definition)
assert_type(beat.schedules.pause("close-17", "lunch").changed, bool)
assert_type(beat.schedules.show("close-17"), Shown)
assert_type(beat.schedules.list(tag="billing"), list[Schedule])
assert_type(beat.runs.request("close-17", key="by-hand"), Run)
assert_type(beat.runs.list(states=[RunState.FAILED, "timed_out"]), list[Run])
assert_type(beat.runs.retry("close-17@20261121T000000Z").state, RunState)

beat.declare("books", "0 9 * * *", "shop.mail:digest", transactional=True, timeout=9)
using = beat.using(object())
assert_type(using.schedules.put("close-18", once(in_=minutes(30)), "shop.orders:close").changed, bool)
using.schedules.put("x", once(in_=hours(1)), "shop:x", if_exists="replace")  # type: ignore[arg-type]  # an edit
assert_type(using.runs.request("close-17"), Run)
using.committed()

# --- asking ---------------------------------------------------------------------------------------------

assert_type(beat.preview("digest", 5), list[datetime])
assert_type(beat.audit(since=datetime.now(UTC) - days(1)).right, bool)
assert_type(beat.why("digest", datetime.now(UTC)).text, str)
assert_type(beat.serve(), bool)
assert_type(current(), CurrentRun | None)
assert_type(beat.words("digest", "zh"), str)
assert_type(
    cron("H 9 * * *", slot="digest") & workdays("CN", less=["2026-12-24", date(2026, 12, 25)]), TriggerSpec
)
assert_type(cron("0 9 * * *").outside(holidays("DE", subdivision="BY") | dates("2026-12-24")), TriggerSpec)
assert_type(interval(minutes=5).within(window("09:00", "17:00", days="MON-FRI")), TriggerSpec)
assert_type(rrule("FREQ=MONTHLY;BYDAY=-1FR", start=date(2026, 1, 31), zone="Europe/Paris"), TriggerSpec)
assert_type(to_rrule(solar("sunset", 59.9, 10.75)), str)
solar("sunrice", 59.9, 10.75)  # type: ignore[arg-type]  # it is sunrise
assert_type(calendar_interval(months=1, at="09:00", start=date(2026, 1, 31)), TriggerSpec)
assert_type(cron("0 9 * * *") & interval(hours=1) - once(datetime.now(UTC)), TriggerSpec)
assert_type(call(send_daily_report), Target)
assert_type(process("shop.pictures:shrink", 17, width=300), Target)
process(17)  # type: ignore[arg-type]  # a function, or its address
assert_type(shell(["pg_dump", "shop"], env={"PGPASSWORD": "env:PGPASSWORD"}, cwd="/srv", input=""), Target)
assert_type(http("https://example.org/hook", json={"a": 1}, ok=["2xx", 404], retry_statuses=503), Target)
assert_type(celery_task("shop.digest", args=[1], kwargs={"to": "a"}, queue="mail", expires=60), Target)
celery_task("shop.digest", que="mail")  # type: ignore[call-arg]  # a typo
shell(["kill", 9])  # type: ignore[list-item]  # words are texts

with beat as same:
    assert_type(same, Onebeat)
