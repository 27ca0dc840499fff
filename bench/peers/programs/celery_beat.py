"""Celery Beat: python celery_beat.py URL COUNT DUE. Entries in the configuration, a Redis broker."""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery, signals

EVERY = timedelta(hours=1)

url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
app = Celery("peer", broker=url)
app.conf.update(timezone="UTC", enable_utc=True, task_ignore_result=True)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""


app.conf.beat_schedule = {
    f"s{number}": {"task": "noop", "schedule": EVERY, "last_run_at": due - EVERY} for number in range(count)
}
signals.beat_init.connect(lambda **_: print("ready", flush=True), weak=False)
with tempfile.TemporaryDirectory() as folder:
    app.Beat(schedule=str(Path(folder) / "beat"), loglevel="ERROR", quiet=True, redirect_stdouts=False).run()
