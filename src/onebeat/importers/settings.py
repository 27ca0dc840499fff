"""The variables that a crontab sets: what they mean to cron, and what they become for the lines below.

As crontab(5) on Debian reads them: blanks around the name and the = do not count, one pair of quotes keeps
blanks, and nothing is expanded. Pure.
"""

import re
from datetime import timedelta
from typing import NamedTuple

from onebeat.core.definition import BOUNDS, TAG
from onebeat.core.errors import InvalidInput, OnebeatError, shown
from onebeat.core.triggers.walltime import checked_zone
from onebeat.importers.findings import Notes, Setting
from onebeat.importers.moments import hides_a_schedule

SHELL = "/bin/sh"
PATH = "/usr/bin:/bin"
"""What cron gives its commands where the crontab sets none."""

_ASSIGNMENT = re.compile(
    r"""(?:"(?P<double>[^"=]*)"|'(?P<single>[^'=]*)'|(?P<bare>[^\s='"]+))[ \t]*=[ \t]*(?P<value>.*)""",
    re.DOTALL,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_MAIL = {"MAILTO", "MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"}
_OF_CRON = _OF_MAIL | {"CRON_TZ", "RANDOM_DELAY"}
_SECRET = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|_PWD$|(^|_)PASS$", re.IGNORECASE
)
_EXPANDED = re.compile(r"\$\w|\$\{|\$\(|`|^~/|:~/")
_DECISIVE = ("CRON_TZ", "SHELL", "HOME", "RANDOM_DELAY")
"""Settings without which a line below would come at another time, or do something else."""

NO_EXPANSION = (
    "cron expands nothing in a setting, and neither is it expanded here: the value is the text as it stands"
)
NO_COMMENT = "cron takes all that stands behind the = for the value, what follows # too"
NOT_MOVED = (
    "TZ is the time zone of the commands alone, as on Debian; it does not move the schedules, which CRON_TZ "
    "does"
)
NO_LOGNAME = "cron sets LOGNAME and USER itself, whatever stands here, so it is left out"
NO_MAIL_SETTING = "it is about cron's mail, which onebeat does not send; it is left out"
IN_CLEAR = (
    "it looks like a secret, and would be stored with each schedule; set it on the nodes, and write "
    "{0}=env:{0} here"
)
REFERENCE = "env:NAME is a reference here: the command gets the node's own variable"
NOBODY_TOLD = (
    "MAILTO is empty, so cron tells nobody; here the output stays with each run, and a failure is an event "
    "all the same"
)
TELL = (
    "cron mails what these commands print to {0}; here the output stays with each run, and a failure is an "
    'event: have it told with @beat.on("run.failed", "run.timed_out", "run.expired", tag="{1}")'
)
SPREAD = (
    "RANDOM_DELAY becomes spread={0}: each schedule has its own delay, which does not change from day to day"
)


class Assigned(NamedTuple):
    """A line ``NAME=value``, before anybody knows whether it makes sense."""

    name: str
    value: str


def assignment(text: str) -> Assigned | None:
    """Return what a line sets, None for a line that is no assignment; ``text`` begins with no blank."""
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        return None
    name = next(name for name in (found["double"], found["single"], found["bare"]) if name is not None)
    return Assigned(name, found["value"])


class Settings:
    """The variables in force, line by line."""

    def __init__(self, zone: str, notes: Notes) -> None:
        self.lines: list[Setting] = []
        self.zone = zone
        self.spread = timedelta(0)
        self.tags: tuple[str, ...] = ()
        self._env: dict[str, str] = {}
        self._broken: dict[str, int] = {}
        self._notes = notes

    def take(self, line: int, assigned: Assigned) -> None:
        """Let a line's variable be in force from here on. Raises InvalidInput where it cannot be meant."""
        name = assigned.name
        try:
            value = self._value(line, assigned)
            self._keep(line, name, value)
        except OnebeatError:
            self._broken[name] = line
            raise
        self._broken.pop(name, None)
        self.lines.append(Setting(line=line, name=name, value=value))

    def whole(self) -> None:
        """Raise InvalidInput where a line below would not be what it was meant to be."""
        for name in _DECISIVE:
            if name in self._broken:
                raise InvalidInput(
                    f"stands below line {self._broken[name]}, which sets {name} and cannot be understood; "
                    "mend that one"
                )

    @property
    def shell(self) -> str:
        """Return the shell that reads the commands."""
        return self._env.get("SHELL", SHELL)

    @property
    def home(self) -> str | None:
        """Return the folder where commands begin, None where none is set."""
        return self._env.get("HOME")

    @property
    def env(self) -> dict[str, str]:
        """Return the variables that commands get."""
        return {"PATH": PATH} | self._env

    # --- one line ---

    def _value(self, line: int, assigned: Assigned) -> str:
        name, text = assigned
        if not _VARIABLE.fullmatch(name):
            raise InvalidInput(
                f"sets {shown(name, 40)}, which is no name of a variable: letters, digits and '_', no digit "
                "first"
            )
        if name.startswith("ONEBEAT_"):
            raise InvalidInput(
                f"sets {name}, and onebeat gives runs variables of such names itself; rename it"
            )
        quote = text[:1]
        if hides_a_schedule(text):
            raise InvalidInput(
                f"sets {name} and has a schedule behind it, all of which cron takes for the value; write two "
                "lines"
            )
        if quote not in ("'", '"'):
            if " #" in text:
                self._notes.add(NO_COMMENT, line)
            return text.rstrip(" \t")
        inner, closing, rest = text[1:].partition(quote)
        if not closing:
            raise InvalidInput(
                f"opens {quote} for the value of {name}, and does not close it; add it at the end"
            )
        if rest.strip(" \t"):
            raise InvalidInput(
                f"has {shown(rest.strip(), 40)} behind the quotes of {name}; put all of it between them"
            )
        return inner

    def _keep(self, line: int, name: str, value: str) -> None:
        match name:
            case "CRON_TZ":
                self.zone = checked_zone(value)
            case "RANDOM_DELAY":
                self._delay(line, value)
            case "MAILTO":
                self._mail(line, value)
            case "LOGNAME" | "USER":
                self._notes.add(NO_LOGNAME, line)
            case _ if name in _OF_CRON:
                self._notes.add(NO_MAIL_SETTING, line)
            case _:
                self._variable(line, name, value)

    def _variable(self, line: int, name: str, value: str) -> None:
        if name in ("SHELL", "HOME") and not value.startswith("/"):
            near = "/bin/bash" if name == "SHELL" else "/srv/shop"
            raise InvalidInput(f"sets {name} to {shown(value)}, which is no absolute path; write e.g. {near}")
        if name == "TZ":
            self._notes.add(NOT_MOVED, line)
        if value.startswith("env:"):
            self._notes.add(REFERENCE, line)
        elif _SECRET.search(name) and value:
            self._notes.add(IN_CLEAR.format(name), line)
        elif _EXPANDED.search(value):
            self._notes.add(NO_EXPANSION, line)
        self._env[name] = value

    def _delay(self, line: int, value: str) -> None:
        most = BOUNDS["spread"].most
        if not re.fullmatch(r"\d{1,6}", value) or timedelta(minutes=int(value)) > most:
            raise InvalidInput(
                f"sets RANDOM_DELAY to {shown(value)}; it is a whole number of minutes, at most {most.days} "
                "days"
            )
        self.spread = timedelta(minutes=int(value))
        if self.spread:
            self._notes.add(SPREAD.format(f"{value}m"), line)

    def _mail(self, line: int, value: str) -> None:
        people = [person for person in re.split(r"[\s,]+", value) if person]
        tags = [f"mailto:{person}" for person in people]
        self.tags = tuple(tag for tag in dict.fromkeys(tags) if TAG.fullmatch(tag))[:10]
        if not people:
            self._notes.add(NOBODY_TOLD, line)
            return
        self._notes.add(TELL.format(", ".join(people), self.tags[0] if self.tags else "crontab"), line)
