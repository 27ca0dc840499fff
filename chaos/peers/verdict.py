"""What is owed of each schedule, and the numbers of one product.

Where "every two seconds" means the even ones, what is due is the grid. Where it means two seconds after the
last time, what is due follows from what was sent: one period after each sending; and where the next sending
is two periods away or more, at every period between. A sending less than ``SAME`` periods after another is
of the same due instant. Beats stamp no occurrence on a message, so the instant of the sending is written on
it by a hook of ours, and only messages whose body ran count.

The matching is `onebeat.testing.windows`. Where in doubt it favours who is judged: a surplus firing makes
good for any due instant of the last ``BOUND`` that has none. Lateness is counted to the latest due instant
that is still without a firing, not the earliest: else one that was never made good would make all later ones
late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil, floor
from typing import Any, NamedTuple

from chaos.peers.play import Done, Played
from onebeat.testing.windows import matched

BOUND = timedelta(seconds=30)
SAME = 0.6
"""More than a half, so that two beats that share a period and drift are never taken for one of half of it."""

NONE = Done("no fault", "", 0.0, 0.0)
BEFORE_S = 5.0
"""How long before the begin what falls due is looked at, so that what comes late of it is no double."""

AFTER_S = 0.9
"""How long after the end a firing is still of the play: nothing falls due until a second after it."""


class Line(NamedTuple):
    """A body that ran, as it wrote it down. ``sent`` is when its message was sent, None if it had none."""

    schedule: str
    at: float
    sent: float | None
    pid: int


def read(lines: Iterable[str]) -> list[Line]:
    """Return what bodies wrote; a last line that was torn is left out."""
    found = []
    for line in lines:
        words = line.split()
        if len(words) == 4:
            name, at, sent, pid = words
            found.append(Line(name, float(at), None if sent == "-" else float(sent), int(pid)))
    return found


def on_grid(period: int, begin: float, end: float) -> list[float]:
    """Return what is due after ``begin`` and until ``end`` where every multiple of the period is."""
    return [float(at) for at in range((floor(begin / period) + 1) * period, floor(end) + 1, period)]


def after_each(period: int, sent: Sequence[float], end: float) -> list[float]:
    """Return what is due from the first sending until ``end`` where it is one period after the last.

    ``sent`` is in order.
    """
    due = [sent[0]]
    last = sent[0]
    for at in sent[1:]:
        gap = at - last
        if gap < SAME * period:
            continue
        steps = floor(gap / period) if gap >= 2 * period else 1
        due += [min(last + step * period, at) for step in range(1, steps + 1)]
        last = at
    due += [last + step * period for step in range(1, floor((end - last) / period))]
    return [at for at in due if at <= end]


class Count(NamedTuple):
    """One schedule's numbers."""

    owed: int
    fired: int
    missed: int
    doubled: int
    phantom: int
    served: Served
    silence_s: float  # the longest, beyond the period


def counted(period: int, lines: list[Line], played: Played, *, anchored: bool) -> Count:
    """Return the numbers of one schedule. ``lines`` are its own, in order of their instants."""
    begin, end = played.begin, played.end
    if anchored:
        since = begin
        due = on_grid(period, begin - BEFORE_S, end)
        fired = [line.at for line in lines if due[0] <= line.at <= end + AFTER_S]
    else:
        sent = sorted(line.sent for line in lines if line.sent is not None and line.sent <= end)
        first = max((at for at in sent if at <= begin), default=sent[0])
        since = first - 1e-6
        due = after_each(period, [at for at in sent if at >= first], end)
        fired = [line.at for line in lines if line.sent is not None and first <= line.sent <= end]
    result = matched([_instant(at) for at in due], [_instant(at) for at in fired], BOUND)
    seen = [begin, *sorted(at for at in fired if begin < at <= end), end]
    owed = sum(at > since for at in due)
    missed = sum(at > _instant(since) for at in result.missed)
    doubled = sum(at > _instant(since) for at in result.doubled)
    phantom = sum(at > _instant(since) for at in result.phantom)
    return Count(
        owed,
        owed - missed + doubled + phantom,
        missed,
        doubled,
        phantom,
        served(due, fired, since),
        max(later - at for at, later in pairwise(seen)) - period,
    )


class Served(NamedTuple):
    """Each firing taken for the latest due instant before it that had none: how late, and who got none."""

    lateness_s: list[float]
    without: list[float]


def served(due: Sequence[float], fired: Iterable[float], since: float = 0.0) -> Served:
    """Return how late each firing is by that, and which due instants are left. Those ``since`` then count."""
    late, waiting, ahead = [], [], list(reversed(due))
    for at in sorted(fired):
        while ahead and ahead[-1] <= at:
            waiting.append(ahead.pop())
        if waiting and at - waiting[-1] <= BOUND.total_seconds():
            last = waiting.pop()
            if last > since:
                late.append(at - last)
    return Served(late, sorted(at for at in [*waiting, *ahead] if at > since))


def judged(played: Played, schedules: Mapping[str, int], *, anchored: bool) -> dict[str, Any]:
    """Return the verdict on one play: counts, lateness, silence, exits, faults."""
    of: dict[str, list[Line]] = {name: [] for name in schedules}
    for line in sorted(read(played.lines), key=lambda line: line.at):
        of[line.schedule].append(line)
    counts = {
        name: counted(period, of[name], played, anchored=anchored) for name, period in schedules.items()
    }
    late = sorted(each * 1000 for count in counts.values() for each in count.served.lateness_s)
    kinds = sorted({fault.kind for fault in played.faults})
    return {
        "counts": {
            "schedules": len(schedules),
            "by_the_clock": sum(int((played.end - played.begin) // each) for each in schedules.values()),
            "owed": sum(count.owed for count in counts.values()),
            "fired": sum(count.fired for count in counts.values()),
            "missed": sum(count.missed for count in counts.values()),
            "doubled": sum(count.doubled for count in counts.values()),
            "phantom": sum(count.phantom for count in counts.values()),
            "exits": sum(played.exits.values()),
            "kills": sum(played.kills.values()),
        },
        "exits": played.exits,
        "lateness_ms": {
            **{
                name: round(_part(late, part), 1)
                for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
            },
            "max": round(late[-1], 1) if late else 0.0,
        },
        "longest_silence_s": round(max(count.silence_s for count in counts.values()), 2),
        "faults": {
            kind: {
                "count": sum(fault.kind == kind for fault in played.faults),
                "seconds": round(sum(f.ended_at - f.began_at for f in played.faults if f.kind == kind), 1),
            }
            for kind in kinds
        },
        "fault_list": [
            {
                "kind": fault.kind,
                "target": fault.target,
                "from_s": round(fault.began_at - played.begin, 2),
                "until_s": round(fault.ended_at - played.begin, 2),
            }
            for fault in sorted(played.faults, key=lambda fault: fault.began_at)
        ],
        "lives": {
            name: [
                [
                    round(max(0.0, began - played.begin), 2),
                    None if ended is None else round(ended - played.begin, 2),
                ]
                for began, ended in lives
            ]
            for name, lives in played.lives.items()
        },
        "fired_each_second": _each_second(of, played),
        "without_body_after": _after(played.faults, [at for c in counts.values() for at in c.served.without]),
    }


def _part(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, ceil(part * len(ordered)) - 1)] if ordered else 0.0


def _after(faults: Sequence[Done], without: Iterable[float]) -> dict[str, int]:
    """Count what got no body by the fault that had begun last, one that is nearly due being counted to it."""
    kinds = Counter(
        max(
            (fault for fault in faults if fault.began_at <= at + 2.0),
            key=lambda fault: fault.began_at,
            default=NONE,
        ).kind
        for at in without
    )
    return dict(sorted(kinds.items()))


def _each_second(of: Mapping[str, list[Line]], played: Played) -> list[int]:
    series = [0] * ceil(played.end - played.begin)
    for lines in of.values():
        for line in lines:
            second = floor(line.at - played.begin)
            if 0 <= second < len(series):
                series[second] += 1
    return series


def _instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
