"""So many schedules, all due at one second: how many of their fires a second are on record, of whom.

A peer runs in a process and an environment of its own; so does our dispatcher, as an ordinary node. Nobody
executes anything: what is measured is the way from "due" to "on record", which is what a scheduler adds. An
observer counts from outside, seldom enough to take no more than a fiftieth of the time. A rate is what was
counted, over the time from the due second to when it was seen; whoever is not through after ``LIMIT_S`` is
judged by what there is by then.

Like beside like: `durable` beside durable. What is only handed over to a broker, or keeps the next time and
not the fire, stands beside our durable fires too, which are more than it is.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.figure import Figure, Settings
from bench.ledger import every, fill, node
from bench.peers.environments import pinned, python
from bench.peers.kinds import DURABLE, PEERS, Peer
from bench.peers.place import place
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

COUNTS = (1_000, 10_000)
BAR = 20.0
BAR_AT = 10_000
"""With so many, a burst is long enough to be timed."""

REPEATS_MAX = 3
LIMIT_S = 30.0
LEAD_S = 4.0
LEAD_S_MAX = 300.0
MARGIN_S = 1.0
NAP_S = 0.002
HOUR_S = 3600.0
PROGRAMS = Path(__file__).with_name("programs")


class Rate(NamedTuple):
    """How much was counted in how long."""

    counted: int
    seconds: float

    @property
    def a_second(self) -> float:
        """Return how much that is each second."""
        return self.counted / self.seconds


def run(settings: Settings) -> list[Figure]:
    """Measure the peers of this kind of server and ourselves by turns; return each, and the ratio."""
    ledger = settings.store.ledger("peers-where")
    store = "redis" if ledger.startswith("redis") else "postgres" if ledger.startswith("postgres") else ""
    peers = [peer for peer in PEERS if peer.store == store]
    if not peers:
        raise SystemExit("the peers are measured with --store postgres or --store redis")
    figures: list[Figure] = []
    for count in COUNTS:
        scaled = max(10, round(count * settings.scale))
        rates: dict[Peer | None, list[Rate]] = {who: [] for who in (None, *peers)}
        for turn in range(min(settings.repeats, REPEATS_MAX)):
            for who, found in rates.items():
                name = f"peers-{count}-{turn}"
                found.append(ours(settings, name, scaled) if who is None else theirs(who, ledger, scaled))
                said = "onebeat" if who is None else who.name
                print(f"  {said}, {scaled:,}: {found[-1].a_second:,.0f}/s", file=sys.stderr, flush=True)
        figures += _told(rates, scaled, BAR if count == BAR_AT else None)
    settings.store.drop(ledger)
    return figures


def _told(rates: dict[Peer | None, list[Rate]], count: int, bar: float | None) -> list[Figure]:
    medians = {who: median(each.a_second for each in found) for who, found in rates.items()}
    what = f"{count:,} due at one second"
    figures = [
        Figure(
            f"fires on record, {what}: {'onebeat' if who is None else who.name}",
            rate,
            "/s",
            "durable: a run row, and the schedule's" if who is None else f"{who.kind}: {who.recorded}",
            detail={
                "runs": [each._asdict() for each in rates[who]],
                "packages": [] if who is None else pinned(who.lock),
            },
        )
        for who, rate in medians.items()
    ]
    for kind in sorted({who.kind for who in medians if who is not None}):
        best = max(
            (who for who in medians if who is not None and who.kind == kind), key=lambda who: medians[who]
        )
        figures.append(
            Figure(
                f"onebeat beside the best that is {kind}, {what}",
                medians[None] / medians[best],
                "x",
                f"{best.name}, {medians[best]:,.0f}/s",
                bar=bar if kind == DURABLE else None,
                detail={"onebeat": medians[None], best.name: medians[best]},
            )
        )
    return figures


def ours(settings: Settings, name: str, count: int) -> Rate:
    """Have a node of ours fire, with the dispatcher's role alone; count the runs in the ledger."""
    lead = LEAD_S + count / 2000
    while (rate := _ours_after(lead, settings, name, count)) is None:
        lead = longer("onebeat", lead)
    return rate


def _ours_after(lead: float, settings: Settings, name: str, count: int) -> Rate | None:
    url = settings.store.ledger(name)
    due = ceil(time.time() + lead)
    first = datetime.fromtimestamp(due, UTC)
    fill(url, (every(HOUR_S, first) for _ in range(count)))
    store = open_store(url, SystemClock())
    try:
        with node(url, "dispatcher"):
            while not store.nodes():
                time.sleep(0.05)
            if time.time() > due - MARGIN_S:
                return None
            return watched(lambda: store.counts()["runs_ready"], due, count)
    finally:
        store.close()
        settings.store.drop(url)


def theirs(peer: Peer, ledger: str, count: int, limit: float = LIMIT_S) -> Rate:
    """Have a peer fire, in a place of its own on the same server."""
    program = [str(python(peer.lock)), str(PROGRAMS / f"{peer.program}.py")]
    lead = peer.lead_s + peer.lead_s_more * count / 1000
    while (rate := _theirs_after(lead, peer, program, ledger, count, limit)) is None:
        lead = longer(peer.name, lead)
    return rate


def _theirs_after(
    lead: float, peer: Peer, program: list[str], ledger: str, count: int, limit: float
) -> Rate | None:
    with place(ledger) as (url, counter):
        due = ceil(time.time() + lead)
        words = [*program, url, str(count), str(due)]
        with subprocess.Popen(words, env=bare(), stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout is not None
                in_time = bool(select.select([child.stdout], [], [], due - MARGIN_S - time.time())[0])
                if in_time and child.stdout.readline() != "ready\n":
                    raise SystemExit(f"{peer.name} did not come up; it ended with {child.wait()}")
                if not in_time:
                    return None
                question = peer.counted.format(due=due)
                rate = watched(lambda: counter(question), due, count, limit)
                if child.poll() is not None:
                    raise SystemExit(f"{peer.name} ended by itself, with {child.returncode}")
                return rate
            finally:
                child.kill()


def longer(who: str, lead: float) -> float:
    """Return the time to try next, for one that was not ready before its schedules were due."""
    if lead > LEAD_S_MAX:
        raise SystemExit(f"{who} was not ready within {lead:.0f} s")
    print(f"  {who} was not ready within {lead:.0f} s: once more", file=sys.stderr, flush=True)
    return 2 * lead


def bare() -> dict[str, str]:
    """Return the environment of a peer: nothing of ours is on its path."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


def watched(counter: Callable[[], int], due: int, count: int, limit: float = LIMIT_S) -> Rate:
    """Count from the due second on until all are there, or time is up."""
    assert counter() == 0, "something is on record before it is due"
    time.sleep(max(0.0, due - time.time()))
    costs = limit
    while True:
        asked = time.time()
        there = counter()
        seen = time.time()
        costs = min(costs, seen - asked)  # more is waiting, for a server that is busy
        if there >= count or seen > due + limit:
            return Rate(there, seen - due)
        # As rarely as costs little, and often enough for what is fast.
        time.sleep(max(NAP_S, (seen - due) / 100, 50 * costs if seen > due + 1 else 0.0))
