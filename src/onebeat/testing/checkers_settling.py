"""The invariants of settling: I1 once, I2 without a gap, I3 never early. See checker.py."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Change,
    Claim,
    Claimed,
    Edit,
    Guard,
    PutAnswer,
)
from onebeat.core.model import Decision, NewRun, Schedule, Settlement, instant_text
from onebeat.testing.checker import Checker, Picture
from onebeat.testing.evidence import Effect, Evidence
from onebeat.testing.sums import expected

INSTANT = timedelta(0)


class SettledOnce(Checker):
    """I1. The tiles of a schedule never overlap, and an occurrence has one run, for ever."""

    invariant = "I1"
    claim = "each occurrence is settled at most once, ever, also after pruning or a clock jump"

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """An edit's tiles follow on the mark, and the mark never goes back."""
        if answer.answer is not Answer.ACCEPTED or answer.schedule is None:
            return
        row = self.seen.rows.get(answer.schedule.id)
        if (0 if row is None else row.version) != edit.expected_version:
            yield f"{edit.action} of {edit.after.name} won against {edit.expected_version}, an old version"
        if row is not None:
            yield from self._chained(row, edit.settlements)
            if edit.after.settled_until < row.settled_until:
                yield f"{edit.action} moved the mark of {row.name} back"
        yield from self._unborn(edit.requests)

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterator[str]:
        """A decision wins against the version that was read, follows on the mark, and never moves it back."""
        row = self.seen.rows[decision.schedule_id]
        if row.version != decision.version:
            yield f"a settlement of {row.name} won with version {decision.version} against {row.version}"
        yield from self._chained(row, decision.settlements)
        last = decision.settlements[-1].mark_after if decision.settlements else row.settled_until
        if decision.settled_until != last:
            yield f"the mark of {row.name} went to {decision.settled_until}; its tiles end at {last}"

    def _chained(self, row: Schedule, settlements: Sequence[Settlement]) -> Iterator[str]:
        mark = row.settled_until
        for tile in settlements:
            if tile.mark_before != mark or tile.mark_after <= mark:
                yield f"{row.name}: ({tile.mark_before}, {tile.mark_after}] does not follow on {mark}"
            mark = tile.mark_after
            if tile.run is not None:
                where = (row.id, row.incarnation, tile.run.occurrence_at)
                if where in self.seen.fired:
                    yield f"{tile.run.id} fires what {self.seen.fired[where]} has fired"
        yield from self._unborn(tile.run for tile in settlements)

    def _unborn(self, runs: Iterable[NewRun | None]) -> Iterator[str]:
        for run in runs:
            if run is not None and run.id in self.seen.runs:
                yield f"run {run.id} was created twice"

    def began(self, effect: Effect) -> Iterator[str]:
        """A body begins only for a run that won, and for an occurrence that no other run stands for."""
        born = self.seen.runs.get(effect.run_id)
        if not self.seen.complete:
            return
        if born is None:
            yield f"a body began for {effect.run_id}, which nobody was told to have created"
        elif born.tile is not None:
            where = (born.schedule_id, born.incarnation, effect.occurrence_at)
            if self.seen.fired.get(where) != effect.run_id:  # type: ignore[arg-type]  # None is no key, as it should be
                yield f"a body began for {effect.run_id}, and its occurrence is not {effect.occurrence_at}"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """In the ledger no two tiles overlap, and there are no runs but those that won."""
        for row_id, tiles in seen_now.tiles.items():
            mark: datetime | None = None
            for tile in tiles:
                if mark is not None and tile.mark_before < mark:
                    yield f"{seen_now.rows[row_id].name}: a second tile over ({tile.mark_before}, {mark}]"
                mark = tile.mark_after
        fired: dict[tuple[int, datetime], str] = {}
        for run in seen_now.runs.values():
            if self.seen.complete and run.id not in self.seen.runs:
                yield f"the ledger holds {run.id}, which nobody was told to have created"
            if run.mark_before is not None and run.occurrence_at is not None:
                other = fired.setdefault((run.schedule_id, run.occurrence_at), run.id)
                if other != run.id and other.split("@")[0] == run.id.split("@")[0]:
                    yield f"{other} and {run.id} stand for one occurrence"


class NoGap(Checker):
    """I2. What should have come is settled: by number, by bounds, and in time while the cluster is well."""

    invariant = "I2"
    claim = "each occurrence certainly in force is settled, with no gap, within the stated lateness"

    def __init__(self, seen: Evidence) -> None:
        super().__init__(seen)
        self.calm_at: datetime | None = None
        self.patience = INSTANT

    def calm(self, at: datetime, patience: timedelta) -> None:
        """From ``at`` on every node is well: whatever is due is settled within ``patience``."""
        self.calm_at, self.patience = at, patience

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """An edit settles all that the old definition owed up to the boundary."""
        if answer.answer is not Answer.ACCEPTED or answer.schedule is None:
            return
        row = self.seen.rows.get(answer.schedule.id)
        if row is None or row.deleted:
            return
        yield from _counted(row, edit.settlements)
        mark = edit.settlements[-1].mark_after if edit.settlements else row.settled_until
        for lost in expected(row.definition.trigger, mark, edit.boundary_at):
            yield f"{edit.action} swallowed {row.name} at {instant_text(lost)}: no tile up to its boundary"

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterator[str]:
        """The tiles hold exactly the occurrences that the sums give, and come in time."""
        row = self.seen.rows[decision.schedule_id]
        yield from _counted(row, decision.settlements)
        if self.calm_at is None:
            return
        spread = row.definition.policy.spread
        for tile in decision.settlements:
            if tile.first_at is not None:
                late = at - max(tile.first_at + spread, self.calm_at)
                if late > self.patience:
                    where = f"{row.name} at {instant_text(tile.first_at)}"
                    yield f"{where} was settled {late} late, and all was well"

    def look(self, seen_now: Picture) -> Iterator[str]:
        """While all is well, nothing that is due stays unsettled."""
        if self.calm_at is None or seen_now.at < self.calm_at + self.patience:
            return
        for row in seen_now.rows.values():
            if not row.dormant:
                until = seen_now.at - row.definition.policy.spread - self.patience
                for owed in expected(row.definition.trigger, row.settled_until, until)[:1]:
                    yield f"{row.name} at {instant_text(owed)} is not settled, and all is well"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """The ledger's tiles tile, from the first boundary to the mark, and count what the sums give."""
        for row_id, trail in seen_now.trails.items():
            row = seen_now.rows[row_id]
            mark = seen_now.provable[row_id]  # before it, a purge may have left holes
            for tile in seen_now.tiles[row_id]:
                if tile.mark_before < mark:
                    continue
                if tile.mark_before > mark:
                    yield f"{row.name}: nothing says what became of ({mark}, {tile.mark_before}]"
                mark = tile.mark_after
                force = _in_force(trail, tile.mark_before)
                count = 0
                if not force.deleted:
                    count = len(expected(force.definition.trigger, tile.mark_before, tile.mark_after))
                if count != tile.count:
                    yield (
                        f"{row.name}: ({tile.mark_before}, {tile.mark_after}] holds {count} occurrences, "
                        f"and its tile says {tile.count}"
                    )
            if mark != row.settled_until:
                yield f"{row.name}: the tiles end at {mark}, and the mark is {row.settled_until}"
        for run in seen_now.runs.values():
            count, first, last = self.seen.stands_for.get(run.id, (0, None, None))
            said = None if run.fold is None else (run.fold.count, run.fold.first_at, run.fold.last_at)
            plain = count == (run.key is None)  # its own occurrence, or none
            if self.seen.complete and said != (None if plain else (count, first, last)):
                yield f"{run.id} says that it stands for {said}; folded into it were {count, first, last}"

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """A body is told of all that its run stands for."""
        yield from self._told(claimed)

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterator[str]:
        """So is a message."""
        yield from self._told(claimed)

    def _told(self, claimed: Claimed) -> Iterator[str]:
        count, run = self.seen.stands_for.get(claimed.run.id, (0,))[0], claimed.run
        told = (run.key is None) if run.fold is None else run.fold.count
        if self.seen.complete and told != count:
            yield f"{run.id} was leased as standing for {told}, and it stands for {count}"


def _counted(row: Schedule, settlements: Sequence[Settlement]) -> Iterator[str]:
    stands_for: dict[str, list[datetime]] = {}
    for tile in settlements:
        found = expected(row.definition.trigger, tile.mark_before, tile.mark_after)
        bounds = (found[0], found[-1]) if found else (None, None)
        if len(found) != tile.count or (tile.first_at, tile.last_at) != bounds:
            yield (
                f"{row.name}: ({tile.mark_before}, {tile.mark_after}] holds {len(found)} occurrences "
                f"{bounds}, and was settled as {tile.count} {tile.first_at, tile.last_at}"
            )
        if tile.run is not None and tile.run.occurrence_at not in found:
            yield f"{tile.run.id} fired outside of its tile, at {tile.run.occurrence_at}"
        into = tile.run.id if tile.run is not None else tile.into
        if into is not None:
            stands_for.setdefault(into, []).extend(found)
    for tile in settlements:
        if tile.run is None:
            continue
        found = sorted(stands_for[tile.run.id])
        fold = tile.run.fold
        said = (1, found[0], found[-1]) if fold is None else (fold.count, fold.first_at, fold.last_at)
        if found and said != (len(found), found[0], found[-1]):
            yield f"{tile.run.id} says that it stands for {said}, and it stands for {len(found)}"


def _in_force(trail: Sequence[Change], instant: datetime) -> Change:
    """Return the entry that governs the nominal instants just after ``instant``."""
    governing = trail[0]
    for change in trail:
        if change.boundary_at <= instant:
            governing = change
    return governing


class NeverEarly(Checker):
    """I3. Nothing is settled, claimed or begun before the store's clock has reached it."""

    invariant = "I3"
    claim = "nothing fires early, by any amount, on the store's clock"

    def __init__(self, seen: Evidence) -> None:
        super().__init__(seen)
        self._offsets: dict[tuple[str, timedelta], timedelta] = {}

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """What an edit fires was due at its cut, and the clock had reached the cut."""
        if answer.answer is not Answer.ACCEPTED or answer.schedule is None:
            return
        if edit.cut_at > self._reached(at):
            yield f"the cut of {edit.action} on {edit.after.name} is ahead of the clock by {edit.cut_at - at}"
        row = self.seen.rows.get(answer.schedule.id)
        if row is not None and not row.deleted:
            spreads = (row.definition.policy.spread, edit.after.definition.policy.spread)
            yield from self._due(row, edit.settlements, edit.cut_at, spreads)

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterator[str]:
        """The store's clock had reached the instant of the decision, and that had reached what it settles."""
        row = self.seen.rows[decision.schedule_id]
        if now > at:
            yield f"a settlement of {row.name} won {now - at} before the store's clock reached its instant"
        yield from self._due(row, decision.settlements, now, (row.definition.policy.spread,))

    def _due(
        self, row: Schedule, settlements: Iterable[Settlement], now: datetime, spreads: Sequence[timedelta]
    ) -> Iterator[str]:
        offsets = {INSTANT if not spread else self._offsets.get((row.name, spread)) for spread in spreads}
        least = min((offset or INSTANT for offset in offsets), default=INSTANT)
        for tile in settlements:
            if tile.last_at is not None and tile.last_at + least > now:
                early = tile.last_at + least - now
                yield f"{row.name} at {instant_text(tile.last_at)} was settled {early} early"
            if tile.run is not None and tile.run.occurrence_at is not None:
                offset = tile.run.due_at - tile.run.occurrence_at
                if tile.run.due_at > now:
                    yield f"{tile.run.id} fired {tile.run.due_at - now} early"
                if not any(INSTANT <= offset <= spread for spread in spreads):
                    yield f"{tile.run.id} is due {offset} after its occurrence; the spread is {spreads[0]}"
                elif len(set(spreads)) == 1:
                    known = self._offsets.setdefault((row.name, spreads[0]), offset)
                    if known != offset:
                        yield f"{tile.run.id} is due {offset} after its occurrence, and others {known}"

    def _reached(self, at: datetime) -> datetime:
        return max(at, self.seen.clock_max or at)

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """A run is leased only when it is due and ready."""
        run = claimed.run
        if run.ready_at > at:
            yield f"{run.id} was leased {run.ready_at - at} before it was ready"

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterator[str]:
        """It is sent only then, too."""
        yield from self.claimed(claimed, at)

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """No message lets an attempt in that is not due yet."""
        ready_at = self.seen.ready_at.get(step.run_id)
        early = ready_at is not None and ready_at > self._reached(at)
        if isinstance(step, Guard) and answer.answer is Answer.ACCEPTED and early:
            yield f"attempt {step.attempt} of {step.run_id} was let in at {at}, and is due at {ready_at}"

    def began(self, effect: Effect) -> Iterator[str]:
        """A body begins only when its run is due."""
        born = self.seen.runs.get(effect.run_id)
        if born is not None and born.new.due_at > self._reached(effect.at):
            yield f"the body of {effect.run_id} began {born.new.due_at - effect.at} early"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """No row says that it was fired before it was due; what is asked for is due when it is asked for."""
        if self.seen.stepped_back:
            return  # a clock that was set back dates later rows earlier than what they stand for
        for run in seen_now.runs.values():
            if run.key is None and run.created_at < run.due_at:
                yield f"{run.id} was created {run.due_at - run.created_at} before it was due"
