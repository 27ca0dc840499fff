"""Handlers of events: called at least once for each event of their kinds, by cursor.

How far a handler has come stands in the ledger under its name, and moves only after it returned; so a handler
sees an event again when its node died in between. Among the nodes that serve a handler, the first by id calls
it and the others stand by: that saves double calls, and no promise rests on it.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from onebeat.core.catalogue import EVENTS
from onebeat.core.errors import InvalidInput, near_miss, shown
from onebeat.core.messages import EventQuery, ScheduleQuery
from onebeat.core.model import Event
from onebeat.core.ports import Store

Handler = Callable[[Event], Any]

LOOK_EVERY = timedelta(milliseconds=500)
STAND_BY = timedelta(seconds=2)
PAGE = 100
TRIES_MAX = 10
PAUSE_MAX = timedelta(seconds=30)

_log = logging.getLogger("onebeat.app")


def checked_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kinds of event, or raise InvalidInput with the nearest one that there is."""
    for kind in kinds:
        if kind not in EVENTS:
            raise InvalidInput(
                f"{shown(kind)} is no kind of event{near_miss(str(kind)[:100], EVENTS)}; "
                "docs/reference/events.md lists them"
            )
    return kinds


class Follower:
    """One handler, and how far it has come. ``step()`` never waits: it says when to be called again."""

    def __init__(self, name: str, kinds: tuple[str, ...], tag: str | None, handler: Handler) -> None:
        self.name = name
        self.role = f"on:{name}"
        """What a node announces that serves this handler."""
        self._kinds = kinds or None
        self._tag = tag
        self._handler = handler
        self._failures = 0
        self._at: int | None = None  # the cursor, while nobody else moves it

    def step(self, store: Store, holder: str) -> datetime:
        """Call the handler for what happened since it was last called; return when to look again."""
        now = store.now()
        if not self._first(store, holder, now):
            self._at = None
            return now + STAND_BY
        if self._at is None:
            self._at = store.cursor(self.name)
        events = store.events(EventQuery(after=self._at, kinds=self._kinds, limit=PAGE))
        for event in events:
            if not self._wants(store, event):
                continue
            if not self._told(store, event, holder):
                return now + min(LOOK_EVERY * 2.0**self._failures, PAUSE_MAX)
            self._at = store.cursor(self.name, event.id)
        if events:
            self._at = store.cursor(self.name, events[-1].id)
        return now if len(events) == PAGE else now + LOOK_EVERY

    def _first(self, store: Store, holder: str, now: datetime) -> bool:
        alive = [node.id for node in store.nodes() if node.alive_until > now and self.role in node.roles]
        return holder <= min(alive, default=holder)  # before its own announcement it counts itself in

    def _wants(self, store: Store, event: Event) -> bool:
        if self._tag is None:
            return True
        if event.schedule is None:
            return False
        rows = store.schedules(ScheduleQuery(names=(event.schedule,), deleted=True, limit=1))
        return any(self._tag in row.definition.tags for row in rows)

    def _told(self, store: Store, event: Event, holder: str) -> bool:
        """Call the handler. False: it failed, and is called again; not for ever, for others wait behind."""
        try:
            self._handler(event)
        except Exception as error:  # noqa: BLE001 - a handler is anybody's code, and one must not stop the others
            self._failures += 1
            _log.exception("handler %s failed on event %d, time %d", self.name, event.id, self._failures)
            if self._failures < TRIES_MAX:
                return False
            store.record([self._given_up(event, holder, error, store.now())])
        self._failures = 0
        return True

    def _given_up(self, event: Event, holder: str, error: Exception, now: datetime) -> Event:
        return Event(
            at=now,
            kind="handler.given_up",
            schedule_id=event.schedule_id,
            schedule=event.schedule,
            run_id=event.run_id,
            actor=holder,
            reason=f"{self.name}: {type(error).__name__}: {error}"[:500],
            data={"event": event.id, "kind": event.kind, "tries": TRIES_MAX},
        )


def handler_name(handler: Handler) -> str:
    """Return the name under which a handler's cursor is kept: where it is defined."""
    try:
        return f"{handler.__module__}:{handler.__qualname__}"
    except AttributeError:
        raise InvalidInput(f"{shown(handler)} has no name; pass name= to beat.on") from None
