"""django-celery-beat's entries: `setup` makes them; `editor` saves the one that each line names."""

import sys

import django
from body import SCHEDULES
from django.core.management import call_command
from django.db import close_old_connections

django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: E402  # after django.setup()

if sys.argv[1] == "setup":
    call_command("migrate", verbosity=0)
    for name, period in SCHEDULES.items():
        each, _ = IntervalSchedule.objects.get_or_create(every=period, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.create(name=name, task="effect", interval=each, args=f'["{name}"]')
else:
    for number, line in enumerate(sys.stdin):
        close_old_connections()
        entry = PeriodicTask.objects.get(name=line.strip())
        entry.description = f"edited {number}"
        entry.save()
