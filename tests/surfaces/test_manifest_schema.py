"""The published JSON Schema is what the code makes, and takes what the reader takes."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from onebeat.cli.manifest_schema import SAID, schema
from onebeat.core.errors import InvalidInput
from onebeat.core.exporting import written
from onebeat.core.foreign import FOREIGN
from onebeat.core.manifest import KEYS, POLICY, TOP, read_manifest

DOCS = Path(__file__).resolve().parents[2] / "docs"
VALIDATOR = Draft202012Validator(schema())
A = '[schedules.a]\nevery = "1h"\ncall = "a:b"\n'


def as_json(value: Any) -> Any:
    """A value of TOML as the JSON that a schema is about."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, (date, datetime, time)) else value


def fits(text: str) -> bool:
    return bool(VALIDATOR.is_valid(as_json(tomllib.loads(text))))


EXAMPLES = [
    block
    for page in ("reference/manifest.md", "howto/declare-and-deploy.md")
    for block in re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
]


def test_the_published_schema_is_the_one_of_the_code() -> None:
    published = (DOCS / "reference" / "manifest.schema.json").read_text(encoding="utf-8")

    told = "write it anew: onebeat export --schema > docs/reference/manifest.schema.json"
    assert json.loads(published) == json.loads(json.dumps(schema())), told
    assert published == json.dumps(schema(), indent=2) + "\n", told


def test_the_schema_is_one_and_has_every_key_and_no_other() -> None:
    Draft202012Validator.check_schema(schema())

    assert schema()["properties"].keys() == set(TOP)
    assert schema()["$defs"]["schedule"]["properties"].keys() == {*KEYS, *FOREIGN}
    assert SAID.keys() == set(KEYS) - POLICY.keys()


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_docs_fit_and_are_read_and_so_is_what_is_written(text: str) -> None:
    read = read_manifest(text, "docs")

    assert read.definitions
    assert fits(text)
    assert fits(written(read.definitions, owner=read.owner, revision=read.revision))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(
    "text",
    [
        A,
        f'{A}grace = 30\nbackoff = "5m 30s"',
        f'{A}grace = "none"',
        f"{A}max_instances = 2",
        f'{A}tags = "mail"',
        '[schedules.a]\nevery = "1h"\nprocess = "a:b"\nargs = [1]',
        '[schedules.a]\nonce = 2026-11-21T12:00:00Z\ncall = "a:b"',
        '[schedules.a]\non_request = true\nhttp = "https://x"\nok = "2xx"',
        '[schedules.a]\non_request = true\ncelery = "a.b"\nargs = [1]\noptions = { queue = "mail" }',
        """[schedules.a]\ntrigger = '{"kind": "on_request"}'\ntarget = { kind = "x", address = "y" }""",
    ],
)
def test_what_the_reader_takes_fits(text: str) -> None:
    assert read_manifest(text, "it").definitions
    assert fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "format = 2",
        "revision = -1",
        'owner = "The Shop"',
        "[schedule.a]",
        "[defaults]\ntitle = 7",
        '[schedules.A]\nevery = "1h"\ncall = "a:b"',
        '[schedules.a]\nevery = "1h"',
        '[schedules.a]\ncall = "a:b"',
        f'{A}cron = "@daily"',
        f'{A}shell = ["x"]',
        f'{A}gap = "skip"',
        f'{A}input = "x"',
        '[schedules.a]\nevery = "1h"\nshell = ["x"]\nargs = [1]',
        f"{A}grase = 1",
        f'{A}grace = "soon"',
        f'{A}spread = "none"',
        f'{A}overlap = "skp"',
        f"{A}attempts = 0",
        f'{A}attempts = "3"',
        f"{A}report_success = 1",
        f"{A}args = 7",
        '[schedules.a]\nevery = "1h"\nshell = "ls"',
        '[schedules.a]\non_request = false\ncall = "a:b"',
    ],
)
def test_what_the_reader_refuses_does_not_fit(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_manifest(text, "it")
    assert not fits(text)
