"""What worlds came to: one by one, and all together."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from onebeat.testing.sim_draw import KINDS, MILD, Plan


class Survived(NamedTuple):
    """What one seed went through, and what it found: None, or the sentence that says what broke.

    ``broke_at_s`` is how far into the world it ended, ``until_s`` how long its safety phase was to be.
    ``node_hours`` is how long its dispatchers and workers lived, ``took_s`` what that took of one core.
    """

    seed: int
    plan: Plan
    settled: int
    faults: Counter[str]
    calls: int
    broken: str | None
    broke_at_s: float
    until_s: float
    nodes: tuple[str, ...]
    calm: bool
    node_hours: float
    took_s: float

    @property
    def way(self) -> str:
        """Return in which way it broke: by which invariant, or on what."""
        return re.split(r" \(|:", self.broken or "")[0]

    def replay(self, store: str) -> str:
        """Return the line that repeats it."""
        line = f"replay: onebeat-sim --first-seed {self.seed} --seeds 1 --store {store} --shrink 0"
        if self.plan.without:
            line += f" --without {shlex.quote(','.join(sorted(self.plan.without)))}"
        if self.plan.until is not None:
            line += f" --until {self.plan.until:g}"
        return line


def _throughput(done: Sequence[Survived]) -> list[str]:
    """Return how much was simulated, and how much of it in a minute of one core."""
    took_s = max(sum(each.took_s for each in done), 1e-9)
    hours = sum(each.node_hours for each in done)
    calm = [each for each in done if each.calm]
    calm_hours, calm_s = sum(each.node_hours for each in calm), sum(each.took_s for each in calm)
    return [
        f"{hours:.1f} node-hours, {calm_hours:.1f} of them in {len(calm)} calm worlds",
        f"{60 * hours / took_s:.0f} node-hours a minute of one core "
        f"(dense worlds {60 * (hours - calm_hours) / max(took_s - calm_s, 1e-9):.0f}, "
        f"calm ones {60 * calm_hours / max(calm_s, 1e-9):.0f}), "
        f"{sum(each.calls for each in done) / took_s:.0f} calls a second",
    ]


def summary(done: Sequence[Survived]) -> str:
    """Return what many seeds came to, the faults by kind among it."""
    faults: Counter[str] = Counter()
    for each in done:
        faults.update(each.faults)
    hard = [sum(count for kind, count in each.faults.items() if kind not in MILD) for each in done]
    failed = [each.seed for each in done if each.broken is not None]
    if not done:
        return "no seeds"
    lines = [
        f"{len(done)} seeds, {sum(each.settled for each in done)} occurrences settled, "
        f"{sum(each.calls for each in done)} calls of the ledger",
        *_throughput(done),
        f"median seed: {median(each.settled for each in done):.0f} occurrences settled under "
        f"{median(hard):.0f} faults",
        *(f"  {kind:24}{faults[kind]:>10}" for kind in KINDS),
        f"violations: {len(failed)}" + (f" (seeds {', '.join(map(str, failed[:20]))})" if failed else ""),
    ]
    return "\n".join(lines)
