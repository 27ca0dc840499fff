"""The rules of the house that no linter knows, each with its reason. A rule may be changed; say why, here."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import onebeat

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "src" / "onebeat"
THIS = "tests/test_tidy.py"  # it has to spell out what it looks for

LINES_MAX = 500
LINES_MAX_EVER = 1000
BODY_LINES_MAX = 70
INIT_LINES_MAX = 80  # a line for each public name, and there are many kinds of when

# path -> reason. A file that is short again must leave the list.
LONG_FILES: dict[str, str] = {}

# "path:qualified name" -> reason.
LONG_FUNCTIONS: dict[str, str] = {}


def names() -> list[str]:
    """What git tracks. A copy without git has nothing but the files, so there it is what is not hidden."""
    if shutil.which("git") is None or not (TOP / ".git").exists():
        paths = [path.relative_to(TOP) for path in TOP.rglob("*")]
        return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    # Whose checkout it is does not matter for reading a list of names.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]


@cache
def tracked() -> dict[str, str]:
    """Every tracked text file: path from the top -> text."""
    texts = {}
    for name in names():
        path = TOP / name
        if path.is_file() and path.suffix != ".pyc" and b"\0" not in (raw := path.read_bytes()):
            texts[name] = raw.decode("utf-8")
    return texts


@cache
def source() -> dict[str, ast.Module]:
    """Every module of the package, tracked or not: path from the top -> syntax tree."""
    return {
        path.relative_to(TOP).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def functions(
    tree: ast.AST, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = prefix + node.name
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, name + ".")
        else:
            yield from functions(node, prefix)


def imports(tree: ast.AST) -> Iterator[str]:
    """The full name of every module that is imported, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def python_lines() -> Iterator[tuple[str, str]]:
    """Every line of every tracked Python file: ("path:number", line)."""
    for name, text in tracked().items():
        if name.endswith(".py") and name != THIS:
            for number, line in enumerate(text.splitlines(), 1):
                yield f"{name}:{number}", line


def test_a_file_can_be_read_in_one_sitting() -> None:
    lengths = {name: len((TOP / name).read_text(encoding="utf-8").splitlines()) for name in source()}

    assert {name for name, length in lengths.items() if length > LINES_MAX} == LONG_FILES.keys()
    assert not {name for name, length in lengths.items() if length > LINES_MAX_EVER}


def test_a_function_can_be_seen_at_once() -> None:
    # The body without its docstring: words that explain must never be what makes a function too long.
    too_long = set()
    for name, tree in source().items():
        for function, node in functions(tree):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > BODY_LINES_MAX:
                too_long.add(f"{name}:{function}")

    assert too_long == LONG_FUNCTIONS.keys()


def test_no_room_is_named_for_nothing() -> None:
    # Such a room belongs to nobody, so everything ends up in it.
    nameless = {"utils", "util", "common", "helpers", "helper", "misc", "base"}

    assert not [name for name in source() if nameless & set(Path(name).with_suffix("").parts)]


def test_an_init_file_only_re_exports() -> None:
    # Whoever looks for code looks in a file with a name.
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.If)
    for name, tree in source().items():
        if name.endswith("/__init__.py"):
            others = [type(node).__name__ for node in tree.body if not isinstance(node, allowed)]
            assert not others, f"{name} holds {others}"

    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) <= INIT_LINES_MAX


def test_no_public_name_is_also_the_name_of_a_room() -> None:
    # `onebeat.web` would be a function or a package, depending on what was imported before.
    rooms = {path.stem for path in PACKAGE.iterdir()}

    assert not rooms & set(onebeat.__all__)


def test_core_is_pure() -> None:
    # Given the same row and the same instant it must decide the same, on every node and in every test.
    impure = {"asyncio", "concurrent", "logging", "multiprocessing", "os", "random", "secrets", "select"}
    impure |= {"signal", "socket", "sqlite3", "subprocess", "threading", "time", "urllib", "apsw", "click"}
    for name, tree in source().items():
        if name.startswith("src/onebeat/core/"):
            used = {module.split(".")[0] for module in imports(tree)} & impure
            assert not used, f"{name} imports {used}"


def test_an_optional_library_is_imported_in_one_file() -> None:
    # Then leaving it out breaks one thing, in one place, with one message.
    extras = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    distributions = {re.split(r"[^\w.-]", need)[0] for needs in extras.values() for need in needs} - {
        "onebeat"
    }
    imported_as = {"python-dateutil": "dateutil"}  # where the two names differ
    for distribution in distributions:
        module = imported_as.get(distribution, distribution.replace("-", "_"))
        users = [
            name
            for name, tree in source().items()
            if module in {used.split(".")[0] for used in imports(tree)}
        ]
        assert len(users) <= 1, f"{distribution} is imported by {users}"


def test_nothing_is_left_to_be_mended_later() -> None:
    # What must be mended is mended before it merges; what may wait has a number under which it waits.
    assert not [place for place, line in python_lines() if "FIXME" in line]
    assert not [place for place, line in python_lines() if re.search(r"\bTODO\b(?!\(#\d+\))", line)]


def test_every_silenced_check_says_why() -> None:
    # As in `noqa: S310  # the URL was checked above`: without the reason nobody dares to remove it again.
    silenced = re.compile(r"#\s*(noqa|type:\s*ignore|pragma)\b(?P<rest>.*)")
    reason = re.compile(r"\s(#|-|--|—)\s+\w+.*\w")

    found = [(place, match["rest"]) for place, line in python_lines() if (match := silenced.search(line))]
    assert not [place for place, rest in found if not reason.search(rest)]


def test_no_test_sleeps() -> None:
    # A sleeping test is slow on a fast machine and wrong on a slow one. Wait for the thing itself.
    assert not [
        place for place, line in python_lines() if place.startswith("tests/") and "time.sleep(" in line
    ]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    # It works there, and nowhere else.
    of_a_machine = re.compile(r"/root/|/work/|/home/\w+/|/Users/\w+/")

    assert not [name for name, text in tracked().items() if name != THIS and of_a_machine.search(text)]
