"""APScheduler 3: `python aps3.py setup` adds the jobs; `… node` is a process that runs them.

Nodes never add a job, since adding it again would forget what it owes. The scheduler is the blocking one, so
that an error in its loop ends the process and a supervisor sees it; a background one would end unseen. An
edit is done by the node that is told to, on its own scheduler.
"""

import logging
import os
import sys
import threading
from datetime import UTC

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.schedulers.blocking import BlockingScheduler
from apscheduler.triggers.cron import CronTrigger
from body import SCHEDULES


def store() -> object:
    """Return the job store. Its connections notice within seconds that nobody answers."""
    if "PEER_POSTGRES" in os.environ:
        from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

        return SQLAlchemyJobStore(
            f"postgresql+psycopg://onebeat@127.0.0.1:{os.environ['PEER_POSTGRES']}/postgres",
            engine_options={
                "pool_pre_ping": True,
                "connect_args": {"connect_timeout": 3, "tcp_user_timeout": 3000},
            },
        )
    from apscheduler.jobstores.redis import RedisJobStore

    return RedisJobStore(
        host="127.0.0.1", port=int(os.environ["PEER_REDIS"]), socket_timeout=3, socket_connect_timeout=3
    )


def listen(scheduler: BaseScheduler) -> None:
    """Edit the schedule that each line of the input names: another title, the same trigger."""
    for number, line in enumerate(sys.stdin):
        scheduler.modify_job(line.strip(), name=f"edited {number}")


settings = {
    "jobstores": {"default": store()},
    "job_defaults": {"misfire_grace_time": None, "coalesce": False, "max_instances": 100},
    "jobstore_retry_interval": 1,
    "timezone": UTC,
}
if sys.argv[1] == "setup":
    setup = BackgroundScheduler(**settings)
    setup.start(paused=True)
    for name, period in SCHEDULES.items():
        setup.add_job("body:said", CronTrigger(second=f"*/{period}", timezone=UTC), args=[name], id=name)
    setup.shutdown()
else:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    node = BlockingScheduler(**settings)
    threading.Thread(target=listen, args=(node,), daemon=True).start()
    node.start()
