"""How a process makes itself known: who it is, what it can run, and how far its clock is off."""

import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from onebeat._version import __version__
from onebeat.core.model import Node
from onebeat.core.ports import Clock, Store

OFFSET_MAX = timedelta(seconds=1)
ANNOUNCED_FOR = timedelta(seconds=30)
MEASURED_EVERY = timedelta(minutes=1)

_log = logging.getLogger("onebeat.engine")


class Presence:
    """One process in the ledger's list of nodes. Announced at a third of ``lasts``, and when changed."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        holder: str,
        roles: Sequence[str],
        queues: Sequence[str] = (),
        tz_version: str = "",
        settings: Mapping[str, str] | None = None,
        lasts: timedelta = ANNOUNCED_FOR,
    ) -> None:
        self.holder = holder
        self.roles = tuple(roles)
        self._store = store
        self._clock = clock
        self._queues = tuple(queues)
        self._tz_version = tz_version
        self._settings = dict(settings or {})
        self._lasts = lasts
        self._host = socket.gethostname()
        self._started_at: datetime | None = None
        self._next_at: datetime | None = None
        self._lock = threading.Lock()  # parts announce from threads of their own
        self._parts: dict[str, tuple[tuple[str, ...], bool]] = {}
        self._said: tuple[tuple[str, ...], bool] = ((), False)
        self._measure_at: datetime | None = None
        self._warned: set[str] = set()

    def step(self) -> datetime:
        """Announce where that is due; return when it is due again. For a node with nothing to run or send."""
        return self.announce(self._store.now(), ())

    def announce(
        self, now: datetime, targets: Sequence[str], *, stopping: bool = False, part: str = ""
    ) -> datetime:
        """Announce if it is time, or if what would be said has changed; return when it is time again.

        ``targets`` are those of one ``part`` of this node: all its parts' together are what is announced. The
        node is stopping when one of its parts is.
        """
        with self._lock:
            self._parts[part] = (tuple(targets), stopping)
            keys = tuple(key for theirs, _ in self._parts.values() for key in theirs)
            return self._announce(now, (keys, any(stops for _, stops in self._parts.values())))

    def _announce(self, now: datetime, said: tuple[tuple[str, ...], bool]) -> datetime:
        if self._next_at is None or not now < self._next_at <= now + self._lasts or said != self._said:
            self._write(now, said, now + self._lasts)
            self._next_at = now + self._lasts / 3
            if self._measure_at is None or not now < self._measure_at <= now + MEASURED_EVERY:
                self._measure_at = now + MEASURED_EVERY
                self._measure()
        return self._next_at

    def leave(self, now: datetime) -> None:
        """Announce that this node is gone: the others need not wait until its announcement lapses."""
        self._write(now, ((), True), now)

    def _write(self, now: datetime, said: tuple[tuple[str, ...], bool], alive_until: datetime) -> None:
        self._started_at = self._started_at or now
        warnings = self._store.announce(
            Node(
                id=self.holder,
                host=self._host,
                pid=os.getpid(),
                roles=self.roles,
                queues=self._queues,
                targets=said[0],
                version=__version__,
                tz_version=self._tz_version,
                started_at=self._started_at,
                seen_at=now,
                alive_until=alive_until,
                stopping=said[1],
                settings=self._settings,
            )
        )
        self._said = said
        for warning in warnings:
            self._warn_once(warning, warning)

    def _measure(self) -> None:
        """Compare this node's clock with the store's, at the middle of a round trip."""
        before = self._clock.now()
        there = self._store.now()
        after = self._clock.now()
        offset = there - (before + (after - before) / 2)
        if abs(offset) > OFFSET_MAX + abs(after - before) / 2:
            self._warn_once(
                "offset",
                f"this node's clock is {-offset.total_seconds():+.1f} s off the store's, which decides what "
                "is due; nothing breaks, but what this node logs and shows is off; set its clock (NTP)",
            )

    def _warn_once(self, about: str, warning: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            _log.warning("%s: %s", self.holder, warning)
