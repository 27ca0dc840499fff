"""Hundreds of feeds, each asked every few seconds, on one thread: coroutine functions share an event loop.

A body that waits costs almost nothing, so a node has a thousand of them under way (`serve --coroutines`).
Past its timeout, or when its run is cancelled, a coroutine is cancelled as asyncio does it: what it has to
put in order, it does in `finally`.
"""

import asyncio

from onebeat import CurrentRun, Onebeat, call, interval, seconds

beat = Onebeat(zone="UTC")
FEEDS = 300
connections = asyncio.Semaphore(50)  # of the one loop that all bodies run on, so all of them can share it


async def ask(run: CurrentRun, feed: int) -> dict[str, int]:
    """Ask one feed for what is new since the last occurrence."""
    async with connections:
        try:
            await asyncio.sleep(0.05)  # the answer of a server far away
        finally:
            run.log.info("feed %d was let go", feed)
    return {"feed": feed}


for number in range(FEEDS):
    beat.declare(
        f"feed-{number}", interval(seconds=5), call(ask, number), overlap="skip", timeout=seconds(30)
    )

if __name__ == "__main__":
    beat.serve()
