"""Onebeat: `python onebeat_node.py setup` puts the schedules; `… node` serves them."""

import os
import sys
import threading
from datetime import UTC, datetime, timedelta

from body import SCHEDULES

from onebeat import Onebeat, call, interval

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
URL = (
    f"postgresql://onebeat@127.0.0.1:{os.environ['PEER_POSTGRES']}/postgres?schema=beats"
    if "PEER_POSTGRES" in os.environ
    else f"redis://127.0.0.1:{os.environ['PEER_REDIS']}/0"
)


def listen(beat: Onebeat) -> None:
    """Edit the schedule that each line of the input names: another title, the same trigger."""
    for number, line in enumerate(sys.stdin):
        beat.schedules.edit(line.strip(), title=f"edited {number}")


beat = Onebeat(URL, modules=("body",))
if sys.argv[1] == "setup":
    for name, period in SCHEDULES.items():
        beat.schedules.put(
            name,
            interval(seconds=period, anchor=EPOCH),
            call("body:said", name),
            overlap="allow",
            catch_up="all",
            catch_up_max=10_000,
        )
    beat.close()
else:
    threading.Thread(target=listen, args=(beat,), daemon=True).start()
    beat.serve(lease=timedelta(seconds=3))
