"""What must have fired, and what may have: derived from a history of operations, and from nothing else.

A schedule is known as the set of states that it can be in: nobody outside knows at which instant between a
call and its answer a change took effect, or whether one did that was never answered. So the time of a
schedule falls into stretches, each with the states that are possible in it. An occurrence MUST fire if every
one of them has it, and MAY if one of them has it.

    invoke of a change      it may be in force from here on: each state that there was, and what becomes of it
    ok                      it is in force: only what became of them. If the answer names the cut, and that
                            lies within the call, then from the cut on, and not before
    fail                    it is not, and never was
    unknown, or no answer   as between invoke and ok, until the answer of a later change: by then it has taken
                            effect or never will, for a change is made against the version that was read

Whole microseconds since 1970 throughout.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeAlias

from onebeat.testing.history import Limits, Operation
from onebeat.testing.oracle import Oracle
from onebeat.testing.sums import SECOND, micros

FOREVER = 1 << 62


class State(NamedTuple):
    """A schedule that exists. That it does not is None."""

    number: int  # of the operation that put this definition
    paused: bool = False


Possible: TypeAlias = set[tuple[State | None, frozenset[int]]]
"""States, each with the calls under way that it has been through. Those never answered are not counted."""


class Call(NamedTuple):
    """An operation from its invoke to its answer. ``end`` is FOREVER where nobody knows the answer."""

    asked: Operation
    answer: Operation | None
    begin: int
    end: int
    left: int  # when its editor went on: with the answer, or knowing nothing, or by dying
    known: bool  # ok, or fail
    done: bool  # ok

    @property
    def run_id(self) -> str | None:
        """Return the run that a request asked for, where it is known."""
        return (self.answer.run_id if self.answer is not None else None) or self.asked.run_id


class Stretch(NamedTuple):
    """The states that are possible for instants in (low, high]."""

    low: int
    high: int
    states: frozenset[State | None]


class Owed(NamedTuple):
    """What a schedule owed: occurrences. Every one of ``must`` is in ``may``."""

    must: dict[int, Limits]
    may: frozenset[int]
    limits: tuple[Limits, ...]  # all that were ever put
    deleted: tuple[int, ...]  # when deletes were invoked
    cut_outside: tuple[Operation, ...]  # answers whose cut lies outside of their call
    requests: tuple[Call, ...]

    @property
    def max_running(self) -> int | None:
        """Return the largest limit that was ever asked for, None if there was one without."""
        most = [limits.max_running for limits in self.limits]
        return None if None in most else max((limit for limit in most if limit is not None), default=None)


def calls(operations: Iterable[Operation]) -> dict[str, list[Call]]:
    """Return the calls of each schedule, in the order of their invokes."""
    asked: dict[int, Operation] = {}
    answers: dict[int, Operation] = {}
    for operation in operations:
        (asked if operation.phase == "invoke" else answers)[operation.number] = operation
    found: dict[str, list[Call]] = {}
    for number, operation in asked.items():
        answer = answers.get(number)
        phase = "unknown" if answer is None else answer.phase
        begin, known = micros(operation.at), phase in {"ok", "fail"}
        left = begin if answer is None else micros(answer.at)
        call = Call(operation, answer, begin, left if known else FOREVER, left, known, phase == "ok")
        found.setdefault(operation.schedule, []).append(call)
    for each in found.values():
        each.sort(key=lambda call: (call.begin, call.asked.number))
    return found


def owed(schedule: list[Call], oracle: Oracle, until: datetime, clock_error: int = 0) -> Owed:
    """Return what a schedule owed by ``until``, from its calls in the order of their invokes.

    ``clock_error``: how far, in microseconds, the store's clock may be off the observer's.
    """
    changes, outside = _sharpened([call for call in schedule if call.asked.action != "request"], clock_error)
    limits = tuple({call.asked.limits for call in changes if call.asked.limits is not None})
    spread = round(max((each.spread_s for each in limits), default=0.0) * SECOND)
    stretches = list(_stretches(changes, micros(until)))
    must, may = _occurrences(stretches, changes, oracle, spread)
    _late_one_offs(changes, must, may)
    _skipped(changes, oracle, must, may, micros(until))
    return Owed(
        must=must,
        may=frozenset(may),
        limits=limits,
        deleted=tuple(call.begin for call in changes if call.asked.action == "delete"),
        cut_outside=tuple(outside),
        requests=tuple(call for call in schedule if call.asked.action == "request"),
    )


def _sharpened(changes: list[Call], clock_error: int) -> tuple[list[Call], list[Operation]]:
    """Narrow each call whose answer names its cut down to the cut. Beside them: answers that cannot be."""
    sharp, outside = list[Call](), list[Operation]()
    busy = -1  # until when a call before this one may still take effect
    for place, call in enumerate(changes):
        answer = call.answer
        alone = busy <= call.begin and (place + 1 == len(changes) or call.end <= changes[place + 1].begin)
        busy = max(busy, call.left)
        if not call.done or answer is None or answer.cut is None:
            sharp.append(call)
            continue
        cut = micros(answer.cut)
        within = call.begin - clock_error <= cut <= call.end + clock_error
        if not within:
            outside.append(answer)
        sharp.append(call._replace(begin=cut, end=cut) if within and alone else call)
    return sharp, outside


def _stretches(changes: list[Call], until: int) -> Iterator[Stretch]:
    """Go through the stretches of time. A state carries the open calls that it has been through."""
    events = [(call.begin, 1, call) for call in changes]
    events += [(call.end, 2 if call.end == call.begin else 0, call) for call in changes if call.known]
    events.sort(key=lambda event: (event[0], event[1], event[2].asked.number))
    states: Possible = {(None, frozenset())}
    pending: dict[int, Call] = {}
    low = events[0][0] if events else until
    for at, order, call in events:
        if at > until:
            break
        if at > low:
            yield Stretch(low, at, frozenset(state for state, _ in states))
            low = at
        if order == 1:
            pending[call.asked.number] = call
            states = _closed(states, pending)
        elif call.done:
            states = _resolved(states, pending, call)
        else:
            del pending[call.asked.number]
            states = {(state, through) for state, through in states if call.asked.number not in through}
    yield Stretch(low, until, frozenset(state for state, _ in states))


def _closed(states: Possible, pending: dict[int, Call]) -> Possible:
    """Add what becomes of the states if the pending calls take effect, in any order.

    One that its editor had given up before another was invoked cannot take effect after that one.
    """
    found, fresh = set(states), list(states)
    while fresh:
        state, through = fresh.pop()
        for number, call in pending.items():
            if call.known:
                reached = (_after(state, call.asked), through | {number})
            elif any(pending[other].begin >= call.left for other in through):
                continue
            else:
                reached = (_after(state, call.asked), through)
            if number not in through and reached not in found:
                found.add(reached)
                fresh.append(reached)
    return found


def _resolved(states: Possible, pending: dict[int, Call], call: Call) -> Possible:
    """Keep what has been through a call that is done. What was given up before it is over with it."""
    number = call.asked.number
    given_up = [other for other, each in pending.items() if not each.known and each.left <= call.begin]
    for each in (number, *given_up):
        pending.pop(each, None)
    possible = {
        (state, through - {number})
        for state, through in states
        if number in through and (state is not None or call.asked.action == "delete")
    }
    # Where nothing is left the history contradicts itself: then anything that was possible still is.
    return possible or {(state, through - {number}) for state, through in states}


def _after(state: State | None, asked: Operation) -> State | None:
    """Return what an operation makes of a state."""
    match asked.action:
        case "put":
            return State(asked.number, state is not None and state.paused)
        case "delete":
            return None
        case "pause" | "resume" if state is not None:
            return state._replace(paused=asked.action == "pause")
        case _:
            return state


def _occurrences(
    stretches: list[Stretch], changes: list[Call], oracle: Oracle, spread: int
) -> tuple[dict[int, Limits], set[int]]:
    """Return MUST and MAY. An occurrence is due by its offset later, which is in [0, spread] and unknown."""
    triggers = {call.asked.number: call.asked.trigger for call in changes}
    limits = {call.asked.number: call.asked.limits or Limits() for call in changes}
    must, may = dict[int, Limits](), set[int]()
    for low, high, states in stretches:
        firing = [state for state in states if state is not None and not state.paused]
        if not firing:
            continue
        found = [
            oracle.between(trigger, low - spread, high)
            for state in firing
            if (trigger := triggers[state.number]) is not None
        ]
        may.update(*found)
        if len(firing) == len(states):
            for instant in set(found[0]).intersection(*found[1:]):
                must[instant] = _weaker(must.get(instant), *(limits[state.number] for state in firing))
    if spread:
        ends = [stretch.high for stretch in stretches]
        for instant in [each for each in must if not _same(stretches, ends, each, each + spread)]:
            del must[instant]
    return must, may


def _same(stretches: list[Stretch], ends: list[int], low: int, high: int) -> bool:
    """Return whether one set of states is in force from ``low`` to ``high``."""
    if low <= stretches[0].low:
        return False
    first, last = bisect_left(ends, low), min(bisect_left(ends, high), len(ends) - 1)
    return all(stretches[place].states == stretches[first].states for place in range(first, last + 1))


def _weaker(*limits: Limits | None) -> Limits:
    """Return the limits under which the least is promised."""
    given = [each for each in limits if each is not None]
    return min(given, key=strict)


def strict(limits: Limits) -> int:
    """Return what is promised of an occurrence: 0 nothing, 1 a run that stands for it, 2 one of its own."""
    if limits.overlap not in {"allow", "queue_all"} or limits.grace_s is not None:
        return 0
    if limits.start_within_s is not None or limits.catch_up == "skip":
        return 0
    return 2 if limits.catch_up == "all" else 1


def _late_one_offs(changes: list[Call], must: dict[int, Limits], may: set[int]) -> None:
    """Add one-offs that were put when their instant had passed: a new schedule fires such a one at once."""
    for call in changes:
        trigger = call.asked.trigger
        if trigger is not None and trigger.kind == "once" and (call.done or not call.known):
            instant = micros(datetime.fromisoformat(trigger.fields["at"]))
            if instant <= call.end and instant not in must:
                may.add(instant)


def _skipped(changes: list[Call], oracle: Oracle, must: dict[int, Limits], may: set[int], until: int) -> None:
    """Take out what people had skipped: surely, where the answer says which, and came before it was due."""
    ends = sorted(call.end for call in changes if call.done)
    for call in changes:
        if call.asked.action != "skip" or (call.known and not call.done):
            continue
        named = call.answer.skips if call.done and call.answer is not None else ()
        for skip in map(micros, named):
            must.pop(skip, None)
            if skip > call.end and not any(
                other.asked.action == "delete" and other.begin < skip and other.end > call.begin
                for other in changes
            ):
                may.discard(skip)
        if not named:
            later = bisect_left(ends, call.end if call.done else call.begin + 1)
            settled = ends[later] if later < len(ends) else until
            following = min((instant for instant in may if instant > settled), default=settled)
            for instant in [each for each in must if call.begin < each <= following]:
                del must[instant]
