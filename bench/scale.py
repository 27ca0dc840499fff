"""Whether start-up, memory and the speed of firing depend on how many schedules exist."""

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from bench.figure import Figure, Settings, ratios
from bench.fires import FREE, ROUNDS, Rounds, fire
from bench.ledger import Observer, defined, every, fill, node, peak_mib, soon
from onebeat.core.triggers.interval import once
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

SMALL, LARGE = 1_000, 1_000_000
FIRING = 10_000


def run(settings: Settings) -> Sequence[Figure]:
    """Compare first fire, peak memory and firing on a small ledger with those on a large one."""
    large = max(SMALL * 2, int(LARGE * settings.scale))
    urls = {count: settings.store.ledger(f"scale{count}") for count in (SMALL, large)}
    filled = {
        count: fill(url, (every(86_400, soon(14_400) + timedelta(milliseconds=n)) for n in range(count)))
        for count, url in urls.items()
    }
    # Measured in turns, small, large, small, …: the machine's mood meets both.
    firsts: dict[int, list[float]] = {count: [] for count in urls}
    peaks: dict[int, list[float]] = {count: [] for count in urls}
    for turn in range(settings.repeats):
        for count, url in urls.items():
            first_fire, peak = _once(settings, url, turn)
            firsts[count].append(first_fire)
            peaks[count].append(peak)
    figures = [Figure(f"put of {large:,} schedules", filled[large], "a second", "batches of 500, no floor")]
    for name, unit, values in (("first fire", "s", firsts), ("peak memory", "MiB", peaks)):
        small, big = median(values[SMALL]), median(values[large])
        figures.append(
            Figure(
                f"{name}, {large:,} schedules against {SMALL:,}",
                big / small,
                "x",
                f"{big:.3g} {unit} against {small:.3g} {unit}, medians of {settings.repeats}",
                1.3,
                at_least=False,
                detail={str(count): each for count, each in values.items()},
            )
        )
    figures.append(_firing(settings, urls[SMALL], urls[large], large))
    for url in urls.values():
        settings.store.drop(url)
    return figures


def _once(settings: Settings, url: str, turn: int) -> tuple[float, float]:
    """Return the seconds from the process's start to its first fire, seen outside, and its peak MiB."""
    fill(url, [defined(once(soon(-60)))], prefix=f"first{turn}-")
    observer = Observer(settings.store.newest(url))
    os.sync()  # what filling left to be written would stand in the way of the node's first commits
    begun = time.perf_counter()
    with node(url, "dispatcher", "worker") as child:
        seen = observer.watch(120, enough=1)
        took = time.perf_counter() - begun
        assert seen
        time.sleep(2)
        return took, peak_mib(child)


def _firing(settings: Settings, small: str, big: str, large: int) -> Figure:
    """Compare firing of as many schedules, alone and among all the others."""
    count = min(FIRING, max(SMALL, int(FIRING * settings.scale)))
    stores = []
    for url in (small, big):
        fill(url, [FREE] * count, "busy")
        stores.append(open_store(url, SystemClock()))
    rounds = Rounds()
    for store in stores:
        fire(store, rounds.at)
    rates = list[float](), list[float]()
    for _ in range(settings.repeats):
        seconds = rounds.next(ROUNDS)
        for store, told in zip(stores, rates, strict=True):
            begun = time.perf_counter()
            assert sum(fire(store, at) for at in seconds) == count * ROUNDS
            told.append(count * ROUNDS / (time.perf_counter() - begun))
    for store in stores:
        store.close()
    alone, among = rates
    beside = f"{median(among):,.0f}/s of {count:,} among {large:,} against {median(alone):,.0f}/s"
    detail = {"alone_per_s": alone, "among_per_s": among}
    return Figure(
        f"firing, {large:,} schedules against few", ratios(among, alone), "x", beside, 0.8, detail=detail
    )
