"""What a fail-over doubles, measured: ``python -m tests.fleet.measure KIND LAG_MS [TIMES]``, a line each.

LAG_MS is by how much the replica is held behind; `sync` makes it synchronous instead. The figures in
docs/explanation/fail-over.md come from here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from chaos.wire import Burden, Link
from tests.fleet.fleet import Fleet
from tests.servers.pairs import PAIRS
from tests.servers.running import SERVERS

from onebeat.core.model import micros
from onebeat.engine.clock import SystemClock

SCHEDULES, NODES = 50, 2
BEFORE, AFTER = 4, 2
LEASE_S = 30


def measured(kind: str, lag: str, place: Path) -> str:
    """Let a fleet fire, kill its server, promote the replica; say what the world saw twice."""
    in_step = lag == "sync"
    pair = PAIRS[kind](in_step=in_step, delay_s=0.0)
    fleet = Fleet(pair.url_of_both(), place)
    try:
        fleet.put(SCHEDULES, spread=True)
        pair.catch_up()
        if not in_step:
            pair.wire.lay(Burden(down=Link(latency_s=float(lag) / 1000)))
        fleet.start(NODES, lease=LEASE_S)
        fleet.until_fired(1)  # with all that was owed before they began
        fleet.until_fired(BEFORE)
        pair.nodes.cut()
        pair.kill()
        at, killed_at = time.monotonic(), micros(SystemClock().now())
        before = {each.run_id for each in fleet.effects()}
        known = pair.done()
        behind = (killed_at - pair.newest()) // 1000
        pair.promote()
        pair.nodes.mend(pair.replica_port)
        fleet.until(lambda: {each.run_id for each in fleet.effects()} - before)
        again = time.monotonic() - at
        fleet.until_fired(AFTER)
        fleet.rest()
        report = fleet.beat.audit()
        assert report.right
        return (
            f"{kind} lag={lag} behind_ms={behind} rate={SCHEDULES}/s done_before={len(before)} "
            f"not_replicated={len(before - known)} doubled={len(fleet.doubled())} missed={report.gaps} "
            f"first_fire_after_s={again:.1f} "
            f"audit={'right' if report.right else 'wrong'}"
        )
    finally:
        fleet.close()
        pair.close()


def main(kind: str, lag: str, times: str = "1") -> None:
    SERVERS.own()
    try:
        for _ in range(int(times)):
            with tempfile.TemporaryDirectory() as place:
                print(measured(kind, lag, Path(place)), flush=True)
    finally:
        SERVERS.leave()


if __name__ == "__main__":
    os.environ.pop("ONEBEAT_URL", None)
    main(*sys.argv[1:])
