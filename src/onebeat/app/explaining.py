"""Why: one paragraph on one occurrence, out of the ledger and nothing else."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from onebeat.app.desk import Desk
from onebeat.app.turns import waits_for
from onebeat.core.decide import offset_of
from onebeat.core.definition import zone_of
from onebeat.core.errors import OnebeatError
from onebeat.core.messages import Change, LogLine, Tile
from onebeat.core.model import MICROSECOND, Noun, Run, RunState, Schedule, utc
from onebeat.core.triggers import build
from onebeat.core.triggers import zone as zone_info

TAIL = 5

RULES = {
    "paused": "the schedule was paused when it came due",
    "misfire": "it was considered only after its grace had passed",
    "catch_up": "several were owed, and catch_up='skip' fires the newest alone",
    "overlap": "as many runs as max_running allows were unfinished, and overlap='skip' lets it go",
    "queue_full": "its overlap queue held as many runs as queue_max allows",
    "replaced": "overlap='cancel_running' gave its place to a newer occurrence of the same moment",
    "skip_next": "a person had asked to skip it",
    "deleted": "it was owed under a hold when the schedule was deleted",
    "edited": "an edit of the spread moved past it, and the new definition does not have it",
}


class Why(Noun, frozen=True, kw_only=True):
    """What became of one occurrence. ``fate`` is one word of it, ``text`` the paragraph."""

    schedule: str
    at: datetime
    fate: str
    text: str
    run: Run | None = None
    change: Change | None = None
    log: tuple[LogLine, ...] = ()


class Explaining:
    """Reads the ledger around one instant, and tells it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def why(self, name: str, at: datetime) -> Why:
        """Return what became of the occurrence at an instant, in one paragraph."""
        instant = utc(at, "at")
        store = self._desk.store
        rows = store.owing([name])
        if not rows:
            raise self._desk.unknown(name)
        row = rows[0][0]
        tiles = store.tiles(row.id, instant - MICROSECOND, instant)
        trail = store.trail(row.id)
        teller = _Teller(self._zone(row), row, instant)
        change = _in_force(trail, instant)
        if change is None:
            created = teller.at(trail[0].cut_at) if trail else "it was purged"
            return teller.told("before_creation", f"did not exist yet: it was created at {created}.")
        near = _neighbours(change, instant)
        if change.deleted:
            return teller.told("deleted", f"was gone by then: {teller.changed(change)}.", change=change)
        if row.quarantined is not None and near == (None, None):
            return self._open(teller, row, change)  # which occurrences it has is what nobody understands
        if instant not in near:
            return teller.told("no_occurrence", teller.beside(near, change), change=change)
        if tiles:
            return self._settled(teller, tiles[0], change)
        if instant <= row.settled_until:
            return self._forgotten(teller, row, change)
        return self._open(teller, row, change)

    def _zone(self, row: Schedule) -> ZoneInfo:
        return zone_info(zone_of(row.definition.trigger) or self._desk.zone)

    def _settled(self, teller: "_Teller", tile: Tile, change: Change) -> Why:
        if tile.run_id is None:
            if tile.count == 0:
                return teller.told(
                    "no_occurrence", f"holds no such occurrence ({tile.reason}).", change=change
                )
            rule = RULES.get(tile.reason, tile.reason)
            many = "" if tile.count == 1 else f", with {tile.count - 1} others of the same stretch"
            said = f"was skipped at {teller.at(tile.created_at)}{many}: {rule}."
            return teller.told("skipped", f"{said} {teller.under(change)}", change=change)
        run = self._desk.store.run(tile.run_id)
        folded = not tile.fired or tile.occurrence_at != teller.instant
        fate = "folded" if folded else "fired"
        said = (
            f"was folded at {teller.at(tile.created_at)} into run {tile.run_id}"
            if folded
            else f"was fired at {teller.at(tile.created_at)} as run {tile.run_id}"
        )
        if not folded and tile.due_at is not None:
            said += f", {_short(tile.created_at - tile.due_at)} after it was due"
        if folded and run is not None and run.fold is not None:
            said += f", which stands for {run.fold.count} occurrences"
        log = () if run is None else tuple(self._desk.store.log(run.id)[-TAIL:])
        rest = "That run has been purged." if run is None else teller.run(run)
        if run is not None and (waits := waits_for(self._desk.store, run)):
            rest += f" It {waits}."
        return teller.told(fate, f"{said}. {rest} {teller.under(change)}", run=run, change=change, log=log)

    def _forgotten(self, teller: "_Teller", row: Schedule, change: Change) -> Why:
        days = [
            day
            for day in self._desk.store.summaries(row.id)
            if day.mark_before < teller.instant <= day.mark_after
        ]
        if not days:
            text = "lies before the ledger's mark, and no settlement covers it: run `onebeat audit` on it."
            return teller.told("unknown", text, change=change)
        day = days[0]
        text = (
            f"was settled, and its record has been purged; what is left of {day.day} is its sum: {day.fired} "
            f"fired, {day.folded} folded, {day.skipped} skipped. {teller.under(change)}"
        )
        return teller.told("purged", text, change=change)

    def _open(self, teller: "_Teller", row: Schedule, change: Change) -> Why:
        due_at = teller.instant + offset_of(row.name, row.definition.policy)
        under = teller.under(change)
        if teller.instant in row.skips:
            return teller.told(
                "skip_next", f"will be skipped: a person has asked for it. {under}", change=change
            )
        if row.paused is not None:
            reason = f" ({row.paused})" if row.paused else ""
            return teller.told(
                "paused", f"is not settled: the schedule is paused{reason}. {under}", change=change
            )
        if row.quarantined is not None:
            text = f"is not settled: the schedule is quarantined: {row.quarantined}. {under}"
            return teller.told("quarantined", text, change=change)
        if due_at > self._desk.store.now():
            return teller.told(
                "not_due", f"has not come yet: it is due at {teller.at(due_at)}. {under}", change=change
            )
        hold = self._desk.store.held()
        if hold is not None:
            text = f"is owed: all firing is held by {hold.actor} since {teller.at(hold.since_at)}. {under}"
            return teller.told("held", text, change=change)
        text = f"is owed: due at {teller.at(due_at)}, and no dispatcher has settled it yet. {under}"
        return teller.told("owed", text, change=change)


class _Teller:
    """Words for one occurrence, with instants in the schedule's own zone."""

    def __init__(self, zone: ZoneInfo, row: Schedule, instant: datetime) -> None:
        self.instant = instant
        self._zone = zone
        self._row = row

    def at(self, instant: datetime) -> str:
        return instant.astimezone(self._zone).isoformat(" ")

    def told(
        self,
        fate: str,
        text: str,
        *,
        run: Run | None = None,
        change: Change | None = None,
        log: tuple[LogLine, ...] = (),
    ) -> Why:
        subject = "it" if fate in ("before_creation", "deleted", "no_occurrence") else "the occurrence"
        said = f"{self._row.name} at {self.at(self.instant)}: {subject} {text}".rstrip()
        if log:
            lines = "; ".join(f"[{line.level}] {line.text}" for line in log)
            said += f" Its last lines: {lines}"
        return Why(
            schedule=self._row.name,
            at=self.instant.astimezone(self._zone),
            fate=fate,
            text=said,
            run=run,
            change=change,
            log=log,
        )

    def beside(self, near: tuple[datetime | None, ...], change: Change) -> str:
        around = " and ".join(self.at(instant) for instant in near if instant is not None)
        nearest = f"the nearest are {around}" if around else "it has none at all"
        return f"has no occurrence then; {nearest}. {self.under(change)}"

    def run(self, run: Run) -> str:
        said = f"The run is {run.state.value}"
        if run.reason:
            said += f" ({run.reason})"
        if run.state is RunState.SENT and run.resend_at is not None:
            said += f", and if no worker begins it, it is sent again at {self.at(run.resend_at)}"
        elif run.holder is not None:
            said += f", attempt {run.attempt} on {run.holder}"
        if run.started_at is not None:
            said += f", begun at {self.at(run.started_at)}"
        if run.finished_at is not None:
            said += f", ended at {self.at(run.finished_at)}"
        if run.error:
            said += f", with {run.error.strip().splitlines()[-1]}"
        return said + "."

    def under(self, change: Change) -> str:
        return f"In force was definition {change.number}: {self.changed(change)}."

    def changed(self, change: Change) -> str:
        action = change.action.removeprefix("schedule.").replace("_", " ")
        by = f" by {change.actor}" if change.actor else ""
        reason = f" ({change.reason})" if change.reason else ""
        return f"{action}{by} at {self.at(change.cut_at)}{reason}"


def _in_force(trail: list[Change], instant: datetime) -> Change | None:
    """Return the change whose definition governed an instant; None before the first."""
    found = None
    for change in trail:
        if change.boundary_at < instant:
            found = change
    return found


def _neighbours(change: Change, instant: datetime) -> tuple[datetime | None, ...]:
    """Return the occurrence at an instant, alone; else the ones before and after it."""
    try:
        trigger = build(change.definition.trigger)
        before = trigger.before(instant + MICROSECOND)
        return (before,) if before == instant else (before, trigger.after(instant))
    except OnebeatError:
        return (None, None)


def _short(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))
