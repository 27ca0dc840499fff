"""Onebeat: a distributed scheduler for Python. Every occurrence of every schedule is settled exactly once."""

from onebeat._version import __version__
from onebeat.app import Onebeat
from onebeat.core.definition import days, hours, minutes, seconds
from onebeat.core.errors import (
    Conflict,
    InvalidInput,
    InvalidTrigger,
    LimitExceeded,
    NotFound,
    OnebeatError,
    Refused,
    StoreError,
    StoreUnavailable,
    TargetNotFound,
)
from onebeat.core.model import Definition, Event, Policy, Run, RunState, Schedule, Target, TriggerSpec
from onebeat.core.targets import call, http, process, shell
from onebeat.core.triggers import (
    calendar_interval,
    cron,
    dates,
    holidays,
    interval,
    on_request,
    once,
    rrule,
    solar,
    to_rrule,
    window,
    workdays,
)
from onebeat.engine.current import CurrentRun, current

__all__ = [
    "Conflict",
    "CurrentRun",
    "Definition",
    "Event",
    "InvalidInput",
    "InvalidTrigger",
    "LimitExceeded",
    "NotFound",
    "Onebeat",
    "OnebeatError",
    "Policy",
    "Refused",
    "Run",
    "RunState",
    "Schedule",
    "StoreError",
    "StoreUnavailable",
    "Target",
    "TargetNotFound",
    "TriggerSpec",
    "__version__",
    "calendar_interval",
    "call",
    "cron",
    "current",
    "dates",
    "days",
    "holidays",
    "hours",
    "http",
    "interval",
    "minutes",
    "on_request",
    "once",
    "process",
    "rrule",
    "seconds",
    "shell",
    "solar",
    "to_rrule",
    "window",
    "workdays",
]
