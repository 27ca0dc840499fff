"""One HTML file of one or several results: `python -m chaos page RESULT.json… -o chaos.html`.

It needs nothing else: no script, no font, no picture from anywhere. Light or dark as the reader has it, and
readable on paper. Every number in it is taken from the JSON as it stands there.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from html import escape
from pathlib import Path
from typing import Any

from chaos.picture import Paint, Timeline, histogram
from chaos.result import Result, Spread, read

STYLE = Path(__file__).with_suffix(".css")

FINDINGS = {
    "missed": "missed",
    "doubled": "doubled",
    "early": "early",
    "phantom": "phantom",
    "overlap_exceeded": "over the limit",
    "other_findings": "other",
}
"""What must be 0, and the heads of its columns."""

COUNTED = {
    "schedules": "schedules",
    "must": "occurrences that must fire",
    "may": "occurrences that may, but need not",
    "fired": "occurrences that had a run of their own",
    "folded": "occurrences for which another's run stood",
    "requests": "runs that were asked for",
    "bodies": "bodies that began",
    "retried_bodies": "bodies that began again because one had failed",
    "repeated_bodies": "bodies that began again because a lease had lapsed",
    "unprovoked_bodies": "of these, with nothing done to anybody meanwhile",
    "overtaken": "bodies that began under a lease lost meanwhile",
    "at_most_once": "owed at most once, and lost to a fault",
    "edits_ok": "edits acknowledged",
    "edits_fail": "edits refused",
    "edits_unknown": "edits of which nobody knows",
    "nodes_started": "lives of nodes",
    "unfinished": "runs unfinished at the end",
    "torn_lines": "lines torn by a death",
    "by_the_clock": "occurrences by the clock alone",
    "exits": "processes that ended by themselves",
    "kills": "processes that were killed",
}


def page(results: Sequence[Result]) -> str:
    """Return the whole file."""
    paint = Paint(results)
    ours = [result for result in results if result.lanes or "bodies" in result.counts]
    peers = [result for result in results if result not in ours]
    title = headline(ours or results)
    body = [
        f"<header><h1>{title}</h1>",
        LEAD,
        verdicts(ours, "Onebeat") if ours else "",
        NOTES,
        beside(peers) if peers else "",
        *(section(result, paint, place) for place, result in enumerate(results)),
        "<footer>Made by <code>python -m chaos page</code> from the JSON of each run.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{re.sub('<[^>]*>', '', title)}</title>"
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f'<body><svg class="defs" aria-hidden="true"><defs>{paint.definitions()}</defs></svg>\n<main>'
        + "\n".join(part for part in body if part)
        + "</main></body></html>\n"
    )


def headline(results: Sequence[Result]) -> str:
    """Say the most important numbers in one line."""
    fired = sum(result.counts.get("fired", 0) for result in results)
    faults = sum(each.count for result in results for each in result.faults.values())
    missed, doubled = (
        sum(result.counts.get(name, 0) for result in results) for name in ("missed", "doubled")
    )
    return (
        f"{number(fired)} firings, {number(faults)} faults: "
        f"<b>{number(missed)} missed, {number(doubled)} doubled</b>"
    )


def number(value: float) -> str:
    """Return a number as it is read: thousands apart, no more digits than it has."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def duration(ms: float) -> str:
    """Return a lateness as it is read."""
    if ms < 1000:
        return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 10_000 else f"{ms / 1000:.1f} s"


def cell(words: str, name: str = "", kind: str = "", value: object = None) -> str:
    """Return a cell of a table. It shows ``words`` for the ``value`` of the JSON's field ``name``."""
    field = f' data-field="{name}" data-value="{value}"' if name else ""
    styled = f' class="{kind}"' if kind else ""
    return f"<td{styled}{field}>{words}</td>"


# --- the verdicts -------------------------------------------------------------------------------------


def verdicts(results: Sequence[Result], heading: str) -> str:
    """Return the table of what must be 0, and under it that of lateness, with a line for each result."""
    names = [name for name in FINDINGS if any(name in result.counts for result in results)]
    head = ["verdict", "minutes", "faults", "must fire", "fired", *(FINDINGS[name] for name in names)]
    return (
        f"<section><h2>{heading}</h2>"
        + table("verdicts", head, [(each, verdict(each) + counted(each, names)) for each in results])
        + late(results)
        + "</section>"
    )


def beside(peers: Sequence[Result]) -> str:
    """Return the tables of those who are judged by windows alone: numbers, and no verdict."""
    names = ["missed", "doubled", "phantom", "exits"]
    bounds = {number(each.settings["bound_s"]) for each in peers if each.settings.get("bound_s")}
    head = ["minutes", "faults", "due", "fired", "missed", "doubled", "phantom", "ended by themselves"]
    return (
        "<section><h2>Side by side with others</h2>"
        + BESIDE.format(bound=" or ".join(sorted(bounds)))
        + table("verdicts", head, [(each, counted(each, names)) for each in peers])
        + late(peers)
        + "</section>"
    )


def table(kind: str, head: Iterable[str], rows: Iterable[tuple[Result, str]], over: str = "") -> str:
    """Return a table with a line for each result; ``over`` are cells above its head."""
    heads = "".join(f"<th>{each}</th>" for each in ("", *head))
    lines = "".join(
        f'<tr><th scope="row">{escape(result.title)}<small>{escape(result.server)}</small></th>{cells}</tr>'
        for result, cells in rows
    )
    above = f'<tr class="groups"><th></th>{over}</tr>' if over else ""
    return f'<div class="wide"><table class="{kind}">{above}<tr>{heads}</tr>{lines}</table></div>'


def verdict(result: Result) -> str:
    """Return the cell of a result's verdict."""
    findings = sum(result.found.values()) or sum(result.counts.get(name, 0) for name in FINDINGS)
    words = "✓ sound" if result.right else "✗ not right"
    if findings:
        words = f"✗ {number(findings)} finding{'s' if findings > 1 else ''}"
    return cell(words, kind="right" if result.right else "wrong")


def counted(result: Result, names: Iterable[str]) -> str:
    """Return the cells of what a result counts; a dash is what was not asked."""
    total = sum(each.count for each in result.faults.values())
    cells = [cell(number(result.minutes), "minutes", value=result.minutes), cell(number(total))]
    for name in ("must", "fired"):
        count = result.counts.get(name, 0)
        cells.append(cell(number(count), name, value=count))
    for name in names:
        found = result.counts.get(name)
        cells.append(cell("–" if found is None else number(found), name, "wrong" if found else "none", found))
    return "".join(cells)


def late(results: Sequence[Result]) -> str:
    """Return the table of lateness: everything, and what was due while all was calm."""
    names = ("p50", "p90", "p99", "max")
    fields = ["lateness_all"]
    over = f'<th colspan="{len(names)}">lateness, all</th>'
    if any(result.lateness_calm.count for result in results):
        fields.append("lateness_calm")
        over += f'<th colspan="{len(names)}">lateness, calm</th>'
    rows = [
        (
            result,
            "".join(lateness(field, getattr(result, field), name) for field in fields for name in names),
        )
        for result in results
    ]
    return table("verdicts", names * len(fields), rows, over)


def lateness(field: str, spread: Spread, name: str) -> str:
    """Return the cell of one percentile."""
    value: float = getattr(spread, name)
    return cell(duration(value) if spread.count else "–", f"{field}.{name}", value=value)


LEAD = """<p class="lead">Real processes and real servers, hurt on purpose. What happened is judged by lines
that bodies, editors and the rig left in files of their own, never by what the ledger says of itself; what
should have happened is computed by somebody else's cron library.</p></header>"""

BESIDE = """<p class="notes">Other systems do not say which occurrence a firing is for, so they are asked
less, and so is Onebeat here: a firing within {bound} s of each due instant, each used once. Not all of them
are meant to run twice, and some say so. What each promises, how it was set up, and why it did what it did is
told in <cite>Peers under faults</cite>, beside this page.</p>"""

NOTES = """<section class="notes"><p><b>Missed</b>: an acknowledged schedule owed it, and no body ever
began. <b>Doubled</b>: two runs for one occurrence. <b>Early</b>: a body began before its occurrence.
<b>Phantom</b>: a body for what cannot have been due. <b>Over the limit</b>: more bodies at once than the
schedule allows. <b>Lateness</b> is from the occurrence to the first line that its body wrote; <b>calm</b> are
occurrences with no fault in force when they were due nor in the ten seconds before, once all nodes serve. A
body that begins again after its node was lost is no finding: the run is the same, and its token is
larger.</p></section>"""


# --- one result ---------------------------------------------------------------------------------------


def section(result: Result, paint: Paint, place: int) -> str:
    """Return everything there is to show of one result."""
    began = (
        result.began_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if result.began_at.year > 1970 else ""
    )
    facts = [result.server, began, f"seed {result.seed}" if result.seed is not None else "no faults"]
    parts = [
        f"<h2>{escape(result.title)}</h2>",
        f'<p class="facts">{escape(" · ".join(fact for fact in facts if fact))}</p>',
        f'<figure class="wide">{Timeline(result, paint).drawn()}<figcaption>{CAPTION}</figcaption></figure>'
        if result.fault_list or result.began_each_second
        else "",
        durability(result),
        findings(result),
        '<div class="columns">',
        f"<figure>{drawn}<figcaption>{HISTOGRAM}</figcaption></figure>"
        if (drawn := histogram(result))
        else "",
        spreads(result),
        faults(result, paint),
        counts(result),
        "</div>",
        audit(result),
        f"<h3>Again</h3><pre>{escape(result.command)}</pre>",
        details(result),
    ]
    return f'<section class="result" id="result-{place}">{"".join(parts)}</section>'


CAPTION = """Each band is a fault: in its row, and in plain colour behind the nodes that it was done to, which
are all of them where it was done to everybody. Hold the pointer over a band to read whom it hurt. Hatching
tells kinds apart that share a colour."""

HISTOGRAM = """How many occurrences began how late: both axes logarithmic. The wide columns behind: all. The
narrow ones in front: those that were due while nothing was amiss."""


def durability(result: Result) -> str:
    """Return what the store says of its own durability: a run is worth no more than that."""
    said = result.settings.get("durability")
    return f'<p class="facts">Durability, by the store\'s own words: {escape(str(said))}.</p>' if said else ""


def findings(result: Result) -> str:
    """Return the first findings, in words."""
    if not result.findings:
        return ""
    rows = "".join(
        f"<tr><td>{said.at_s:,.3f} s</td><td>{escape(said.kind)}</td><td>{escape(said.words)}</td></tr>"
        for said in result.findings
    )
    return f'<h3 class="wrong">Findings</h3><div class="wide"><table class="list">{rows}</table></div>'


def spreads(result: Result) -> str:
    """Return the table of percentiles."""
    names = ("p50", "p90", "p99", "p999", "max")
    lines = [("all", "lateness_all", result.lateness_all), ("calm", "lateness_calm", result.lateness_calm)]
    rows = "".join(
        f'<tr><th scope="row">{words}</th>{cell(number(each.count), f"{field}.count", value=each.count)}'
        + "".join(lateness(field, each, name) for name in names)
        + "</tr>"
        for words, field, each in lines
        if each.count
    )
    heads = "".join(f"<th>{name.replace('p999', 'p99.9')}</th>" for name in names)
    return f"<div><h3>Lateness</h3><table><tr><th></th><th>occurrences</th>{heads}</tr>{rows}</table></div>"


def faults(result: Result, paint: Paint) -> str:
    """Return the table of faults by kind: the legend of the picture."""
    if not result.faults:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><svg class="swatch" viewBox="0 0 20 10" aria-hidden="true">'
        f'<rect width="20" height="10" fill="{paint.fill(kind)}"/></svg>{escape(kind)}</th>'
        f"{cell(number(each.count), f'faults.{kind}.count', value=each.count)}"
        f"{cell(f'{number(each.seconds)} s', f'faults.{kind}.seconds', value=each.seconds)}</tr>"
        for kind, each in result.faults.items()
    )
    return (
        '<div><h3>Faults</h3><table class="legend"><tr><th></th><th>times</th><th>in all</th></tr>'
        f"{rows}</table></div>"
    )


def counts(result: Result) -> str:
    """Return what else was counted."""
    rows = "".join(
        f'<tr><th scope="row">{words}</th>{cell(number(count), name, value=count)}</tr>'
        for name, words in COUNTED.items()
        if (count := result.counts.get(name)) is not None
    )
    return f"<div><h3>Counted</h3><table>{rows}</table></div>"


def audit(result: Result) -> str:
    """Return what the ledger says of itself."""
    if result.audit is None:
        return ""
    said = dict(result.audit)
    right = said.pop("right", None)
    words = "agrees: all right" if right else "does not agree: not right"
    more = ", ".join(f"{name} {shown(value)}" for name, value in said.items() if value not in (None, "", []))
    return f"<h3>The ledger's own audit</h3><p>It {words}{': ' if more else '.'}{escape(more)}</p>"


def details(result: Result) -> str:
    """Return settings and machine."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>'
        f'<td class="words">{escape(shown(value))}</td></tr>'
        for name, value in (*result.settings.items(), *result.machine.items())
        if value not in (None, "", {}, [])
    )
    return f"<details><summary>Settings and machine</summary><table>{rows}</table></details>"


def shown(value: Any) -> str:
    """Return a value of the JSON in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int) else str(value)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `python -m chaos page` wants to know."""
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json", help="of runs, or of peers")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the HTML file to write")


def show(results: Iterable[Path], out: Path) -> None:
    """Read results, write the page."""
    out.write_text(page([read(path) for path in results]), encoding="utf-8")
