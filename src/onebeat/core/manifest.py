"""Manifests: the schedules of an app or a team in one file, in TOML for people or as the JSON of an export.

    text ─► tables ─► defaults, zones, foreign words ─► {name: Definition}, or every mistake with its line

Pure: nothing is opened, and nothing applied; exporting.py writes what this reads. docs/reference/manifest.md
is the form, docs/design/015 the why.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from types import TracebackType
from typing import Any, TypeVar

from msgspec.structs import fields

from onebeat.core import foreign
from onebeat.core.codec import FORMAT, from_data
from onebeat.core.definition import define, policy_of
from onebeat.core.durations import duration
from onebeat.core.errors import InvalidInput, OnebeatError, near_miss, shown
from onebeat.core.model import (
    Definition,
    Json,
    Noun,
    Policy,
    Target,
    TriggerSpec,
    checked_name,
    instant_text,
)
from onebeat.core.targets import call, http, process, shell, task_of
from onebeat.core.tomltext import line_of
from onebeat.core.triggers import cron, interval, on_request, once, rrule, with_zone
from onebeat.core.triggers import zone as zone_info
from onebeat.core.triggers.walltime import checked_zone

T = TypeVar("T")

TOP = ("format", "owner", "revision", "zone", "defaults", "schedules")
WHEN: dict[str, tuple[str, ...]] = {
    "cron": ("days", "gap", "fold"),
    "every": ("anchor",),
    "rrule": ("start", "gap", "fold"),
    "once": (),
    "on_request": (),
    "trigger": (),
}
"""The keys that say when, each with those that go with it. docs/reference/manifest.md explains them."""

WHAT: dict[str, tuple[str, ...]] = {
    "call": ("args", "kwargs"),
    "process": ("args", "kwargs"),
    "shell": ("env", "cwd", "input"),
    "http": ("method", "json", "body", "headers", "ok", "retry_statuses", "redirects"),
    "celery": ("args", "kwargs", "options", "guarded"),
    "target": (),
}
"""The keys that say what runs, each with those that go with it."""

POLICY = {field.name: field for field in fields(Policy)}
DURATIONS = frozenset(name for name, field in POLICY.items() if field.type in (timedelta, timedelta | None))
MAY_BE_NONE = frozenset(name for name, field in POLICY.items() if field.default is None)
DEFAULTS = ("queue", "tags", *POLICY)
KEYS = (
    "title",
    *dict.fromkeys(key for way, more in WHEN.items() for key in (way, *more)),
    "zone",
    "call",
    *dict.fromkeys(key for way, more in WHAT.items() if way != "call" for key in (way, *more)),
    *DEFAULTS,
)
NO_ZONE = "none"
MISTAKES_SHOWN = 10

Path = tuple[str | int, ...]


class Manifest(Noun, frozen=True, kw_only=True):
    """What a file declares. ``owner`` and ``revision`` are None where it says nothing of them.

    ``notes`` are for people: foreign words that were read, a zone that nobody named.
    """

    definitions: dict[str, Definition]
    owner: str | None = None
    revision: int | None = None
    notes: tuple[str, ...] = ()


def read_manifest(text: str, place: str, *, zone: str | None = None) -> Manifest:
    """Return what a manifest declares: TOML, or where it begins with ``{`` the JSON of an export.

    ``place`` is the file, for messages; ``zone`` is for wall times of a file that names none.

    Raises InvalidInput with every mistake: where it is, what is wrong, what to write.
    """
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith(("{", "[]")):
        return _read_json(text, place)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{place} is no manifest: it is no TOML: {error}") from None
    reader = _Reader(zone)
    read = reader.manifest(data)
    if reader.mistakes:
        found = [(line_of(text, path), path, said) for path, said in reader.mistakes[:MISTAKES_SHOWN]]
        found.sort(key=lambda each: each[0] or 0)
        told = "\n".join(_placed(place, *mistake) for mistake in found)
        more = len(reader.mistakes) - len(found)
        raise InvalidInput(told + (f"\n… and {more} more mistakes" if more else ""))
    return read


def read_schedule(name: str, said: Json, zone: str | None) -> Definition:
    """Return what one table says, in a manifest of this zone. Raises InvalidInput with the first mistake."""
    reader = _Reader(zone)
    read = reader.manifest({"schedules": {name: said}})
    if reader.mistakes:
        raise InvalidInput(reader.mistakes[0][1])
    return read.definitions[name]


def _placed(place: str, line: int | None, path: Path, message: str) -> str:
    where = ".".join(map(str, path)) or "the file"
    return f"{place}:{line}: {where}: {message}" if line else f"{place}: {where}: {message}"


def _read_json(text: str, place: str) -> Manifest:
    try:
        read = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{place} is no JSON: {error}") from None
    if not isinstance(read, dict) or not isinstance(read.get("schedules"), dict):
        raise InvalidInput(f"{place} is no export: it has no object 'schedules'")
    _check_format(read.get("format"), place)
    return Manifest(
        definitions={
            checked_name(name): from_data(data, Definition) for name, data in read["schedules"].items()
        }
    )


def _check_format(format: Json, place: str) -> None:
    if format != FORMAT or isinstance(format, bool):
        raise InvalidInput(
            f"{place} has format {shown(format)}, and this onebeat reads {FORMAT}; "
            "upgrade the older of the two"
        )


class _At:
    """Keeps what is raised as a mistake: below a path at the key that it begins with, else at ``way``."""

    def __init__(
        self, mistakes: list[tuple[Path, str]], path: Path, keys: Sequence[str], way: str | None
    ) -> None:
        self._mistakes = mistakes
        self._path = path
        self._keys = keys
        self._else: Path = () if way is None else (way,)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, OnebeatError):
            return False
        begins = re.match(r"'?(\w+)'?[=: ]", str(error))
        near = (begins[1],) if begins and begins[1] in self._keys else self._else
        self._mistakes.append(((*self._path, *near), str(error)))
        return True


class _Reader:
    """Reads the tables of one file, and goes on after a mistake."""

    def __init__(self, zone: str | None) -> None:
        self.mistakes: list[tuple[Path, str]] = []
        self._notes: list[str] = []
        self._zone = zone
        self._unzoned: list[str] = []

    def _at(self, *path: str | int, keys: Sequence[str] = (), way: str | None = None) -> "_At":
        return _At(self.mistakes, path, keys, way)

    def manifest(self, data: Mapping[str, Json]) -> Manifest:
        """Read a whole file."""
        self._refuse_unknown(data, TOP, ())
        owner = revision = None
        defaults: dict[str, Json] = {}
        if "format" in data:
            with self._at("format"):
                _check_format(data["format"], "it")
        if "owner" in data:
            with self._at("owner"):
                owner = checked_name(_of(str, data["owner"]))
        if "revision" in data:
            with self._at("revision"):
                revision = _whole(data["revision"])
        if "zone" in data:
            with self._at("zone"):
                self._zone = checked_zone(_of(str, data["zone"]))
        with self._at("defaults"):
            given = _of(dict, data.get("defaults", {}))
            self._refuse_unknown(given, DEFAULTS, ("defaults",))
            defaults = self._options(given, ("defaults",))
        found: dict[str, Definition] = {}
        with self._at("schedules"):
            for name, entry in _of(dict, data.get("schedules", {})).items():
                definition = self._schedule(name, entry, defaults)
                if definition is not None:
                    found[name] = definition
        if self._unzoned and self._zone is None:
            names = ", ".join(self._unzoned[:5]) + ("…" if len(self._unzoned) > 5 else "")
            self._notes.append(
                f'wall times of {names} are read in UTC, for no zone was named; zone = "…" at the top does'
            )
        return Manifest(definitions=found, owner=owner, revision=revision, notes=tuple(self._notes))

    def _schedule(self, name: str, entry: Json, defaults: Mapping[str, Json]) -> Definition | None:
        path, before = ("schedules", name), len(self.mistakes)
        with self._at(*path):
            checked_name(name)
            said = _of(dict, entry)
            if said and not any(key in KEYS for key in said) and all(map(_is_table, said.values())):
                dotted = f"{name}.{next(iter(said))}"
                raise InvalidInput(
                    "it holds tables and says nothing itself; a name with a dot is quoted: "
                    f'[schedules."{dotted}"]'
                )
            self._refuse_unknown(said, KEYS, path)
            options = self._options(said, path)
            zone = self._zone_of(said, path)
            sound = len(self.mistakes) == before
            trigger = self._when(name, said, path, zone, sound)
            target = self._what(said, path, sound)
            if len(self.mistakes) > before or trigger is None or target is None:
                return None
            with self._at(*path, keys=tuple(said)):
                given = {key: value for key, value in defaults.items() if key not in options} | options
                if zone is not None:
                    trigger = with_zone(trigger, zone)
                if "queue" not in given:
                    given["queue"] = target.queue
                return define(trigger, target, given)
        return None

    # --- about a schedule ---

    def _options(self, said: Mapping[str, Json], path: Path) -> dict[str, Json]:
        """Return title, tags, queue and policies that are said here, foreign words as ours."""
        found: dict[str, Json] = {}
        if "title" in said:
            with self._at(*path, "title"):
                found["title"] = _of(str, said["title"])
        if "queue" in said:
            with self._at(*path, "queue"):
                found["queue"] = _of(str, said["queue"])
        if "tags" in said:
            with self._at(*path, "tags"):
                found["tags"] = _texts(said["tags"])
        for key, given in said.items():
            with self._at(*path, key):
                word, value = key, given
                if key in foreign.FOREIGN:
                    word, value = foreign.FOREIGN[key].ours, foreign.FOREIGN[key].read(given)
                    if word in said or word in found:
                        raise InvalidInput(f"it says {word} in another word, and that was said; keep {word}")
                    self._notes.append(f"{'.'.join(map(str, path))}: {foreign.told(key)}")
                if word in POLICY:
                    found[word] = getattr(policy_of({word: _policy(word, value)}), word)
        return found

    def _zone_of(self, said: Mapping[str, Json], path: Path) -> str | None:
        """Return the zone for what names none; None where that shall stay so."""
        if said.get("zone") == NO_ZONE:
            return None
        if "zone" in said:
            with self._at(*path, "zone"):
                return checked_zone(_of(str, said["zone"]))
        return self._zone or "UTC"

    # --- when, and what ---

    def _when(
        self, name: str, said: Mapping[str, Json], path: Path, zone: str | None, sound: bool
    ) -> TriggerSpec | None:
        way = self._chosen(said, WHEN, path, sound, "when", 'cron = "0 9 * * MON-FRI" or every = "15m"')
        if way is None:
            return None
        with self._at(*path, keys=WHEN[way], way=way):
            value = said[way]
            match way:
                case "cron":
                    shape = {key: _of(str, said[key]) for key in WHEN["cron"] if key in said}
                    spec = cron(_of(str, value), **_any(shape))
                case "every":
                    anchor = _instant(said["anchor"], zone) if "anchor" in said else None
                    spec = interval(_duration(value), anchor=anchor)
                case "rrule":
                    shape = {key: _of(str, said[key]) for key in ("gap", "fold") if key in said}
                    start = _instants(said["start"]) if "start" in said else None
                    spec = rrule(_of(str, value), start=start, **_any(shape))
                case "once":
                    spec = once(_instant(value, zone))
                case "on_request":
                    if value is not True:
                        raise InvalidInput("write on_request = true, or say when")
                    spec = on_request()
                case _:
                    spec = from_data(_instants(_json_of(value)), TriggerSpec)
            if "zone" not in said and with_zone(spec, "UTC") != spec:
                self._unzoned.append(name)
            return spec
        return None

    def _what(self, said: Mapping[str, Json], path: Path, sound: bool) -> Target | None:
        way = self._chosen(said, WHAT, path, sound, "what runs", 'call = "shop.reports:send"')
        if way is None:
            return None
        given: dict[str, Any] = {}
        before = len(self.mistakes)
        for key in WHAT[way]:
            if key in said:
                with self._at(*path, key):
                    given[key] = _plain(said[key])
        if len(self.mistakes) > before:
            return None
        with self._at(*path, keys=WHAT[way], way=way):
            match way:
                case "call" | "process":
                    args = _of(list, given.get("args", []), "args")
                    kwargs = _of(dict, given.get("kwargs", {}), "kwargs")
                    return (call if way == "call" else process)(_of(str, said[way]), *args, **kwargs)
                case "shell":
                    return shell(_of(list, said[way]), **given)
                case "http":
                    return http(_of(str, said[way]), **given)
                case "celery":
                    args = _of(list, given.get("args", []), "args")
                    kwargs = _of(dict, given.get("kwargs", {}), "kwargs")
                    options = _of(dict, given.get("options", {}), "options")
                    guarded = given.get("guarded", True)
                    return task_of(_of(str, said[way]), args, kwargs, options, guarded=guarded)
                case _:
                    return from_data(_plain(_json_of(said[way])), Target)
        return None

    def _chosen(
        self,
        said: Mapping[str, Json],
        ways: Mapping[str, tuple[str, ...]],
        path: Path,
        sound: bool,
        what: str,
        example: str,
    ) -> str | None:
        """Return the one key that says it. Without one, a mistyped key was most likely complained of."""
        chosen = [way for way in ways if way in said]
        if len(chosen) > 1 or (not chosen and sound):
            with self._at(*path, *chosen[1:2]):
                found = f"{' and '.join(chosen)} both say" if chosen else "nothing says"
                raise InvalidInput(f"{found} {what}; write one of {', '.join(ways)}, e.g. {example}")
        for key in dict.fromkeys(key for more in ways.values() for key in more):
            with_ = [way for way, more in ways.items() if key in more]
            if key in said and chosen and not set(with_) & set(chosen):
                with self._at(*path, key):
                    raise InvalidInput(f"it goes with {' or '.join(with_)}, which is not there")
        return chosen[0] if len(chosen) == 1 else None

    def _refuse_unknown(self, said: Mapping[str, Json], known: Sequence[str], path: Path) -> None:
        words = foreign.FOREIGN if "queue" in known else {}
        for key in said:
            if key not in known and key not in words:
                with self._at(*path, key):
                    near = near_miss(key[:100], known) or f"; there are {', '.join(known)}"
                    raise InvalidInput(f"there is no such key{near}")


# --- values ---------------------------------------------------------------------------------------------

_CALLED = {str: "a text", dict: "a table", list: "a list", int: "a whole number", bool: "true or false"}


def _of(kind: type[T], value: Json, name: str = "") -> T:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise InvalidInput(f"{name}{'=' if name else ''}{shown(value)} is not {_CALLED[kind]}")


def _any(value: dict[str, Any]) -> Any:
    return value


def _is_table(value: Json) -> bool:
    return isinstance(value, dict)


def _whole(value: Json) -> int:
    number = _of(int, value)
    if number < 0:
        raise InvalidInput(f"{number} is less than 0; use a number that grows with each release")
    return number


def _texts(value: Json) -> list[str]:
    return [_of(str, each) for each in ([value] if isinstance(value, str) else _of(list, value))]


def _duration(value: Json) -> timedelta:
    if isinstance(value, str):
        return duration(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise InvalidInput(f"{value} seconds is longer than anything lasts") from None
    raise InvalidInput(f'{shown(value)} is no duration; write "90s", "10m", "1h30m", or a number of seconds')


def _policy(name: str, value: Json) -> Json:
    if value == "none" and name in MAY_BE_NONE:
        return None
    if name in DURATIONS:
        return _duration(value)
    return _texts(value) if name == "retry_on" else value


def _instant(value: Json, zone: str | None) -> datetime:
    """Return an instant: one with an offset, or wall time in the zone."""
    read = value
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value.strip())
        except ValueError:
            read = None
    if not isinstance(read, datetime):
        raise InvalidInput(
            f"{shown(value)} is no instant; write 2026-11-21T09:00:00Z, or 2026-11-21T09:00:00 for wall time"
        )
    if read.tzinfo is None:
        read = read.replace(tzinfo=zone_info(zone or "UTC"))
    return read.astimezone(UTC)


def _instants(value: Json) -> Json:
    """Return the fields of a trigger with dates and times as their texts, which is how JSON has them."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return instant_text(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _instants(each) for key, each in value.items()}
    return [_instants(each) for each in value] if isinstance(value, list) else value


def _plain(value: Json) -> Json:
    """Return a value unchanged, if JSON has it: TOML's dates are nothing that a body could be called with."""
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, (datetime, date, time)):
            raise InvalidInput(
                f"{each.isoformat()} is a date of TOML, and arguments are JSON; write it as a text, in quotes"
            )
        pending += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return value


def _json_of(value: Json) -> Json:
    """Return a table, or what a text holds as JSON: for what TOML cannot say."""
    if not isinstance(value, str):
        return _of(dict, value)
    try:
        return _of(dict, json.loads(value))
    except ValueError as error:
        raise InvalidInput(f"{shown(value)} is neither a table nor the JSON of one: {error}") from None
