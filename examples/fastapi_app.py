"""FastAPI: deadlines made by request handlers, and a node that lives as long as the app.

Onebeat waits for its ledger without awaiting, so an event loop calls it through `asyncio.to_thread`. Start as
many workers as you like: each has a node, and whichever is free fires and runs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from onebeat import NotFound, Onebeat, call, once, seconds

beat = Onebeat(zone="UTC")
PAY_WITHIN = seconds(1800)
open_orders: set[int] = set()


def close_order(number: int) -> str:
    """Close an order that nobody paid."""
    open_orders.discard(number)
    return f"order {number} closed"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serve on threads beside the event loop, from the app's first request to its last."""
    beat.allow(__name__)
    node = await asyncio.to_thread(beat.service, threads=4)
    node.start()
    try:
        yield
    finally:
        await asyncio.to_thread(node.shutdown)
        await asyncio.to_thread(beat.close)


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{number}")
async def take(number: int, within: float = PAY_WITHIN.total_seconds()) -> dict[str, str | None]:
    """Take an order, and close it if it is not paid in time. Safe to repeat."""
    open_orders.add(number)
    written = await asyncio.to_thread(
        beat.schedules.put,
        f"close-order-{number}",
        once(in_=seconds(within)),
        call(close_order, number),
        if_exists="ignore",
    )
    due = written.schedule.next_at
    return {"closes_at": None if due is None else due.isoformat()}


@app.delete("/orders/{number}/deadline")
async def paid(number: int) -> dict[str, bool]:
    """Take the deadline away: the order is paid."""
    try:
        await asyncio.to_thread(beat.schedules.delete, f"close-order-{number}", "paid")
    except NotFound as error:
        raise HTTPException(404, str(error)) from None
    return {"paid": True}


@app.get("/orders/{number}")
async def look(number: int) -> dict[str, bool]:
    """Say whether an order is open."""
    return {"open": number in open_orders}
