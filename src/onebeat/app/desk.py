"""What all parts of the app share: the store, opened when first needed; the zone; who acts, and how.

Acting is read, decide, commit. ``act`` reads a row, has a pure function decide, and puts the edit; a stale
answer means that somebody was in between, or that a hold came, and it reads and decides again. One edit id
serves all tries, so dying anywhere leaves either the whole change or none of it.
"""

import getpass
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from msgspec.structs import replace

from onebeat.core.acts import Decide, gone, not_expected, unknown
from onebeat.core.definition import checked_sharing
from onebeat.core.edits import Author
from onebeat.core.errors import Conflict, NotFound, Refused
from onebeat.core.messages import Answer, Edit, EventQuery, PutAnswer, ScheduleQuery
from onebeat.core.model import Definition, Event, Load, Noun, Schedule, checked_name
from onebeat.core.ports import LEASE, Clock, Store
from onebeat.core.triggers.walltime import checked_zone, tz_version

TRIES_MAX = 20
KNOWN_MAX = 1000
DEFAULT_URL = "sqlite:///onebeat.db"


class Written(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """What an act left: the row, and the cut from which on it governs, on the store's clock.

    ``changed`` is False where nothing had to be done. ``warnings`` are for people: a target that nobody can
    run yet, arguments that could not be checked here, a declaration that will want the schedule back.
    """

    schedule: Schedule
    cut_at: datetime | None = None
    changed: bool = True
    warnings: tuple[str, ...] = ()


class Desk:
    """The shared part of one app. Making it opens nothing."""

    def __init__(
        self,
        url: str | None,
        *,
        zone: str | None,
        actor: str | None,
        clock: Clock | None,
        modules: Sequence[str],
        store: Store | None,
    ) -> None:
        self.url = url or os.environ.get("ONEBEAT_URL") or DEFAULT_URL
        self.zone = "UTC" if zone is None else checked_zone(zone)
        self.zone_given = zone is not None
        self.modules = tuple(modules)
        self.migrates = True
        self._actor = actor
        self._clock = clock
        self._store = store
        self._lock = threading.Lock()

    @property
    def clock(self) -> Clock:
        """Return the clock of this app: the one it was handed, else the machine's."""
        if self._clock is None:
            from onebeat.engine.clock import SystemClock

            self._clock = SystemClock()
        return self._clock

    @property
    def actor(self) -> str:
        """Return who acts, as the trail shall name them."""
        if self._actor is None:
            try:
                user = getpass.getuser()
            except (OSError, KeyError):  # no such user in a container's list
                user = f"uid {os.getuid()}"
            self._actor = f"{user}@{socket.gethostname()}"
        return self._actor

    @property
    def store(self) -> Store:
        """Return the store, opened at the first call."""
        with self._lock:
            if self._store is None:
                from onebeat.store.open import open_store

                self._store = open_store(self.url, self.clock, migrate=self.migrates)
            return self._store

    def refuse_unshared(self, definition: Definition, lease: timedelta = LEASE) -> None:
        """Raise InvalidInput for a transactional schedule whose ledger has no transaction for its body."""
        if definition.policy.transactional:
            checked_sharing(definition.policy, self.store, lease=lease, place=self.place)

    def within(self, store: Store) -> "Desk":
        """Return a desk like this one, in front of another store."""
        return Desk(
            self.url, zone=self.zone, actor=self.actor, clock=self.clock, modules=self.modules, store=store
        )

    def move(self, url: str) -> None:
        """Point to another ledger. Raises Refused once the store is open: what was read would not fit it."""
        if self._store is not None:
            raise Refused(f"the ledger {self.url} is open already; say where it is before using it")
        self.url = url

    def close(self) -> None:
        """Close the store, if it was opened. It opens again when needed."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()

    # --- reading ---

    def found(self, name: str) -> tuple[Schedule, Load]:
        """Return a schedule and its load. Raises NotFound with the nearest name; a tombstone is not found."""
        for schedule, load in self.store.owing([name]):
            if not schedule.deleted:
                return schedule, load
            raise gone(name)
        raise self.unknown(name)

    def unknown(self, name: str) -> NotFound:
        """Return the error for a name that no schedule has."""
        known = [row.name for row in self.store.schedules(ScheduleQuery(limit=KNOWN_MAX))]
        return unknown(name, self.place, known)

    @property
    def place(self) -> str:
        """Return where the ledger is, for messages."""
        return self.url if self._store is None else self._store.facts().get("place", self.url)

    # --- acting ---

    def author(self, reason: str = "", edit_id: str | None = None) -> Author:
        """Return who acts now, with the store's clock as the cut; it knows whether a hold is in force."""
        cut = self.store.now()
        return Author(
            edit_id=edit_id or uuid4().hex,
            cut_at=cut,
            actor=self.actor,
            reason=reason,
            tz_version=tz_version(),
            held=self.store.held() is not None,  # after the cut: see Author
        )

    def act(
        self, name: str, decide: Decide, *, reason: str = "", expected_version: int | None = None
    ) -> Written:
        """Read, decide and commit one change; return the row as it is then.

        Raises Conflict when the row has another version than the caller expects, or never stands still.
        """
        checked_name(name)
        edit_id = uuid4().hex
        for _ in range(TRIES_MAX):
            rows = self.store.owing([name])
            row, load = rows[0] if rows else (None, Load())
            if expected_version is not None and (0 if row is None else row.version) != expected_version:
                raise not_expected(name, row, expected_version)
            edit = decide(row, load, self.author(reason, edit_id))
            if edit is None:
                assert row is not None
                return Written(schedule=row, changed=False)
            if (written := self.written(self.store.put([edit])[0])) is not None:
                return written
        raise self.never_still(name)

    def act_all(self, wanted: Mapping[str, Decide], reason: str) -> dict[str, Written]:
        """Read, decide and commit a batch, in one transaction; what came too late is read and decided again.

        What a decision raises goes to the caller, and nothing of the batch is written.
        """
        done: dict[str, Written] = {}
        ids = {name: uuid4().hex for name in wanted}
        for _ in range(TRIES_MAX):
            left = [name for name in wanted if name not in done]
            rows = {row.name: (row, load) for row, load in self.store.owing(left)}
            author = self.author(reason)
            batch: list[Edit] = []
            for name in left:
                row, load = rows.get(name, (None, Load()))
                edit = wanted[name](row, load, replace(author, edit_id=ids[name]))
                if edit is None and row is not None:
                    done[name] = Written(schedule=row, changed=False)
                elif edit is not None:
                    batch.append(edit)
            for answer in self.store.put(batch) if batch else ():
                if (written := self.written(answer)) is not None:
                    done[written.schedule.name] = written
            if len(done) == len(wanted):
                return done
        raise self.never_still(", ".join([name for name in wanted if name not in done][:5]))

    def written(self, answer: PutAnswer) -> Written | None:
        """Return what a put left; None when it came too late, or its picture was too old."""
        if answer.answer not in (Answer.ACCEPTED, Answer.REPEATED):
            return None
        assert answer.schedule is not None
        return Written(schedule=answer.schedule, cut_at=answer.cut_at)

    def never_still(self, name: str) -> Conflict:
        """Return the error for a row that changed again and again between reading and writing."""
        return Conflict(
            f"{name} was changed by others {TRIES_MAX} times in a row while this change was being made; "
            "nothing of it was done; try again"
        )

    def say(
        self, kind: str, *, reason: str = "", run: str | None = None, schedule: str | None = None
    ) -> Event:
        """Return an event of a person's act, now."""
        return Event(
            at=self.store.now(), kind=kind, run_id=run, schedule=schedule, actor=self.actor, reason=reason
        )

    # --- what nodes can run ---

    def announced(self) -> set[str]:
        """Return the target keys that live nodes have announced."""
        now = self.store.now()
        return {key for node in self.store.nodes() if node.alive_until > now for key in node.targets}

    def run_events(self, run_id: str, limit: int = 1000) -> list[Event]:
        """Return what happened to a run, oldest first."""
        return self.store.events(EventQuery(run_id=run_id, limit=limit))
