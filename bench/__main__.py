"""`make bench`: run the benchmarks, print a table of ratios, write one JSON.

Each bench is a module of this package with `run(settings) -> figures`. Names as arguments choose some;
`--scale 0.1` gives a quick look whose figures are not for publishing.
"""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

from bench.figure import Figure, Settings
from bench.machine import described, refuse_memory

BENCHES = ("triggers", "fires", "lateness", "scale", "idle")


def main() -> int:
    """Run what was asked for; exit 1 when a bar is not met."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(BENCHES)}")
    parser.add_argument("--place", type=Path, help="folder for the stores (default: a temporary one here)")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is the published size")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side of a ratio")
    parser.add_argument("--out", type=Path, default=Path(".build/bench.json"), help="where the JSON goes")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    Path(".build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.place or ".build", prefix="bench-") as folder:
        place = Path(folder)
        refuse_memory(place)
        machine = described(place)
        print(json.dumps(machine, indent=1), file=sys.stderr)
        figures: list[Figure] = []
        for name in options.names or BENCHES:
            print(f"… {name}", file=sys.stderr, flush=True)
            inner = place / name
            inner.mkdir()
            bench = importlib.import_module(f"bench.{name}")
            figures += bench.run(Settings(inner, options.scale, options.repeats))
    report = {
        "machine": machine,
        "scale": options.scale,
        "repeats": options.repeats,
        "figures": [figure.as_data() for figure in figures],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(table(figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def table(figures: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    rows = ["| figure | value | beside | bar | met |", "|---|---:|---|---|---|"]
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        bar = "" if figure.bar is None else f"{sign} {figure.bar:g}"
        met = {None: "", True: "yes", False: "**no**"}[figure.met]
        rows.append(f"| {figure.name} | {figure.value:.3g} {figure.unit} | {figure.beside} | {bar} | {met} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
