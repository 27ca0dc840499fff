"""How many durable fires a second dispatchers make, beside the least that could write them.

The floor is a loop by hand (bench/stores): the same driver, server, tables, indexes and batch, and rows that
are ready as tuples before the clock starts. It decides nothing, reads nothing and checks nothing but versions
and tokens. Ours and the floor take turns on one ledger; a ratio is the median of the turns.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

from bench.figure import Figure, Settings, ratios
from bench.ledger import TARGET, fill
from bench.stores import Fire, Floor
from onebeat.core.decide import settle
from onebeat.core.messages import Claim, Done, Finish, Share, Start
from onebeat.core.model import (
    Definition,
    Outcome,
    Overlap,
    Policy,
    RunState,
    TriggerSpec,
    micros,
    occurrence_stamp,
)
from onebeat.core.ports import Store
from onebeat.engine.clock import SystemClock
from onebeat.store.open import open_store

SCHEDULES = 10_000
ROUNDS = 4
BATCH = 1000
SECOND = timedelta(seconds=1)
LEASE = timedelta(minutes=10)
EACH_SECOND = TriggerSpec(kind="cron", fields={"expression": "* * * * * *", "zone": "UTC"})
FREE = Definition(trigger=EACH_SECOND, target=TARGET, policy=Policy(overlap=Overlap.ALLOW))
LIMITED = Definition(trigger=EACH_SECOND, target=TARGET)

Work = Callable[[Store, datetime], int]
ByHand = Callable[[Floor, list[Fire]], None]


def run(settings: Settings) -> Sequence[Figure]:
    """Measure firing alone, firing with completion, and two dispatchers beside one."""
    return [
        beside_floor(settings, "durable fires", FREE, fire, write, bar=0.5),
        beside_floor(settings, "fire, claim, start, finish", LIMITED, live, complete, bar=0.4),
        *_two(settings),
    ]


class Rounds:
    """Seconds of the ledger's time, one after the other; each is over when it is asked for."""

    def __init__(self) -> None:
        self.at = datetime.fromtimestamp(int(time.time()), UTC)

    def next(self, count: int) -> list[datetime]:
        """Return the next seconds, as soon as they are past."""
        found = [self.at + SECOND * number for number in range(1, count + 1)]
        self.at = found[-1]
        time.sleep(max(0.0, self.at.timestamp() + 0.01 - time.time()))
        return found


def beside_floor(
    settings: Settings, name: str, definition: Definition, ours: Work, by_hand: ByHand, bar: float
) -> Figure:
    """Return what ours reaches of the floor, in turns on one ledger."""
    count = max(BATCH, int(SCHEDULES * settings.scale))
    url = settings.store.ledger(name.replace(" ", "-").replace(",", ""))
    filled = fill(url, [definition] * count, "nightly-report-")
    store, floor, rounds = open_store(url, SystemClock()), settings.store.floor(url), Rounds()
    ours(store, rounds.at)  # what was owed since they were made; and everything is warm
    rates, floors = list[float](), list[float]()
    for _ in range(settings.repeats):
        seconds = rounds.next(ROUNDS)
        begun = time.perf_counter()
        assert sum(ours(store, at) for at in seconds) == count * ROUNDS
        rates.append(count * ROUNDS / (time.perf_counter() - begun))
        fires = list(_ready(floor, rounds.next(ROUNDS)))
        begun = time.perf_counter()
        by_hand(floor, fires)
        floors.append(count * ROUNDS / (time.perf_counter() - begun))
    store.close()
    floor.close()
    settings.store.drop(url)
    beside = f"{median(rates):,.0f}/s against {median(floors):,.0f}/s by hand, batches of {BATCH}"
    detail = {
        "ours_per_s": rates,
        "floor_per_s": floors,
        "schedules": count,
        "rounds": ROUNDS,
        "put_per_s": filled,
    }
    return Figure(name, ratios(rates, floors), "of the floor", beside, bar, detail=detail)


def fire(store: Store, now: datetime) -> int:
    """Settle all that is due; return how many won."""
    fired = 0
    while rows := store.due(now, BATCH).rows:
        fired += sum(store.settle(now, [settle(row, now) for row in rows]).won)
    return fired


def live(store: Store, now: datetime) -> int:
    """Settle, claim, start and finish all that is due; return how many were finished."""
    finished = 0
    while rows := store.due(now, BATCH).rows:
        store.settle(now, [settle(row, now) for row in rows])
        finished += _ended(store, store.now() + LEASE)
    return finished


def end(store: Store) -> int:
    """Claim, start and finish all that is ready; return how many were finished."""
    until, finished = store.now() + LEASE, 0
    while ended := _ended(store, until):
        finished += ended
    return finished


def _ended(store: Store, until: datetime) -> int:
    """Claim, start and finish a batch."""
    wish = Claim(holder="bench", queues=("default",), targets=(TARGET.key,), limit=BATCH, until=until)
    claimed = [each.run for each in store.claim(wish)]
    if not claimed:
        return 0
    store.advance([Start(run_id=run.id, token=run.token) for run in claimed])
    verdict = Done(state=RunState.SUCCEEDED)
    ends = [
        Finish(run_id=run.id, token=run.token, outcome=Outcome.SUCCEEDED, verdict=verdict) for run in claimed
    ]
    return sum(answer.answer == "accepted" for answer in store.advance(ends))


def _ready(floor: Floor, seconds: Iterable[datetime]) -> Iterator[Fire]:
    """Yield each second's fires, ready to be written."""
    schedules = floor.schedules()
    for turn, at in enumerate(seconds):
        due, before, stamp = micros(at), micros(at - SECOND), occurrence_stamp(at)
        for *under, version in schedules:
            cells = (f"{under[1]}@{stamp}", *under, "ready", "live", None, due, due, due, due, None)
            yield Fire(version + turn, (*cells, before, due, 1, None, None, None), due + 1_000_000)


def _batches(fires: Sequence[Fire]) -> Iterator[Sequence[Fire]]:
    for begin in range(0, len(fires), BATCH):
        yield fires[begin : begin + BATCH]


def write(floor: Floor, fires: list[Fire]) -> None:
    """Write fires."""
    for batch in _batches(fires):
        floor.settle(batch)


def complete(floor: Floor, fires: list[Fire]) -> None:
    """Write fires, and a life for each of their runs."""
    for batch in _batches(fires):
        now = int(time.time() * 1e6)
        named = [(each.run[0], now + number) for number, each in enumerate(batch)]
        floor.settle(batch)
        floor.claim(named, now, now + 30_000_000)
        floor.start(named, now)
        floor.finish(named, now)


# --- two dispatchers, each a process


def _two(settings: Settings) -> list[Figure]:
    """Return how much two processes settle beside one, on one ledger, in turns."""
    count = max(BATCH, int(SCHEDULES * settings.scale))
    url = settings.store.ledger("two")
    fill(url, [FREE] * count)
    rounds = Rounds()
    with_two, with_one = list[float](), list[float]()
    for turn in range(settings.repeats + 1):
        for many, rates in ((1, with_one), (2, with_two)):
            rate = _drained(url, many, rounds.next(ROUNDS), count)
            if turn:  # the first turn settles what was owed since they were made
                rates.append(rate)
    settings.store.drop(url)
    beside = f"{median(with_two):,.0f}/s against {median(with_one):,.0f}/s of one, each a process of its own"
    detail = {"two_per_s": with_two, "one_per_s": with_one}
    return [Figure("two dispatchers", ratios(with_two, with_one), "x one", beside, detail=detail)]


def _drained(url: str, many: int, seconds: Sequence[datetime], count: int) -> float:
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.fires",
                url,
                str(many),
                str(index),
                *(at.isoformat() for at in seconds),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(many)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    begun = time.perf_counter()
    told = [child.communicate("go\n")[0] if many == 1 else _go(child) for child in children]
    told = [each or child.communicate()[0] for each, child in zip(told, children, strict=True)]
    took = max(float(each.split()[1]) for each in told) - begun
    fired = sum(int(each.split()[0]) for each in told)
    assert fired <= count * len(seconds)
    return fired / took


def _go(child: "subprocess.Popen[str]") -> str:
    assert child.stdin is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    return ""


def _drain(url: str, many: int, index: int, seconds: Iterable[datetime]) -> None:
    """Be one of many dispatchers: own shards first, then what the others have left."""
    store = open_store(url, SystemClock())
    mine = Share(of=many, index=index) if many > 1 else None
    store.due(store.now(), 1, mine)
    print("ready", flush=True)
    sys.stdin.readline()
    fired = 0
    for at in seconds:
        while rows := store.due(at, BATCH, mine).rows:
            fired += sum(store.settle(at, [settle(row, at) for row in rows]).won)
    print(fired, time.perf_counter())
    store.close()


if __name__ == "__main__":
    _drain(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), map(datetime.fromisoformat, sys.argv[4:]))
