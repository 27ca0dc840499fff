"""How late a commit is seen by an observer outside, and how long a herd takes."""

from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from bench.figure import Figure, Settings
from bench.ledger import Observer, every, fill, node, soon

SCHEDULES = 10_000
PERIOD_S = 10
HERD = 20_000
FILL_PER_S = 1500  # a slow machine's, so that a herd is not due before it is there


def run(settings: Settings) -> Sequence[Figure]:
    """Measure 1,000 fires a second, and 20,000 in one instant, beside a worker that runs what fires."""
    return [*_spread(settings), *_herd(settings)]


def _spread(settings: Settings) -> list[Figure]:
    count = max(100, int(SCHEDULES * settings.scale))
    url = settings.store.ledger("spread")
    first = soon(5 + count / FILL_PER_S)
    step = timedelta(seconds=PERIOD_S) / count
    fill(url, (every(PERIOD_S, first + step * n) for n in range(count)))
    observer = Observer(settings.store.newest(url))
    with node(url, "dispatcher"), node(url, "worker"):
        observer.watch((first.timestamp() - soon(0).timestamp()) + PERIOD_S / 2)  # warm
        turns = [observer.watch(2 * PERIOD_S) for _ in range(settings.repeats)]
    settings.store.drop(url)
    seen = [each for turn in turns for each in turn]
    early = sum(created < due or at < due for due, created, at in seen)
    p50s, p99s, mosts = zip(*map(_spread_of, turns), strict=True)
    p50, p99 = median(p50s), median(p99s)
    detail = {"fires": len(seen), "p50_ms": p50s, "p99_ms": p99s, "max_ms": mosts}
    told = (
        f"p50 {p50:.2g} ms; p99 from {min(p99s):.3g} to {max(p99s):.3g}, all of them within {max(mosts):.3g}"
    )
    beside = f"{told}; {len(seen)} fires in {len(turns)} turns of {2 * PERIOD_S} s, {count} schedules"
    return [
        Figure("lateness p99, seen from outside", p99, "ms", beside, 20, at_least=False, detail=detail),
        Figure("fired or seen early", early, "fires", f"of {len(seen)}", 0, at_least=False),
    ]


def _spread_of(turn: list[tuple[int, int, float]]) -> tuple[float, ...]:
    """Return the middle, the 99th percentile and the most of how late it was, in ms."""
    late = sorted(at - due for due, _, at in turn)
    return tuple(late[int(len(late) * share)] / 1000 for share in (0.5, 0.99, 0.9999999))


def _herd(settings: Settings) -> list[Figure]:
    count = max(100, int(HERD * settings.scale))
    lasts = [_herd_of(settings, count, f"herd{turn}") for turn in range(settings.repeats)]
    beside = f"from {min(lasts):.3g} to {max(lasts):.3g} in {len(lasts)} turns; all of {count} seen in each"
    name = "herd: the last of all due at one instant"
    return [Figure(name, median(lasts), "s", beside, 2.0, at_least=False, detail={"lasts_s": lasts})]


def _herd_of(settings: Settings, count: int, name: str) -> float:
    """Return after how many seconds the last was seen."""
    url = settings.store.ledger(name)
    first = soon(8 + count / FILL_PER_S)
    fill(url, (every(3600, first) for _ in range(count)))
    observer = Observer(settings.store.newest(url))
    with node(url, "dispatcher"), node(url, "worker"):
        seen = observer.watch(120, enough=count)
    settings.store.drop(url)
    assert len(seen) == count
    return (max(at for _, _, at in seen) - min(due for due, _, _ in seen)) / 1e6
