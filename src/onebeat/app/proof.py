"""The proof of a ledger: reads all that is known of each schedule, and has core/audit.py judge it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec

from onebeat.app.desk import Desk
from onebeat.core.audit import Audited, Evidence, Lateness, audit, lateness
from onebeat.core.edits import FIRST_INSTANT
from onebeat.core.errors import InvalidInput
from onebeat.core.messages import RunQuery, ScheduleQuery
from onebeat.core.model import Noun, Run, Schedule, utc

PAGE = 500
TRIES_MAX = 5


class Report(Noun, frozen=True, kw_only=True):
    """The proof of all schedules that were looked at. ``right`` says whether nothing is amiss."""

    since: datetime
    until: datetime
    right: bool
    schedules: tuple[Audited, ...]
    expected: int = 0
    fired: int = 0
    folded: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    owed: int = 0
    gaps: int = 0
    extras: int = 0
    early: int = 0
    set_back: int = 0
    lateness: Lateness = Lateness()
    place: str = ""
    durability: str = ""


class Proof:
    """Reads evidence and adds reports up."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def rows(self, names: Iterable[str] | None, tag: str | None) -> list[Schedule]:
        """Return the schedules to audit: these names, or all, deleted ones too."""
        if names is not None:
            return [self._row(name) for name in dict.fromkeys(names)]
        return list(self._all(tag))

    def _row(self, name: str) -> Schedule:
        rows = self._desk.store.owing([name])
        if not rows:
            raise self._desk.unknown(name)
        return rows[0][0]

    def _all(self, tag: str | None) -> Iterator[Schedule]:
        after = ""
        while page := self._desk.store.schedules(
            ScheduleQuery(tag=tag, deleted=True, after=after, limit=PAGE)
        ):
            yield from page
            after = page[-1].name

    def audit(
        self,
        rows: Iterable[Schedule],
        since: datetime | None,
        until: datetime | None,
        progress: Callable[[int], None] | None,
    ) -> Report:
        """Return the proof over (since, until], by default everything until now."""
        now = self._desk.store.now()
        begin = FIRST_INSTANT if since is None else utc(since, "since")
        end = now if until is None else min(utc(until, "until"), now)
        if begin >= end:
            raise InvalidInput(f"there is nothing to audit between {begin.isoformat()} and {end.isoformat()}")
        served = self._served_since(now)
        reports: list[Audited] = []
        late: list[float] = []
        for row in rows:
            report, more = audit(self._evidence(row, begin, end, served), begin, end, now)
            reports.append(report)
            late += more
            if progress is not None:
                progress(1)
        return self._added_up(reports, late, begin, end)

    def _evidence(self, row: Schedule, since: datetime, until: datetime, served: datetime | None) -> Evidence:
        """Read one schedule; again where purging came in between.

        Tiles before the trail: an edit in between must be known when they are judged.
        """
        store = self._desk.store
        for _ in range(TRIES_MAX):
            provable = store.provable_from(row.id)
            evidence = self._read(row, since, until, served)
            if evidence.provable_from == provable:
                return evidence
        return self._read(row, since, until, served)

    def _read(self, row: Schedule, since: datetime, until: datetime, served: datetime | None) -> Evidence:
        store = self._desk.store
        # Read before the tiles: whatever is settled meanwhile adds to them, and takes nothing away.
        current = next((found for found, _ in store.owing([row.name])), row)
        tiles = store.tiles(row.id, since, until)
        summaries, trail = store.summaries(row.id), store.trail(row.id)
        return Evidence(
            schedule=current,
            tiles=tiles,
            summaries=summaries,
            loose=tuple(self._loose(row, since, until)),
            trail=trail,
            provable_from=store.provable_from(row.id),
            excuse=self._excuse(current),
            served_since=served,
            # Read after them: what is settled meanwhile moves the mark on, never back.
            mark=self._mark(row),
        )

    def _mark(self, row: Schedule) -> datetime | None:
        """Return the row's mark as it is now; None where its name has passed on."""
        found = self._desk.store.owing([row.name])
        return found[0][0].settled_until if found and found[0][0].id == row.id else None

    def _loose(self, row: Schedule, since: datetime, until: datetime) -> Iterator[Run]:
        before: str | None = None
        while True:
            page = self._desk.store.runs(
                RunQuery(schedule=row.name, since=since, until=until, before=before, limit=PAGE)
            )
            yield from (
                run
                for run in page
                if run.key is None and run.mark_before is None and run.occurrence_at is not None
            )
            if len(page) < PAGE:
                return
            before = page[-1].id

    def _excuse(self, row: Schedule) -> str:
        if row.paused is not None:
            return f"it is paused{f': {row.paused}' if row.paused else ''}"
        if row.quarantined is not None:
            return f"it is quarantined: {row.quarantined}"
        if (hold := self._desk.store.held()) is not None:
            return f"all firing is held{f': {hold.reason}' if hold.reason else ''}"
        return ""

    def _served_since(self, now: datetime) -> datetime | None:
        alive = [
            node.started_at
            for node in self._desk.store.nodes()
            if node.alive_until > now and not node.stopping and "dispatcher" in node.roles
        ]
        return min(alive, default=None)

    def _added_up(
        self, reports: list[Audited], late: list[float], since: datetime, until: datetime
    ) -> Report:
        facts = self._desk.store.facts()
        skipped: Counter[str] = Counter()
        for report in reports:
            skipped.update(report.skipped)
        return Report(
            since=since,
            until=until,
            right=all(report.right for report in reports),
            schedules=tuple(reports),
            expected=sum(report.expected for report in reports),
            fired=sum(report.fired for report in reports),
            folded=sum(report.folded for report in reports),
            skipped=dict(sorted(skipped.items())),
            owed=sum(report.owed for report in reports),
            gaps=sum(report.gaps for report in reports),
            extras=sum(report.extras for report in reports),
            early=sum(report.early for report in reports),
            set_back=sum(report.set_back for report in reports),
            lateness=lateness(late),
            place=facts["place"],
            durability=facts["durability"],
        )
