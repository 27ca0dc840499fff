"""A function has one address, however the program that defines it was started."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from onebeat.core.targets import address_of


def defined_in(**names: Any) -> Callable[[], None]:
    """A function as it looks in a module with these names."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec("def report(): pass", space)
    function: Callable[[], None] = space["report"]
    return function


def test_a_script_has_the_address_under_which_others_import_it() -> None:
    assert address_of(defined_in(__file__="shop/beats.py")) == "beats:report"


def test_a_module_run_by_name_keeps_that_name() -> None:
    spec = ModuleSpec("shop.beats", None)

    assert address_of(defined_in(__file__="shop/beats.py", __spec__=spec)) == "shop.beats:report"


@pytest.mark.parametrize("names", [{}, {"__file__": "daily-report.py"}, {"__spec__": None}])
def test_what_nobody_can_import_stays_in_main(names: dict[str, Any]) -> None:
    assert address_of(defined_in(**names)) == "__main__:report"
