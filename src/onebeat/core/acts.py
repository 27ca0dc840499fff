"""What people and programs do to schedules, decided: the same for the app, the command line and the inbox.

An act is decided from what stands in the ledger and who acts; it gives the edit to put, None where nothing is
to be changed, or raises why it may not be. Pure: reading, and putting until nobody came in between, is done
by whoever acts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from msgspec.structs import replace

from onebeat.core import edits
from onebeat.core.definition import define, policy_of, read_trigger
from onebeat.core.edits import Author
from onebeat.core.errors import Conflict, InvalidInput, NotFound, Refused, near_miss, shown
from onebeat.core.messages import Edit
from onebeat.core.model import Definition, Json, Load, Schedule, Target, TriggerSpec
from onebeat.core.reconcile import resolves
from onebeat.core.targets import FUNCTIONS, address_of, kind_of, with_kwargs

IfExists = Literal["error", "replace", "ignore"]
DEFAULT_QUEUE = "default"

Decide: TypeAlias = Callable[[Schedule | None, Load, Author], Edit | None]
"""From what stands in the ledger (None: nothing) to an edit, or to None where nothing is to be changed."""

DecidePresent: TypeAlias = Callable[[Schedule, Load, Author], Edit | None]
"""The same for a schedule that is there."""


def creation(
    name: str, definition: Definition, if_exists: IfExists, *, paused: bool = False, run_now: bool = False
) -> Decide:
    """Return the decision that a put makes about whatever stands under its name."""
    if if_exists not in ("error", "replace", "ignore"):
        raise InvalidInput(f"if_exists={if_exists!r} is none of error, replace, ignore")

    def decide(row: Schedule | None, load: Load, author: Author) -> Edit | None:
        if row is None or row.deleted:
            pause = author.reason if paused else None
            return edits.create(name, definition, author, tombstone=row, paused=pause, run_now=run_now)
        if if_exists == "ignore":
            return None
        if if_exists == "error":
            raise Conflict(
                f"there is a schedule {name} already, at version {row.version}; edit it, or put it with "
                "if_exists='replace' or 'ignore'"
            )
        same = resolves(definition.trigger, row.definition.trigger)
        wanted = replace(definition, trigger=row.definition.trigger) if same else definition
        if wanted == row.definition and row.quarantined is None:
            return None
        return edits.edit(row, load, wanted, author)

    return decide


class Wish(NamedTuple):
    """What an edit shall change; None where something stays. ``options`` are those of a schedule.

    ``zone`` is for a trigger that names none.
    """

    trigger: str | TriggerSpec | None
    target: str | Target | Callable[..., Any] | None
    args: Iterable[Json] | None
    kwargs: Mapping[str, Json] | None
    options: Mapping[str, Any]
    zone: str | None


def edited(before: Definition, wish: Wish) -> Definition:
    """Return the definition with what is wished changed, and the rest as it was."""
    aim, options = before.target, wish.options
    if isinstance(wish.target, Target):
        moves = {aim.kind, wish.target.kind} <= set(FUNCTIONS) and aim.address == wish.target.address
        # The same function, run in another way, and nothing said of arguments: it keeps those that it has.
        keeps = moves and not (wish.target.args or wish.target.kwargs)
        aim = replace(wish.target, args=aim.args, kwargs=aim.kwargs) if keeps else wish.target
    elif wish.target is not None:
        if aim.kind not in FUNCTIONS:  # what a command was called with is nothing for a function
            aim = replace(aim, args=(), kwargs={})
        aim = replace(aim, kind=kind_of(wish.target), address=address_of(wish.target))
    queue = before.target.queue if aim.queue == DEFAULT_QUEUE else aim.queue
    aim = aim if wish.args is None else replace(aim, args=tuple(wish.args))
    aim = aim if wish.kwargs is None else with_kwargs(aim, wish.kwargs)
    target = replace(aim, queue=options.get("queue", queue))
    policy = {name: value for name, value in options.items() if name not in ("title", "tags", "queue")}
    return define(
        before.trigger if wish.trigger is None else read_trigger(wish.trigger, wish.zone),
        target,
        {"title": options.get("title", before.title), "tags": options.get("tags", before.tags)},
        policy=policy_of(policy, before.policy),
    )


def change(edited: Callable[[Definition], Definition], *, mends: bool) -> DecidePresent:
    """Return the decision of an edit; ``mends`` says that it brings a trigger of its own."""

    def decide(row: Schedule, load: Load, author: Author) -> Edit | None:
        try:
            after = edited(row.definition)
        except InvalidInput as error:
            if row.quarantined is None or mends:
                raise
            raise Refused(
                f"{row.name} is quarantined ({row.quarantined}), and would be again: {error}; "
                "give it a trigger"
            ) from error
        if after == row.definition and row.quarantined is None:
            return None
        return edits.edit(row, load, after, author)

    return decide


def pause(row: Schedule, load: Load, author: Author) -> Edit | None:
    """Pause it, unless it is paused for this very reason."""
    return None if row.paused is not None and row.paused == author.reason else edits.pause(row, load, author)


def resume(row: Schedule, load: Load, author: Author) -> Edit | None:
    """End its pause, if there is one."""
    return None if row.paused is None else edits.resume(row, load, author)


def skip_next(row: Schedule, load: Load, author: Author) -> Edit | None:
    """Skip its next occurrence. Raises Refused where nothing of it fires anyway."""
    if row.paused is not None or row.quarantined is not None:
        state = "paused" if row.quarantined is None else f"quarantined: {row.quarantined}"
        raise Refused(f"{row.name} is {state}, so nothing of it fires anyway; resume or edit it first")
    return edits.skip_next(row, load, author)


def unskip(row: Schedule, load: Load, author: Author) -> Edit | None:
    """Take its latest mark of skip_next back, if it has one."""
    return edits.unskip(row, load, author) if row.skips else None


def unknown(name: str, place: str, known: Iterable[str]) -> NotFound:
    """Return the error for a name that no schedule has, with the nearest of those that are known."""
    return NotFound(
        f"there is no schedule {shown(name)} in {place}{near_miss(name[:100], known)}; "
        "list them with schedules.list() or `onebeat schedule list`"
    )


def gone(name: str) -> NotFound:
    """Return the error for a name whose schedule was deleted."""
    return NotFound(f"schedule {name} was deleted; put it again to use the name anew")


def not_expected(name: str, row: Schedule | None, expected: int) -> Conflict:
    """Return the error for a row that is not at the version that the caller expects."""
    stands = "there is no such schedule" if row is None else f"its version is {row.version}"
    return Conflict(
        f"{name} was expected at version {expected}, but {stands}: somebody changed it since it was read; "
        "read it again and decide again"
    )
