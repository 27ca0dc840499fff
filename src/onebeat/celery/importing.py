"""What another beat did becomes schedules, and nothing is lost in between.

An entry that is new here goes on where the other beat was: it begins at its last run, as if it had been
created then, in the transaction that creates it. So a period is counted from there, and what has come due
since is owed, once, as the other beat would have sent it at its next start. An entry that is here already is
the ledger's: its last run elsewhere says nothing any more.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from onebeat.app import Onebeat
from onebeat.celery.entries import Entries, Entry, Note, Problem
from onebeat.core.edits import FIRST_INSTANT
from onebeat.core.errors import InvalidInput, shown
from onebeat.core.model import MICROSECOND, Definition, Noun, TriggerSpec
from onebeat.core.reconcile import Step, Verb
from onebeat.core.triggers import anchored, build

AHEAD_MAX = timedelta(hours=1)
"""How far a last run may lie ahead: clocks differ by seconds, and wrong zones by an hour or more."""

A_SUNSET = timedelta(minutes=1)
"""Ours comes in whole minutes, and Celery's within the minute: what one has sent, the other must not."""

NOTE_GOES_ON = (
    "it is disabled where it comes from, and is not paused here: what is in the ledger is paused there, by "
    "onebeat schedule pause"
)


class Planned(Noun, frozen=True, kw_only=True):
    """What becomes of an entry. ``owed_at`` is the occurrence that came due since its last run, if any.

    ``paused``: it is disabled where it comes from, and begins paused.
    """

    entry: str
    schedule: str
    what: Verb
    why: str
    definition: Definition
    last_run_at: datetime | None
    owed_at: datetime | None
    paused: bool = False


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


class Found(NamedTuple):
    """What a beat had: its entries, when each ran last, and which of them are disabled.

    Those in ``never`` have not run: the instant is the one from which that beat would count.
    """

    entries: Entries
    ran: Mapping[str, datetime] = {}
    disabled: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    def anew(self) -> "Found":
        """Return the same without the last runs."""
        return self._replace(ran={})


class Done(NamedTuple):
    """What became, or would become, of all entries."""

    planned: tuple[Planned, ...]
    gone: tuple[Step, ...]
    notes: tuple[Note, ...]
    warnings: tuple[str, ...] = ()


class Import:
    """One import of entries into a ledger, for an owner. ``source`` is where they come from, in words."""

    def __init__(self, front: Onebeat, found: Found, *, owner: str, source: str, revision: int = 0) -> None:
        self.entries = found.entries
        self.owner = owner
        self.source = source
        self._front = front
        self._disabled = {each.name for each in self.entries.entries if each.entry in found.disabled}
        self._ran = {
            each.name: found.ran[each.entry] for each in self.entries.entries if each.entry in found.ran
        }
        self._never = found.never
        self._revision = revision

    def plan(self, *, prune: bool, force: bool) -> Done:
        """Return what would become of each entry, and do nothing."""
        self._refuse_ahead()
        steps = self._front.diff(
            definitions=self.entries.definitions,
            owner=self.owner,
            revision=self._revision,
            prune=prune,
            force=force,
        )
        return self._done(steps, ())

    def apply(self, *, prune: bool, force: bool, reason: str) -> Done:
        """Do it. A schedule and what it owes come into being together."""
        self._refuse_ahead()
        done = self._front.apply(
            definitions=self.entries.definitions,
            owner=self.owner,
            revision=self._revision,
            prune=prune,
            force=force,
            reason=reason,
            since={each.name: _since(each, self._ran[each.name]) for each in self._that_ran()},
            paused=dict.fromkeys(self._disabled, "disabled where it comes from"),
        )
        return self._done(done.steps, done.warnings)

    def _that_ran(self) -> list[Entry]:
        return [each for each in self.entries.entries if each.name in self._ran]

    def _refuse_ahead(self) -> None:
        """Raise InvalidInput where instants cannot be what they seem: nothing of them could be trusted."""
        now = self._front.store.now()
        for each in self._that_ran():
            ran = self._ran[each.name]
            if ran > now + AHEAD_MAX:
                raise InvalidInput(
                    f"{shown(each.entry)} ran last at {ran.isoformat()}, which is {ran - now} ahead of the "
                    "ledger's clock: its instants are in another zone, or its clock is wrong; say what zone "
                    "they are in, or leave the last runs out with --anew"
                )

    def _owed(self, entry: Entry, until: datetime) -> datetime | None:
        """Return the last occurrence after the last run, up to an instant; None where there is none."""
        ran, trigger = self._ran.get(entry.name), entry.definition.trigger
        late = ran is None and trigger.kind == "once"  # it fires, however long ago its instant was
        if entry.name in self._disabled or (ran is None and not late):
            return None
        since = FIRST_INSTANT if ran is None else _since(entry, ran)
        at = build(anchored(trigger, since)).before(until + MICROSECOND)
        if at is None or at <= since:
            return None
        grace = entry.definition.policy.grace
        return at if grace is None or until - at <= grace else None

    def _done(self, steps: Sequence[Step], warnings: tuple[str, ...]) -> Done:
        now = self._front.store.now()
        by_name = {step.name: step for step in steps}
        planned = []
        for each in self.entries.entries:
            step = by_name[each.name]
            new = step.verb is Verb.CREATE
            planned.append(
                Planned(
                    entry=each.entry,
                    schedule=each.name,
                    what=step.verb,
                    why=step.why,
                    definition=each.definition,
                    last_run_at=None if each.entry in self._never else self._ran.get(each.name),
                    owed_at=self._owed(each, now) if new else None,
                    paused=new and each.name in self._disabled,
                )
            )
        names = self.entries.definitions.keys()
        gone = tuple(step for step in steps if step.name not in names)
        return Done(tuple(planned), gone, self._going_on(by_name), warnings)

    def _going_on(self, steps: Mapping[str, Step]) -> tuple[Note, ...]:
        """Return a note of those that are disabled where they come from, and run here."""
        there = sorted(name for name in self._disabled if steps[name].verb is not Verb.CREATE)
        rows: Iterable[str] = (row.name for row, _ in self._front.store.owing(there) if row.paused is None)
        running = set(rows)
        entries = tuple(each.entry for each in self.entries.entries if each.name in running)
        return (Note(text=NOTE_GOES_ON, entries=entries),) if entries else ()


def _since(entry: Entry, ran: datetime) -> datetime:
    """Return up to when an entry's occurrences have been sent, with its last run."""
    return ran + A_SUNSET if _is_solar(entry.definition.trigger) else ran


def _is_solar(trigger: TriggerSpec) -> bool:
    if trigger.kind == "between":
        return bool(trigger.fields["of"]["kind"] == "solar")
    return trigger.kind == "solar"
