"""`python -m bench.peers redis://host:6379/0`: the peers on a Redis that somebody has started.

`python -m bench peers --store …` starts the servers that bench/stores knows; this is for the one that it does
not. Ledgers get namespaces of their own there, the peers an empty database.
"""

import argparse
import json
import tempfile
from pathlib import Path

from bench.__main__ import table
from bench.figure import Settings
from bench.machine import described
from bench.peers import run
from onebeat.store.redis.address import address_of
from onebeat.store.redis.opening import erase_ledger
from onebeat.store.redis.server import Server


class Redis:
    """A server by its URL, as far as the peers need one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def about(self) -> dict[str, object]:
        """Return its version and how durable it is."""
        server = Server(address_of(self.url))
        try:
            told = {"version": str(server.ask("INFO", "server")).partition("redis_version:")[2].split()[0]}
            for name in ("appendonly", "appendfsync"):
                told |= {name: str(server.ask("CONFIG", "GET", name))}
        finally:
            server.close()
        return dict(told)

    def ledger(self, name: str) -> str:
        """Return the URL of a ledger in a namespace of its own."""
        return f"{self.url}?namespace=bench-{name}"

    def drop(self, url: str) -> None:
        """Remove a ledger."""
        erase_ledger(url)


def main() -> int:
    """Measure, print, write; exit 1 when the bar is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("url", help="redis://host:port/0")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is the published size")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--out", type=Path, default=Path(".build/peers.json"), help="where the JSON goes")
    options = parser.parse_args()
    store = Redis(options.url)
    with tempfile.TemporaryDirectory() as place:
        machine = described(Path(place)) | {"store": "redis", "server": store.about()}
    figures = run(Settings(store, options.scale, options.repeats))  # type: ignore[arg-type]  # no hands needed
    report = {"machine": machine, "scale": options.scale, "figures": [figure.as_data() for figure in figures]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
