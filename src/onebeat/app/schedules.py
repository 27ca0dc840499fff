"""Schedules, acted upon: what these methods do is done when they return, on every node."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, TypeAlias, Unpack

from msgspec.structs import replace

from onebeat.app.choosing import PUT_MAX, Chosen, choose, comes_back
from onebeat.app.desk import Desk, Written
from onebeat.app.targets import Targets
from onebeat.core import acts, edits
from onebeat.core.acts import DecidePresent, IfExists, Wish, change, creation
from onebeat.core.definition import Options, checked_definition, define
from onebeat.core.edits import Author
from onebeat.core.errors import Conflict, InvalidInput, OnebeatError
from onebeat.core.messages import Change, Edit, RunQuery, ScheduleQuery
from onebeat.core.model import Definition, Json, Load, Noun, Run, Schedule, Target, TriggerSpec, checked_name
from onebeat.core.triggers import build, calendar_ends

# Named, because within the class `list` is one of its methods.
Rows: TypeAlias = list[Schedule]
Many: TypeAlias = list[Written]
Trail: TypeAlias = list[Change]
UPCOMING = 5
LAST_RUNS = 5


class Shown(Noun, frozen=True, kw_only=True):
    """A schedule as a person wants to see it: the row, how busy it is, what comes, what came of it."""

    schedule: Schedule
    load: Load
    upcoming: tuple[datetime, ...]
    last_runs: tuple[Run, ...]
    warnings: tuple[str, ...]
    calendar_ends: date | None = None


class Schedules:
    """The schedules of a ledger. Found as ``beat.schedules``."""

    def __init__(self, desk: Desk, targets: Targets) -> None:
        self._desk = desk
        self._targets = targets

    # --- writing ---

    def put(
        self,
        name: str,
        trigger: str | TriggerSpec,
        target: str | Target | Callable[..., Any],
        *,
        if_exists: IfExists = "error",
        paused: bool = False,
        run_now: bool = False,
        reason: str = "",
        expected_version: int | None = None,
        **options: Unpack[Options],
    ) -> Written:
        """Bring a schedule into being, now. What ``options`` may say is in docs/reference/policies.md.

        Where the name is taken, ``if_exists`` decides: ``error``, ``replace`` its definition, or ``ignore``
        and leave everything as it is. Nothing before now is owed, except by a one-off whose instant has
        passed: it fires at once. ``run_now`` asks for one run beside the schedule.

        Raises:
            InvalidInput: something cannot be meant; the message says what to write.
            Conflict: the name is taken, or not at ``expected_version`` (0: not there at all).

        """
        definition = define(trigger, target, options, zone=self._desk.zone)
        warnings = self._targets.warnings(definition)
        self._desk.refuse_unshared(definition)
        written = self._desk.act(
            name,
            creation(name, definition, if_exists, paused=paused, run_now=run_now),
            reason=reason,
            expected_version=expected_version,
        )
        return replace(written, warnings=warnings)

    def put_all(
        self,
        definitions: Mapping[str, Definition],
        *,
        if_exists: IfExists = "error",
        reason: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> Many:
        """Bring many schedules into being, PUT_MAX in a transaction, in the order of the mapping.

        Each transaction stands for itself: what raises leaves those before it written. ``progress`` is told
        how many more are done.
        """
        names = [checked_name(name) for name in definitions]
        for definition in definitions.values():
            self._desk.refuse_unshared(checked_definition(definition))
        done: dict[str, Written] = {}
        for begin in range(0, len(names), PUT_MAX):
            batch = names[begin : begin + PUT_MAX]
            wanted = {name: creation(name, definitions[name], if_exists) for name in batch}
            done |= self._desk.act_all(wanted, reason)
            if progress is not None:
                progress(len(batch))
        return [done[name] for name in names]

    def edit(
        self,
        name: str,
        *,
        trigger: str | TriggerSpec | None = None,
        target: str | Target | Callable[..., Any] | None = None,
        args: Iterable[Json] | None = None,
        kwargs: Mapping[str, Json] | None = None,
        reason: str = "",
        expected_version: int | None = None,
        **options: Unpack[Options],
    ) -> Written:
        """Change what is given and keep the rest, now: due until now follows the old, later the new.

        It also brings a quarantined schedule back. A field that is changed here wins over its declaration
        until that is forced.

        Raises:
            InvalidInput: something cannot be meant, or nothing was given.
            NotFound: there is no such schedule; the nearest name is given.
            Conflict: it is not at ``expected_version``.

        """
        given = (trigger, target, args, kwargs)
        if not options and all(item is None for item in given):
            raise InvalidInput(f"nothing of {name} would change; say what, e.g. trigger='0 9 * * *'")
        wanted = Wish(trigger, target, args, kwargs, options, self._desk.zone)
        found: dict[str, Definition] = {}

        def edited(before: Definition) -> Definition:
            found["after"] = acts.edited(before, wanted)
            self._desk.refuse_unshared(found["after"])
            return found["after"]

        written = self._act(name, change(edited, mends=trigger is not None), reason, expected_version)
        return replace(written, warnings=self._targets.warnings(found["after"]))

    def pause(self, name: str, reason: str = "", *, expected_version: int | None = None) -> Written:
        """Skip what comes due from now on, recorded as paused. Runs that there are go on."""
        return self._act(name, acts.pause, reason, expected_version)

    def resume(self, name: str, reason: str = "", *, expected_version: int | None = None) -> Written:
        """End a pause: what came due meanwhile stays skipped, what comes from now on fires."""
        return self._act(name, acts.resume, reason, expected_version)

    def delete(self, name: str, reason: str = "", *, expected_version: int | None = None) -> Written:
        """Remove a schedule: waiting runs are cancelled, ready and running ones go on, history stays."""
        return comes_back(self._act(name, edits.delete, reason, expected_version))

    def skip_next(self, name: str, reason: str = "", *, expected_version: int | None = None) -> Written:
        """Skip the next occurrence that is not skipped yet, when it comes. Repeat it for the one after."""
        return self._act(name, acts.skip_next, reason, expected_version)

    def unskip(self, name: str, reason: str = "", *, expected_version: int | None = None) -> Written:
        """Take the latest mark of ``skip_next`` back: that occurrence fires. Repeat it for the one before."""
        return self._act(name, acts.unskip, reason, expected_version)

    def where(self, *names: str, tag: str | None = None, owner: str | None = None) -> Chosen:
        """Choose schedules that are there now, to act on all of them: every condition holds for each.

        A name may be a pattern: ``bill-*``, ``shop.?-daily``, ``*``. Raises NotFound for a plain name that is
        not there, with the nearest, and InvalidInput where nothing was said.
        """
        return Chosen(self._desk, choose(self._desk, names, tag, owner))

    def _act(
        self,
        name: str,
        decide: DecidePresent,
        reason: str,
        expected_version: int | None,
    ) -> Written:
        """Act on a schedule that must be there."""

        def decide_present(row: Schedule | None, load: Load, author: Author) -> Edit | None:
            if row is None or row.deleted:
                self._desk.found(name)  # raises, and says what is there instead
                raise Conflict(f"{name} came into being a moment ago; try again")
            return decide(row, load, author)

        return self._desk.act(name, decide_present, reason=reason, expected_version=expected_version)

    # --- reading ---

    def show(self, name: str) -> Shown:
        """Return a schedule with its load, its next occurrences, its last runs, and what is amiss."""
        row, load = self._desk.found(name)
        upcoming: list[datetime] = []
        if not row.dormant:
            trigger, instant = build(row.definition.trigger), row.settled_until
            while len(upcoming) < UPCOMING and (following := trigger.after(instant)) is not None:
                upcoming.append(following)
                instant = following
        warnings = self._amiss(row)
        runs = self._desk.store.runs(RunQuery(schedule=name, limit=LAST_RUNS))
        return Shown(
            schedule=row,
            load=load,
            upcoming=tuple(at for at in upcoming if at not in row.skips),
            last_runs=tuple(runs),
            warnings=warnings,
            calendar_ends=_calendar_ends(row),
        )

    def _amiss(self, row: Schedule) -> tuple[str, ...]:
        said = [] if row.quarantined is None else [f"it is quarantined: {row.quarantined}"]
        try:
            said += self._targets.warnings(row.definition)
        except InvalidInput as error:
            said.append(str(error))
        return tuple(said)

    def list(
        self,
        *,
        tag: str | None = None,
        owner: str | None = None,
        deleted: bool = False,
        after: str = "",
        limit: int = 1000,
    ) -> Rows:
        """Return schedules by name; the next page begins ``after`` the last name of this one."""
        return self._desk.store.schedules(
            ScheduleQuery(tag=tag, owner=owner, deleted=deleted, after=after, limit=limit)
        )

    def find(self, *, tag: str | None = None, owner: str | None = None) -> Iterator[Schedule]:
        """Yield all schedules, or a tag's or an owner's, by name, read in pages."""
        after = ""
        while page := self.list(tag=tag, owner=owner, after=after):
            yield from page
            after = page[-1].name

    def definitions(self, *, tag: str | None = None, owner: str | None = None) -> dict[str, Definition]:
        """Return the definitions of all schedules, or of a tag's or an owner's: what an export holds."""
        return {row.name: row.definition for row in self.find(tag=tag, owner=owner)}

    def trail(self, name: str) -> Trail:
        """Return every change of a schedule, oldest first: who, when, from which cut on, and what."""
        rows = self._desk.store.owing([name])
        if not rows:
            raise self._desk.unknown(name)
        return self._desk.store.trail(rows[0][0].id)


def _calendar_ends(row: Schedule) -> date | None:
    try:
        return calendar_ends(row.definition.trigger)
    except OnebeatError:  # a kind or a library that is not here: what is amiss says so
        return None
