"""``onebeat-sim``: many small worlds, each drawn from one seed, each watched by every checker.

A world is two dispatchers and two workers (the real engine), one or two editors and the weather, on one
store. First the safety phase: faults of every kind, while the checkers look at each answer. Then the liveness
phase: faults stop, and all that is owed has to be settled in time, every run to end, nothing to be stuck.
docs/explanation/simulator.md tells more.
"""

import argparse
import logging
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from onebeat.core.messages import RunQuery, Share
from onebeat.core.model import LIVE, Run, RunState
from onebeat.core.ports import Clock, Store
from onebeat.store.memory import MemoryStore
from onebeat.testing.checkers import Broken
from onebeat.testing.clock import NOON
from onebeat.testing.sim_draw import ACTS, COMMON, FLEET, GROUPED, KINDS, NAMES, RARE, WHOLE, Plan
from onebeat.testing.sim_editor import Editor
from onebeat.testing.sim_fleet import Broker, FleetNode, OutboxNode
from onebeat.testing.sim_nodes import DispatcherNode, Weather, WorkerNode
from onebeat.testing.sim_shrink import Shrinking
from onebeat.testing.sim_summary import Survived, summary
from onebeat.testing.sim_world import Node, World, WorldEnds

TRIES = 200
"""How many worlds are tried to find a smaller one that breaks in the same way."""


class Stuck(AssertionError):
    """The liveness phase ended, and something had not."""


def survive(
    seed: int,
    open_store: Callable[[Clock], Store],
    trace: Callable[[str], None] | None = None,
    plan: Plan = WHOLE,
) -> Survived:
    """Live through one world. Whatever goes wrong in it is an answer, not an exception."""
    began_s = time.process_time()
    world = World(seed, open_store, connects=open_store is not MemoryStore, plan=plan)
    world.trace = trace
    broken = None
    logger = logging.getLogger("onebeat")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # takeovers are the point here, and no news
    try:
        live(world)
    except (Broken, Stuck, WorldEnds) as error:
        broken = str(error)
        if trace is not None:
            traceback.print_exc()
    except Exception as error:
        if trace is not None:
            raise
        broken = f"a step raised {type(error).__name__}: {error}"
    finally:
        logger.setLevel(level)
        world.close()
    return Survived(
        seed=seed,
        plan=plan,
        settled=world.watch.seen.settled,
        faults=world.faults,
        calls=world.calls.total(),
        broken=broken,
        broke_at_s=(world.time - NOON).total_seconds(),
        until_s=until(world).total_seconds(),
        nodes=tuple(node.name for node in world.nodes if node.name[-1].isdigit()),
        calm=world.pace.calm,
        node_hours=world.node_hours(),
        took_s=time.process_time() - began_s,
    )


def live(world: World) -> None:
    """Populate a world, let it suffer, let it recover, and see that nothing is left."""
    editors = populate(world)
    pace = world.pace
    end = world.time + until(world)
    world.faulty = True
    while world.time < end:
        world.run(min(world.time + pace.look_every, end))
        world.watch.look(world.store)
    world.watch.rest(world.store)

    world.peace()
    for editor in editors:
        editor.retired = True
    editors[0].release()
    world.run(world.time + pace.patience)
    world.watch.calm(world.clock.now(), pace.patience)
    end = world.time + pace.liveness
    while world.time < end:
        world.run(world.time + pace.look_every / 2)
        world.watch.look(world.store)

    editors[0].pause_all()
    drain(world)
    world.watch.rest(world.store)


def until(world: World) -> timedelta:
    """Return how long the safety phase lasts."""
    cut = world.plan.until
    return world.pace.safety if cut is None else timedelta(seconds=cut)


def drain(world: World) -> None:
    """Let what is under way end; raise Stuck when nothing has moved for as long as nothing may take."""
    unfinished = RunQuery(states=(RunState.WAITING, *sorted(LIVE)))
    before: list[Run] = []
    end = world.time
    while left := world.store.runs(unfinished):
        if len(left) != len(before):
            before, end = left, world.time + world.pace.patience_to_end
        elif world.time > end:
            raise Stuck(f"liveness: {len(left)} runs do not end, among them {left[-1]}")
        world.run(world.time + world.pace.look_every / 5)
        world.watch.look(world.store)


def populate(world: World) -> list[Editor]:
    """Fill a world with nodes and schedules; return its editors."""
    of = world.pace.dispatchers
    shares = [Share(index=index, of=of) if world.luck.shared else None for index in range(of)]
    editors = [Editor(world, f"editor{number}") for number in range(world.draw.one((1, 1, 2)))]
    world.nodes += [
        *(DispatcherNode(world, f"dispatcher{number}", share) for number, share in enumerate(shares)),
        *(
            WorkerNode(world, f"worker{number}", (COMMON,) if number else (COMMON, RARE))
            for number in range(world.pace.workers)
        ),
        *(_fleet(world) if world.fleet else ()),
        *editors,
        Weather(world, "weather"),
    ]
    world.nodes = [node for node in world.nodes if world.has(node.name) or node in editors]
    editors[0].begin()
    editors[0].start()
    for name in NAMES[: world.draw.one((5, 6, 7))]:
        editors[0].act(name)
    return editors


def _fleet(world: World) -> list[Node]:
    """Return two outboxes, and two workers of others behind one broker."""
    broker = Broker(world)
    return [
        *(OutboxNode(world, f"outbox{number}", broker) for number in range(2)),
        *(FleetNode(world, f"fleet{number}", broker) for number in range(2)),
    ]


# --- many worlds --------------------------------------------------------------------------------------


@contextmanager
def stores(kind: str) -> Iterator[Callable[[int], Callable[[Clock], Store]]]:
    """Yield what opens a fresh store for each seed: memory, sqlite, or on the server of a redis:// URL."""
    if kind == "memory":
        yield lambda _seed: MemoryStore
        return
    if kind != "sqlite":
        yield from _on_redis(kind)
        return
    from onebeat.store.open import open_store  # noqa: PLC0415 - a run on memory needs no other store

    memory_disk = Path("/dev/shm")  # noqa: S108 - a crash of the machine is not what is simulated here
    with tempfile.TemporaryDirectory(dir=memory_disk if memory_disk.is_dir() else None) as folder:

        def on_file(seed: int) -> Callable[[Clock], Store]:
            def opened(clock: Clock) -> Store:
                return open_store(f"sqlite:///{folder}/{seed}.db", clock)

            return opened

        yield on_file


def _on_redis(url: str) -> Generator[Callable[[int], Callable[[Clock], Store]], None, None]:
    from onebeat.store.redis.opening import (  # noqa: PLC0415 - most runs need no server, nor its library
        erase_ledger,
        open_on_clock,
    )

    ledgers: list[str] = []

    def on_server(seed: int) -> Callable[[Clock], Store]:
        # Of its own for each process, too: several may live through seeds at once.
        mark = "&" if "?" in url else "?"
        ledgers.append(f"{url}{mark}namespace=sim-{os.getpid()}-{seed}")
        return partial(open_on_clock, ledgers[-1])

    try:
        yield on_server
    finally:
        for ledger in ledgers:
            erase_ledger(ledger)


def survive_on(
    store: str, seed: int, trace: Callable[[str], None] | None = None, plan: Plan = WHOLE
) -> Survived:
    """Live through one world on a store of a kind; leave nothing behind."""
    with stores(store) as opener:
        return survive(seed, opener(seed), trace, plan)


def survived(store: str, seeds: range, jobs: int, plan: Plan = WHOLE) -> Generator[Survived, None, None]:
    """Live through many worlds, in several processes if asked; yield them in the order of their seeds."""
    live = partial(survive_on, store, plan=plan)
    if jobs == 1:
        yield from map(live, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(live, seeds, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onebeat-sim",
        description="Live through many small simulated clusters, each drawn from one seed; watch I1 to I8.",
        epilog="example: onebeat-sim --seeds 1000 --store memory",
    )
    add = parser.add_argument
    add("--seeds", type=int, default=100, help="how many seeds (default 100)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--store", type=_store, default="memory", help="memory, sqlite, or a redis:// URL (default memory)")
    add("--jobs", type=int, default=1, help="how many processes (default 1)")
    add("--trace", action="store_true", help="print every call of the ledger, and the traceback of a failure")
    add("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    add(
        "--shrink",
        type=int,
        default=TRIES,
        help=f"worlds to try for a smaller one (default {TRIES}; 0: none)",
    )
    add(
        "--without", type=_left_out, default=frozenset(), help="what to leave out: names, with commas between"
    )
    add("--until", type=float, help="where to end the safety phase, in seconds (default: as drawn)")
    return parser


def planned(argv: Sequence[str]) -> Plan:
    """Return what a command line leaves of a world."""
    given = _parser().parse_args(argv)
    return Plan(given.without, given.until)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``onebeat-sim``; return its exit status: 0, or 1 when an invariant broke."""
    given = _parser().parse_args(argv)
    plan = Plan(given.without, given.until)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.trace:
        worlds = (survive_on(given.store, seed, print, plan) for seed in seeds)
    else:
        worlds = survived(given.store, seeds, given.jobs, plan)
    done: list[Survived] = []
    with closing(worlds):
        for lived in worlds:
            done.append(lived)
            _progress(len(done), given.seeds)
            if lived.broken is not None:
                print(f"\n{lived.broken}")
                small = lived if given.trace else shrunk(lived, given.store, given.shrink)
                print(small.replay(given.store))
                if not given.keep_going:
                    break
    print(summary(done))
    return 1 if any(each.broken for each in done) else 0


def _store(kind: str) -> str:
    if kind not in ("memory", "sqlite") and not kind.startswith(("redis://", "rediss://")):
        raise argparse.ArgumentTypeError(f"{kind!r} is none of memory, sqlite and redis://host:6379/0")
    return kind


def _left_out(names: str) -> frozenset[str]:
    wanted = frozenset(name.strip() for name in names.split(","))
    known = {*KINDS, *ACTS, *NAMES, "overtaking", FLEET, GROUPED}
    strange = [
        name
        for name in wanted - known
        if not re.fullmatch(r"(dispatcher|worker|editor|outbox|fleet)\d", name)
    ]
    if strange:
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(strange))}: nothing in a world is called so; there are nodes (worker1), "
            f"schedules (s0 to {NAMES[-1]}), overtaking, edits ({', '.join(ACTS)}) and {', '.join(KINDS)}"
        )
    return wanted


def shrunk(lived: Survived, store: str, tries: int) -> Survived:
    """Return the smallest world of so many tries that breaks in the same way; say so if it is smaller."""
    if not tries:
        return lived
    search = Shrinking(lived, lambda plan: survive_on(store, lived.seed, plan=plan), tries, _progress)
    small = search.search()
    if small is not lived:
        print(f"in {search.tried} tries to a smaller world, of {small.calls} calls, not {lived.calls}:")
        print(small.broken)
    return small


def _progress(done: int, of: int) -> None:
    """Show how far it is, at a terminal only."""
    if sys.stderr.isatty():
        filled = 40 * done // of
        end = "\n" if done == of else ""
        print(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{of}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
