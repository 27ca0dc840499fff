"""Have django-celery-beat write rows of each kind: python django_rows.py DATABASE START; say when each comes.

DATABASE is what Django's settings say, as JSON. With DJANGO_LOCAL=1 it has USE_TZ = False.
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import django
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.db import transaction

NEVER = 10_000_000
TICK = timedelta(microseconds=1)
LOCAL = os.environ.get("DJANGO_LOCAL") == "1"

if "mysql" in sys.argv[1]:
    import pymysql

    pymysql.version_info = (2, 2, 1, "final", 0)
    pymysql.install_as_MySQLdb()
settings.configure(
    DATABASES={"default": json.loads(sys.argv[1])},
    INSTALLED_APPS=["django_celery_beat"],
    USE_TZ=not LOCAL,
    TIME_ZONE="Asia/Shanghai",
    DJANGO_CELERY_BEAT_TZ_AWARE=not LOCAL,
)
django.setup()
call_command("migrate", verbosity=0)

from django_celery_beat.models import (  # noqa: E402  # after django.setup()
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from django_celery_beat.schedulers import ModelEntry  # noqa: E402  # after django.setup()

START = datetime.fromisoformat(sys.argv[2])
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
app = Celery("peer", broker="memory://", set_as_current=True)
app.conf.timezone = "Europe/Berlin"


def kept(at: datetime | None) -> datetime | None:
    """Return an instant as this Django keeps it."""
    return at if at is None or not LOCAL else at.astimezone(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None)


def every(count: int, period: str) -> dict[str, object]:
    return {"interval": IntervalSchedule.objects.get_or_create(every=count, period=period)[0]}


def crontab(text: str, zone: str = "Europe/Berlin") -> dict[str, object]:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    fields = dict(zip(names, text.split(), strict=True))
    return {"crontab": CrontabSchedule.objects.get_or_create(**fields, timezone=zone)[0]}


def clocked(at: datetime) -> dict[str, object]:
    return {"clocked": ClockedSchedule.objects.get_or_create(clocked_time=kept(at))[0], "one_off": True}


def row(name: str, *, ran: datetime | None = START, count: int = 0, **fields: object) -> None:
    """Write a row that ran last at an instant, and was changed at the start."""
    PeriodicTask.objects.create(name=name, **{"task": f"shop.{name}", **fields})
    last = ran if ran is None or not LOCAL else ran.astimezone(UTC).replace(tzinfo=None)
    PeriodicTask.objects.filter(name=name).update(
        last_run_at=last, total_run_count=count, date_changed=kept(START)
    )


row("seconds", **every(30, "seconds"))
row("Ninety Minutes", **every(90, "minutes"))
row("half-seconds", **every(500_000, "microseconds"))
row("two-days", **every(2, "days"))
row("never-ran", ran=None, **every(3, "hours"))
row("each-minute", **crontab("* * * * *"))
row("nightly", **crontab("30 3 * * *"))
row("shanghai", **crontab("0 9 * * mon-fri", "Asia/Shanghai"))
row("new-york", **crontab("*/5 8-18/2 * * *", "America/New_York"))
row("friday-13", **crontab("13 13 13 * 5"))
row("in-the-gap", **crontab("30 2 * * *"))
row("sundays", **crontab("0 12 * * sun"))
row("quarters", **crontab("0 0 1 */3 *", "UTC"))
row("soon", ran=None, **clocked(START + HOUR))
row("long-ago", ran=None, **clocked(START - HOUR))
row("once-hourly", one_off=True, **every(1, "hours"))
row("once-nightly", one_off=True, **crontab("30 3 * * *"))
row("once-started", ran=None, one_off=True, start_time=kept(START + 2 * HOUR), **every(7, "hours"))
row("once-started-nightly", ran=None, one_off=True, start_time=kept(START + DAY), **crontab("30 3 * * *"))
row("ten-days", expires=kept(START + 10 * DAY + 2.5 * HOUR), **crontab("30 3 * * *"))
row("starts", ran=None, start_time=kept(START + 1.25 * HOUR), **every(1, "hours"))
row("starts-again", start_time=kept(START + 100 * HOUR), **every(7, "hours"))
row("starts-nightly", start_time=kept(START + 5 * DAY), **crontab("30 3 * * *"))
row("begins-nightly", ran=None, start_time=kept(START + 5 * DAY), **crontab("30 3 * * *"))
row("begins-late", ran=None, start_time=kept(START + 4 * HOUR), **crontab("30 3 * * *"))
row("starts-soon", start_time=kept(START + 5 * HOUR), **every(7, "hours"))


class Clock:
    """A clock of ours."""

    now = START


class Timed(ModelEntry):
    """An entry on that clock."""

    def __init__(self, model: PeriodicTask, app: Celery | None = None) -> None:
        super().__init__(model, app=app)
        self.schedule.nowfun = lambda: Clock.now.astimezone(getattr(self.schedule, "tz", None) or zone)

    def _default_now(self) -> datetime:
        return Clock.now.astimezone(zone)


def comes(model: PeriodicTask) -> list[str]:
    """Return the instants at which a beat that is never late sends a row."""
    found: list[str] = []
    Clock.now = START
    with transaction.atomic():
        entry = Timed(model, app=app)
        while len(found) < 400 and Clock.now <= START + 365 * DAY:
            due, wait = entry.is_due()
            if due:
                found.append(Clock.now.isoformat())
                entry = next(entry)
            if wait is None or wait > NEVER:
                break
            Clock.now += max(timedelta(seconds=wait), TICK)
        transaction.set_rollback(True)
    return found


zone = app.timezone
asked = not LOCAL and "sqlite" in sys.argv[1]  # the same everywhere
COMES = {model.name: comes(model) for model in PeriodicTask.objects.all()} if asked else {}

# Those that come otherwise here, or not at all.
SUNSET = SolarSchedule.objects.get_or_create(event="sunset", latitude="52.520000", longitude="13.400000")[0]
row("sunset", solar=SUNSET)
row("ran", ran=None, enabled=False, **clocked(START - DAY))
row("ran-now", count=1, **clocked(START - HOUR))
row("ran-once", count=1, one_off=True, **every(1, "hours"))
row("expired", expires=kept(START - DAY), **every(1, "days"))
row("off", ran=None, enabled=False, **every(1, "hours"))
row(
    "told",
    args='[1, "two", {"three": null}]',
    kwargs='{"dry": true}',
    queue="mail",
    routing_key="mail.now",
    exchange="",
    priority=0,
    headers='{"a": 1}',
    expire_seconds=60,
    description="what it is for",
    **every(1, "hours"),
)
print(json.dumps(COMES))
