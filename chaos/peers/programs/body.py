"""What the body of a peer does: it leaves a line in a file of ours, outside of every store and broker.

A line is: schedule, real time, when its message was sent if it came by one (else "-"), process. What there is
to schedule comes in the environment.
"""

import os
import time

SCHEDULES = {
    name: int(period) for name, period in (each.split("=") for each in os.environ["PEER_SCHEDULES"].split())
}
"""The period of each schedule, in seconds."""


def said(schedule: str, sent: str = "-") -> None:
    """Leave a line. One call writes it, so that those of several processes never mix."""
    line = f"{schedule} {time.time():.6f} {sent} {os.getpid()}\n"
    out = os.open(os.environ["PEER_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(out, line.encode())
    finally:
        os.close(out)
