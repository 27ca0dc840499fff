"""Celery Beat and django-celery-beat: python django_beat.py URL COUNT DUE [EVERY]. Entries in SQLite.

The broker is Redis. All are due at DUE, and each hour again; or spread over EVERY seconds from there,
and due again after as many.

The database is read when something changes and written every three minutes, so it is not in a fire's way.
"""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django
from celery import Celery, signals
from django.conf import settings
from django.core.management import call_command

url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
spread = timedelta(seconds=int(sys.argv[4])) if len(sys.argv) > 4 else timedelta(0)
every = spread or timedelta(hours=1)
with tempfile.TemporaryDirectory() as folder:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(folder) / "beat.db"}},
        INSTALLED_APPS=["django_celery_beat"],
        USE_TZ=True,
        TIME_ZONE="UTC",
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    app = Celery("peer", broker=url)
    app.conf.update(timezone="UTC", enable_utc=True, task_ignore_result=True)

    @app.task(name="noop")
    def noop(*_: object) -> None:
        """Do nothing."""

    each, _ = IntervalSchedule.objects.get_or_create(
        every=int(every.total_seconds()), period=IntervalSchedule.SECONDS
    )
    PeriodicTask.objects.bulk_create(
        PeriodicTask(
            name=f"s{number}",
            task="noop",
            interval=each,
            args=f"[{number}]",
            last_run_at=due + spread * number / count - every,
        )
        for number in range(count)
    )
    signals.beat_init.connect(lambda **_: print("ready", flush=True), weak=False)
    scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
    app.Beat(scheduler=scheduler, loglevel="ERROR", quiet=True, redirect_stdouts=False).run()
