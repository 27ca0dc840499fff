"""``onebeat import celery-beat``: what an app's beat did becomes schedules, and nothing is lost in between.

An entry that is new here goes on where beat was: a period is counted from its last run, and what has come due
since then is owed, once, as beat would have sent it at its next start. An entry that is here already is the
ledger's: its last run in the file says nothing any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from onebeat.app import Onebeat
from onebeat.celery.entries import Entries, Note, Problem
from onebeat.core.model import MICROSECOND, Definition, Noun, TriggerSpec, instant_text, occurrence_stamp
from onebeat.core.reconcile import Step, Verb
from onebeat.core.triggers import anchored, build


class Planned(Noun, frozen=True, kw_only=True):
    """What becomes of an entry. ``owed_at`` is the occurrence that came due since its last run, if any."""

    entry: str
    schedule: str
    what: Verb
    why: str
    definition: Definition
    last_run_at: datetime | None
    owed_at: datetime | None


class Plan(Noun, frozen=True, kw_only=True):
    """What becomes of a beat's entries. ``gone`` are schedules of the owner that none declares any more."""

    source: str
    owner: str
    zone: str
    last_runs: str
    applied: bool
    entries: tuple[Planned, ...]
    gone: tuple[Step, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    warnings: tuple[str, ...] = ()


class Import:
    """One import of entries into a ledger, for an owner."""

    def __init__(
        self, front: Onebeat, entries: Entries, ran: Mapping[str, datetime], *, owner: str, revision: int = 0
    ) -> None:
        self._front = front
        self._entries = entries
        self._ran = ran
        self._owner = owner
        self._revision = revision

    def plan(self, *, prune: bool, force: bool) -> tuple[list[Planned], list[Step], tuple[str, ...]]:
        """Return what would become of each entry, and do nothing."""
        steps = self._front.diff(
            definitions=self._wanted(prune, force),
            owner=self._owner,
            revision=self._revision,
            prune=prune,
            force=force,
        )
        now = self._front.store.now()
        owed = {step.name: self._owed(step.name, step.definition, now) for step in _made(steps)}
        return self._planned(steps, owed), self._gone(steps), ()

    def apply(
        self, *, prune: bool, force: bool, reason: str
    ) -> tuple[list[Planned], list[Step], tuple[str, ...]]:
        """Do it; then ask for one run of each new schedule that is owed one."""
        done = self._front.apply(
            definitions=self._wanted(prune, force),
            owner=self._owner,
            revision=self._revision,
            prune=prune,
            force=force,
            reason=reason,
        )
        owed: dict[str, datetime | None] = {}
        for step in _made(done.steps):
            row = self._front.schedules.show(step.name).schedule
            # Up to where the ledger begins: a later occurrence is the ledger's own.
            owed[step.name] = at = self._owed(step.name, row.definition, row.settled_until)
            if at is not None:
                key = f"owed-{occurrence_stamp(at)}"
                self._front.runs.request(
                    step.name, key=key, at=at, reason=reason or "owed when it was imported"
                )
        return self._planned(done.steps, owed), self._gone(done.steps), done.warnings

    def _wanted(self, prune: bool, force: bool) -> dict[str, Definition]:
        """Return the definitions; periods that are new here go on from their last run."""
        plain = self._entries.definitions
        steps = self._front.diff(
            definitions=plain, owner=self._owner, revision=self._revision, prune=prune, force=force
        )
        new = {step.name for step in _made(steps)}
        return {
            each.name: _going_on(each.definition, self._ran.get(each.entry))
            if each.name in new
            else each.definition
            for each in self._entries.entries
        }

    def _owed(self, name: str, definition: Definition | None, until: datetime) -> datetime | None:
        """Return the last occurrence after the last run, up to an instant; None where there is none."""
        ran = next((self._ran.get(each.entry) for each in self._entries.entries if each.name == name), None)
        if ran is None or definition is None:
            return None
        at = build(anchored(definition.trigger, until)).before(until + MICROSECOND)
        if at is None or at <= ran:
            return None
        grace = definition.policy.grace
        return at if grace is None or until - at <= grace else None

    def _planned(self, steps: Sequence[Step], owed: Mapping[str, datetime | None]) -> list[Planned]:
        by_name = {step.name: step for step in steps}
        return [
            Planned(
                entry=each.entry,
                schedule=each.name,
                what=by_name[each.name].verb,
                why=by_name[each.name].why,
                definition=each.definition,
                last_run_at=self._ran.get(each.entry),
                owed_at=owed.get(each.name),
            )
            for each in self._entries.entries
        ]

    def _gone(self, steps: Iterable[Step]) -> list[Step]:
        names = self._entries.definitions.keys()
        return [step for step in steps if step.name not in names]


def _made(steps: Iterable[Step]) -> list[Step]:
    return [step for step in steps if step.verb is Verb.CREATE]


def _going_on(definition: Definition, ran: datetime | None) -> Definition:
    """Return a definition whose period, where it has one, is counted from its last run."""
    trigger = definition.trigger
    if ran is None or trigger.kind != "interval" or "anchor_at" in trigger.fields:
        return definition
    fields = {**trigger.fields, "anchor_at": instant_text(ran)}
    return replace(definition, trigger=TriggerSpec(kind="interval", fields=fields))
