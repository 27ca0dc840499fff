"""Found by pytest through its entry point, wherever onebeat is installed: the fixture ``onebeat``.

Everything is imported when a test asks for it, so that nobody else's tests pay for it.
docs/howto/test-your-schedules.md tells how it is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from onebeat.testing.virtual import VirtualOnebeat


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "onebeat(zone=None, now=None): the zone and the first instant of the fixture ``onebeat``"
    )


@pytest.fixture
def onebeat(request: pytest.FixtureRequest) -> Iterator["VirtualOnebeat"]:
    """Yield an Onebeat in memory, on virtual time: declare, act, then ``run_until`` an instant."""
    from onebeat.testing.virtual import VirtualOnebeat  # noqa: PLC0415 - see above: only who asks pays

    marker = request.node.get_closest_marker("onebeat")
    with VirtualOnebeat(**({} if marker is None else marker.kwargs)) as beat:
        yield beat
