"""From the evidence in a folder to the one JSON. Nothing else is read: a run can be judged again at any time.

The verdict is that of onebeat.testing.keyed. Beside it the ledger's own audit is told, if the rig has asked
for it (`audit.json`, with `right` and whatever else it says): without its yes, the run is not right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from bench.machine import described

from chaos.faults.rows import LeasesLapsed
from chaos.page import show
from chaos.result import FINDINGS_MAX, FaultKind, FaultSpan, Lane, Result, Said, Spread, seat_of, write
from chaos.story import AUDIT, EFFECTS, FAULTS, HISTORY, PAGE, RESULT, STORY, Story
from onebeat.testing import history
from onebeat.testing.history import Effect, Fault, Operation
from onebeat.testing.keyed import Bounds, Judged, judge
from onebeat.testing.sums import SECOND, micros
from onebeat.testing.trouble import Trouble

BOUNDS = Bounds(recovery=timedelta(minutes=4), clock=timedelta(milliseconds=2))
CALM_US = 10 * SECOND
"""So long after a fault, or after the last node has begun to serve, an occurrence counts as calm."""
NAMES = {"missing": "missed", "overlap": "overlap_exceeded"}
FINDINGS = ("missing", "doubled", "early", "phantom", "overlap")
BROKERS = {"redis": "Redis", "amqp": "RabbitMQ"}
STORES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "mariadb": "MariaDB", "redis": "Redis"}


class Tally:
    """Counts bodies by second and node while the lines go by, so that they are read but once."""

    def __init__(self, began_at: datetime) -> None:
        self._zero = micros(began_at)
        self.nodes: dict[str, Counter[int]] = {}
        self.spans: dict[str, tuple[int, int]] = {}

    def watch(self, effects: Iterable[Effect]) -> Iterator[Effect]:
        """Pass the lines on."""
        for effect in effects:
            if effect.phase in {"began", "ended"}:
                at = micros(effect.at) - self._zero
                low, high = self.spans.get(effect.node, (at, at))
                self.spans[effect.node] = min(low, at), max(high, at)
                if effect.phase == "began":
                    self.nodes.setdefault(effect.node, Counter())[at // SECOND] += 1
            yield effect

    def lanes(self) -> list[Lane]:
        """Return a lane for each life of a node."""
        found = []
        for node, (low, high) in sorted(self.spans.items()):
            began = self.nodes.get(node, Counter())
            seconds = range(low // SECOND, high // SECOND + 1)
            counts = [began[second] for second in seconds]
            found.append(Lane(node=node, from_s=low / SECOND, until_s=round(high / SECOND, 2), began=counts))
        return found

    @property
    def serving_from(self) -> int:
        """Return when the last of the nodes had its first body, in microseconds of the run."""
        first: dict[str, int] = {}
        for node, (low, _) in self.spans.items():
            seat = seat_of(node)
            first[seat] = min(low, first.get(seat, low))
        return max(first.values(), default=0)

    @property
    def last(self) -> int:
        """Return when the last body began or ended, in microseconds of the run."""
        return max((high for _, high in self.spans.values()), default=0)

    def each_second(self, seconds: int) -> list[int]:
        """Return how many bodies began in each second of the run."""
        total = sum(self.nodes.values(), Counter[int]())
        return [total[second] for second in range(seconds)]


def judged(folder: Path) -> Result:
    """Return what is to be said of the run whose evidence is in a folder."""
    story = told(folder)
    operations = history.read(folder / HISTORY, Operation)
    effects = history.read(folder / EFFECTS, Effect)
    faults = history.faults(history.read(folder / FAULTS, Fault))
    tally = Tally(story.began_at)
    whole = story.ended and not story.unfinished
    over = max(story.ended_at, story.until + BOUNDS.recovery) if whole else story.ended_at
    verdict = judge(operations, tally.watch(effects), faults, story.until, bounds(story), over)
    asked = folder / AUDIT
    audit = msgspec.json.decode(asked.read_bytes()) if asked.exists() else None
    seconds = max(tally.last / SECOND, (story.until - story.began_at).total_seconds())
    late = Lateness(verdict, faults, story.began_at, tally.serving_from)
    return Result(
        title=title(story),
        store=story.store,
        server=server(story),
        right=verdict.right and whole and (audit is None or audit.get("right", False)),
        began_at=story.began_at,
        seconds=round(seconds, 1),
        minutes=story.minutes,
        seed=story.seed,
        command=command(story),
        settings={"durability": story.facts.get("durability", "")}
        | story.settings
        | {"clock_tolerance_ms": BOUNDS.clock / timedelta(milliseconds=1), "interrupted": story.interrupted},
        machine=story.machine or described(folder),
        counts=counted(verdict, story, operations.torn + effects.torn),
        found=dict(sorted(verdict.found.items())),
        faults=by_kind(faults, story.ended_at),
        fault_list=[spanned(fault, story.began_at) for fault in faults],
        lateness_all=Spread.of(late.all),
        lateness_calm=Spread.of(late.calm),
        began_each_second=tally.each_second(int(seconds) + 1),
        lateness_max_ms_each_second=late.each_second(int(seconds) + 1),
        lanes=tally.lanes(),
        findings=[
            Said(
                kind=finding.kind,
                schedule=finding.schedule,
                at_s=round((finding.at - story.began_at).total_seconds(), 3),
                words=finding.words,
            )
            for finding in verdict.findings[:FINDINGS_MAX]
        ],
        audit=audit,
    )


def bounds(story: Story) -> Bounds:
    """Return by what a run is judged: whether leases were taken from who was well."""
    return BOUNDS._replace(holders=LeasesLapsed.kind not in story.done)


def told(folder: Path) -> Story:
    """Return what the rig says of its run; of one that died, what its evidence says.

    What was under way then is not known, so nothing young is certain: the last line is the end.
    """
    if (folder / STORY).exists():
        return msgspec.json.decode((folder / STORY).read_bytes(), type=Story)
    asked = [operation.at for operation in history.read(folder / HISTORY, Operation)]
    if not asked:
        raise FileNotFoundError(
            f"there is no evidence in {folder}: neither {STORY} nor any line of {HISTORY}"
        )
    last = max((effect.at for effect in history.read(folder / EFFECTS, Effect)), default=asked[-1])
    last = max(last, *asked)
    minutes = round((last - asked[0]).total_seconds() / 60, 1)
    return Story(
        store="unknown",
        minutes=minutes,
        began_at=asked[0],
        until=last,
        ended_at=last,
        interrupted=True,
        ended=False,
    )


def judge_folder(folder: Path) -> Result:
    """Judge the evidence in a folder, and leave the result beside it, and the page that shows it."""
    result = judged(folder)
    write(result, folder / RESULT)
    show([folder / RESULT], folder / PAGE)
    return result


def counted(verdict: Judged, story: Story, torn: int) -> dict[str, int]:
    """Return everything that is a number."""
    findings = {NAMES.get(kind, kind): verdict.found[kind] for kind in FINDINGS}
    others = sum(number for kind, number in verdict.found.items() if kind not in FINDINGS)
    more = {
        "other_findings": others,
        "nodes_started": story.lives,
        "unfinished": story.unfinished,
        "torn_lines": torn,
    }
    return verdict.counts | findings | more


def command(story: Story) -> str:
    """Return the command that does the same again, as far as a seed repeats it."""
    broker = story.settings.get("broker")
    fleet = f" --engine celery --broker {broker}" if broker else ""
    words = f"python -m chaos run{fleet} --store {story.store} --minutes {story.minutes:g}"
    if story.seed is not None:
        words += f" --seed {story.seed}"
    for name, option in (("size", "--size"), ("edits_s", "--edits"), ("nodes", "--nodes")):
        if name in story.settings:
            words += f" {option} {story.settings[name]:g}"
    if not story.settings.get("shared", True):
        words += " --unshared"
    sabotage = story.settings.get("sabotage")
    return f"{words} --sabotage {sabotage}" if sabotage else words


def title(story: Story) -> str:
    """Return what was played on what."""
    store, broker = STORES.get(story.store, story.store), story.settings.get("broker")
    return f"A Celery fleet on {BROKERS.get(broker, broker)}, {store}" if broker else f"Onebeat on {store}"


def server(story: Story) -> str:
    """Return the products and versions of store and broker, as they say of themselves."""
    broker = story.settings.get("broker_server")
    return f"{ledger(story)}, broker {broker}" if broker else ledger(story)


def ledger(story: Story) -> str:
    """Return the store's product and version, as it says of itself."""
    name = STORES.get(story.store, story.store)
    version = next(
        (str(story.facts[key]) for key in ("postgres", "server", "sqlite") if key in story.facts), ""
    )
    if version.isdigit() and len(version) >= 6:  # as PostgreSQL counts: 170005
        version = f"{int(version) // 10_000}.{int(version) % 10_000}"
    return f"{name} {version}" if version else str(story.facts.get("kind", name)).capitalize()


def by_kind(faults: Iterable[Fault], ended_at: datetime) -> dict[str, FaultKind]:
    """Return how often each kind was done, and for how long in all."""
    lasted: dict[str, list[float]] = {}
    for fault in faults:
        end = fault.ended_at or ended_at
        lasted.setdefault(fault.kind, []).append((end - fault.began_at).total_seconds())
    return {
        kind: FaultKind(count=len(each), seconds=round(sum(each), 1)) for kind, each in sorted(lasted.items())
    }


def spanned(fault: Fault, zero: datetime) -> FaultSpan:
    """Return a fault as seconds of the run."""
    end = None if fault.ended_at is None else round((fault.ended_at - zero).total_seconds(), 2)
    return FaultSpan(
        kind=fault.kind,
        target=fault.target,
        from_s=round((fault.began_at - zero).total_seconds(), 2),
        until_s=end,
    )


class Lateness:
    """How late the occurrences began that had a run of their own, in milliseconds."""

    def __init__(
        self, verdict: Judged, faults: Iterable[Fault], began_at: datetime, serving_from: int
    ) -> None:
        trouble, zero = Trouble(faults), micros(began_at)
        calm_from = zero + serving_from + CALM_US
        self.all: list[float] = []
        self.calm: list[float] = []
        self._worst: dict[int, float] = {}
        for due, late in verdict.lateness:
            late_ms = late / 1000
            self.all.append(late_ms)
            if due >= calm_from and not trouble.within(due - CALM_US, due):
                self.calm.append(late_ms)
            second = (due - zero) // SECOND
            self._worst[second] = max(self._worst.get(second, 0.0), late_ms)

    def each_second(self, seconds: int) -> list[float]:
        """Return the worst lateness of what was due in each second of the run."""
        return [round(self._worst.get(second, 0.0), 1) for second in range(seconds)]
