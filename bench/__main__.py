"""`make bench`: run the benchmarks on one store, print a table of ratios, write one JSON.

Each bench is a module of this package with `run(settings) -> figures`; each store is a file of bench/stores.
A server of our own is started for the run, durable and on a disk, unless `--url` names one. Names as
arguments choose some; `--scale 0.1` gives a quick look whose figures are not for publishing.
"""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

from bench.celery import PARTS
from bench.figure import Figure, Settings
from bench.machine import described, refuse_memory
from bench.stores import KINDS, opened

STORELESS = ("triggers",)
BENCHES = ("fires", "lateness", "change", "kills", "scale", "idle")
OPTIONAL = ("peers", "purge", "one_offs")  # run when named
CELERY = tuple(f"celery.{part}" for part in PARTS)  # all of them by the name of celery


def main() -> int:
    """Run what was asked for; exit 1 when a bar is not met."""
    every = (*STORELESS, *BENCHES, *OPTIONAL, "celery", *CELERY)
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(every)}")
    parser.add_argument("--store", choices=KINDS, default="sqlite", help="which store (default: sqlite)")
    parser.add_argument("--url", help="a server that somebody has; its settings are told, and stay")
    parser.add_argument("--place", type=Path, help="folder for the stores (default: a temporary one here)")
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is the published size")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side of a ratio")
    parser.add_argument("--out", type=Path, default=Path(".build/bench.json"), help="where the JSON goes")
    options = parser.parse_args()
    unknown = set(options.names) - set(every)
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    names = options.names or (*(STORELESS if options.store == "sqlite" else ()), *BENCHES)
    names = [each for name in names for each in (CELERY if name == "celery" else (name,))]
    Path(".build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.place or ".build", prefix="bench-") as folder:
        place = Path(folder).resolve()
        place.chmod(0o755)  # a server may run as another user
        refuse_memory(place)
        store = opened(options.store, place, options.url)
        try:
            machine = described(place) | {"store": options.store, "server": store.about()}
            print(json.dumps(machine, indent=1), file=sys.stderr)
            figures: list[Figure] = []
            for name in names:
                print(f"… {name}", file=sys.stderr, flush=True)
                bench = importlib.import_module(f"bench.{name}")
                figures += bench.run(Settings(store, place, options.scale, options.repeats))
        finally:
            store.close()
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
