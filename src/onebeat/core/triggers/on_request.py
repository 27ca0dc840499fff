"""No instant at all: what runs only when a person, a program or a handler asks for a run."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from onebeat.core.model import TriggerSpec
from onebeat.core.triggers.protocol import Trigger
from onebeat.core.triggers.registry import Fields, kind, read_fields


class OnRequestFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of kind ``on_request``: none."""


def on_request() -> TriggerSpec:
    """Return the trigger that never comes by itself: its schedule runs when a run is asked for."""
    return TriggerSpec(kind="on_request")


@dataclass(frozen=True, slots=True)
class OnRequestTrigger:
    """The empty set of instants."""

    zoned: bool = False
    late_start: bool = False

    def after(self, t: datetime, /) -> datetime | None:
        """Return None."""
        return None

    def before(self, t: datetime, /) -> datetime | None:
        """Return None."""
        return None

    def count(self, after: datetime, until: datetime, /) -> int:
        """Return 0."""
        return 0


def _words(fields: Fields, lang: str) -> str:
    return "仅在请求时" if lang == "zh" else "when asked for"


@kind("on_request", shape=OnRequestFields, words=_words)
def _build(fields: Fields) -> Trigger:
    read_fields("on_request", fields, OnRequestFields)
    return OnRequestTrigger()
