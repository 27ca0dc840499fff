"""Which schedule each line of a crontab is. Pure: rows come in, names come out.

A line takes the name of the row that stands for it, so that an edited line is an edit, wherever it stands.
The
steps, and why names are not numbers by place or hashes, are in docs/design/016-import-crontab.md.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from onebeat.core.model import Definition, Schedule, Target
from onebeat.importers.commands import program_name

Key: TypeAlias = Callable[[Definition], Hashable]


def names_for(
    definitions: Sequence[Definition], rows: Sequence[Schedule], taken: Callable[[str], bool]
) -> list[str]:
    """Return the name of each definition.

    ``rows`` are those of the owner, deleted ones among them; ``taken`` says whether any schedule, of
    whomever, has a name or had it.
    """
    names: list[str | None] = [None] * len(definitions)
    free = sorted(
        (row for row in rows if _command(_declared(row).target) is not None), key=lambda row: row.id
    )
    for key, deleted in _STEPS:
        waiting: dict[Hashable, list[str]] = {}
        for row in free:
            if row.deleted == deleted:
                waiting.setdefault(key(_declared(row)), []).append(row.name)
        for place, definition in enumerate(definitions):
            if names[place] is None and (found := waiting.get(key(definition))):
                names[place] = found.pop(0)
        given = set(names)
        free = [row for row in free if row.name not in given]
    return _named_anew(definitions, names, taken)


def _named_anew(
    definitions: Sequence[Definition], names: Sequence[str | None], taken: Callable[[str], bool]
) -> list[str]:
    given = {name for name in names if name is not None}
    numbers: dict[str, int] = {}

    def fresh(program: str) -> str:
        while True:
            number = numbers[program] = numbers.get(program, 0) + 1
            name = program if number == 1 else f"{program}-{number}"
            if name not in given and not taken(name):
                given.add(name)
                return name

    return [
        fresh(_program(definition)) if name is None else name
        for definition, name in zip(definitions, names, strict=True)
    ]


def _declared(row: Schedule) -> Definition:
    """Return what was declared last: what a person changed since does not make it another line's."""
    return row.definition if row.applied is None else row.applied


def _command(target: Target) -> Hashable:
    """Return what a shell target of ours runs, None for another target."""
    if target.kind != "shell" or len(target.args) != 2 or target.args[0] != "-c":
        return None
    return target.args[1], target.kwargs.get("input")


def _program(definition: Definition) -> str:
    return program_name(definition.target.args[1])


def _time(definition: Definition) -> Hashable:
    fields = definition.trigger.fields
    return definition.trigger.kind, fields.get("expression"), fields.get("zone")


def _command_and_time(definition: Definition) -> Hashable:
    return _command(definition.target), _time(definition)


def _command_alone(definition: Definition) -> Hashable:
    return _command(definition.target)


def _program_and_time(definition: Definition) -> Hashable:
    return _program(definition), _time(definition)


_STEPS: tuple[tuple[Key, bool], ...] = (
    (_command_and_time, False),
    (_command_alone, False),
    (_command_and_time, True),
    (_command_alone, True),
    (_program_and_time, False),
    (_program, False),
)
"""What makes a line and a row the same, the surest first; True where the row is a deleted one."""
