"""What is installed is what the project says it is."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re

import apsw

import onebeat

DISTRIBUTION = importlib.metadata.distribution("onebeat")


def test_installed_version_is_the_version_of_the_package() -> None:
    assert DISTRIBUTION.version == onebeat.__version__


def test_a_bare_install_needs_four_libraries() -> None:
    bare = [need for need in DISTRIBUTION.requires or [] if "extra ==" not in need]

    assert {re.split(r"[^\w-]", need)[0] for need in bare} == {"apsw", "click", "msgspec", "tzdata"}


def test_bundled_sqlite_cannot_corrupt_a_shared_wal_file() -> None:
    # Mended in 3.51.3; before that, two connections that write and checkpoint at once can corrupt the file.
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


def test_type_checkers_are_told_that_the_package_has_types() -> None:
    assert importlib.resources.files(onebeat).joinpath("py.typed").is_file()
