"""Have django-celery-beat's own scheduler tick past an instant, and say what it sent: django_edited.py FILE.

Its database is a SQLite file, and its clock is ours: it says how long it sleeps, and so long it is. A row
that is due at T is put two seconds before; it is saved once more a second after T, or left alone.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import django
from celery import Celery, signals
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=["django_celery_beat"],
    USE_TZ=True,
    TIME_ZONE="UTC",
)
django.setup()
call_command("migrate", verbosity=0)

from django_celery_beat.models import CrontabSchedule, PeriodicTask  # noqa: E402  # after django.setup()
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry  # noqa: E402  # after django.setup()
from django_celery_beat.tzcrontab import TzAwareCrontab  # noqa: E402  # after django.setup()

T = datetime(2026, 11, 21, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock:
    """A clock of ours."""

    now = T


timezone.now = lambda: Clock.now
ModelEntry._default_now = lambda self: Clock.now
TzAwareCrontab.nowfunc = lambda self: Clock.now.astimezone(self.tz)

app = Celery("peer", broker="memory://", set_as_current=True)
app.conf.update(timezone="UTC", result_expires=None)
app.now = lambda: Clock.now
sent: list[str] = []


@signals.before_task_publish.connect
def note(headers: dict[str, Any], **_: object) -> None:
    if headers["task"] == "report":
        sent.append(Clock.now.isoformat())


def crontab(minute: str, hour: str) -> CrontabSchedule:
    return CrontabSchedule.objects.get_or_create(minute=minute, hour=hour, timezone="UTC")[0]


def played(*, edited: bool) -> list[str]:
    """Return when the row that is due at T is sent, until a quarter of an hour later."""
    PeriodicTask.objects.all().delete()
    sent.clear()
    Clock.now = T - 33 * SECOND  # it looks every five seconds: 3 s before T, and 2 s after it
    PeriodicTask.objects.create(name="other", task="other", crontab=crontab("30", "23"))
    acts = [(T - 2 * SECOND, {"task": "report", "crontab": crontab("0", "9")})]
    if edited:
        acts.append((T + SECOND, {"description": "for the board"}))
    beat = DatabaseScheduler(app=app)
    at = Clock.now
    while at < T + 900 * SECOND:
        while acts and acts[0][0] <= at:
            Clock.now, fields = acts.pop(0)
            row = PeriodicTask.objects.filter(name="report").first() or PeriodicTask(name="report")
            for name, value in fields.items():
                setattr(row, name, value)
            row.save()
        Clock.now = at
        at += max(min(beat.tick(), beat.max_interval), 0.01) * SECOND
    return list(sent)


print(json.dumps({"edited": played(edited=True), "left alone": played(edited=False)}))
