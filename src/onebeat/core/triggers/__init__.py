"""When: triggers, the open set of pure rules that produce occurrences. One file for each kind.

``build`` turns a spec into an evaluator; the constructors make specs. Importing this package registers the
kinds of the house. May import messages, model and errors, and nothing above them.
"""

from onebeat.core.triggers import combine as combine  # registers union, intersection, except and between
from onebeat.core.triggers.calendar_interval import calendar_interval
from onebeat.core.triggers.calendars import dates, holidays, workdays
from onebeat.core.triggers.cron import cron
from onebeat.core.triggers.interval import interval, once
from onebeat.core.triggers.on_request import on_request
from onebeat.core.triggers.protocol import Trigger
from onebeat.core.triggers.registry import Kind, anchored, build, calendar_ends, kind, named, with_zone
from onebeat.core.triggers.rrule import rrule
from onebeat.core.triggers.rruleexport import to_rrule
from onebeat.core.triggers.solar import solar
from onebeat.core.triggers.walltime import tz_version, zone, zone_names
from onebeat.core.triggers.window import window
from onebeat.core.triggers.words import LANGUAGES, checked_language, words

__all__ = [
    "LANGUAGES",
    "Kind",
    "Trigger",
    "anchored",
    "build",
    "calendar_ends",
    "calendar_interval",
    "checked_language",
    "cron",
    "dates",
    "holidays",
    "interval",
    "kind",
    "named",
    "on_request",
    "once",
    "rrule",
    "solar",
    "to_rrule",
    "tz_version",
    "window",
    "with_zone",
    "words",
    "workdays",
    "zone",
    "zone_names",
]
