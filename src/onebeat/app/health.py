"""What a doctor looks at: the store and how durable it is, clocks, zones, nodes, targets, settings."""

import os
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Literal

from onebeat._version import __version__
from onebeat.app import agreeing
from onebeat.app.declaring import Declarations
from onebeat.app.desk import Desk
from onebeat.core.catalogue import GIVEN, SETTINGS
from onebeat.core.errors import OnebeatError, near_miss
from onebeat.core.messages import RunQuery, ScheduleQuery
from onebeat.core.model import Node, Noun, Run, RunState, Schedule
from onebeat.core.ports import Neighbouring
from onebeat.core.triggers import calendar_ends, tz_version

OFFSET_MAX = timedelta(seconds=1)
NAMED_MAX = 5
SCANNED_MAX = 10_000
ENDS_SOON = timedelta(days=60)


class Complaint(Noun, frozen=True, kw_only=True):
    """One thing that was looked at. ``bad`` breaks a promise or stops work; ``warn`` may, one day."""

    level: Literal["ok", "warn", "bad"]
    about: str
    what: str


class Health:
    """Looks at everything and changes nothing."""

    def __init__(self, desk: Desk, declarations: Declarations) -> None:
        self._desk = desk
        self._declarations = declarations

    def check(self) -> list[Complaint]:
        """Return what was looked at, in the order of how much depends on it."""
        return [
            *self._store(),
            *self._clocks(),
            *self._zones(),
            *self._nodes(),
            *self._agreement(),
            *self._work(),
            *self._calendars(),
            *self._settings(),
        ]

    def _store(self) -> Iterator[Complaint]:
        facts = self._desk.store.facts()
        yield _ok("store", f"{facts['kind']} at {facts['place']}, onebeat {__version__}")
        yield _ok("durability", f"{facts['durability']}: {facts['verdict']}")
        for name, fact in facts.items():
            if name not in ("kind", "place", "durability", "verdict"):
                yield _ok(name.replace("_", " "), fact)

    def _clocks(self) -> Iterator[Complaint]:
        before = self._desk.clock.now()
        there = self._desk.store.now()
        after = self._desk.clock.now()
        offset = there - (before + (after - before) / 2)
        if abs(offset) > OFFSET_MAX + (after - before) / 2:
            yield _warn(
                "clock", f"the store's clock, which decides, is {offset.total_seconds():+.1f} s from ours"
            )
        else:
            yield _ok("clock", "the store's clock, which decides what is due, agrees with this machine's")

    def _zones(self) -> Iterator[Complaint]:
        how = "as the app says" if self._desk.zone_given else "by default: the app names none"
        yield _ok("zone", f"triggers that name no zone live in {self._desk.zone}, {how}")
        yield _ok("zone data", tz_version())
        for node in self._alive():
            if node.tz_version and node.tz_version != tz_version():
                yield _warn("zone data", f"node {node.id} has {node.tz_version}, and {tz_version()} is here")

    def _alive(self) -> list[Node]:
        now = self._desk.store.now()
        return [node for node in self._desk.store.nodes() if node.alive_until > now]

    def _nodes(self) -> Iterator[Complaint]:
        alive = self._alive()
        for role, without in (
            ("dispatcher", "nothing fires until `onebeat serve` runs one"),
            ("worker", "what fires waits until `onebeat serve` runs one"),
        ):
            count, sending = (
                sum(each in node.roles and not node.stopping for node in alive) for each in (role, "outbox")
            )
            if count:
                yield _ok(f"{role}s", f"{count} alive")
            elif role == "worker" and sending:
                yield _ok("workers", f"none of ours is alive, and {sending} nodes send to workers of others")
            else:
                yield _warn(f"{role}s", f"none is alive: {without}")
        versions = sorted({node.version for node in alive} | {__version__})
        if len(versions) > 1:
            yield _warn("versions", f"{', '.join(versions)} are in use at once")

    def _agreement(self) -> Iterator[Complaint]:
        """Compare what live nodes have announced, and what this app declares; look for ledgers beside."""
        here = agreeing.declared(self._declarations, self._desk.zone) | agreeing.calendars()
        alive = [(node.id, node.settings) for node in self._alive()]
        for what in agreeing.differences([*alive, ("this app", here)]):
            yield _warn("agreement", what)
        if isinstance(self._desk.store, Neighbouring):
            for name, count in self._desk.store.neighbours().items():
                yield _warn(
                    "neighbours",
                    f"{name} is another ledger on this server, with {count} live nodes: what is declared in "
                    "both fires in both",
                )

    def _work(self) -> Iterator[Complaint]:
        counts = self._desk.store.counts()
        shown = {name.replace("runs_", "runs "): count for name, count in counts.items() if count}
        yield _ok("counts", ", ".join(f"{count} {name}" for name, count in shown.items()) or "all is empty")
        if (hold := self._desk.store.held()) is not None:
            reason = f" ({hold.reason})" if hold.reason else ""
            yield _warn(
                "hold", f"all firing is held by {hold.actor}{reason}; `onebeat release` lets it go on"
            )
        if counts["quarantined"]:
            yield Complaint(level="bad", about="quarantine", what=self._quarantined(counts["quarantined"]))
        if counts["runs_parked"]:
            what = f"{counts['runs_parked']} runs are parked: no live node can run their targets"
            yield Complaint(level="bad", about="parked", what=what)
        yield from self._unanswered()
        missing = sorted(set(self._desk.store.targets()) - self._desk.announced())
        if missing:
            more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
            yield _warn("targets", f"no live node has announced {', '.join(missing[:NAMED_MAX])}{more}")

    def _unanswered(self) -> Iterator[Complaint]:
        """Look for messages that should have been begun: whoever is to do so is not there, or not of ours."""
        from onebeat.engine.outbox import RESEND

        since = self._desk.store.now() - RESEND
        query = RunQuery(states=(RunState.SENT,), until=since, limit=SCANNED_MAX)
        waiting: dict[str, list[Run]] = {}
        for run in self._desk.store.runs(query):
            if run.ready_at <= since:
                waiting.setdefault(run.target, []).append(run)
        for key, runs in list(waiting.items())[:NAMED_MAX]:
            target = self._desk.store.definition(runs[-1].schedule_id, runs[-1].number).target
            queue = target.kwargs.get("options", {}).get("queue")
            takes = "this task" if queue is None else f"queue {queue}"
            yield _warn(
                "sent",
                f"{len(runs)} runs of {key} are on their way for more than {RESEND.total_seconds():.0f} s, "
                f"{runs[-1].id} first, and nobody has begun them: is the broker up, and a worker alive that "
                f"takes {takes}, with the guard, on this ledger?",
            )

    def _calendars(self) -> Iterator[Complaint]:
        """Look for schedules whose calendar of public holidays has been announced for a short time only."""
        ending: dict[date, list[str]] = {}
        today = self._desk.store.now().date()
        for row in self._rows():
            try:
                ends = calendar_ends(row.definition.trigger)
            except OnebeatError as error:
                if row.quarantined is None:
                    yield _warn("calendars", f"{row.name} cannot be understood here: {error}")
                continue
            if ends is not None and ends - today <= ENDS_SOON:
                ending.setdefault(ends, []).append(row.name)
        for ends, names in sorted(ending.items()):
            more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
            yield _warn(
                "calendars",
                f"the calendar of {', '.join(names[:NAMED_MAX])}{more} "
                f"{'ended' if ends < today else 'ends'} {ends}: later days follow the law alone, without "
                "make-up days; when the next year has been announced, upgrade the package holidays on every "
                "node",
            )

    def _rows(self) -> Iterator[Schedule]:
        after, seen = "", 0
        while seen < SCANNED_MAX:
            page = self._desk.store.schedules(ScheduleQuery(after=after))
            yield from page
            if not page:
                return
            after, seen = page[-1].name, seen + len(page)

    def _quarantined(self, count: int) -> str:
        rows = self._desk.store.schedules(ScheduleQuery(limit=SCANNED_MAX))
        found = [f"{row.name} ({row.quarantined})" for row in rows if row.quarantined is not None]
        named = f": {'; '.join(found[:NAMED_MAX])}" if found else ""
        return f"{count} schedules are set aside and do not fire{named}; an edit brings one back"

    def _settings(self) -> Iterator[Complaint]:
        for name in sorted(os.environ):
            if name.startswith("ONEBEAT_") and name not in SETTINGS.keys() | GIVEN:
                yield _warn("settings", f"{name} is no setting of onebeat{near_miss(name, SETTINGS)}")


def _ok(about: str, what: str) -> Complaint:
    return Complaint(level="ok", about=about, what=what)


def _warn(about: str, what: str) -> Complaint:
    return Complaint(level="warn", about=about, what=what)
