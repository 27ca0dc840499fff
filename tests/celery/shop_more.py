"""Tasks that start others, or are replaced: for workers that include this module."""

from __future__ import annotations

from celery import Task, chain, chord
from celery.exceptions import SoftTimeLimitExceeded
from tests.celery.shop import app, note, outside, say, wait

from onebeat import current


@app.task(name="shop.starts", bind=True)
def starts(self: Task, how: str) -> None:
    """Start other tasks, in one of the ways in which people do; the last of them says ``child``."""
    say("starts")
    child = note.si("child")
    match how:
        case "delay":
            note.delay("child")
        case "headers":
            starts.apply_async(["delay"], headers=self.request.headers)
        case "chain":
            chain(note.si("first"), child).delay()
        case "chord":
            chord([note.si("one"), note.si("two")])(child)
        case "replace":
            raise self.replace(child)
        case "replace by a chain":
            raise self.replace(chain(note.si("first"), child))
        case "replace by itself":
            raise self.replace(self.si("delay").set(headers=self.request.headers))


@app.task(name="shop.name")
def name() -> None:
    """Say which run this is."""
    run = current()
    assert run is not None
    say(run.id)


@app.task(name="shop.speaks")
def speaks() -> None:
    """Say how far it is, wait, and say it again."""
    run = current()
    assert run is not None
    run.progress(1, 2)
    run.log.info("half-way")
    say(run.id)
    wait()
    run.progress(2, 2)
    run.log.info("there")


@app.task(name="shop.stubborn")
def stubborn() -> None:
    """Take no notice of a soft time limit."""
    try:
        say("stubborn")
        wait()
    except SoftTimeLimitExceeded:
        say("went on")
        wait()


@app.task(name="shop.spans")
def spans() -> None:
    """Say when it begins and when it ends: let go of, or told to stop."""
    run = current()
    assert run is not None
    say("begin")
    while run.still_mine() and outside.blpop(["release"], timeout=1) is None:
        pass
    say("end")
