"""The chaos rig: play, judge, show. docs/howto/run-the-chaos-rig.md says more.

run     real nodes on a real store, to whom everything happens, then the verdict
judge   the verdict on the evidence in a folder, once more
page    results side by side in one HTML file
table   results as lines of a table in Markdown
peers   the schedulers of others, and ours, through one play of faults
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import SystemRandom
from typing import NamedTuple

from chaos.faults.kinds import for_store
from chaos.faults.protocol import STORES, Fault
from chaos.fleet import sabotage as fleet_sabotage
from chaos.fleet.brokers import BROKERS
from chaos.fleet.faults import for_fleet
from chaos.fleet.place import LEDGERS
from chaos.fleet.rig import FleetRig, rounds
from chaos.judge import judge_folder
from chaos.opening import servers
from chaos.page import arguments, show
from chaos.peers import mill as peers
from chaos.result import Result, read
from chaos.rig import Rig, Settings
from chaos.sabotage import KINDS
from chaos.table import table
from onebeat.core.errors import near_miss, shown

TOLD_MAX = 10
COUNTS = ("fired", "must", "missed", "doubled", "early", "phantom", "overlap_exceeded", "other_findings")


class Within:
    """What an option takes: a number, from the least to the most. ``why`` says why no other."""

    def __init__(self, least: float, most: float, why: str, *, whole: bool = False) -> None:
        self._least = least
        self._most = most
        self._why = why
        self._whole = whole

    def __call__(self, word: str) -> float:
        """Return the number. Raises ArgumentTypeError for what is none, or beyond the bounds."""
        bounds = f"from {self._least:g} to {self._most:g}"
        try:
            number = int(word) if self._whole else float(word)
        except ValueError:
            kind = "whole number" if self._whole else "number"
            raise argparse.ArgumentTypeError(f"{shown(word)} is no {kind} {bounds}") from None
        if self._least <= number <= self._most:  # nothing is said of NaN: it is in no bounds
            return number
        nearest = min(max(number, self._least), self._most)
        near = "" if math.isnan(number) else f"; the nearest is {nearest:g}"
        raise argparse.ArgumentTypeError(f"{shown(word)} is not {bounds}: {self._why}{near}")


class OneOf:
    """What an option takes: one of some words. ``what`` says what they are."""

    def __init__(self, known: Iterable[str], what: str) -> None:
        self._known = sorted(known)
        self._what = what

    def __call__(self, word: str) -> str:
        """Return the word. Raises ArgumentTypeError for one there is not."""
        if word in self._known:
            return word
        near = near_miss(word, self._known)
        raise argparse.ArgumentTypeError(
            f"{shown(word)} is no {self._what}{near}; there are: {', '.join(self._known)}"
        )


MINUTES = Within(0.01, 7 * 24 * 60, "a play has to be long enough for a fault, and its evidence fits a week")
SIZE = Within(0.01, 20, "without a load nothing can go wrong, and one machine makes no more of it")
EDITS = Within(0, 10_000, "it is how many edits a second are tried, and one editor makes no more of them")
NODES = Within(2, 64, "with one node nobody is left to take over, and one machine runs no more", whole=True)
BROKER = "redis"
ENGINES = ("onebeat", "celery")


class Usual(NamedTuple):
    """What an engine is played with where nothing is said."""

    store: str
    nodes: int
    edits: float


USUAL = {"onebeat": Usual("sqlite", 4, 100.0), "celery": Usual("postgres", 3, 10.0)}


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; return 1 where there was a finding."""
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="play it and judge it; exit 1 on any finding")
    run.add_argument(
        "--engine",
        type=OneOf(ENGINES, "engine"),
        default="onebeat",
        help="what runs the bodies (default: onebeat)",
    )
    run.add_argument(
        "--store",
        type=OneOf(STORES, "kind of store"),
        help=f"{', '.join(sorted(STORES))} (default: sqlite; postgres with celery)",
    )
    run.add_argument(
        "--broker",
        type=OneOf(BROKERS, "broker"),
        help=f"of celery: {', '.join(sorted(BROKERS))} (default: redis)",
    )
    run.add_argument("--minutes", type=MINUTES, default=3.0, help="how long the faults go on (default: 3)")
    run.add_argument("--seed", type=int, help="of what is drawn (default: a new one, which is printed)")
    run.add_argument("--out", type=Path, help="an empty folder for the evidence (default: in .build/chaos)")
    run.add_argument(
        "--size", type=SIZE, default=1.0, help="of the load; 1 is about 200 firings a second, 20 on a fleet"
    )
    run.add_argument("--edits", type=EDITS, help="edits a second (default: 100; 10 with celery)")
    run.add_argument(
        "--nodes", type=NODES, help="how many nodes (default: 4); with celery so many beats and workers (3)"
    )
    run.add_argument(
        "--only", action="append", default=[], metavar="KIND", help="this kind of fault; repeat it"
    )
    run.add_argument("--unshared", action="store_true", help="every node settles everything at once")
    run.add_argument(
        "--sabotage",
        choices=sorted({**KINDS, **fleet_sabotage.KINDS}),
        default="",
        help="break the promise on purpose",
    )
    judge = commands.add_parser("judge", help="judge the evidence in a folder; exit 1 on any finding")
    judge.add_argument("folder", type=Path)
    arguments(commands.add_parser("page", help="show results side by side in one HTML file"))
    lines = commands.add_parser("table", help="print results as lines of a table in Markdown")
    lines.add_argument("results", nargs="+", type=Path, metavar="RESULT.json", help="of runs")
    peers.arguments(commands.add_parser("peers", help="put the schedulers of others through one play"))
    options = parser.parse_args(words)
    if options.command == "page":
        show(options.results, options.out)
        return 0
    if options.command == "table":
        print("\n".join(table([read(path) for path in options.results])))
        return 0
    if options.command == "peers":
        peers.put_through(options)
        return 0
    if options.command == "judge":
        return told(judge_folder(options.folder))
    try:
        return played(options)
    except ValueError as error:
        parser.error(str(error))


def played(options: argparse.Namespace) -> int:
    """Play and judge one run."""
    celery, usual = options.engine == "celery", USUAL[options.engine]
    store = options.store or usual.store
    refuse_unmeant(options, store)
    faults = chosen(store, options.only, for_fleet(store) if celery else for_store(store))
    seed = SystemRandom().randrange(2**31) if options.seed is None else options.seed
    name = f"celery-{options.broker or BROKER}-{store}" if celery else store
    folder = (options.out or Path(".build/chaos") / f"{name}-{seed}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: evidence of two runs is evidence of none")
    settings = Settings(
        store=store,
        minutes=options.minutes,
        seed=seed,
        folder=folder,
        nodes=usual.nodes if options.nodes is None else options.nodes,
        size=options.size,
        edits_s=usual.edits if options.edits is None else options.edits,
        shared=not options.unshared,
        sabotage=options.sabotage,
        broker=options.broker or BROKER if celery else "",
        rounds=rounds(options.minutes) if celery else None,
    )
    print(f"{name}, {options.minutes:g} minutes, seed {seed}: evidence in {folder}", flush=True)
    said = Said()
    with servers():
        (FleetRig if celery else Rig)(settings, faults, said).run()
    said("judging")
    return told(judge_folder(folder))


def refuse_unmeant(options: argparse.Namespace, store: str) -> None:
    """Raise ValueError for words that mean nothing beside the engine."""
    celery = options.engine == "celery"
    if celery and store not in LEDGERS:
        raise ValueError(f"a fleet is not played on {store}; there are: {', '.join(sorted(LEDGERS))}")
    if not celery and options.broker:
        raise ValueError("--broker is of a fleet: say --engine celery")
    if celery and options.unshared:
        raise ValueError("--unshared is not of a fleet: every beat of one settles everything at once")
    if options.sabotage and (options.sabotage in fleet_sabotage.KINDS) is not celery:
        known = ", ".join(fleet_sabotage.KINDS if celery else KINDS)
        raise ValueError(f"--sabotage {options.sabotage} is not of this engine; there are: {known}")


def chosen(store: str, only: Sequence[str], there: Iterable[Fault]) -> list[Fault]:
    """Return the faults there are, or those that are named. Raises ValueError for one there is not."""
    every = {fault.kind: fault for fault in there}
    unknown = [kind for kind in only if kind not in every]
    if unknown:
        near = near_miss(unknown[0], every)
        raise ValueError(
            f"no such fault on {store}: {', '.join(map(shown, unknown))}{near}; there are: {', '.join(every)}"
        )
    return [fault for kind, fault in every.items() if not only or kind in only]


def told(result: Result) -> int:
    """Say what came of a run; return the exit status."""
    counts = ", ".join(f"{name} {result.counts.get(name, 0)}" for name in COUNTS)
    done = sum(each.count for each in result.faults.values())
    audit = result.audit or {}
    print(f"\n{result.server}: {counts}; {done} faults of {len(result.faults)} kinds")
    print(f"lateness p50 {result.lateness_all.p50:.0f} ms, p99 {result.lateness_all.p99:.0f} ms")
    print(
        f"the ledger says: gaps {audit.get('gaps')}, extras {audit.get('extras')}, early {audit.get('early')}"
    )
    for finding in result.findings[:TOLD_MAX]:
        print(f"  {finding.kind}, {finding.schedule}, at {finding.at_s:.1f} s: {finding.words}")
    for words in audit.get("differs", ())[:TOLD_MAX]:
        print(f"  the ledger and the world differ: {words}")
    print("right" if result.right else "WRONG", flush=True)
    return 0 if result.right else 1


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
