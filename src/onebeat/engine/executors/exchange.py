"""One HTTP request and its answer, on a connection of its own to an address that was judged.

The only file that knows the HTTP library. A connection lasts for one exchange: keeping them would cost a look
through all that are open for each call, and a call of a schedule is seldom followed by another one soon.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import aclosing, suppress
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit
from weakref import WeakValueDictionary

from onebeat.core.errors import MissingExtra
from onebeat.engine.executors.addresses import Allowed

try:
    import httpcore2
except ImportError as error:
    raise MissingExtra(
        f"HTTP requests need the library httpcore2, which is not installed ({error}); "
        "pip install 'onebeat[http]'"
    ) from error

CONNECT_S = 10
BODY_BYTES_MAX = 32 * 1024
LOOKUPS_MAX = 32
CONNECTING_MAX = 100
"""To one host at once. Without it the last of thousands that begin together would wait for the processor, and
their time to connect would pass."""
REDIRECTS = (301, 302, 303, 307, 308)
DEFAULT_PORTS = {"http": 80, "https": 443}
SAFE = "!$%&'()*+,/:;=?@[]~"  # beside letters, digits and _.-~: what a path may hold as it is

TransportError = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)
"""What the library raises where an exchange did not come to its end."""


class AddressRefusedError(Exception):
    """A host that leads only to where requests may not be sent."""


class Ask(NamedTuple):
    """What to send, and where. ``own`` are the headers that go wherever a redirect leads."""

    method: str
    url: str
    content: bytes
    headers: dict[str, str]
    own: dict[str, str]


class Answer(NamedTuple):
    """What came back: of the body at most BODY_BYTES_MAX."""

    status: int
    body: bytes
    truncated: bool
    location: str | None


class Exchanges:
    """Sends requests. On one event loop; ``allowed`` judges every address that is connected to."""

    def __init__(self, allowed: Allowed) -> None:
        self._backend = _Backend(allowed)
        self._tls: ssl.SSLContext | None = None

    async def ask(self, ask: Ask, redirects: int) -> Answer:
        """Send a request, follow so many redirects, and return the last answer."""
        while True:
            answer = await self._exchange(ask)
            if redirects == 0 or answer.status not in REDIRECTS or answer.location is None:
                return answer
            redirects -= 1
            followed = _followed(ask, answer.status, answer.location)
            if followed is None:
                return answer
            ask = followed

    async def _exchange(self, ask: Ask) -> Answer:
        parts = urlsplit(ask.url)
        host = (parts.hostname or "").encode("idna")
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        target = quote(parts.path or "/", SAFE) + ("?" + quote(parts.query, SAFE) if parts.query else "")
        url = httpcore2.URL(scheme=parts.scheme.encode(), host=host, port=port, target=target.encode())
        connection = httpcore2.AsyncHTTPConnection(
            origin=url.origin,
            ssl_context=self._context() if parts.scheme == "https" else None,
            network_backend=self._backend,
        )
        try:
            response = await connection.handle_async_request(
                httpcore2.Request(
                    ask.method,
                    url,
                    headers=_headers(ask, host.decode(), port, parts.scheme),
                    content=ask.content,
                    extensions={"timeout": {"connect": CONNECT_S}},
                )
            )
            body = bytearray()
            async with aclosing(response.aiter_stream()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > BODY_BYTES_MAX:
                        break
            location = next((value for name, value in response.headers if name.lower() == b"location"), None)
            return Answer(
                response.status,
                bytes(body[:BODY_BYTES_MAX]),
                len(body) > BODY_BYTES_MAX,
                None if location is None else location.decode("latin-1"),
            )
        finally:
            await connection.aclose()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _headers(ask: Ask, host: str, port: int, scheme: str) -> list[tuple[str, str]]:
    name = f"[{host}]" if ":" in host else host
    given = {**ask.own, **ask.headers}
    if ask.content or ask.method in ("POST", "PUT", "PATCH"):
        given["Content-Length"] = str(len(ask.content))
    host_header = name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"
    return [("Host", host_header), ("Connection", "close"), *given.items()]


def _followed(ask: Ask, status: int, location: str) -> Ask | None:
    """Return the request that a redirect asks for, None for one that is not followed.

    Another service gets none of the headers that were given, for one may be a secret; and nobody is followed
    from TLS to where there is none.
    """
    here = urlsplit(ask.url)
    try:
        there = urlsplit(urljoin(ask.url, location))
        there.port  # noqa: B018 - looking at it finds out whether it is one
    except ValueError:
        return None
    url = there.geturl()
    if there.scheme not in DEFAULT_PORTS or not there.hostname or "@" in there.netloc:
        return None
    if here.scheme == "https" and there.scheme == "http":
        return None
    headers = ask.headers if (here.scheme, here.netloc) == (there.scheme, there.netloc) else {}
    if status == 303 or (status in (301, 302) and ask.method == "POST"):
        method = "HEAD" if ask.method == "HEAD" else "GET"
        headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return Ask(method, url, b"", headers, ask.own)
    content_type = {name: value for name, value in ask.headers.items() if name.lower() == "content-type"}
    return Ask(ask.method, url, ask.content, {**content_type, **headers}, ask.own)


class _Backend(httpcore2.AnyIOBackend):
    """Looks a host up once, and connects to an address of that answer which was judged: to no other."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._lookups: dict[tuple[str, int], asyncio.Future[list[str]]] = {}
        self._looking = asyncio.Semaphore(LOOKUPS_MAX)
        self._connecting: WeakValueDictionary[tuple[str, int], asyncio.Semaphore] = WeakValueDictionary()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        turn = self._connecting.setdefault((host, port), asyncio.Semaphore(CONNECTING_MAX))
        async with turn:
            return await self._connected(host, port, timeout)

    async def _connected(self, host: str, port: int, timeout: float | None) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._looked_up(host, port)
        except TimeoutError:
            raise httpcore2.ConnectTimeout(f"{host} was not looked up within {timeout} s") from None
        refusals = {address: self._allowed.refusal(host, address) for address in addresses}
        may = [address for address, refusal in refusals.items() if refusal is None]
        if not may:
            why = ", ".join(filter(None, refusals.values()))
            raise AddressRefusedError(
                f"{host} leads to where requests may not be sent: {why}; "
                "`onebeat serve --http-allow`, or ONEBEAT_HTTP_ALLOW, allows a network or a host"
            )
        failure: Exception | None = None
        for address in may:
            try:
                return await super().connect_tcp(address, port, timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _looked_up(self, host: str, port: int) -> list[str]:
        """Return the addresses of a host. Those who ask at one time share the answer."""
        key = host, port
        if key not in self._lookups:
            self._lookups[key] = asyncio.ensure_future(self._look_up(host, port))
            self._lookups[key].add_done_callback(lambda answer: self._forget(key, answer))
        return await asyncio.shield(self._lookups[key])

    def _forget(self, key: tuple[str, int], answer: asyncio.Future[list[str]]) -> None:
        del self._lookups[key]
        if not answer.cancelled():
            answer.exception()  # seen, even where all who asked have left

    async def _look_up(self, host: str, port: int) -> list[str]:
        # A daemon thread each: those of the loop's own pool would be joined at exit, however long DNS takes.
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def look() -> None:
            said: list[str] | Exception
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                said = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            except (OSError, UnicodeError) as error:
                said = httpcore2.ConnectError(f"{host} cannot be looked up: {error}")
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, answer, said)

        async with self._looking:
            threading.Thread(target=look, name="onebeat-lookup", daemon=True).start()
            return await answer


def _tell(answer: asyncio.Future[list[str]], said: list[str] | Exception) -> None:
    if answer.done():
        return
    if isinstance(said, Exception):
        answer.set_exception(said)
    else:
        answer.set_result(said)
