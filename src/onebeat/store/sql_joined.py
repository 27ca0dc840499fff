"""The ledger within a transaction of somebody who commits when they like.

What lasts until the commit must stop nobody else: so events wait, without their gate, in a table of their own
(``SqlSharing._move_held`` moves them on), and a new target is added beforehand, on a connection of our own.
"""

from collections.abc import Sequence

from onebeat.core.messages import Edit, PutAnswer
from onebeat.core.model import Event
from onebeat.store.dialects.joined import Joined
from onebeat.store.dialects.protocol import Session
from onebeat.store.lanes import lane_cells
from onebeat.store.run_rows import EVENT_COLUMNS, event_cells
from onebeat.store.sql import SqlStore
from onebeat.store.sql_put import TARGET_NAMED, add_lane
from onebeat.store.sql_sharing import SqlSharing

EVENTS_HELD = f"INSERT INTO onebeat_held_events ({EVENT_COLUMNS}) VALUES {{rows}}"


class JoinedStore(SqlStore):
    """A Store on one connection of somebody else; ``beside`` is the same ledger on its own connections."""

    def __init__(self, joined: Joined, beside: SqlSharing) -> None:
        super().__init__(joined)
        self._beside = beside

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        if not self.alone:
            lanes = sorted({lane_cells(edit.after.definition) for edit in edits})
            if self._read(lambda session: any(session.row(TARGET_NAMED, lane) is None for lane in lanes)):
                self._beside._write(lambda session: _add_lanes(session, lanes))
        return super().put(edits)

    def _tell(self, session: Session, events: Sequence[Event]) -> None:
        if self.alone:
            super()._tell(session, events)
        elif events:
            session.batch(EVENTS_HELD, [event_cells(event) for event in events])


def _add_lanes(session: Session, lanes: Sequence[tuple[str, str]]) -> None:
    for lane in lanes:
        add_lane(session, lane)
