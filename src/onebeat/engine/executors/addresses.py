"""Which addresses a request may be sent to: those of the internet, and others only where that was allowed.

A name says nothing of where it leads, so it is the address that is judged, after the look-up. An address that
carries another one inside is judged by that one.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from onebeat.core.errors import InvalidInput, shown

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

NAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)

CLOSED: dict[str, tuple[str, ...]] = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "a carrier's own": ("100.64.0.0/10",),
    "a cloud's own": ("168.63.129.16/32",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "for documentation": (
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
        "3fff::/20",
    ),
    "reserved": ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "2001::/23", "100::/64"),
}
"""What is not the internet, and what it is instead. Beside it, of IPv6 only 2000::/3 is open."""

_CLOSED: list[tuple[str, Network]] = [
    (what, ip_network(text)) for what, texts in CLOSED.items() for text in texts
]
_OPEN = IPv6Network("2000::/3")
_TAKES_THE_LAST = tuple(
    IPv6Network(text) for text in ("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
)
"""IPv6 addresses whose last 32 bits are the IPv4 address that they lead to."""


class Allowed:
    """What may be called beside the internet: networks, addresses, and hosts by their names."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._networks: list[Network] = []
        self._names: set[str] = set()
        for item in allow:
            try:
                self._networks.append(ip_network(item, strict=False))
            except ValueError:
                if NAME.fullmatch(item) is None or item.replace(".", "").isdigit():
                    raise InvalidInput(
                        f"{shown(item)} is no network, address or name of a host, so no request may be sent "
                        "there; write e.g. 10.0.0.0/8, ::1 or localhost"
                    ) from None
                self._names.add(item.lower().rstrip("."))

    def refusal(self, host: str, address: str) -> str | None:
        """Return why an address to which a host has led may not be called, None where it may."""
        if host.lower().rstrip(".") in self._names:
            return None
        at = _within(ip_address(address))
        if any(at in network for network in self._networks if network.version == at.version):
            return None
        what = next(
            (what for what, network in _CLOSED if at.version == network.version and at in network), None
        )
        if what is None and isinstance(at, IPv6Address) and at not in _OPEN:
            what = "reserved"
        return None if what is None else f"{address} is {what}"


def _within(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, if it is one of those; else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        address = IPv6Address(int(address))
    if address.sixtofour is not None:
        return address.sixtofour
    if int(address) > 1 and any(address in network for network in _TAKES_THE_LAST):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
