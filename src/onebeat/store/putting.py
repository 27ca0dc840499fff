"""What a put leaves and refuses, in the same words on every store."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from onebeat.core.messages import Edit
from onebeat.core.model import Event, Schedule

REPLACED = "replaced by a newer occurrence"
DELETED = "its schedule was deleted"


def refuse_twice(keys: Sequence[object]) -> None:
    """Raise ValueError for a batch that holds one schedule twice."""
    if len(set(keys)) < len(keys):
        raise ValueError("a batch holds one schedule twice: put them into two batches")


def put_event(edit: Edit, row: Schedule | None, after: Schedule, now: datetime) -> Event:
    """Return the event of the action; it carries the stretch up to the boundary that held nothing."""
    event = Event(
        at=now,
        kind=edit.action,
        schedule_id=after.id,
        schedule=after.name,
        actor=edit.actor,
        reason=edit.reason,
    )
    if row is None:
        return event
    mark = edit.settlements[-1].mark_after if edit.settlements else row.settled_until
    if mark >= edit.boundary_at:
        return event
    return replace(event, mark_before=mark, mark_after=edit.boundary_at, count=0)
