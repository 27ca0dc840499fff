"""The one JSON of a run: what was done, what was seen, and what is to be said of it. Small, for it is kept.

Seconds count from the run's beginning; latenesses are in milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

import msgspec

PER_DECADE = 8
EDGES_MS = tuple(round(10 ** (step / PER_DECADE), 3) for step in range(-8, 6 * PER_DECADE + 1))
"""Upper edges of the histogram's buckets: 0.1 ms to 1,000 s. One more bucket holds what is beyond."""
FINDINGS_MAX = 100


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a result."""


class Spread(Shown, frozen=True, kw_only=True):
    """How late occurrences began: percentiles, and how many fell into each bucket of EDGES_MS."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0
    histogram: list[int] = []

    @classmethod
    def of(cls, late_ms: Iterable[float]) -> Spread:
        """Return the spread of some latenesses."""
        ordered = sorted(late_ms)
        histogram = [0] * (len(EDGES_MS) + 1)
        for late in ordered:
            histogram[bisect_left(EDGES_MS, late)] += 1
        return cls(
            count=len(ordered),
            p50=part(ordered, 0.5),
            p90=part(ordered, 0.9),
            p99=part(ordered, 0.99),
            p999=part(ordered, 0.999),
            max=part(ordered, 1.0),
            histogram=histogram if ordered else [],
        )


def part(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of all is not above; 0 of nothing."""
    return round(ordered[max(0, ceil(share * len(ordered)) - 1)], 1) if ordered else 0.0


class FaultKind(Shown, frozen=True, kw_only=True):
    """How often a kind of fault was done, and for how long in all."""

    count: int
    seconds: float


class FaultSpan(Shown, frozen=True, kw_only=True):
    """One fault: until when is None where it was never ended."""

    kind: str
    target: str
    from_s: float
    until_s: float | None


class Lane(Shown, frozen=True, kw_only=True):
    """One life of a node: ``began`` counts its bodies, second by second from the second of ``from_s`` on."""

    node: str
    from_s: float
    until_s: float
    began: list[int]


def seat_of(life: str) -> str:
    """Return the name of the node whose life this is: what stands before the last point."""
    return life.rpartition(".")[0] or life


class Said(Shown, frozen=True, kw_only=True):
    """A finding, in words."""

    kind: str
    schedule: str
    at_s: float
    words: str


class Result(Shown, frozen=True, kw_only=True):
    """What there is to know of a run.

    ``counts`` are those of onebeat.testing.keyed with the findings: missed, doubled, early, phantom,
    overlap_exceeded, and other_findings, of which ``found`` has the kinds. ``lateness_calm`` is of
    occurrences with no fault in force when they were due nor in the ten seconds before, and not before all
    nodes had served for so long.
    ``lateness_max_ms_each_second`` goes by the second in which an occurrence was due, ``began_each_second``
    by that in which a body began. ``audit`` is what the ledger says of itself, if it was asked.
    """

    title: str
    store: str
    server: str
    right: bool
    began_at: datetime
    seconds: float
    minutes: float
    seed: int | None
    command: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    counts: dict[str, int]
    found: dict[str, int] = {}
    faults: dict[str, FaultKind] = {}
    fault_list: list[FaultSpan] = []
    edges_ms: tuple[float, ...] = EDGES_MS
    lateness_all: Spread = Spread()
    lateness_calm: Spread = Spread()
    began_each_second: list[int] = []
    lateness_max_ms_each_second: list[float] = []
    lanes: list[Lane] = []
    findings: list[Said] = []
    audit: dict[str, Any] | None = None


def write(result: Result, path: Path) -> None:
    """Write a result, with a line for each field, so that two of them can be compared by eye."""
    fields = msgspec.to_builtins(result)
    lines = [f"{quoted(name)}: {msgspec.json.encode(value).decode()}" for name, value in fields.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def quoted(name: str) -> str:
    """Return a text as JSON has it."""
    return msgspec.json.encode(name).decode()


def read(path: Path) -> Result:
    """Return a result that was written: of a run of the rig, or of a peer (chaos/peers)."""
    raw = path.read_bytes()
    fields = msgspec.json.decode(raw)
    return of_peer(fields) if "product" in fields else msgspec.json.decode(raw, type=Result)


def of_peer(fields: dict[str, Any]) -> Result:
    """Return the result of a peer in the shape of ours; what a peer is not asked for stays away."""
    late, counts = fields["lateness_ms"], dict(fields["counts"])
    series = fields.get("fired_each_second", [])
    findings = sum(counts.get(name, 0) for name in ("missed", "doubled", "phantom"))
    calm = "" if fields.get("seed") is not None else " --calm"
    return Result(
        title=fields["product"],
        store=fields["name"],
        server=packages if isinstance(packages := fields.get("packages", ""), str) else ", ".join(packages),
        right=not findings,
        began_at=datetime.fromisoformat(fields.get("began_at", "1970-01-01T00:00:00Z")),
        seconds=float(len(series) or fields["minutes"] * 60),
        minutes=fields["minutes"],
        seed=fields.get("seed"),
        command=f"python -m chaos peers {fields['name']} --minutes {fields['minutes']:g}{calm} --out FOLDER",
        settings={"settings": fields.get("settings"), "bound_s": fields.get("bound_s")},
        machine=fields.get("machine", {}),
        counts=counts | {"must": counts.get("owed", 0)},
        faults={kind: FaultKind(**each) for kind, each in fields.get("faults", {}).items()},
        fault_list=[FaultSpan(**each) for each in fields.get("fault_list", [])],
        lateness_all=Spread(
            count=counts.get("fired", 0),
            **{name: late[name] for name in ("p50", "p90", "p99", "p999", "max") if name in late},
        ),
        began_each_second=series,
    )
