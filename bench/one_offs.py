"""Whether one-offs cost more among a million that are pending: put, cancel, fire and end, each beside few."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from bench.figure import Figure, Settings, ratios
from bench.fires import BATCH, end, fire
from bench.ledger import TARGET, defined, fill, soon
from onebeat import Onebeat
from onebeat.core.triggers import once

SMALL, LARGE = 1_000, 1_000_000
MANY, SINGLE = 10_000, 200
BAR = 0.8  # what two measurements of the same differ by on a busy machine
HOURS_4, HOUR = 14_400, 3_600

_numbers = itertools.count()


class Ledger:
    """A ledger with so many pending one-offs, worked through the library's own front door."""

    def __init__(self, settings: Settings, pending: int) -> None:
        self.url = settings.store.ledger(f"one-offs{pending}")
        first = soon(HOURS_4)
        fill(self.url, (defined(once(first)) for _ in range(pending)), "pending-")
        self.beat = Onebeat(self.url, zone="UTC")

    def close(self, settings: Settings) -> None:
        """Forget it."""
        self.beat.close()
        settings.store.drop(self.url)


def run(settings: Settings) -> Sequence[Figure]:
    """Compare each act on the small ledger with the same on the large one, in turns."""
    large = max(SMALL * 2, int(LARGE * settings.scale))
    count = max(BATCH, int(MANY * settings.scale))
    ledgers = [Ledger(settings, pending) for pending in (SMALL, large)]
    names = ("put in bulk", "put one by one", "cancel one by one", "fire", "claim, start, finish")
    rates: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    for turn in range(settings.repeats + 1):
        for place, ledger in enumerate(ledgers):
            for name, rate in zip(names, _turn(ledger, count), strict=True):
                if turn:  # the first warms both
                    rates[name][place].append(rate)
    for ledger in ledgers:
        ledger.close(settings)
    return [_figure(name, large, alone, among) for name, (alone, among) in rates.items()]


def _turn(ledger: Ledger, count: int) -> Iterator[float]:
    """Yield how many a second of each act there were."""
    beat, store = ledger.beat, ledger.beat.store
    past = defined(once(soon(-HOUR)))
    due = {f"due-{next(_numbers)}": past for _ in range(count)}
    yield _rate(count, lambda: beat.schedules.put_all(due))
    singles = [f"order-{next(_numbers)}" for _ in range(SINGLE)]
    at = once(soon(HOUR))
    yield _rate(SINGLE, lambda: [beat.schedules.put(name, at, TARGET) for name in singles])
    yield _rate(SINGLE, lambda: [beat.schedules.delete(name) for name in singles])
    yield _rate(count, lambda: _all(count, fire(store, store.now())))
    yield _rate(count, lambda: _all(count, end(store)))


def _all(wanted: int, done: int) -> None:
    assert done >= wanted, f"{done} of {wanted}"


def _rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def _figure(name: str, large: int, alone: list[float], among: list[float]) -> Figure:
    beside = f"{median(among):,.0f}/s against {median(alone):,.0f}/s among {SMALL:,}"
    detail = {"alone_per_s": alone, "among_per_s": among}
    return Figure(f"one-offs among {large:,}: {name}", ratios(among, alone), "x", beside, BAR, detail=detail)
