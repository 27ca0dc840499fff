"""Definitions as a manifest in TOML, in the words that people would have written: what manifest.py reads.

A short form is written only if reading it gives the very same definition; else trigger or target stand whole.
So reading what was written changes nothing, for kinds that nobody has thought of yet too.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from onebeat.core.codec import FORMAT, to_data
from onebeat.core.durations import span
from onebeat.core.errors import OnebeatError
from onebeat.core.manifest import KEYS, NO_ZONE, POLICY, read_schedule
from onebeat.core.model import Definition, Json, Target, TriggerSpec, as_json
from onebeat.core.targets import url_of
from onebeat.core.tomltext import table
from onebeat.core.triggers import named
from onebeat.core.triggers.walltime import checked_zone

HEAD = "# Schedules, as `onebeat apply` reads them: docs/reference/manifest.md\n"


def written(
    definitions: Mapping[str, Definition], *, owner: str | None = None, revision: int | None = None
) -> str:
    """Return the manifest of these definitions, in TOML, by name."""
    zone = _commonest(definitions)
    top: dict[str, Json] = {"format": FORMAT, "owner": owner, "revision": revision, "zone": zone}
    parts = [HEAD + table((), {key: value for key, value in top.items() if value is not None})]
    for name, definition in sorted(definitions.items()):
        parts.append(_entry(name, definition, zone))
    return "\n".join(parts)


def _commonest(definitions: Mapping[str, Definition]) -> str | None:
    """Return the zone that most triggers name: it stands once, at the top."""
    zones = Counter(
        zone
        for definition in definitions.values()
        if isinstance(zone := definition.trigger.fields.get("zone"), str)
    )
    for zone in sorted(zones, key=lambda each: (-zones[each], each)):
        try:
            return checked_zone(zone)
        except OnebeatError:
            continue
    return None


def _entry(name: str, definition: Definition, zone: str | None) -> str:
    """Return a schedule's table, in the shortest words that mean the same."""
    about, text = _about(definition), ""
    for when in _whens(definition.trigger):
        for what in _whats(definition.target):
            said = {key: each for key, each in (about | when | what).items() if (key, each) != ("zone", zone)}
            try:
                text = table(("schedules", name), {key: said[key] for key in KEYS if key in said})
                read = read_schedule(name, tomllib.loads(text)["schedules"][name], zone)
                # What hangs on the name of a schedule need not be written beside it.
                if definition in (read, replace(read, trigger=named(read.trigger, name))):
                    return text
            except (ValueError, OnebeatError):  # it cannot be said so
                continue
    return text  # a definition that nobody here understands: as it is, for somebody who does


def _about(definition: Definition) -> dict[str, Json]:
    found: dict[str, Json] = {"title": definition.title, "tags": list(definition.tags)}
    found["queue"] = "" if definition.target.queue == "default" else definition.target.queue
    found = {key: value for key, value in found.items() if value}
    for name, field in POLICY.items():
        value = getattr(definition.policy, name)
        if value != field.default:
            found[name] = _said(value)
    return found


def _said(value: object) -> Json:
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        return _length(value)
    return to_data(value)


def _length(value: timedelta) -> str | float:
    return value.total_seconds() if value.microseconds else span(value)


def _whens(spec: TriggerSpec) -> Iterator[dict[str, Json]]:
    """Yield ways to say when, the shortest first."""
    given = spec.fields
    match spec.kind:
        case "cron":
            rest = {key: value for key, value in given.items() if key != "expression"}
            yield {"cron": given.get("expression"), "zone": NO_ZONE} | rest
        case "interval" if isinstance(period := given.get("period_s"), (int, float)):
            anchor = {"anchor": _moment(given["anchor_at"])} if "anchor_at" in given else {}
            yield {"every": _length(timedelta(seconds=period))} | anchor
        case "once":
            yield {"once": _moment(given.get("at"))}
        case "rrule" if not {"rdates", "exdates"} & given.keys():
            rest = {key: value for key, value in given.items() if key != "rule"}
            yield {"rrule": given.get("rule"), "zone": NO_ZONE} | rest
        case "on_request":
            yield {"on_request": True}
        case _:
            pass
    yield {"trigger": as_json(spec)}
    yield {"trigger": as_json(spec), "zone": NO_ZONE}
    yield {"trigger": json.dumps(as_json(spec)), "zone": NO_ZONE}


def _moment(text: Json) -> Json:
    try:
        read = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text
    return read if read.tzinfo is not None else text


def _whats(target: Target) -> Iterator[dict[str, Json]]:
    """Yield ways to say what runs, the shortest first."""
    match target.kind:
        case "python" | "process":
            given: dict[str, Json] = {"args": list(target.args), "kwargs": target.kwargs}
            way = "call" if target.kind == "python" else "process"
            yield {way: target.address} | {key: value for key, value in given.items() if value}
        case "shell":
            yield {"shell": [target.address, *target.args], **target.kwargs}
        case "http":
            yield {"http": url_of(target), **target.kwargs}
        case "celery":
            args = {"args": list(target.args)} if target.args else {}
            yield {"celery": target.address, **args, **target.kwargs}
        case _:
            pass
    data: dict[str, Json] = to_data(target)
    whole = {key: data[key] for key in ("kind", "address", "args", "kwargs") if data[key]}
    yield {"target": whole}
    yield {"target": json.dumps(whole)}
