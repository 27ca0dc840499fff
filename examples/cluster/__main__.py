"""`make cluster`, or `python -m examples.cluster`: a server, some nodes and a load, to kill things in."""

from __future__ import annotations

import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from examples.cluster.cluster import Cluster, Trouble
from examples.cluster.servers import KINDS, NoServer
from examples.cluster.teller import Teller

from onebeat import OnebeatError

FAILED = 1
STATUS_EVERY = 10.0


class Bell:
    """Ctrl-C, a SIGTERM and the Enter key. The first signal asks for the end, a second one has it at once."""

    def __init__(self) -> None:
        self.rung = False
        self._keys = [sys.stdin] if sys.stdin is not None else []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ring)

    def pressed(self, seconds: float) -> bool:
        """Wait so long; return early, with True, when somebody presses Enter."""
        until = time.monotonic() + seconds
        while not self.rung and (left := until - time.monotonic()) > 0:
            if select.select(self._keys, [], [], min(left, 0.2))[0]:
                if sys.stdin.readline():
                    return True
                self._keys = []  # nobody is there to press anything
        return False

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self.rung:
            raise KeyboardInterrupt
        self.rung = True


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    type=click.Choice(list(KINDS)),
    default="postgres",
    show_default=True,
    help="Which server to start.",
)
@click.option("--url", help="Start no server: use this one of yours. The ledger there must be a new one.")
@click.option("--nodes", type=click.IntRange(1, 20), default=3, show_default=True, help="How many nodes.")
@click.option(
    "--schedules", type=click.IntRange(1, 1000), default=200, show_default=True, help="How many of 1 to 5 s."
)
@click.option(
    "--lease",
    type=click.IntRange(1, 300),
    default=5,
    show_default=True,
    help="A silent node keeps its runs, in s.",
)
@click.option("--seconds", type=click.IntRange(1), help="End by itself after so many; else on Ctrl-C.")
@click.option("--restart", is_flag=True, help="Start again at once whatever is gone.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the logs and the outside file in this folder.",
)
def main(
    store: str,
    url: str | None,
    nodes: int,
    schedules: int,
    lease: int,
    seconds: int | None,
    restart: bool,
    keep: Path | None,
) -> None:
    """Bring up a server, three nodes and a load, and let people kill things in it.

    Each second it says what has fired, what is late, missed and doubled, by counting in a file that the runs
    write, outside of the ledger. At the end `onebeat audit` is asked too. The exit status is 0 only if
    nothing was missed and nothing doubled.
    """
    bell, teller = Bell(), Teller(sys.stdout)
    with _folders(keep) as (folder, place):
        cluster = Cluster(folder, teller, nodes=nodes, schedules=schedules, lease=lease)
        try:
            cluster.up(store, url, place)
            cluster.tell_what_to_try(restart=restart)
            _watch(cluster, bell, teller, seconds, restart=restart)
            right = cluster.down()
        except (NoServer, Trouble, OnebeatError) as error:
            raise click.ClickException(str(error)) from None
        finally:
            cluster.kill()
    sys.exit(0 if right else FAILED)


def _watch(cluster: Cluster, bell: Bell, teller: Teller, seconds: int | None, *, restart: bool) -> None:
    """Look once a second, until the time is over or somebody rings."""
    until = None if seconds is None else time.monotonic() + seconds
    told_at = time.monotonic()
    while not bell.rung and (until is None or time.monotonic() < until):
        left = 1.0 if until is None else max(0.0, min(1.0, until - time.monotonic()))
        asked = bell.pressed(left)
        cluster.look()
        if asked or restart:
            cluster.start_again()
        teller.status(cluster.status())
        if not teller.live and time.monotonic() - told_at >= STATUS_EVERY:
            told_at = time.monotonic()
            teller.say(cluster.status())


@contextmanager
def _folders(keep: Path | None) -> Iterator[tuple[Path, Path]]:
    """Give a folder for what people look at, which may be kept, and one for the server.

    A server that may not be root must reach its own, so that is always a temporary one.
    """
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise click.UsageError(f"{keep} is not empty; give a new folder")
    place = Path(tempfile.mkdtemp(prefix="onebeat-cluster-"))
    place.chmod(0o755)
    try:
        yield place if keep is None else keep.resolve(), place
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
