"""Functions that stand for a user's: found by address, as the ones of a real module are."""

from __future__ import annotations

import asyncio
import logging
import os  # noqa: F401 - what a module merely imports must not be reachable through it
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from onebeat.engine.current import CurrentRun, current

entered = threading.Event()
leave = threading.Event()
looked = threading.Event()
_variable: ContextVar[str] = ContextVar("_variable", default="clean")


def nothing() -> None:
    """Do nothing."""


def adds(a: int, b: int = 0) -> int:
    return a + b


def takes_run_first(run: CurrentRun, order: int) -> list[Any]:
    return [run.id, order]


def takes_run_between(order: int, run: CurrentRun, note: str = "") -> list[Any]:
    return [order, run.id, note]


def takes_run_by_name(*, order: int, run: Any) -> list[Any]:
    return [order, run.id]


def annotated(order: int, mine: CurrentRun) -> list[Any]:
    return [order, mine.id]


def has_a_run_of_its_own(run: str) -> str:
    return run


def spoils(items: list[int], table: dict[str, list[int]]) -> int:
    items.append(0)
    table["x"].append(0)
    return len(items) + len(table["x"])


def deep_down() -> str:
    run = current()
    return "" if run is None else run.id


async def coroutine(order: int) -> list[Any]:
    await asyncio.sleep(0)
    return [order, deep_down()]


class Callable:
    def __call__(self, order: int) -> int:
        return order + 1

    def method(self, order: int) -> int:
        return order + 2


instance = Callable()
answers = {"six": 7}


def raises(text: str) -> None:
    def inner() -> None:
        raise ConnectionResetError(text)

    inner()


def exits() -> None:
    sys.exit(3)


def returns_an_object() -> object:
    return object()


def returns_a_tree() -> dict[str, Any]:
    return {"at": datetime(2026, 11, 21, 12, tzinfo=UTC), "ids": {1}}


def returns_much() -> str:
    return "x" * 70_000


def sets_a_context() -> str:
    return variable_of_a_run()


def variable_of_a_run() -> str:
    before = _variable.get()
    _variable.set("left by an earlier run")
    return before


def hangs() -> str:
    entered.set()
    assert leave.wait(20)
    return "at last"


def looks(run: CurrentRun) -> str:
    entered.set()
    while run.still_mine():
        looked.wait(0.001)
    return f"stopped: {run.stop_reason}"


def does_not_look(run: CurrentRun) -> str:
    entered.set()
    assert leave.wait(20)
    return "finished all the same"


def talks(run: CurrentRun) -> None:
    run.log.debug("debug %d", 1)
    run.log.warning("named %(what)s", {"what": "place"})
    logging.getLogger("a.library").warning("from a library")
    logging.getLogger("a.library").info("below its level")
    try:
        raises("oh")
    except ConnectionResetError:
        run.log.exception("it failed")
    run.log.info("bad %d", "format")
    run.progress(1, 3)
    run.progress(2, 3)


def speaks_twice(run: CurrentRun) -> None:
    run.log.info("before")
    entered.set()
    assert leave.wait(20)
    run.log.info("after")


def chatters(run: CurrentRun) -> None:
    for n in range(1500):
        run.log.info("line %d", n)
    run.log.info("x" * 10_000)
