"""Counters and histograms of this process, and their text for Prometheus. No library is needed for either.

``TABLE`` is the whole list; docs/reference/metrics.md shows it, and a test holds the two together. What the
ledger can count (runs by state, schedules paused) is asked from the Reader instead, where it is true for all
nodes and not for one.
"""

import threading
from bisect import bisect_left
from typing import Literal, NamedTuple, TypeAlias

SCHEDULES_MAX = 1000
"""Schedules that get a histogram of their own; the later ones share one, so that memory has a bound."""

OTHERS = "(others)"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)

Labels: TypeAlias = tuple[str, ...]


class Metric(NamedTuple):
    """One row of the table: its kind, the names of its labels, and what it tells."""

    kind: Literal["counter", "histogram"]
    labels: Labels
    help: str


TABLE: dict[str, Metric] = {
    "onebeat_occurrences_settled_total": Metric(
        "counter", ("fate", "reason"), "Occurrences settled by this node: fired, folded or skipped, and why."
    ),
    "onebeat_decisions_stale_total": Metric(
        "counter", (), "Decisions that another node's commit, or an edit, came before. Harmless."
    ),
    "onebeat_lateness_seconds": Metric(
        "histogram",
        ("schedule",),
        "From the instant at which an occurrence was due to the commit that fired it.",
    ),
    "onebeat_attempts_total": Metric(
        "counter", ("outcome",), "Attempts that ended on this node, by outcome."
    ),
    "onebeat_run_seconds": Metric(
        "histogram", ("schedule",), "From the start of an attempt's body to its report, on this node."
    ),
    "onebeat_results_refused_total": Metric(
        "counter", (), "Results that came after the lease had passed to another attempt."
    ),
    "onebeat_takeovers_total": Metric("counter", (), "Attempts of other holders that this node found lost."),
    "onebeat_quarantined_total": Metric("counter", (), "Schedules that this node set aside as undecidable."),
    "onebeat_parked_total": Metric(
        "counter", (), "Runs that this node parked: no live node knows their target."
    ),
    "onebeat_alerts_total": Metric(
        "counter", ("schedule",), "Runs unfinished past their schedule's alert_after."
    ),
    "onebeat_inbox_entries_total": Metric(
        "counter", ("answer",), "Entries of the inbox that this node answered: accepted or refused."
    ),
    "onebeat_sent_total": Metric(
        "counter", ("kind",), "Messages that a broker took from this node, by kind of target."
    ),
    "onebeat_sent_seconds": Metric(
        "histogram",
        ("schedule",),
        "From the instant at which a run, or its next attempt, was due until a broker took its message.",
    ),
    "onebeat_send_failures_total": Metric(
        "counter",
        ("kind",),
        "Batches of messages for which a broker did not answer, and messages that were not taken.",
    ),
    "onebeat_unfenced_total": Metric(
        "counter", (), "Bodies that this Celery worker ran without a lease, for the ledger did not answer."
    ),
    "onebeat_step_failures_total": Metric("counter", ("step",), "Steps of the engine that raised."),
}


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0


class Metrics:
    """What happened in this process since it began. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[str, _Histogram]] = {}

    def count(self, name: str, *labels: str, amount: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            series = self._counters.setdefault(name, {})
            key = labels if labels in series or len(series) < SCHEDULES_MAX else (OTHERS,) * len(labels)
            series[key] = series.get(key, 0) + amount

    def observe(self, name: str, schedule: str, seconds: float) -> None:
        """Put one duration into the histogram of a schedule."""
        with self._lock:
            series = self._histograms.setdefault(name, {})
            histogram = series.get(schedule)
            if histogram is None:
                key = schedule if len(series) < SCHEDULES_MAX else OTHERS
                histogram = series.setdefault(key, _Histogram())
            histogram.counts[bisect_left(SECONDS, seconds)] += 1
            histogram.total += seconds

    def value(self, name: str, *labels: str) -> int:
        """Return a counter; of a histogram, how many durations it holds."""
        with self._lock:
            if TABLE[name].kind == "counter":
                return self._counters.get(name, {}).get(labels, 0)
            histogram = self._histograms.get(name, {}).get(labels[0])
            return 0 if histogram is None else sum(histogram.counts)

    def text(self) -> str:
        """Return everything in Prometheus' text format, version 0.0.4."""
        lines: list[str] = []
        with self._lock:
            for name, metric in TABLE.items():
                lines += (f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}")
                if metric.kind == "counter":
                    series = self._counters.get(name, {} if metric.labels else {(): 0})
                    lines += [f"{name}{_labels(metric, key)} {n}" for key, n in sorted(series.items())]
                else:
                    for schedule, histogram in sorted(self._histograms.get(name, {}).items()):
                        lines += _histogram_lines(name, metric, schedule, histogram)
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, metric: Metric, schedule: str, histogram: _Histogram) -> list[str]:
    lines, so_far = [], 0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), histogram.counts, strict=True):
        so_far += count
        lines.append(f"{name}_bucket{_labels(metric, (schedule,), le=bound)} {so_far}")
    labels = _labels(metric, (schedule,))
    return [*lines, f"{name}_sum{labels} {histogram.total:.6f}", f"{name}_count{labels} {so_far}"]


def _labels(metric: Metric, values: Labels, le: str | None = None) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, values, strict=True)]
    if le is not None:
        pairs.append(f'le="{le}"')
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
