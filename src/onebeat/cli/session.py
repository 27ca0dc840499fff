"""What the commands of one call share: the options that all take, the app, and how instants are read."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onebeat.core.durations import duration
from onebeat.core.errors import InvalidInput, MissingExtra, near_miss, shown

if TYPE_CHECKING:
    from onebeat.app import Onebeat

Command = TypeVar("Command", bound=Callable[..., Any])

PLACES = (
    ("url", "URL", "Where the ledger is (ONEBEAT_URL; else sqlite:///onebeat.db)."),
    ("app", "MODULE:NAME", "The app: an Onebeat, or what returns one (ONEBEAT_APP)."),
    ("zone", "ZONE", "The zone of wall times, an IANA name (ONEBEAT_ZONE; else the app's)."),
    ("lang", "en|zh", "The language in which triggers are said (ONEBEAT_LANG; else en)."),
)
"""What is said before a command or after it."""

RELATIVE = re.compile(r"(now)?\s*([+-].+)?")


class Session:
    """The options that every command takes, and the app that they lead to."""

    def __init__(self, beat: "Onebeat | None" = None) -> None:
        self.as_json = False
        self._options: dict[str, str] = {}
        self._beat = beat

    def set(self, **options: str | None) -> None:
        """Keep what was given; what comes later on the command line is nearer to the command, and wins."""
        self._options |= {name: value for name, value in options.items() if value is not None}

    def option(self, name: str) -> str | None:
        """Return an option: from the command line, else from the environment."""
        return self._options.get(name) or os.environ.get(f"ONEBEAT_{name.upper()}") or None

    @property
    def beat(self) -> "Onebeat":
        """Return the app: the one that --app names, else one of our own that declares nothing."""
        if self._beat is None:
            place, url = self.option("app"), self._options.get("url")
            if place is None:
                from onebeat.app import Onebeat

                owner = self.option("owner") or "app"
                self._beat = Onebeat(url, zone=self.option("zone"), owner=owner, modules=self.modules)
            else:
                self._beat = _loaded(place)
                if url is not None:
                    self._beat.url = url
        return self._beat

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the prefixes of modules whose functions a node may run."""
        return tuple((self.option("modules") or "").replace(",", " ").split())

    @property
    def zone(self) -> str:
        """Return the zone in which wall times are read and instants are shown."""
        return self.option("zone") or (self._beat.zone if self._beat is not None else self.beat.zone)

    @property
    def lang(self) -> str:
        """Return the language in which triggers are said. The machine's own settings have no say in it."""
        from onebeat.core.triggers import checked_language

        return checked_language(self.option("lang") or "en")

    def close(self) -> None:
        """Let go of the store, if it was opened."""
        if self._beat is not None:
            self._beat.close()

    # --- instants ---

    def now(self) -> datetime:
        """Return the present instant, on the clock of the app."""
        return self.beat.clock_now()

    def instant(self, text: str) -> datetime:
        """Return the instant that a person wrote: RFC 3339, wall time in the zone, or now, now-2h, +30m."""
        relative = RELATIVE.fullmatch(text.strip())
        if relative and text.strip():
            sign_and_span = (relative[2] or "+0s").strip()
            span = duration(sign_and_span[1:].strip())
            return self.now() - span if sign_and_span[0] == "-" else self.now() + span
        try:
            read = datetime.fromisoformat(text.strip())
        except ValueError:
            raise InvalidInput(
                f"{shown(text)} is no instant; write 2026-11-21T09:00:00Z, 2026-11-21T09:00 for wall time in "
                f"{self.zone}, or now-2h"
            ) from None
        if read.tzinfo is not None:
            return read
        from onebeat.core.triggers import zone

        # Through UTC: a wall time that does not exist, in a spring gap, becomes one that does.
        return read.replace(tzinfo=zone(self.zone)).astimezone(UTC)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # it is generic in new versions of click alone
    """A duration on the command line."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a duration; ``none`` where there shall be none, and whatever stands for "not given"."""
        if not isinstance(value, str):
            return value
        if value == "none":
            return None
        try:
            return duration(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def _loaded(place: str) -> "Onebeat":
    """Return the app under ``module:name``, with the current folder importable, as for `python -m`."""
    from onebeat.app import Onebeat

    module, _, name = place.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise MissingExtra(f"the app {place} needs {error.name}, which is not installed") from error
        raise InvalidInput(
            f"there is no module {module!r} to import the app {place} from; --app takes module:name, found "
            f"from {here} or what is installed"
        ) from error
    apps = {key: value for key, value in vars(found).items() if isinstance(value, Onebeat)}
    app = vars(found).get(name) if name else (next(iter(apps.values())) if len(apps) == 1 else None)
    if callable(app) and not isinstance(app, Onebeat):
        app = app()
    if not isinstance(app, Onebeat):
        known = f"; it has {', '.join(apps)}" if apps else ""
        raise InvalidInput(f"{place} is no Onebeat{near_miss(name, apps)}{known}; write --app {module}:name")
    return app


def places(command: Command) -> Command:
    """Add the options that stand before a command or after it."""
    for name, metavar, what in reversed(PLACES):
        option = click.option(f"--{name}", metavar=metavar, expose_value=False, callback=_keep, help=what)
        command = option(command)
    return command


def common(command: Command) -> Command:
    """Add the options that every command takes: --json, and where its ledger is."""
    return click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=_keep, help="Print JSON."
    )(places(command))


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    session = context.ensure_object(Session)
    if parameter.name == "json":
        session.as_json = bool(value)
    elif value is not None:
        session.set(**{str(parameter.name): value})
    return value


given = click.pass_obj
"""Hands the session to a command as its first argument."""
