"""What the demo finds when all is over, as plain records: the ledger's rows, and what was done by hand.

ledger.py fills these from the tables with SQL of its own; verdict.py compares them. Instants are µs since
1970.
"""

from dataclasses import dataclass, field

from onebeat.demo.expect import Expectation


@dataclass(frozen=True)
class Tile:
    """One settled interval (before, after] of a schedule, from a run's row or from an event."""

    schedule: str
    before: int
    after: int
    count: int
    run: str = ""
    fired: bool = False
    reason: str = ""
    occurrence: int | None = None


@dataclass(frozen=True)
class Run:
    """One row of the runs."""

    id: str
    schedule: str
    state: str
    due: int
    created: int
    occurrence: int | None = None
    requested: bool = False
    attempt: int = 1
    token: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Ending:
    """An attempt that ended without ending its run well, from its event."""

    run: str
    attempt: int
    outcome: str
    at: int
    holder: str = ""
    started: bool = True


@dataclass(frozen=True)
class Change:
    """One entry of the trail."""

    schedule: str
    version: int
    action: str
    cut: int


@dataclass(frozen=True)
class Picture:
    """All that the ledger says."""

    tiles: list[Tile] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    refused: int = 0
    marks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Deed:
    """What the demo did to a schedule, and between which two looks at the clock.

    ``expectation`` is what holds from then on; None where it does not change, or ends with a delete.
    """

    schedule: str
    action: str
    since: int
    until: int
    expectation: Expectation | None = None


@dataclass(frozen=True)
class Held:
    """A time in which nothing could fire, held or still starting: what fell due then is late for a reason."""

    since: int
    until: int
