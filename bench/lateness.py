"""How late a commit is seen by an observer outside, and how long a herd takes."""

from collections.abc import Sequence
from datetime import timedelta

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
        seen = observer.watch(2 * PERIOD_S)
    settings.store.drop(url)
    late = sorted(at - due for due, _, at in seen)
    early = sum(created < due or at < due for due, created, at in seen)
    p50, p99, most = (late[int(len(late) * share)] / 1000 for share in (0.5, 0.99, 0.9999999))
    detail = {"fires": len(seen), "per_second": len(seen) / (2 * PERIOD_S), "p50_ms": p50, "max_ms": most}
    beside = f"p50 {p50:.2g}, max {most:.3g} ms over {len(seen)} fires, {count} schedules over {PERIOD_S} s"
    return [
        Figure("lateness p99, seen from outside", p99, "ms", beside, 20, at_least=False, detail=detail),
        Figure("fired or seen early", early, "fires", f"of {len(seen)}", 0, at_least=False),
    ]


def _herd(settings: Settings) -> list[Figure]:
    count = max(100, int(HERD * settings.scale))
    url = settings.store.ledger("herd")
    first = soon(8 + count / FILL_PER_S)
    fill(url, (every(3600, first) for _ in range(count)))
    observer = Observer(settings.store.newest(url))
    with node(url, "dispatcher"), node(url, "worker"):
        seen = observer.watch(120, enough=count)
    settings.store.drop(url)
    last = max(at for _, _, at in seen) - min(due for due, _, _ in seen)
    beside = f"{len(seen)} of {count} seen"
    return [Figure("herd: the last of all due at one instant", last / 1e6, "s", beside, 2.0, at_least=False)]
