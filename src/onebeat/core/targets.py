"""What a run does, as a person writes it: a function, a command, a request to a service, a Celery task.

``call``, ``process``, ``shell``, ``http`` and ``celery_task`` make a target; ``checked_target`` refuses one
that cannot be meant, wherever it came from. Whether a target can be run is not known here: that is for a
process that has it. A value ``env:NAME`` is a reference, looked up in the environment of the node that runs
it: the ledger never has what it stands for.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Unpack

from msgspec import UNSET
from msgspec.structs import replace

from onebeat.core.codec import ARGUMENTS_BYTES_MAX
from onebeat.core.errors import InvalidInput, LimitExceeded, near_miss, shown
from onebeat.core.model import NAME, Json, Target
from onebeat.core.tasks import TaskOptions, check_task, said_of_task

ADDRESS_CHARS_MAX = 500
URL_CHARS_MAX = 8000
REDIRECTS_MAX = 10
FUNCTIONS = ("python", "async", "process")
"""Kinds whose address is a Python function: on a thread, on an event loop, in a process of its own."""
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
OK = ("2xx",)
RETRY_STATUSES = (408, 425, 429, "5xx")

PYTHON_ADDRESS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.([^\W\d]\w*|<locals>))*")
REFERENCE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")

_URL = re.compile(r"(?P<origin>[A-Za-z]+://(?P<authority>[^/?#\\]*))(?P<path>[/?][^#]*)?")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:(?P<port>[0-9]{1,5}))?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_STATUS_CLASS = re.compile(r"[1-5]xx")
_OURS = re.compile(
    r"host|content-length|transfer-encoding|connection|te|trailer|upgrade|expect|proxy-.*|idempotency-key"
    r"|onebeat-.*",
    re.IGNORECASE,
)
_SHELL = ("env", "cwd", "input")
_HTTP = ("method", "json", "body", "headers", "ok", "retry_statuses", "redirects")


# --- building -------------------------------------------------------------------------------------------


def call(function: str | Callable[..., Any], *args: Json, **kwargs: Json) -> Target:
    """Return the target that calls a Python function with these arguments, which must be JSON.

    ``function`` is the function itself, or its address ``module:name``. A coroutine function is awaited on an
    event loop, beside many others; all else runs on a thread, and so does whatever an address names.
    """
    return _target(kind_of(function), address_of(function), args, kwargs)


def process(function: str | Callable[..., Any], *args: Json, **kwargs: Json) -> Target:
    """Return the target that calls a Python function in a process of its own, which can be killed.

    The process imports the function's module anew and stays warm: the next run finds what that left there.
    """
    return _target("process", address_of(function), args, kwargs)


def kind_of(function: str | Callable[..., Any]) -> str:
    """Return how a function is run where nothing else is said: ``async`` or ``python``."""
    if isinstance(function, str):
        return "python"  # whether an address names a coroutine function is known where it is imported
    return "async" if is_async(function) else "python"


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of it has to be awaited."""
    called = getattr(function, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def shell(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    input: str | None = None,
) -> Target:
    """Return the target that runs a command: a program and its arguments, and no shell between them.

    ``argv[0]`` is a program on the node's PATH, or an absolute path. ``env`` adds variables to a small clean
    environment; a value ``env:NAME`` is the node's own variable NAME. ``cwd`` is an absolute path, and
    ``input`` is what the command reads. A node runs commands only where that was switched on.

    Raises InvalidInput for a text: who wants a shell writes ``["/bin/sh", "-c", "…"]``.
    """
    words: object = argv
    if isinstance(words, str) or not isinstance(words, Sequence) or not words:
        raise InvalidInput(
            f"{shown(argv)} is no command: pass a list of its words, e.g. ['pg_dump', '--file', 'shop.sql']; "
            "no shell reads it, and one that is wanted is written ['/bin/sh', '-c', '…']"
        )
    given = {"env": _plain(env), "cwd": cwd, "input": input}
    kwargs = {name: value for name, value in given.items() if value is not None}
    return _target("shell", argv[0], argv[1:], kwargs)


def http(
    url: str,
    *,
    method: str = "POST",
    json: Json = UNSET,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    ok: int | str | Iterable[int | str] | None = None,
    retry_statuses: int | str | Iterable[int | str] | None = None,
    redirects: int = 0,
) -> Target:
    """Return the target that sends a request to an HTTP service: ``json`` or ``body``, or neither.

    ``ok`` are the statuses that mean success, by default 2xx; ``retry_statuses`` those after which a schedule
    with ``attempts`` tries again, by default 408, 425, 429 and 5xx. At most ``redirects`` are followed, by
    default none. A header whose last word is ``env:NAME`` gets the variable NAME of the node, and so does
    ``env:NAME`` in the place of the URL.

    The address is the service alone, ``https://host:port``; its path is the one argument: a node that can
    reach a service can run every target there.
    """
    address, path = _parted(url)
    given: dict[str, Json] = {"json": json, "body": UNSET if body is None else body}
    given["method"] = UNSET if method == "POST" else method
    given["headers"] = UNSET if headers is None else _plain(headers)
    for name, statuses in (("ok", ok), ("retry_statuses", retry_statuses)):
        if statuses is not None:
            given[name] = [statuses] if isinstance(statuses, (int, str)) else _plain(statuses)
    if redirects != 0:
        given["redirects"] = redirects
    kwargs = {name: value for name, value in given.items() if value is not UNSET}
    return _target("http", address, () if path is None else (path,), kwargs)


def celery_task(
    name: str,
    *,
    args: Iterable[Json] = (),
    kwargs: Mapping[str, Json] | None = None,
    guarded: bool = True,
    **options: Unpack[TaskOptions],
) -> Target:
    """Return the target that sends a task to Celery workers, by the name that it is registered under.

    ``options`` are those of ``apply_async`` that are data: queue, routing_key, exchange, priority, headers,
    expires (in seconds from when the run is due), compression, time_limit, soft_time_limit, ignore_result,
    delivery_mode, shadow. ``guarded=False`` is for a fleet whose app does not have
    ``onebeat.celery.install``: its runs end as handed_over, and their schedule must say overlap="allow".

    Raises InvalidInput for what a schedule says itself (eta, countdown, task_id), and for callbacks.
    """
    return task_of(name, args, kwargs, options, guarded=guarded)


def task_of(
    name: str,
    args: Iterable[Json],
    kwargs: Mapping[str, Json] | None,
    options: Mapping[str, Any],
    *,
    guarded: object = True,
) -> Target:
    """Return what ``celery_task`` does, of options that come from elsewhere, whatever their names."""
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise InvalidInput(f"args={shown(args)} is no list of arguments")
    return _target("celery", name, tuple(args), said_of_task(kwargs, guarded, options))


def outside_name(run_id: str) -> str:
    """Return what a run is called where it is handed to: the id of its Celery task, its ``Idempotency-Key``.

    The same in every attempt, and no other run's.
    """
    return run_id


def with_kwargs(target: Target, kwargs: Mapping[str, Json]) -> Target:
    """Return the target with other keyword arguments: a Celery task's stand beside its options."""
    if target.kind != "celery":
        return replace(target, kwargs=dict(kwargs))
    rest = {name: value for name, value in target.kwargs.items() if name != "kwargs"}
    return replace(target, kwargs=({"kwargs": dict(kwargs)} if kwargs else {}) | rest)


def url_of(target: Target) -> str:
    """Return the URL of an HTTP target, as ``http`` was given it."""
    return "".join((target.address, *target.args))


def _plain(given: object) -> Json:
    """Return mappings and lists of any type as JSON has them; what is neither, the check refuses."""
    if isinstance(given, Mapping):
        return dict(given)
    return list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes)) else given


def _target(kind: str, address: str, args: Sequence[Json], kwargs: Mapping[str, Json]) -> Target:
    # Through JSON and back: a tuple is a list from now on, as it will be when it comes out of a store.
    given = {"args": args, "kwargs": kwargs}
    plain = json.loads(_argument_text(given, str(address), secrets=kind not in FUNCTIONS))
    return checked_target(
        Target(kind=kind, address=address, args=tuple(plain["args"]), kwargs=plain["kwargs"])
    )


def address_of(function: str | Callable[..., Any]) -> str:
    """Return ``module:qualname``. Raises InvalidInput for what has no name: no process could find it.

    A function inside another is found where the outer one has run and declared it, and nowhere else.
    """
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or "<lambda>" in name:
        raise InvalidInput(
            f"{shown(function)} has no name to find it by; pass a function that is defined in a module with "
            "def, or its address 'module:name'; its arguments go beside it: call(function, 1, two=2)"
        )
    return f"{imported_as(getattr(function, '__globals__', {})) if module == '__main__' else module}:{name}"


def imported_as(names: Mapping[str, Any]) -> str:
    """Return the name by which other processes import the module that this one was started with.

    ``names`` are that module's own.

    `python shop/beats.py` and `onebeat --app beats:beat serve` declare the same functions, and must give them
    one address: else each would declare what the other cannot run.
    """
    if (spec := names.get("__spec__")) is not None:  # python -m shop.beats
        return str(spec.name)
    stem = PurePath(names.get("__file__") or "").stem
    return stem if stem.isidentifier() else "__main__"


def _parted(url: str) -> tuple[str, str | None]:
    """Return the service of a URL and the path on it."""
    if not isinstance(url, str):
        raise InvalidInput(f"{shown(url)} is no URL; pass a text such as 'https://example.org/hook'")
    if url.startswith("env:"):
        return url, None
    if len(url) > URL_CHARS_MAX:
        raise LimitExceeded(
            f"a URL of {len(url):,} characters is longer than {URL_CHARS_MAX:,}; use the body"
        )
    found = _URL.fullmatch(url)
    if found is None:
        why = "a fragment (#…) is never sent" if "#" in url else "it does not begin with http:// or https://"
        raise InvalidInput(f"{shown(url)} is no URL: {why}; write e.g. 'https://example.org/hook'")
    return found["origin"].lower(), found["path"]


# --- checking -------------------------------------------------------------------------------------------


def checked_target(target: Target) -> Target:
    """Return the target unchanged, or raise InvalidInput. Whether it can be run is not asked here."""
    if not NAME.fullmatch(target.kind):
        raise InvalidInput(f"{shown(target.kind)} is no kind of target; 'python' is one")
    if not NAME.fullmatch(target.queue):
        raise InvalidInput(
            f"{shown(target.queue)} is no queue name: 1 to 100 of a-z, 0-9, '.', '_', '-', beginning with a "
            "letter or digit"
        )
    address: object = target.address
    if not isinstance(address, str) or not 0 < len(address) <= ADDRESS_CHARS_MAX or not address.isprintable():
        raise InvalidInput(
            f"the target address {shown(address)} is not 1 to {ADDRESS_CHARS_MAX} printable characters"
        )
    given = {"args": target.args, "kwargs": target.kwargs}
    _argument_text(given, target.address, secrets=target.kind not in FUNCTIONS)
    match target.kind:
        case "python" | "async" | "process":
            _check_python(target)
        case "shell":
            _check_shell(target)
        case "http":
            _check_http(target)
        case "celery":
            check_task(target)
        case _:
            pass  # an executor from outside: what it takes, it checks
    return target


def _argument_text(given: Mapping[str, Any], address: str, *, secrets: bool) -> str:
    """Return arguments as JSON. Strictly: a set or a date must not reach the function as something else.

    What may hold ``secrets`` is not shown in an error: a header, or a variable.
    """
    try:
        text = json.dumps(given, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        what = "what" if secrets else f"{shown(given)}, which"
        raise InvalidInput(
            f"{address} is called with {what} is not JSON: {error}; "
            "pass plain numbers, texts, lists and mappings, e.g. a date as its text"
        ) from error
    if size > ARGUMENTS_BYTES_MAX:
        raise LimitExceeded(
            f"what {address} is called with takes {size:,} bytes of JSON, more than the limit of "
            f"{ARGUMENTS_BYTES_MAX:,}; keep large data elsewhere and pass a reference to it"
        )
    return text


def _check_python(target: Target) -> None:
    if not PYTHON_ADDRESS.fullmatch(target.address):
        raise InvalidInput(
            f"{shown(target.address)} names no Python function; write 'package.module:function'"
        )


def _check_shell(target: Target) -> None:
    program = target.address
    if "/" in program and not program.startswith("/"):
        raise InvalidInput(
            f"{shown(program)} is a path from somewhere; write the absolute path of the program, or its name "
            "alone, which is looked up on the node's PATH"
        )
    for word in target.args:
        if not isinstance(word, str) or "\0" in word:
            raise InvalidInput(
                f"{shown(word)} is no word of a command: each is a text without NUL; write numbers as texts"
            )
    _refuse_others(target, _SHELL)
    for name, value in _mapping(target, "env").items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidInput(f"env: {shown(name)} is no name of a variable: letters, digits and '_'")
        if name.startswith("ONEBEAT_"):
            raise InvalidInput(
                f"env: {name} is given by onebeat, which names all its variables so; rename it"
            )
        if not isinstance(value, str) or "\0" in value:
            raise InvalidInput(f"env: {name} is {shown(value)}, which is no text without NUL")
        if value.startswith("env:"):
            _check_reference(value, f"env: {name}")
    cwd = target.kwargs.get("cwd", "/")
    if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd:
        raise InvalidInput(f"cwd={shown(cwd)} is no absolute path; a node has a folder of its own: write /…")
    if not isinstance(target.kwargs.get("input", ""), str):
        raise InvalidInput(f"input={shown(target.kwargs['input'])} is no text, which a command could read")


def _check_http(target: Target) -> None:
    if target.address.startswith("env:"):
        _check_reference(target.address, "url")
        if target.args:
            raise InvalidInput(f"{target.address} stands for a whole URL, so no path goes beside it")
    else:
        _check_url(target)
    _refuse_others(target, _HTTP)
    given = target.kwargs
    if (method := given.get("method", "POST")) not in METHODS:
        near = near_miss(str(method).upper(), METHODS)
        raise InvalidInput(f"method={shown(method)} is none of {', '.join(METHODS)}{near}")
    if "json" in given and "body" in given:
        raise InvalidInput("json and body are both given, and a request has one body; leave one out")
    if not isinstance(given.get("body", ""), str):
        raise InvalidInput(f"body={shown(given['body'])} is no text; json={shown(given['body'])} sends JSON")
    for name, value in _mapping(target, "headers").items():
        _check_header(name, value)
    for name in ("ok", "retry_statuses"):
        _check_statuses(name, given.get(name, []))
    if given.get("ok") == []:
        raise InvalidInput("ok=[] would let no answer be a success; leave it out for 2xx")
    redirects = given.get("redirects", 0)
    if not isinstance(redirects, int) or isinstance(redirects, bool) or not 0 <= redirects <= REDIRECTS_MAX:
        raise InvalidInput(f"redirects={shown(redirects)} is no number from 0 to {REDIRECTS_MAX}")


def _check_url(target: Target) -> None:
    found = _URL.fullmatch(target.address)
    if found is None or found["path"] is not None or found["origin"] != found["origin"].lower():
        raise InvalidInput(
            f"{shown(target.address)} is no address of an HTTP service, such as 'https://example.org:8443'; "
            "the path is its one argument: http('https://…/path') parts the two"
        )
    scheme, authority = found["origin"].split("://")
    if scheme not in ("http", "https"):
        raise InvalidInput(f"{shown(target.address)} begins with {scheme}://; write http:// or https://")
    if "@" in authority:
        raise InvalidInput(
            "a URL with a user and a password in it would be stored and shown; take them out, and pass "
            "headers={'Authorization': 'Basic env:NAME'}"
        )
    service = _AUTHORITY.fullmatch(authority)
    if service is None or not 0 < int(service["port"] or 1) < 65_536:
        raise InvalidInput(f"{shown(authority)} of a URL is no host, or host:port")
    if len(target.args) > 1 or not all(isinstance(path, str) for path in target.args):
        raise InvalidInput(f"{shown(list(target.args))} is no path: an HTTP target has one, a text")
    for path in target.args:
        if path[:1] not in ("/", "?") or "#" in path or not path.isprintable() or " " in path:
            raise InvalidInput(
                f"{shown(path)} is no path of a URL: it begins with / or ?, and spaces and the like are "
                "written %20"
            )


def _check_header(name: str, value: Json) -> None:
    if not _HEADER.fullmatch(name):
        raise InvalidInput(f"headers: {shown(name)} is no name of a header")
    if _OURS.fullmatch(name):
        raise InvalidInput(f"headers: {name} is set by onebeat, or by the connection; leave it out")
    # The value may be a secret that should have been a reference: it is not shown.
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        raise InvalidInput(f"headers: the value of {name} is no text of printable ASCII")
    last = value.rpartition(" ")[2]
    if last.startswith("env:"):
        _check_reference(last, f"headers: {name}")


def _check_statuses(name: str, statuses: Json) -> None:
    if not isinstance(statuses, list):
        raise InvalidInput(f"{name}={shown(statuses)} is no list of statuses such as [200, '3xx']")
    for status in statuses:
        if isinstance(status, str) and _STATUS_CLASS.fullmatch(status):
            continue
        if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 599:
            raise InvalidInput(
                f"{name}: {shown(status)} is no status: a number from 100 to 599, or e.g. '5xx'"
            )


def _check_reference(value: str, where: str) -> None:
    if not REFERENCE.fullmatch(value):
        raise InvalidInput(
            f"{where} is {shown(value)}, which names no variable; a reference is env:NAME, of letters, "
            "digits and '_'"
        )


def _refuse_others(target: Target, known: Sequence[str]) -> None:
    for name in target.kwargs:
        if name not in known:
            raise InvalidInput(
                f"{shown(name)} is nothing that can be said of a target of kind {target.kind}"
                f"{near_miss(name, known)}; there are {', '.join(known)}"
            )


def _mapping(target: Target, name: str) -> dict[str, Json]:
    given = target.kwargs.get(name, {})
    if not isinstance(given, dict):
        raise InvalidInput(f"{name}={shown(given)} is no mapping of names to texts")
    return given
