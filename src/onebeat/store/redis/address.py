"""What a Redis URL says: where the server is, which ledger on it is meant, and what its operator states.

redis://user:password@host:6379/0?namespace=onebeat      plain
rediss://host:6379/0?ca=/etc/ssl/own.pem                  TLS
redis+sentinel://host1:26379,host2:26379/mymaster/0       whoever is the master now, by Sentinel
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from onebeat.core.errors import InvalidInput, near_miss, shown

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
PORT, SENTINEL_PORT = 6379, 26379
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")
OPTIONS = ("namespace", "durable", "replicas", "ca", "cert", "key", "sentinel_username", "sentinel_password")
REPLICAS_MAX = 10


class Address(NamedTuple):
    """A URL, taken apart. ``service`` is the name that Sentinel knows the master by; None without one."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool
    service: str | None
    db: int
    username: str | None
    password: str | None
    namespace: str
    durable: bool  # the operator states it: what the server does not tell is taken as given
    replicas: int  # that must have a commit before it is answered
    ca: str | None
    cert: str | None
    key: str | None
    sentinel_username: str | None
    sentinel_password: str | None

    @property
    def place(self) -> str:
        """Return where the ledger is, without secrets."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        through = "" if self.service is None else f" by Sentinel as {self.service}"
        return f"{hosts}{through}, database {self.db}, namespace {self.namespace}"


def address_of(url: str) -> Address:
    """Return what a URL says. Raises InvalidInput for one that cannot be meant; it shows no password."""
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    said = f"{parts.scheme}://{places}{parts.path}"
    sentinel = parts.scheme.endswith("+sentinel")
    hosts = tuple(
        _host(place, SENTINEL_PORT if sentinel else PORT, said) for place in places.split(",") if place
    )
    if not hosts or (len(hosts) > 1 and not sentinel) or parts.fragment:
        raise InvalidInput(f"{shown(said)} names no server; write redis://host:6379/0")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = path.pop(0) if sentinel and path else None
    if sentinel and service is None:
        raise InvalidInput(f"{shown(said)} names no master; write redis+sentinel://host:26379/mymaster/0")
    if len(path) > 1 or not all(part.isdecimal() for part in path):
        raise InvalidInput(f"{shown(said)} names no database: it is a number, as in redis://host:6379/0")
    options = _options(parts.query)
    username, _, password = login.partition(":")
    return Address(
        hosts=hosts,
        tls=parts.scheme.startswith("rediss"),
        service=service,
        db=int(path[0]) if path else 0,
        username=unquote(username) or None,
        password=unquote(password) or None,
        namespace=_namespace(options.get("namespace", "onebeat")),
        durable=_durable(options.get("durable")),
        replicas=_replicas(options.get("replicas", "0")),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def _host(place: str, port: int, said: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        if parts.hostname:
            return parts.hostname, parts.port or port
    except ValueError:
        pass  # a port that is no number
    raise InvalidInput(f"{shown(said)} names no server; write redis://host:6379/0")


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise InvalidInput(
                f"a Redis URL has no option {shown(name)}{near_miss(name, OPTIONS)}; "
                f"there are {', '.join(OPTIONS)}"
            )
    return options


def _namespace(text: str) -> str:
    if not NAMESPACE.fullmatch(text):
        raise InvalidInput(
            f"namespace={shown(text)} cannot stand in front of keys: it is 1 to 50 of a-z, 0-9, '.', '_' and "
            "'-', and begins with a letter or digit"
        )
    return text


def _durable(text: str | None) -> bool:
    if text not in (None, "assumed"):
        raise InvalidInput(
            f"durable={shown(text)} says nothing: durable=assumed states that this server keeps what it "
            "acknowledged, though it does not say so"
        )
    return text is not None


def _replicas(text: str) -> int:
    if not text.isdecimal() or int(text) > REPLICAS_MAX:
        raise InvalidInput(
            f"replicas={shown(text)}: it is how many replicas must have a commit before it is answered, "
            f"0 to {REPLICAS_MAX}"
        )
    return int(text)
