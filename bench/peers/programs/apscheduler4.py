"""APScheduler 4: python apscheduler4.py URL COUNT DUE. It runs nothing itself: a job row for each fire."""

import sys
from datetime import UTC, datetime

import anyio
from apscheduler import AsyncScheduler, SchedulerRole
from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
from apscheduler.eventbrokers.asyncpg import AsyncpgEventBroker
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.ext.asyncio import create_async_engine


def noop() -> None:
    """Do nothing."""


async def main(url: str, count: int, due: datetime) -> None:
    """Add the schedules, then fire them when they are due."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    stores = SQLAlchemyDataStore(engine), AsyncpgEventBroker.from_async_sqla_engine(engine)
    async with AsyncScheduler(*stores, role=SchedulerRole.scheduler) as scheduler:
        for number in range(count):
            await scheduler.add_schedule(noop, IntervalTrigger(hours=1, start_time=due), id=f"s{number}")
        print("ready", flush=True)
        await scheduler.run_until_stopped()


anyio.run(main, sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC))
