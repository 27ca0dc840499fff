"""What the tests of the importers share: an import by its command, and what its plan says of each entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from onebeat.cli.main import run
from onebeat.cli.session import Session
from onebeat.testing.virtual import VirtualOnebeat


def importing(
    onebeat: VirtualOnebeat, capsys: pytest.CaptureFixture[str], source: str, here: str, *always: str
) -> Callable[..., Any]:
    """Return what imports from a source with more options: what --json prints, with the exit status in it."""

    def import_(*options: str, url: str = "") -> Any:
        capsys.readouterr()
        status = run(["import", source, url or here, *always, "--json", *options], Session(onebeat))
        said, complained = capsys.readouterr()
        return json.loads(said or complained) | {"status": status}

    return import_


def did(plan: Any) -> dict[str, str]:
    """Return what a plan does with each entry, and with each schedule that nothing declares any more."""
    return {each["entry"]: each["what"] for each in plan["entries"]} | {
        step["name"]: step["verb"] for step in plan["gone"]
    }
