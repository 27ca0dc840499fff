"""After new zone data or a new calendar of holidays: ``next_at`` of every row, computed anew.

``next_at`` is a cache of what a trigger answered when the row was last decided. Where newer data has an
occurrence before it, the row would be looked at only later, and fire late: by an hour where a zone changed
its summer time, by days where a Saturday became a workday. No mark goes back, so nothing can fire twice.

    cursor ``next_at by <data>`` is 1 ──► done before, by somebody
        │ 0
        ▼
    a page of rows ──► decide ──► differs? settle, as ever ──► … the last page ──► cursor := 1

A node that dies on the way leaves the cursor at 0, and whoever starts next begins again; two that walk at
once do the same work twice, and the later one finds nothing to change.
"""

from datetime import datetime, timedelta

from onebeat.core.decide import settle
from onebeat.core.edits import owing_of
from onebeat.core.messages import ScheduleQuery
from onebeat.core.model import Decision, Schedule
from onebeat.core.ports import Store
from onebeat.core.triggers.registry import build

PAUSE = timedelta(milliseconds=200)
"""Between two pages: settling what is due goes before."""

NEVER_AGAIN = timedelta(days=365)
HELD = timedelta(seconds=10)


class Rebasing:
    """One walk through all rows, for the data that this process has. ``step`` never waits."""

    def __init__(self, store: Store, data: str, page: int) -> None:
        self._store = store
        self._name = f"next_at by {data}"
        self._page = page
        self._done = not data
        self._after: str | None = None  # None: not begun

    def step(self, now: datetime) -> timedelta:
        """Look at one page; return how long until the next."""
        if not self._done and self._after is None:
            self._done = self._store.cursor(self._name, 0) > 0
            self._after = ""
        if self._done:
            return NEVER_AGAIN
        rows = self._store.schedules(ScheduleQuery(after=self._after or "", limit=self._page))
        decisions = self._decided([row.name for row in rows if _moves(row)], now)
        if decisions:
            settled = self._store.settle(now, decisions)
            if settled.held or settled.early_by is not None:
                return HELD  # the same page again
        if len(rows) == self._page:
            self._after = rows[-1].name
            return PAUSE
        self._store.cursor(self._name, 1)
        self._done = True
        return NEVER_AGAIN

    def _decided(self, names: list[str], now: datetime) -> list[Decision]:
        found: list[Decision] = []
        for row, load in self._store.owing(names) if names else ():
            if not row.dormant:
                try:
                    decision = settle(owing_of(row, load), now)
                except Exception:  # noqa: BLE001, S112 - whoever settles the row says so, and sets it aside
                    continue
                if decision.next_at != row.next_at or decision.settlements:
                    found.append(decision)
        return found


def _moves(row: Schedule) -> bool:
    """Return whether new data may move what a row's trigger answers."""
    if row.dormant:
        return False
    try:
        return build(row.definition.trigger).zoned
    except Exception:  # noqa: BLE001 - as above
        return False
