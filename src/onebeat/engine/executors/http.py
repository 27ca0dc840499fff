"""HTTP requests, thousands at once on one event loop in a thread of its own.

    look up ──► judge the address ──► connect to it ──► send ──► status ──► body, as far as kept ──► report
                      │ refused: fails for good                     └─ redirect, if wanted: from the beginning
      timeout, cancel, CALL_MAX: the connection is closed, wherever it is

A request is sent at least once; ``Idempotency-Key`` is the same in every attempt of a run, so that a service
which knows it does things once. No value of a header is ever said. docs/design/014-shell-and-http.md
"""

import asyncio
import json
import logging
import os
import resource
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from onebeat._version import __version__
from onebeat.core.codec import RESULT_BYTES_MAX
from onebeat.core.errors import InvalidInput, MissingExtra, OnebeatError, TargetNotFound
from onebeat.core.messages import Claimed, Report
from onebeat.core.model import Json, Outcome, Target, instant_text
from onebeat.core.ports import Clock
from onebeat.core.targets import OK, RETRY_STATUSES, checked_target, http, outside_name, url_of
from onebeat.engine.current import storable
from onebeat.engine.executors.addresses import Allowed
from onebeat.engine.executors.bodies import Bodies, Body, named
from onebeat.engine.executors.loop import Loop
from onebeat.engine.executors.references import References

if TYPE_CHECKING:
    from onebeat.engine.executors.exchange import Answer, Ask, Exchanges

CALLS = 1000
CALL_MAX = timedelta(minutes=5)
FILES_SPARE = 200
"""Files that a process has open beside its calls: each call takes one, and a process may have so many."""
SHOWN_CHARS_MAX = 1000

_log = logging.getLogger("onebeat.engine")


class HttpExecutor(Bodies):
    """Sends requests, ``slots`` at once, to the internet and to what ``allow`` names beside it."""

    kind = "http"
    overdue = "was cut off"

    def __init__(
        self,
        *,
        slots: int = CALLS,
        allow: Iterable[str] = (),
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        may = slots if files == resource.RLIM_INFINITY else max(1, files - FILES_SPARE)
        super().__init__(min(slots, may), clock)
        self._few = (
            f"only {may} HTTP calls at once, not {slots}: `ulimit -n` is {files}" if may < slots else ""
        )
        self._environ = dict(os.environ if environ is None else environ)
        self._allowed = Allowed(allow)
        self._exchanges: Exchanges | None = None
        self._loop = Loop("onebeat-http")

    def resolve(self, target: Target) -> None:
        checked_target(target)
        try:
            self._made()
            host = urlsplit(_url(target, References(self._environ))).hostname or ""
        except (MissingExtra, InvalidInput, ValueError) as error:
            raise TargetNotFound(f"{target.address} cannot be called from here: {error}") from error
        if (why := self._refused(host)) is not None:
            raise TargetNotFound(
                f"{target.address} may not be called from here: {why}; `onebeat serve --http-allow`, or "
                "ONEBEAT_HTTP_ALLOW, allows a network or a host"
            )

    def start(self, claimed: Claimed, until: datetime) -> None:
        if self._few:
            _log.warning("%s", self._few)
            self._few = ""
        body = self.begin(claimed, until)
        body.hold = self._loop.begin(self._called(body), lambda task: self.end(body, body.ending(task)))

    def stop(self, body: Body) -> None:
        body.hold.cancel()

    def close(self) -> None:
        super().close()
        self._loop.close()

    # --- on the loop ---

    async def _called(self, body: Body) -> Report:
        if (lapsed := body.lapsed()) is not None:
            return lapsed
        from onebeat.engine.executors.exchange import (  # noqa: PLC0415 - needs an extra
            AddressRefusedError,
            TransportError,
        )

        target, references = body.target, References(self._environ)
        limit = None if body.claimed.definition.policy.timeout is not None else CALL_MAX.total_seconds()
        try:
            async with asyncio.timeout(limit):
                answer = await self._made().ask(_ask(body, references), target.kwargs.get("redirects", 0))
        except TimeoutError:
            error = (
                f"{_told(target)}: no whole answer within {CALL_MAX}; a timeout of the schedule may be longer"
            )
            return body.report(Outcome.TIMED_OUT, error=error, error_type="Timeout")
        except AddressRefusedError as refused:
            return _failed(body, f"{_told(target)}: {refused}", ("AddressRefused",))
        except OnebeatError as unfit:
            return _failed(body, f"{_told(target)}: {unfit}", (type(unfit).__name__,))
        except (*TransportError, OSError) as failure:
            error_type = named(failure, body.claimed.definition.policy.retry_on)
            return body.report(
                Outcome.FAILED, error=f"{_told(target)}: {_reason(failure)}", error_type=error_type
            )
        return _answered(body, answer, references)

    def _made(self) -> "Exchanges":
        """Return what sends requests. Raises MissingExtra where the library is not installed."""
        if self._exchanges is None:
            from onebeat.engine.executors.exchange import Exchanges  # noqa: PLC0415 - needs an extra

            self._exchanges = Exchanges(self._allowed)
        return self._exchanges

    def _refused(self, host: str) -> str | None:
        """Return why a host may not be called, as far as that can be known without looking it up."""
        if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
            return self._allowed.refusal(host, "127.0.0.1")
        try:
            ip_address(host)
        except ValueError:
            return None
        return self._allowed.refusal(host, host)


# --- what is sent ---------------------------------------------------------------------------------------


def _ask(body: Body, references: References) -> "Ask":
    from onebeat.engine.executors.exchange import Ask  # noqa: PLC0415 - needs an extra

    run, target = body.current, checked_target(body.target)  # it comes out of the store
    given = target.kwargs
    content, content_type = b"", ""
    if "json" in given:
        content, content_type = json.dumps(given["json"], ensure_ascii=False).encode(), "application/json"
    elif "body" in given:
        content, content_type = given["body"].encode(), "text/plain; charset=utf-8"
    headers = {
        name: _sendable(name, references.fill(value, f"the header {name}"))
        for name, value in given.get("headers", {}).items()
    }
    if content_type and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = content_type
    own = {
        "Idempotency-Key": outside_name(run.id),
        "Onebeat-Run-Id": run.id,
        "Onebeat-Schedule": run.schedule,
        "Onebeat-Occurrence": instant_text(run.occurrence),
        "Onebeat-Attempt": str(run.attempt),
        "Onebeat-Token": str(run.token),
    }
    if not any(name.lower() == "user-agent" for name in headers):
        own["User-Agent"] = f"onebeat/{__version__}"
    return Ask(given.get("method", "POST"), _url(target, references), content, headers, own)


def _url(target: Target, references: References) -> str:
    """Return the URL of a target, what stands for one looked up."""
    url = url_of(target)
    if not target.address.startswith("env:"):
        return url
    found = references.fill(url, "the URL")
    try:
        return url_of(http(found))
    except InvalidInput:  # it may be a secret, and its own error would show it
        raise InvalidInput(f"what {url} stands for on this node is no URL") from None


def _sendable(name: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise InvalidInput(f"the header {name} would get a value that is not one line of printable ASCII")
    return value


# --- how it ended ---------------------------------------------------------------------------------------


def _answered(body: Body, answer: "Answer", references: References) -> Report:
    """Return the report of an answer: its status says whether it is a success."""
    text = storable(references.mask(answer.body.decode("utf-8", "replace")))
    result: Json = {"status": answer.status, "body": text}
    if answer.truncated:
        result["truncated"] = True
    while len(msgspec.json.encode(result)) > RESULT_BYTES_MAX:  # what JSON has to escape takes more room
        result |= {"body": result["body"][: len(result["body"]) // 2], "truncated": True}
    if _among(answer.status, body.target.kwargs.get("ok", OK)):
        return body.report(Outcome.SUCCEEDED, result=result)
    error = f"{_told(body.target)} was answered {answer.status}"
    if answer.location is not None and 300 <= answer.status < 400:
        error += ", a redirect that was not followed"
    if text.strip():
        error += f": {text[:SHOWN_CHARS_MAX]}"
    return _failed(body, error, (*_names(answer.status), "HTTP"), result=result)


def _failed(body: Body, error: str, names: tuple[str, ...], result: Json = None) -> Report:
    """Return the report of a failure that is tried again only where ``retry_on``, or the target, names it."""
    again = tuple(
        f"HTTP {status}" for status in body.target.kwargs.get("retry_statuses", RETRY_STATUSES)
    ) or ("nothing",)
    wanted = body.claimed.definition.policy.retry_on or again
    report = body.report(
        Outcome.FAILED,
        result=result,
        error=error,
        error_type=next((name for name in names if name in wanted), names[0]),
    )
    return msgspec.structs.replace(report, retry_on=again)


def _names(status: int) -> tuple[str, str]:
    return f"HTTP {status}", f"HTTP {status // 100}xx"


def _among(status: int, statuses: Iterable[int | str]) -> bool:
    return any(one in (status, f"{status // 100}xx") for one in statuses)


def _told(target: Target) -> str:
    return f"{target.kwargs.get('method', 'POST')} {url_of(target)[:500]}"


def _reason(failure: BaseException) -> str:
    """Return what went wrong, with the cause at its root where that says more."""
    root: BaseException = failure
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    said = f"{type(failure).__name__}: {failure}".rstrip(": ")
    return said if root is failure or str(root) in said else f"{said} ({root})"
