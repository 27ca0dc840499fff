"""The JSON Schema of a manifest, made from the tables by which the command line and the reader go.

docs/reference/manifest.schema.json is its text, for editors; a test holds the two together.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Any

from onebeat.cli.wanted import WORDS
from onebeat.core.codec import FORMAT
from onebeat.core.definition import BOUNDS, GROUP, TAGS_MAX, TITLE_CHARS_MAX
from onebeat.core.foreign import FOREIGN, told
from onebeat.core.manifest import DEFAULTS, DURATIONS, KEYS, MAY_BE_NONE, POLICY, WHAT, WHEN
from onebeat.core.model import NAME

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {"type": "array", "items": TEXT}
TABLE: Schema = {"type": "object"}
INSTANT: Schema = {"type": "string", "description": "An instant, or wall time in the zone."}
SPAN = r"^\s*\d+(\.\d+)?(ms|s|m|h|d|w)?(\s*\d+(\.\d+)?(ms|s|m|h|d|w))*\s*$"
STATUSES: Schema = {"type": ["array", "integer", "string"], "items": {"type": ["integer", "string"]}}

SAID: dict[str, Schema] = {
    "title": TEXT | {"maxLength": TITLE_CHARS_MAX, "description": "What it is called where people read."},
    "cron": TEXT | {"description": "A cron expression, e.g. 0 9 * * MON-FRI."},
    "days": {"enum": ["any", "all"], "description": "With cron: of the day fields."},
    "gap": {"enum": ["shift", "skip"], "description": "With cron or rrule: in a spring gap."},
    "fold": {"enum": ["first", "second", "both"], "description": "With cron or rrule: in an autumn fold."},
    "every": {"$ref": "#/$defs/duration", "description": "A fixed period, e.g. 15m."},
    "anchor": INSTANT | {"description": "With every: an instant that it goes through."},
    "rrule": TEXT | {"description": "A recurrence rule of RFC 5545."},
    "start": INSTANT | {"description": "With rrule: its DTSTART."},
    "once": INSTANT | {"description": "Once, at an instant."},
    "on_request": {"const": True, "description": "Only when a run is asked for."},
    "trigger": {"$ref": "#/$defs/trigger"},
    "zone": TEXT | {"description": "The zone of its wall times, an IANA name; none leaves them in UTC."},
    "call": TEXT | {"description": "The Python function to call, module:name."},
    "process": TEXT | {"description": "The Python function to call in another process, module:name."},
    "args": {"type": "array", "description": "With call, process or celery: its arguments."},
    "kwargs": TABLE | {"description": "With call, process or celery: its keyword arguments."},
    "shell": TEXTS | {"minItems": 1, "description": "The words of a command; no shell reads them."},
    "env": TABLE | {"additionalProperties": TEXT, "description": "With shell: variables."},
    "cwd": TEXT | {"description": "With shell: the folder to run it in."},
    "input": TEXT | {"description": "With shell: what it reads."},
    "http": TEXT | {"description": "The URL to send a request to."},
    "method": TEXT | {"description": "With http: POST, or another one."},
    "json": {"description": "With http: what to send, as JSON."},
    "body": TEXT | {"description": "With http: what to send."},
    "headers": TABLE | {"additionalProperties": TEXT, "description": "With http: headers."},
    "ok": STATUSES | {"description": "With http: the statuses of success."},
    "retry_statuses": STATUSES | {"description": "With http: the statuses to try again after."},
    "redirects": {"type": "integer", "minimum": 0, "description": "With http: how many to follow."},
    "celery": TEXT | {"description": "The Celery task to send, by its name."},
    "options": TABLE | {"description": "With celery: options of apply_async."},
    "guarded": {"type": "boolean", "description": "With celery: whether its workers have the guard."},
    "target": {"$ref": "#/$defs/target"},
    "queue": TEXT | {"pattern": f"^{NAME.pattern}$", "description": "The queue that its runs wait in."},
    "tags": {
        "type": ["array", "string"],
        "items": TEXT,
        "maxItems": TAGS_MAX,
        "description": "Found by these.",
    },
}
"""What each key that is no policy takes."""


def schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a manifest."""
    keys = {key: SAID[key] if key in SAID else _policy(key) for key in KEYS}
    foreign = {word: _foreign(word) for word in FOREIGN}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A manifest of onebeat",
        "description": "Schedules for `onebeat apply`; in TOML, or in any form that has the same tables.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "format": {"const": FORMAT, "description": "The version of this form."},
            "owner": TEXT | {"pattern": f"^{NAME.pattern}$", "description": "Whose declarations these are."},
            "revision": {"type": "integer", "minimum": 0, "description": "Grows with each release."},
            "zone": TEXT | {"description": "The zone of wall times that name none, an IANA name."},
            "defaults": {
                "type": "object",
                "description": "What holds for each schedule that does not say it.",
                "additionalProperties": False,
                "properties": {key: keys[key] for key in DEFAULTS} | foreign,
            },
            "schedules": {
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                "additionalProperties": {"$ref": "#/$defs/schedule"},
            },
        },
        "$defs": {
            "schedule": {
                "type": "object",
                "additionalProperties": False,
                "properties": keys | foreign,
                "allOf": [
                    {"oneOf": [{"required": [way]} for way in WHEN]},
                    {"oneOf": [{"required": [way]} for way in WHAT]},
                ],
                "dependentSchemas": {key: _goes_with(key) for key in KEYS if _ways(key)},
            },
            "duration": {
                "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": SPAN}],
                "description": "90s, 10m, 1h30m, 250ms, 2d; a bare number is seconds.",
            },
            "trigger": _whole("Any trigger, in its JSON form.", {"kind": TEXT, "fields": TABLE}, ["kind"]),
            "target": _whole(
                "Any target, in its JSON form.",
                {"kind": TEXT, "address": TEXT, "args": {"type": "array"}, "kwargs": TABLE, "queue": TEXT},
                ["kind", "address"],
            ),
        },
    }


def _ways(key: str) -> list[str]:
    return [way for ways in (WHEN, WHAT) for way, more in ways.items() if key in more]


def _goes_with(key: str) -> Schema:
    return {"anyOf": [{"required": [way]} for way in _ways(key)]}


def _whole(description: str, properties: Schema, required: list[str]) -> Schema:
    table = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": required,
    }
    return {"description": f"{description} A text holds JSON, for null.", "anyOf": [table, TEXT]}


def _policy(name: str) -> Schema:
    """Return the schema of one field of a policy."""
    default = POLICY[name].default
    said: Schema = {"description": WORDS[name]}
    if name == "retry_on":
        return {"type": ["array", "string"], "items": TEXT} | said
    if name == "exclusive":
        return {"type": "string", "pattern": f"^{GROUP.pattern}$"} | said
    if isinstance(default, StrEnum):
        return {"enum": [member.value for member in type(default)], "default": default.value} | said
    if isinstance(default, bool):
        return {"type": "boolean", "default": default} | said
    if name in DURATIONS:
        seconds = default.total_seconds() if isinstance(default, timedelta) else None
        lasts: Schema = {"$ref": "#/$defs/duration"} | ({} if seconds is None else {"default": seconds})
        return ({"anyOf": [lasts, {"const": "none"}]} if name in MAY_BE_NONE else lasts) | said
    bounds = BOUNDS[name]
    return {"type": "integer", "minimum": bounds.least, "maximum": bounds.most, "default": default} | said


def _foreign(word: str) -> Schema:
    return {"deprecated": True, "description": told(word)}
