"""Tasks that start others, or are replaced: for workers that include this module."""

from __future__ import annotations

from celery import Task, chain, chord
from tests.celery.shop import app, note, say

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
