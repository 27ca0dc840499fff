"""Read a crontab: what becomes of each line. Nothing is written, and no line hinders another.

Every line that is not blank and no comment is an entry, a setting or a problem. What cron does that is not
done here is a note. docs/howto/import-a-crontab.md tells the rules. Pure: a file's content comes in as bytes.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import PurePath
from typing import NamedTuple

from onebeat.core.definition import checked_definition
from onebeat.core.errors import InvalidInput, LimitExceeded, OnebeatError, shown
from onebeat.core.model import CatchUp, Definition, OnLost, Overlap, Policy
from onebeat.core.targets import shell
from onebeat.core.triggers import cron
from onebeat.importers import remarks
from onebeat.importers.commands import said
from onebeat.importers.findings import Crontab, Entry, Notes, Problem
from onebeat.importers.moments import BLANKS, parted
from onebeat.importers.settings import Settings, assignment

BYTES_MAX = 1_048_576
"""The largest crontab, in bytes."""

ON_TIME = timedelta(minutes=1)
"""How late an occurrence may be and still fire: cron looks once a minute, and makes nothing up."""

START_WITHIN = timedelta(minutes=10)
"""How long a run may wait for a node: what piled up without one must not begin in a heap."""

TITLE_CHARS_MAX = 80
TAG = "crontab"
SHOWN_CHARS = 200

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?(:[a-z_][a-z0-9_-]*)?(/[a-z]+)?", re.IGNORECASE)
_HEADER = re.compile(r"#.*(\bdow|(\*\s+){4}\*)\s+user(-?name)?\s+(command|cmd)\b", re.IGNORECASE)
_USERS = {
    *("root", "www-data", "nobody", "daemon", "apache", "nginx", "http", "postgres", "mysql", "redis"),
    *("ubuntu", "ec2-user", "debian", "admin", "vagrant", "smmsp", "logcheck", "munin", "nagios", "zabbix"),
}
"""Users that many systems have, and that are no commands."""

_SHELL_WORD = re.compile(r"(export|set|setenv|declare)[ \t]+(?P<name>[A-Za-z_]\w*)([ \t]*=|[ \t])")


def read_crontab(content: bytes, zone: str, *, place: str = "-", system: bool | None = None) -> Crontab:
    """Return what a crontab says. Times are in ``zone`` where it sets no CRON_TZ.

    ``place`` is its path, which tells whether lines have a user column where ``system`` does not.

    Raises LimitExceeded for more than BYTES_MAX.
    """
    if len(content) > BYTES_MAX:
        raise LimitExceeded(
            f"{place} has {len(content):,} bytes, and at most {BYTES_MAX:,} of a crontab are read; import it "
            "in parts"
        )
    notes, problems = Notes(), list[Problem]()
    lines = _lines(content, notes, problems)
    form = _form([text for _, text in lines], place, system)
    reader = _Reader(form.system, Settings(zone, notes), notes, problems)
    for number, text in lines:
        reader.take(number, text)
    reader.conclude()
    return Crontab(
        entries=tuple(reader.entries),
        settings=tuple(reader.settings.lines),
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        notes=tuple(notes.all()),
        form=form.why,
        unsure=form.unsure,
    )


def _lines(content: bytes, notes: Notes, problems: list[Problem]) -> list[tuple[int, str]]:
    """Return the lines with their numbers, without blanks around them; what is no text is a problem."""
    mark = b"\xef\xbb\xbf"
    if content.startswith(mark):
        notes.add(remarks.BYTE_ORDER, 1)
    found = []
    raw = content.removeprefix(mark).split(b"\n")
    for number, line in enumerate(raw, 1):
        if line.endswith(b"\r") and line.strip():
            notes.add(remarks.CARRIAGE_RETURNS)
        try:
            found.append((number, line.rstrip(b"\r").decode().lstrip(" \t")))
        except UnicodeDecodeError:
            if not line.lstrip(b" \t").startswith(b"#"):
                text = line.decode(errors="backslashreplace")
                why = "is not UTF-8; convert the file, e.g. with iconv -f LATIN1 -t UTF-8"
                problems.append(Problem(line=number, text=_cut(text), why=why))
    if found and raw[-1].strip() and not raw[-1].lstrip().startswith(b"#"):
        notes.add(remarks.NO_NEWLINE, len(raw))
    return found


class _Reader:
    """Takes line after line."""

    def __init__(self, system: bool, settings: Settings, notes: Notes, problems: list[Problem]) -> None:
        self.entries: list[Entry] = []
        self.settings = settings
        self._system = system
        self._notes = notes
        self._problems = problems
        self._comment: list[str] = []
        self._homeless = False

    def take(self, number: int, text: str) -> None:
        """Read one line, which begins with no blank."""
        if not text:
            self._comment = []
        elif text.startswith("#"):
            self._comment.append(text)
        else:
            try:
                self._take(number, text)
            except OnebeatError as error:
                broken = not text.lower().lstrip("-").startswith("@reboot")
                self._problems.append(Problem(line=number, text=_cut(text), why=str(error), broken=broken))
            self._comment = []

    def _take(self, number: int, text: str) -> None:
        odd = next((sign for sign in text if (sign < " " and sign != "\t") or sign == "\x7f"), None)
        if odd is not None:
            raise InvalidInput(f"holds {odd!a}, a control character; take it out")
        assigned = assignment(text)
        if assigned is not None:
            self.settings.take(number, assigned)
        else:
            self._entry(number, text)

    def _entry(self, number: int, text: str) -> None:
        if found := _SHELL_WORD.match(text):
            raise InvalidInput(f"begins with {found[1]!r}, which cron does not know; write {found['name']}=…")
        self.settings.whole()
        quiet = re.match(r"-(?=[\d*@])", text)
        when, rest = parted(text[1:] if quiet else text)
        user, rest = self._user(rest)
        _refuse_odd(rest)
        command = said(rest)
        if not command.command:
            raise InvalidInput("has no command before the first %; what stands behind it would be its input")
        settings = self.settings
        definition = checked_definition(
            Definition(
                trigger=cron(when, zone=settings.zone),
                target=shell(
                    [settings.shell, "-c", command.command],
                    env=settings.env,
                    cwd=settings.home,
                    input=command.input,
                ),
                policy=Policy(
                    catch_up=CatchUp.SKIP,
                    grace=ON_TIME,
                    overlap=Overlap.ALLOW,
                    start_within=START_WITHIN,
                    on_lost=OnLost.FAIL,
                    spread=settings.spread,
                ),
                title=_title(self._comment),
                tags=(TAG, *settings.tags),
            )
        )
        self._remark(number, command.command, quiet=quiet is not None, piped=command.input is not None)
        self.entries.append(Entry(line=number, text=text, definition=definition, user=user))

    def _user(self, rest: str) -> tuple[str | None, str]:
        """Return the user column, None where there is none, and what stands behind it."""
        if not self._system:
            return None, rest
        user, *command = BLANKS.split(rest, maxsplit=1)
        if not _USER.fullmatch(user):
            raise InvalidInput(
                f"has {shown(user, 40)} where a system crontab names the user; write e.g. root before it, or "
                "say --user if this is the crontab of a user"
            )
        if not command or not command[0].strip(" \t"):
            raise InvalidInput(
                f"has nothing behind the user {user}; add the command, or say --user if this is the crontab "
                "of a user"
            )
        return user, command[0]

    def _remark(self, number: int, command: str, *, quiet: bool, piped: bool) -> None:
        if quiet:
            self._notes.add(remarks.NO_LOG_PREFIX, number)
        if piped:
            self._notes.add(remarks.PERCENT, number)
        for text in remarks.hints(command):
            self._notes.add(text, number)
        self._homeless = self._homeless or self.settings.home is None

    def conclude(self) -> None:
        """Note what is about many lines."""
        if not self.entries:
            return
        users: dict[str, list[int]] = {}
        same: dict[str, list[int]] = {}
        for entry in self.entries:
            if entry.user is not None:
                users.setdefault(entry.user, []).append(entry.line)
            same.setdefault(entry.text, []).append(entry.line)
        for user, lines in users.items():
            queue = re.sub(r"[^a-z0-9._-]", "-", user.lower()).lstrip("-_.") or "other"
            self._notes.add(remarks.RUNS_AS.format(user, queue), *lines)
        for lines in same.values():
            if len(lines) > 1:
                self._notes.add(remarks.TWICE, *lines)
        if self._homeless:
            self._notes.add(remarks.NO_HOME)
        if self._system:
            self._notes.add(remarks.ONE_NODE)
        self._notes.add(remarks.SWITCHED_OFF)
        self._notes.add(remarks.OVERLAPS)
        self._notes.add(remarks.NOTHING_MADE_UP)


def _refuse_odd(command: str) -> None:
    """Raise InvalidInput for what no shell was meant to read."""
    if re.match(r"-[a-z]+[ \t]", command):
        raise InvalidInput(
            f"has {command.split(maxsplit=1)[0]!r} before its command, a flag that a few crons know; take it "
            "out"
        )
    bare = command.rstrip(" \t")
    if (len(bare) - len(bare.rstrip("\\"))) % 2:
        raise InvalidInput(
            "ends in a backslash, and cron joins no lines: the next one would be read for itself; write all "
            "of it on one line"
        )


def _cut(text: str) -> str:
    """Return a line as a problem shows it: not all of a long one."""
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _title(comments: Sequence[str]) -> str:
    """Return the one short comment line above an entry, an empty text where there is no such line."""
    if len(comments) != 1:
        return ""
    text = comments[0].lstrip("# \t").rstrip("# \t")
    if not 0 < len(text) <= TITLE_CHARS_MAX or not text.isprintable() or not any(map(str.isalpha, text)):
        return ""
    # A line that was put out of use, a header of columns, or a rule of dashes says nothing of the line below.
    is_text = text[0].isalnum() and not re.match(r"[\d*@/,-]+\s+[\d*/,-]+\s|[A-Za-z_]\w*\s*=|m\s+h\s", text)
    return text if is_text else ""


# --- with a user column, or without ------------------------------------------------------------------------


class _Form(NamedTuple):
    system: bool
    why: str
    unsure: str | None = None


_SYSTEM = "the system's crontab, with a user column"
_OF_A_USER = "a user's crontab"


def _form(texts: Sequence[str], place: str, system: bool | None) -> _Form:
    """Return whether lines have a user column: as was said, else by the path, else by what stands there."""
    if system is not None:
        return _Form(system, _SYSTEM if system else _OF_A_USER)
    path = PurePath(place)
    if path == PurePath("/etc/crontab") or path.parent == PurePath("/etc/cron.d"):
        return _Form(True, f"{_SYSTEM}: it is {place}")
    if path.is_relative_to("/var/spool/cron"):
        return _Form(False, f"{_OF_A_USER}: it is {place}")
    if header := next((text for text in texts if _HEADER.match(text)), None):
        return _Form(True, f"{_SYSTEM}: {shown(header, 60)} says so")
    words = [word for text in texts if (word := _word_after_time(text)) is not None]
    users = sorted({word for word in words if word in _USERS})
    if not users:
        return _Form(False, f"{_OF_A_USER}: no line names a user before its command")
    if all(word in _USERS for word in words):
        return _Form(True, f"{_SYSTEM}: each line names one, {', '.join(users)}")
    other = next(word for word in words if word not in _USERS)
    unsure = (
        f"{', '.join(users)} before a command looks like a user column, and {shown(other, 40)} in the same "
        "place does not; say --system or --user"
    )
    return _Form(False, f"{_OF_A_USER}, it seems", unsure)


def _word_after_time(text: str) -> str | None:
    """Return the word behind the time of an entry, None for any other line."""
    if text.startswith("#") or assignment(text) is not None:
        return None
    try:
        rest = parted(text.removeprefix("-")).rest
    except OnebeatError:
        return None
    return BLANKS.split(rest, maxsplit=1)[0]
