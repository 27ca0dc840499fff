"""The schedulers that people use today, on the same server, in the same run: `python -m bench peers`.

An optional group: it fetches the peers, each into an environment of its own under .cache/peers, by the locks
in this folder. No test runs it.
"""

from bench.peers.beside import run

__all__ = ["run"]
