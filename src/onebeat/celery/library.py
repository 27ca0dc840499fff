"""Celery, as this room uses it: the only file that imports it."""

from onebeat.core.errors import MissingExtra

try:
    from celery import Celery, signals
    from celery.app.utils import find_app
    from celery.beat import Scheduler
    from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
    from celery.worker import state as worker_state
except ImportError as error:
    raise MissingExtra(
        f"a Celery fleet needs the library celery, which is not installed ({error}); "
        "pip install 'onebeat[celery]'"
    ) from error

__all__ = [
    "Celery",
    "Ignore",
    "Reject",
    "Retry",
    "Scheduler",
    "SoftTimeLimitExceeded",
    "find_app",
    "signals",
    "worker_state",
]
