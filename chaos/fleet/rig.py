"""A run of the rig on a fleet: the same play and the same evidence, other people."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, cast

from chaos.fleet import load
from chaos.fleet.place import Fleet, opened
from chaos.fleet.sabotage import guarded
from chaos.place import Place
from chaos.rig import Rig
from onebeat import Definition

ROUNDS_A_MINUTE = 0.8
"""How often each kind of fault comes: half as often as to nodes, for who begins anew here takes its time."""


def rounds(minutes: float) -> int:
    """Return how often each kind of fault comes in a play of a fleet."""
    return max(1, round(ROUNDS_A_MINUTE * minutes))


class FleetRig(Rig):
    """Plays ``nodes`` beats and as many workers, by the broker of ``Settings.broker``."""

    def opened(self) -> AbstractContextManager[Place]:
        """Return a fleet in which nobody sits yet."""
        return cast(
            AbstractContextManager[Place], opened(self._settings.store, self._settings.broker, self._folder)
        )

    def wanted(self, second: datetime) -> Mapping[str, Definition]:
        """Return the schedules that nobody edits."""
        return dict(load.wanted(self._settings.size, second, guarded=guarded(self._settings.sabotage)))

    def people(self, place: Place) -> None:
        """Begin the beats, the workers and the editor, each on links of its own."""
        fleet, settings = cast(Fleet, place), self._settings
        by = {"broker": fleet.broker.at(fleet.broker.port), "guarded": guarded(settings.sabotage)}
        for role in ("beat", "worker"):
            for number in range(settings.nodes):
                member = fleet.seat(role, number)
                post = {"broker": fleet.broker.at(member.broker.port)}
                member.told = self.orders(place, member.wire, **{**by, **post})
        edited = tuple(load.edited(settings.size))
        place.editor = self._seat(
            place, "chaos.editor", "editor", edited=edited, edits_s=settings.edits_s, **by
        )
        for seat in place.seats:
            place.restart_node(seat)

    def more(self, place: Place) -> dict[str, Any]:
        """Return what stands between the beats and the workers."""
        return {"broker_server": cast(Fleet, place).broker.version}
