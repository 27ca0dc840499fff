"""The Redis store: one script for each verb that writes, alone on the server while it runs.

    due ──► settle         settle.lua compares versions, and writes marks, runs and events of the winners
    claim ─► advance       claim.lua leases, advance.lua moves as moves.lua says, and promotes
    put, request, hold     put.lua, request.lua, hold.lua

See docs/design/006-redis.md: where each thing lies, and what a failure at each step leaves.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from msgspec.structs import replace

from onebeat.core.codec import LOG_BYTES_MAX
from onebeat.core.messages import (
    Advanced,
    Answer,
    AnyTransition,
    Claim,
    Claimed,
    Edit,
    Hold,
    Note,
    PutAnswer,
    Release,
    Request,
    Settled,
)
from onebeat.core.model import Decision, Definition, Event, Node, micros
from onebeat.core.ports import CUT_AGE_MAX, Clock
from onebeat.store.handshake import strange
from onebeat.store.moves import DROPPED, REST_DROPPED
from onebeat.store.putting import refuse_twice
from onebeat.store.redis.cells import (
    definition_from,
    edit_cells,
    event_cells,
    flat_of,
    folds,
    instant,
    new_run,
    node_fields,
    node_from,
    run_from,
    schedule_from,
    text_of,
    text_or_none,
    tiles,
)
from onebeat.store.redis.inbox import RedisInbox
from onebeat.store.redis.promise import Kept
from onebeat.store.redis.server import Script, Server, script
from onebeat.store.redis.steps import steps_cells
from onebeat.store.redis.waking import Waking
from onebeat.store.rows import definition_of, hold_of, hold_text, skips_text
from onebeat.store.run_rows import STATES

AT_ONCE = 500
"""How many items one script takes: some milliseconds, in which the server does nothing else."""

BYTES_AT_ONCE = 1_000_000
"""How many bytes of documents one script takes."""

ANSWERS = {answer.value: answer for answer in Answer}
T = TypeVar("T")


class RedisStore(RedisInbox):
    """A Store on a Redis or Valkey server. Thread-safe. Its clock is the server's, or what a test gives."""

    def __init__(self, server: Server, kept: Kept, clock: Clock, *, instead: Clock | None = None) -> None:
        super().__init__(server, kept, instead)
        self._waking = Waking(server, clock if instead is None else instead)
        self._unreadable: set[str] = set()  # definitions that do not decode, as claims met them

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store holds connections: send its URL to the other process, and open it there")

    def _write(self, script: Script, args: Sequence[Any], *, packed: bool = False) -> Any:
        return self._server.run(script, args, self._now(), writes=True, packed=packed)

    def now(self) -> datetime:
        if self._clock is not None:
            return self._clock.now()
        return self._waking.store_clock()

    # --- schedules ---

    def put(self, edits: Sequence[Edit]) -> list[PutAnswer]:
        refuse_twice([edit.after.name for edit in edits])
        answers: list[PutAnswer] = []
        age_max = str(CUT_AGE_MAX // timedelta(microseconds=1))
        cells = ((edit, edit_cells(edit)) for edit in edits)
        for part in _parts(cells, lambda each: sum(map(len, each[1]["definition"]))):
            told, changes = self._write(script("entries", "put"), [[packed for _, packed in part], age_max])
            answers += [_put_answer(edit, *answer) for (edit, _), answer in zip(part, told, strict=True)]
            self._waking.changed(changes)
        return answers

    def hold(self, wanted: Hold | None, edit_id: str) -> Hold | None:
        said = Hold(since_at=datetime.min.replace(tzinfo=UTC)) if wanted is None else wanted
        args = [hold_text(wanted), edit_id, said.actor, said.reason]
        before, changes = self._write(script("hold"), args)
        self._waking.changed(changes)
        return hold_of(before or None)

    # --- settling ---

    def settle(self, now: datetime, decisions: Sequence[Decision]) -> Settled:
        refuse_twice([decision.schedule_id for decision in decisions])
        won: list[bool] = []
        at = now
        # An empty batch, too, is told when it is early, or that a hold is in force.
        for part in list(_parts(decisions, lambda _: 0)) or [[]]:
            cells = [_decision(each) for each in part]
            answer = self._write(script("settle"), [text_of(now), cells])
            match answer:
                case ["early", clock] if not won:
                    return Settled(at=instant(clock), early_by=now - instant(clock))
                case ["held", clock] if not won:
                    return Settled(at=instant(clock), held=True)
                case ["won", clock, told, changes]:
                    at = instant(clock)
                    won += [each == 1 for each in told]
                    self._waking.changed(changes)
                case _:
                    break  # the parts before this one are committed: the rest is lost, and decided again
        return Settled(at=at, won=(*won, *[False] * (len(decisions) - len(won))))

    def request(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer] = []
        for part in _parts(requests, lambda _: 0):
            told, changes = self._write(script("entries", "request"), [[_request(each) for each in part]])
            answers += map(Answer, told)
            self._waking.changed(changes)
        return answers

    # --- runs ---

    def claim(self, claim: Claim) -> list[Claimed]:
        claimed: list[Claimed] = []
        unsent: list[tuple[str, str | None]] = []
        sends_until = text_of(claim.until_max or claim.until) if claim.sends else None
        while True:
            room = min(claim.limit - len(claimed), AT_ONCE)
            args = [claim.holder, claim.queues, claim.targets, room, text_of(claim.until)]
            args += [sorted(self._unreadable), sends_until, unsent]
            runs, cells, _ = self._write(script("moves", "claim"), args, packed=True)
            found, unreadable = self._readable(runs, cells)
            claimed += found
            if not unreadable and (len(runs) < room or len(claimed) >= claim.limit):
                return claimed
            # A run whose definition does not decode goes back to where it was: nobody could run it.
            unsent = [(each.id, text_or_none(each.resend_at)) for each in unreadable if claim.sends]
            leased = [each for each in unreadable if not claim.sends]
            self.advance([Release(run_id=each.id, token=each.token) for each in leased])

    def _readable(self, runs: Sequence[Any], cells: Sequence[Any]) -> tuple[list[Claimed], list[Any]]:
        """Return claims with their definitions, and the runs whose definition does not decode."""
        definitions: dict[str, Definition] = {}
        for name, row in cells:
            definition, wrong = definition_of(tuple(None if cell is False else cell for cell in row))
            if wrong:
                self._unreadable.add(name)
            else:
                definitions[name] = definition
        found, unreadable = [], []
        for run in map(run_from, runs):
            definition_of_run = definitions.get(f"{run.schedule_id}:{run.number}")
            if definition_of_run is None:
                unreadable.append(run)
            else:
                found.append(Claimed(run=run, definition=definition_of_run))
        return found, unreadable

    def advance(self, transitions: Sequence[AnyTransition]) -> list[Advanced]:
        answers: list[Advanced] = []
        for part in _parts(transitions, lambda _: 0):
            told, changes = self._write(script("moves", "advance"), [steps_cells(part)], packed=True)
            *columns, taken = told
            answers += map(_advanced, *columns)
            for place, run in enumerate(taken, len(answers) - len(part)):
                if run:
                    answers[place] = replace(answers[place], run=run_from(run))
            self._waking.changed(changes)
        return answers

    def note(self, notes: Sequence[Note]) -> list[bool]:
        kept: list[bool] = []
        for part in _parts(notes, lambda note: sum(len(line.text) for line in note.lines)):
            args = [[_note(note) for note in part], LOG_BYTES_MAX, DROPPED, REST_DROPPED]
            kept += [told == 1 for told in self._write(script("note"), args)]
        return kept

    # --- the rest ---

    def announce(self, node: Node) -> list[str]:
        args = [node.id, text_of(node.seen_at), node_fields(node)]
        return strange(node, map(node_from, self._write(script("announce"), args)))

    def record(self, events: Sequence[Event]) -> None:
        for part in _parts(events, lambda _: 0):
            self._waking.changed(self._write(script("record"), [[event_cells(event) for event in part]]))

    def cursor(self, name: str, to: int | None = None) -> int:
        return int(self._write(script("cursor"), [name, None if to is None else str(to)]))

    def wait(self, until: datetime | None) -> bool:
        return self._waking.wait(until)

    def wake(self) -> None:
        self._waking.wake()

    def close(self) -> None:
        self._waking.close()
        self._server.close()


def _parts(items: "Iterator[T] | Sequence[T]", weight: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in parts that one script takes; an item that is too heavy goes alone."""
    part: list[T] = []
    weighs = 0
    for item in items:
        more = weight(item)
        if part and (len(part) == AT_ONCE or weighs + more > BYTES_AT_ONCE):
            yield part
            part, weighs = [], 0
        part.append(item)
        weighs += more
    if part:
        yield part


def _put_answer(edit: Edit, answer: str, said: Any, kept: Any = None) -> PutAnswer:
    if answer == "accepted":
        definition = definition_from(kept)[0] if kept else edit.after.definition
        after = replace(edit.after, id=int(said), definition=definition)
        return PutAnswer(answer=Answer.ACCEPTED, schedule=after, cut_at=edit.cut_at)
    row = schedule_from(said)[0] if said else None
    if answer == "repeated" and row is not None:
        return PutAnswer(answer=Answer.REPEATED, schedule=row, cut_at=row.cut_at)
    return PutAnswer(answer=Answer.STALE, schedule=row)


def _decision(decision: Decision) -> list[Any]:
    return [
        str(decision.schedule_id),
        str(decision.version),
        text_of(decision.settled_until),
        text_or_none(decision.next_at),
        None if decision.skips is None else skips_text(decision.skips) or "",
        decision.cancel_older,
        tiles(decision.settlements),
        folds(decision.settlements),
    ]


def _request(request: Request) -> list[Any]:
    said = flat_of(
        kind="run.requested",
        run_id=request.run.id,
        actor=request.actor or None,
        reason=request.reason or None,
    )
    return [
        str(request.schedule_id),
        str(request.expected_version),
        new_run(request.run),
        said,
        request.entry_id,
    ]


@lru_cache(maxsize=256)
def _advanced(answer: str, state: str, token: str, flagged: str) -> Advanced:
    return Advanced(
        answer=ANSWERS[answer],
        state=STATES[state] if state else None,
        token=int(token),
        cancel_requested=bool(flagged),
    )


def _note(note: Note) -> list[Any]:
    done, total = (None, None) if note.progress is None else map(str, note.progress)
    lines = [
        [len(line.text.encode()), str(micros(line.at)), str(line.attempt), line.level, line.text]
        for line in note.lines
    ]
    return [note.run_id, str(note.token), done, total, lines]
