"""Break the source on purpose, one way at a time, and see that somebody notices: ``make mutants``.

The breaks are chosen by hand, in tests/mutants.toml: each takes away one thing that the promise rests on. A
break is made in a copy of the package, never in the checkout. Its text has to be found exactly once; where it
is not, the source has moved on and the break must be written anew, so the list stays true.

What must notice is named beside each break, one of several separated by ``;``: ``sim N`` lives through at
most N seeds of the simulator (``sim N sqlite`` on a file), anything else goes to pytest. The table of
docs/reference/mutants.md is written by ``--write-docs``.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parent.parent.parent
TESTS_FAILED = 1
"""The exit status of pytest, and of the simulator, when something was noticed; others: it did not run."""

PATIENCE_S = 1200
"""How long one test may take on the unbroken copy: beside many others a long one takes many times as long."""

SURVIVED = "SURVIVED"
PYTEST = ("-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "--no-header")
PAGE = """# Mutants

Each row is one deliberate break of the source, in one place, and what notices it. `make mutants` makes them
all, one at a time, in a copy of the package, and fails if one survives; `make mutants ARGS="NAME ..."` makes
some. The list is `tests/mutants.toml`. This page is written by `make mutants ARGS="--write-docs"` (with
names: only their rows), from what really noticed; where the simulator did, the invariant that broke is named.

| mutant | what is taken away | noticed by |
|---|---|---|
"""


class Mutant(NamedTuple):
    """One break: the text to replace, what stands there instead, why it matters, what must notice."""

    name: str
    file: str
    old: str
    new: str
    why: str
    by: str


class Verdict(NamedTuple):
    """What became of a mutant. ``noticed`` says by what, and is empty where nothing did."""

    mutant: Mutant
    noticed: str
    trouble: str = ""


def checkout() -> Path:
    """Return the checkout that this package is part of. Raises SystemExit where it is installed elsewhere."""
    top = SOURCE.parent
    if not (top / "tests" / "mutants.toml").exists():
        raise SystemExit(f"{top} holds no tests/mutants.toml: mutants are made from a checkout of the source")
    return top


def catalogue(top: Path) -> list[Mutant]:
    """Return the breaks of a checkout, in their order."""
    listed = tomllib.loads((top / "tests" / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**each) for each in listed]


def fits(mutant: Mutant, source: Path) -> int:
    """Return how often a break's text is found; only 1 will do."""
    return (source / mutant.file).read_text(encoding="utf-8").count(mutant.old)


def tried(mutant: Mutant, top: Path) -> Verdict:
    """Make one break in a copy of the source, and let those notice who must.

    What failed has to pass on the unbroken copy: else it is no evidence.
    """
    with tempfile.TemporaryDirectory(prefix="onebeat-mutant-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(top / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        if (found := fits(mutant, copy)) != 1:
            return Verdict(mutant, "", f"does not fit: its text is found {found} times in {mutant.file}")
        broken = copy / mutant.file
        text = broken.read_text(encoding="utf-8")
        broken.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        for by in mutant.by.split(";"):
            ran = run(command(by), top, copy)
            if ran.returncode == TESTS_FAILED:
                seen = noticed(ran.stdout)
                if slip := re.search(r"\b(Name|Syntax|Import|Attribute|Indentation)Error\b", seen.words):
                    return Verdict(mutant, "", f"is no break but a slip: {slip[0]}")
                broken.write_text(text, encoding="utf-8")
                if run(seen.again, top, copy).returncode != 0:
                    return Verdict(mutant, "", f"is no evidence: without it {' '.join(seen.again)} fails too")
                return Verdict(mutant, seen.words)
            if ran.returncode != 0:
                return Verdict(mutant, "", f"{by}: did not run\n{ran.stdout}{ran.stderr}")
    return Verdict(mutant, "", SURVIVED)


def run(arguments: Sequence[str], top: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on a copy of the source, from the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=top,
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def command(by: str) -> list[str]:
    """Return the arguments of the interpreter for what must notice."""
    kind, *rest = by.split()
    if kind == "sim":
        store = rest[1] if len(rest) > 1 else "memory"
        return ["-m", "onebeat.testing.simulator", "--seeds", rest[0], "--store", store, "--shrink", "0"]
    return [*PYTEST, *by.split()]


class Noticed(NamedTuple):
    """What noticed a break, in words, and the arguments that do it again."""

    words: str
    again: list[str]


def noticed(output: str) -> Noticed:
    """Return what noticed, from the output of a simulator or of pytest that failed."""
    if (replay := re.search(r"^(.*)\nreplay: onebeat-sim (.*)$", output, re.MULTILINE)) is not None:
        what = re.split(r" \(|:", replay[1])[0]
        return Noticed(f"simulator: {what}", ["-m", "onebeat.testing.simulator", *shlex.split(replay[2])])
    failed = re.search(r"^(?:FAILED|ERROR) (\S.*?)(?: - |$)", output, re.MULTILINE)
    if failed is None:
        return Noticed("pytest", [*PYTEST])
    again = [*PYTEST, "--timeout", str(PATIENCE_S), failed[1]]
    return Noticed(f"`{failed[1].split('[')[0]}`", again)


def tried_all(mutants: Sequence[Mutant], top: Path, jobs: int) -> Iterator[Verdict]:
    """Try many, some at a time; yield verdicts in the order of the list."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda mutant: tried(mutant, top), mutants)


def page(mutants: Sequence[Mutant], verdicts: Sequence[Verdict], before: str) -> str:
    """Return the reference page: what was tried anew, and of the page before what was not."""
    rows = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    for each in verdicts:
        rows[each.mutant.name] = f"| `{each.mutant.name}` | {each.mutant.why} | {each.noticed} |"
    return PAGE + "".join(f"{rows[mutant.name]}\n" for mutant in mutants if mutant.name in rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 when every break was noticed."""
    parser = argparse.ArgumentParser(prog="python -m onebeat.testing.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--write-docs", action="store_true", help="write docs/reference/mutants.md, if all were noticed"
    )
    given = parser.parse_args(argv)
    top = checkout()
    mutants = catalogue(top)
    if unknown := set(given.names) - {mutant.name for mutant in mutants}:
        parser.error(f"not in tests/mutants.toml: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not given.names or mutant.name in given.names]
    verdicts = []
    for verdict in tried_all(chosen, top, given.jobs):
        verdicts.append(verdict)
        print(f"{verdict.mutant.name:44} {verdict.noticed or verdict.trouble}", flush=True)
    survivors = sum(not verdict.noticed for verdict in verdicts)
    print(f"{len(verdicts) - survivors} of {len(verdicts)} noticed")
    if given.write_docs and not survivors:
        where = top / "docs" / "reference" / "mutants.md"
        before = where.read_text(encoding="utf-8") if where.exists() else ""
        where.write_text(page(mutants, verdicts, before), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
