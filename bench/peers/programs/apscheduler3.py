"""APScheduler 3: python apscheduler3.py URL COUNT DUE. Threads run a no-op; the store keeps the jobs."""

import sys
import threading
from datetime import UTC, datetime
from urllib.parse import urlsplit

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger


def noop() -> None:
    """Do nothing."""


def store(url: str) -> object:
    """Return the job store for a server."""
    if url.startswith("redis"):
        from apscheduler.jobstores.redis import RedisJobStore

        parts = urlsplit(url)
        return RedisJobStore(host=parts.hostname, port=parts.port, db=int(parts.path.strip("/")))
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

    return SQLAlchemyJobStore(url.replace("postgresql://", "postgresql+psycopg://"))


url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
scheduler = BackgroundScheduler(
    jobstores={"default": store(url)},
    job_defaults={"misfire_grace_time": None, "coalesce": True},
    timezone=UTC,
)
scheduler.start()
scheduler.pause()
for number in range(count):
    scheduler.add_job(noop, IntervalTrigger(hours=1, start_date=due, timezone=UTC), id=f"s{number}")
scheduler.resume()
print("ready", flush=True)
threading.Event().wait()
