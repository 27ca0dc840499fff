"""The outside file: what the bodies themselves say has happened, read as plain lines."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from onebeat.demo.expect import micros


@dataclass(frozen=True)
class Line:
    """One line: a body began, ended, or stopped because its run was no longer its own."""

    at: int
    what: str
    schedule: str
    occurrence: int
    run: str
    attempt: int
    token: int
    pid: int


def read(path: Path) -> list[Line]:
    """Return all lines, in the order in which they were appended. A line that is no line is an error."""
    if not path.exists():
        return []
    return [_line(text) for text in path.read_text(encoding="utf-8").splitlines()]


def _line(text: str) -> Line:
    found = json.loads(text)
    return Line(
        at=micros(datetime.fromisoformat(found["at"])),
        what=found["what"],
        schedule=found["schedule"],
        occurrence=micros(datetime.fromisoformat(found["occurrence"])),
        run=found["run"],
        attempt=found["attempt"],
        token=found["token"],
        pid=found["pid"],
    )
