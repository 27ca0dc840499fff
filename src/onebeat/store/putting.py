"""What a put leaves and refuses, and what a batch of requests counts on, in the same words on every store."""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from onebeat.core.messages import Answer, Edit, Request
from onebeat.core.model import Event, Schedule

REPLACED = "replaced by a newer occurrence"
DELETED = "its schedule was deleted"


def refuse_twice(keys: Sequence[object]) -> None:
    """Raise ValueError for a batch that holds one schedule twice."""
    if len(set(keys)) < len(keys):
        raise ValueError("a batch holds one schedule twice: put them into two batches")


class Chains:
    """The requests of one batch, schedule by schedule: each counts on those before it.

    A chain of requests expects version after version. Where its first one came too late, because somebody
    else moved the row by one, the second one would find the very version that it expects, and not the row
    that it was admitted against.
    """

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._accepted: dict[int, int] = {}

    def holds(self, request: Request) -> bool:
        """Return whether all that a request counts on were accepted."""
        key = request.schedule_id
        first = self._first.setdefault(key, request.expected_version)
        return request.expected_version - first <= self._accepted.get(key, 0)

    def told(self, request: Request, answer: Answer) -> Answer:
        """Return the answer to a request, and remember it."""
        if answer is Answer.ACCEPTED:
            self._accepted[request.schedule_id] = self._accepted.get(request.schedule_id, 0) + 1
        return answer


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
