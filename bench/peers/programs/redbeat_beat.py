"""Celery Beat with redbeat: python redbeat_beat.py URL COUNT DUE. Entries and broker in one Redis."""

import sys
from datetime import UTC, datetime, timedelta

from celery import Celery, signals
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry

EVERY = timedelta(hours=1)

url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
app = Celery("peer", broker=url)
app.conf.update(timezone="UTC", enable_utc=True, task_ignore_result=True, redbeat_redis_url=url)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""


for number in range(count):
    RedBeatSchedulerEntry(
        f"s{number}", "noop", schedule(EVERY, app=app), last_run_at=due - EVERY, app=app
    ).save()
signals.beat_init.connect(lambda **_: print("ready", flush=True), weak=False)
app.Beat(scheduler="redbeat.RedBeatScheduler", loglevel="ERROR", quiet=True, redirect_stdouts=False).run()
