"""What this process knows of targets: its own functions, and whether arguments fit them.

Only what was declared in code or lies under an allowed module is looked at, beside modules that are imported
already: checking a target must not run code that this process would not have run anyway.
"""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from os import cpu_count
from typing import TYPE_CHECKING, Any

from onebeat.core.errors import MissingExtra, TargetNotFound
from onebeat.core.model import Definition, Target
from onebeat.core.targets import FUNCTIONS

if TYPE_CHECKING:
    from onebeat.app.desk import Desk
    from onebeat.core.ports import Executor

GROUP = "onebeat.executors"
"""Entry points of executors from outside: each a callable that takes ``clock=`` and returns an Executor."""


SWITCHED = {
    "shell": "; only nodes with `onebeat serve --shell` run commands",
    "http": "; nodes need the extra onebeat[http], and --http-allow for what is not the internet",
}
CHECKED = ("celery", "http", "shell")
"""Kinds whose arguments are checked when they are written, for there is nothing to fit them to."""


class Targets:
    """The functions that this app declared, and what can be said of a target from here."""

    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self._functions: dict[str, Callable[..., Any]] = {}
        self._modules: dict[str, None] = dict.fromkeys(desk.modules)
        self._shell = False
        self._http: tuple[str, ...] = ()

    def register(self, address: str, function: Callable[..., Any]) -> None:
        """Have nodes of this app run a function, under its address."""
        self._functions[address] = function

    def allow(self, *modules: str, shell: bool = False, http: Iterable[str] = ()) -> None:
        """Have nodes of this app run functions of modules under these prefixes, and more that is off else."""
        self._modules |= dict.fromkeys(modules)
        self._shell = self._shell or shell
        self._http = (*self._http, *http)

    def declared(self, target: Target) -> None:
        """Have nodes of this app run what was declared in code by its address."""
        if target.kind in FUNCTIONS:
            self.allow(target.address.partition(":")[0])

    def executors(self, threads: int, coroutines: int, processes: int | None, calls: int) -> "list[Executor]":
        """Return new executors for one node: every way to run that there is, and those from outside."""
        from onebeat.core.ports import Sharing
        from onebeat.engine.executors.coroutines import CoroutineExecutor
        from onebeat.engine.executors.http import HttpExecutor
        from onebeat.engine.executors.loop import Loop
        from onebeat.engine.executors.process import ProcessExecutor
        from onebeat.engine.executors.python import PythonExecutor
        from onebeat.engine.executors.shell import ShellExecutor

        store, clock, allowed = self._desk.store, self._desk.clock, tuple(self._allowed())
        sharing = store if isinstance(store, Sharing) else None
        loop = Loop("onebeat-async")  # one for both: coroutines of one program share connections
        found: list[Executor] = [
            PythonExecutor(threads=threads, allow=allowed, clock=clock, sharing=sharing, loop=loop),
            CoroutineExecutor(coroutines=coroutines, allow=allowed, clock=clock, loop=loop),
            ProcessExecutor(processes=processes or cpu_count() or 1, allow=allowed, clock=clock),
            ShellExecutor(slots=threads, on=self._shell, clock=clock),
            HttpExecutor(slots=calls, allow=self._http, clock=clock),
        ]
        return found + [self._loaded(entry.name, entry.load) for entry in entry_points(group=GROUP)]

    def _allowed(self) -> Iterable[str | Callable[..., Any]]:
        return (*self._functions.values(), *self._modules)

    def _loaded(self, name: str, load: Callable[[], Any]) -> "Executor":
        try:
            executor: Executor = load()(clock=self._desk.clock)
        except (ImportError, AttributeError) as error:
            raise MissingExtra(
                f"the executor {name!r} is installed and cannot be loaded: {error}; install it anew, "
                "or remove it"
            ) from error
        return executor

    def unverified(self, target: Target, *, transactional: bool = False) -> str | None:
        """Return why the arguments could not be checked here, None when they were, and fit.

        Raises InvalidInput when they do not fit, or for a coroutine function that is to be ``transactional``.
        """
        if target.kind in CHECKED:
            return None
        if target.kind not in FUNCTIONS:
            return f"targets of kind {target.kind} are checked where they run"
        from onebeat.engine.executors.functions import Functions

        module = target.address.partition(":")[0]
        known = (module,) if module in sys.modules else ()
        try:
            function = Functions((*self._allowed(), *known)).resolve(target)
            if transactional:
                function.refuse_async(target)
        except TargetNotFound:
            return f"{target.address} cannot be reached from here, so its arguments are unverified"
        return None

    def warnings(self, definition: Definition) -> tuple[str, ...]:
        """Return what a person should know of a schedule's target. Raises InvalidInput as ``unverified``."""
        target = definition.target
        unverified = self.unverified(target, transactional=definition.policy.transactional)
        said = [] if unverified is None else [unverified]
        if target.key not in self._desk.announced():
            said.append(
                f"no live node has announced {target.key} so far; one that can run it learns that within a "
                "second, or within 5 minutes where it could not before; until then its runs are parked"
                f"{SWITCHED.get(target.kind, '')}"
            )
        return tuple(said)
