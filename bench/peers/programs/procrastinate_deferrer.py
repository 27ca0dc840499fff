"""Procrastinate: python procrastinate_deferrer.py URL COUNT DUE. Its periodic deferrer: a job row a fire."""

import asyncio
import sys
from datetime import UTC, datetime

from procrastinate import App, PsycopgConnector
from procrastinate.periodic import PeriodicDeferrer

url, count, due = sys.argv[1], int(sys.argv[2]), datetime.fromtimestamp(int(sys.argv[3]), UTC)
app = App(connector=PsycopgConnector(conninfo=url))
# Once a day, at the second that is due.
cron = f"{due.minute} {due.hour} * * * {due.second}"


@app.task(name="noop")
async def noop(timestamp: int) -> None:
    """Do nothing."""


async def main() -> None:
    """Make the tables, then defer what is due."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for number in range(count):
            app.periodic(cron=cron, periodic_id=f"s{number}")(noop)
        print("ready", flush=True)
        await PeriodicDeferrer(registry=app.periodic_registry, **app.periodic_defaults).worker()


asyncio.run(main())
