"""What there is: every kind of event that onebeat writes, every setting that it reads. Pure data."""

from types import MappingProxyType

EVENTS = MappingProxyType(
    {
        "schedule.created": "a schedule came into being",
        "schedule.edited": "a schedule got another definition",
        "schedule.paused": "a schedule was paused",
        "schedule.resumed": "a schedule was resumed",
        "schedule.deleted": "a schedule was deleted",
        "schedule.skip_next": "the next occurrence of a schedule was listed to be skipped",
        "schedule.skip_undone": "the latest of the occurrences to be skipped was taken off that list",
        "schedule.quarantined": "a schedule could not be understood or decided, and was set aside",
        "occurrence.skipped": "occurrences were settled without a run",
        "occurrence.folded": "occurrences were settled by the run of another one",
        "run.requested": "somebody asked for a run",
        "run.cancel_requested": "somebody asked to end a run; one whose body had not begun ended with it",
        "run.succeeded": "a run succeeded; written only where the schedule has report_success",
        "run.failed": "a run failed for good",
        "run.timed_out": "the last attempt of a run took longer than its timeout",
        "run.cancelled": "a body stopped because its run was cancelled",
        "run.expired": "no attempt of a run had started by its deadline",
        "run.parked": "no live node can run a run's target",
        "run.unparked": "a live node can run a parked run's target now",
        "run.resend": "nobody began a run after it was handed over, so it is handed over again",
        "run.unsent": "a broker did not take the message of a run; another one is tried later",
        "run.unfenced": "a body was run without a lease, for the ledger did not answer",
        "run.overdue": "a run is not started, or not finished, so long after it was due",
        "attempt.failed": "an attempt failed, and the run is tried again",
        "attempt.timed_out": "an attempt took longer than its timeout, and the run is tried again",
        "attempt.lost": "the lease of an attempt ended without a report, and the run is tried again",
        "attempt.refused": "a result came after the lease had passed to another attempt, and was refused",
        "firing.held": "all firing was held",
        "firing.released": "firing goes on",
        "node.step_failed": "a step of a node raised an error; it goes on",
        "handler.given_up": "a handler failed on an event again and again, and the event was passed over",
    }
)

SETTINGS = MappingProxyType(
    {
        "ONEBEAT_URL": "where the ledger is; by default sqlite:///onebeat.db",
        "ONEBEAT_APP": "the app that the command line works for: module:name of an Onebeat",
        "ONEBEAT_ZONE": "the zone in which the command line reads and shows wall times",
        "ONEBEAT_LANG": "the language in which the command line says triggers: en or zh",
        "ONEBEAT_MODULES": "prefixes of modules whose functions `onebeat serve` may run, with commas",
        "ONEBEAT_ROLES": "the roles of `onebeat serve`: dispatcher, worker, or both",
        "ONEBEAT_QUEUES": "the queues that the worker of `onebeat serve` takes runs from",
        "ONEBEAT_THREADS": "how many bodies `onebeat serve` runs at once on threads",
        "ONEBEAT_COROUTINES": "how many coroutines `onebeat serve` runs at once on one event loop",
        "ONEBEAT_PROCESSES": "how many bodies `onebeat serve` runs at once in processes of their own",
        "ONEBEAT_SHELL": "1: `onebeat serve` runs commands, whatever program a schedule names",
        "ONEBEAT_HTTP_ALLOW": "networks and hosts beside the internet that requests may go to, with commas",
        "ONEBEAT_HTTP_CALLS": "how many HTTP requests of `onebeat serve` are on their way at once",
        "ONEBEAT_LEASE": "how long a silent node keeps its runs",
        "ONEBEAT_GRACE": "how long runs may go on after SIGTERM",
        "ONEBEAT_TRACEBACK": "1: the command line shows where an unexpected error came from",
    }
)
"""Every environment variable that onebeat reads. docs/reference/settings.md tells more."""

GIVEN = frozenset(f"ONEBEAT_{word}" for word in ("RUN_ID", "SCHEDULE", "OCCURRENCE", "ATTEMPT", "TOKEN"))
"""The variables that a command is given: written, and never read."""
