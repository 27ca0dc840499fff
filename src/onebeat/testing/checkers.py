"""The invariants I1 to I8, each watched by a checker of its own, from outside.

Here are those of runs and rows (I4, I5, I7, I8), and the Watch that shows each answer to all; those of
settling (I1 to I3) are in checkers_settling.py, that of edits (I6) in checkers_edits.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Edit,
    Finish,
    Guard,
    Hold,
    Lost,
    PutAnswer,
    Release,
    Renew,
    Request,
    Settled,
    Start,
)
from onebeat.core.model import (
    LIVE,
    CatchUp,
    Decision,
    OnLost,
    Outcome,
    Policy,
    Reason,
    Run,
    RunState,
    Schedule,
    Settlement,
    instant_text,
    micros,
)
from onebeat.core.ports import Store
from onebeat.testing.checker import Checker, Picture, picture
from onebeat.testing.checkers_edits import EditsGovern
from onebeat.testing.checkers_settling import NeverEarly, NoGap, SettledOnce
from onebeat.testing.evidence import Effect, Ended, Evidence, accepted

BETWEEN_ATTEMPTS = frozenset({RunState.CANCELLED, RunState.EXPIRED})


class OneOutcome(Checker):
    """I4. Each lease has a larger token, and only the current token moves its run or ends it, once."""

    invariant = "I4"
    claim = "at most one accepted outcome per run; a stale token changes nothing"

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """A token is larger than all before, and at least the clock; nobody has the run, nor has it ended."""
        if claimed.run.id in self.seen.sent:
            yield f"{claimed.run.id} was leased by a claim while its message was on its way"
        yield from self._leased(claimed.run.id, claimed.run.token, str(claimed.run.holder), at)

    def _leased(self, run_id: str, token: int, holder: str, at: datetime) -> Iterator[str]:
        if token <= self.seen.token_max or token < micros(at):
            yield f"{run_id} was leased with token {token}; {self.seen.token_max} had been given before"
        if run_id in self.seen.leases:
            yield f"{run_id} was leased to {holder} while {self.seen.leases[run_id].holder} had it"
        if run_id in self.seen.ended:
            yield f"{run_id} was leased again after it had ended: {self.seen.ended[run_id]}"
        if self.seen.complete and run_id not in self.seen.runs:
            yield f"{run_id} was leased, and nobody was told to have created it"

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterator[str]:
        """One publisher has a run at a time; nobody has it under a lease, and it has not ended."""
        run = claimed.run
        if run.id in self.seen.sent or run.id in self.seen.leases or run.id in self.seen.ended:
            yield f"{run.id} was sent by {claim.holder}, and it was sent, leased or ended already"
        if self.seen.complete and run.token != self.seen.tokens.get(run.id, 0):
            yield f"{run.id} was sent, and has the token {run.token} that nobody was given"
        latest = claim.until_max or claim.until
        if run.resend_at is None or not claim.until <= run.resend_at <= latest:
            yield f"{run.id} is sent again at {run.resend_at}, and not from {claim.until} to {latest}"

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """Only the current token is accepted, also by a Lost, and only after the lease lapsed."""
        if isinstance(step, Guard) and accepted(answer):
            yield from self._leased(step.run_id, answer.token, step.holder, at)
        if not isinstance(step, Start | Renew | Release | Finish | Lost):
            return
        lease = self.seen.leases.get(step.run_id)
        current = lease is not None and lease.token == step.token
        what = f"{type(step).__name__} of {step.run_id} with token {step.token}"
        if accepted(answer):
            if not current:
                yield f"{what} was accepted; current is {lease}"
            if isinstance(step, Lost) and lease is not None and lease.until > at:
                yield f"{what} was accepted {lease.until - at} before the lease lapsed"
            if isinstance(step, Release) and lease is not None and lease.started:
                yield f"{what} was accepted after the body had started"
        elif isinstance(step, Finish):
            yield from self._finish(step, answer, what, current=current)

    def _finish(self, step: Finish, answer: Advanced, what: str, *, current: bool) -> Iterator[str]:
        """A report is refused or called a repetition for a reason."""
        ended = self.seen.ended.get(step.run_id)
        if answer.answer is Answer.REPEATED:
            told = (ended is not None and (ended.token, ended.outcome) == (step.token, step.outcome)) or (
                self.seen.retried.get((step.run_id, step.token)) is step.outcome
            )
            if not told:
                yield f"{what} was called a repetition of an end that was never accepted"
        elif current:
            yield f"{what} was refused, and its token is the current one"
        elif answer.state is None and self.seen.purged:
            return  # the run is gone, and nobody remembers how it ended
        elif ended is not None and (ended.token, ended.outcome) == (step.token, step.outcome):
            yield f"{what} was refused, and it is what was accepted before"

    def began(self, effect: Effect) -> Iterator[str]:
        """A body begins once for each lease, and only after its Start was accepted."""
        if (effect.run_id, effect.token) in self.seen.effects:
            yield f"the body of {effect.run_id} began twice under token {effect.token}"
        if self.seen.complete and (effect.run_id, effect.token) not in self.seen.started:
            yield f"the body of {effect.run_id} began under token {effect.token}, and no Start was accepted"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """The row of a run holds the outcome that was accepted, under the token that was current then."""
        for run in seen_now.runs.values():
            ended = self.seen.ended.get(run.id)
            if self.seen.complete and run.outcome is not None and run.state not in LIVE:
                # A run that was cancelled or expired between two attempts keeps the outcome of the first.
                before = self.seen.retried.get((run.id, run.token))
                if ended is None and before is run.outcome and run.state in BETWEEN_ATTEMPTS:
                    continue
                if ended != Ended(run.token, run.outcome, run.state):
                    yield f"{run.id} ended as {run.state}/{run.outcome} by {run.token}; accepted was {ended}"
            if self.seen.complete and run.token != self.seen.tokens.get(run.id, 0):
                yield f"{run.id} has token {run.token}; given was {self.seen.tokens.get(run.id, 0)}"
            if run.state is RunState.SUCCEEDED and (run.id, run.token) not in self.seen.effects:
                yield f"{run.id} succeeded under token {run.token}, and no body began under it"


class Overlapping(Checker):
    """I5. Leases of a schedule never exceed its limit, and nobody waits while there is a slot."""

    invariant = "I5"
    claim = "max_running holds across the cluster"

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """With this lease the schedule has no more than the limit that its oldest lease was created under."""
        yield from self._leased(claimed.run.schedule_id, claimed.run.id)

    def _leased(self, schedule_id: int, run_id: str) -> Iterator[str]:
        leased = self.seen.leased.get(schedule_id, set()) | {run_id}
        if len(leased) > self.seen.most_running(schedule_id, leased):
            name = self.seen.rows[schedule_id].name
            yield f"{name} has {len(leased)} leases at once: {', '.join(sorted(leased))}"

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """A guard's lease counts as any other."""
        if isinstance(step, Guard) and accepted(answer) and step.run_id in self.seen.runs:
            yield from self._leased(self.seen.runs[step.run_id].schedule_id, step.run_id)

    def look(self, seen_now: Picture) -> Iterator[str]:
        """No more live runs than the limit, and none waiting below it."""
        live: dict[int, list[Run]] = {}
        waiting: dict[int, int] = {}
        for run in seen_now.runs.values():
            if run.state in LIVE:
                live.setdefault(run.schedule_id, []).append(run)
            elif run.state is RunState.WAITING:
                waiting[run.schedule_id] = waiting.get(run.schedule_id, 0) + 1
        for row_id, runs in live.items():
            policy = seen_now.rows[row_id].definition.policy
            if policy.limited and len(runs) > policy.max_running and row_id in self.seen.stretches:
                ids = sorted(run.id for run in runs)
                if len(runs) > self.seen.most_running(row_id, ids):
                    yield f"{seen_now.rows[row_id].name} has {len(runs)} live runs: {', '.join(ids)}"
        for row_id, count in waiting.items():
            policy = seen_now.rows[row_id].definition.policy
            if not policy.limited or len(live.get(row_id, ())) < policy.max_running:
                yield f"{seen_now.rows[row_id].name} has {count} waiting runs and a free slot"


class OneOut(Checker):
    """I5, of groups. Of the runs that name one group at most one is leased or on its way to a guard."""

    invariant = "I5"
    claim = "a group has one run out across the cluster"

    def __init__(self, seen: Evidence) -> None:
        super().__init__(seen)
        self._groups: dict[str, str] = {}  # run -> its group, of those that were ever out

    def claimed(self, claimed: Claimed, at: datetime) -> Iterator[str]:
        """No other run of the group is out."""
        run, policy = claimed.run, claimed.definition.policy
        if run.exclusive != policy.exclusive:
            yield f"{run.id} has the group {run.exclusive}, and was fired under {policy.exclusive}"
        if run.exclusive is not None:
            self._groups[run.id] = run.exclusive
            yield from self._let_out(run.id)

    def sent(self, claim: Claim, claimed: Claimed, at: datetime) -> Iterator[str]:
        """What was sent is as much out as what was leased."""
        yield from self.claimed(claimed, at)

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """A guard may find its run ready again, and lets it out."""
        if isinstance(step, Guard) and accepted(answer):
            yield from self._let_out(step.run_id)

    def _let_out(self, run_id: str) -> Iterator[str]:
        group = self._groups.get(run_id)
        out = self.seen.sent | self.seen.leases.keys()
        beside = sorted(each for each in out - {run_id} if group and self._groups.get(each) == group)
        if beside:
            yield f"{run_id} was let out while the group {group} has {', '.join(beside)} out"

    def look(self, seen_now: Picture) -> Iterator[str]:
        """The rows say the same."""
        out: dict[str, str] = {}
        for run in seen_now.runs.values():
            if run.exclusive is not None and run.state in (RunState.SENT, RunState.RUNNING):
                if run.exclusive in out:
                    yield f"the group {run.exclusive} has {run.id} and {out[run.exclusive]} out"
                out[run.exclusive] = run.id


class NothingRewritten(Checker):
    """I7. Every row is exactly what the accepted changes made of it."""

    invariant = "I7"
    claim = "no node's start, crash, upgrade or misconfiguration deletes or rewrites what it did not create"

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """A new row has a new id, a known one keeps it; sound schedules are not set aside."""
        if answer.answer is not Answer.ACCEPTED or answer.schedule is None:
            return
        name, row_id = edit.after.name, answer.schedule.id
        if self.seen.ids.get(name, row_id) != row_id:
            yield f"{name} had the id {self.seen.ids[name]} and got {row_id}"
        if name not in self.seen.ids and row_id in self.seen.rows:
            yield f"{name} got the id {row_id} of {self.seen.rows[row_id].name}"
        if edit.action == "schedule.quarantined":
            yield f"{name} was set aside, and it is sound: {edit.reason}"

    def look(self, seen_now: Picture) -> Iterator[str]:
        """No row is missing, none is new, none differs."""
        for row_id, row in self.seen.rows.items():
            found = seen_now.rows.get(row_id)
            if found is None and row_id not in self.seen.buried:
                yield f"the row of {row.name} is gone"
            elif found is not None and found != row:
                yield f"the row of {row.name} is {found}, and should be {row}"
        if self.seen.complete:
            for row_id in seen_now.rows.keys() - self.seen.rows.keys():
                yield f"there is a row {seen_now.rows[row_id].name} that nobody made"

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """Unfinished runs are never purged; versions and numbers of a trail only grow."""
        yield from self.look(seen_now)
        for run_id in self.seen.leases.keys() - seen_now.runs.keys():
            yield f"{run_id} is under a lease, and not in the ledger"
        for trail in seen_now.trails.values():
            versions = [change.version for change in trail]
            if versions != sorted(set(versions)):
                yield f"{trail[0].schedule}: the versions of the trail are {versions}"


class Reasons(Checker):
    """I8. Whatever did not run says why, and the reason is true as far as that can be seen from outside."""

    invariant = "I8"
    claim = "every run and every non-run has a reason a person can read"

    def put(self, edit: Edit, answer: PutAnswer, at: datetime) -> Iterator[str]:
        """The tiles of an edit have reasons, under the old policy or the new one."""
        if answer.answer is Answer.ACCEPTED and answer.schedule is not None:
            row = self.seen.rows.get(answer.schedule.id)
            if row is not None:
                policies = (row.definition.policy, edit.after.definition.policy)
                yield from self._tiles(row, edit.settlements, edit.cut_at, policies)

    def settled(self, now: datetime, decision: Decision, at: datetime) -> Iterator[str]:
        """The tiles of a decision have reasons."""
        row = self.seen.rows[decision.schedule_id]
        yield from self._tiles(row, decision.settlements, now, (row.definition.policy,))

    def _tiles(
        self, row: Schedule, settlements: Sequence[Settlement], now: datetime, policies: Sequence[Policy]
    ) -> Iterator[str]:
        made = {tile.run.id for tile in settlements if tile.run is not None}
        most = sum(each.catch_up_max if each.catch_up is CatchUp.ALL else 1 for each in policies)
        if len(made) > most:
            yield f"{row.name} fired {len(made)} runs at once; its catch-up allows {most}"
        for tile in settlements:
            if tile.run is None and tile.into is None and tile.reason is None:
                yield f"{row.name}: ({tile.mark_before}, {tile.mark_after}] was skipped without a reason"
            if tile.into is not None and tile.into not in made and tile.into not in self.seen.runs:
                yield f"{row.name} folded an occurrence into {tile.into}, which does not exist"
            begun = tile.into in self.seen.tokens or tile.into in self.seen.cancelled
            if tile.into is not None and tile.into not in made and begun:
                yield f"{row.name} folded an occurrence into {tile.into}, which does not wait any more"
            graces = [policy.grace for policy in policies]
            if tile.run is not None and all(g is not None and now - tile.run.due_at > g for g in graces):
                yield f"{tile.run.id} fired {now - tile.run.due_at} late; its grace is {graces[0]}"
            if tile.reason is not Reason.MISFIRE or tile.last_at is None:
                continue
            if all(grace is None or now - tile.last_at <= grace for grace in graces):
                yield f"{row.name} at {instant_text(tile.last_at)} was called a misfire within its grace"

    def began(self, effect: Effect) -> Iterator[str]:
        """A run that may not be repeated after an unknown end begins once, and once a reported failure."""
        born = self.seen.runs.get(effect.run_id)
        if born is None:
            return
        policy = self._policy_of(effect.run_id)
        if policy is not None and policy.on_lost is OnLost.FAIL:
            before = sum(run_id == effect.run_id for run_id, _ in self.seen.effects)
            if before > self.seen.reported.get(effect.run_id, 0):
                yield f"{effect.run_id} may not be repeated after an unknown end, and its body began again"

    def moved(self, step: AnyTransition, answer: Advanced, at: datetime) -> Iterator[str]:
        """A reported failure is tried again only as often as the policy says."""
        if isinstance(step, Finish) and accepted(answer) and answer.state is RunState.READY:
            policy = self._policy_of(step.run_id) if step.run_id in self.seen.runs else None
            reported = self.seen.reported.get(step.run_id, 0) + (step.outcome is not Outcome.LOST)
            if policy is not None and reported >= policy.attempts:
                yield f"{step.run_id} failed {reported} times and goes on; allowed are {policy.attempts}"

    def _policy_of(self, run_id: str) -> Policy | None:
        born = self.seen.runs[run_id]
        for stretch in self.seen.stretches[born.schedule_id]:
            if stretch.number == born.number:
                return stretch.definition.policy
        return None

    def rest(self, seen_now: Picture) -> Iterator[str]:
        """Every run that did not succeed, and every tile without a run, says why."""
        for run in seen_now.runs.values():
            silent = run.state in (RunState.SUCCEEDED, RunState.HANDED_OVER, RunState.WAITING, *LIVE)
            if not run.reason and (not silent or run.state is RunState.PARKED):
                yield f"{run.id} is {run.state.value}, and does not say why"
            if run.outcome is Outcome.FAILED and run.error is None:
                yield f"{run.id} failed, and does not say how"
        for row_id, tiles in seen_now.tiles.items():
            name = seen_now.rows[row_id].name
            for tile in tiles:
                if not tile.fired and not tile.reason:
                    yield f"{name}: ({tile.mark_before}, {tile.mark_after}] does not say why"


CHECKERS: tuple[type[Checker], ...] = (
    SettledOnce,
    NoGap,
    NeverEarly,
    OneOutcome,
    Overlapping,
    OneOut,
    EditsGovern,
    NothingRewritten,
    Reasons,
)


class Broken(AssertionError):
    """An invariant that does not hold. ``invariant`` is its number; the message says what was seen."""

    def __init__(self, invariant: str, claim: str, seen: str) -> None:
        super().__init__(f"{invariant} ({claim}): {seen}")
        self.invariant = invariant


class Watch:
    """Shows every answer of a ledger to every checker, and raises Broken at the first thing that is wrong.

    ``complete`` says that the ledger was empty when the watch began, and that all answers come past it.
    """

    def __init__(self, *, complete: bool = True) -> None:
        self.seen = Evidence(complete=complete)
        self.checkers = [checker(self.seen) for checker in CHECKERS]
        self._takers: dict[str, Callable[..., None]] = {
            "put": self._put,
            "hold": self._hold,
            "settle": self._settle,
            "request": self._request,
            "claim": self._claim,
            "advance": self._advance,
        }

    def saw(self, verb: str, args: Sequence[Any], answer: Any, at: datetime) -> None:
        """Look at one answer of the ledger, given at ``at`` by the store's clock, then take it in."""
        self.seen.clock(at)
        if (taker := self._takers.get(verb)) is not None:
            taker(*args, answer, at)

    def began(self, effect: Effect) -> None:
        """Look at a body that begins."""
        for checker in self.checkers:
            self._judge(checker, checker.began(effect))
        self.seen.effects[effect.run_id, effect.token] = effect

    def calm(self, at: datetime, patience: timedelta) -> None:
        """From ``at`` on all is well: lateness beyond ``patience`` breaks I2."""
        for checker in self.checkers:
            if isinstance(checker, NoGap):
                checker.calm(at, patience)

    def look(self, ledger: Store) -> None:
        """Look at the ledger's rows and unfinished runs."""
        now = picture(ledger, full=False)
        for checker in self.checkers:
            self._judge(checker, checker.look(now))

    def rest(self, ledger: Store) -> None:
        """Look at the whole ledger."""
        now = picture(ledger, full=True)
        for checker in self.checkers:
            self._judge(checker, checker.rest(now))

    @staticmethod
    def _judge(checker: Checker, found: Iterable[str]) -> None:
        for sentence in found:
            raise Broken(checker.invariant, checker.claim, sentence)

    def _put(self, edits: Sequence[Edit], answers: Sequence[PutAnswer], at: datetime) -> None:
        for edit, answer in zip(edits, answers, strict=True):
            for checker in self.checkers:
                self._judge(checker, checker.put(edit, answer, at))
            if answer.answer is Answer.ACCEPTED:
                assert answer.schedule is not None
                self.seen.took_edit(edit, answer.schedule.id, at)

    def _hold(self, wanted: Hold | None, edit_id: str, before: Hold | None, at: datetime) -> None:
        self.seen.took_hold(wanted, edit_id)

    def _settle(self, now: datetime, decisions: Sequence[Decision], settled: Settled, at: datetime) -> None:
        for decision, won in zip(decisions, settled.won or (False,) * len(decisions), strict=True):
            if won:
                for checker in self.checkers:
                    self._judge(checker, checker.settled(now, decision, at))
                self.seen.took_decision(decision, at)

    def _request(self, requests: Sequence[Request], answers: Sequence[Answer], at: datetime) -> None:
        for request, answer in zip(requests, answers, strict=True):
            for checker in self.checkers:
                self._judge(checker, checker.requested(request, answer, at))
            if answer is Answer.ACCEPTED:
                self.seen.took_request(request.schedule_id, request.run, at)

    def _claim(self, claim: Claim, claimed: Sequence[Claimed], at: datetime) -> None:
        for each in claimed:
            for checker in self.checkers:
                found = checker.sent(claim, each, at) if claim.sends else checker.claimed(each, at)
                self._judge(checker, found)
            if claim.sends:
                self.seen.took_sent(each)
            else:
                self.seen.took_claim(each)

    def _advance(self, steps: Sequence[AnyTransition], answers: Sequence[Advanced], at: datetime) -> None:
        for step, answer in zip(steps, answers, strict=True):
            for checker in self.checkers:
                self._judge(checker, checker.moved(step, answer, at))
            if accepted(answer):
                self.seen.took_step(step, answer)
