"""Each executor passes the one suite."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from onebeat.core.model import Json, Target
from onebeat.core.ports import Executor
from onebeat.engine.clock import SystemClock
from onebeat.engine.current import CurrentRun
from onebeat.engine.executors.coroutines import CoroutineExecutor
from onebeat.engine.executors.process import ProcessExecutor
from onebeat.engine.executors.python import PythonExecutor
from onebeat.testing.conformance_executor import PATIENCE_S, ExecutorSuite, Watched

leave = threading.Event()


def good(run: CurrentRun) -> dict[str, int]:
    run.log.info("all is well")
    return {"answer": 42}


def bad() -> None:
    raise ValueError("x" * 100_000)


def large() -> str:
    return "x" * 70_000


def hangs() -> None:
    assert leave.wait(PATIENCE_S)


def looks(run: CurrentRun) -> None:
    while run.still_mine():
        leave.wait(0.001)


async def good_soon(run: CurrentRun) -> dict[str, int]:
    await asyncio.sleep(0)
    return good(run)


async def bad_soon() -> None:
    bad()


async def large_soon() -> str:
    return large()


async def hangs_awaiting() -> None:
    while not leave.is_set():
        await asyncio.sleep(0.001)


class TestPython(ExecutorSuite):
    kind = "python"
    stops = False
    good_result: ClassVar[Json] = {"answer": 42}
    line = "all is well"

    def executor(self) -> Executor:
        return PythonExecutor(threads=4, allow=[good, bad, large, hangs, looks])

    def ready(self) -> None:
        leave.clear()

    def let_go(self) -> None:
        leave.set()

    def target(self, body: Any, *args: Any) -> Target:
        return Target(kind=self.kind, address=f"{__name__}:{body.__name__}", args=args)

    def good(self) -> Target:
        return self.target(good)

    def bad(self) -> Target:
        return self.target(bad)

    def large(self) -> Target:
        return self.target(large)

    def hangs(self) -> Target:
        return self.target(hangs)

    def looks(self) -> Target:
        return self.target(looks)

    def misfit(self) -> Target:
        return self.target(good, 1, 2, 3)

    def refused(self) -> Target:
        return Target(kind=self.kind, address="os:getcwd")


class TestCoroutinesOnThreads(TestPython):
    stops = True

    def executor(self) -> Executor:
        return PythonExecutor(threads=4, allow=[good_soon, bad_soon, large_soon, hangs_awaiting])

    def good(self) -> Target:
        return self.target(good_soon)

    def bad(self) -> Target:
        return self.target(bad_soon)

    def large(self) -> Target:
        return self.target(large_soon)

    def hangs(self) -> Target:
        return self.target(hangs_awaiting)

    def looks(self) -> Target:
        return self.target(hangs_awaiting)

    def misfit(self) -> Target:
        return self.target(good_soon, 1, 2, 3)


class TestCoroutines(TestCoroutinesOnThreads):
    kind = "async"

    def executor(self) -> Executor:
        return CoroutineExecutor(coroutines=4, allow=[good_soon, bad_soon, large_soon, hangs_awaiting])


def waits_for(file: str) -> None:
    """Wait in another process: what that has of this one is a folder."""
    while not Path(file).exists():
        leave.wait(0.01)


def prints(run: CurrentRun) -> dict[str, int]:
    print("all is well")
    return {"answer": 42}


class TestProcesses(TestPython):
    kind = "process"
    stops = True

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.file = tmp_path / "leave"

    def executor(self) -> Executor:
        return ProcessExecutor(processes=4, allow=[__name__], look=timedelta(seconds=0.05))

    def let_go(self) -> None:
        self.file.touch()

    def good(self) -> Target:
        return self.target(prints)

    def hangs(self) -> Target:
        return self.target(waits_for, str(self.file))

    def looks(self) -> Target:
        return self.hangs()


def test_the_executor_of_the_page_about_ways_to_run_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "howto" / "choose-how-to-run.md"
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        if "class Greeter" in block
    )
    names: dict[str, Any] = {}
    exec(code, names)  # what a reader would paste
    watched = Watched(names["greeter"](SystemClock()))
    target = Target(kind="greet", address="world")
    watched.executor.resolve(target)

    watched.start(target)

    assert watched.only().result == "hello, world"
