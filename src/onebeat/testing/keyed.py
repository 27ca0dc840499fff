"""The keyed checker: holds what bodies did against what a schedule owed, occurrence by occurrence.

For systems that tell a body which occurrence it runs for. Sound is MUST ⊆ fired ⊆ MUST ∪ MAY (owed.py), one
run for an occurrence, one end of a run, no body before its occurrence, further bodies of a run only under
larger tokens, and no more at once than the limit. Whatever outside evidence cannot decide is not a finding:

* A body that never wrote its first line is not seen. So nothing is *missing* under ``on_lost="fail"`` where
  a fault was in force while it should have begun: its start was marked, and it may begin once at most.
* Whether the ledger accepted a report is known only where the node lived to write the answer down
  (``accepted``, ``refused``). Two accepted ends, or a body under a later lease than an accepted end, are
  never right.
* A body may outlive its lease. For the limit it counts from its first line to its last if no later lease of
  its run led to a body, and, where nodes write down answers, if its own report was accepted after it ended.
* Where bodies say at which instant they still held their run for their own (``mine``), no body of a later
  lease may have begun before it.
* A stopped process may begin a body under a lease that it has lost meanwhile. It is counted, as
  ``overtaken``, and is a finding only where no fault was in force since the run's first body began.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from onebeat.testing.history import Effect, Fault, Limits, Operation
from onebeat.testing.oracle import Oracle
from onebeat.testing.owed import Owed, calls, owed, strict
from onebeat.testing.sums import TICK, micros, moment
from onebeat.testing.trouble import Trouble

KINDS = (
    "missing",
    "phantom",
    "doubled",
    "early",
    "two ends",
    "after the end",
    "stale end",
    "same lease",
    "two holders",
    "overtaken",
    "attempt",
    "again",
    "overlap",
    "sink",
    "cut",
)
"""All kinds of findings."""

COUNTS = (
    "schedules",
    "limited",
    "edits_ok",
    "edits_fail",
    "edits_unknown",
    "must",
    "may",
    "fired",
    "folded",
    "requests",
    "bodies",
    "ended",
    "retried_bodies",
    "repeated_bodies",
    "unprovoked_bodies",
    "overtaken",
    "at_most_once",
)
"""Everything that is counted beside the findings."""

TOLD_MAX = 1000
FINISHED = {"succeeded", "failed", "cancelled", "timed_out", "expired"}
REPORTED = {"failed", "timed_out"}
AGAIN = "again"


class Finding(NamedTuple):
    """Something that must not be: of which kind, where, when, and in words."""

    kind: str
    schedule: str
    at: datetime
    words: str


class Body(NamedTuple):
    """One beginning of a run's body."""

    token: int
    attempt: int
    began: int
    node: str


class End(NamedTuple):
    """The end of a body, by its own words or by the ledger's: how it went, or the state of the run then.

    ``mine``: the body still held the run for its own.
    """

    token: int
    at: int
    words: str
    mine: bool = False


class Seen:
    """All that was seen of one run. There are very many, so each holds nothing but tuples."""

    __slots__ = ("accepted", "bodies", "count", "ended", "first", "last", "occurrence", "run_id", "sunk")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.occurrence: int | None = None
        self.first = self.last = 0
        self.count = 1
        self.bodies: tuple[Body, ...] = ()
        self.ended: tuple[End, ...] = ()  # by the bodies' own words
        self.accepted: tuple[End, ...] = ()  # by the ledger's: the state of the run, if it is over, or AGAIN
        self.sunk: int | None = None  # effects in a sink

    @property
    def began(self) -> int:
        """Return when the first body of the run began."""
        return min(body.began for body in self.bodies)

    @property
    def tokens(self) -> list[int]:
        """Return the tokens under which the run ended, each once."""
        return sorted({end.token for end in self.accepted if end.words in FINISHED})


class Judged(NamedTuple):
    """The verdict. ``findings`` holds the first TOLD_MAX; ``found`` counts them all, by kind.

    ``lateness`` has, for each occurrence that had a run of its own, when it was and by how much later the
    first body began. ``counts`` has all of COUNTS: ``may`` without what is in ``must``; ``at_most_once`` is
    owed under ``on_lost="fail"`` and not seen, while a fault was in force; ``unprovoked_bodies`` are those of
    ``repeated_bodies`` before which nothing had been done to anybody since the body before began (a machine
    too slow to renew in time); ``limited`` are schedules that always had a limit of bodies at once.
    """

    findings: list[Finding]
    found: Counter[str]
    counts: dict[str, int]
    lateness: list[tuple[int, int]]

    @property
    def right(self) -> bool:
        """Whether there is no finding."""
        return not self.found


class Bounds(NamedTuple):
    """Until when the slowest recovery is over, and by how much two clocks may differ.

    ``holders``: whether leases are left to those who hold them, so that no two can hold one.
    """

    recovery: timedelta = timedelta(seconds=30)
    clock: timedelta = timedelta(0)
    holders: bool = True


BOUNDS = Bounds()


def judge(
    operations: Iterable[Operation],
    effects: Iterable[Effect],
    faults: Iterable[Fault],
    until: datetime,
    bounds: Bounds = BOUNDS,
    over: datetime | None = None,
) -> Judged:
    """Return the verdict on everything that was owed until an instant.

    ``over`` is when the onlooker went away, by default at that instant: what became due less than
    ``bounds.recovery`` before it need not have begun.

    Raises InvalidInput for a trigger that no oracle knows.
    """
    history = calls(operations)
    seen, reports = _seen(effects)
    trouble = Trouble(faults)
    end = micros(over or until)
    asked = [call for each in history.values() for call in each]
    begin = moment(min((call.begin for call in asked), default=0))
    spread = max((call.asked.limits.spread_s for call in asked if call.asked.limits is not None), default=0.0)
    oracle = Oracle(begin - timedelta(seconds=spread), until)
    verdict = Judged([], Counter(), dict.fromkeys(COUNTS, 0), [])
    for name in sorted(history.keys() | seen.keys()):
        each = history.get(name, [])
        for call in each:
            verdict.counts["edits_ok" if call.done else "edits_fail" if call.known else "edits_unknown"] += 1
        debts = owed(each, oracle, until, bounds.clock // TICK)
        runs = sorted(seen.pop(name, {}).values(), key=lambda run: run.run_id)
        _Case(name, debts, runs, trouble, end, bounds, reports, verdict).judge()
    verdict.counts["schedules"] = len(history)
    verdict.findings.sort(key=lambda finding: finding.at)
    return verdict


def _seen(effects: Iterable[Effect]) -> tuple[dict[str, dict[str, Seen]], bool]:
    """Return what was seen of each schedule's runs, and whether nodes write down what they are answered."""
    found: dict[str, dict[str, Seen]] = {}
    reports = False
    for effect in effects:
        runs = found.setdefault(effect.schedule, {})
        run = runs.get(effect.run_id)
        if run is None:
            run = runs[effect.run_id] = Seen(effect.run_id)
        match effect.phase:
            case "began":
                run.bodies += (Body(effect.token, effect.attempt, micros(effect.at), effect.node),)
                if effect.occurrence_at is not None:
                    run.occurrence = run.first = run.last = micros(effect.occurrence_at)
                    if effect.first_at is not None and effect.last_at is not None:
                        run.first, run.last = micros(effect.first_at), micros(effect.last_at)
                    run.count = effect.count
            case "ended":
                run.ended += (End(effect.token, micros(effect.at), effect.outcome or "", bool(effect.mine)),)
            case "accepted":
                reports = True
                again = AGAIN if effect.outcome in REPORTED else ""
                words = effect.state if effect.state in FINISHED else again
                run.accepted += (End(effect.token, micros(effect.at), words or ""),)
            case "refused":
                reports = True
            case "counted":
                run.sunk = effect.count
    return found, reports


class _Case:
    """One schedule: what it owed, what was seen of its runs, and what is to be said of that."""

    def __init__(
        self,
        name: str,
        debts: Owed,
        runs: list[Seen],
        trouble: Trouble,
        until: int,
        bounds: Bounds,
        reports: bool,
        verdict: Judged,
    ) -> None:
        self.name = name
        self.debts = debts
        self.runs = runs
        self.trouble = trouble
        self.until = until
        self.recovery = bounds.recovery // TICK
        self.clock = bounds.clock // TICK
        self.bounds = bounds
        self.reports = reports
        self.verdict = verdict
        self.at_most_once = any(limits.on_lost == "fail" for limits in debts.limits)

    def judge(self) -> None:
        """Look at everything there is to look at."""
        begun = [run for run in self.runs if run.bodies]
        fired = [run for run in begun if run.occurrence is not None]
        self._occurrences(fired)
        self._requests([run for run in begun if run.occurrence is None])
        for run in begun:
            self._bodies(run)
        for run in self.runs:
            self._ends(run)
        self._limit(begun)
        self._sink()
        for answer in self.debts.cut_outside:
            self._tell(
                "cut",
                micros(answer.at),
                f"the answer to operation {answer.number} names the cut {answer.cut}, "
                "which is outside of the call",
            )

    def _tell(self, kind: str, at: int, words: str) -> None:
        self.verdict.found[kind] += 1
        if len(self.verdict.findings) < TOLD_MAX:
            self.verdict.findings.append(Finding(kind, self.name, moment(at), words))

    # --- occurrences ---

    def _occurrences(self, fired: list[Seen]) -> None:
        by_occurrence: dict[int, Seen] = {}
        may = self.debts.may
        for run in fired:
            assert run.occurrence is not None
            if (other := by_occurrence.setdefault(run.occurrence, run)) is not run:
                self._tell(
                    "doubled", run.occurrence, f"{other.run_id} and {run.run_id} ran for one occurrence"
                )
            if run.began + self.clock < run.occurrence:
                early = (run.occurrence - run.began) / 1000
                self._tell("early", run.began, f"{run.run_id} began {early:g} ms before its occurrence")
            if run.occurrence not in may:
                self._tell("phantom", run.occurrence, f"{run.run_id} ran for what cannot have been due")
            else:
                self.verdict.lateness.append((run.occurrence, run.began - run.occurrence))
        folded = self._folded(fired, by_occurrence)
        counts = self.verdict.counts
        counts["fired"] += len(by_occurrence)
        counts["folded"] += len(folded)
        self._missing(by_occurrence.keys(), folded)

    def _folded(self, fired: list[Seen], own: dict[int, Seen]) -> set[int]:
        """Return the occurrences for which a run stands that is another's. One with a run too was doubled."""
        folded = set[int]()
        many = [run for run in fired if run.first < run.last]
        if not many:
            return folded
        ordered = sorted(self.debts.may)
        for run in many:
            for instant in ordered[bisect_right(ordered, run.first - 1) : bisect_right(ordered, run.last)]:
                if instant == run.occurrence:
                    continue
                if instant in own or instant in folded:
                    self._tell(
                        "doubled",
                        instant,
                        f"{run.run_id} stands for {moment(instant)}, which another run had",
                    )
                folded.add(instant)
        return folded

    def _missing(self, own: Iterable[int], folded: set[int]) -> None:
        fired = set(own)
        deleted = max(self.debts.deleted, default=-1)
        surely = 0
        for instant, limits in sorted(self.debts.must.items()):
            promised = strict(limits)
            due = instant + round(limits.spread_s * 1_000_000)
            # A delete cancels what waits for a slot, so until it began such a run is not certain.
            if (
                not promised
                or due + self.recovery > self.until
                or (limits.overlap == "queue_all" and deleted >= instant)
            ):
                continue
            surely += 1
            if instant in fired or (instant in folded and self._may_fold(limits)):
                continue
            if limits.on_lost == "fail" and self.trouble.within(instant, due + self.recovery):
                self.verdict.counts["at_most_once"] += 1
                continue
            what = (
                "another run stands for it, though all were promised" if instant in folded else "nothing ran"
            )
            self._tell("missing", instant, f"{moment(instant)} of {self.name}: {what}")
        self.verdict.counts["must"] += surely
        self.verdict.counts["may"] += len(self.debts.may) - surely

    def _may_fold(self, limits: Limits) -> bool:
        """Return whether one run may stand for several. ``all`` folds only what is beyond its maximum."""
        return limits.catch_up != "all" or len(self.debts.may) > limits.catch_up_max

    def _requests(self, asked: list[Seen]) -> None:
        possible = [call for call in self.debts.requests if call.done or not call.known]
        named = {call.run_id for call in possible}
        nameless = sum(call.run_id is None for call in possible)
        strangers = [run for run in asked if run.run_id not in named]
        for run in strangers[nameless:]:
            self._tell("phantom", run.began, f"{run.run_id} ran, and nobody had asked for it")
        begun = {run.run_id for run in asked}
        deleted = max(self.debts.deleted, default=-1)
        self.verdict.counts["requests"] += len(begun)
        for call in possible:
            run_id = call.run_id
            if not call.done or run_id is None or run_id in begun or call.end + self.recovery > self.until:
                continue
            certain = all(
                strict(limits) and (limits.overlap == "allow" or deleted < call.begin)
                for limits in self.debts.limits
            )
            if certain:
                if self.at_most_once and self.trouble.within(call.begin, call.end + self.recovery):
                    self.verdict.counts["at_most_once"] += 1
                else:
                    self._tell("missing", call.end, f"{run_id} was asked for and acknowledged, and never ran")

    # --- runs ---

    def _bodies(self, run: Seen) -> None:
        counts = self.verdict.counts
        counts["bodies"] += len(run.bodies)
        counts["ended"] += len(run.ended)
        if len(run.bodies) == 1:
            return
        self._holders(run)
        by_token = sorted(run.bodies)
        reported = {end.token for end in run.ended if end.words in REPORTED}
        reported |= {end.token for end in run.accepted if end.words == AGAIN}
        for earlier, later in pairwise(by_token):
            if earlier.token == later.token:
                self._tell(
                    "same lease", later.began, f"two bodies of {run.run_id} ran under token {later.token}"
                )
                continue
            if later.attempt <= earlier.attempt:
                words = f"attempt {later.attempt} under token {later.token}, after attempt {earlier.attempt}"
                self._tell("attempt", later.began, f"{run.run_id} had {words} under {earlier.token}")
            if earlier.began > later.began:
                counts["overtaken"] += 1
                if not self.trouble.within(run.began, earlier.began):
                    words = f"began under token {earlier.token} when {later.token} had begun"
                    self._tell(
                        "overtaken",
                        earlier.began,
                        f"a body of {run.run_id} {words}, and nothing had been done",
                    )
            if earlier.token in reported:
                counts["retried_bodies"] += 1
                continue
            counts["repeated_bodies"] += 1
            counts["unprovoked_bodies"] += not self.trouble.within(earlier.began, later.began)
            if self.at_most_once and all(limits.on_lost == "fail" for limits in self.debts.limits):
                self._tell("again", later.began, f"{run.run_id} ran again, though what is lost was to fail")

    def _holders(self, run: Seen) -> None:
        """Where a body still held a run for its own, none may have begun under a later lease."""
        for held in run.ended if self.bounds.holders else ():
            for body in run.bodies if held.mine else ():
                if body.token > held.token and body.began + self.clock < held.at:
                    words = f"held {run.run_id} for its own when {body.token} had begun"
                    self._tell("two holders", held.at, f"a body under token {held.token} {words}")

    def _ends(self, run: Seen) -> None:
        if not run.accepted:
            return
        for end in run.ended:
            stale = any(body.token > end.token and body.began < end.at for body in run.bodies)
            if stale and any(each.token == end.token for each in run.accepted):
                words = "was accepted, though another body had begun under a later lease when it ended"
                self._tell("stale end", end.at, f"the end of {run.run_id} under token {end.token} {words}")
        if not run.tokens:
            return
        first, *others = run.tokens
        if others:
            words = f"ended under the tokens {', '.join(map(str, run.tokens))}, and each was accepted"
            self._tell("two ends", max(end.at for end in run.accepted), f"{run.run_id} {words}")
        for body in run.bodies:
            if body.token > first:
                words = f"began under token {body.token}, though it had ended under {first}"
                self._tell("after the end", body.began, f"{run.run_id} {words}")

    def _limit(self, begun: list[Seen]) -> None:
        limit = self.debts.max_running
        if limit is None:
            return
        self.verdict.counts["limited"] += 1
        changes: list[tuple[int, int, str]] = []
        for run in begun:
            span = self._held(run)
            if span is not None and span[1] > span[0]:
                changes += [(span[0], 1, run.run_id), (span[1], -1, run.run_id)]
        running = set[str]()
        for at, step, run_id in sorted(changes):
            if step < 0:
                running.discard(run_id)
                continue
            running.add(run_id)
            if len(running) > limit:
                which = ", ".join(sorted(running))
                self._tell("overlap", at, f"{len(running)} bodies at once where {limit} may run: {which}")

    def _held(self, run: Seen) -> tuple[int, int] | None:
        """Return from when to when a body of the run surely held a slot, None where that is not known."""
        last = max(run.bodies)
        ended = [end.at for end in run.ended if end.token == last.token]
        if not ended:
            return None
        own = [end for end in run.accepted if end.token == last.token and end.words in FINISHED]
        if self.reports and not any(end.at >= ended[0] for end in own):
            return None
        return last.began, ended[0]

    def _sink(self) -> None:
        """Where a sink holds effects of some of the runs, it must hold one of each that succeeded."""
        if not any(run.sunk is not None for run in self.runs):
            return
        for run in self.runs:
            done = any(end.words == "succeeded" for end in run.accepted)
            if (run.sunk or 0) > 1 or (done and run.sunk != 1):
                at = run.began if run.bodies else 0
                self._tell("sink", at, f"the sink holds {run.sunk or 0} effects of {run.run_id}")
