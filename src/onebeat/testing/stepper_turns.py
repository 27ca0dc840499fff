"""Threads of which one moves at a time, from one statement of its database to the next.

    stopped ──(its turn)──► moving ──► stopped before the next statement, or done
                              │ the server says: it waits for a lock
                              ▼
                           waiting ──(the lock is free, its statement ended)──► stopped

Whoever waits for a lock loses its turn, and so whoever holds the lock can go on. The server is asked who
waits: nothing here is guessed from how long a statement takes. As nobody else moves meanwhile, the same
choices lead to the same course of things.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Protocol, TypeVar

from onebeat.testing.sim_draw import Draw

T = TypeVar("T")

LOOK_S = 0.002
"""After how long the server is asked about a statement that has not ended: most end in less."""

GIVE_UP_S = 30.0
"""Longer than any lock is waited for: whoever has not come to a stop by then never will."""


class State(Enum):
    """Where a thread is."""

    STOPPED = "stopped"
    MOVING = "moving"
    WAITING = "waiting"
    DONE = "done"


class Over(BaseException):
    """The play is over: somebody failed, and all others unwind."""


class Actor:
    """One thread, and the statement that it is at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.MOVING
        self.backend = 0
        self.what = ""
        self.has_turn = False
        self.go = threading.Event()


class Chooser(Protocol):
    """Says who moves next."""

    def __call__(self, stopped: Sequence[str]) -> str:
        """Return one of those who may."""


class Evenly:
    """Anybody, with the same chance."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def __call__(self, stopped: Sequence[str]) -> str:
        """Return one of those who may."""
        return self._draw.one(stopped)


class ByRank:
    """The highest in rank, which falls to the lowest at a few moments drawn beforehand.

    What needs only few changes of turn, each at one certain moment, is found far sooner than by moving
    evenly: the insight of probabilistic concurrency testing.
    """

    def __init__(self, draw: Draw, names: Sequence[str], falls: int, about: int) -> None:
        left = list(names)
        self._rank: list[str] = [left.pop(int(draw.chance() * len(left))) for _ in names]
        self._falls = {1 + int(draw.chance() * about) for _ in range(falls)}
        self._step = 0

    def __call__(self, stopped: Sequence[str]) -> str:
        """Return the first in rank of those who may."""
        chosen = next(name for name in self._rank if name in stopped)
        if self._step in self._falls:
            self._rank.remove(chosen)
            self._rank.append(chosen)
            chosen = next(name for name in self._rank if name in stopped)
        self._step += 1
        return chosen


class Turns:
    """Gives turns to the threads of one play after the other.

    ``waits`` says which of some backends wait for a lock. ``waited`` is told who does, and at what statement;
    it may raise, and the play is over. ``tell`` hears of every step.
    """

    def __init__(
        self,
        waits: Callable[[Collection[int]], set[int]],
        waited: Callable[[str, str], None],
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._waits = waits
        self._waited = waited
        self._tell = tell
        self._changed = threading.Condition()
        self._here = threading.local()
        self._actors: list[Actor] = []
        self._failure: BaseException | None = None
        self.steps = 0
        self.lock_waits = 0

    # --- what a thread does ---

    def step(self, backend: int, what: str, run: Callable[[], T]) -> T:
        """Stop before a statement; make it when the turn comes. Outside of a play, make it at once."""
        actor: Actor | None = getattr(self._here, "actor", None)
        if actor is None:
            return run()
        actor.backend, actor.what = backend, " ".join(what.split())
        self._stop(actor)
        if self._failure is not None and what != "ROLLBACK":
            raise Over
        self._say(f"{actor.name}: {actor.what[:100]}")
        try:
            return run()
        finally:
            with self._changed:
                lost = not actor.has_turn
            if lost:
                self._stop(actor)

    def _stop(self, actor: Actor) -> None:
        with self._changed:
            actor.state, actor.has_turn = State.STOPPED, False
            self._changed.notify_all()
        actor.go.wait()
        actor.go.clear()

    def _act(self, actor: Actor, act: Callable[[], None]) -> None:
        self._here.actor = actor
        try:
            self._stop(actor)
            if self._failure is None:
                act()
        except Over:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by play
            self._fail(error)
        finally:
            with self._changed:
                actor.state = State.DONE
                self._changed.notify_all()

    # --- what gives the turns ---

    def play(self, acts: Mapping[str, Callable[[], None]], choose: Chooser) -> None:
        """Let all act to their ends, each in a thread of its own. Raises what the first to fail raised."""
        self._actors = [Actor(name) for name in acts]
        self._failure = None
        threads = [
            threading.Thread(target=self._act, args=(actor, act), name=actor.name, daemon=True)
            for actor, act in zip(self._actors, acts.values(), strict=True)
        ]
        for thread in threads:
            thread.start()
        by_name = {actor.name: actor for actor in self._actors}
        while stopped := self._stopped():
            actor = by_name[choose([each.name for each in stopped])]
            self.steps += 1
            actor.state, actor.has_turn = State.MOVING, True
            actor.go.set()
        for thread in threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _stopped(self) -> list[Actor]:
        """Wait until nobody moves; return those who may, none when all are done."""
        sure = False  # that whoever waits for a lock still does
        for _ in range(int(GIVE_UP_S / LOOK_S)):
            with self._changed:
                if sure:
                    self._changed.wait(LOOK_S)  # all wait for each other: the server will end one of them
                self._changed.wait_for(lambda: not self._those(State.MOVING), LOOK_S)
                moving, waiting = self._those(State.MOVING), self._those(State.WAITING)
                stopped = self._those(State.STOPPED)
            if not moving and (not waiting or (sure and stopped)):
                return stopped
            locked = self._waits({actor.backend for actor in moving + waiting})
            held = [actor for actor in moving if actor.backend in locked]
            freed = [actor for actor in waiting if actor.backend not in locked]
            self._set_waiting(held)
            with self._changed:
                for actor in freed:
                    if actor.state is State.WAITING:
                        actor.state = State.MOVING
            sure = not moving and not freed
        where = ", ".join(f"{actor.name} is {actor.state.value}" for actor in self._actors)
        raise RuntimeError(f"nobody comes to a stop: {where}")

    def _set_waiting(self, held: Sequence[Actor]) -> None:
        for actor in held:
            with self._changed:
                waits = actor.state is State.MOVING
                if waits:
                    actor.state, actor.has_turn = State.WAITING, False
            if waits:
                self.lock_waits += 1
                self._say(f"{actor.name}: … waits for a lock")
                try:
                    self._waited(actor.name, actor.what)
                except BaseException as error:  # noqa: BLE001 - raised again by play, when all have unwound
                    self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error

    def _those(self, state: State) -> list[Actor]:
        return [actor for actor in self._actors if actor.state is state]

    def _say(self, what: str) -> None:
        if self._tell is not None:
            self._tell(what)
