"""What every test runs under."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tests.servers import redis
from tests.servers.running import KINDS, SERVERS

# No deadline for an example: how long one takes says more about the machine than about the code.
# A failure prints what repeats it. `--hypothesis-profile long` looks further, for the tests marked `long`.
settings.register_profile("onebeat", deadline=None, print_blob=True)
settings.register_profile("long", parent=settings.get_profile("onebeat"), max_examples=5000)
settings.load_profile("onebeat")


@pytest.fixture
def own_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget at the end which modules of its folder the test has imported, and by what path.

    Who comes next in this process may mean another module by the same name, or that there is none.
    """
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    packages = [file.parent for file in tmp_path.glob("*/__init__.py")]
    written = {path.stem for path in (*packages, *tmp_path.glob("*.py"))}
    for name in [each for each in sys.modules if each.partition(".")[0] in written]:
        del sys.modules[name]


# --- servers: real ones, shared by the workers of a run; --without is the only way to leave a kind out

# spin is no server; it is real, and may not be there
KINDS_OF_PROGRAMS = (*KINDS, "redis", "rabbitmq", "spin")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without", action="append", choices=KINDS_OF_PROGRAMS, default=[], help="leave out a kind of server"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "server(kind): needs a real server of that kind")
    told: dict[str, Any] | None = getattr(config, "workerinput", None)
    if told is None:
        SERVERS.own()
    else:
        SERVERS.join(told["servers"], told["servers_owner"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput |= {"servers": str(SERVERS.folder), "servers_owner": SERVERS.owner}


def pytest_unconfigure() -> None:
    SERVERS.leave()
    redis.stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = set(config.getoption("--without"))
    gone = [item for item in items if without & {mark.args[0] for mark in item.iter_markers("server")}]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for kind in sorted(set(config.getoption("--without"))):
        terminalreporter.write_line(f"LEFT OUT by --without: every test that needs {kind}", yellow=True)
