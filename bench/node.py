"""A node for the benchmarks: `python -m bench.node URL ROLE…`. Serves until SIGTERM."""

import sys

from onebeat.app import Onebeat


def noop() -> None:
    """Do nothing, so that only the scheduler's own cost is measured."""


if __name__ == "__main__":
    Onebeat(sys.argv[1], modules=["bench"]).serve(roles=tuple(sys.argv[2:]))
