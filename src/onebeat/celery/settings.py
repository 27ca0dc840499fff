"""What a Celery app's settings say to onebeat: where the ledger is, whose the schedules are, and which."""

import math
import os
from datetime import timedelta
from typing import Any

from onebeat.app import Onebeat
from onebeat.app.declaring import checked_revision
from onebeat.celery.entries import Entries, read_entries, slug
from onebeat.celery.library import Scheduler
from onebeat.celery.whens import zone_name_of
from onebeat.core.errors import InvalidInput, shown
from onebeat.engine.outbox import RESEND, RESEND_MAX, SPARE

OWNER = "celery"
QUEUE = "default"
RESEND_MIN = 2 * SPARE
"""Below it, a batch that the broker does not answer for would be let go as soon as it was tried."""


def owner_of(app: Any) -> str:
    """Return whose the declarations of a Celery app are: ``celery.`` and the name of the app."""
    name = slug(app.main or "")
    return f"{OWNER}.{name}"[:100].rstrip("._-") if name else OWNER


def url_of(app: Any) -> str | None:
    """Return where the ledger of an app is: ``onebeat_url``, else ONEBEAT_URL; None where neither is set."""
    return app.conf.get("onebeat_url") or os.environ.get("ONEBEAT_URL") or None


def front_of(app: Any) -> Onebeat:
    """Return onebeat as an app's settings have it: ledger, zone, owner, revision. Opens nothing."""
    url = url_of(app)
    if url is None:
        raise InvalidInput(
            "no ledger is named: set onebeat_url in the Celery app's configuration, or ONEBEAT_URL; beats "
            "and workers must have the same"
        )
    return Onebeat(url, zone=zone_of(app), owner=owner_of(app), revision=revision_of(app))


def revision_of(app: Any) -> int:
    """Return ``onebeat_revision``, which grows with each release; 0 where it is not set."""
    revision = app.conf.get("onebeat_revision")
    return 0 if revision is None else checked_revision(revision)


def resend_of(app: Any) -> timedelta:
    """Return ``onebeat_resend_s``: after how long a message that no guard has answered is sent again."""
    said = app.conf.get("onebeat_resend_s")
    if said is None:
        return RESEND
    least, most = RESEND_MIN.total_seconds(), RESEND_MAX.total_seconds()
    number = isinstance(said, (int, float)) and not isinstance(said, bool) and math.isfinite(said)
    if not number or not least <= said <= most:
        raise InvalidInput(
            f"onebeat_resend_s={shown(said)} is no number of seconds from {least:g} to {most:g}: sooner, a "
            "broker that is away for a moment would be sent everything twice, and later nobody would wait"
        )
    return timedelta(seconds=said)


def queue_of(app: Any) -> str:
    """Return ``onebeat_queue``: the queue in the ledger, none of the broker's, that the app's runs are in."""
    return str(app.conf.get("onebeat_queue") or QUEUE)


def is_guarded(app: Any) -> bool:
    """Return whether its workers have the guard: ``onebeat_guarded``, else whether it is installed here."""
    said = app.conf.get("onebeat_guarded")
    return said is True or (said is None and "onebeat_installed" in vars(app))


def entries_of(app: Any) -> Entries:
    """Return what an app's ``beat_schedule`` means, its ``redbeat_schedule``, and what beat itself adds."""
    conf, redbeat = app.conf, app.conf.get("redbeat_schedule") or {}
    # It adds celery.backend_cleanup, by a rule that is Celery's own and may change.
    beat = Scheduler(app, lazy=True)
    beat.install_default_entries({**redbeat, **conf.beat_schedule})
    return read_entries(
        {**beat.schedule, **conf.beat_schedule},
        redbeat=redbeat,
        zone=zone_of(app),
        guarded=is_guarded(app),
        queue=queue_of(app),
        deadline=conf.beat_cron_starting_deadline,
    )


def zone_of(app: Any) -> str:
    """Return the app's timezone as an IANA name. Raises InvalidInput where it has none."""
    zone = zone_name_of(app.timezone)
    if zone is None:
        raise InvalidInput(
            f"the timezone of {app!r} has no IANA name, so nobody else could know when its crontabs come; "
            "set app.conf.timezone, e.g. to 'Europe/Berlin'"
        )
    return zone
