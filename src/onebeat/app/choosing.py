"""Many schedules, chosen together and acted upon as one is: batches of one transaction, an answer for each.

What was chosen stays chosen: a schedule that comes to fit later is not acted upon, for nobody has seen it in
the list. One that is refused does not hinder the others. Dying between two batches leaves those before done;
doing it again changes only the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Unpack

from msgspec.structs import replace

from onebeat.app.desk import Desk, Written
from onebeat.core import acts, edits
from onebeat.core.acts import Decide, DecidePresent, Wish, gone
from onebeat.core.definition import Options, policy_of, read_trigger
from onebeat.core.edits import Author
from onebeat.core.errors import InvalidInput, OnebeatError
from onebeat.core.messages import Edit, ScheduleQuery
from onebeat.core.model import Definition, Json, Load, Noun, Schedule, Target, TriggerSpec

PUT_MAX = 500
PATTERN = frozenset("*?[")
"""What makes a pattern of a name; none of it can stand in one."""

Progress = Callable[[int], None]


class Declined(Noun, frozen=True, kw_only=True):
    """A schedule that an act was refused for, and why: the code and the message of the error."""

    name: str
    code: str
    message: str


class Acted(Noun, frozen=True, kw_only=True):
    """What an act on many left: what each is now, and those that it was refused for; both by name."""

    written: tuple[Written, ...]
    refused: tuple[Declined, ...] = ()


class Chosen:
    """Schedules that were there when they were chosen, by name. Made by ``beat.schedules.where``."""

    def __init__(self, desk: Desk, rows: Sequence[Schedule]) -> None:
        self._desk = desk
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self.rows)

    def pause(self, reason: str = "", *, progress: Progress | None = None) -> Acted:
        """Pause each, as ``beat.schedules.pause`` does."""
        return self._act(acts.pause, reason, progress)

    def resume(self, reason: str = "", *, progress: Progress | None = None) -> Acted:
        """Resume each, as ``beat.schedules.resume`` does."""
        return self._act(acts.resume, reason, progress)

    def skip_next(self, reason: str = "", *, progress: Progress | None = None) -> Acted:
        """Skip the next occurrence of each, as ``beat.schedules.skip_next`` does."""
        return self._act(acts.skip_next, reason, progress)

    def unskip(self, reason: str = "", *, progress: Progress | None = None) -> Acted:
        """Take the latest mark of each back, as ``beat.schedules.unskip`` does."""
        return self._act(acts.unskip, reason, progress)

    def delete(self, reason: str = "", *, progress: Progress | None = None) -> Acted:
        """Delete each, as ``beat.schedules.delete`` does."""
        acted = self._act(edits.delete, reason, progress)
        return replace(acted, written=tuple(map(comes_back, acted.written)))

    def edit(
        self,
        *,
        trigger: str | TriggerSpec | None = None,
        target: str | Target | Callable[..., Any] | None = None,
        args: Iterable[Json] | None = None,
        kwargs: Mapping[str, Json] | None = None,
        reason: str = "",
        progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Acted:
        """Change what is given of each and keep the rest, as ``beat.schedules.edit`` does.

        Raises InvalidInput, and nothing is written, for what could be meant of no schedule.
        """
        args = None if args is None else tuple(args)
        wish = Wish(trigger, target, args, kwargs, options, self._desk.zone)
        if not options and all(item is None for item in wish[:4]):
            raise InvalidInput("nothing would change; say what, e.g. trigger='0 9 * * *'")
        policy_of({name: value for name, value in options.items() if name not in ("title", "tags", "queue")})
        if trigger is not None:
            read_trigger(trigger, self._desk.zone)

        def edited(before: Definition) -> Definition:
            after = acts.edited(before, wish)
            self._desk.refuse_unshared(after)
            return after

        return self._act(acts.change(edited, mends=trigger is not None), reason, progress)

    def _act(self, decide: DecidePresent, reason: str, progress: Progress | None) -> Acted:
        done: dict[str, Written] = {}
        refused: dict[str, Declined] = {}
        names = [row.name for row in self.rows]
        for begin in range(0, len(names), PUT_MAX):
            batch = names[begin : begin + PUT_MAX]
            wanted: dict[str, Decide] = {name: partial(_guarded, decide, name, refused) for name in batch}
            done |= self._desk.act_all(wanted, reason)
            if progress is not None:
                progress(len(batch))
        return Acted(
            written=tuple(done[name] for name in names if name not in refused),
            refused=tuple(refused[name] for name in names if name in refused),
        )


def _guarded(
    decide: DecidePresent,
    name: str,
    refused: dict[str, Declined],
    row: Schedule | None,
    load: Load,
    author: Author,
) -> Edit | None:
    """Decide for a schedule of a batch; what is raised is its own, and its row stays as it is."""
    try:
        if row is None or row.deleted:
            raise gone(name)
        return decide(row, load, author)
    except OnebeatError as error:
        refused[name] = Declined(name=name, code=error.code, message=str(error))
        return None


def choose(desk: Desk, names: Sequence[str], tag: str | None, owner: str | None) -> list[Schedule]:
    """Return the rows that every condition holds for, by name; a name is one, or a pattern."""
    if not names and tag is None and owner is None:
        raise InvalidInput(
            "say which schedules: names, patterns such as 'bill-*', a tag, an owner; '*' is all"
        )
    plain = {name for name in names if not PATTERN & set(name)}
    for name in plain:
        desk.found(name)  # raises, and says what there is instead
    if len(plain) == len(set(names)) and plain:
        rows = desk.store.schedules(ScheduleQuery(names=tuple(plain), tag=tag, owner=owner, limit=len(plain)))
        return sorted(rows, key=lambda row: row.name)
    patterns = [name for name in names if name not in plain]
    found: list[Schedule] = []
    after = ""
    while page := desk.store.schedules(ScheduleQuery(tag=tag, owner=owner, after=after)):
        found += [row for row in page if not names or row.name in plain or _fits(row.name, patterns)]
        after = page[-1].name
    return found


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def comes_back(written: Written) -> Written:
    """Return what a delete left, with the warning that somebody still declares it."""
    row = written.schedule
    if not row.owner:
        return written
    warning = f"{row.owner} declares {row.name}; a revision above {row.revision}, or force, brings it back"
    return replace(written, warnings=(warning,))
