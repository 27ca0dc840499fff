"""What a benchmark says: a figure, what it stands beside, and the bar that it has to reach."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.stores import Store


@dataclass(frozen=True)
class Figure:
    """One measured number. ``bar`` is met when ``value`` is on the side of it that ``at_least`` says.

    ``beside`` tells what the value was divided by or compared with, measured in the same run; ``detail``
    holds the raw medians and settings, so that the ratio can be taken apart again.
    """

    name: str
    value: float
    unit: str
    beside: str
    bar: float | None = None
    at_least: bool = True
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None when there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def as_data(self) -> dict[str, Any]:
        """Return the figure as plain JSON data."""
        return asdict(self) | {"met": self.met}


@dataclass(frozen=True)
class Settings:
    """Where to measure, and how long: ``scale`` 1.0 is the published size, smaller ones are for a look.

    ``place`` is a folder for servers and files of a bench's own.
    """

    store: Store
    place: Path
    scale: float = 1.0
    repeats: int = 5


Bench = Callable[[Settings], Sequence[Figure]]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios pair by pair: what was measured side by side is compared so."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
