"""What the processes of the seed table do: ``python -m tests.seed.child PLAY PLACE NUMBER …``.

A play says what it has to say in lines of JSON, and waits for lines on its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.seed.cluster import BODY, HOUR, T0, Cluster, Play, every, ledger_at, url_of

from onebeat import Conflict, CurrentRun, Onebeat, interval
from onebeat.core.decide import settle
from onebeat.core.messages import Settled
from onebeat.testing.clock import VirtualClock
from onebeat.testing.faults import Moment


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def wait() -> str:
    return sys.stdin.readline().strip()


def create(place: Path, number: int) -> None:
    """Row 15: put one name, in each of the three ways in which a caller may want it."""
    clock = VirtualClock(T0)
    beat = Onebeat(store=ledger_at(place, clock), clock=clock)
    say("ready")
    wait()
    answers = {}
    for if_exists in ("error", "ignore", "replace"):
        try:
            written = beat.schedules.put(
                if_exists, every(HOUR), BODY, if_exists=if_exists, title=f"of {number}"
            )
        except Conflict:
            answers[if_exists] = "conflict"
        else:
            answers[if_exists] = "written" if written.changed else "unchanged"
    say(answers)
    beat.close()


def race(place: Path, number: int, threads: str) -> None:
    """Row 13: read what is due on several threads, then settle all at one time; say how many each won."""
    now = T0 + timedelta(minutes=1)
    barrier = threading.Barrier(int(threads))

    def settled(_: int) -> Settled:
        store = ledger_at(place, VirtualClock(now))
        decisions = [settle(row, now) for row in store.due(now, 1000).rows]
        if barrier.wait() == 0:
            say("ready")
            wait()
        barrier.wait()
        answer = store.settle(now, decisions)
        store.close()
        return answer

    with ThreadPoolExecutor(int(threads)) as pool:
        say([sum(answer.won) for answer in pool.map(settled, range(int(threads)))])


def die(place: Path, number: int, verb: str, when: str, call: str, at: str) -> None:
    """Row 16: be a whole node, and be killed at a call of the ledger, or inside a body."""
    cluster = Cluster(place, at=datetime.fromisoformat(at))
    node = cluster.node()
    bodies = 0

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hook(moment: Moment) -> None:
        if moment == Moment(verb, when == "after", int(call)):
            killed()

    def body(run: CurrentRun) -> None:
        nonlocal bodies
        bodies += 1
        if verb == "body" and when == "before" and bodies == int(call):
            killed()
        with (place / "effects").open("a") as effects:
            effects.write(f"{run.id} {run.attempt} {run.token}\n")
        if verb == "body" and when == "after" and bodies == int(call):
            killed()

    cluster.plays["body"] = Play(does=body)
    node.hooks.append(hook)
    cluster.run(timedelta(0))
    say("survived")


def held(run: CurrentRun) -> str:
    """Row 25: a body that lasts until somebody sends a line."""
    say(["began", run.id, run.attempt])
    return wait()


def serve(place: Path, number: int, grace: str) -> None:
    """Row 25: be a real node, in real time, until SIGTERM."""
    beat = Onebeat(url_of(place), modules=("tests.seed",))
    in_order = beat.serve(threads=2, grace=timedelta(seconds=float(grace)))
    say(["ended", in_order])


def start(place: Path, number: int, times: str) -> None:
    """Row 80: start nodes that declare what all declare, several at once, as often as it is asked to."""

    def started(_: int) -> int:
        barrier.wait()
        clock = VirtualClock(T0)
        beat = Onebeat(store=ledger_at(place, clock), clock=clock, owner="fleet", revision=3)
        for index in range(5):
            beat.declare(f"declared-{index}", interval(hours=1), BODY)
        beat.service(roles=("dispatcher",))
        count = len(beat.schedules.list())
        beat.close()
        return count

    say("ready")
    while wait() == "go":
        barrier = threading.Barrier(int(times))
        with ThreadPoolExecutor(int(times)) as pool:
            say(list(pool.map(started, range(int(times)))))
        say("ready")


def beats(place: Path, number: int, times: str) -> None:
    """Row 80: start beats of one Celery app, several at once, as often as it is asked to."""
    from celery import Celery

    from onebeat.celery.beat import Beat

    def started(_: int) -> int:
        app = Celery("shop", broker="memory://", set_as_current=False)
        app.conf.update(onebeat_url=url_of(place), onebeat_revision=3, result_expires=None)
        app.conf.beat_schedule = {
            f"declared-{index}": {"task": "shop.note", "schedule": 86_400.0} for index in range(5)
        }
        beat = Beat(app)
        barrier.wait()
        beat.tick()
        assert beat._front is not None
        count = len(beat._front.schedules.list())
        beat.close()
        return count

    say("ready")
    while wait() == "go":
        barrier = threading.Barrier(int(times))
        with ThreadPoolExecutor(int(times)) as pool:
            say(list(pool.map(started, range(int(times)))))
        say("ready")


PLAYS: dict[str, Callable[..., None]] = {
    play.__name__: play for play in (create, race, die, serve, start, beats)
}

if __name__ == "__main__":
    PLAYS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
