"""What an app can be asked without acting: coming occurrences, and the nodes."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeAlias

from onebeat.app.desk import Desk
from onebeat.core.definition import read_trigger, zone_of
from onebeat.core.errors import LimitExceeded
from onebeat.core.model import NAME, Definition, Node, TriggerSpec, utc
from onebeat.core.triggers import anchored, build, named, words
from onebeat.core.triggers import zone as zone_info

PREVIEW_MAX = 10_000
Found: TypeAlias = list[Node]


class Nodes:
    """The processes that serve a ledger. Found as ``beat.nodes``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def list(self, *, alive: bool = False) -> Found:
        """Return nodes, the most recently seen first; ``alive`` leaves out those that are gone."""
        now = self._desk.store.now()
        return [node for node in self._desk.store.nodes() if not alive or node.alive_until > now]


class Outlook:
    """Looks ahead. Fires nothing, and needs a store only for a schedule that it does not know itself."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def preview(
        self,
        what: str | TriggerSpec,
        n: int,
        *,
        after: datetime | None,
        zone: str | None,
        declared: Mapping[str, Definition],
    ) -> list[datetime]:
        """Return the next ``n`` occurrences, each shown in the trigger's zone."""
        if not 0 <= n <= PREVIEW_MAX:
            raise LimitExceeded(f"n={n} is not from 0 to {PREVIEW_MAX:,}; preview in shorter stretches")
        begin = self._desk.clock.now() if after is None else utc(after, "after")
        spec = self._spec(what, zone, declared)
        shown_in = zone_info(zone_of(spec) or zone or self._desk.zone)
        trigger, instant = build(anchored(spec, begin)), begin
        found: list[datetime] = []
        while len(found) < n and (following := trigger.after(instant)) is not None:
            found.append(following.astimezone(shown_in))
            instant = following
        return found

    def words(
        self, what: str | TriggerSpec, lang: str, *, zone: str | None, declared: Mapping[str, Definition]
    ) -> str:
        """Return when, in the words of people."""
        return words(self._spec(what, zone, declared), lang)

    def _spec(
        self, what: str | TriggerSpec, zone: str | None, declared: Mapping[str, Definition]
    ) -> TriggerSpec:
        if not isinstance(what, str) or not NAME.fullmatch(what):
            return read_trigger(what, zone or self._desk.zone)
        if what in declared:
            return named(declared[what].trigger, what)
        return self._desk.found(what)[0].definition.trigger
