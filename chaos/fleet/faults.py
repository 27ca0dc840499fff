"""What happens to a fleet: to beats, to workers and their children, to the broker and what leads there."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from random import Random
from typing import cast

from chaos.faults.links import AllCutOff, CutOff, HungUp, Lost, OneWay, Slow, Torn
from chaos.faults.nodes import RolledOver
from chaos.faults.protocol import STORES, Fault, Nobody, Usual
from chaos.faults.rows import PresenceLost, WakingLost
from chaos.faults.servers import ServerKilled, ThrownOut
from chaos.fleet.place import Fleet, Member, send
from chaos.place import Node, Place
from chaos.wire import BOTH, Burden, Wire


def fleet_of(place: Place) -> Fleet:
    """Return the place of a fleet. Raises Nobody where there is none."""
    if not isinstance(place, Fleet):
        raise Nobody
    return place


class _OfRole(Usual):
    """Hurts one member of a role, for a while."""

    stores = STORES
    role: str

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        fleet = fleet_of(place)
        member = cast(Member, fleet.take(rng, role=self.role))
        left.callback(fleet.give, member)
        self.strike(fleet, member, rng, left)
        return member.name

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        """Do it, and put what undoes it into ``left``."""
        raise NotImplementedError


class _Killed(_OfRole):
    """SIGKILL, children and all; after a while somebody else sits in its place."""

    lasts_s = (0.2, 4.0)

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        left.callback(fleet.restart_node, member)
        member.killed()


class BeatKilled(_Killed):
    kind = "beat killed"
    role = "beat"


class WorkerKilled(_Killed):
    kind = "worker killed with its children"
    role = "worker"


class MainKilled(_Killed):
    """SIGKILL to a worker's main process alone: its children go on with what they have in hand."""

    kind = "main process of a worker killed"
    role = "worker"

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        left.callback(fleet.restart_node, member)
        member.alone(signal.SIGKILL)


class ChildKilled(_OfRole):
    """SIGKILL to one child: the main process makes another one."""

    kind = "child of a worker killed"
    role = "worker"
    lasts_s = (0.5, 2.0)

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        children = member.children
        if not children:
            raise Nobody
        send(rng.choice(children), signal.SIGKILL)


class _Stopped(_OfRole):
    """SIGSTOP for longer than a lease, children and all, and SIGCONT."""

    lasts_s = (4.0, 8.0)

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        left.callback(member.signalled, signal.SIGCONT)
        member.signalled(signal.SIGSTOP)


class BeatStopped(_Stopped):
    kind = "beat stopped past a lease"
    role = "beat"


class WorkerStopped(_Stopped):
    kind = "worker stopped past its leases"
    role = "worker"


class MainStopped(_OfRole):
    """SIGSTOP to a worker's main process alone: nobody renews what its children go on with."""

    kind = "main process of a worker stopped"
    role = "worker"
    lasts_s = (4.0, 8.0)

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        left.callback(member.alone, signal.SIGCONT)
        member.alone(signal.SIGSTOP)


class ChildStopped(_OfRole):
    """SIGSTOP to one child, whose lease its main process goes on renewing."""

    kind = "child of a worker stopped"
    role = "worker"
    lasts_s = (2.0, 6.0)

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        children = member.children
        if not children:
            raise Nobody
        child = rng.choice(children)
        left.callback(send, child, signal.SIGCONT)
        send(child, signal.SIGSTOP)


# --- the broker ---------------------------------------------------------------------------------------


class BrokerKilled(Usual):
    """kill -9; it is started again on what it kept."""

    kind = "broker killed"
    stores = STORES
    lasts_s = (0.2, 3.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        broker = fleet_of(place).broker
        broker.kill()
        left.callback(broker.start)
        return "the broker"


class BrokerForgot(Usual):
    """kill -9, and all that it kept is gone: every message, every queue."""

    kind = "broker killed, its data lost"
    stores = STORES
    lasts_s = (0.2, 3.0)
    wide = True

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        broker = fleet_of(place).broker
        broker.kill()
        left.callback(broker.start)
        broker.forget()
        return "the broker"


def post_of(node: Node) -> Wire:
    """Return the link of a member to the broker. Raises Nobody for who has none."""
    if not isinstance(node, Member):
        raise Nobody
    return node.broker


class PostCutOff(CutOff):
    """What it says to the broker is heard by nobody, and it hears nothing from there."""

    kind = "link to the broker silent"
    stores = STORES

    def wire(self, node: Node) -> Wire:
        return post_of(node)


class PostHungUp(_OfRole):
    """Its connections to the broker are closed, and nobody answers for a while."""

    kind = "hung up on by the broker"
    lasts_s = (0.2, 6.0)
    role = ""

    def strike(self, fleet: Fleet, member: Member, rng: Random, left: ExitStack) -> None:
        left.callback(member.broker.mend)
        member.broker.cut()


class PostSlow(Slow):
    """The way to the broker takes its time, now more and now less."""

    kind = "slow link to the broker"
    stores = STORES

    def wire(self, node: Node) -> Wire:
        return post_of(node)


class PostLost(Lost):
    """Some of what the broker was told is done, and nobody hears of it."""

    kind = "replies of the broker lost"
    stores = STORES

    def wire(self, node: Node) -> Wire:
        return post_of(node)


class PostAllCutOff(AllCutOff):
    """The broker is on the other side of a silent network, for everybody."""

    kind = "everybody cut off from the broker"
    stores = STORES

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        for member in fleet_of(place).members:
            left.callback(member.broker.lay(Burden(held=BOTH)))
        return "every link"


class Scaled(Usual):
    """Every beat but one ends, and they all begin again: from one to many and back, as a deploy has it."""

    kind = "all beats but one ended and begun again"
    stores = STORES
    lasts_s = (2.0, 6.0)

    def hurt(self, place: Place, rng: Random, left: ExitStack) -> str:
        fleet = fleet_of(place)
        beats: list[Node] = []
        while True:
            try:
                beats.append(fleet.take(rng, role="beat"))
            except Nobody:
                break
            left.callback(fleet.give, beats[-1])
        if not beats:
            raise Nobody
        for beat in beats:
            left.callback(fleet.restart_node, beat)
            beat.signalled(signal.SIGTERM)
        return ", ".join(sorted(beat.name for beat in beats))


ALL: tuple[Fault, ...] = (
    BeatKilled(),
    BeatStopped(),
    Scaled(),
    WorkerKilled(),
    MainKilled(),
    ChildKilled(),
    WorkerStopped(),
    MainStopped(),
    ChildStopped(),
    RolledOver(),
    BrokerKilled(),
    BrokerForgot(),
    PostCutOff(),
    PostHungUp(),
    PostSlow(),
    PostLost(),
    PostAllCutOff(),
    CutOff(),
    OneWay(),
    HungUp(),
    Slow(),
    Torn(),
    Lost(),
    ServerKilled(),
    ThrownOut(),
    PresenceLost(),
    WakingLost(),
)


def for_fleet(store: str) -> tuple[Fault, ...]:
    """Return what is done to a fleet whose ledger is of a kind, always in the same order."""
    return tuple(fault for fault in ALL if store in fault.stores)
