"""People who edit: create, change, pause, resume, delete, create again, skip, ask, cancel, hold.

They act as the front door does: read, decide with core/edits.py, commit against the version read; who was
second reads again, and who got no answer sends the same edit once more. Many aim at the very instant at which
a schedule is due.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from onebeat.core import edits
from onebeat.core.decide import admit
from onebeat.core.errors import InvalidInput, Refused, StoreUnavailable
from onebeat.core.messages import Answer, Cancel, Edit, Hold, Request, RunQuery, ScheduleQuery
from onebeat.core.model import LIVE, Definition, Load, RunState, Schedule
from onebeat.testing.sim_draw import ACTS, FLEET, GROUPED, NAMES
from onebeat.testing.sim_world import Node, World

TRIES = 4

Change = Callable[[Schedule, Load, edits.Author], Edit]


class Editor(Node):
    """One person, or one program that acts like one."""

    meets = 3.0

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._acts: dict[str, Callable[[str], None]] = {
            "edit": self._change,
            "pause": self._pause,
            "resume": self._resume,
            "delete": self._delete,
            "skip": self._skip_next,
            "request": self._request,
            "cancel": self._cancel,
            "hold": self._hold,
            "purge": self._purge,
        }
        self.retired = not world.has(name)
        self._number = 0
        self._steps = 0

    def start(self) -> None:
        """Whoever comes back has forgotten what was under way."""
        self._ledger = self.store()

    def step(self) -> datetime:
        """Do one thing to one schedule; return when to do the next."""
        world = self.world
        self._steps += 1  # each is drawn apart: leaving one out leaves the others as they are
        self.draw = draw = world.drawn(self.holder, self._steps)
        if not self.retired:
            if world.watch.seen.held is not None and draw.chance() < 0.5:
                self.release()
            self.act(draw.one(NAMES))
        now = world.clock.now()
        if draw.chance() < 0.4:
            # At the instant itself, or a hair beside it: where edits have always been dangerous.
            due = [row.next_at for row in world.watch.seen.rows.values() if row.next_at and row.next_at > now]
            if due:
                return draw.one(due) + draw.one((-2, -1, 0, 0, 1)) * timedelta(milliseconds=1)
        return now + draw.stretched(0.2, 6)

    def act(self, name: str) -> None:
        """Do something to a schedule, or create it where it is not."""
        if not self.world.has(name):
            return
        found = self._ledger.owing([name])
        if not found or found[0][0].deleted:
            self._create(name)
            return
        chance = self.draw.chance()
        for kind, share in ACTS.items():
            chance -= share
            if chance < 0:
                if self.world.has(kind):
                    self._acts[kind](name)
                return

    # --- edits ---

    def _author(self, edit_id: str) -> edits.Author:
        """Read the clock, then the hold. Now and then look only at the clock: a hold came in between."""
        cut = self._ledger.now()
        held = self.draw.chance() < 0.8 and self._ledger.held() is not None
        return edits.Author(edit_id=edit_id, cut_at=cut, actor=self.name, reason="as drawn", held=held)

    def _edit(self, name: str, change: Change) -> None:
        """Read, decide, commit; a loser reads again."""
        self._number += 1
        edit_id = f"{self.holder}/{self._number}"
        for _ in range(TRIES):
            author = self._author(edit_id)
            found = self._ledger.owing([name])
            if not found:
                return
            try:
                row, load = found[0]
                edit = change(row, load, author)
            except (InvalidInput, Refused):
                return
            if self._put(edit) is not Answer.STALE:
                return
            self.world.faults["edit conflict"] += 1

    def _put(self, edit: Edit) -> Answer:
        """Send an edit; where no answer comes, send the same one again."""
        for _ in range(TRIES):
            try:
                return self._ledger.put([edit])[0].answer  # type: ignore[no-any-return]  # a Line is any verb
            except StoreUnavailable:
                continue
        raise StoreUnavailable("nobody answers")

    def _create(self, name: str) -> None:
        self._number += 1
        author = self._author(f"{self.holder}/{self._number}")
        found = self._ledger.owing([name])
        tombstone = found[0][0] if found else None
        if tombstone is not None and not tombstone.deleted:
            return
        definition = self._aimed(name, self.draw.definition(author.cut_at))
        run_now = self.draw.chance() < 0.2
        try:
            edit = edits.create(name, definition, author, tombstone=tombstone, run_now=run_now)
        except InvalidInput:
            return  # what was drawn never comes: the front door says so
        answer = self._put(edit)
        self.world.faults["edit conflict"] += answer is Answer.STALE

    def _aimed(self, name: str, definition: Definition) -> Definition:
        """Return the definition, perhaps for a fleet or in a group: drawn apart, as all about these is."""
        if self.world.fleet:
            definition = self.world.drawn(self.holder, self._steps, name, FLEET).aimed(definition)
        if self.world.groups:
            definition = self.world.drawn(self.holder, self._steps, name, GROUPED).grouped(definition)
        return definition

    def _change(self, name: str) -> None:
        def change(row: Schedule, load: Load, author: edits.Author) -> Edit:
            wanted = self._aimed(name, self.draw.changed(row.definition, author.cut_at))
            return edits.edit(row, load, wanted, author)

        self._edit(name, _alive(change))

    def _pause(self, name: str) -> None:
        self._edit(name, _alive(edits.pause))

    def _resume(self, name: str) -> None:
        self._edit(name, _alive(edits.resume))

    def _delete(self, name: str) -> None:
        self._edit(name, _alive(edits.delete))

    def _skip_next(self, name: str) -> None:
        self._edit(name, _alive(edits.skip_next))

    def pause_all(self) -> None:
        """End all firing, so that what is under way can end."""
        for row in self._ledger.schedules(ScheduleQuery()):
            self._edit(row.name, _alive(edits.pause))

    # --- the other verbs ---

    def _request(self, name: str) -> None:
        self._number += 1
        key = f"{self.holder}-{self._number}".replace(".", "-")
        forced = self.draw.chance() < 0.5
        for _ in range(TRIES):
            now = self._ledger.now()
            found = self._ledger.owing([name])
            if not found:
                return
            row, load = found[0]
            try:
                run = admit(row, load, key=key, now=now, forced=forced)
            except Refused:
                return
            request = Request(schedule_id=row.id, expected_version=row.version, run=run, actor=self.name)
            try:
                answer = self._ledger.request([request])[0]
            except StoreUnavailable:
                continue
            if answer is not Answer.STALE:
                return
            self.world.faults["edit conflict"] += 1

    def _cancel(self, name: str) -> None:
        states = (RunState.WAITING, *sorted(LIVE))
        runs = self._ledger.runs(RunQuery(schedule=name, states=states))
        if runs:
            self._ledger.advance([Cancel(run_id=self.draw.one(runs).id)])

    def _hold(self, name: str) -> None:
        """Stop all firing, and let it go on a few seconds later: or leave that to the next who holds."""
        self._number += 1
        edit_id = f"{self.holder}/{self._number}"
        held = self._ledger.held()
        wanted = None if held is not None else Hold(since_at=self._ledger.now(), actor=self.name)
        self._ledger.hold(wanted, edit_id)

    def release(self) -> None:
        """End a hold, if one is in force."""
        self._number += 1
        self._ledger.hold(None, f"{self.holder}/{self._number}")

    def _purge(self, name: str) -> None:
        self._ledger.purge(self._ledger.now(), 100)


def _alive(change: Change) -> Change:
    """Return the change, refused on a tombstone: a front door says so before it decides anything."""

    def checked(row: Schedule, load: Load, author: edits.Author) -> Edit:
        if row.deleted:
            raise Refused(f"{row.name} was deleted")
        return change(row, load, author)

    return checked
