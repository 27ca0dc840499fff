"""What the entries of a ``beat_schedule`` mean here: for each a name and a definition, or what is wrong.

Imports no Celery, and needs none: a schedule is known by the name of its class. What Celery means otherwise
than onebeat is translated, and said in a note; what cannot be meant is a problem of its entry alone. How a
schedule becomes a trigger is in whens.py.
"""

import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from onebeat.celery.whens import class_name, trigger_of
from onebeat.core.definition import TITLE_CHARS_MAX, define
from onebeat.core.errors import InvalidInput, OnebeatError, near_miss, shown
from onebeat.core.model import NAME, Definition, Json, Noun
from onebeat.core.targets import celery_task

NAME_CHARS_MAX = 100
FIELDS = ("task", "schedule", "args", "kwargs", "options", "relative", "enabled")
"""What an entry may say."""

PASSED_OVER = frozenset({"name", "app", "last_run_at", "total_run_count"})
"""What else an entry object of Celery carries."""

CANVAS = frozenset(f"celery.{kind}" for kind in ("chain", "group", "chord", "map", "starmap"))
AGAIN = ("retry", "retry_policy")

LAZY = "celery.beat.BeatLazyFunc"
NOTE_AGAIN = (
    "retry and retry_policy are left out: a message that the broker did not take is sent again anyway"
)
NOTE_EXPIRES = "expires counts from when the run is due; Celery counts from when the message was sent"
NOTE_DISABLED = "enabled is false, so it is not declared"


class Entry(Noun, frozen=True, kw_only=True):
    """An entry that becomes a schedule: as it is called in the settings, and here."""

    entry: str
    name: str
    definition: Definition


class Problem(Noun, frozen=True, kw_only=True):
    """An entry that does not become a schedule: what is wrong with it, why, and what to write."""

    entry: str
    why: str


class Note(Noun, frozen=True, kw_only=True):
    """What a person should know about some entries: mostly what Celery means otherwise."""

    text: str
    entries: tuple[str, ...]


class Entries(Noun, frozen=True, kw_only=True):
    """A ``beat_schedule``, understood. Each entry is in one of the first two, or a note says why not."""

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]

    @property
    def definitions(self) -> dict[str, Definition]:
        """Return the definitions by the names that they have here."""
        return {entry.name: entry.definition for entry in self.entries}


class Setting(NamedTuple):
    """What the app says that all its entries are in."""

    zone: str
    guarded: bool
    queue: str
    deadline: float | None


class Meant(NamedTuple):
    """What one entry means."""

    definition: Definition | None
    notes: tuple[str, ...] = ()


def read_entries(
    schedule: Mapping[str, Any],
    *,
    zone: str,
    redbeat: Mapping[str, Any] | None = None,
    guarded: bool = True,
    queue: str = "default",
    deadline: float | None = None,
) -> Entries:
    """Return what a ``beat_schedule`` means; ``redbeat``, a ``redbeat_schedule``, stands beside it.

    ``zone`` is the app's. ``guarded``: its workers have the guard. ``queue`` is the one in the ledger
    that the runs are in, and none of the broker's. ``deadline`` is the setting
    ``beat_cron_starting_deadline``: how many seconds late a crontab may start. In the place of an entry may
    stand what it means, or the error that whoever brought it has found in it.
    """
    given_all = {**(redbeat or {}), **schedule}
    names = names_of(given_all)
    entries, problems, notes = [], [], dict[str, list[str]]()
    for entry, given in given_all.items():
        try:
            _refuse_unlike(entry, given, redbeat or {})
            meant = _meant(str(entry), names[str(entry)], given, Setting(zone, guarded, queue, deadline))
        except OnebeatError as error:
            problems.append(Problem(entry=str(entry), why=str(error)))
            continue
        except Exception as error:  # noqa: BLE001 - an entry may hold code of anybody; it is its own problem
            why = f"reading it raised {type(error).__name__}: {error}"
            problems.append(Problem(entry=str(entry), why=why))
            continue
        for text in meant.notes:
            notes.setdefault(text, []).append(str(entry))
        if meant.definition is not None:
            entries.append(Entry(entry=str(entry), name=names[str(entry)], definition=meant.definition))
    return Entries(
        entries=tuple(entries),
        problems=tuple(problems),
        notes=tuple(Note(text=text, entries=tuple(of)) for text, of in notes.items()),
    )


# --- names ------------------------------------------------------------------------------------------------


def names_of(entries: Iterable[object]) -> dict[str, str]:
    """Return what each entry is called here; the entry's own name is its title where that differs.

    Capitals become small; each run of signs that a name may not have becomes a dash, and dashes, dots and
    underscores at its ends go. Where that leaves nothing, is too long, or is the name of several entries, a
    hash of the entry's own name goes behind it. So the name of an entry does not depend on the order of the
    others.
    """
    shorts = {str(entry): slug(str(entry)) for entry in entries}
    shared = list(shorts.values())
    return {
        entry: short
        if NAME.fullmatch(short) and (short == entry or shared.count(short) == 1)
        else _hashed(short, entry)
        for entry, short in shorts.items()
    }


def slug(entry: str) -> str:
    """Return what is left of a text where only what a name may have is kept: nothing, or too much."""
    if NAME.fullmatch(entry):
        return entry
    kept = "".join(sign if sign in _SIGNS else "-" for sign in entry.lower())
    return "-".join(filter(None, kept.split("-"))).strip("._-")


_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


def _hashed(short: str, entry: str) -> str:
    mark = f"-{zlib.crc32(entry.encode()):08x}"
    return (short or "entry")[: NAME_CHARS_MAX - len(mark)] + mark


# --- one entry --------------------------------------------------------------------------------------------


def _meant(entry: str, name: str, given: Any, setting: Setting) -> Meant:
    if isinstance(given, OnebeatError):
        raise given
    if isinstance(given, Meant):
        return given
    fields = _fields(given)
    if fields.get("enabled", True) is False:
        return Meant(None, (NOTE_DISABLED,))
    task = fields.get("task")
    if not isinstance(task, str) or not task:
        raise InvalidInput(f"task is {shown(task)}; write the name that the task is registered under")
    if task in CANVAS:
        raise InvalidInput(
            f"{task} is a composition of tasks, and a run is one task; schedule a task that starts it"
        )
    when = trigger_of(fields.get("schedule"), setting.zone, relative=fields.get("relative") is True)
    options, notes = _options(fields.get("options"))
    target = celery_task(
        task,
        args=_arguments("args", fields.get("args") or ()),
        kwargs=_arguments("kwargs", fields.get("kwargs") or {}),
        guarded=setting.guarded,
        **options,
    )
    definition = define(
        when.trigger,
        target,
        {
            "title": "" if name == entry else _title(entry),
            "overlap": "allow",
            "grace": setting.deadline if when.of_a_crontab else None,
            "queue": setting.queue,
        },
    )
    return Meant(definition, (*when.notes, *notes))


def _refuse_unlike(entry: str, given: Any, redbeat: Mapping[str, Any]) -> None:
    if entry in redbeat and redbeat[entry] != given:
        raise InvalidInput(
            "beat_schedule and redbeat_schedule both have it, and not alike; leave one of them out"
        )


def _fields(given: Any) -> dict[str, Any]:
    """Return what an entry says: it is a mapping, or an entry object of Celery, which can be read as one."""
    try:
        fields = dict(given)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"it is {shown(given)}, and an entry is a mapping with 'task' and 'schedule'"
        ) from None
    for name in fields:
        if name not in FIELDS and name not in PASSED_OVER:
            raise InvalidInput(
                f"{shown(name)} is nothing that an entry can say{near_miss(str(name), FIELDS)}; there are "
                f"{', '.join(FIELDS)}"
            )
    return fields


def _options(given: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options that a target keeps, and what there is to say of them."""
    options = dict(given or {})
    notes = []
    if any(options.get(name) is not None for name in AGAIN):
        notes.append(NOTE_AGAIN)
    options = {name: value for name, value in options.items() if value is not None and name not in AGAIN}
    expires = options.get("expires")
    if isinstance(expires, datetime):
        raise InvalidInput(
            f"expires={expires.isoformat()} would let every message after it be thrown away; to end a "
            "schedule, delete its entry, or write schedule=cron(…).between(end_at=…)"
        )
    if isinstance(expires, (int, float, timedelta)):
        notes.append(NOTE_EXPIRES)
    return options, tuple(notes)


def _arguments(name: str, given: Any) -> Any:
    """Return arguments; what Celery would ask for at each send is refused."""
    values: Iterable[Json] = given.values() if isinstance(given, Mapping) else given
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidInput(f"{name}={shown(given)} is no {'mapping' if name == 'kwargs' else 'list'}")
    for value in values:
        if class_name(value) == LAZY:
            raise InvalidInput(
                f"{name} hold a BeatLazyFunc, which is a piece of code that beat would call at each send; a "
                "schedule is data: have the task ask for it"
            )
    return given


def _title(entry: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in entry)[:TITLE_CHARS_MAX]
