"""Each command, event kind, setting and error is documented, and the docs name nothing that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from onebeat.cli.main import cli
from onebeat.core import errors
from onebeat.core.catalogue import EVENTS, GIVEN, SETTINGS
from onebeat.core.definition import PolicyOptions
from onebeat.core.errors import OnebeatError
from onebeat.core.model import Outcome, RunState

TOP = Path(__file__).resolve().parent.parent
DOCS = TOP / "docs"
SOURCE = TOP / "src" / "onebeat"
SHARED = {"url", "app", "zone", "lang", "json"}
KIND = re.compile(r"(?!onebeat\.)[a-z]{2,}\.[a-z_]+")  # one letter is a table in a statement, not a noun
"""What a kind of event looks like. Loggers and entry points look so too, and begin with our own name."""

OF_THE_TRAIL = {"schedule.purged"}
"""Actions that are in the trail and leave no event."""

OF_THE_DEMO = {"ONEBEAT_DEMO_OUTSIDE", "ONEBEAT_DEMO_START", "ONEBEAT_DEMO_PARENT"}
"""Variables by which the demo speaks to the processes that it starts."""


@cache
def page(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, str]:
    """Return the rows of all tables whose first cell is code, by that cell."""
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)`.*$", text, flags=re.MULTILINE)}


def walked(group: click.Group, above: str = "onebeat") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        full = f"{above} {name}"
        found |= walked(command, full) if isinstance(command, click.Group) else {full: command}
    return found


COMMANDS = walked(cli)


@cache
def literals(but: str = "") -> set[str]:
    """Every text in the package's code, docstrings left out, and the file ``but``."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        if {"testing", "demo"} & set(path.parts) or path.name == but:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        spoken = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
                found.add(node.value)
    return found


# --- commands -------------------------------------------------------------------------------------------


def test_the_page_of_the_command_line_has_every_command_and_no_other() -> None:
    assert sections(page("cli.md")).keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented_and_no_other(name: str) -> None:
    options = {
        option
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option) and parameter.name not in SHARED
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    listed = {
        option
        for row in re.findall(r"^\| (`-.+?) \|", sections(page("cli.md"))[name], flags=re.MULTILINE)
        for option in re.findall(r"`([^`]+)`", row)
    }

    assert listed - {"--json"} == options - {"--json"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_the_one_of_its_help(name: str) -> None:
    said = " ".join((COMMANDS[name].help or "").split())
    shown = re.search(r"```sh\n(.+?)\n```", sections(page("cli.md"))[name], flags=re.DOTALL)

    assert shown is not None
    assert said.endswith(f"Example: {shown[1]}")


def test_what_every_command_takes_is_documented_once() -> None:
    head = page("cli.md").partition("\n## ")[0]

    assert {f"--{name}" for name in SHARED} <= set(re.findall(r"`(--[a-z]+)", head))


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_commands_in_the_docs_are_commands(path: Path) -> None:
    known = {tuple(name.split()[1:]) for name in COMMANDS}
    groups = {words[:1] for words in known if len(words) == 2}
    for shown in re.findall(
        r"(?:^|`)onebeat ([a-z][a-z -]*)", path.read_text(encoding="utf-8"), re.MULTILINE
    ):
        words = tuple(shown.split())
        assert words[:1] in known | groups, f"onebeat {shown}"
        if words[:1] in groups - known and len(words) > 1:
            assert words[:2] in known, f"onebeat {shown}"


# --- events ---------------------------------------------------------------------------------------------


def test_the_page_of_events_has_every_kind_and_no_other() -> None:
    assert rows(page("events.md")).keys() == EVENTS.keys()


def test_the_catalogue_has_every_kind_that_the_code_writes_and_no_other() -> None:
    written = {text for text in literals(but="catalogue.py") if KIND.fullmatch(text)} - OF_THE_TRAIL
    # These two are put together by the code: run.<state> when a run ends, attempt.<outcome> when it goes on.
    reported = {RunState.SUCCEEDED, RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED}
    again = {Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST}
    ends = {f"run.{state.value}" for state in reported} | {f"attempt.{outcome.value}" for outcome in again}

    assert written | ends == EVENTS.keys()


def test_kinds_in_the_docs_are_kinds() -> None:
    for path in DOCS.rglob("*.md"):
        for shown in re.findall(
            r"[`\"]((?:schedule|run|attempt|handler|firing)\.[a-z_]+)[`\"]", path.read_text()
        ):
            known = shown in EVENTS or shown in OF_THE_TRAIL
            assert known or shown.startswith("run."), f"{path.name}: {shown}"


# --- settings -------------------------------------------------------------------------------------------


def test_the_page_of_settings_has_every_setting_and_no_other() -> None:
    assert {name for name in rows(page("settings.md")) if name.startswith("ONEBEAT_")} == SETTINGS.keys()


def test_every_variable_that_the_code_reads_is_in_the_catalogue() -> None:
    read = {text for text in literals() if re.fullmatch(r"ONEBEAT_[A-Z_]+", text)}

    assert read - OF_THE_DEMO - GIVEN <= SETTINGS.keys()


def test_variables_in_the_docs_are_settings() -> None:
    for path in DOCS.rglob("*.md"):
        shown = set(re.findall(r"\bONEBEAT_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
        assert shown <= SETTINGS.keys() | OF_THE_DEMO | GIVEN, path.name


# --- errors ---------------------------------------------------------------------------------------------


def every_error(kind: type[OnebeatError] = OnebeatError) -> list[type[OnebeatError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every_error(below))]


def test_the_page_of_errors_has_every_error_with_its_class_and_status() -> None:
    listed = {
        code: tuple(cell.strip(" `") for cell in row.split("|")[2:5])
        for code, row in rows(page("errors.md")).items()
    }

    assert listed.keys() == {kind.code for kind in every_error()}
    for kind in every_error():
        name, also, status = listed[kind.code]
        assert (name, status) == (kind.__name__, str(kind.exit_status))
        bases = {base.__name__ for base in kind.__bases__} - {"OnebeatError", "Exception"}
        assert set(re.findall(r"\w+", also)) == bases, kind.__name__


def test_the_tree_at_the_top_of_the_errors_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")

    assert sorted(drawn) == sorted(kind.__name__ for kind in every_error()[1:])


# --- examples -------------------------------------------------------------------------------------------

OWN_TEST = {"test-your-schedules.md"}
"""Pages whose examples are run by a test of their own."""

HOWTO = sorted(path for path in (DOCS / "howto").glob("*.md") if path.name not in OWN_TEST)


@pytest.mark.parametrize("path", HOWTO, ids=lambda path: path.name)
def test_the_examples_of_a_page_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEBEAT_URL", "memory://")
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)

    program = compile("\n\n".join(blocks), path.name, "exec")
    exec(program, {"__name__": path.stem.replace("-", "_")})


# --- policies -------------------------------------------------------------------------------------------


def test_the_page_of_policies_has_every_option_of_a_policy() -> None:
    assert PolicyOptions.__annotations__.keys() <= rows(page("policies.md")).keys()
