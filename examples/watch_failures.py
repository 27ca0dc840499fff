"""Be told what fails: each event at least once, in order, also those of a time when nobody listened."""

import os
from pathlib import Path

from onebeat import CurrentRun, Event, Onebeat, interval

beat = Onebeat(zone="UTC")
PAGER = Path(os.environ.get("PAGER_FILE", "pager.txt"))


@beat.scheduled(interval(seconds=2), tags=["billing"], attempts=2, backoff=0.1)
def send_invoices(run: CurrentRun) -> None:
    """Fail, twice, so that there is something to tell."""
    raise ConnectionError(f"the mail server refused attempt {run.attempt} of {run.id}")


@beat.on("run.failed", tag="billing")
def tell(event: Event) -> None:
    """Write to the pager."""
    with PAGER.open("a", encoding="utf-8") as pager:
        pager.write(f"{event.run_id} failed: {event.reason}\n")


if __name__ == "__main__":
    beat.serve()
