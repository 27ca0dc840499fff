"""The one line in a Celery app. Loads Celery when it is called: who reads settings of an app needs none."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from onebeat.core.errors import InvalidInput, shown
from onebeat.core.ports import LEASE

if TYPE_CHECKING:
    from onebeat.celery.guard import Installed

STORE_DOWN = ("closed", "open")
LEASE_MIN = timedelta(seconds=1)


def install(
    app: Any, url: str | None = None, *, store_down: str = "closed", lease: timedelta = LEASE
) -> "Installed":
    """Guard every task of a Celery app, those registered later included. Safe to repeat.

    ``url`` names the ledger, by default ``app.conf.onebeat_url``, else ONEBEAT_URL. Where the ledger cannot
    be asked before a body, ``store_down="closed"`` drops the message (it is sent again once the ledger is
    back), and ``"open"`` runs the body all the same: perhaps twice, counted and said, never recorded as the
    run's outcome. ``lease`` is how long a worker is promised a run at a time.
    """
    if store_down not in STORE_DOWN:
        raise InvalidInput(f"store_down={shown(store_down)} is neither 'closed' nor 'open'")
    if lease < LEASE_MIN:
        raise InvalidInput(f"lease={lease} is shorter than {LEASE_MIN}, which no renewal could keep up with")
    from onebeat.celery.guard import Installed  # noqa: PLC0415 - see above

    there = app.__dict__.get("onebeat_installed")
    if isinstance(there, Installed):
        return there
    app.onebeat_installed = installed = Installed(app, url, store_down == "open", lease)
    return installed
