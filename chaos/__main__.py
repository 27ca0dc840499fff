"""The chaos rig: `python -m chaos run --store STORE --minutes M --seed S --out FOLDER`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import SystemRandom

from chaos.faults.kinds import for_store
from chaos.faults.protocol import STORES
from chaos.opening import servers
from chaos.rig import Rig, Settings
from chaos.sabotage import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="play it and judge it; exit 1 on any finding")
    run.add_argument(
        "--store", choices=sorted(STORES), default="sqlite", help="which store (default: sqlite)"
    )
    run.add_argument("--minutes", type=float, default=3.0, help="how long the faults go on (default: 3)")
    run.add_argument("--seed", type=int, help="of what is drawn (default: a new one, which is printed)")
    run.add_argument("--out", type=Path, help="a new folder for the evidence (default: in .build/chaos)")
    run.add_argument("--size", type=float, default=1.0, help="of the load; 1 is about 200 firings a second")
    run.add_argument("--edits", type=float, default=100.0, help="edits a second (default: 100)")
    run.add_argument("--nodes", type=int, default=4, help="how many nodes (default: 4)")
    run.add_argument("--unshared", action="store_true", help="every node settles everything at once")
    run.add_argument("--sabotage", choices=sorted(KINDS), default="", help="break the promise on purpose")
    options = parser.parse_args()
    return played(options)


def played(options: argparse.Namespace) -> int:
    seed = SystemRandom().randrange(2**31) if options.seed is None else options.seed
    folder = options.out or Path(".build/chaos") / f"{options.store}-{seed}"
    folder.mkdir(parents=True)
    settings = Settings(
        store=options.store,
        minutes=options.minutes,
        seed=seed,
        folder=folder,
        nodes=options.nodes,
        size=options.size,
        edits_s=options.edits,
        shared=not options.unshared,
        sabotage=options.sabotage,
    )
    print(f"seed {seed}, evidence in {folder}", flush=True)
    with servers():
        story = Rig(settings, for_store(options.store), Said()).run()
    print(story)
    return 0


class Said:
    """The line that says how far it is: in place on a terminal, else one in a while."""

    def __init__(self) -> None:
        self._begun = self._said = time.monotonic()

    def __call__(self, line: str) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now < self._said + (0.5 if terminal else 15.0):
            return
        self._said = now
        line = f"{now - self._begun:6.0f} s  {line}"
        print(f"\r{line[:110]:110}" if terminal else line, end="" if terminal else "\n", file=sys.stderr)
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
