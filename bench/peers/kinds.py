"""Who is measured, on what, and what of a fire is on record there when it is counted."""

from typing import NamedTuple

DURABLE, NEXT_TIME, HANDED_OVER = "durable", "durable in its next time alone", "handed over"


class Peer(NamedTuple):
    """One product on one kind of server.

    ``recorded`` says what is counted. ``kind`` is durable where a fire and what it moves on are both in the
    store and outlive the process; durable in its next time alone where the fire itself is recorded nowhere,
    and lost with the process; and handed over where it leaves a message at a broker and nothing else. It
    needs ``lead_s``, and that much more for each thousand schedules, before the first is due; a run that was
    not ready in time is made again with twice as much.
    """

    name: str
    lock: str
    program: str
    store: str
    kind: str
    recorded: str
    counted: str
    lead_s: float = 4.0
    lead_s_more: float = 1.0


AFTER = "{due}"
"""In what counts: the instant that was due, in seconds since 1970."""

PEERS = (
    Peer(
        "APScheduler 3",
        "apscheduler3",
        "apscheduler3",
        "postgres",
        NEXT_TIME,
        "the schedule's next time; the run is recorded nowhere",
        f"SELECT count(*) FROM apscheduler_jobs WHERE next_run_time > {AFTER}",
        lead_s_more=3.0,
    ),
    Peer(
        "APScheduler 4",
        "apscheduler4",
        "apscheduler4",
        "postgres",
        DURABLE,
        "a job row",
        "SELECT count(*) FROM jobs",
        lead_s_more=6.0,
    ),
    Peer(
        "Procrastinate",
        "procrastinate",
        "procrastinate_deferrer",
        "postgres",
        DURABLE,
        "a job row",
        "SELECT count(*) FROM procrastinate_jobs",
    ),
    Peer(
        "APScheduler 3",
        "apscheduler3",
        "apscheduler3",
        "redis",
        NEXT_TIME,
        "the schedule's next time; the run is recorded nowhere",
        f"ZCOUNT apscheduler.run_times ({AFTER} +inf",
        lead_s_more=2.0,
    ),
    Peer(
        "redbeat",
        "redbeat",
        "redbeat_beat",
        "redis",
        DURABLE,
        "the schedule's last time, and a message",
        "LLEN celery",
        lead_s_more=2.0,
    ),
    Peer(
        "Celery Beat",
        "celery",
        "celery_beat",
        "redis",
        HANDED_OVER,
        "a message; the last times are written every three minutes",
        "LLEN celery",
    ),
    Peer(
        "django-celery-beat",
        "django",
        "django_beat",
        "redis",
        HANDED_OVER,
        "a message; the last times are written every three minutes",
        "LLEN celery",
        lead_s=6.0,
    ),
)
