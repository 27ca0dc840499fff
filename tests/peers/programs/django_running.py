"""Run a beat of django-celery-beat: django_running.py URL PERIODS FILE BROKER; the file is its database."""

import json
import sys

import django
from celery import Celery
from django.conf import settings
from django.core.management import call_command

periods, file, broker = json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": file}},
    INSTALLED_APPS=["django_celery_beat"],
    USE_TZ=True,
    TIME_ZONE="UTC",
)
django.setup()
call_command("migrate", verbosity=0)

from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: E402  # after django.setup()

for name, period in periods.items():
    each, _ = IntervalSchedule.objects.get_or_create(every=period, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name=name, task="shop.note", interval=each, args=json.dumps([name]))
app = Celery("peer", broker=broker, set_as_current=True)
app.conf.update(timezone="UTC", beat_max_loop_interval=1, result_expires=None)
scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
app.Beat(scheduler=scheduler, loglevel="INFO", redirect_stdouts=False).run()
