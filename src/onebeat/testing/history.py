"""What is written down outside of a system under test: what was asked of it, what bodies did, what hurt it.

One JSON object a line, and one write for each line, to files that are only ever appended to: so a writer may
be killed at any instant, and many processes may write to one file. Every instant is the observer's real
time, never the clock of a node that is made to err. keyed.py and windows.py judge by these lines alone.
"""

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Generic, Literal, Self, TypeVar

import msgspec

from onebeat.core.model import Overlap, Policy, TriggerSpec


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="line"):
    """What is one line of a file. Its first word says of which kind it is."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As much of a policy as decides what must fire, and how often a body may begin."""

    max_running: int | None = None  # None: any number at once
    overlap: str = "allow"
    queue_max: int = 1000
    catch_up: str = "all"
    catch_up_max: int = 100
    grace_s: float | None = None
    start_within_s: float | None = None
    spread_s: float = 0.0
    attempts: int = 1
    on_lost: str = "retry"

    @classmethod
    def of(cls, policy: Policy) -> Self:
        """Return the limits that a policy sets."""
        within = policy.start_within
        return cls(
            max_running=None if policy.overlap is Overlap.ALLOW else policy.max_running,
            overlap=policy.overlap.value,
            queue_max=policy.queue_max,
            catch_up=policy.catch_up.value,
            catch_up_max=policy.catch_up_max,
            grace_s=None if policy.grace is None else policy.grace.total_seconds(),
            start_within_s=None if within is None else within.total_seconds(),
            spread_s=policy.spread.total_seconds(),
            attempts=policy.attempts,
            on_lost=policy.on_lost.value,
        )


class Operation(Line, frozen=True, kw_only=True, tag="operation"):
    """What an editor asked for, or how that ended: two lines with one number.

    ``invoke`` is written before the call. ``ok``: done. ``fail``: the store said no, and nothing changed.
    ``unknown``: nobody can tell; an invoke with no answer says the same. The ``invoke`` of a ``put`` carries
    the trigger and the limits that are wanted, of a ``request`` the run, if its id is known; an ``ok``
    carries the cut, and of a ``skip`` the instants that will be skipped.
    """

    number: int
    schedule: str
    action: Literal["put", "pause", "resume", "delete", "skip", "request"]
    phase: Literal["invoke", "ok", "fail", "unknown"]
    at: datetime
    trigger: TriggerSpec | None = None
    limits: Limits | None = None
    cut: datetime | None = None
    skips: tuple[datetime, ...] = ()
    run_id: str | None = None


class Effect(Line, frozen=True, kw_only=True, tag="effect"):
    """What was seen of a body.

    ``began`` and ``ended`` are written by the body itself. ``accepted`` and ``refused`` are what a node was
    answered when it reported the body's end: with the state of the run by then. ``counted`` is written by who
    reads a sink at the end: how many effects of this run the sink holds, in ``count``.
    ``mine`` says whether the body held the run for its own, asked right after ``at``.
    A run that stands for several occurrences says so with ``first_at``, ``last_at`` and ``count``.
    """

    phase: Literal["began", "ended", "accepted", "refused", "counted"]
    run_id: str
    schedule: str
    at: datetime
    occurrence_at: datetime | None = None
    attempt: int = 1
    token: int = 0
    node: str = ""
    outcome: str | None = None
    state: str | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None
    count: int = 1
    mine: bool | None = None


class Fault(Line, frozen=True, kw_only=True, tag="fault"):
    """What was done to whom. Written when it begins, and again with its end, by the same number."""

    number: int
    kind: str
    target: str
    began_at: datetime
    ended_at: datetime | None = None
    detail: str = ""


Kind = TypeVar("Kind", Operation, Effect, Fault)


class Writer:
    """Appends lines to a file that others may append to as well."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._encoder = msgspec.json.Encoder()

    def write(self, line: Line) -> None:
        """Append a line, by one write. Raises OSError where the file took only a part of it."""
        raw = self._encoder.encode(line) + b"\n"
        if os.write(self._file, raw) != len(raw):
            raise OSError(f"only a part of a line of {len(raw)} bytes was written: the disk is full")

    def close(self) -> None:
        """Close the file. What was written stays, whether or not anybody closes."""
        os.close(self._file)


class Reading(Generic[Kind]):
    """Goes through the lines of a file, one at a time. ``torn`` counts those that could not be read.

    A writer that dies within a line leaves a part of it, and the next writer's line comes right behind: the
    part is counted, and the line behind it is read.
    """

    def __init__(self, path: Path, kind: type[Kind]) -> None:
        self.torn = 0
        self._path = path
        self._decoder: msgspec.json.Decoder[Kind] = msgspec.json.Decoder(kind)
        self._start = f'{{"line":"{kind.__name__.lower()}"'.encode()

    def __iter__(self) -> Iterator[Kind]:
        self.torn = 0
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            for raw in lines:
                try:
                    yield self._decoder.decode(raw)
                except msgspec.DecodeError:
                    self.torn += 1
                    yield from self._behind(raw)

    def _behind(self, raw: bytes) -> Iterator[Kind]:
        start = raw.rfind(self._start)
        if start > 0:
            try:
                yield self._decoder.decode(raw[start:])
            except msgspec.DecodeError:
                return


def read(path: Path, kind: type[Kind]) -> Reading[Kind]:
    """Return the lines of a file, to go through; a file that is not there has none."""
    return Reading(path, kind)


def faults(lines: Iterable[Fault]) -> list[Fault]:
    """Return each fault once, with its end if it had one, in the order in which they began."""
    latest = {line.number: line for line in lines}
    return sorted(latest.values(), key=lambda fault: (fault.began_at, fault.number))
