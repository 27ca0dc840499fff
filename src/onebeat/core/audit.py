"""The proof: what the ledger says was settled, against what a matcher says ought to have been.

A ledger is right where its tiles cover every stretch of time once, where each tile counts as many occurrences
as the definition in force has there, and where whatever fired is one of them. The occurrences come from
matcher.py, which shares no code with the triggers that the dispatchers asked.

    trail ──► which definition governed which stretch ──► matcher ──► expected
    tiles ──► do they tile? do the counts agree? ───────────────────► gaps, extras, early, lateness
    summaries (what purging left) ──► do the sums agree? ───────────► proven by summary

Pure: rows in, a report out. Work is proportional to the occurrences looked at.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

import msgspec

from onebeat.core.decide import offset_of
from onebeat.core.errors import InvalidTrigger, MissingExtra
from onebeat.core.matcher import matches
from onebeat.core.messages import Change, Summary, Tile
from onebeat.core.model import MICROSECOND, Noun, Run, Schedule, instant_text

PATIENCE = timedelta(minutes=1)
"""What is due for longer than this, while a dispatcher lives and nothing explains it, is a gap."""

FINDINGS_MAX = 100


class Finding(Noun, frozen=True, kw_only=True):
    """Something that ought not to be, and how many occurrences it is about.

    ``kind`` is gap, extra, early, or set_back: the row's mark stands behind what is settled.
    """

    kind: str
    schedule: str
    after_at: datetime
    until_at: datetime
    count: int
    what: str


class Lateness(Noun, frozen=True, kw_only=True):
    """How late the fires were, from the instant they were due to their commit. None: nothing fired."""

    fires: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    max_s: float | None = None


class Audited(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """The proof of one schedule, over the tiles that touch the window.

    ``proof`` says on what it rests: ``rows`` all of it, ``summary`` (what purging left) up to
    ``provable_from``, or ``tiles``, where the matcher does not know the kind of trigger, so that only the
    tiling was checked. Before ``not_before`` nothing can be said.
    """

    schedule: str
    proof: str
    expected: int = 0
    fired: int = 0
    folded: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    owed: int = 0
    owed_why: str = ""
    provable_from: datetime | None = None
    not_before: datetime | None = None
    lateness: Lateness = Lateness()
    gaps: int = 0
    extras: int = 0
    early: int = 0
    set_back: int = 0
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether nothing is missing, nothing is or will be there twice, and nothing fired early."""
        return not (self.gaps or self.extras or self.early or self.set_back)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that is known of one schedule, read in one go.

    ``loose`` are runs that stand for an occurrence, cover no tile and were asked for by nobody. ``excuse`` is
    why what is owed now is not settled yet, where something explains it. ``served_since`` is since when a
    dispatcher has been alive, None where none is. ``mark`` is the row's own, read after all the rest: marks
    only grow, so whatever was settled by then lies before it; None where the row is gone.
    """

    schedule: Schedule
    trail: Sequence[Change]
    tiles: Sequence[Tile]
    summaries: Sequence[Summary] = ()
    provable_from: datetime
    loose: Sequence[Run] = ()
    excuse: str = ""
    served_since: datetime | None = None
    mark: datetime | None = None


def audit(evidence: Evidence, since: datetime, until: datetime, now: datetime) -> tuple[Audited, list[float]]:
    """Return the proof of one schedule over (since, until], and the lateness of each fire in seconds."""
    report = _Report(evidence.schedule.name)
    first = evidence.trail[0].boundary_at if evidence.trail else evidence.schedule.settled_until
    timeline = _Timeline(evidence.trail)
    provable = max(evidence.provable_from, first)
    tiles = [tile for tile in evidence.tiles if tile.mark_after > provable]
    summed = [day for day in evidence.summaries if day.mark_after > since and day.mark_before < until]
    try:
        _sweep(report, timeline, evidence, tiles, max(since, provable), until)
        if since < provable and summed:
            _sum_up(report, timeline, evidence, summed, provable)
        _owed(report, timeline, evidence, since, until, now)
    except (InvalidTrigger, MissingExtra) as error:
        report = _Report(evidence.schedule.name)
        report.notes.append(f"counts are unchecked: {error}")
        _sweep(report, None, evidence, tiles, max(since, provable), until)
    _loose(report, evidence)
    _mark(report, timeline, evidence)
    return report.written(evidence, since, provable, first), report.late


# --- what was expected ----------------------------------------------------------------------------------


class _Timeline:
    """Which definition governed which instants: each from its boundary to the next one's."""

    def __init__(self, trail: Sequence[Change]) -> None:
        self._trail = trail

    def walk(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the occurrences that ought to be settled in (after, until], oldest first."""
        ends = [change.boundary_at for change in self._trail[1:]]
        for change, end in zip(self._trail, [*ends, None], strict=True):
            begin = max(after, change.boundary_at)
            stop = until if end is None else min(until, end)
            if begin < stop and not change.deleted:
                yield from matches(change.definition.trigger, begin, stop)


class _Walk:
    """A walk through the expected occurrences, step by step: a year of seconds is never held at once."""

    def __init__(self, occurrences: Iterator[datetime]) -> None:
        self.total = 0
        self._occurrences = occurrences
        self._next = next(occurrences, None)

    def count(self, until: datetime, wanted: datetime | None = None) -> tuple[int, bool]:
        """Go on until an instant; return how many there were, and whether ``wanted`` was one of them."""
        count, seen = 0, False
        while self._next is not None and self._next <= until:
            count += 1
            seen = seen or self._next == wanted
            self._next = next(self._occurrences, None)
        self.total += count
        return count, seen


# --- the sweep ------------------------------------------------------------------------------------------


@dataclass
class _Report:
    """What has been seen so far."""

    name: str
    expected: int = 0
    fired: int = 0
    folded: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    owed: int = 0
    late: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    summed: bool = False

    def find(self, kind: str, after: datetime, until: datetime, count: int, what: str) -> None:
        """Note something that ought not to be."""
        self.counts[kind] += count
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(
                Finding(kind=kind, schedule=self.name, after_at=after, until_at=until, count=count, what=what)
            )

    def written(self, evidence: Evidence, since: datetime, provable: datetime, first: datetime) -> Audited:
        proof = "tiles" if self.notes else "summary" if self.summed else "rows"
        blind = since < provable and provable > first and not self.summed
        return Audited(
            schedule=self.name,
            proof=proof,
            expected=self.expected,
            fired=self.fired,
            folded=self.folded,
            skipped=dict(sorted(self.skipped.items())),
            owed=self.owed,
            owed_why=evidence.excuse if self.owed else "",
            provable_from=provable,
            not_before=provable if blind else None,
            lateness=lateness(self.late),
            gaps=self.counts["gap"],
            extras=self.counts["extra"],
            early=self.counts["early"],
            set_back=self.counts["set_back"],
            findings=tuple(self.findings),
            notes=tuple(self.notes),
        )


def _sweep(
    report: _Report,
    timeline: _Timeline | None,
    evidence: Evidence,
    tiles: Sequence[Tile],
    since: datetime,
    until: datetime,
) -> None:
    """Go along the tiles once: they must touch, none may cover another, and each must count right."""
    begin = min([since, *(tile.mark_before for tile in tiles)])
    end = min(until, evidence.schedule.settled_until)
    end = max([end, *(tile.mark_after for tile in tiles)])
    walk = None if timeline is None else _Walk(timeline.walk(begin, end))
    mark = begin
    for tile in tiles:
        twice = 0, False
        if tile.mark_before > mark:
            _hole(report, walk, mark, tile.mark_before)
        elif tile.mark_before < mark:
            again = min(mark, tile.mark_after)
            if timeline is not None:
                twice = _Walk(timeline.walk(tile.mark_before, again)).count(again, tile.occurrence_at)
            what = f"{_named(tile)} covers time that was settled before it"
            report.find("extra", tile.mark_before, again, max(1, twice[0]), what)
        if walk is None:
            _tile(report, tile, None)
        else:
            count, seen = walk.count(tile.mark_after, tile.occurrence_at)
            _tile(report, tile, (count + twice[0], seen or twice[1]))
        mark = max(mark, tile.mark_after)
    if mark < end:
        _hole(report, walk, mark, end)
    report.expected += 0 if walk is None else walk.total


def _hole(report: _Report, walk: _Walk | None, after: datetime, until: datetime) -> None:
    if walk is None:
        report.find("gap", after, until, 1, "no settlement covers this time")
        return
    missing, _ = walk.count(until)
    what = (
        f"{missing} occurrences are neither fired, folded nor skipped"
        if missing
        else "no settlement covers this time, though none of its instants was due"
    )
    report.find("gap", after, until, missing or 1, what)


def _tile(report: _Report, tile: Tile, expected: tuple[int, bool] | None) -> None:
    """Check one tile against how many are expected in it, and whether its own is one; None: not known."""
    if tile.fired:
        report.fired += 1
        report.folded += tile.count - 1
        _fired(report, tile, known=expected is None or expected[1])
    elif tile.run_id is not None:
        report.folded += tile.count
    elif tile.count:
        report.skipped[tile.reason] += tile.count
    if expected is None or expected[0] == tile.count:
        return
    kind = "gap" if tile.count < expected[0] else "extra"
    what = f"{_named(tile)} counts {tile.count} occurrences, and there are {expected[0]}"
    report.find(kind, tile.mark_before, tile.mark_after, abs(tile.count - expected[0]), what)


def _fired(report: _Report, tile: Tile, *, known: bool) -> None:
    if tile.due_at is not None:
        late = (tile.created_at - tile.due_at) / timedelta(seconds=1)
        report.late.append(late)
        if late < 0:
            what = f"{tile.run_id} was fired {-late:g} s before it was due"
            report.find("early", tile.mark_before, tile.mark_after, 1, what)
    if not known:
        at = "no instant" if tile.occurrence_at is None else instant_text(tile.occurrence_at)
        what = f"{tile.run_id} was fired for {at}, which is no occurrence of the definition in force"
        report.find("extra", tile.mark_before, tile.mark_after, 1, what)


def _named(tile: Tile) -> str:
    return f"run {tile.run_id}" if tile.fired else f"a settlement ({tile.reason or 'folded'})"


# --- what is beyond the rows ----------------------------------------------------------------------------


def _sum_up(
    report: _Report,
    timeline: _Timeline,
    evidence: Evidence,
    summed: Sequence[Summary],
    provable: datetime,
) -> None:
    """Check the sums that purging left, together with the rows that it has left among them."""
    begin = min(day.mark_before for day in summed)
    end = min(provable, max(day.mark_after for day in summed))
    left = [tile for tile in evidence.tiles if begin <= tile.mark_before and tile.mark_after <= end]
    fired = sum(day.fired for day in summed) + sum(tile.fired for tile in left)
    skipped = sum(day.skipped for day in summed)
    folded = sum(day.folded for day in summed)
    rest = sum(tile.count - tile.fired for tile in left)
    expected, _ = _Walk(timeline.walk(begin, end)).count(end)
    there = fired + folded + skipped + rest
    report.summed = True
    report.expected += expected
    report.fired += fired
    report.folded += folded
    if skipped:
        report.skipped["summed"] += skipped
    if there != expected:
        kind = "gap" if there < expected else "extra"
        what = f"the summaries of this time count {there} occurrences, and there are {expected}"
        report.find(kind, begin, end, abs(there - expected), what)


def _owed(
    report: _Report,
    timeline: _Timeline,
    evidence: Evidence,
    since: datetime,
    until: datetime,
    now: datetime,
) -> None:
    """Count what is due and not settled yet; a gap where nothing explains that it takes so long."""
    row = evidence.schedule
    if row.deleted:
        return
    offset = offset_of(row.name, row.definition.policy)
    begin, end = max(since, row.settled_until, *_ends(evidence)), min(until, now - offset)
    patient_until = now - PATIENCE
    served = None if evidence.excuse else evidence.served_since
    first = last = None
    count = 0
    for at in timeline.walk(begin, end):
        report.owed += 1
        if served is not None and max(at + offset, served) < patient_until:
            first, last, count = first or at, at, count + 1
    if first is not None and last is not None:
        what = "due for longer than a minute while a dispatcher was alive, and not settled"
        report.find("gap", first - MICROSECOND, last, count, what)


def _loose(report: _Report, evidence: Evidence) -> None:
    for run in evidence.loose:
        at = run.occurrence_at or run.due_at
        what = f"run {run.id} stands for an occurrence, settles none, and nobody asked for it"
        report.find("extra", at - MICROSECOND, at, 1, what)


def _ends(evidence: Evidence) -> list[datetime]:
    """Return the instants up to which something says that all was settled."""
    return [
        *(tile.mark_after for tile in evidence.tiles),
        *(day.mark_after for day in evidence.summaries),
        *(change.settled_until for change in evidence.trail),
    ]


def _mark(report: _Report, timeline: _Timeline, evidence: Evidence) -> None:
    """Hold the row's mark against the last settlement: a dispatcher settles anew what lies between them."""
    mark, settled = evidence.mark, max(_ends(evidence), default=None)
    if mark is None or settled is None or settled <= mark:
        return
    try:
        again, _ = _Walk(timeline.walk(mark, settled)).count(settled)
    except (InvalidTrigger, MissingExtra):
        again = 0
    what = (
        f"its row says settled until {instant_text(mark)}, behind its last settlement at "
        f"{instant_text(settled)}: {f'{again} occurrences' if again else 'that time'} would be settled twice"
    )
    report.find("set_back", mark, settled, again or 1, what)


def lateness(seconds: Iterable[float]) -> Lateness:
    """Return the percentiles of the lateness of fires."""
    ordered = sorted(seconds)
    if not ordered:
        return Lateness()
    return Lateness(
        fires=len(ordered),
        p50_s=_percentile(ordered, 0.50),
        p99_s=_percentile(ordered, 0.99),
        max_s=ordered[-1],
    )


def _percentile(ordered: list[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all values do not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
