"""Events that a part of a node has to say to the ledger, kept until the ledger has them."""

from onebeat.core.errors import StoreUnavailable
from onebeat.core.model import Event
from onebeat.core.ports import Store


class Sayings:
    """What waits to be recorded, in order. A death loses it: no decision depends on it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: list[Event] = []

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: Event) -> None:
        """Keep one event for the next delivery."""
        self._events.append(event)

    def deliver(self) -> None:
        """Record what waits; keep it where the store is away. What the store refuses is not said again."""
        if self._events:
            events, self._events = self._events, []
            try:
                self._store.record(events)
            except StoreUnavailable:
                self._events = events
                raise
