"""Who edits, as fast as people never do: python -m chaos.editor ORDERS NAME LIFE

Each thread has schedules of its own, and writes down what it asks for before it asks, and the answer when
it has it. It learns what it may ask for from the answers alone; after one that never came it begins that
schedule anew, by deleting it. A process that is killed leaves an invoke with no answer, and its next life
begins anew.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import msgspec

from chaos.fleet import load as tasks
from chaos.load import defined, drawn
from chaos.node import patiently
from chaos.story import HISTORY
from chaos.world import Orders, real_now
from onebeat import Definition, Onebeat
from onebeat.app.desk import Written
from onebeat.core.errors import Conflict, InvalidInput, NotFound, OnebeatError, Refused
from onebeat.core.model import Run, Schedule, TriggerSpec, run_id
from onebeat.testing.history import Limits, Operation, Writer

THREADS = 8
BEHIND_MAX_S = 0.5
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = 1_000_000
"""Of the numbers of operations each thread of each life has so many to itself."""

SAID_NO = (Conflict, InvalidInput, NotFound, Refused)
"""What the store says when it changes nothing. Any other error is one that nobody knows the end of."""

ACTIONS = {"put": 30, "pause": 15, "resume": 15, "skip": 10, "request": 20, "delete": 10}
"""How often each is asked for where it can be, of a hundred."""


class Pen:
    """Writes down operations of one thread, each with its number."""

    def __init__(self, out: Writer, origin: float, first: int) -> None:
        self._out = out
        self._origin = origin
        self.number = first

    def write(self, **words: Any) -> None:
        self._out.write(Operation(number=self.number, at=real_now(self._origin), **words))

    def next(self) -> int:
        self.number += 1
        return self.number


class Hand:
    """One schedule, and what its editor knows of it: the row as the last answer had it, None for none."""

    def __init__(
        self, beat: Onebeat, name: str, pen: Pen, rng: Random, define: Callable[[TriggerSpec], Definition]
    ) -> None:
        self._beat = beat
        self._define = define
        self._name = name
        self._pen = pen
        self._rng = rng
        self._row: Schedule | None = None
        self._known = False

    def edit(self) -> None:
        """Ask for one thing that can be asked for now."""
        if not self._known:
            self._asked("delete", lambda: self._beat.schedules.delete(self._name))
        elif self._row is None:
            self._put("error")
        else:
            paused = self._row.paused is not None
            can = {
                action: weight for action, weight in ACTIONS.items() if action != ("resume", "pause")[paused]
            }
            (action,) = self._rng.choices(list(can), list(can.values()))
            self._ask(action)

    def _ask(self, action: str) -> None:
        schedules, name = self._beat.schedules, self._name
        match action:
            case "put":
                self._put("replace")
            case "request":
                self._request()
            case "skip":
                self._asked("skip", lambda: schedules.skip_next(name))
            case _:
                self._asked(action, lambda: getattr(schedules, action)(name))

    def _put(self, if_exists: Any) -> None:
        wish = self._define(drawn(self._rng.randrange, ANCHOR))
        self._asked(
            "put",
            lambda: self._beat.schedules.put_all({self._name: wish}, if_exists=if_exists)[0],
            trigger=wish.trigger,
            limits=Limits.of(wish.policy),
        )

    def _request(self) -> None:
        assert self._row is not None
        key = f"op-{self._pen.number + 1}"
        self._asked(
            "request",
            lambda: self._beat.runs.request(self._name, key=key),
            run_id=run_id(self._name, self._row.incarnation, key=key),
        )

    def _asked(self, action: str, ask: Callable[[], Written | Run], **words: Any) -> None:
        self._pen.next()
        said = {"schedule": self._name, "action": action}
        self._pen.write(phase="invoke", **said, **words)
        try:
            answer = ask()
        except SAID_NO as error:
            self._pen.write(phase="fail", **said)
            if isinstance(error, NotFound):
                self._row, self._known = None, True
            return
        except OnebeatError:
            self._pen.write(phase="unknown", **said)
            self._known = False
            return
        if isinstance(answer, Run):
            self._pen.write(phase="ok", run_id=answer.id, **said)
            return
        skips = answer.schedule.skips if action == "skip" else ()
        self._pen.write(phase="ok" if answer.changed else "fail", cut=answer.cut_at, skips=skips, **said)
        self._row, self._known = None if answer.schedule.deleted else answer.schedule, True


class Thread:
    """Edits its schedules one after another, at a pace; what it was kept from doing is not made up for."""

    def __init__(self, hands: list[Hand], rng: Random, pause_s: float, over: threading.Event) -> None:
        self._hands = hands
        self._rng = rng
        self._pause_s = pause_s
        self._over = over
        self.thread = threading.Thread(target=self._go)

    def _go(self) -> None:
        next_s = time.monotonic()
        while True:
            next_s += self._pause_s * self._rng.uniform(0.5, 1.5)
            now_s = time.monotonic()
            next_s = max(next_s, now_s - BEHIND_MAX_S)
            if self._over.wait(max(0.0, next_s - now_s)):
                return
            try:
                self._rng.choice(self._hands).edit()
            except Exception:
                logging.getLogger("chaos").exception("an edit raised what none should raise")
                raise


def main(told: str, name: str, life: str) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.WARNING)
    orders = msgspec.json.decode(told, type=Orders)
    over = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    beat = Onebeat(orders.url, modules=("chaos",), actor=name)
    patiently(beat)
    out = Writer(Path(orders.folder) / HISTORY)
    define = partial(tasks.defined, guarded=orders.guarded) if orders.broker else defined
    threads = []
    for index in range(THREADS):
        rng = Random(f"{orders.seed}/{life}/{index}")
        pen = Pen(out, orders.origin_s, (int(life) * THREADS + index) * NUMBERS)
        hands = [Hand(beat, each, pen, rng, define) for each in orders.edited[index::THREADS]]
        if hands and orders.edits_s:
            threads.append(Thread(hands, rng, THREADS / orders.edits_s, over))
    for thread in threads:
        thread.thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.thread.join()
    if not threads:
        over.wait()
    beat.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
