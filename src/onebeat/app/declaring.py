"""Declarations: collected at import, without a store, and reconciled with the ledger by serve and apply."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from msgspec.structs import replace

from onebeat.app.desk import TRIES_MAX, Desk
from onebeat.app.targets import Targets
from onebeat.core import edits
from onebeat.core.definition import checked_definition, define
from onebeat.core.edits import Author, Declared
from onebeat.core.errors import Conflict, InvalidInput
from onebeat.core.messages import Answer, Edit, ScheduleQuery
from onebeat.core.model import Definition, Json, Load, Noun, Schedule, Target, TriggerSpec, checked_name
from onebeat.core.reconcile import Mode, Step, Verb, reconcile
from onebeat.core.targets import address_of, call

Function = TypeVar("Function", bound=Callable[..., Any])
BATCH_MAX = 500
PAGE = 1000


class Applied(Noun, frozen=True, kw_only=True):
    """What reconciling did, or would do: a step for each schedule, and what people should know."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """Return the steps that change a schedule as people see it."""
        return tuple(step for step in self.steps if step.verb not in (Verb.KEEP, Verb.STAMP))


class Declarations:
    """What an app declares, by name, under its owner's tag and revision."""

    def __init__(self, desk: Desk, targets: Targets, owner: str, revision: int) -> None:
        self._desk = desk
        self._targets = targets
        self.owner = checked_name(owner)
        self.revision = checked_revision(revision)
        self.wanted: dict[str, Definition] = {}
        self.since: Mapping[str, datetime] = {}
        self.paused: Mapping[str, str] = {}

    def scheduled(
        self,
        trigger: str | TriggerSpec,
        name: str | None,
        args: Iterable[Json],
        kwargs: Mapping[str, Json] | None,
        options: Mapping[str, Any],
    ) -> Callable[[Function], Function]:
        """Return the decorator that declares a function."""

        def declare(function: Function) -> Function:
            target = call(function, *args, **(kwargs or {}))
            self._targets.register(address_of(function), function)
            self.declare(name or _named(function), trigger, target, options)
            # Raises where the arguments do not fit the function, or a coroutine is to be transactional.
            self._targets.unverified(target, transactional=bool(options.get("transactional")))
            return function

        return declare

    def declare(
        self,
        name: str,
        trigger: str | TriggerSpec,
        target: str | Target | Callable[..., Any],
        options: Mapping[str, Any],
    ) -> None:
        """Declare one schedule."""
        if callable(target):
            self._targets.register(address_of(target), target)
        definition = define(trigger, target, options, zone=self._desk.zone)
        self._targets.declared(definition.target)
        self.add(name, definition)

    def add(self, name: str, definition: Definition) -> None:
        """Declare a definition. The same one twice is one declaration; two under one name are an error."""
        if self.wanted.setdefault(checked_name(name), checked_definition(definition)) != definition:
            raise InvalidInput(
                f"{name} is declared twice, and not alike; give one of them another name, "
                "e.g. @beat.scheduled(…, name='other')"
            )

    # --- reconciling ---

    def instead(
        self, wanted: Mapping[str, Definition] | None, owner: str | None, revision: int | None
    ) -> "Declarations":
        """Return declarations like these, with what is not None in the place of their own.

        Another owner's revision has nothing to do with ours: it is 0 unless it is given.
        """
        mine = owner in (None, self.owner)
        other = Declarations(
            self._desk,
            self._targets,
            self.owner if owner is None else owner,
            revision if revision is not None else self.revision if mine else 0,
        )
        other.wanted = dict(self.wanted if wanted is None else wanted)
        return other

    def plan(self, mode: Mode) -> list[Step]:
        """Return what reconciling would do, and do nothing."""
        return self._steps(mode)[0]

    def apply(
        self,
        mode: Mode,
        *,
        reason: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> Applied:
        """Reconcile: read, decide and commit, in batches; whoever came in between is read and decided again.

        Dying in the middle leaves whole batches done, and the next apply does the rest.
        """
        for definition in self.wanted.values():
            self._desk.refuse_unshared(definition)
        ids: dict[str, str] = {}
        done: dict[str, Step] = {}
        for _ in range(TRIES_MAX):
            steps, rows = self._steps(mode)
            pending = [step for step in steps if step.name not in done]
            done |= {step.name: step for step in pending if step.verb is Verb.KEEP}
            acts = [step for step in pending if step.verb is not Verb.KEEP]
            for begin in range(0, len(acts), BATCH_MAX):
                batch = acts[begin : begin + BATCH_MAX]
                won = self._commit(batch, rows, ids, reason)
                done |= won
                if progress is not None:
                    progress(len(won))
            if all(step.name in done for step in acts):
                steps = [done[name] for name in sorted(done)]
                return Applied(steps=tuple(steps), warnings=self._warnings())
        raise Conflict(
            f"other nodes changed what is being applied {TRIES_MAX} times in a row; "
            f"{len(done)} schedules were reconciled, apply again for the rest"
        )

    def _steps(self, mode: Mode) -> tuple[list[Step], dict[str, tuple[Schedule, Load]]]:
        store = self._desk.store
        names, after = set(self.wanted), ""
        while page := store.schedules(ScheduleQuery(owner=self.owner, after=after, limit=PAGE)):
            names.update(row.name for row in page)
            after = page[-1].name
        rows = {row.name: (row, load) for row, load in store.owing(sorted(names))}
        present = {name: row for name, (row, _) in rows.items()}
        return reconcile(self.wanted, present, owner=self.owner, revision=self.revision, mode=mode), rows

    def _commit(
        self,
        steps: list[Step],
        rows: Mapping[str, tuple[Schedule, Load]],
        ids: dict[str, str],
        reason: str,
    ) -> dict[str, Step]:
        """Put one batch; return the steps that are done."""
        author = self._desk.author(reason or f"declared by {self.owner} at revision {self.revision}")
        batch = []
        for step in steps:
            known = replace(author, edit_id=ids.setdefault(step.name, uuid4().hex))
            applied = self.wanted.get(step.name)
            declared = Declared(owner=self.owner, revision=self.revision, applied=applied)
            row, load = rows.get(step.name, (None, Load()))
            if step.verb is Verb.CREATE:
                batch.append(self._creation(step, row, known, declared))
            else:
                assert row is not None
                batch.append(_edit(step, row, load, known, declared))
        answers = self._desk.store.put(batch)
        return {
            step.name: step
            for step, answer in zip(steps, answers, strict=True)
            if answer.answer in (Answer.ACCEPTED, Answer.REPEATED)
        }

    def _creation(self, step: Step, tombstone: Schedule | None, author: Author, declared: Declared) -> Edit:
        assert step.definition is not None
        return edits.create(
            step.name,
            step.definition,
            author,
            tombstone=tombstone,
            declared=declared,
            paused=self.paused.get(step.name),
            since=self.since.get(step.name),
        )

    def _warnings(self) -> tuple[str, ...]:
        targets = {definition.target.key: definition.target for definition in self.wanted.values()}
        announced = self._desk.announced()
        missing = sorted(key for key in targets if key not in announced)
        if not missing:
            return ()
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        return (f"no live node has announced {shown} so far; runs are parked until one can run them",)


def _edit(step: Step, row: Schedule, load: Load, author: Author, declared: Declared) -> Edit:
    """Return the edit that a step asks for, of a schedule that is there."""
    if step.verb is Verb.REMOVE:
        # The tombstone keeps the revision that removed it, so that an older node does not bring it back.
        return edits.delete(replace(row, revision=declared.revision), load, author)
    assert step.definition is not None
    return edits.edit(row, load, step.definition, author, declared=declared)


def checked_revision(revision: object) -> int:
    """Return the revision, or raise InvalidInput: it is a number that grows from release to release."""
    if isinstance(revision, int) and not isinstance(revision, bool) and 0 <= revision < 2**53:
        return revision
    raise InvalidInput(
        f"revision={revision!r} is no whole number from 0 on; use one that grows with each release, such as "
        "a build number or the time of the commit"
    )


def _named(function: Callable[..., Any]) -> str:
    """Return the schedule name of a function: its own, with dashes."""
    return checked_name(function.__name__.strip("_").replace("_", "-").lower())
