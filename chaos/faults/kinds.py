"""The list of faults."""

from __future__ import annotations

from chaos.faults.links import AllCutOff, CutOff, HungUp, Lost, OneWay, Slow, Torn
from chaos.faults.nodes import ClockJumped, Killed, RolledOver, Starved, Stopped
from chaos.faults.protocol import Fault
from chaos.faults.rows import (
    FileLocked,
    LeasesLapsed,
    LocksDropped,
    PresenceLost,
    RowsHeld,
    ScriptsForgotten,
    SnapshotKept,
    WakingLost,
)
from chaos.faults.servers import Exhausted, FailedOver, ServerKilled, ThrownOut

ALL: tuple[Fault, ...] = (
    Killed(),
    Stopped(),
    Starved(),
    RolledOver(),
    ClockJumped(),
    CutOff(),
    OneWay(),
    AllCutOff(),
    HungUp(),
    Slow(),
    Torn(),
    Lost(),
    ServerKilled(),
    ThrownOut(),
    Exhausted(),
    FailedOver(),
    PresenceLost(),
    LeasesLapsed(),
    LocksDropped(),
    ScriptsForgotten(),
    WakingLost(),
    RowsHeld(),
    FileLocked(),
    SnapshotKept(),
)


def for_store(kind: str) -> tuple[Fault, ...]:
    """Return the faults that mean something on a kind of store, always in the same order."""
    return tuple(fault for fault in ALL if kind in fault.stores)
