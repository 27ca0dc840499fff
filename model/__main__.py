"""`make model`: search the models of the protocol to their ends, and see the broken ones refuted.

Names choose some. `--long` takes the larger bounds too; `--trace` prints the shortest way to what breaks.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

from model.cases import BREAKS, CASES, Break, Case
from model.spin import Found, Missing, search

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "model.md"
CASE_ROW = re.compile(
    r"^\| `([\w-]+)` \| (\w+)\.pml \|.*\| ([\d,]+) \| [\d,]+ \| [\d,]+ MB \|$", re.MULTILINE
)
BREAK_ROW = re.compile(r"^\| `([\w-]+)` \| (\w+)\.pml \|.*\| (\w+) \|$", re.MULTILINE)


class Told(NamedTuple):
    """What the page says: the states of each search, and by model and name the claim that a break fails."""

    states: dict[str, int]
    fails: dict[tuple[str, str], str]


def page(path: Path) -> Told:
    """Read the tables of the page."""
    text = path.read_text(encoding="utf-8")
    return Told(
        {row[1]: int(row[3].replace(",", "")) for row in CASE_ROW.finditer(text)},
        {(row[2], row[1]): row[3] for row in BREAK_ROW.finditer(text)},
    )


def main() -> int:
    """Search what was asked for; exit 1 where a claim fails that should hold, or holds that should fail."""
    parser = argparse.ArgumentParser(prog="make model ARGS=…", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="searches and breaks (default: all)")
    parser.add_argument("--long", action="store_true", help="the larger bounds too: minutes, and some GB")
    parser.add_argument(
        "--trace", action="store_true", help="look for the shortest trace to what breaks, print it"
    )
    parser.add_argument("--write-docs", action="store_true", help="write what was counted into the page")
    options = parser.parse_args()
    names = set(options.names)
    unknown = names - {each.name for each in (*CASES, *BREAKS)}
    if unknown:
        parser.error(f"nothing is named {', '.join(sorted(unknown))}; see model/cases.py")
    cases = [case for case in CASES if case.name in names or (not names and (options.long or not case.long))]
    try:
        counted = {case.name: _searched(case) for case in cases}
        breaks = [each for each in BREAKS if not names or each.name in names]
        right = [_refuted(each, options.trace) for each in breaks]
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    if options.write_docs:
        _write(counted)
    return 0 if all(right) and not any(found.broken for found in counted.values()) else 1


def _searched(case: Case) -> Found:
    began = time.monotonic()
    found = search(case.model, case.settings, case.claim)
    seconds = time.monotonic() - began
    verdict = f"BROKEN: {found.broken}" if found.broken else "holds"
    print(f"{case.name:24} {verdict:24} {found.states:>12,} states {seconds:6.1f} s", flush=True)
    if found.broken:
        print("    " + "\n    ".join(found.trace))
    return found


def _refuted(broken: Break, trace: bool) -> bool:
    found = search(broken.model, broken.defines, broken.claim, short=True, shortest=trace)
    right = found.broken == broken.fails
    verdict = f"breaks {found.broken}" if found.broken else "NOTHING BREAKS"
    print(f"without {broken.name:24} {verdict}{'' if right else f', and not {broken.fails}'}", flush=True)
    if trace or not right:
        print("    " + "\n    ".join(found.trace))
    return right


def _write(counted: dict[str, Found]) -> None:
    """Write both tables into the page. A search that was not made keeps the numbers that its row has."""
    text = PAGE.read_text(encoding="utf-8")
    kept = {row[1]: row[0] for row in CASE_ROW.finditer(text)}
    rows = [_row(case, counted[case.name]) if case.name in counted else kept.get(case.name) for case in CASES]
    text = _between(text, "searches", [row for row in rows if row is not None])
    breaks = [f"| `{each.name}` | {each.model}.pml | {each.rule} | {each.fails} |" for each in BREAKS]
    PAGE.write_text(_between(text, "breaks", breaks), encoding="utf-8")


def _row(case: Case, found: Found) -> str:
    long = " (`--long`)" if case.long else ""
    sizes = f"{found.states:,} | {found.depth:,} | {found.memory_mb:,.0f} MB"
    return f"| `{case.name}` | {case.model}.pml | {case.about}{long} | {sizes} |"


def _between(text: str, name: str, rows: list[str]) -> str:
    """Return the text with the rows of the table that a comment names."""
    start = text.index(f"<!-- {name}: ")
    head = text.index("|\n|---", start) + 2
    first = text.index("\n", head) + 1
    end = text.find("\n\n", head)
    return text[:first] + "\n".join(rows) + (text[end:] if end >= 0 else "\n")


if __name__ == "__main__":
    sys.exit(main())
