"""What the tests of the stores run under."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# From a checkout pytest does not know these files: a failing assert would not say what it compared.
found = find_spec("onebeat.testing")
assert found is not None
for place in found.submodule_search_locations or ():
    for path in Path(place).glob("conformance*.py"):
        pytest.register_assert_rewrite(f"onebeat.testing.{path.stem}")
