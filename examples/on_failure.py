"""On failure: have another schedule run at once, and say why; asked for twice, it runs once."""

from onebeat import CurrentRun, Event, Onebeat, interval, on_request

beat = Onebeat(zone="UTC")


@beat.scheduled(interval(seconds=2), tags=["import"])
def import_prices(run: CurrentRun) -> None:
    """Fail, so that there is something to repair."""
    raise ValueError(f"no price in line 17 of {run.occurrence:%Y-%m-%d}")


@beat.scheduled(on_request(), overlap="queue_all")
def repair_prices(run: CurrentRun) -> str:
    """Repair what was imported."""
    return f"repaired, asked for as {run.id}"


@beat.on("run.failed", "run.timed_out", tag="import")
def repair(event: Event) -> None:
    """Ask for the repair. The key makes it one run, however often this handler hears of the event."""
    beat.runs.request("repair-prices", key=f"event-{event.id}", reason=f"{event.run_id}: {event.reason}")


if __name__ == "__main__":
    beat.serve()
