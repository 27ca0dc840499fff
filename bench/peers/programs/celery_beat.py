"""Celery Beat: python celery_beat.py URL COUNT DUE [EVERY]. Entries in the configuration, a Redis broker.

All are due at DUE, and each hour again; or every EVERY seconds, and then their results are wanted, too.
"""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery, signals

url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
every = timedelta(seconds=int(sys.argv[4])) if len(sys.argv) > 4 else timedelta(hours=1)
app = Celery("peer", broker=url)
app.conf.update(timezone="UTC", enable_utc=True, task_ignore_result=len(sys.argv) < 5)


@app.task(name="noop")
def noop() -> None:
    """Do nothing."""


app.conf.beat_schedule = {
    f"s{number}": {"task": "noop", "schedule": every, "last_run_at": due - every} for number in range(count)
}
signals.beat_init.connect(lambda **_: print("ready", flush=True), weak=False)
with tempfile.TemporaryDirectory() as folder:
    app.Beat(schedule=str(Path(folder) / "beat"), loglevel="ERROR", quiet=True, redirect_stdouts=False).run()
