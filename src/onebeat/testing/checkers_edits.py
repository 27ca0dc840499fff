"""The invariant of edits and requests: I6, what was acknowledged governs. See checker.py."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Edit,
    Guard,
    PutAnswer,
    Request,
)
from onebeat.core.model import MICROSECOND, Decision, Schedule, Settlement
from onebeat.core.ports import CUT_AGE_MAX
from onebeat.testing.checker import Checker, Picture
from onebeat.testing.evidence import accepted
from onebeat.testing.sums import expected


class EditsGovern(Checker):
    """I6. What was acknowledged is there, and governs what is due after it."""

    invariant = "I6"
    claim = "an edit, pause or delete acknowledged before T governs T; nothing acknowledged is lost"

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """The cut is fresh; a repetition returns what was committed; an edit that fits is not refused."""
        name = f"{edit.action} of {edit.after.name}"
        row_id = self.seen.ids.get(edit.after.name)
        row = None if row_id is None else self.seen.rows[row_id]
        known = row_id is not None and any(edit.id == each.id for each in self.seen.edits[row_id])
        latest = at if row is None else max(at, row.cut_at)
        fresh = edit.cut_at <= latest and at - edit.cut_at <= CUT_AGE_MAX
        fits = edit.expected_version == (0 if row is None else row.version)
        stopped = self.seen.held is not None and any(tile.run is not None for tile in edit.settlements)
        match answer.answer:
            case Answer.ACCEPTED:
                if known:
                    yield f"{name} was made twice under one edit id"
                if not fresh:
                    yield f"{name} was accepted with a cut {at - edit.cut_at} old"
                if stopped:
                    yield f"{name} fired under a hold"
                yield from self._bounded(name, row, edit)
                if row is not None and row.paused is not None and any(tile.run for tile in edit.settlements):
                    yield f"{name} fired what a pause had covered"
                yield from self._skipped(row, edit.settlements)
            case Answer.REPEATED:
                if not known:
                    yield f"{name} was called a repetition, and it had never been accepted"
            case _:
                if known:
                    yield f"{name} was accepted before, and its repetition was called {answer.answer.value}"
                if fits and fresh and not stopped:
                    yield f"{name} fits, and was called {answer.answer.value}"

    def _bounded(self, name: str, row: Schedule | None, edit: Edit) -> Iterator[str]:
        """What was due at the cut follows the old definition, what comes after it the new one."""
        if row is None:
            return
        mark, cut, boundary = row.settled_until, edit.cut_at, edit.boundary_at
        if cut < row.cut_at:
            yield f"{name} has a cut {row.cut_at - cut} before the last one"
        if boundary < mark or boundary > max(mark, cut):
            yield f"{name} stands on {boundary}: the mark was {mark}, and the cut is {cut}"
        anew = row.deleted or row.quarantined is not None or edit.after.quarantined is not None
        if anew or boundary >= cut - edit.after.definition.policy.spread:
            return
        # Under a hold, from the first occurrence that is owed, and that no pause covers.
        brink = expected(row.definition.trigger, boundary, boundary + MICROSECOND)
        if not self.seen.held_since(cut) or not brink or row.paused is not None:
            yield f"{name} leaves {cut - boundary} before its cut to the new definition"

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterator[str]:
        """Nothing is settled under a hold, on a paused row or a tombstone, and what was to be skipped is."""
        row = self.seen.rows[decision.schedule_id]
        if self.seen.held is not None:
            yield f"{row.name} was settled under a hold"
        if row.dormant and decision.settlements:
            yield f"{row.name} was settled by a dispatcher, and it is paused, set aside or deleted"
        yield from self._skipped(row, decision.settlements)

    def _skipped(self, row: Schedule | None, settlements: Iterable[Settlement]) -> Iterator[str]:
        fired = [tile.run for tile in settlements if tile.run is not None]
        for run in fired:
            if row is not None and (row.id, row.incarnation, run.occurrence_at) in self.seen.skips:
                yield f"{run.id} fired, and it was to be skipped"

    def requested(self, request: Request, answer: Answer, at: datetime) -> Iterator[str]:
        """A request is admitted against the picture that it was decided on, and made once."""
        row = self.seen.rows[request.schedule_id]
        if answer is Answer.ACCEPTED and request.expected_version != row.version:
            yield f"{request.run.id} was admitted against version {request.expected_version}, which is over"
        if answer is Answer.ACCEPTED and request.run.id in self.seen.runs:
            yield f"{request.run.id} was created twice"
        if answer is Answer.REPEATED and request.run.id not in self.seen.runs:
            yield f"{request.run.id} was called a repetition, and it had never been accepted"

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """A run whose cancel was accepted is never leased again."""
        if claimed.run.id in self.seen.cancelled:
            yield f"{claimed.run.id} was leased after its cancel had been accepted"
        born = self.seen.runs.get(claimed.run.id)
        if born is not None and born.number != claimed.run.number:
            yield f"{claimed.run.id} was fired under definition {born.number} and leased under another"

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterator[str]:
        """Nor is it sent."""
        yield from self.claimed(claimed, at)

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """Nor let in by a guard."""
        if isinstance(step, Guard) and accepted(answer) and step.run_id in self.seen.cancelled:
            yield f"{step.run_id} was let in by a guard after its cancel had been accepted"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """The trail holds every accepted edit, in order; the runs that were acknowledged are there."""
        if not self.seen.complete:
            return
        for row_id, edits in self.seen.edits.items():
            trail = [
                change.edit_id
                for change in seen_now.trails.get(row_id, ())
                if change.action != "schedule.purged"
            ]
            taken = [edit.id for edit in edits]
            if row_id in seen_now.rows and trail != taken:
                yield f"{seen_now.rows[row_id].name}: the trail is {trail}, accepted were {taken}"
        for run_id, born in self.seen.runs.items():
            run = seen_now.runs.get(run_id)
            if run is None and not self.seen.purged:
                yield f"{run_id} was acknowledged, and is not in the ledger"
            elif run is not None and run.number != born.number:
                yield f"{run_id} was fired under definition {born.number}, and its row says {run.number}"
