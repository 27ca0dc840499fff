"""Run a beat of redbeat: redbeat_running.py URL PERIODS [FILE BROKER].

PERIODS are seconds by name, as JSON; the broker is the Redis of the entries unless another one is named.
"""

import json
import sys
from datetime import timedelta

from celery import Celery
from celery.schedules import schedule
from redbeat import RedBeatSchedulerEntry

url, periods = sys.argv[1], json.loads(sys.argv[2])
app = Celery("peer", broker=sys.argv[4] if len(sys.argv) > 4 else url, set_as_current=True)
app.conf.update(
    timezone="UTC",
    redbeat_redis_url=url,
    redbeat_lock_timeout=60,
    beat_max_loop_interval=1,
    result_expires=None,
)
for name, period in periods.items():
    when = schedule(timedelta(seconds=period), app=app)
    RedBeatSchedulerEntry(name, "shop.note", when, args=[name], app=app).save()
app.Beat(scheduler="redbeat.RedBeatScheduler", loglevel="INFO", redirect_stdouts=False).run()
