"""The ledger of a Celery app, opened by each process for itself: a connection does not survive a fork."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from onebeat.celery.message import fingerprint
from onebeat.core.errors import InvalidInput
from onebeat.core.model import Definition, Run
from onebeat.core.ports import Clock, Store
from onebeat.store.open import open_store

MEASURED_FOR = timedelta(seconds=60)
DEFINITIONS_MAX = 1000


class Ledgers:
    """One store for each process of a worker, opened when it is first needed, and never closed by another.

    A child that is forked while a thread imports, or asks, finds locks taken by a thread that it does not
    have: so none is forked meanwhile. And a SQLite file is not kept open by a process that forks, for a child
    would take its locks for its own: there it is opened for each use.
    """

    def __init__(self, app: Any, url: str | None, clock: Clock) -> None:
        self._app = app
        self._url = url
        self._clock = clock
        self._stores: dict[int, Store] = {}
        self._lock = threading.RLock()
        self._forks = threading.Lock()
        self._offset = timedelta(0)
        self._measured_at: datetime | None = None
        self._definitions: dict[tuple[int, int], Definition] = {}
        self.forking = False
        """Whether this process forks children that open the ledger, too."""
        os.register_at_fork(
            before=self._forks.acquire,
            after_in_parent=self._forks.release,
            after_in_child=self._reborn,
        )

    @property
    def url(self) -> str:
        """Return the ledger's URL: as given, else ``onebeat_url`` of the app, else ONEBEAT_URL."""
        url = self._url or self._app.conf.get("onebeat_url") or os.environ.get("ONEBEAT_URL")
        if not url:
            raise InvalidInput(
                "no ledger is named: set onebeat_url in the Celery app's configuration, or ONEBEAT_URL"
            )
        return str(url)

    @property
    def fingerprint(self) -> str:
        """Return what messages of this ledger carry."""
        return fingerprint(self.url)

    def store(self) -> Store:
        """Return this process's store. Raises what ``open_store`` raises."""
        with self._lock:
            found = self._stores.get(os.getpid())
            if found is None:
                found = self._stores[os.getpid()] = open_store(self.url, self._clock, migrate=False)
        return found

    def tried(self) -> None:
        """Open the ledger and let go of it. What that loads is there for every child that is forked later."""
        open_store(self.url, self._clock, migrate=False).close()

    @contextmanager
    def borrowed(self) -> Iterator[Store]:
        """Lend the store to the thread that keeps leases. Where its process forks, it does not meanwhile."""
        if not self.forking:
            yield self.store()
            return
        with self._forks:
            if not self.url.startswith("sqlite"):
                yield self.store()
                return
            store = open_store(self.url, self._clock, migrate=False)
            try:
                yield store
            finally:
                store.close()

    def now(self, store: Store) -> datetime:
        """Return the store's clock, asked for now and then and reckoned in between."""
        local = self._clock.now()
        if self._measured_at is None or not timedelta(0) <= local - self._measured_at < MEASURED_FOR:
            there = store.now()
            self._offset = there - (local + (self._clock.now() - local) / 2)
            self._measured_at = local
        return self._clock.now() + self._offset

    def definition(self, store: Store, run: Run) -> Definition:
        """Return the definition that a run was fired under."""
        key = (run.schedule_id, run.number)
        if key not in self._definitions:
            if len(self._definitions) >= DEFINITIONS_MAX:
                self._definitions.clear()
            self._definitions[key] = store.definition(*key)
        return self._definitions[key]

    def _reborn(self) -> None:
        self._forks.release()
        self._lock = threading.RLock()  # a thread that is not here may have held it
        self.forking = False
