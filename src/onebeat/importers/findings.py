"""What an importer found: entries that become schedules, settings, problems, and notes for people."""

from onebeat.core.model import Definition, Noun


class Entry(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """A line that becomes a schedule. ``user`` is whom cron runs it as, where the form names one."""

    line: int
    text: str
    definition: Definition
    user: str | None = None


class Setting(Noun, frozen=True, kw_only=True):
    """A line that sets a variable for the lines below it."""

    line: int
    name: str
    value: str


class Problem(Noun, frozen=True, kw_only=True):
    """A line that could not be imported: what is wrong with it, why, and what to write.

    ``broken`` is False for what is right in a crontab and has no place here: no schedule ever stood for it.
    """

    line: int
    text: str
    why: str
    broken: bool = True


class Note(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """What a person should know about some lines, or, with none, about all of them."""

    text: str
    lines: tuple[int, ...] = ()


class Notes:
    """Notes as they come up: each text once, with all its lines."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}

    def add(self, text: str, *lines: int) -> None:
        """Note something about lines, or about all of them."""
        self._lines.setdefault(text, []).extend(lines)

    def all(self) -> list[Note]:
        """Return the notes: those about all lines last, the others by their first line."""
        found = [Note(text=text, lines=tuple(lines)) for text, lines in self._lines.items()]
        return sorted(found, key=lambda note: note.lines[:1] or (float("inf"),))


class Crontab(Noun, frozen=True, kw_only=True):
    """A crontab, understood. Each line that is not blank and no comment is in one of the first three.

    ``form`` says how its lines were read, and why; ``unsure`` why that may be wrong, None where it is
    certain.
    """

    entries: tuple[Entry, ...]
    settings: tuple[Setting, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    form: str
    unsure: str | None = None
