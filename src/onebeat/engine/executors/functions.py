"""Python functions: what an address may name here, and how a run's arguments meet the signature.

Safe by default: an address comes out of the store, so it may name only what this process was told to allow,
functions registered in code and modules under listed prefixes. Nothing else is imported, and what another
module merely imported (``shop.orders:os.system``) is not reached through it.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

from onebeat.core.errors import InvalidInput, TargetNotFound, near_miss, shown
from onebeat.core.messages import Claimed
from onebeat.core.model import Target
from onebeat.core.targets import address_of, imported_as, is_async
from onebeat.engine.current import CurrentRun

CHECKED_MAX = 10_000

_SCALARS = (str, int, float, bool, type(None))


class Function(NamedTuple):
    """A resolved target: what to call, and where its run goes (an index, a keyword, or nowhere)."""

    call: Callable[..., Any]
    signature: inspect.Signature | None
    run_index: int | None
    run_name: str | None
    is_async: bool

    def bound(self, target: Target, run: object, *, check: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of one call, with ``run`` put where the function wants it.

        Raises InvalidInput where they do not fit the signature, if asked to ``check``.
        """
        args = _fresh(target.args) if target.args else ()
        kwargs = _fresh(target.kwargs) if target.kwargs else {}
        if self.run_name is not None and self.run_name not in kwargs:
            if self.run_index is not None and self.run_index <= len(args):
                args = (*args[: self.run_index], run, *args[self.run_index :])
            else:
                kwargs[self.run_name] = run
        if check and self.signature is not None:
            try:
                self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidInput(
                    f"{target.address}{self.signature} does not take what the schedule gives it, "
                    f"args {shown(list(target.args))} and kwargs {shown(target.kwargs)}: {error}; edit the "
                    "schedule's arguments or the function"
                ) from None
        return args, kwargs

    def refuse_async(self, target: Target) -> None:
        """Raise InvalidInput for a coroutine function, which cannot have its run's transaction."""
        if self.is_async:
            raise InvalidInput(
                f"{target.address} is a coroutine function, and transactional=True lends a connection that "
                "waits without awaiting; make it a plain function"
            )


class Functions:
    """What may run here: functions, and modules by prefix (``shop`` allows ``shop`` and ``shop.orders``)."""

    def __init__(self, allow: Iterable[str | Callable[..., Any]] = ()) -> None:
        self._prefixes: tuple[str, ...] = ()
        self._known: dict[str, Function] = {}
        self._registered: dict[str, Callable[..., Any]] = {}
        self._checked: set[tuple[int, int]] = set()  # definitions whose arguments are known to fit
        self.allow(*allow)

    def allow(self, *what: str | Callable[..., Any]) -> None:
        """Allow functions, and modules by prefix."""
        for item in what:
            if isinstance(item, str):
                self._prefixes = (*self._prefixes, item.rstrip("."))
            else:
                self.register(address_of(item), item)

    def register(self, address: str, function: Callable[..., Any]) -> None:
        """Have an address name this function here, whatever it named before."""
        self._registered[address] = function
        self._known.pop(address, None)

    @property
    def modules(self) -> list[str]:
        """Return the prefixes of modules that another process needs to find the same functions."""
        return sorted({*self._prefixes, *(address.partition(":")[0] for address in self._registered)})

    def resolve(self, target: Target) -> Function:
        """Return the function of a target, as ``Executor.resolve`` says: raises what that raises."""
        function = self.at(target.address)
        function.bound(target, None, check=True)
        return function

    def prepared(self, claimed: Claimed, run: CurrentRun) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
        """Return the function of a run and what to call it with. Raises TargetNotFound and InvalidInput."""
        fits = (claimed.run.schedule_id, claimed.run.number)
        target = claimed.definition.target
        function = self.at(target.address)
        args, kwargs = function.bound(target, run, check=fits not in self._checked)
        if len(self._checked) >= CHECKED_MAX:
            self._checked.clear()  # one-offs come by the million, each with a definition of its own
        self._checked.add(fits)
        return function, args, kwargs

    def at(self, address: str) -> Function:
        """Return what an address names. Raises TargetNotFound."""
        function = self._known.get(address)
        if function is None:
            function = self._known[address] = _analysed(self._found(address))
        return function

    def _found(self, address: str) -> Callable[..., Any]:
        """Return what an address names, importing only what is allowed. Raises TargetNotFound."""
        if (registered := self._registered.get(address)) is not None:
            return registered
        module_name, _, path = address.partition(":")
        if not self._allowed(module_name):
            raise TargetNotFound(
                f"python target {shown(address)} is not allowed here: it is no registered function, and its "
                f"module is under none of the allowed prefixes {list(self._prefixes)}"
                f"{near_miss(address, self._registered)}; register the function or allow its module"
            )
        parts = path.split(".")
        if not all(part.isidentifier() and not part.startswith("__") for part in parts):
            raise TargetNotFound(f"{shown(address)} is no address of a function: write module:function")
        try:
            found: Any = _started_as(module_name) or importlib.import_module(module_name)
        except Exception as error:  # an import runs any code, so it raises anything
            raise TargetNotFound(
                f"module {module_name!r} of target {shown(address)} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        for part in parts:
            known = dir(found)
            found = getattr(found, part, None)
            if found is None:
                raise TargetNotFound(
                    f"there is no function {path!r} in {module_name}{near_miss(part, known)}"
                )
        # What it is called says nothing of what it is: another module's function may be reached through here.
        home = getattr(found, "__module__", None)
        if home == "__main__" and _started_as(module_name) is not None:
            home = module_name
        if not callable(found) or not isinstance(home, str) or not self._allowed(home):
            raise TargetNotFound(
                f"{shown(address)} names {type(found).__name__} of module {home!r}, no function of an "
                "allowed module; give the address under which it was defined, or register it"
            )
        return found  # type: ignore[no-any-return]  # an attribute of a module; callable, as tested above

    def _allowed(self, module_name: str) -> bool:
        return any(module_name == prefix or module_name.startswith(prefix + ".") for prefix in self._prefixes)


def _started_as(module_name: str) -> ModuleType | None:
    """Return the module that this process was started with, if that is its name elsewhere.

    Importing it under that name would run it a second time: it would declare, or serve, once more.
    """
    main = sys.modules.get("__main__")
    if main is None or module_name in sys.modules or not hasattr(main, "__file__"):
        return None
    return main if imported_as(vars(main)) == module_name else None


def _analysed(call: Callable[..., Any]) -> Function:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # a few builtins say nothing of themselves
        return Function(call, None, None, None, False)
    run_index, run_name = None, None
    for index, (name, parameter) in enumerate(signature.parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "run" or _wants_run(parameter.annotation):
            run_name = name
            run_index = None if parameter.kind is parameter.KEYWORD_ONLY else index
            break
    return Function(call, signature, run_index, run_name, is_async(call))


def _wants_run(annotation: object) -> bool:
    # With postponed annotations it is a text; resolving that would run code of the annotated module.
    return annotation is CurrentRun or (
        isinstance(annotation, str) and annotation.rpartition(".")[2] == CurrentRun.__name__
    )


def _fresh(value: Any) -> Any:
    """Return JSON data that a body may change: the definition it comes from is shared by all runs."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return {key: _fresh(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_fresh(item) for item in value) if value else value
    return [_fresh(item) for item in value]
