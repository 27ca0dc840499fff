"""The zone in which a machine's cron reads its crontabs: what this machine says it is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from onebeat.core.errors import InvalidInput
from onebeat.core.triggers.walltime import checked_zone


class Here(NamedTuple):
    """A zone, and what names it."""

    zone: str
    why: str


def machine_zone(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> Here:
    """Return the zone of this machine: TZ, else /etc/localtime, else /etc/timezone, else UTC.

    What names none that exists is passed over.
    """
    named = (os.environ if environ is None else environ).get("TZ", "").removeprefix(":")
    for zone, why in (
        (named, "TZ"),
        (_linked(root / "etc/localtime"), "/etc/localtime of this machine"),
        (_written(root / "etc/timezone"), "/etc/timezone of this machine"),
    ):
        try:
            if zone:
                return Here(checked_zone(zone), why)
        except InvalidInput:
            pass
    return Here("UTC", "this machine names none")


def _linked(place: Path) -> str:
    try:
        target = place.readlink().as_posix()
    except OSError:  # not there, or a copy of the zone's data, which does not know its name
        return ""
    return target.partition("zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")


def _written(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
