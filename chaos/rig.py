"""A run of the rig, from an empty ledger to the evidence: what the faults, the editor and the bodies left.

    put the load ──► nodes, editor ──► the play, for so many minutes ──► calm: everybody well, nobody edits
        ──► pause all: nothing more is owed ──► until no run is unfinished ──► nodes end

What is in the folder afterwards is all that the judge reads.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from chaos import load
from chaos.faults.protocol import Fault
from chaos.opening import opened
from chaos.opinion import opinion
from chaos.place import Node, Place, python
from chaos.play import Play
from chaos.story import AUDIT, EFFECTS, FAULTS, HISTORY, STORY, Story
from chaos.wire import Wire
from chaos.world import Orders, origin_s, real_now
from onebeat import Definition, Onebeat
from onebeat.app.choosing import Acted
from onebeat.app.desk import Written
from onebeat.core.errors import StoreUnavailable
from onebeat.core.messages import RunQuery
from onebeat.core.model import UNFINISHED
from onebeat.testing.history import Effect, Limits, Operation, Writer, read

BATCH = 250
WARM_S = 60.0
"""For the first fault to wait until each node has begun a body: that a fleet begins is none."""
CALM_S = 40.0
"""After the last fault, and before the end of what is owed, in all but short runs."""
REST_S = 600.0
"""How long the slowest recovery may take: longer is a finding."""
END_S = 30.0
LOOK_S = 0.2
UNFINISHED_MAX = 1000
NODES_TOLD_MAX = 8
NODE = re.compile(rb'"node":"([^"]+)"')


class Settings(NamedTuple):
    """What a run is told."""

    store: str
    minutes: float
    seed: int
    folder: Path
    nodes: int = 4
    lease_s: float = 3.0
    size: float = 1.0
    edits_s: float = 100.0
    shared: bool = True
    sabotage: str = ""
    rounds: int | None = None
    broker: str = ""  # of a Celery fleet: then so many beats, and as many workers


class Rig:
    """One run. ``tell`` is called often, with a line for a person.

    It starts a ledger in the folder, or on a server of its own (with a replica where there is one), and the
    nodes and the editor in processes of their own, all in one group, whose guard ends it with the rig. It
    leaves files in the folder, which is all that the judge reads, and neither processes nor a server.

    Ctrl-C ends the warming up and the faults, or the calm after them; the rest is done as always, and
    ``Story.interrupted`` says so. At any other time it ends the run at once, without a Story: what was
    started is ended all the same, and what was written until then can be judged, but is never called right.
    """

    def __init__(self, settings: Settings, faults: Sequence[Fault], tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._faults = [fault for fault in faults if settings.store in fault.stores]
        self._tell = tell
        self._origin = origin_s()
        self._folder = settings.folder.resolve()
        self._effects = Counted(self._folder / EFFECTS)
        self._history = Writer(self._folder / HISTORY)
        self._number = 0
        self._interrupted = False
        self._nap = threading.Event()

    def now(self) -> datetime:
        """Return the observer's instant."""
        return real_now(self._origin)

    def run(self) -> Story:
        """Play it, and return what there is to say of it. An interrupt ends the play and no more."""
        settings, rng, began_at = self._settings, Random(self._settings.seed), self.now()
        with self.opened() as place:
            with self._app(place) as beat:
                self._put(beat, place)
                self.people(place)
            faults = Writer(self._folder / FAULTS)
            play = Play(place, self._faults, rng, write=faults.write, now=self.now)
            with self._interruptible():
                self._warm_up(place)
                play.go(settings.minutes * 60, lambda: self._say(play), settings.rounds)
            play.calm()
            calm_at = self.now()
            assert place.editor is not None
            end(place.editor)
            with self._interruptible():
                self._pass(min(CALM_S, settings.minutes * 15), play)
            with self._app(place) as beat:  # its server may be another one by now
                until = self._pause(beat)
                unfinished = self._rest(beat, play)
                for node in place.nodes:
                    tell_to_end(node)
                for node in place.nodes:
                    see_to_the_end(node)
                facts = beat.store.facts()
                self._tell("asking the ledger")
                asked = opinion(beat, read(self._folder / EFFECTS, Effect))
                (self._folder / AUDIT).write_bytes(pretty(asked))
            story = Story(
                store=settings.store,
                facts=facts,
                minutes=settings.minutes,
                seed=settings.seed,
                settings={
                    name: value
                    for name, value in settings._asdict().items()
                    if name not in ("store", "minutes", "seed", "folder")
                }
                | self.more(place),
                began_at=began_at,
                calm_at=calm_at,
                until=until,
                ended_at=self.now(),
                lives=sum(node.life for node in place.nodes),
                done=dict(sorted(play.done.items())),
                interrupted=self._interrupted,
                unfinished=unfinished,
            )
            (self._folder / STORY).write_bytes(pretty(story))
            return story

    # --- who plays what: of a fleet it is something else ---

    def opened(self) -> AbstractContextManager[Place]:
        """Return a place without nodes."""
        return opened(self._settings.store, self._folder)

    def wanted(self, second: datetime) -> Mapping[str, Definition]:
        """Return the schedules that nobody edits. ``second`` is a whole one, to count from."""
        return dict(load.wanted(self._settings.size, second))

    def people(self, place: Place) -> None:
        """Begin the nodes and the editor, each on a link and with a clock of its own."""
        settings = self._settings
        for index in range(settings.nodes):
            share = (index, settings.nodes) if settings.shared else None
            place.nodes.append(self._seat(place, "chaos.node", f"node-{index}", share=share))
        edited = tuple(load.edited(settings.size))
        place.editor = self._seat(place, "chaos.editor", "editor", edited=edited, edits_s=settings.edits_s)
        for seat in place.seats:
            place.restart_node(seat)

    def more(self, place: Place) -> dict[str, Any]:
        """Return what else there is to say of the run, beside its settings."""
        return {}

    # --- the beginning ---

    @contextmanager
    def _app(self, place: Place) -> Iterator[Onebeat]:
        beat = Onebeat(place.url, modules=("chaos",), actor="rig")
        try:
            yield beat
        finally:
            beat.close()

    def _put(self, beat: Onebeat, place: Place) -> None:
        """Put the load, and write down that it was asked for, and what the answer was."""
        second = beat.store.now().replace(microsecond=0)
        wanted = self.wanted(second)
        names = list(wanted)
        for begin in range(0, len(names), BATCH):
            batch = {name: wanted[name] for name in names[begin : begin + BATCH]}
            numbers = {
                name: self._write(
                    schedule=name,
                    action="put",
                    phase="invoke",
                    trigger=definition.trigger,
                    limits=Limits.of(definition.policy),
                )
                for name, definition in batch.items()
            }
            self._answered(numbers, "put", beat.schedules.put_all(batch))

    def _seat(self, place: Place, module: str, name: str, **more: Any) -> Node:
        wire = place.wired()
        command = python(module, self.orders(place, wire, **more))
        return Node(name, command, self._folder / f"{name}.clock", wire)

    def orders(self, place: Place, wire: Wire | None, **more: Any) -> str:
        """Return what a process is told that reaches the ledger by a link."""
        orders = Orders(
            url=place.url if wire is None else place.at(wire.port),
            folder=str(self._folder),
            origin_s=self._origin,
            lease_s=self._settings.lease_s,
            sabotage=self._settings.sabotage,
            seed=self._settings.seed,
            **more,
        )
        return msgspec.json.encode(orders).decode()

    # --- the end ---

    def _pause(self, beat: Onebeat) -> datetime:
        """Pause all there is; return the instant after which nothing is owed."""
        names = [row.name for row in beat.schedules.find()]
        for begin in range(0, len(names), BATCH):
            batch = names[begin : begin + BATCH]
            numbers = {name: self._write(schedule=name, action="pause", phase="invoke") for name in batch}
            self._answered(numbers, "pause", self._insisted(beat.schedules.where(*batch).pause).written)
        return self.now()

    def _insisted(self, act: Callable[[], Acted]) -> Acted:
        """Do what the ledger is not there for just now as soon as it is: what is owed has to be over."""
        end_s = time.monotonic() + REST_S
        while True:
            try:
                return act()
            except StoreUnavailable:
                if time.monotonic() > end_s:
                    raise
                self._nap.wait(LOOK_S)

    def _rest(self, beat: Onebeat, play: Play) -> int:
        """Wait until no run is unfinished; return how many are when patience is over."""
        end_s = time.monotonic() + REST_S
        query = RunQuery(states=tuple(UNFINISHED), limit=UNFINISHED_MAX)
        while True:
            play.tend(time.monotonic(), editor=False)
            left = len(beat.store.runs(query))
            self._tell(f"{self._effects.began()} began; {left} unfinished")
            if not left or time.monotonic() > end_s:
                return left
            self._nap.wait(LOOK_S)

    # --- what is written and said ---

    def _write(self, *, number: int | None = None, **words: Any) -> int:
        if number is None:
            self._number += 1
            number = self._number
        self._history.write(Operation(number=number, at=self.now(), **words))
        return number

    def _answered(self, numbers: Mapping[str, int], action: str, answers: Iterable[Written]) -> None:
        for answer in answers:
            name = answer.schedule.name
            phase = "ok" if answer.changed else "fail"
            self._write(number=numbers[name], schedule=name, action=action, phase=phase, cut=answer.cut_at)

    def _warm_up(self, place: Place) -> None:
        """Wait until every node has begun a body."""
        end_s = time.monotonic() + WARM_S
        while time.monotonic() < end_s and len(self._effects.nodes()) < len(place.bodies):
            self._tell(f"{self._effects.began()} began")
            self._nap.wait(LOOK_S)

    def _pass(self, seconds: float, play: Play) -> None:
        end_s = time.monotonic() + seconds
        while (left := end_s - time.monotonic()) > 0:
            play.tend(time.monotonic(), editor=False)
            self._tell(f"{self._effects.began()} began")
            self._nap.wait(min(left, LOOK_S))

    def _say(self, play: Play) -> None:
        forces = ", ".join(f"{each.fault.kind} ({each.ending.target})" for each in play.in_force)
        self._tell(f"{self._effects.began()} began, {play.done.total()} faults; in force: {forces or '-'}")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let an interrupt end what is within, and be remembered: what comes after it is done."""
        try:
            yield
        except KeyboardInterrupt:
            self._interrupted = True


class Counted:
    """How many bodies have begun, by the file that they write; it reads what is new each time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._began = 0
        self._nodes: set[bytes] = set()

    def nodes(self) -> set[bytes]:
        """Return who has begun a body."""
        self.began()
        return self._nodes

    def began(self) -> int:
        """Return how many have begun."""
        if self._path.exists():
            with self._path.open("rb") as lines:
                lines.seek(self._at)
                new = lines.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._at += len(whole)
            self._began += whole.count(b'"phase":"began"')
            if len(self._nodes) < NODES_TOLD_MAX:
                self._nodes |= set(NODE.findall(whole))
        return self._began


def end(node: Node) -> None:
    """Tell a process to end, and end it without a word if it does not."""
    tell_to_end(node)
    see_to_the_end(node)


def tell_to_end(node: Node) -> None:
    """Tell a process to end, if there is one."""
    if node.alive:
        node.signalled(signal.SIGCONT)
        node.signalled(signal.SIGTERM)


def see_to_the_end(node: Node) -> None:
    """Wait for a process that was told to end, and end it without a word if it does not."""
    node.ended(END_S)
    node.killed()


def pretty(what: object) -> bytes:
    """Return something as JSON that people may read."""
    return msgspec.json.format(msgspec.json.encode(what))
