"""The pictures of a run, as SVG: what was done to whom over time, what came of it, and how late.

No colour says anything that words do not: each kind of fault has a row of its own with its name, and its
bands are hatched where colours come again. Colours of lines and texts are those of the page (page.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, log10

from chaos.result import FaultSpan, Lane, Result, seat_of

WIDTH, RIGHT = 1080, 14
LEFT_MIN, LETTER = 130.0, 5.9
FAULT_H, LANE_H, STRIP_H, GAP = 15, 42, 72, 30
COLOURS = (
    "#4477aa",
    "#ee8866",
    "#228833",
    "#aa4499",
    "#ddaa33",
    "#33a6a6",
    "#cc3355",
    "#8899cc",
    "#997700",
    "#77aa44",
)
LATE_LOW_MS, LATE_DECADES = 1.0, 6
LATE_WORDS = {
    1.0: "1 ms",
    10.0: "10 ms",
    100.0: "0.1 s",
    1e3: "1 s",
    1e4: "10 s",
    1e5: "100 s",
    1e6: "1,000 s",
}


class Paint:
    """Which colour and hatching each kind of fault has, the same on a whole page."""

    def __init__(self, results: Sequence[Result]) -> None:
        kinds = sorted({kind for result in results for kind in result.faults})
        self._places = {kind: place for place, kind in enumerate(kinds)}

    def fill(self, kind: str) -> str:
        """Return what fills the bands of a kind where they stand in a row of their own."""
        return f"url(#fault-{self._places[kind]})"

    def tint(self, kind: str) -> str:
        """Return the plain colour of a kind, for what stands behind something else."""
        return COLOURS[self._places[kind] % len(COLOURS)]

    def definitions(self) -> str:
        """Return the fillings, to stand once on a page."""
        return "".join(self._definition(place) for place in self._places.values())

    def _definition(self, place: int) -> str:
        colour, turn = COLOURS[place % len(COLOURS)], place // len(COLOURS)
        stripe = '<rect width="2" height="5" fill="#fff" fill-opacity=".75"/>' if turn else ""
        return (
            f'<pattern id="fault-{place}" width="5" height="5" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({45 * turn})"><rect width="5" height="5" fill="{colour}"/>'
            f"{stripe}</pattern>"
        )


class Timeline:
    """Rows under one axis of time: faults by kind, nodes, all bodies, the worst lateness."""

    def __init__(self, result: Result, paint: Paint) -> None:
        self._result = result
        self._paint = paint
        self._parts: list[str] = []
        self._y = 4.0
        longest = max((len(f"{kind} ×{each.count}") for kind, each in result.faults.items()), default=0)
        self._left = max(LEFT_MIN, 12 + LETTER * longest)

    def drawn(self) -> str:
        """Return the picture."""
        result = self._result
        if result.faults:
            self._faults()
        if result.lanes:
            self._lanes()
        if result.began_each_second:
            self._strip("bodies that began, each second, on all nodes", result.began_each_second)
        if result.lateness_max_ms_each_second:
            self._late(result.lateness_max_ms_each_second)
        if result.findings:
            self._findings()
        self._axis()
        words = f"{result.title}: faults, bodies and lateness over {result.seconds:.0f} seconds"
        return (
            f'<svg class="timeline" viewBox="0 0 {WIDTH} {self._y:.0f}" role="img" '
            f'aria-label="{escape(words, quote=True)}">{"".join(self._parts)}</svg>'
        )

    # --- rows ---

    def _faults(self) -> None:
        self._heading("what was done")
        for kind, each in self._result.faults.items():
            y = self._y
            self._label(f"{kind} ×{each.count}", y + FAULT_H - 4, "legend")
            self._line(y + FAULT_H, "grid")
            for span in self._result.fault_list:
                if span.kind == kind:
                    self._band(span, y + 2, FAULT_H - 4, "fault", widest=2.0)
            self._y += FAULT_H
        self._y += GAP

    def _lanes(self) -> None:
        lanes = by_node(self._result.lanes)
        numbers = sorted(number for lane in self._result.lanes for number in lane.began)
        # A herd at each full minute would flatten all the rest.
        peak = max(1, round(1.5 * numbers[int(0.95 * (len(numbers) - 1))]) if numbers else 1)
        cut = f"; cut off above {peak:,}" if numbers and numbers[-1] > peak else f"; full height: {peak:,}"
        self._heading(f"bodies that began, each second, by node{cut}")
        for node, lives in lanes.items():
            y = self._y
            for span in self._result.fault_list:
                if hits(span.target, node, lanes):
                    self._band(span, y, LANE_H, "over")
            self._label(node, y + 15)
            self._label(f"{len(lives)} {'life' if len(lives) == 1 else 'lives'}", y + 28, "small")
            for lane in lives:
                self._area([min(each, peak) / peak for each in lane.began], int(lane.from_s), y, LANE_H - 6)
                x = self._x(lane.from_s)
                self._parts.append(f'<path class="birth" d="M{x:.1f} {y + LANE_H:.1f}v-5"/>')
            self._line(y + LANE_H)
            self._y += LANE_H + 6
        self._y += GAP - 6

    def _strip(self, heading: str, series: Sequence[int]) -> None:
        self._heading(f"{heading} (square root)")
        top = _round_up(max(series) or 1)
        for share in (0.25, 1.0):
            y = self._y + STRIP_H * (1 - share**0.5)
            self._line(y, "grid")
            self._label(f"{top * share:,.0f}", y + 4, "small", inset=6)
        self._area([(each / top) ** 0.5 for each in series], 0, self._y, STRIP_H)
        self._line(self._y + STRIP_H)
        self._y += STRIP_H + GAP

    def _late(self, series: Sequence[float]) -> None:
        self._heading("worst lateness of what was due in each second (logarithmic)")
        decades = max(3, min(LATE_DECADES, ceil(log10(max([10.0, *series])))))
        height = 24.0 * decades
        for decade in range(decades + 1):
            y = self._y + height - 24 * decade
            self._line(y, "grid" if decade else "base")
            self._label(LATE_WORDS[10.0**decade], y + 4, "small", inset=6)
        points = []
        for second, late in enumerate(series):
            if late > LATE_LOW_MS:
                tall = min(log10(late / LATE_LOW_MS), decades) * 24
                points.append(f"M{self._x(second + 0.5):.1f} {self._y + height:.1f}v{-tall:.1f}")
        thick = max(0.9, (WIDTH - self._left - RIGHT) / self._result.seconds * 0.8)
        self._parts.append(f'<path class="late" stroke-width="{thick:.2f}" d="{"".join(points)}"/>')
        self._y += height + GAP

    def _findings(self) -> None:
        self._label("findings", self._y + 4, "wrong")
        for said in self._result.findings:
            x = self._x(min(max(said.at_s, 0.0), self._result.seconds))
            words = escape(f"{said.kind}: {said.words}")
            self._parts.append(
                f'<path class="wrong" d="M{x:.1f} {self._y + 6:.1f}l-5 -9h10z"><title>{words}</title></path>'
            )
        self._y += GAP

    def _axis(self) -> None:
        self._y -= GAP - 14
        step = next(
            (s for s in (5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600) if self._result.seconds / s <= 16),
            7200,
        )
        for second in range(0, int(self._result.seconds) + 1, step):
            words = f"{second // 60}:{second % 60:02}"
            x = self._x(second)
            self._parts.append(f'<path class="tick" d="M{x:.1f} {self._y - 12:.1f}v5"/>')
            self._parts.append(
                f'<text class="small" x="{x:.1f}" y="{self._y + 6:.1f}" text-anchor="middle">{words}</text>'
            )
        self._label("minutes:seconds", self._y + 6, "small", inset=24)
        self._y += 14

    # --- strokes ---

    def _x(self, second: float) -> float:
        return self._left + (WIDTH - self._left - RIGHT) * second / max(self._result.seconds, 1.0)

    def _heading(self, words: str) -> None:
        self._parts.append(
            f'<text class="heading" x="{self._left:.1f}" y="{self._y + 9:.1f}">{escape(words)}</text>'
        )
        self._y += 17

    def _label(self, words: str, y: float, kind: str = "label", inset: float = 10) -> None:
        place = f'x="{self._left - inset:.1f}" y="{y:.1f}"'
        self._parts.append(f'<text class="{kind}" {place} text-anchor="end">{escape(words)}</text>')

    def _line(self, y: float, kind: str = "base") -> None:
        self._parts.append(f'<path class="{kind}" d="M{self._left:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')

    def _band(self, span: FaultSpan, y: float, height: float, kind: str, widest: float = 0.8) -> None:
        until = self._result.seconds if span.until_s is None else span.until_s
        x = self._x(span.from_s)
        width = max(self._x(until) - x, widest)
        fill = self._paint.fill(span.kind) if kind == "fault" else self._paint.tint(span.kind)
        words = escape(f"{span.kind}: {span.target}, {span.from_s:.1f} s to {until:.1f} s")
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{fill}"><title>{words}</title></rect>'
        )

    def _area(self, shares: Sequence[float], first: int, y: float, height: float) -> None:
        """Draw a step for each share of the height. Nothing where it is 0: a silence is seen as one."""
        base = y + height
        path = []
        for low, high in _steps(shares):
            x0, x1 = self._x(first + low), self._x(first + high)
            path.append(f"M{x0:.1f} {base:.1f}V{base - height * shares[low]:.1f}H{x1:.1f}V{base:.1f}z")
        self._parts.append(f'<path class="bodies" d="{"".join(path)}"/>')


def _steps(series: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Go through the stretches of equal numbers that are not 0."""
    edges = [
        0,
        *(place for place in range(1, len(series)) if series[place] != series[place - 1]),
        len(series),
    ]
    return ((low, high) for low, high in pairwise(edges) if series[low])


def _round_up(number: int) -> int:
    """Return the next number that begins with 1, 2, 4, 6 or 8 and goes on in zeros."""
    scale: int = 10 ** (len(str(number)) - 1)
    return min(each * scale for each in (1, 2, 4, 6, 8, 10) if each * scale >= number)


def by_node(lanes: Sequence[Lane]) -> Mapping[str, list[Lane]]:
    """Return the lives of each node."""
    found: dict[str, list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.from_s):
        found.setdefault(seat_of(lane.node), []).append(lane)
    return dict(sorted(found.items()))


def hits(target: str, node: str, nodes: Mapping[str, object]) -> bool:
    """Return whether what is said of a fault's target means this node: by name, or everybody."""
    words = set(re.findall(r"[\w-]+", target))
    return node in words or not (words & nodes.keys() or "editor" in words)


def histogram(result: Result) -> str:
    """Return how many occurrences were how late: both axes logarithmic, so that one in 100,000 is seen."""
    edges, counts, calm = result.edges_ms, result.lateness_all.histogram, result.lateness_calm.histogram
    if not counts:
        return ""
    width, height, left, base = 620, 190, 58, 168
    decades = max(1, ceil(log10(max(counts) + 1)))
    last = max(place for place, count in enumerate(counts) if count)
    high = max(4, ceil(log10(edges[min(last, len(edges) - 1)])))
    low = -1

    def x(ms: float) -> float:
        return left + (width - left - 20) * (log10(ms) - low) / (high - low)

    def y(count: int) -> float:
        return base - (base - 14) * (log10(count) + 0.15) / (decades + 0.15)

    parts = []
    for decade in range(decades + 1):
        top = y(10**decade)
        parts.append(f'<path class="grid" d="M{left} {top:.1f}H{width - 20}"/>')
        parts.append(
            f'<text class="small" x="{left - 6}" y="{top + 4:.1f}" text-anchor="end">{10**decade:,}</text>'
        )
    for decade in range(low, high + 1):
        words = LATE_WORDS.get(10.0**decade, f"{10.0**decade:g} ms")
        parts.append(f'<path class="tick" d="M{x(10.0**decade):.1f} {base}v5"/>')
        at = f'x="{x(10.0**decade):.1f}" y="{base + 18}"'
        parts.append(f'<text class="small" {at} text-anchor="middle">{words}</text>')
    tops = [10.0**low, *edges]
    for place, count in enumerate(counts):
        x0 = x(tops[place] if place else 10.0**low) - (0 if place else 4)
        x1 = x(edges[place]) if place < len(edges) else width - 20
        upto = f"up to {edges[place]:,.0f} ms" if place < len(edges) else "beyond"
        for kind, each, inset in (("all", count, 0.3), ("calm", calm[place] if calm else 0, (x1 - x0) / 4)):
            if each:
                size = f'width="{max(x1 - x0 - 2 * inset, 0.6):.1f}" height="{base - y(each):.1f}"'
                parts.append(
                    f'<rect class="{kind}" x="{x0 + inset:.1f}" y="{y(each):.1f}" {size}>'
                    f"<title>{kind}: {each:,} {upto}</title></rect>"
                )
    parts.append(f'<path class="base" d="M{left} {base}H{width - 20}"/>')
    words = f"{result.title}: how many occurrences began how late"
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {height + 4}" role="img" '
        f'aria-label="{escape(words, quote=True)}">{"".join(parts)}</svg>'
    )
