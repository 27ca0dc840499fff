"""A node for the benchmarks: `python -m bench.node URL ROLE… [lease=SECONDS] [threads=N]`. Until SIGTERM."""

import sys
import threading
from datetime import timedelta

from onebeat.app import Onebeat


def noop() -> None:
    """Do nothing, so that only the scheduler's own cost is measured."""


def stay() -> None:
    """Never end, so that only its death ends a worker's lease."""
    threading.Event().wait()


if __name__ == "__main__":
    said = dict(word.split("=") for word in sys.argv[2:] if "=" in word)
    Onebeat(sys.argv[1], modules=["bench"]).serve(
        roles=tuple(word for word in sys.argv[2:] if "=" not in word),
        threads=int(said.get("threads", 10)),
        lease=timedelta(seconds=float(said.get("lease", 30))),
        grace=timedelta(seconds=1),
    )
