"""What this process knows of targets: its own functions, and whether arguments fit them.

Only what was declared in code or lies under an allowed module is looked at, beside modules that are imported
already: checking a target must not run code that this process would not have run anyway.
"""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from onebeat.core.errors import MissingExtra, TargetNotFound
from onebeat.core.model import Definition, Target

if TYPE_CHECKING:
    from onebeat.app.desk import Desk
    from onebeat.core.ports import Executor

GROUP = "onebeat.executors"
"""Entry points of executors from outside: each a callable that takes ``clock=`` and returns an Executor."""


CHECKED = ("http", "shell")
"""Kinds whose arguments are checked when they are written, for there is nothing to fit them to."""


class Targets:
    """The functions that this app declared, and what can be said of a target from here."""

    def __init__(self, desk: "Desk") -> None:
        self._desk = desk
        self._functions: dict[str, Callable[..., Any]] = {}
        self._modules: dict[str, None] = dict.fromkeys(desk.modules)
        self.shell = False

    def register(self, address: str, function: Callable[..., Any]) -> None:
        """Have nodes of this app run a function, under its address."""
        self._functions[address] = function

    def allow(self, *modules: str) -> None:
        """Have nodes of this app run functions of modules under these prefixes."""
        self._modules |= dict.fromkeys(modules)

    def declared(self, target: Target) -> None:
        """Have nodes of this app run what was declared in code by its address."""
        if target.kind == "python":
            self.allow(target.address.partition(":")[0])

    def executors(self, threads: int) -> "list[Executor]":
        """Return new executors for one node: Python functions on threads, commands, those from outside."""
        from onebeat.core.ports import Sharing
        from onebeat.engine.executors.python import PythonExecutor
        from onebeat.engine.executors.shell import ShellExecutor

        store = self._desk.store
        own = PythonExecutor(
            threads=threads,
            allow=self._allowed(),
            clock=self._desk.clock,
            sharing=store if isinstance(store, Sharing) else None,
        )
        shell = ShellExecutor(slots=threads, on=self.shell, clock=self._desk.clock)
        found: list[Executor] = [own, shell]
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
        if target.kind != "python":
            return f"targets of kind {target.kind} are checked where they run"
        from onebeat.engine.executors.python import PythonExecutor

        module = target.address.partition(":")[0]
        known = (module,) if module in sys.modules else ()
        try:
            executor = PythonExecutor(threads=0, allow=(*self._allowed(), *known))
            executor.resolve(target)
            if transactional:
                executor.refuse_async(target)
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
            )
        return tuple(said)
