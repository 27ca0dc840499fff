"""Declarations against the ledger, three ways: as last applied, as wanted now, as the row is.

    wanted = as the row is                       keep
    wanted = last applied, the row differs       keep: a person changed the row, the declaration did not move
    wanted moved, the row is as last applied     change the row
    both moved                                   keep, and say so: a person wins until forced

That is decided for each field alone. Around it stand the owner (a declaration touches only what carries its
tag) and the revision (a lower one changes nothing): twenty nodes of two versions may start in any order.
Pure: what to do comes out, and nothing is done.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from onebeat.core.model import EPOCH, Definition, Json, Noun, Policy, Schedule, Target, TriggerSpec
from onebeat.core.triggers.registry import kind_of, nested_spec


class Verb(StrEnum):
    """What reconciling does with one schedule."""

    CREATE = "create"
    CHANGE = "change"
    STAMP = "stamp"  # nothing to change but the record of what was declared, and at which revision
    REMOVE = "remove"
    KEEP = "keep"


class Mode(NamedTuple):
    """How far reconciling may go. The defaults are those of a node that starts: it adds, and no more.

    ``edits``: also change rows of the same revision, as `apply` does; a higher revision always may.
    ``removes``: also remove what a higher revision no longer declares. ``prune``: whatever the revision.
    ``force``: declarations win over people, and adopt what is nobody's or another owner's.
    """

    edits: bool = False
    removes: bool = False
    prune: bool = False
    force: bool = False


AT_START = Mode()


class Step(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """What happens with one schedule, and why. ``definition`` is the one to write, None to write none.

    ``changed`` are the fields that will differ from the row; ``conflicts`` those where the declaration moved,
    and a person's change wins all the same.
    """

    name: str
    verb: Verb
    definition: Definition | None = None
    changed: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    why: str = ""


def reconcile(
    wanted: Mapping[str, Definition],
    present: Mapping[str, Schedule],
    *,
    owner: str,
    revision: int = 0,
    mode: Mode = AT_START,
) -> list[Step]:
    """Return a step for each schedule that is declared, or carries the owner's tag; by name.

    ``present`` holds the rows (tombstones too) of all names in ``wanted``, and all rows of the owner.
    """
    steps = []
    for name in sorted({*wanted, *(name for name, row in present.items() if row.owner == owner)}):
        row = present.get(name)
        if name in wanted:
            steps.append(_declared(name, wanted[name], row, owner, revision, mode))
        elif row is not None and not row.deleted:
            steps.append(_undeclared(row, revision, mode))
    return steps


def _declared(
    name: str, wanted: Definition, row: Schedule | None, owner: str, revision: int, mode: Mode
) -> Step:
    if row is None:
        return Step(name=name, verb=Verb.CREATE, definition=wanted, why="it is not there yet")
    if row.deleted:
        return _deleted(row, wanted, owner, revision, mode)
    if row.owner != owner and not mode.force:
        whose = f"belongs to {row.owner}" if row.owner else "was made by hand"
        return Step(
            name=name,
            verb=Verb.KEEP,
            conflicts=tuple(_differing(row.definition, wanted)),
            why=f"it {whose}, and a declaration touches only what carries its own tag, {owner}; "
            "force makes it adopt this one",
        )
    if row.owner == owner and revision < row.revision:
        return Step(
            name=name,
            verb=Verb.KEEP,
            why=f"revision {row.revision} has declared it, and {revision} is older: it changes nothing",
        )
    return _merged(row, wanted, owner, revision, mode)


def _deleted(row: Schedule, wanted: Definition, owner: str, revision: int, mode: Mode) -> Step:
    if mode.force or row.owner != owner or revision > row.revision:
        return Step(name=row.name, verb=Verb.CREATE, definition=wanted, why="the name is free again")
    return Step(
        name=row.name,
        verb=Verb.KEEP,
        why=f"it was deleted while revision {row.revision} declared it; "
        "a higher revision, or force, brings it back",
    )


def _undeclared(row: Schedule, revision: int, mode: Mode) -> Step:
    if revision < row.revision:
        why = f"revision {row.revision} has declared it, and {revision} is older: it changes nothing"
        return Step(name=row.name, verb=Verb.KEEP, why=why)
    if mode.prune or (mode.removes and revision > row.revision):
        why = "pruned" if mode.prune else f"revision {revision} no longer declares it"
        return Step(name=row.name, verb=Verb.REMOVE, why=why)
    why = "it is declared no more; a higher revision that is applied, or prune, removes it"
    return Step(name=row.name, verb=Verb.KEEP, why=why)


def _merged(row: Schedule, wanted: Definition, owner: str, revision: int, mode: Mode) -> Step:
    """Return the step for a row that this declaration may touch: the three ways, field by field."""
    applied = row.applied if row.owner == owner else None
    before, goal = _fields(row.definition), _fields(wanted)
    last = None if applied is None else _fields(applied)
    merged, changed, conflicts, kept = dict(before), [], [], []
    for field, value in goal.items():
        if _same(value, before[field]):
            continue
        moved = last is None or last[field] != value
        by_hand = last is None or not _same(last[field], before[field])
        mends = field == "trigger" and row.quarantined is not None
        if mode.force or mends or (moved and not by_hand):
            merged[field] = value
            changed.append(field)
        elif moved:
            conflicts.append(field)
        else:
            kept.append(field)
    why = _why(changed, conflicts, kept)
    newer = revision > row.revision
    if row.quarantined is not None and (mode.edits or mode.force or newer):
        return Step(
            name=row.name,
            verb=Verb.CHANGE,
            definition=_definition(merged),
            changed=tuple(changed),
            conflicts=tuple(conflicts),
            why=f"it was quarantined: {row.quarantined}",
        )
    if not changed and row.owner == owner and not newer and applied == wanted:
        return Step(name=row.name, verb=Verb.KEEP, conflicts=tuple(conflicts), why=why or "as declared")
    if not (mode.edits or mode.force or newer):
        why = "a start adds and no more; apply it, or give a higher revision"
        return Step(name=row.name, verb=Verb.KEEP, conflicts=tuple(changed + conflicts), why=why)
    return Step(
        name=row.name,
        verb=Verb.CHANGE if changed else Verb.STAMP,
        definition=_definition(merged),
        changed=tuple(changed),
        conflicts=tuple(conflicts),
        why=why or f"declared by {owner} at revision {revision}",
    )


def _why(changed: list[str], conflicts: list[str], kept: list[str]) -> str:
    said = []
    if changed:
        said.append(f"declared anew: {', '.join(changed)}")
    if conflicts:
        said.append(f"a person changed {', '.join(conflicts)} too, and wins until forced")
    if kept:
        said.append(f"a person changed {', '.join(kept)}")
    return "; ".join(said)


# --- a definition, field by field -----------------------------------------------------------------------


def _fields(definition: Definition) -> dict[str, Json]:
    """Return a definition as the fields that are reconciled one by one."""
    target = definition.target
    fields: dict[str, Json] = {
        "trigger": definition.trigger,
        "target": (target.kind, target.address, target.args, target.kwargs),
        "queue": target.queue,
        "title": definition.title,
        "tags": definition.tags,
    }
    return fields | {name: getattr(definition.policy, name) for name in _POLICY}


_POLICY = tuple(field.name for field in msgspec.structs.fields(Policy))


def _definition(fields: Mapping[str, Json]) -> Definition:
    kind, address, args, kwargs = fields["target"]
    return Definition(
        trigger=fields["trigger"],
        target=Target(kind=kind, address=address, args=args, kwargs=kwargs, queue=fields["queue"]),
        policy=Policy(**{name: fields[name] for name in _POLICY}),
        title=fields["title"],
        tags=fields["tags"],
    )


def _differing(present: Definition, wanted: Definition) -> Iterator[str]:
    before, goal = _fields(present), _fields(wanted)
    yield from (field for field in goal if not _same(goal[field], before[field]))


def _same(declared: Json, present: Json) -> bool:
    if isinstance(declared, TriggerSpec) and isinstance(present, TriggerSpec):
        return resolves(declared, present)
    return bool(declared == present)


def resolves(declared: TriggerSpec, present: TriggerSpec) -> bool:
    """Return whether ``present`` is ``declared``, or what became of it when its instants were fixed.

    A declared "every hour" has no anchor; the row's has, from the cut of the edit that wrote it. A declared
    "H 9 * * *" has no slot; the row's has its name. They are the same declaration.
    """
    if declared == present:
        return True
    if declared.kind != present.kind:
        return False
    of = kind_of(declared.kind)
    resolved = declared.fields if of.anchor is None else of.anchor(declared.fields, EPOCH)
    resolved = resolved if of.naming is None else of.naming(resolved, "")
    if resolved.keys() != present.fields.keys():
        return False
    for name, value in resolved.items():
        if name in of.nested:
            if not _resolve_each(value, present.fields[name]):
                return False
        elif declared.fields.get(name) == value and present.fields[name] != value:
            return False
    return True


def _resolve_each(declared: Json, present: Json) -> bool:
    left = declared if isinstance(declared, list) else [declared]
    right = present if isinstance(present, list) else [present]
    return len(left) == len(right) and all(
        resolves(nested_spec(one), nested_spec(other)) for one, other in zip(left, right, strict=True)
    )
